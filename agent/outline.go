package agent

import "htlcdash/lightning"

// An Outline is how money is best spent on the rest of a title if the network
// carries all of it: one price of money for all segments, so that a decibel
// costs everywhere the same. A shot that gains nothing from a better rung is
// bought cheap by it.
type Outline struct {
	Price float64            // of a msat, in decibel; 0: there is enough for all that gains something
	Rungs [][]int            // by track, of the segments that are due and later
	Costs [][]lightning.Msat // of these
	Total lightning.Msat

	title  *Title
	next   []int
	worths [][][]worth // by track, segment from next on and rung that is allowed
}

// A worth is a rung that may be chosen.
type worth struct {
	rung    int
	quality float64 // weighted
	share   float64 // msat: of the key's price, for each segment that it opens
}

// outlineSteps is how often the price of money is halved towards.
const outlineSteps = 24

// NewOutline makes the outline. If the money does not carry even the cheapest
// rungs, it is made of these.
func NewOutline(t *Title, s State, p Preferences) *Outline {
	o := &Outline{title: t, next: s.Next}
	most := o.spread(p)
	if o.choose(s, 0); o.Total <= s.Left {
		return o
	}
	low, high := 0.0, most
	for range outlineSteps {
		if o.choose(s, (low+high)/2); o.Total > s.Left {
			low = o.Price
		} else {
			high = o.Price
		}
	}
	o.choose(s, high)
	return o
}

// spread shares the price of each key among the segments that it opens, and
// returns a price of money at which nothing but the cheapest is bought.
func (o *Outline) spread(p Preferences) (most float64) {
	weights := p.weights()
	for k := range o.title.Tracks {
		track := &o.title.Tracks[k]
		worths := make([][]worth, len(track.Segments)-o.next[k])
		var ends [MaxRungs]int // by rung: where the key of the segment after ends
		for i := len(track.Segments) - 1; i >= o.next[k]; i-- {
			seg := track.Segments[i]
			for r := range seg.Rungs {
				if !track.goesOn(i, r) {
					ends[r] = i + 1
				}
			}
			var list []worth
			for _, r := range p.allowed(seg) {
				g := seg.Rungs[r]
				list = append(list, worth{r, weights.Of(track.Kind) * g.Quality, float64(g.Price) / float64(ends[r]-g.First)})
			}
			worths[i-o.next[k]] = list
			most = max(most, steepest(list))
		}
		o.worths = append(o.worths, worths)
	}
	return 2 * most
}

// steepest is the most that a msat gains between two rungs, in decibel.
func steepest(list []worth) (most float64) {
	for _, a := range list {
		for _, b := range list {
			if more := b.share - a.share; more > 0 {
				most = max(most, (b.quality-a.quality)/more)
			}
		}
	}
	return most
}

// choose takes the best rung of each segment at a price of money.
func (o *Outline) choose(s State, price float64) {
	o.Price, o.Total = price, 0
	o.Rungs, o.Costs = make([][]int, len(o.worths)), make([][]lightning.Msat, len(o.worths))
	for k, worths := range o.worths {
		last := s.Last[k]
		rungs, costs := make([]int, len(worths)), make([]lightning.Msat, len(worths))
		for i, list := range worths {
			best := list[0]
			value := best.quality - price*best.share
			for _, w := range list[1:] {
				if v := w.quality - price*w.share; v > value || v == value && w.share < best.share {
					best, value = w, v
				}
			}
			rungs[i], costs[i] = best.rung, o.title.Tracks[k].Cost(o.next[k]+i, best.rung, last)
			o.Total += costs[i]
			last = best.rung
		}
		o.Rungs[k], o.Costs[k] = rungs, costs
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
