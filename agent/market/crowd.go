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

// belief is what is expected of a provider, of which e may be nil: what was
// seen of late; as far as that is thin, its reputation; and as far as that is
// thin, what others do.
func (m *Market) belief(now time.Time, e *entry, group string, size int64) belief {
	p := m.fresh.p(now)
	if c, ok := m.groups[group]; ok {
		p = c.over(now, Evidence{Yes: 2 * p, No: 2 * (1 - p)}).p()
	}
	sum := m.all.atMost(rumour)
	sum.Yes, sum.No = hearsay*p, hearsay*(1-p)
	if e != nil {
		past := now.Sub(e.Seen)
		recent := e.Recent.faded(fade(past, m.c.Recent))
		habit := e.Past.faded(fade(past, m.c.Past)).atMost(max(carry-recent.weight(), 0))
		sum = sum.with(habit).with(recent)
	}
	sum.Mean += math.Log(m.sizes.factor(size))
	return believe(sum)
}

// trusted reports whether a provider's probation has ended well.
func (e *entry) trusted(b belief) bool { return e.Past.Yes > proof-0.5 && b.p() >= 0.5 }

// dice are thrown anew now and then, and at each look for one that was never
// seen.
func (m *Market) dice(e *entry) dice {
	if e == nil {
		return dice{m.rand.NormFloat64(), m.rand.NormFloat64()}
	}
	if m.choices >= e.throw {
		e.dice = dice{m.rand.NormFloat64(), m.rand.NormFloat64()}
		e.throw = m.choices + 1 + m.rand.IntN(2*throws)
	}
	return e.dice
}

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
