package agent

import (
	"math"

	"htlcdash/lightning"
)

// A plan knows what the rest of a title costs, and how many bits it takes, at
// a price of money and a price of bits: at the rungs that maximise
//
//	quality - changes of it - price*money - toll*bits
//
// by dynamic programming over the segments, the changes included. The two
// prices are the multipliers of the two things that are short, so what they
// spend is what an optimum spends that has that much (Everett 1963). It is
// made once for a title; to find the price at which the rest spends what is
// left is to look it up.
type plan struct {
	prices []float64 // utility for an msat, ascending
	tolls  []float64 // utility for a bit, ascending, 0 first
	tracks []planned
}

// planned has, for a track, price, toll and some of its segments, what the rest takes.
type planned struct {
	every int       // segments between two marks
	marks int       // of one price and toll
	msat  []float64 // by price, toll, mark
	bits  []float64
}

const (
	numPrices = 28
	numTolls  = 7
	maxMarks  = 512
	maxRange  = 1e5 // between the highest and the lowest price
)

func newPlan(ladders []*ladder) *plan {
	p := &plan{
		prices: grid(ladders, numPrices, func(o option) float64 { return o.price }),
		tolls:  append([]float64{0}, grid(ladders, numTolls-1, func(o option) float64 { return o.bits })...),
	}
	for _, l := range ladders {
		p.tracks = append(p.tracks, p.of(l))
	}
	return p
}

// grid returns prices of a cost, from one at which nothing that costs more is
// worth it down to one at which everything is.
func grid(ladders []*ladder, n int, cost func(option) float64) []float64 {
	low, high := math.Inf(1), 0.0
	for _, l := range ladders {
		for i := range l.seconds {
			opts := l.at(i)
			for k := 1; k < len(opts); k++ {
				dq, dc := opts[k].quality-opts[k-1].quality, cost(opts[k])-cost(opts[k-1])
				if dq > 0 && dc > 0 {
					// a change down and up again is spared by staying, and a key may open more
					low, high = min(low, dq/dc/(1+2*l.switches)), max(high, dq/dc*(1+2*l.switches)*float64(l.opens(i)))
				}
			}
		}
	}
	if high == 0 {
		return []float64{0}
	}
	low = max(low, high/maxRange)
	out := make([]float64, n)
	for k := range out {
		out[k] = low * math.Pow(high/low, float64(k)/float64(n-1))
	}
	return out
}

// of runs the dynamic program of a track for all prices and tolls.
func (p *plan) of(l *ladder) planned {
	n := len(l.seconds)
	out := planned{every: (n + maxMarks - 1) / maxMarks}
	out.marks = (n+out.every-1)/out.every + 1
	size := len(p.prices) * len(p.tolls) * out.marks
	out.msat, out.bits = make([]float64, size), make([]float64, size)
	for a, price := range p.prices {
		for b, toll := range p.tolls {
			at := (a*len(p.tolls) + b) * out.marks
			l.spend(price, toll, out.every, out.msat[at:at+out.marks], out.bits[at:at+out.marks])
		}
	}
	return out
}

// spend fills in what the rest takes from every mark on.
func (l *ladder) spend(price, toll float64, every int, msat, bits []float64) {
	type rest struct{ value, msat, bits float64 }
	var after, here [maxWidth]rest // who holds the position of the segment before
	n := len(l.seconds)
	for i := n - 1; i >= 0; i-- {
		opts := l.at(i)
		var own [maxWidth]float64
		best, top := 0, math.Inf(-1)
		for p, o := range opts {
			own[p] = o.quality - toll*o.bits + after[p].value
			if v := own[p] - price*o.price; v > top {
				best, top = p, v
			}
		}
		if i%every == 0 {
			msat[i/every] = opts[best].price + after[best].msat
			bits[i/every] = opts[best].bits + after[best].bits
		}
		if i == 0 {
			break
		}
		for last, from := range l.at(i - 1) {
			choice, top := 0, math.Inf(-1)
			for p, o := range opts {
				cost := o.price
				if p == last {
					cost = o.stay
				}
				if v := own[p] - price*cost - l.switches*math.Abs(o.quality-from.quality); v > top {
					choice, top = p, v
				}
			}
			o := opts[choice]
			cost := o.price
			if choice == last {
				cost = o.stay
			}
			here[last] = rest{top, cost + after[choice].msat, o.bits + after[choice].bits}
		}
		after = here
	}
}

// need is what the rest takes at an index of price and toll.
func (p *plan) need(next []int, a, b int) (msat, bits float64) {
	for k, t := range p.tracks {
		base := (a*len(p.tolls) + b) * t.marks
		i, part := next[k]/t.every, float64(next[k]%t.every)/float64(t.every)
		j := min(i+1, t.marks-1)
		msat += t.msat[base+i]*(1-part) + t.msat[base+j]*part
		bits += t.bits[base+i]*(1-part) + t.bits[base+j]*part
	}
	return msat, bits
}

// solve returns the prices at which the rest takes no more than is left of
// money and than the network is expected to carry.
func (p *plan) solve(next []int, left lightning.Msat, carried float64) (price, toll float64) {
	budget := float64(left)
	if left == NoLimit {
		budget = math.Inf(1)
	}
	spent := func(a int) (msat, toll float64) { return p.carried(next, a, carried) }
	lo, hi := 0, len(p.prices)-1
	if msat, toll := spent(0); msat <= budget {
		return 0, toll
	}
	// the lowest price that the money is enough for
	for lo+1 < hi {
		if mid := (lo + hi) / 2; first(spent(mid)) <= budget {
			hi = mid
		} else {
			lo = mid
		}
	}
	a, ta := spent(lo)
	b, tb := spent(hi)
	if b >= a || b > budget {
		return p.prices[hi], tb
	}
	part := (a - budget) / (a - b)
	return p.prices[lo] * math.Pow(p.prices[hi]/p.prices[lo], part), ta + part*(tb-ta)
}

func first(a, _ float64) float64 { return a }

// carried is what the rest costs at a price, when it takes as many bits as the
// network carries, and the toll at which it takes them.
func (p *plan) carried(next []int, a int, carried float64) (msat, toll float64) {
	msat, bits := p.need(next, a, 0)
	for b := 1; b < len(p.tolls) && bits > carried; b++ {
		m, c := p.need(next, a, b)
		if c <= carried {
			part := (bits - carried) / (bits - c)
			return msat + part*(m-msat), p.tolls[b-1] + part*(p.tolls[b]-p.tolls[b-1])
		}
		msat, bits, toll = m, c, p.tolls[b]
	}
	return msat, toll
}
