package agent

import (
	"math"
)

// An Agent is this project's own policy.
type Agent struct {
	title   *Title
	weights Weights
	ladders []*ladder
	plan    *plan
	order   []int // tracks, the one that takes most bits first
	thrift  float64
	floor   float64 // bit/s
}

// New returns an Agent for a title that is not changed afterwards.
func New(t *Title, p Preferences) *Agent {
	if p.Weights.Stall == 0 && p.Weights.Switch == 0 {
		w := p.Weights.Quality
		p.Weights = Standard
		p.Weights.Quality = w
	}
	a := &Agent{title: t, weights: p.Weights}
	best, top, n := -1.0, 0.0, 0
	for k := range t.Tracks {
		l := newLadder(&t.Tracks[k], p)
		a.ladders = append(a.ladders, l)
		if l.top > best {
			best = l.top
			a.order = append([]int{k}, a.order...)
		} else {
			a.order = append(a.order, k)
		}
		for i := range l.seconds {
			top += l.at(i)[l.width-1].price
			n++
		}
		a.floor += l.sums[len(l.seconds)*l.width].bits / l.begins[len(l.seconds)]
	}
	if top > 0 {
		a.thrift = p.Thrift / (top / float64(n))
	}
	a.plan = newPlan(a.ladders)
	return a
}

// A Thought is why something was decided.
type Thought struct {
	Price   float64 // utility that an msat is worth
	Toll    float64 // utility that a bit is worth
	Rate    float64 // bit/s that are expected now
	Mean    float64 // bit/s that are expected in the long run
	Latency float64
	Outage  float64 // mean seconds
	Hazard  float64 // outages per second
	Dwell   float64
	Rates   []float64
	Options []Option
	Choice  int
}

// An Option is a rung that was thought about.
type Option struct {
	Rung  int
	Gain  float64
	Value float64
	Stall float64
}

// Decide implements [Policy].
func (a *Agent) Decide(s State) Decision {
	t := a.think(s, nil)
	return Decision{Rung: t.Options[t.Choice].Rung}
}

// Explain says why Decide decides.
func (a *Agent) Explain(s State) Thought { return a.think(s, nil) }

func (a *Agent) think(s State, going *Progress) Thought {
	f := observe(s, a.floor)
	rest := 0.0
	for k, l := range a.ladders {
		rest = max(rest, l.begins[len(l.seconds)]-l.begins[s.Next[k]])
	}
	price, toll := a.plan.solve(s.Next, s.Left, f.mean*rest)
	price = max(price, a.thrift)
	main := a.principal(s)
	h := foresights.Get().(*foresight)
	defer foresights.Put(h)
	a.prepare(h, s, f, main, price, toll)
	t := Thought{Price: price, Toll: toll, Rate: f.rates[stateNow], Mean: f.mean, Latency: f.latency, Outage: f.dwell[stateShort] / shortOutage, Hazard: (f.odds[stateShort] + f.odds[stateLong]) / f.dwell[stateNow], Dwell: f.dwell[stateNow], Rates: f.rates[1:]}
	if s.Track == main {
		t.Options = a.rungs(h, s, going)
	} else {
		t.Options = a.besides(h, s, main, going)
	}
	for k, o := range t.Options {
		if o.Value > t.Options[t.Choice].Value {
			t.Choice = k
		}
	}
	return t
}

// principal is the track, of those that go on, which takes most bits.
func (a *Agent) principal(s State) int {
	for _, k := range a.order {
		if s.Next[k] < len(a.ladders[k].seconds) {
			return k
		}
	}
	return s.Track
}

// prepare solves the foresight of a track.
func (a *Agent) prepare(h *foresight, s State, f *outlook, k int, price, toll float64) {
	l := a.ladders[k]
	h.ladder, h.f, h.stall, h.price = l, f, a.weights.Stall, price
	most := s.Most.Seconds()
	h.stages = l.stages(h.room[:0], s.Next[k], max(3*most, 60))
	h.slope = toll * f.mean
	h.cap = max(most-h.stages[0].last, h.stages[0].last)
	h.load, h.asks = 0, 0
	for o, other := range a.ladders {
		if o == k || s.Next[o] >= len(other.seconds) {
			continue
		}
		p := max(other.position(s.Next[o]-1, s.Last[o]), 0)
		n := len(other.seconds)
		h.load += other.sums[n*other.width+p].bits / other.begins[n]
		h.asks += float64(n) / other.begins[n]
	}
	h.solve(h.stages[len(h.stages)-1].to == len(l.seconds))
}

