package proxy

import (
	"math"
	"slices"
	"time"

	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// A bound is what the budget lets a player do.
type bound struct {
	cap    int64          // bit/s of the ladder; 0: no limit
	toEnd  lightning.Msat // what the cheapest way to the end still costs
	enough bool           // the money left carries it
}

// margin is what switches of quality add to prices, in percent, besides what
// routes add.
const margin = 3

// slack is how much less than the budget a rung must cost, in percent, before a
// player is let up to it again, so that the cap does not flutter.
const slack = 10

// bound tells what the budget lets a player do from here on. It is where
// quality and money meet until an agent decides per segment: the highest rung
// whose remaining segments, and those of the sound, can all be paid, if routes
// go on to take what they took so far. What is owned already costs nothing.
func (f *film) bound() bound {
	if !f.paid {
		return bound{enough: true}
	}
	account := f.proxy.buyer.Account(f.id)
	left, limited := account.Left()
	fees := lightning.Msat(math.Ceil(100 * account.FeeShare())) // percent
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.position()
	var sound lightning.Msat
	if len(f.video) > 0 {
		sound = f.remaining(f.sound(), at)
	}
	b := bound{toEnd: withMargin(f.cheapest(at)+sound, fees), enough: true}
	if !limited {
		f.cap = 0
		return b
	}
	costs := make([]lightning.Msat, len(f.ladder()))
	for i, rep := range f.ladder() {
		costs[i] = withMargin(f.remaining(rep, at)+sound, fees+margin)
	}
	rung := affordable(left, costs, f.rungBelow(f.cap))
	rung = max(rung, f.ownedRung(at))
	f.cap = f.ladder()[rung].Bandwidth
	b.cap, b.enough = f.cap, b.toEnd <= left
	return b
}

func withMargin(m lightning.Msat, percent lightning.Msat) lightning.Msat { return m + m/100*percent }

// affordable returns the highest rung that costs no more than what is left, or
// the lowest. before is the last answer, -1 if there was none.
func affordable(left lightning.Msat, costs []lightning.Msat, before int) (rung int) {
	for i, cost := range costs {
		if before >= 0 && i > before {
			cost = withMargin(cost, slack)
		}
		if cost <= left {
			rung = i
		}
	}
	return rung
}

// rungBelow returns the highest rung of at most bandwidth, -1 for 0.
func (f *film) rungBelow(bandwidth int64) int {
	rung := -1
	for i, rep := range f.ladder() {
		if rep.Bandwidth <= bandwidth {
			rung = i
		}
	}
	return rung
}

// ownedRung returns the highest rung whose segment at a time is owned, else
// the lowest. f.mu is held.
func (f *film) ownedRung(at time.Duration) (rung int) {
	for i, rep := range f.ladder() {
		if n := indexAt(rep, at); n >= 0 && f.owns(piece{rep, n}) {
			rung = i
		}
	}
	return rung
}

// remaining returns what the segments of rep that start at a time or later
// cost, those that are owned left out. Before the prices are known, and where
// more Periods follow, which are taken to cost alike, it is what the time left
// costs on the average. f.mu is held.
func (f *film) remaining(rep *dash.Representation, at time.Duration) (cost lightning.Msat) {
	if rep == nil || rep.Pay == nil {
		return 0
	}
	if n := len(rep.Segments); f.seals[rep.ID] == nil || f.periods > 1 {
		if n == 0 {
			return 0
		}
		length := rep.Segments[n-1].Start + rep.Segments[n-1].Duration - rep.Segments[0].Start
		left := max(f.manifest.Duration()-at, 0)
		return lightning.Msat(float64(rep.Pay.Total) * float64(left) / float64(max(length, 1)))
	}
	paid := 0 // up to here keys are counted
	for i, s := range rep.Segments {
		if p := (piece{rep, i}); s.Start >= at && i >= paid {
			cost += f.price(p)
			_, paid = f.opens(p)
		}
	}
	return cost
}

// cheapest returns what the cheapest way along the ladder to the end costs,
// from key to key, which may be some that are owned. A way never leaves a group
// before its end: that would cost no less. f.mu is held.
func (f *film) cheapest(at time.Duration) (cost lightning.Msat) {
	ladder := f.ladder()
	count := len(ladder[0].Segments)
	for _, rep := range ladder {
		if f.seals[rep.ID] == nil || len(rep.Segments) != count || f.periods > 1 { // not known yet, or not aligned
			return f.cheapestRung(at)
		}
	}
	costs := make([]lightning.Msat, count+1) // from a segment to the end
	for i, s := range slices.Backward(ladder[0].Segments) {
		if s.Start < at {
			return costs[i+1]
		}
		costs[i] = math.MaxInt64
		for _, rep := range ladder {
			p := piece{rep, i}
			_, to := f.opens(p)
			costs[i] = min(costs[i], f.price(p)+costs[to])
		}
	}
	return costs[0]
}

func (f *film) cheapestRung(at time.Duration) (cost lightning.Msat) {
	for i, rep := range f.ladder() {
		if c := f.remaining(rep, at); i == 0 || c < cost {
			cost = c
		}
	}
	return cost
}

// price is the most that the key of a piece still costs: nothing if it is
// owned. f.mu is held.
func (f *film) price(p piece) lightning.Msat {
	if p.rep.Pay == nil || f.owns(p) {
		return 0
	}
	if segs := f.seals[p.rep.ID]; segs != nil {
		return segs[p.index].Price
	}
	return p.rep.Pay.Max
}

// asking is what the publisher asks for p, owned or not: its share of what the
// key costs; about, before the prices are known. f.mu is held.
func (f *film) asking(p piece) lightning.Msat {
	switch segs := f.seals[p.rep.ID]; {
	case p.rep.Pay == nil:
		return 0
	case segs != nil:
		from, to := f.opens(p)
		return segs[p.index].Price / lightning.Msat(to-from)
	default:
		return p.rep.Pay.Total / lightning.Msat(max(p.rep.Pay.Count, 1))
	}
}

// opens returns the segments [from, to) of its Representation that the key of p
// opens: p alone, before that is known. f.mu is held.
func (f *film) opens(p piece) (from, to int) {
	if segs := f.seals[p.rep.ID]; segs != nil {
		return segs[p.index].Opens()
	}
	return p.index, p.index + 1
}

// sameKey reports whether one key opens both. f.mu is held.
func (f *film) sameKey(a, b piece) bool {
	from, to := f.opens(a)
	return a.rep == b.rep && from <= b.index && b.index < to
}

// owns reports whether the key of p was bought, now or in an earlier run. f.mu
// is held.
func (f *film) owns(p piece) bool {
	owned := f.owned[p.rep.ID]
	return owned != nil && owned[p.index]
}

// own books that the key of p was bought. f.mu is held.
func (f *film) own(p piece) {
	if p.index >= len(p.rep.Segments) {
		return // books of something else
	}
	if f.owned[p.rep.ID] == nil {
		f.owned[p.rep.ID] = make([]bool, len(p.rep.Segments))
	}
	from, to := f.opens(p)
	for i := from; i < to; i++ {
		f.owned[p.rep.ID][i] = true
	}
}
