package replay

import (
	"math"
	"math/bits"
	"time"

	"htlcdash/agent"
)

// A course is a title as it is gone through at a price of money. The player
// fetches for the track that has the least, so which segment comes after which
// does not depend on what is decided: the title is one list of turns.
type course struct {
	link    *Link
	pay     time.Duration
	stall   float64 // weight of a second
	patient bool    // to wait may bring bytes sooner
	tracks  []*track
	turns   []turn
	keys    []owner // by bit of a label's keys

	price float64 // of a millisatoshi

	// A price of bits makes a second bound of what the rest is worth: a bit
	// that is not there cannot be used, but may be spread over the film at will.
	perBit  float64
	carried []float64 // bits until the last segment is due, by whole seconds of waiting
	carry   []float64 // by seconds waited so far: the most for these bits, further waiting paid for
}

// A turn is one segment's.
type turn struct {
	track, index int
	next         []int // by track: index of the segment after this turn
}

// An owner of a key is the rung that it opens.
type owner struct{ track, rung int }

// A track is a list of stages.
type track struct {
	stages []stage
	mask   uint64 // its bits of keys
	loose  rest   // without a network
	tight  rest   // with a price of bits
}

// A rest says what the rest of a track is worth at most, at a price.
type rest struct {
	value  [][]float64 // by segment and rung before
	choice [][]int
}

// A stage is a segment.
type stage struct {
	place time.Duration // in the film
	room  time.Duration // of the film must have been played before this is asked for; negative: nothing
	keep  uint64        // keys that open the segment before, too
	rungs []choice
	apart [][]float64 // by two of its rungs: the weighted change between them
}

// A choice is a rung of a segment.
type choice struct {
	size    int64
	gain    float64   // weighted quality
	price   float64   // of the key
	dear    float64   // the same, if bought where its group costs most
	share   float64   // of the price, for one segment of the group
	refund  float64   // shares of this segment and those after it, of a group that began before
	key     uint64    // its bit; 0 if it needs none
	changes []float64 // by rung before: the weighted change
}

func newCourse(t *agent.Title, s Setup) *course {
	c := &course{link: s.Link, pay: s.Pay, stall: s.Weights.Stall}
	for _, p := range s.Link.steps {
		c.patient = c.patient || p.Latency != s.Link.steps[0].Latency
	}
	for k := range t.Tracks {
		c.tracks = append(c.tracks, newTrack(&t.Tracks[k], s))
		c.group(&t.Tracks[k], k)
	}
	c.order(t)
	return c
}

// order finds whose turn it is when, as run.due does.
func (c *course) order(t *agent.Title) {
	next, have := make([]int, len(t.Tracks)), make([]time.Duration, len(t.Tracks))
	for {
		k := -1
		for j := range t.Tracks {
			if next[j] < len(t.Tracks[j].Segments) && (k < 0 || have[j] < have[k]) {
				k = j
			}
		}
		if k < 0 {
			return
		}
		have[k] += t.Tracks[k].Segments[next[k]].Duration
		next[k]++
		c.turns = append(c.turns, turn{k, next[k] - 1, append([]int(nil), next...)})
	}
}

func newTrack(t *agent.Track, s Setup) *track {
	out := new(track)
	weight, place := s.Weights.Of(t.Kind), time.Duration(0)
	apart := func(a, b agent.Segment) (table [][]float64) {
		for _, x := range a.Rungs {
			var row []float64
			for _, y := range b.Rungs {
				row = append(row, weight*s.Weights.Switch*math.Abs(x.Quality-y.Quality))
			}
			table = append(table, row)
		}
		return table
	}
	for i, seg := range t.Segments {
		st := stage{place: place, room: place + seg.Duration - max(s.Most, seg.Duration), apart: apart(seg, seg)}
		place += seg.Duration
		changes := make([][]float64, len(seg.Rungs))
		if i > 0 {
			changes = apart(seg, t.Segments[i-1])
		}
		for r, g := range seg.Rungs {
			st.rungs = append(st.rungs, choice{size: g.Size, gain: weight * g.Quality, price: float64(g.Price), changes: changes[r]})
		}
		out.stages = append(out.stages, st)
	}
	return out
}

