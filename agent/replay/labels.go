package replay

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"
)

// A label is a way up to the end of a segment.
type label struct {
	here   time.Duration // the last byte
	waited time.Duration // that is paid for in value
	played time.Duration // waited, as it holds the film back; less than waited only in labels that were joined
	since  time.Duration // the place in the film where played last grew
	came   float64       // bits of the link up to here
	value  float64       // money and waiting paid for
	hope   float64       // the most that it can lead to
	keys   uint64        // rungs whose key is in hand and opens the next segment too
	rung   int32
	before int32 // its place among the labels of the segment before
}

// A foundWay is the best way at a price of money.
type foundWay struct {
	value float64
	rungs []int
}

// free is when the next segment may be asked for.
func (t *track) free(i int, l label) time.Duration {
	if i == 0 {
		return 0
	}
	// A film that has moved on since it last stood still has been held back by
	// all the waiting.
	room := l.played + t.stages[i].room
	if t.stages[i].room <= l.since {
		// What must have been played came before that. It was over when the
		// key arrived that ended the stillness, which is soon if not now.
		room -= t.pay
	}
	return max(l.here, room)
}

// next is a label after one more segment, which is asked for at a position.
func (t *track) next(i int, l label, p position, r int) label {
	st := &t.stages[i]
	c := &st.rungs[r]
	n := label{here: t.link.arrival(p, c.size), came: t.link.until(p) + float64(c.size)*8, value: l.value + c.gain, keys: l.keys, rung: int32(r)}
	late := n.here + t.pay - st.place
	n.waited, n.played, n.since = max(l.waited, late), l.played, l.since
	if late > n.played {
		n.played, n.since = late, st.place
	}
	n.value -= t.stall * (n.waited - l.waited).Seconds()
	if i > 0 {
		n.value -= c.changes[l.rung]
	}
	if n.keys&(1<<r) == 0 {
		n.value -= t.price * c.price
		n.keys |= 1 << r
	}
	if i+1 == len(t.stages) {
		n.keys = 0
	} else {
		n.keys &= t.stages[i+1].keep
	}
	return n
}

// hope is the most that a way can be worth that goes on from a label: without a
// network or with the bits that are left of it, and without paying for what is
// in hand.
func (t *track) hope(i int, l label) float64 {
	v := l.value
	for keys := l.keys; keys != 0; keys &= keys - 1 {
		v += t.price * t.stages[i+1].rungs[bits.TrailingZeros64(keys)].refund
	}
	free := v + t.loose.value[i+1][l.rung]
	waited := l.waited.Seconds()
	if t.perBit == 0 || waited >= maxCarry {
		return free
	}
	tight := v + t.tight.value[i+1][l.rung] + t.carry[int(waited)] - t.perBit*l.came
	return min(free, max(tight, free-t.stall*(maxCarry-waited)))
}

