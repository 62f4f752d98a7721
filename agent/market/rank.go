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
	dice      dice
	price     float64 // msat
	priced    bool    // or its price is not known
	counted   float64 // price, and what is counted on top of it
	bonus     float64 // for loyalty
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
	s := m.survey(now, cands, need)
	n := float64(max(need.Segments, 1))
	m.credit = min(m.credit+n*m.rate(now, s), tight*n)
	order := slices.Concat(s.trusted, s.fresh)
	if len(order) == 0 {
		order = s.last
	} else if k := m.turn(now, n, s, need); k > 0 {
		o := order[k]
		copy(order[1:k+1], order[:k])
		order[0] = o
	}
	out := make([]Choice, len(order))
	for i, o := range order {
		out[i] = o.Choice
	}
	return out
}

// A survey is candidates sorted into those that are trusted, those on
// probation, and those that are asked only if there is nobody else, each the
// best first.
type survey struct {
	trusted, fresh, last []*offer
	value                value
}

// good reports whether the best of some brings a fair part of what could be
// had.
func (v *value) good(offers []*offer) bool {
	return len(offers) > 0 && offers[0].mean > enough*v.worth
}

func (m *Market) survey(now time.Time, cands []Candidate, need Need) *survey {
	s := &survey{trusted: make([]*offer, 0, len(cands)), fresh: make([]*offer, 0, len(cands))}
	var banned []*offer
	offers, kinds, factor := make([]offer, len(cands)), make(map[string]kin), m.sizes.factor(need.Size)
	novice := m.novice(now, "")
	for i, c := range cands {
		if need.Ceiling > 0 && c.Price > need.Ceiling {
			continue
		}
		o, k := &offers[i], kin{novice: novice}
		if c.Group != "" {
			k = m.kin(now, c.Group, kinds)
		} else if m.known[c.ID] == nil {
			k.dice = m.dice()
		}
		o.Index = i
		m.consider(now, o, c, need, k, factor)
		switch {
		case o.entry != nil && now.Before(o.Banned):
			if !o.Cheat {
				banned = append(banned, o)
			}
		case o.Probation:
			s.fresh = append(s.fresh, o)
		default:
			s.trusted = append(s.trusted, o)
		}
	}
	usual, ok := typical(s.trusted)
	if !ok { // what nobody has delivered for says nothing: all count as dear
		usual = highest(s.fresh, float64(need.Ceiling))
	}
	s.value = need.value(usual)
	for _, part := range [][]*offer{s.trusted, s.fresh, banned} {
		for _, o := range part {
			m.weigh(o, &s.value, usual, need, len(s.trusted) > 1)
		}
	}
	m.help(s.trusted, &s.value)
	slices.SortStableFunc(s.trusted, better)
	slices.SortStableFunc(s.fresh, better)
	slices.SortStableFunc(banned, better)
	if kept, dear := fair(s.trusted, gouge*usual); ok && s.value.good(kept) {
		s.trusted = kept
		fresh, dearer := fair(s.fresh, gouge*usual)
		s.fresh, s.last = fresh, slices.Concat(dear, dearer)
	}
	s.fresh = oneOfEach(s.fresh)
	s.last = append(s.last, banned...)
	return s
}

// consider fills in what is known of a candidate.
func (m *Market) consider(now time.Time, o *offer, c Candidate, need Need, k kin, factor float64) {
	o.entry, o.id, o.group, o.dice = m.known[c.ID], c.ID, cmp.Or(c.Group, c.ID), k.dice
	if o.entry != nil {
		o.benched, o.dice = now.Before(o.Benched), m.dice()
	}
	o.belief = m.belief(now, o.entry, k.novice, factor)
	o.price, o.priced = asks(o.entry, c, need)
	o.Probation = !o.belief.trusted()
	o.begun = o.Probation && o.belief.begun()
}