// rungs weighs the rungs of the principal track.
func (a *Agent) rungs(h *foresight, s State, going *Progress) []Option {
	l, i := h.ladder, s.Next[s.Track]
	last := l.position(i-1, s.Last[s.Track])
	belief := h.f.belief(l.seconds[i])
	b := s.Buffer[s.Track].Seconds()
	out := make([]Option, 0, l.width)
	for p, o := range l.at(i) {
		gain := l.worth(i, p, last, h.price)
		bits, latency := o.bits, h.f.latency
		if going != nil && going.Rung == o.rung {
			bits, latency = max(bits-float64(going.Got)*8, 0), 0
		}
		value, stall := h.expect(&belief, p, bits, b, latency)
		out = append(out, Option{Rung: o.rung, Gain: gain, Value: gain + value, Stall: stall})
	}
	return out
}

// worth is what a position of a segment gives, less its price, to one who
// comes from another position, or from none.
func (l *ladder) worth(i, p, last int, price float64) float64 {
	o := l.at(i)[p]
	if last < 0 {
		return o.quality - price*o.price
	}
	cost := o.price
	if last == p {
		cost = o.stay
	}
	return o.quality - l.switches*math.Abs(o.quality-l.at(i - 1)[last].quality) - price*cost
}

// besides weighs the rungs of a track beside the principal one: time is worth
// what it is worth to that one.
func (a *Agent) besides(h *foresight, s State, main int, going *Progress) []Option {
	l, i := a.ladders[s.Track], s.Next[s.Track]
	last := l.position(i-1, s.Last[s.Track])
	belief := h.f.belief(l.seconds[i])
	lead := s.Buffer[main].Seconds()
	own := s.Buffer[s.Track].Seconds()
	const probe = 0.5
	second := (a.best(h, s, main, lead) - a.best(h, s, main, max(lead-probe, 0))) / probe
	if lead < probe {
		second = h.stall
	}
	second = min(max(second, 0), h.stall)
	future := l.ahead(i+1, min(i+8, len(l.seconds)), h.price, second/h.f.typical)
	out := make([]Option, 0, l.width)
	for p, o := range l.at(i) {
		gain := l.worth(i, p, last, h.price)
		bits, latency := o.bits, h.f.latency
		if going != nil && going.Rung == o.rung {
			bits, latency = max(bits-float64(going.Got)*8, 0), 0
		}
		option := Option{Rung: o.rung, Gain: gain}
		cost := 0.0
		for st, odds := range belief {
			if odds > 0 {
				t := latency + h.f.takes(st, bits)
				wait := max(t-own, 0)
				cost += odds * (h.stall*wait + second*(t-wait))
				option.Stall += odds * wait
			}
		}
		option.Value = gain - cost + future[p]
		out = append(out, option)
	}
	return out
}

// best is the value of the principal track's best rung with b in hand.
func (a *Agent) best(h *foresight, s State, main int, b float64) float64 {
	l, i := h.ladder, s.Next[main]
	last := l.position(i-1, s.Last[main])
	belief := h.f.belief(l.seconds[i])
	top := math.Inf(-1)
	for p, o := range l.at(i) {
		v, _ := h.expect(&belief, p, o.bits, b, h.f.latency)
		top = max(top, v+l.worth(i, p, last, h.price))
	}
	return top
}

// ahead is what some segments give, at a price of money and one of bits, by
// the position before them.
func (l *ladder) ahead(from, to int, price, toll float64) (value [maxWidth]float64) {
	for i := to - 1; i >= from; i-- {
		var here [maxWidth]float64
		for last := range l.width {
			here[last] = math.Inf(-1)
			for p, o := range l.at(i) {
				here[last] = max(here[last], l.worth(i, p, last, price)-toll*o.bits+value[p])
			}
		}
		value = here
	}
	return value
}

// Abandon implements [Abandoner].
func (a *Agent) Abandon(s State, p Progress) (rung int, ok bool) {
	l, i := a.ladders[s.Track], s.Next[s.Track]
	opts := l.at(i)
	size := float64(a.title.Tracks[s.Track].Segments[i].Rungs[p.Rung].Size)
	left := size*8 - float64(p.Got)*8
	took := (s.Now - p.Since).Seconds()
	// what is left is hardly more than another one, or is here in time
	if left < 1.25*opts[0].bits || opts[0].rung >= p.Rung {
		return 0, false
	}
	rate := float64(p.Got) * 8 / max(took, 1e-3)
	if took < 0.5 || left < rate*s.Buffer[s.Track].Seconds()*0.8 {
		return 0, false
	}
	s.Past = append(s.Past[:len(s.Past):len(s.Past)], Download{At: p.Since, Took: s.Now - p.Since, Size: p.Got})
	t := a.think(s, &p)
	best := t.Options[t.Choice]
	if best.Rung >= p.Rung {
		return 0, false
	}
	for _, o := range t.Options {
		if o.Rung == p.Rung && best.Value < o.Value+0.5 {
			return 0, false
		}
	}
	return best.Rung, true
}