// pass goes through the title with labels. Those that cannot lead to more than
// least are dropped. If bound is set, labels within one cell of the grid are
// joined to one that is as good as each of them, and the value is not exceeded
// by any way but those that are not worth more than least. Else one of them is
// kept, and the way can really be gone.
func (t *track) pass(grid, wide time.Duration, bound bool, least float64) foundWay {
	steps := make([][]step, len(t.stages))
	from, next := []label{{}}, []label(nil)
	var s sweep
	for i := range t.stages {
		asks := t.asks(i, from)
		s.start(t, grid, wide, bound, from)
		next = next[:0]
		for r := range t.stages[i].rungs {
			s.begin()
			for _, a := range asks {
				n := t.next(i, from[a.before], a.position, r)
				n.before = int32(a.before)
				if n.hope = t.hope(i, n); n.hope > least {
					s.add(t, i, n)
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
		steps[i] = make([]step, len(next))
		for k, l := range next {
			steps[i][k] = step{l.rung, l.before}
		}
		from, next = next, from
	}
	return best(from, steps)
}

// A step leads back from a label.
type step struct{ rung, before int32 }

// best goes back from the best label.
func best(last []label, steps [][]step) foundWay {
	most, at := math.Inf(-1), 0
	for k, l := range last {
		if l.value > most {
			most, at = l.value, k
		}
	}
	rungs := make([]int, len(steps))
	for i := len(steps) - 1; i >= 0; i-- {
		s := steps[i][at]
		rungs[i], at = int(s.rung), int(s.before)
	}
	return foundWay{most, rungs}
}

// beam bounds the labels of a segment where no bound is wanted: the most hopeful
// ones are kept.
const beam = 1000

// An ask is when a label asks for the next segment.
type ask struct {
	position
	before int
}

// asks are in the order of time.
func (t *track) asks(i int, from []label) []ask {
	out := make([]ask, len(from))
	for k, l := range from {
		_, first := t.link.soonest(t.free(i, l))
		out[k] = ask{t.link.position(first), k}
	}
	slices.SortFunc(out, func(a, b ask) int { return cmp.Compare(a.at, b.at) })
	return out
}

// A sweep takes labels of one segment and rung, in the order of time, and keeps
// those that no other makes needless.
type sweep struct {
	grid  time.Duration // of time
	wide  time.Duration // of waiting
	base  time.Duration // number of the first stretch
	lag   int           // stretches that keys may be late
	bound bool
	kept  []label
	front []front // by keys
}

// A front is what was kept of labels with the same keys, by waiting.
type front struct {
	keys  uint64
	cells []cell
}

// A cell is for a stretch of waiting.
type cell struct {
	last  int     // place in kept of the last one; -1 if there is none
	gross float64 // the most value of this cell and those before it, waiting not taken off
}

// maxCells bounds the stretches of waiting; the last one has no end.
const maxCells = 1 << 12

// start is called for each segment. No label comes that has waited less than
// those of the segment before.
func (s *sweep) start(t *track, grid, wide time.Duration, bound bool, from []label) {
	s.grid, s.wide, s.bound = grid, wide, bound
	s.lag = int(min((t.pay+wide-1)/wide, maxCells))
	s.base = math.MaxInt64
	for _, l := range from {
		s.base = min(s.base, l.waited/wide)
	}
}

// begin forgets all labels, for the next rung.
func (s *sweep) begin() { s.kept, s.front = s.kept[:0], s.front[:0] }

// add keeps a label if there is a reason to.
func (s *sweep) add(t *track, i int, l label) {
	c := int(min(l.waited/s.wide-s.base, maxCells-1))
	gross := l.value + t.stall*l.waited.Seconds()
	for k := range s.front {
		f := &s.front[k]
		missing := 0.0
		for keys := l.keys &^ f.keys; keys != 0; keys &= keys - 1 {
			missing += t.price * t.stages[i+1].rungs[bits.TrailingZeros64(keys)].dear
		}
		if f.gross(c-1-s.lag)-missing >= gross {
			return
		}
	}
	f := s.of(l.keys)
	f.grow(c)
	if at := f.cells[c].last; at >= 0 {
		o := &s.kept[at]
		switch {
		case l.value <= o.value:
			if s.bound {
				o.played, o.since = min(o.played, l.played), max(o.since, l.since)
				if gross > o.value+t.stall*o.waited.Seconds() {
					o.waited = max(o.waited, l.waited)
					f.raise(c, gross)
				}
			}
			return
		case l.here/s.grid != o.here/s.grid:
		case s.bound:
			o.value, o.before = l.value, l.before
			o.waited, o.played, o.since = max(o.waited, l.waited), min(o.played, l.played), max(o.since, l.since)
			f.raise(c, o.value+t.stall*o.waited.Seconds())
			return
		default:
			*o = l
			f.raise(c, gross)
			return
		}
	}
	f.cells[c].last = len(s.kept)
	f.raise(c, gross)
	s.kept = append(s.kept, l)
}

// of is the front of labels with keys.
func (s *sweep) of(keys uint64) *front {
	for k := range s.front {
		if s.front[k].keys == keys {
			return &s.front[k]
		}
	}
	if len(s.front) < cap(s.front) { // to use its memory again
		s.front = s.front[:len(s.front)+1]
		f := &s.front[len(s.front)-1]
		f.keys, f.cells = keys, f.cells[:0]
		return f
	}
	s.front = append(s.front, front{keys: keys})
	return &s.front[len(s.front)-1]
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
