package view

import (
	"io"
	"strings"
)

// Live is Open on a terminal of that size.
func Live(w io.Writer, c Config, tone bool, size func() (int, int)) *View {
	v := newView(w, c)
	v.live(tone, size)
	return v
}

// Still is a View that does not draw.
func Still(c Config) *View { return newView(io.Discard, c) }

// Frame is what a terminal of that size would show, without colours.
func (v *View) Frame(width, height int) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	for _, l := range v.board.frame(width, height) {
		b.WriteString(l.text(false) + "\n")
	}
	return b.String()
}
