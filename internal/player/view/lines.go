package view

import (
	"fmt"
	"strings"
	"time"

	"htlcdash/internal/player"
)

// every is how far the picture moves from one line about how things stand to the
// next, where there is no terminal.
const every = 10 * time.Second

// say writes a line for an event that is worth one.
func (v *View) say(e player.Event, before int) {
	b := v.board
	switch e.What {
	case player.Start:
		v.tell("the picture starts after %s", short(e.At))
	case player.Stall, player.Resume, player.Abandoned, player.Retry:
		v.tell("%s", b.notes[len(b.notes)-1].text)
	case player.End:
		v.tell("%s", b.standing())
		if e.Why != "" {
			v.tell("ended: %s", clean(e.Why))
		}
	default:
		if e.Position-v.said >= every && b.start > 0 {
			v.said = e.Position
			v.tell("%s", b.standing())
		}
	}
}

func (v *View) tell(format string, args ...any) {
	fmt.Fprintf(v.out, "%s  %s\n", clock(v.board.now.Position), fmt.Sprintf(format, args...))
}

// standing is how things stand, in a line.
func (b *board) standing() string {
	var said []string
	for k, l := range b.tracks {
		if k < len(b.now.Buffers) {
			said = append(said, fmt.Sprintf("%s %s, %.1f s in hand", heading(l.kind), l.label(l.rung), b.now.Buffers[k].Seconds()))
		}
	}
	if n := len(b.quality); n > 0 {
		said = append(said, fmt.Sprintf("%.1f dB", b.quality[n-1]))
	}
	said = append(said, rate(b.now.Rate), sats(b.now.Spent)+" sat")
	return strings.Join(said, ", ")
}
