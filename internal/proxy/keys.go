package proxy

import (
	"htlcdash/lightning"
)

// What keys cost, what they open, and which were bought. f.mu is held in all
// of these.

// price is the most that the key of a piece still costs: nothing if it is
// owned.
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
// key costs; about, before the prices are known.
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
// opens: p alone, before that is known.
func (f *film) opens(p piece) (from, to int) {
	if segs := f.seals[p.rep.ID]; segs != nil {
		return segs[p.index].Opens()
	}
	return p.index, p.index + 1
}

// sameKey reports whether one key opens both.
func (f *film) sameKey(a, b piece) bool {
	from, to := f.opens(a)
	return a.rep == b.rep && from <= b.index && b.index < to
}

// owns reports whether the key of p was bought, now or in an earlier run.
func (f *film) owns(p piece) bool {
	owned := f.owned[p.rep.ID]
	return owned != nil && owned[p.index]
}

// own books that the key of p was bought.
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
	f.reprice(p)
}

// pay books that the key of p is being bought, until the returned function is
// called with whether it was.
func (f *film) pay(p piece) (done func(bought bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	price := f.price(p)
	if price == 0 {
		return func(bool) {}
	}
	f.paying[p] = price
	f.reprice(p)
	return func(bought bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.paying, p)
		f.reprice(p)
		if bought {
			f.own(p)
		}
	}
}

// pays reports whether the key of p is being bought.
func (f *film) pays(p piece) bool {
	for q := range f.paying {
		if f.sameKey(p, q) {
			return true
		}
	}
	return false
}

// underWay is what the keys cost that are being bought.
func (f *film) underWay() (sum lightning.Msat) {
	for p, price := range f.paying {
		if !f.joins(p) {
			sum += price
		}
	}
	return sum
}

// joins reports whether an earlier segment that is being bought has the same
// key as p, so that it is paid once.
func (f *film) joins(p piece) bool {
	for q := range f.paying {
		if q.index < p.index && f.sameKey(p, q) {
			return true
		}
	}
	return false
}
