package market

import (
	"cmp"
	"slices"
	"time"
)

// An offer is a candidate under consideration.
type offer struct {
	Choice
	*entry // nil: nothing was ever seen of it

	id, group string
	belief    belief
	price     float64 // msat
	priced    bool    // or its price is not known
	mean      float64 // value, by what is expected,
	sample    float64 // and by the dice
	benched   bool    // it has just failed
	begun     bool    // it is on probation, and has delivered
}

// Rank orders candidates, the one to ask first in front. Who is banned, or asks
// for more than the ceiling, is not in it, nor who asks for a multiple of what
// others do; but if nobody else is there, it is, unless it took money. Rank is
// called once for each choice that is made: newcomers get their share of the
// calls.
func (m *Market) Rank(now time.Time, cands []Candidate, need Need) []Choice {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.choices++
	trusted, fresh, last := m.survey(now, cands, need)
	n := float64(max(need.Segments, 1))
	m.credit = min(m.credit+n*m.rate(now, len(trusted)), n)
	switch {
	case len(trusted)+len(fresh) == 0:
		return choices(last)
	case len(trusted) > 0 && len(fresh) > 0 && m.turn(n, trusted[0], fresh[0], need):
		return choices(fresh[:1], trusted, fresh[1:])
	default:
		return choices(trusted, fresh)
	}
}

func choices(parts ...[]offer) (out []Choice) {
	for _, part := range parts {
		for _, o := range part {
			out = append(out, o.Choice)
		}
	}
	return out
}

// rate is the share of the segments that newcomers may serve now. It falls when
// they are no good: whoever sends a flood of them lowers the chances of all.
func (m *Market) rate(now time.Time, trusted int) float64 {
	rate := 1 / float64(m.c.Probation)
	if trusted < spares {
		rate *= hunger
	}
	return min(rate*min(max(2*m.fresh.p(now), 0.2), 1), 1)
}

// turn reports whether a newcomer is asked first: when its time has come and
// the deadline leaves time for another one after it, or when the best that is
// known is no better.
func (m *Market) turn(n float64, best, newcomer offer, need Need) bool {
	if newcomer.benched {
		return false
	}
	if best.benched || best.sample < newcomer.sample && best.mean < newcomer.mean {
		return true
	}
	if m.credit < n || need.Deadline.Seconds() < 2*best.belief.expected().quantile(patience) {
		return false
	}
	m.credit -= n
	return true
}

// survey sorts candidates into those that are trusted, those on probation, and
// those that are asked only if there is nobody else, each the best first.
func (m *Market) survey(now time.Time, cands []Candidate, need Need) (trusted, fresh, last []offer) {
	var banned []offer
	for i, c := range cands {
		if need.Ceiling > 0 && c.Price > need.Ceiling {
			continue
		}
		o := m.offer(now, i, c, need)
		switch {
		case o.entry != nil && now.Before(o.Banned):
			if !o.Cheat {
				banned = append(banned, o)
			}
		case o.Probation:
			fresh = append(fresh, o)
		default:
			trusted = append(trusted, o)
		}
	}
	usual, ok := typical(trusted)
	if !ok { // what nobody has delivered for says nothing: all count as dear
		usual = highest(fresh, float64(need.Ceiling))
	}
	v := need.value(usual)
	for _, part := range [][]offer{trusted, fresh, banned} {
		for i := range part {
			m.weigh(&part[i], v, usual, need, len(trusted) > 1)
		}
	}
	slices.SortStableFunc(trusted, better)
	slices.SortStableFunc(fresh, better)
	slices.SortStableFunc(banned, better)
	if ok && trusted[0].mean > v.worth*enough {
		trusted, last = fair(trusted, gouge*usual)
		var dear []offer
		fresh, dear = fair(fresh, gouge*usual)
		last = append(last, dear...)
	}
	return trusted, oneOfEach(fresh), append(last, banned...)
}

func (m *Market) offer(now time.Time, i int, c Candidate, need Need) offer {
	o := offer{Choice: Choice{Index: i}, entry: m.known[c.ID], id: c.ID, group: cmp.Or(c.Group, c.ID)}
	o.belief = m.belief(now, o.entry, c.Group, need.Size)
	o.price, o.priced = asks(o.entry, c, need)
	o.Probation = o.entry == nil || !o.trusted(o.belief)
	if o.entry != nil {
		o.benched = now.Before(o.Benched)
		o.begun = o.Probation && o.Past.Yes > 0.5 && o.belief.p() >= 0.5
	}
	return o
}

// weigh fills in what an offer is worth.
func (m *Market) weigh(o *offer, v value, usual float64, need Need, others bool) {
	if !o.priced {
		o.price = usual
	}
	price, bonus := o.price, 0.0
	if o.Probation {
		price = max(price, usual) // that it is cheap counts when it has delivered
	} else if rise := o.price - tolerance*o.usual(need); rise > 0 && others {
		price += rise
	} else if o.id == m.served {
		bonus = loyalty * v.worth
	}
	o.mean = v.of(o.belief.expected(), price) + bonus
	o.sample = v.of(o.belief.sampled(m.dice(o.entry)), price) + bonus
}

// better orders offers: who has just failed comes last, and of newcomers, who
// has delivered comes first: a probation is brought to its end before the next
// begins.
func better(a, b offer) int {
	if a.benched != b.benched {
		return sign(a.benched)
	}
	if a.begun != b.begun {
		return sign(b.begun)
	}
	return cmp.Compare(b.sample, a.sample)
}

func sign(after bool) int {
	if after {
		return 1
	}
	return -1
}

// typical is the median of the prices that are known, the lower of two.
func typical(offers []offer) (price float64, ok bool) {
	var prices []float64
	for _, o := range offers {
		if o.priced {
			prices = append(prices, o.price)
		}
	}
	if len(prices) == 0 {
		return 0, false
	}
	slices.Sort(prices)
	return prices[(len(prices)-1)/2], true
}

func highest(offers []offer, ceiling float64) (price float64) {
	for _, o := range offers {
		if o.priced {
			price = max(price, o.price)
		}
	}
	return cmp.Or(price, ceiling)
}

// fair splits offers by a price.
func fair(offers []offer, most float64) (kept, dear []offer) {
	for _, o := range offers {
		if o.priced && o.price > most {
			dear = append(dear, o)
		} else {
			kept = append(kept, o)
		}
	}
	return kept, dear
}

// oneOfEach puts the best of each group before all others, so that many keys of
// one operator have no more of the newcomers' share than one.
func oneOfEach(fresh []offer) []offer {
	seen := make(map[string]bool, len(fresh))
	var first, others []offer
	for _, o := range fresh {
		if seen[o.group] {
			others = append(others, o)
		} else {
			first = append(first, o)
		}
		seen[o.group] = true
	}
	return append(first, others...)
}

// HedgeAfter is how long to wait for the first before the second is asked as
// well, for a need that begins now. Whichever comes first is used; no more than
// one is paid. Without a second it is the deadline.
func (m *Market) HedgeAfter(now time.Time, first, second Candidate, need Need) time.Duration {
	if second.ID == "" {
		return need.Deadline
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := need.value(float64(max(first.Price, second.Price)))
	a := m.belief(now, m.known[first.ID], first.Group, need.Size).expected()
	b := m.belief(now, m.known[second.ID], second.Group, need.Size).expected()
	return seconds(v.hedge(a, b, asking*v.worth))
}
