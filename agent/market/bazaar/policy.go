package bazaar

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"htlcdash/agent/market"
	"htlcdash/lightning"
)

// Ours is the policy of package market.
var Ours = Policy{"ours", func(seed uint64) Chooser { return ours(seed) }}

func ours(seed uint64) *market.Market {
	return market.New(market.Config{}, rand.NewPCG(seed, 5))
}

// Policies are ours and others to set it beside.
func Policies() []Policy {
	rule := func(name string, score func(*scores, *score, market.Candidate) float64) Policy {
		return Policy{name, func(seed uint64) Chooser { return newScores(seed, score) }}
	}
	hedged := func(name string, score func(*scores, *score, market.Candidate) float64) Policy {
		return Policy{name, func(seed uint64) Chooser {
			s := newScores(seed, score)
			s.probation, s.hedge = true, time.Second
			return s
		}}
	}
	return []Policy{
		rule("random", random),
		rule("cheapest advertised", cheapest),
		rule("lowest latency", quickest),
		rule("eps-greedy", greedy),
		rule("discounted UCB", ucb),
		rule("Thompson", thompson),
		hedged("Thompson, probation, hedge after 1 s", thompson),
		hedged("lowest latency, probation, hedge after 1 s", quickest),
		{"ours, no second request", func(seed uint64) Chooser { return patient{ours(seed)} }},
		Ours,
	}
}

// patient never asks a second one.
type patient struct{ Chooser }

func (patient) HedgeAfter(time.Time, market.Candidate, market.Candidate, market.Need) time.Duration {
	return time.Hour
}

// scores is a rule that gives each candidate one number, from how it did.
type scores struct {
	rand      *rand.Rand
	of        func(*scores, *score, market.Candidate) float64
	all       map[string]*score
	total     float64
	turn      int
	probation bool          // newcomers get every 25th segment
	hedge     time.Duration // 0: never
}

// A score is what a rule knows of a candidate, discounted.
type score struct {
	n, utility, latency, success, count float64
	price                               lightning.Msat // advertised
}

func newScores(seed uint64, of func(*scores, *score, market.Candidate) float64) *scores {
	return &scores{rand: rand.New(rand.NewPCG(seed, 5)), of: of, all: make(map[string]*score)}
}

func (s *scores) get(id string) *score {
	if s.all[id] == nil {
		s.all[id] = &score{}
	}
	return s.all[id]
}

func (s *scores) Rank(_ time.Time, cands []market.Candidate, _ market.Need) []market.Choice {
	type ranked struct {
		market.Choice
		score float64
	}
	var list []ranked
	known := 0
	for i, c := range cands {
		sc := s.get(c.ID)
		sc.price = c.Price
		new := s.probation && sc.success*min(sc.count, 3) <= 1.2
		if !new {
			known++
		}
		list = append(list, ranked{market.Choice{Index: i, Probation: new}, s.of(s, sc, c)})
	}
	s.turn++
	newLast := known > 0 && s.turn%25 != 0
	slices.SortStableFunc(list, func(a, b ranked) int {
		if newLast && a.Probation != b.Probation {
			if a.Probation {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.score, a.score)
	})
	out := make([]market.Choice, len(list))
	for i, r := range list {
		out[i] = r.Choice
	}
	return out
}

func (s *scores) HedgeAfter(time.Time, market.Candidate, market.Candidate, market.Need) time.Duration {
	if s.hedge == 0 {
		return time.Hour
	}
	return s.hedge
}

func (s *scores) Observe(_ time.Time, id string, o market.Outcome) {
	const discount = 0.995
	s.total = s.total*discount + 1
	for _, sc := range s.all {
		sc.n *= discount
		sc.utility *= discount
	}
	sc := s.get(id)
	took, ok, u := o.Took.Seconds(), 0.0, -worth
	switch o.Kind {
	case market.Delivered:
		u, ok = value(took)-float64(o.Price), 1
	case market.Late: // that it was not there at once says nothing; else it would have come some time later
		if took < 1 {
			return
		}
		took += 0.5
		u, ok = value(took)-float64(sc.price), 1
	case market.Cheated:
		u -= float64(o.Price)
		took = giveUp
	default:
		took = giveUp
	}
	sc.n++
	sc.utility += u
	if sc.count == 0 {
		sc.latency, sc.success = took, ok
	} else {
		sc.latency += 0.2 * (took - sc.latency)
		sc.success += 0.2 * (ok - sc.success)
	}
	sc.count++
}

func random(s *scores, _ *score, _ market.Candidate) float64   { return s.rand.Float64() }
func cheapest(_ *scores, _ *score, c market.Candidate) float64 { return -float64(c.Price) }

func quickest(_ *scores, sc *score, _ market.Candidate) float64 {
	if sc.count == 0 {
		return -0.2
	}
	return -sc.latency
}

// hope is the utility that is expected of one that was never tried.
func hope(c market.Candidate) float64 { return worth/2 - float64(c.Price) }

func greedy(s *scores, sc *score, c market.Candidate) float64 {
	switch {
	case s.rand.Float64() < 0.05/8: // one in twenty choices, if there are eight
		return math.Inf(1)
	case sc.n < 1e-9:
		return hope(c)
	default:
		return sc.utility / sc.n
	}
}

func ucb(s *scores, sc *score, _ market.Candidate) float64 {
	if sc.count == 0 {
		return math.Inf(1)
	}
	return sc.utility/sc.n + 150*math.Sqrt(math.Log(max(s.total, 1))/max(sc.n, 0.05))
}

func thompson(s *scores, sc *score, c market.Candidate) float64 {
	n := sc.n + 1
	return (sc.utility+hope(c))/n + 150/math.Sqrt(n)*s.rand.NormFloat64()
}
