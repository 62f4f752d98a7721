package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"htlcdash/agent"
	"htlcdash/internal/player"
	"htlcdash/lightning"
)

// label is the width of the column in which it says what a line is about.
const label = 10

// side is the width of the column in which it says what a bar shows.
func side(width int) int {
	if width < 60 {
		return 17
	}
	return 23
}

// row is a line about something: its name, a bar of the width that is left, and
// what the bar shows.
func row(width int, name string, bar func(width int) line, said string) line {
	room := max(4, width-label-side(width))
	l := append(line{}.add(bold, name).fill(label), bar(room)...)
	return l.fill(label+room).add(plain, "  "+said)
}

// frame is the picture for a terminal of that size. What there is no room for
// is left out: blank lines first, then from the end.
func (b *board) frame(width, height int) []line {
	width = max(width-1, 20) // erasing behind the last column would erase what is in it
	lines := slices.Concat(
		b.head(width), []line{nil},
		b.lanes(width), []line{nil},
		b.curves(width), []line{nil},
		after(b.money(width)),
		b.times(width), []line{nil},
		b.happened(),
	)
	if len(lines) > height {
		lines = slices.DeleteFunc(lines, func(l line) bool { return len(l) == 0 })
	}
	lines = lines[:min(len(lines), max(height, 1))]
	for i := range lines {
		lines[i] = lines[i].cut(width)
	}
	return lines
}

// after puts a blank line behind lines, if there are some.
func after(lines []line) []line {
	if len(lines) == 0 {
		return nil
	}
	return append(lines, nil)
}

// head is what is played, and where it is.
func (b *board) head(width int) []line {
	left := line{}.add(b.state())
	left = left.fill(label)
	at, length := clock(b.now.Position), clock(b.now.Length)
	left = left.add(bold, at+" ")
	ahead := time.Duration(0)
	if len(b.now.Buffers) > 0 {
		ahead = slices.Min(b.now.Buffers)
	}
	share := func(d time.Duration) float64 { return float64(d) / float64(max(b.now.Length, 1)) }
	track := bar(max(4, width-left.width()-len(length)-1),
		part{share(b.now.Position), "━", blue}, part{share(ahead), "═", plain}, part{1, "─", faint})
	return []line{
		line{}.add(bold, b.Name),
		append(append(left, track...), span{bold, " " + length}),
	}
}

// state says in a word what goes on.
func (b *board) state() (tone, string) {
	switch {
	case b.now.What == player.End:
		return bold, "ended"
	case b.now.Moving:
		return good, "plays"
	case b.start > 0:
		return bad, "waits"
	}
	return notice, "starts"
}

// lanes are the buffers and the rungs of each track.
func (b *board) lanes(width int) (out []line) {
	for k, l := range b.tracks {
		have := time.Duration(0)
		if k < len(b.now.Buffers) {
			have = b.now.Buffers[k]
		}
		t := good
		switch share := float64(have) / float64(b.Most); {
		case share < 0.1:
			t = bad
		case share < 0.3:
			t = notice
		}
		first := row(width, heading(l.kind), func(n int) line {
			return bar(n, part{float64(have) / float64(b.Most), "█", t}, part{1, "░", faint})
		}, fmt.Sprintf("%.1f of %.0f s", have.Seconds(), b.Most.Seconds()))
		out = append(out, first, l.ladder(width))
	}
	return out
}

// ladder names the rungs of a track and marks the one that it is on.
func (l *lane) ladder(width int) line {
	out := line{}.fill(label)
	for i, name := range l.labels {
		if i == l.rung {
			out = out.add(picked, "["+name+"]")
		} else {
			out = out.add(faint, " "+name+" ")
		}
	}
	if out.width() <= width || l.rung < 0 {
		return out
	}
	return line{}.fill(label).add(picked, "["+l.label(l.rung)+"]").add(faint, fmt.Sprintf(" %d of %d", l.rung+1, len(l.labels)))
}