// weigh fills in what an offer is worth, alone.
func (m *Market) weigh(o *offer, v *value, usual float64, need Need, others bool) {
	if !o.priced {
		o.price = usual
	}
	o.counted = o.price
	switch rise := o.price - tolerance*o.usual(need); {
	case o.Probation: // that it is cheap counts when it has delivered
		o.counted = max(o.price, usual)
	case rise > 0 && others:
		o.counted += rise
	case o.id == m.served:
		o.bonus = loyalty * v.worth
	}
	o.mean = v.alone(o.belief.expected(), o.counted) + o.bonus
	o.sample = v.alone(o.belief.sampled(o.dice), o.counted) + o.bonus
}

// help counts, for those that are trusted, that the best of the others can be
// asked as well: then one that now and then is silent does less harm.
func (m *Market) help(trusted []*offer, v *value) {
	if len(trusted) < 2 {
		return
	}
	best, next := trusted[0], trusted[1]
	if next.mean > best.mean {
		best, next = next, best
	}
	for _, o := range trusted[2:] {
		if o.mean > best.mean {
			best, next = o, best
		} else if o.mean > next.mean {
			next = o
		}
	}
	first, second := best.aid(), next.aid()
	for _, o := range trusted {
		a := first
		if o == best {
			a = second
		}
		o.mean = max(o.mean, v.helped(o.belief.expected(), o.counted, a)+o.bonus)
		o.sample = max(o.sample, v.helped(o.belief.sampled(o.dice), o.counted, a)+o.bonus)
	}
}

func (o *offer) aid() aid { return aid{o.belief.expected(), o.counted} }

// better orders offers: who has just failed comes last, and of newcomers, who
// has delivered comes first: a probation is brought to its end before the next
// begins.
func better(a, b *offer) int {
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

// rate is the share of the segments that newcomers may serve now: the more, the
// better newcomers have done so far, and the more they are needed. Whoever
// sends a flood of them lowers the chances of all.
func (m *Market) rate(now time.Time, s *survey) float64 {
	p := m.fresh.p(now)
	rate := min(max(p/(1-p)/3, 1/hunger), hunger)
	if len(s.trusted) < spares || !s.value.good(s.trusted) {
		rate = max(rate, hunger*p)
	}
	return min(rate/float64(m.c.Probation), 1)
}

// turn returns which of the offers, the trusted first, is asked first. That is
// a newcomer if those who are known are no better. Else it is the best, but for
// a share of the segments, if the deadline leaves time for another one after
// it, or for a quarter of that share: those go to newcomers and, in turn, to
// who was not seen for longest.
func (m *Market) turn(now time.Time, n float64, s *survey, need Need) (k int) {
	if len(s.trusted) == 0 {
		return 0
	}
	best, fresh := s.trusted[0], len(s.fresh) > 0 && !s.fresh[0].benched
	if fresh && (best.benched || best.sample < s.fresh[0].sample && best.mean < s.fresh[0].mean) {
		return len(s.trusted)
	}
	if need.Deadline.Seconds() < 2*best.belief.expected().within(fourOfFive) {
		n *= tight
	}
	if m.credit < n {
		return 0
	}
	k = s.stale(now, m.c.Recent)
	if fresh && (k == 0 || m.rand.IntN(2) == 0) {
		k = len(s.trusted)
	}
	if k > 0 {
		m.credit -= n
	}
	return k
}

// stale returns which of the offers, but for the first, is of one that has once
// delivered and was not seen for longest, if long.
func (s *survey) stale(now time.Time, long time.Duration) (k int) {
	var oldest *offer
	for i, o := range slices.Concat(s.trusted, s.fresh) {
		if i == 0 || o.entry == nil || o.benched || o.belief.served < 0.5 || now.Sub(o.Seen) < long {
			continue
		}
		if oldest == nil || o.Seen.Before(oldest.Seen) {
			oldest, k = o, i
		}
	}
	return k
}

// oneOfEach puts the best of each group before all others, so that many keys of
// one operator have no more of the newcomers' share than one.
func oneOfEach(fresh []*offer) []*offer {
	seen := make(map[string]bool, len(fresh))
	var first, others []*offer
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
	a := m.of(now, first.ID, first.Group, need.Size).expected()
	b := m.of(now, second.ID, second.Group, need.Size).expected()
	return seconds(v.hedge(a, b))
}