// together tells whether one key opens a rung of a segment and of the next one.
func together(t *agent.Track, i, r int) bool {
	return i+1 < len(t.Segments) && r < len(t.Segments[i].Rungs) && r < len(t.Segments[i+1].Rungs) &&
		t.Segments[i].Rungs[r].First == t.Segments[i+1].Rungs[r].First
}

// group sets what keys of several segments mean. There are bits for so many of
// them; the rest are paid for by use.
func (c *course) group(of *agent.Track, k int) {
	t := c.tracks[k]
	bit := map[int]uint64{} // by rung
	for i := range t.stages {
		for r := range t.stages[i].rungs {
			if i > 0 && together(of, i-1, r) {
				continue
			}
			end, least, most := i, math.Inf(1), 0.0
			for {
				least, most = min(least, t.stages[end].rungs[r].price), max(most, t.stages[end].rungs[r].price)
				end++
				if !together(of, end-1, r) {
					break
				}
			}
			if end > i+1 && bit[r] == 0 && len(c.keys) < 64 {
				bit[r] = 1 << len(c.keys)
				t.mask |= bit[r]
				c.keys = append(c.keys, owner{k, r})
			}
			c.share(t.stages[i:end], r, bit[r], least/float64(end-i), most)
		}
	}
}

// share spreads a key's price over the stages that it opens.
func (c *course) share(stages []stage, r int, bit uint64, share, dear float64) {
	for n := range stages {
		g := &stages[n].rungs[r]
		g.share, g.dear, g.key = share, dear, bit
		if bit == 0 {
			g.price = share
		}
		if n > 0 && bit != 0 {
			g.refund = share * float64(len(stages)-n)
			stages[n].keep |= bit
		}
	}
}

// setPrice sets the price of money, and works out what the rest is worth from
// each segment on.
func (c *course) setPrice(price float64) {
	c.price = price
	for _, t := range c.tracks {
		t.fill(&t.loose, price, 0)
	}
}

// fill works out a rest by dynamic programming, at prices of money and bits.
func (t *track) fill(of *rest, price, perBit float64) {
	n := len(t.stages)
	if of.value == nil {
		of.value, of.choice = make([][]float64, n+1), make([][]int, n)
		of.value[n] = make([]float64, len(t.stages[n-1].rungs))
		for i := range n {
			before := 1
			if i > 0 {
				before = len(t.stages[i-1].rungs)
			}
			of.value[i], of.choice[i] = make([]float64, before), make([]int, before)
		}
	}
	for i := n - 1; i >= 0; i-- {
		for last := range of.value[i] {
			most, at := math.Inf(-1), 0
			for r := range t.stages[i].rungs {
				g := &t.stages[i].rungs[r]
				v := g.gain - price*g.share - perBit*float64(g.size)*8 + of.value[i+1][r]
				if i > 0 {
					v -= g.changes[last]
				}
				if v > most {
					most, at = v, r
				}
			}
			of.value[i][last], of.choice[i][last] = most, at
		}
	}
}

// sum adds something up over the best way through a rest.
func (t *track) sum(of *rest, what func(*choice) float64) (sum float64) {
	last := 0
	for i := range t.stages {
		last = of.choice[i][last]
		sum += what(&t.stages[i].rungs[last])
	}
	return sum
}

// looseSpent is what the best way without a network pays, by shares.
func (c *course) looseSpent() (sum float64) {
	for _, t := range c.tracks {
		sum += t.sum(&t.loose, func(g *choice) float64 { return g.share })
	}
	return sum
}

// maxCarry is how much waiting the price of bits reckons with, in seconds.
const maxCarry = 1024

