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

	tracks [][][]worth // by track, segment from the one that is due and rung that is allowed
}

// A worth is a rung that may be chosen.
type worth struct {
	quality float64        // weighted
	share   float64        // msat: of the key's price, for each segment that it opens
	price   lightning.Msat // of the key
	rung    int32
	goesOn  bool // the key opens the segment before, too
}

// The price of money is halved towards until all but a part of what is left is
// spent, or so many times.
const (
	outlineSteps = 24
	outlinePart  = 1000
)

// NewOutline makes the outline. If the money does not carry even the cheapest
// rungs, it is made of these.
func NewOutline(t *Title, s State, p Preferences) *Outline {
	o := &Outline{}
	most := o.spread(t, s, p)
	price := 0.0
	if o.total(s, 0) > s.Left {
		price = o.price(s, most)
	}
	o.choose(s, price)
	return o
}

// price finds the least price of money, below one, at which the money is enough.
func (o *Outline) price(s State, high float64) float64 {
	low := 0.0
	for range outlineSteps {
		mid := (low + high) / 2
		total := o.total(s, mid)
		if total > s.Left {
			low = mid
			continue
		}
		if high = mid; s.Left-total < s.Left/outlinePart {
			break
		}
	}
	return high
}

// spread shares the price of each key among the segments that it opens, and
// returns a price of money at which nothing but the cheapest is bought.
func (o *Outline) spread(t *Title, s State, p Preferences) (most float64) {
	weights := p.weights()
	for k := range t.Tracks {
		track, from := &t.Tracks[k], s.Next[k]
		weight := weights.Of(track.Kind)
		lists := make([][]worth, len(track.Segments)-from)
		var ends [MaxRungs]int // by rung: where the key of the segment after ends
		var allowed []int
		all := make([]worth, 0, track.rungs())
		for i := len(track.Segments) - 1; i >= from; i-- {
			seg := &track.Segments[i]
			if allowed == nil || !sameRungs(*seg, track.Segments[i+1]) {
				allowed = p.allowed(*seg)
			}
			for r := range seg.Rungs {
				if !track.goesOn(i, r) {
					ends[r] = i + 1
				}
			}
			begin := len(all)
			for _, r := range allowed {
				g := &seg.Rungs[r]
				all = append(all, worth{weight * g.Quality, float64(g.Price) / float64(ends[r]-g.First), g.Price, int32(r), g.First < i})
			}
			lists[i-from] = all[begin:len(all):len(all)]
			most = max(most, steepest(lists[i-from]))
		}
		o.tracks = append(o.tracks, lists)
	}
	return 2 * most
}

// steepest is the most that a msat gains between two rungs, in decibel.
func steepest(list []worth) (most float64) {
	for i := range list {
		for j := range list {
			if more := list[j].share - list[i].share; more > 0 {
				most = max(most, (list[j].quality-list[i].quality)/more)
			}
		}
	}
	return most
}

// best is the rung of a segment that is worth most at a price of money.
func best(list []worth, price float64) *worth {
	best := &list[0]
	value := best.quality - price*best.share
	for i := 1; i < len(list); i++ {
		w := &list[i]
		if v := w.quality - price*w.share; v > value || v == value && w.share < best.share {
			best, value = w, v
		}
	}
	return best
}

// cost is what a rung costs one who had another one before.
func (w *worth) cost(last int) lightning.Msat {
	if w.goesOn && int(w.rung) == last {
		return 0
	}
	return w.price
}

// total is what all costs at a price of money.
func (o *Outline) total(s State, price float64) (sum lightning.Msat) {
	for k, lists := range o.tracks {
		last := s.Last[k]
		for _, list := range lists {
			w := best(list, price)
			sum += w.cost(last)
			last = int(w.rung)
		}
	}
	return sum
}

// choose takes the best rung of each segment at a price of money.
func (o *Outline) choose(s State, price float64) {
	o.Price = price
	for k, lists := range o.tracks {
		last := s.Last[k]
		rungs, costs := make([]int, len(lists)), make([]lightning.Msat, len(lists))
		for i, list := range lists {
			w := best(list, price)
			rungs[i], costs[i] = int(w.rung), w.cost(last)
			o.Total += costs[i]
			last = int(w.rung)
		}
		o.Rungs, o.Costs = append(o.Rungs, rungs), append(o.Costs, costs)
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
