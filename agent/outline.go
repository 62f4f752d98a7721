package agent

import (
	"math"

	"htlcdash/lightning"
)

// An Outline is how money is best spent on the rest of a title if the network
// carries all of it: one price of money for all segments, so that a decibel
// costs everywhere the same. A shot that gains nothing from a better rung is
// bought cheap by it.
type Outline struct {
	Price float64            // of a msat, in decibel; 0: there is enough for all that gains something
	Rungs [][]int            // by track, of the segments that are due and later
	Costs [][]lightning.Msat // of these
	Total lightning.Msat

	title *Title
	next  []int
	wish  Preferences
	keys  [][][]float64 // by track, segment from next on and rung: msat for a segment
}

// outlineSteps is how often the price of money is halved towards.
const outlineSteps = 24

// NewOutline makes the outline. If the money does not carry even the cheapest
// rungs, it is made of these.
func NewOutline(t *Title, s State, p Preferences) *Outline {
	o, w := &Outline{title: t, next: s.Next, wish: p}, p.weights()
	most := o.spread(w)
	if o.choose(s, w, 0); o.Total <= s.Left {
		return o
	}
	low, high := 0.0, most
	for range outlineSteps {
		if o.choose(s, w, (low+high)/2); o.Total > s.Left {
			low = o.Price
		} else {
			high = o.Price
		}
	}
	o.choose(s, w, high)
	return o
}

// spread shares the price of each key among the segments that it opens, and
// returns a price of money at which nothing but the cheapest is bought.
func (o *Outline) spread(w Weights) (most float64) {
	for k := range o.title.Tracks {
		track := &o.title.Tracks[k]
		segments := make([][]float64, len(track.Segments)-o.next[k])
		var ends [MaxRungs]int // by rung: where the key of the segment after ends
		for i := len(track.Segments) - 1; i >= o.next[k]; i-- {
			shares := make([]float64, len(track.Segments[i].Rungs))
			for r, g := range track.Segments[i].Rungs {
				if !track.goesOn(i, r) {
					ends[r] = i + 1
				}
				shares[r] = float64(g.Price) / float64(ends[r]-g.First)
			}
			segments[i-o.next[k]] = shares
			most = max(most, steepest(track.Segments[i], shares)*w.Of(track.Kind))
		}
		o.keys = append(o.keys, segments)
	}
	return 2 * most
}

// steepest is the most that a msat gains between two rungs, in decibel.
func steepest(s Segment, shares []float64) (most float64) {
	for a := range shares {
		for b := range shares {
			if more := shares[b] - shares[a]; more > 0 {
				most = max(most, (s.Rungs[b].Quality-s.Rungs[a].Quality)/more)
			}
		}
	}
	return most
}

// choose takes the best rung of each segment at a price of money.
func (o *Outline) choose(s State, w Weights, price float64) {
	o.Price, o.Total = price, 0
	o.Rungs, o.Costs = make([][]int, len(o.title.Tracks)), make([][]lightning.Msat, len(o.title.Tracks))
	for k := range o.title.Tracks {
		track, last := &o.title.Tracks[k], s.Last[k]
		for i := o.next[k]; i < len(track.Segments); i++ {
			shares := o.keys[k][i-o.next[k]]
			best, value := 0, math.Inf(-1)
			for _, r := range o.wish.allowed(track.Segments[i]) {
				if v := w.Of(track.Kind)*track.Segments[i].Rungs[r].Quality - price*shares[r]; v > value || v == value && shares[r] < shares[best] {
					best, value = r, v
				}
			}
			cost := track.Cost(i, best, last)
			o.Rungs[k], o.Costs[k] = append(o.Rungs[k], best), append(o.Costs[k], cost)
			o.Total += cost
			last = best
		}
	}
}

// uses counts, by track and rung, the segments that have it.
func (o *Outline) uses() [][]int {
	out := make([][]int, len(o.Rungs))
	for k, rungs := range o.Rungs {
		out[k] = make([]int, MaxRungs)
		for _, r := range rungs {
			out[k][r]++
		}
	}
	return out
}
