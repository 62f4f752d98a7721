package replay

import (
	"math"
	"time"

	"htlcdash/agent"
)

// A track is one that is bought at a price of money.
type track struct {
	link    *Link
	most    time.Duration
	pay     time.Duration
	stall   float64 // weight of a second
	patient bool    // to wait may bring bytes sooner
	price   float64
	stages  []stage

	loose rest // without a network
	// A price of bits makes a second bound of what the rest is worth: a bit
	// that is not there cannot be used, but may be spread over the film at will.
	tight   rest
	perBit  float64
	carried []float64 // bits until the last segment is due, by whole seconds of waiting
	carry   []float64 // by seconds waited so far: the most for these bits, further waiting paid for
}

// A rest says what the rest of a film is worth at most, at a price.
type rest struct {
	value  [][]float64 // by segment and rung before
	choice [][]int
}

// A stage is a segment.
type stage struct {
	place time.Duration // in the film
	room  time.Duration // of the film must have been played before this is asked for; negative: nothing
	keep  uint64        // rungs whose key opens the segment before, too
	rungs []choice
}

// A choice is a rung of a segment.
type choice struct {
	size    int64
	gain    float64   // weighted quality
	price   float64   // of the key
	dear    float64   // the same, if bought where its group costs most
	share   float64   // of the price, for one segment of the group
	refund  float64   // shares of this segment and those after it, of a group that began before
	changes []float64 // by rung before: the weighted change
}

func newTrack(t *agent.Track, s Setup) *track {
	out := &track{link: s.Link, most: s.Most, pay: s.Pay, stall: s.Weights.Stall}
	for _, p := range s.Link.steps {
		out.patient = out.patient || p.Latency != s.Link.steps[0].Latency
	}
	weight, place := s.Weights.Of(t.Kind), time.Duration(0)
	for i, seg := range t.Segments {
		st := stage{place: place, room: place + seg.Duration - max(s.Most, seg.Duration)}
		place += seg.Duration
		for r, g := range seg.Rungs {
			c := choice{size: g.Size, gain: weight * g.Quality, price: float64(g.Price)}
			if i > 0 {
				for _, before := range t.Segments[i-1].Rungs {
					c.changes = append(c.changes, weight*s.Weights.Switch*math.Abs(g.Quality-before.Quality))
				}
				if together(t, i-1, r) {
					st.keep |= 1 << r
				}
			}
			st.rungs = append(st.rungs, c)
		}
		out.stages = append(out.stages, st)
	}
	out.group(t)
	return out
}

// together tells whether one key opens a rung of a segment and the next one.
func together(t *agent.Track, i, r int) bool {
	return i+1 < len(t.Segments) && r < len(t.Segments[i].Rungs) && r < len(t.Segments[i+1].Rungs) &&
		t.Segments[i].Rungs[r].First == t.Segments[i+1].Rungs[r].First
}

// group sets what a segment's share of its group's key is.
func (t *track) group(of *agent.Track) {
	for i := range t.stages {
		for r := range t.stages[i].rungs {
			if t.stages[i].keep&(1<<r) != 0 {
				continue
			}
			end, least, most := i, math.Inf(1), 0.0
			for {
				least = min(least, t.stages[end].rungs[r].price)
				most = max(most, t.stages[end].rungs[r].price)
				end++
				if !together(of, end-1, r) {
					break
				}
			}
			share := least / float64(end-i)
			for k := i; k < end; k++ {
				c := &t.stages[k].rungs[r]
				c.share, c.dear = share, most
				if k > i {
					c.refund = share * float64(end-k)
				}
			}
		}
	}
}

// setPrice sets the price of money, and works out what the rest is worth from
// each segment on.
func (t *track) setPrice(price float64) {
	t.price = price
	t.fill(&t.loose, 0)
}

// fill works out a rest by dynamic programming, at a price of bits.
func (t *track) fill(of *rest, perBit float64) {
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
				c := &t.stages[i].rungs[r]
				v := c.gain - t.price*c.share - perBit*float64(c.size)*8 + of.value[i+1][r]
				if i > 0 {
					v -= c.changes[last]
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

// freeSpent is what the best way without a network pays, by shares.
func (t *track) freeSpent() float64 {
	return t.sum(&t.loose, func(c *choice) float64 { return c.share })
}

// maxCarry is how much waiting the price of bits reckons with, in seconds.
const maxCarry = 1024

// setPerBit sets the price of bits for the least bound of the whole.
func (t *track) setPerBit() {
	if t.carried == nil {
		due := t.stages[len(t.stages)-1].place - t.pay
		for k := range maxCarry + 2 {
			end := t.link.position(max(0, due+time.Duration(k)*time.Second))
			t.carried = append(t.carried, t.link.until(end))
		}
		t.carry = make([]float64, maxCarry)
	}
	scarce := func(perBit float64) bool {
		t.fill(&t.tight, perBit)
		most, bits := math.Inf(-1), 0.0
		for k, b := range t.carried {
			if v := perBit*b - t.stall*float64(k); v > most {
				most, bits = v, b
			}
		}
		return t.sum(&t.tight, func(c *choice) float64 { return float64(c.size) * 8 }) > bits
	}
	low, high := 0.0, 1e-9
	for scarce(high) && high < 1 {
		low, high = high, high*4
	}
	for range 20 {
		if mid := (low + high) / 2; scarce(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	t.perBit = high
	t.fill(&t.tight, high)
	most := math.Inf(-1)
	for k := maxCarry - 1; k >= 0; k-- { // the next second may begin at once
		most = max(most-t.stall, high*t.carried[k+2])
		t.carry[k] = most
	}
}

// spent is what a way pays.
func (t *track) spent(rungs []int) (sum float64) {
	mask := uint64(0)
	for i, r := range rungs {
		mask &= t.stages[i].keep
		if mask&(1<<r) == 0 {
			sum += t.stages[i].rungs[r].price
		}
		mask |= 1 << r
	}
	return sum
}

// waits is how long a way should wait before each segment, for the first byte
// to be here first; nil: nowhere.
func (t *track) waits(rungs []int) []time.Duration {
	if !t.patient {
		return nil
	}
	waits := make([]time.Duration, len(rungs))
	var at label
	for i, r := range rungs {
		free := t.free(i, at)
		ask, first := t.link.soonest(free)
		waits[i] = ask - free
		at = t.next(i, at, t.link.position(first), r)
	}
	return waits
}