// setPerBit sets the price of bits for the least bound of the whole.
func (c *course) setPerBit() {
	if c.carried == nil {
		due := time.Duration(0)
		for _, t := range c.tracks {
			due = max(due, t.stages[len(t.stages)-1].place)
		}
		for k := range maxCarry + 2 {
			end := c.link.position(max(0, due-c.pay+time.Duration(k)*time.Second))
			c.carried = append(c.carried, c.link.until(end))
		}
		c.carry = make([]float64, maxCarry)
	}
	low, high := 0.0, 1e-9
	for c.scarce(high) && high < 1 {
		low, high = high, high*4
	}
	for range 20 {
		if mid := (low + high) / 2; c.scarce(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	c.perBit = high
	c.fillTight(high)
	most := math.Inf(-1)
	for k := maxCarry - 1; k >= 0; k-- { // the next second may begin at once
		most = max(most-c.stall, high*c.carried[k+2])
		c.carry[k] = most
	}
}

func (c *course) fillTight(perBit float64) {
	for _, t := range c.tracks {
		t.fill(&t.tight, c.price, perBit)
	}
}

// scarce tells whether, at a price of bits, more are used than there are.
func (c *course) scarce(perBit float64) bool {
	c.fillTight(perBit)
	most, there := math.Inf(-1), 0.0
	for k, b := range c.carried {
		if v := perBit*b - c.stall*float64(k); v > most {
			most, there = v, b
		}
	}
	used := 0.0
	for _, t := range c.tracks {
		used += t.sum(&t.tight, func(g *choice) float64 { return float64(g.size) * 8 })
	}
	return used > there
}

// spent is what a way pays.
func (c *course) spent(rungs [][]int) (sum float64) {
	for k, t := range c.tracks {
		keys := uint64(0)
		for i, r := range rungs[k] {
			g := &t.stages[i].rungs[r]
			keys &= t.stages[i].keep
			if g.key == 0 || keys&g.key == 0 {
				sum += g.price
			}
			keys |= g.key
		}
	}
	return sum
}

// hope is the most that a way can be worth that goes on from a label: without a
// network or with the bits that are left of it, and without paying for what is
// in hand.
func (c *course) hope(n int, l *label) float64 {
	next := c.turns[n].next
	v := l.value
	for keys := l.keys; keys != 0; keys &= keys - 1 {
		of := c.keys[bits.TrailingZeros64(keys)]
		v += c.price * c.tracks[of.track].stages[next[of.track]].rungs[of.rung].refund
	}
	loose, tight := v, v-c.perBit*l.came
	for k, t := range c.tracks {
		loose += t.loose.value[next[k]][l.rungs[k]]
		tight += t.tight.value[next[k]][l.rungs[k]]
	}
	waited := l.waited.Seconds()
	if waited >= maxCarry {
		return loose
	}
	return min(loose, max(tight+c.carry[int(waited)], loose-c.stall*(maxCarry-waited)))
}

// apart is how much value two labels of a turn can differ by at most in what
// follows, for their rungs and for keys that the first lacks.
func (c *course) apart(n int, a, b *front) (sum float64) {
	next := c.turns[n].next
	for keys := b.keys &^ a.keys; keys != 0; keys &= keys - 1 {
		of := c.keys[bits.TrailingZeros64(keys)]
		sum += c.price * c.tracks[of.track].stages[next[of.track]].rungs[of.rung].dear
	}
	for k, t := range c.tracks {
		if i := next[k]; a.rungs[k] != b.rungs[k] && i > 0 && i < len(t.stages) {
			sum += t.stages[i-1].apart[a.rungs[k]][b.rungs[k]]
		}
	}
	return sum
}

// waits is how long a way should wait before each segment, for the first byte
// to be here first; nil: nowhere.
func (c *course) waits(rungs [][]int) [][]time.Duration {
	if !c.patient {
		return nil
	}
	waits := make([][]time.Duration, len(c.tracks))
	at := new(label)
	for n, t := range c.turns {
		free := c.free(n, at)
		ask, first := c.link.soonest(free)
		waits[t.track] = append(waits[t.track], ask-free)
		l := c.next(n, at, c.link.position(first), rungs[t.track][t.index])
		at = &l
	}
	return waits
}
