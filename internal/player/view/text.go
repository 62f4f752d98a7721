package view

import (
	"fmt"
	"strings"
	"time"

	"htlcdash/lightning"
)

// A tone is how a text looks: parameters of SGR (ECMA-48, 8.3.117).
type tone string

const (
	plain  tone = ""
	bold   tone = "1"
	faint  tone = "2"
	good   tone = "32" // green
	notice tone = "33" // yellow
	bad    tone = "31" // red
	blue   tone = "36" // cyan, which is easier to read than blue
	picked tone = "1;7"
)

// A line is texts in a row. Each character of ours is one column wide; what
// others wrote comes last.
type line []span

type span struct {
	tone tone
	text string
}

func (l line) add(t tone, text string) line { return append(l, span{t, text}) }

func (l line) width() (n int) {
	for _, s := range l {
		n += len([]rune(s.text))
	}
	return n
}

// fill adds blanks up to a column.
func (l line) fill(column int) line {
	return l.add(plain, strings.Repeat(" ", max(0, column-l.width())))
}

// cut leaves what fits into a width.
func (l line) cut(width int) (out line) {
	for _, s := range l {
		r := []rune(s.text)
		r = r[:min(len(r), width)]
		width -= len(r)
		out = out.add(s.tone, string(r))
	}
	return out
}

// text is the line as a terminal takes it.
func (l line) text(tones bool) string {
	var b strings.Builder
	for _, s := range l {
		if tones && s.tone != plain && s.text != "" {
			b.WriteString("\x1b[" + string(s.tone) + "m" + s.text + "\x1b[0m")
		} else {
			b.WriteString(s.text)
		}
	}
	if tones {
		return b.String()
	}
	return strings.TrimRight(b.String(), " ")
}

// bar is a bar of a width, of parts that are shares of the whole.
func bar(width int, parts ...part) (l line) {
	used, share := 0, 0.0
	for _, p := range parts {
		share = min(1, share+max(0, p.share))
		n := int(share*float64(width)+0.5) - used
		l = l.add(p.tone, strings.Repeat(p.glyph, n))
		used += n
	}
	return l
}

type part struct {
	share float64
	glyph string
	tone  tone
}

const eighths = "▁▂▃▄▅▆▇█"

// spark draws the last values between two bounds, one a column.
func spark(values []float64, width int, low, high float64) string {
	values = values[max(0, len(values)-width):]
	glyphs := []rune(eighths)
	var b strings.Builder
	for _, v := range values {
		i := 0
		if high > low {
			i = int((v-low)/(high-low)*float64(len(glyphs)-1) + 0.5)
		}
		b.WriteRune(glyphs[min(max(i, 0), len(glyphs)-1)])
	}
	return b.String()
}

// clock writes a time as 1:02:03.
func clock(d time.Duration) string {
	s := int(d / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// short writes how long something took.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return clock(d)
}

// digits writes a number with as many digits as a look takes in.
func digits(v float64) string {
	if v >= 99.95 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// sats writes money with as many digits as a look takes in.
func sats(m lightning.Msat) string {
	switch s := float64(m) / 1000; {
	case m%1000 == 0:
		return fmt.Sprintf("%.0f", s)
	case s >= 1:
		return digits(s)
	default:
		return fmt.Sprintf("%.2f", s)
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
