package market

import (
	"math"
	"time"
)

// A crowd is how newcomers have done, who have no reputation of their own.
type crowd struct {
	seen Evidence
	at   time.Time
}

const (
	crowdHalf   = 6 * time.Hour // half of it is forgotten
	crowdMemory = 0.95          // of each newcomer, when the next comes
)

// trust in a newcomer of whose kind nothing was seen: three of four.
var trust = Evidence{Yes: 1.5, No: 0.5}

func (c *crowd) add(now time.Time, saw Evidence) {
	c.seen = c.seen.faded(crowdMemory * fade(now.Sub(c.at), crowdHalf)).with(Evidence{Yes: saw.Yes, No: saw.No})
	c.at = now
}

// p is the chance that a newcomer serves.
func (c *crowd) p(now time.Time) float64 { return c.over(now, trust).p() }

func (c *crowd) over(now time.Time, prior Evidence) Evidence {
	return prior.with(c.seen.faded(fade(now.Sub(c.at), crowdHalf)))
}

func (e Evidence) p() float64 { return e.Yes / e.weight() }

// crowd learns of a group's newcomers.
func (m *Market) crowd(now time.Time, group string, saw Evidence) {
	if _, ok := m.groups[group]; !ok && len(m.groups) >= m.c.Keep {
		oldest := ""
		for g, c := range m.groups {
			if oldest == "" || c.at.Before(m.groups[oldest].at) || c.at.Equal(m.groups[oldest].at) && g < oldest {
				oldest = g
			}
		}
		delete(m.groups, oldest)
	}
	c := m.groups[group]
	c.add(now, saw)
	m.groups[group] = c
}

// Weights of what is known of a provider before it was seen of late.
const (
	carry   = 12  // of its reputation
	hearsay = 1   // of what newcomers do, and
	rumour  = 0.5 // of how long all take
)

// novice is the chance that one serves of whom nothing is known but its group.
func (m *Market) novice(now time.Time, group string) float64 {
	p := m.fresh.p(now)
	if c, ok := m.groups[group]; ok {
		p = c.over(now, Evidence{Yes: 2 * p, No: 2 * (1 - p)}).p()
	}
	return p
}

// belief is what is expected of a provider, of which e may be nil: what was
// seen of late; as far as that is thin, its reputation; and as far as that is
// thin, what others do: of its like, a share of novice serves.
func (m *Market) belief(now time.Time, e *entry, novice, factor float64) belief {
	sum := m.all.atMost(rumour)
	sum.Yes, sum.No = hearsay*novice, hearsay*(1-novice)
	served := 0.0
	if e != nil {
		age := now.Sub(e.Seen)
		recent, past := e.Recent.faded(fade(age, m.c.Recent)), e.Past.faded(fade(age, m.c.Past))
		served = past.Yes
		sum = sum.with(past.atMost(max(carry-recent.weight(), 0))).with(recent)
	}
	sum.Mean += math.Log(factor)
	return believe(sum, served)
}

// of is the belief in a provider by its name.
func (m *Market) of(now time.Time, id, group string, size int64) belief {
	return m.belief(now, m.known[id], m.novice(now, group), m.sizes.factor(size))
}

// trusted reports whether a provider's probation has ended well, and begun
// whether it goes well.
func (b belief) trusted() bool { return b.served > proof-0.5 && b.p() >= 0.5 }
func (b belief) begun() bool   { return b.served > 0.5 && b.p() >= 0.5 }

// kin is what keys of one group share in a ranking: what newcomers of it are
// worth, and one throw of the dice for all that were never seen. The luckiest
// of many throws would be lucky indeed.
type kin struct {
	novice float64
	dice   dice
}

func (m *Market) kin(now time.Time, group string, all map[string]kin) kin {
	k, ok := all[group]
	if !ok {
		k = kin{m.novice(now, group), m.dice()}
		all[group] = k
	}
	return k
}

func (m *Market) dice() dice { return dice{m.rand.NormFloat64(), m.rand.NormFloat64()} }

// scaling is how the time grows with the size: as a power of it, which is 0
// where round trips rule, and 1 where the line does. It is learnt from each
// provider's deliveries, and shared by all.
type scaling struct{ xx, xy float64 }

// ridge is the prior for an exponent of 0.
const ridge = 3

// factor is by how much longer a size takes than a megabyte.
func (s *scaling) factor(size int64) float64 {
	if size <= 0 {
		return 1
	}
	return math.Pow(float64(size)/(1<<20), min(max(s.xy/(s.xx+ridge), 0), 1))
}

func (s *scaling) add(e *entry, took float64, size int64) {
	if size <= 0 {
		return
	}
	x, y := math.Log(float64(size)/(1<<20)), math.Log(took)
	if e.sized {
		dx, dy := x-e.x, y-e.y
		s.xx, s.xy = habit*s.xx+dx*dx, habit*s.xy+dx*dy
	}
	e.x, e.y, e.sized = x, y, true
}
