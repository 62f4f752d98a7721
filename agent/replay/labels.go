package replay

import (
	"cmp"
	"math"
	"slices"
	"time"

	"htlcdash/agent"
)

// A label is a way up to the end of a turn.
type label struct {
	here   time.Duration // the last byte
	waited time.Duration // that is paid for in value
	played time.Duration // waited, as it holds the film back; less than waited only in labels that were joined
	since  time.Duration // the place in the film where played last grew
	came   float64       // bits of the link up to here
	value  float64       // money and waiting paid for
	hope   float64       // the most that it can lead to
	keys   uint64        // in hand, that open the next segment of their track too
	rungs  places        // of the segments before
	before int32         // its place among the labels of the turn before
}

// places are rungs by track.
type places [agent.MaxTracks]uint8

// free is when a turn may begin.
func (c *course) free(n int, l *label) time.Duration {
	st := &c.tracks[c.turns[n].track].stages[c.turns[n].index]
	// A film that has moved on since it last stood still has been held back by
	// all the waiting.
	room := l.played + st.room
	if st.room <= l.since {
		// What must have been played came before that. It was over when the
		// key arrived that ended the stillness, which is soon if not now.
		room -= c.pay
	}
	return max(l.here, room)
}

// next is a label after a turn, whose segment is asked for at a position.
func (c *course) next(n int, l *label, p position, r int) label {
	k, i := c.turns[n].track, c.turns[n].index
	t := c.tracks[k]
	st := &t.stages[i]
	g := &st.rungs[r]
	out := *l
	out.here = c.link.arrival(p, g.size)
	out.came = c.link.until(p) + float64(g.size)*8
	out.value += g.gain
	late := out.here + c.pay - st.place
	if late > out.played {
		out.played, out.since = late, st.place
	}
	if late > out.waited {
		out.value -= c.stall * (late - out.waited).Seconds()
		out.waited = late
	}
	if i > 0 {
		out.value -= g.changes[l.rungs[k]]
	}
	out.rungs[k] = uint8(r)
	if g.key == 0 || out.keys&g.key == 0 {
		out.value -= c.price * g.price
		out.keys |= g.key
	}
	keep := ^t.mask
	if i+1 < len(t.stages) {
		keep |= t.stages[i+1].keep
	}
	out.keys &= keep
	return out
}

// A foundWay is the best way at a price of money.
type foundWay struct {
	value float64
	rungs [][]int // by track
}

// pass goes through the title with labels. Those that cannot lead to more than
// least are dropped. If bound is set, labels within one cell of the grid are
// joined to one that is as good as each of them, and the value is not exceeded
// by any way but those that are not worth more than least. Else one of them is
// kept, and the way can really be gone.
func (c *course) pass(grid, wide time.Duration, bound bool, least float64) foundWay {
	steps := make([][]step, len(c.turns))
	from, next := []label{{}}, []label(nil)
	s := sweep{course: c, grid: grid, wide: wide, bound: bound, lag: int(min((c.pay+wide-1)/wide, maxCells))}
	for n, t := range c.turns {
		asks := c.asks(n, from)
		s.start(n, from)
		next = next[:0]
		for r := range c.tracks[t.track].stages[t.index].rungs {
			s.begin()
			for _, a := range asks {
				l := c.next(n, &from[a.before], a.position, r)
				l.before = int32(a.before)
				if l.hope = c.hope(n, &l); l.hope > least {
					s.add(&l)
				}
			}
			next = append(next, s.kept...)
		}
		if len(next) == 0 {
			return foundWay{value: math.Inf(-1)}
		}
		if !bound && len(next) > beam {
			slices.SortFunc(next, func(a, b label) int { return cmp.Compare(b.hope, a.hope) })
			next = next[:beam]
		}
		steps[n] = make([]step, len(next))
		for k := range next {
			steps[n][k] = step{next[k].before, next[k].rungs[t.track]}
		}
		from, next = next, from
	}
	return c.best(from, steps)
}

// beam bounds the labels of a turn where no bound is wanted: the most hopeful
// ones are kept.
const beam = 1000

// A step leads back from a label.
type step struct {
	before int32
	rung   uint8
}

// best goes back from the best label.
func (c *course) best(last []label, steps [][]step) foundWay {
	at := 0
	for k := range last {
		if last[k].value > last[at].value {
			at = k
		}
	}
	found := foundWay{last[at].value, make([][]int, len(c.tracks))}
	for n, t := range slices.Backward(c.turns) {
		s := steps[n][at]
		found.rungs[t.track] = append(found.rungs[t.track], int(s.rung))
		at = int(s.before)
	}
	for _, rungs := range found.rungs {
		slices.Reverse(rungs)
	}
	return found
}

// An ask is when a label asks for the next segment.
type ask struct {
	position
	before int
}