// curves are quality and throughput over time.
func (b *board) curves(width int) []line {
	curve := func(name string, t tone, values []float64, low, high float64, unit string) line {
		said := "-"
		if n := len(values); n > 0 {
			said = digits(values[n-1]) + " " + unit
			if width >= 60 {
				said += ", mean " + digits(mean(values))
			}
		}
		return row(width, name, func(n int) line { return line{}.add(t, spark(values, n, low, high)) }, said)
	}
	return []line{
		curve("quality", blue, b.quality, b.lowest, b.highest, "dB"),
		curve("network", good, b.rates, 0, slices.Max(append(b.rates[:len(b.rates):len(b.rates)], 0)), "Mbit/s"),
	}
}

// money is what was spent, and what will be; nothing for what is free.
func (b *board) money(width int) []line {
	same, least := b.rest()
	if b.now.Left == agent.NoLimit && b.now.Spent+same+least == 0 {
		return nil
	}
	var first line
	if b.now.Left == agent.NoLimit || !b.began {
		first = line{}.add(bold, "money").fill(label).add(plain, sats(b.now.Spent)+" sat spent, no limit")
	} else {
		budget := b.now.Spent + b.now.Left
		share := func(m lightning.Msat) float64 { return float64(m) / float64(max(budget, 1)) }
		t := notice
		if least > b.now.Left {
			t = bad
		}
		first = row(width, "money", func(n int) line {
			return bar(n, part{share(b.now.Spent), "█", t}, part{share(min(same, b.now.Left)), "▒", t}, part{1, "░", faint})
		}, fmt.Sprintf("%s of %s sat", sats(b.now.Spent), sats(budget)))
	}
	second := line{}.fill(label)
	switch {
	case same == 0 && least == 0:
		second = second.add(faint, "all is paid for")
	case width < 60:
		second = second.add(faint, fmt.Sprintf("to the end %s, at least %s", sats(same), sats(least)))
	default:
		second = second.add(faint, fmt.Sprintf("to the end %s at this quality, %s at the least", sats(same), sats(least)))
	}
	if b.now.Fees > 0 && width >= 80 {
		second = second.add(faint, fmt.Sprintf("; routes took %s", sats(b.now.Fees)))
	}
	return []line{first, second}
}

// times are how long things take, and what went wrong, in as many lines as the
// width makes of them.
func (b *board) times(width int) (out []line) {
	said := []span{{plain, "bytes " + short(median(b.took))}}
	if len(b.pay) > 0 {
		said = append(said, span{plain, "keys " + short(median(b.pay))})
	}
	if b.start > 0 {
		said = append(said, span{plain, "start " + short(b.start)})
	}
	said = append(said, span{plain, plural(b.switches, "switch", "switches")})
	if b.now.Stalls > 0 {
		said = append(said, span{bad, plural(b.now.Stalls, "stall", "stalls") + ", " + short(b.now.Stalled)})
	} else {
		said = append(said, span{good, "no stall"})
	}
	if b.abandoned > 0 {
		said = append(said, span{notice, fmt.Sprintf("%d given up", b.abandoned)})
	}
	if b.retries > 0 {
		said = append(said, span{notice, fmt.Sprintf("%d tried again", b.retries)})
	}
	now := line{}.add(bold, "times").fill(label)
	for _, s := range said {
		if n := len(s.text); now.width() > label && now.width()+3+n > width {
			out = append(out, now)
			now = line{}.fill(label)
		}
		if now.width() > label {
			now = now.add(faint, " · ")
		}
		now = append(now, s)
	}
	return append(out, now)
}

// happened is what happened of late, the latest first.
func (b *board) happened() (out []line) {
	for _, n := range slices.Backward(b.notes) {
		at := clock(n.at)
		out = append(out, line{}.add(faint, strings.Repeat(" ", max(0, label-2-len(at)))+at+"  ").add(n.tone, n.text))
	}
	return out
}