// asks are in the order of time.
func (c *course) asks(n int, from []label) []ask {
	out := make([]ask, len(from))
	for k := range from {
		_, first := c.link.soonest(c.free(n, &from[k]))
		out[k] = ask{c.link.position(first), k}
	}
	slices.SortFunc(out, func(a, b ask) int { return cmp.Compare(a.at, b.at) })
	return out
}

// A sweep takes labels of one turn and rung, in the order of time, and keeps
// those that no other makes needless.
type sweep struct {
	course *course
	grid   time.Duration // of time
	wide   time.Duration // of waiting
	lag    int           // stretches that keys may be late
	bound  bool

	turn  int
	base  time.Duration // number of the first stretch
	kept  []label
	front []front
}

// A front is what was kept of labels with the same keys and rungs, by waiting.
type front struct {
	keys  uint64
	rungs places
	cells []cell
}

// A cell is for a stretch of waiting.
type cell struct {
	last  int     // place in kept of the last one; -1 if there is none
	gross float64 // the most value of this cell and those before it, waiting not taken off
}

// maxCells bounds the stretches of waiting; the last one has no end.
const maxCells = 1 << 12

// start is called for each turn. No label comes that has waited less than those
// of the turn before.
func (s *sweep) start(n int, from []label) {
	s.turn = n
	s.base = math.MaxInt64
	for k := range from {
		s.base = min(s.base, from[k].waited/s.wide)
	}
}

// begin forgets all labels, for the next rung.
func (s *sweep) begin() { s.kept, s.front = s.kept[:0], s.front[:0] }

// gross is the value of a label, waiting not taken off.
func (c *course) gross(l *label) float64 { return l.value + c.stall*l.waited.Seconds() }

// add keeps a label if there is a reason to.
func (s *sweep) add(l *label) {
	c := int(min(l.waited/s.wide-s.base, maxCells-1))
	f := s.of(l)
	if s.needless(f, c, l) {
		return
	}
	f.grow(c)
	if at := f.cells[c].last; at >= 0 && s.join(&s.kept[at], l) {
		f.raise(c, s.course.gross(&s.kept[at]))
		return
	}
	f.cells[c].last = len(s.kept)
	f.raise(c, s.course.gross(l))
	s.kept = append(s.kept, *l)
}

// needless tells whether a label that was kept, came no later and has waited no
// more is worth as much, even if it had to become like this one.
func (s *sweep) needless(f *front, c int, l *label) bool {
	gross := s.course.gross(l)
	for k := range s.front {
		o := &s.front[k]
		apart := 0.0
		if o != f {
			apart = s.course.apart(s.turn, o, f)
		}
		if o.gross(c-1-s.lag)-apart >= gross {
			return true
		}
		if o == f || c >= len(o.cells) || o.cells[c].last < 0 {
			continue
		}
		x := &s.kept[o.cells[c].last]
		if x.played <= l.played && (s.course.pay == 0 || x.since >= l.since) && x.value-apart >= l.value && s.course.gross(x)-apart >= gross {
			return true
		}
	}
	return false
}

// join makes one of two labels of a cell where that can be: the first came no
// later.
func (s *sweep) join(x, l *label) bool {
	better := l.value > x.value
	if better && x.here/s.grid != l.here/s.grid {
		return false
	}
	if !s.bound {
		if better {
			*x = *l
		}
		return true
	}
	if better {
		x.value, x.before = l.value, l.before
	}
	if better || s.course.gross(l) > s.course.gross(x) {
		x.waited = max(x.waited, l.waited)
	}
	x.played, x.since = min(x.played, l.played), max(x.since, l.since)
	return true
}

// of is the front of a label.
func (s *sweep) of(l *label) *front {
	for k := range s.front {
		if f := &s.front[k]; f.keys == l.keys && f.rungs == l.rungs {
			return f
		}
	}
	if len(s.front) < cap(s.front) { // to use its memory again
		s.front = s.front[:len(s.front)+1]
	} else {
		s.front = append(s.front, front{})
	}
	f := &s.front[len(s.front)-1]
	f.keys, f.rungs, f.cells = l.keys, l.rungs, f.cells[:0]
	return f
}

func (f *front) grow(c int) {
	for len(f.cells) <= c {
		f.cells = append(f.cells, cell{-1, f.gross(len(f.cells) - 1)})
	}
}

// gross is the most of a cell and those before it.
func (f *front) gross(c int) float64 {
	if c = min(c, len(f.cells)-1); c < 0 {
		return math.Inf(-1)
	}
	return f.cells[c].gross
}

func (f *front) raise(c int, gross float64) {
	for ; c < len(f.cells) && f.cells[c].gross < gross; c++ {
		f.cells[c].gross = gross
	}
}
