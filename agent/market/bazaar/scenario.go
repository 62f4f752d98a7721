package bazaar

import (
	"fmt"
	"math"
	"math/rand/v2"

	"htlcdash/agent/market"
)

// A Scenario is a market.
type Scenario struct {
	Name, About string

	sellers func(r *rand.Rand, segments int) []*seller
}

// A seller is a provider. It serves with chance p, after a log-normal time.
type seller struct {
	id, group string
	advert    float64 // msat
	born, end int     // from which segment until which it is here; end 0: for ever
	manner
	changes []change

	useless bool // it never delivers
	lure    int  // after so many sales it asks for dear
	dear    float64
	crowded float64 // by how much it slows down for each of the last tens of requests

	number int
	load   float64 // requests of late
	sold   int
	means  map[manner]float64 // utility of asking it
}

type manner struct{ price, median, spread, p, cheats float64 }

type change struct {
	at int
	manner
}

func (s *seller) here(t int) bool { return t >= s.born && (s.end == 0 || t < s.end) }

// as is its manner at a segment.
func (s *seller) as(t int) manner {
	m := s.manner
	for _, c := range s.changes {
		if t >= c.at {
			m = c.manner
		}
	}
	if s.lure > 0 && s.sold >= s.lure {
		m.price = s.dear
	}
	return m
}

func (s *seller) act(t int, r *rand.Rand) (kind market.Kind, took, price float64) {
	m := s.as(t)
	s.load = 0.9*s.load + 0.1
	took = m.median * math.Exp(m.spread*r.NormFloat64()) * (1 + s.crowded*s.load)
	switch x := r.Float64(); {
	case x < m.p:
		return market.Delivered, took, m.price
	case x < m.p+m.cheats:
		return market.Cheated, took, m.price
	default:
		return market.Silent, giveUp, m.price
	}
}

// best is the mean utility of who is best to ask, by one who knows them all.
func best(here []*seller, t int) float64 {
	most := math.Inf(-1)
	for _, s := range here {
		most = max(most, s.worth(t))
	}
	return most
}

// worth is the mean utility of asking s alone.
func (s *seller) worth(t int) float64 {
	m := s.as(t)
	m.median *= 1 + s.crowded*math.Round(10*s.load)/10
	u, ok := s.means[m]
	if !ok {
		if s.means == nil {
			s.means = make(map[manner]float64)
		}
		u = m.worth()
		s.means[m] = u
	}
	return u
}

func (m manner) worth() float64 {
	if m.price > ceiling {
		return -worth
	}
	const steps = 40
	there, mu := 0.0, math.Log(m.median)
	for i := range steps {
		at := deadline + (giveUp-deadline)*(float64(i)+0.5)/steps
		there += math.Erfc(-(math.Log(at)-mu)/m.spread/math.Sqrt2) / 2 / steps
	}
	came := math.Erfc(-(math.Log(giveUp)-mu)/m.spread/math.Sqrt2) / 2
	return -worth + m.p*(2*worth*there-came*m.price) - m.cheats*m.price
}

// honest is n providers that are what they are.
func honest(r *rand.Rand, n int) (out []*seller) {
	for i := range n {
		m := manner{price: 60 + 140*r.Float64(), median: 0.25 + 1.3*r.Float64(), spread: 0.25 + 0.4*r.Float64(), p: 0.93 + 0.069*r.Float64()}
		out = append(out, &seller{id: fmt.Sprintf("honest-%d", i), advert: m.price, manner: m})
	}
	return out
}

var (
	good = manner{price: 70, median: 0.3, spread: 0.4, p: 0.995}
	poor = manner{price: 70, median: 2.2, spread: 0.4, p: 0.7}
	gone = manner{price: 70, median: 2.5, spread: 0.4, p: 0.6}
)

// turning makes the first of the honest a good one that turns bad half way, and
// the second the reverse.
func turning(sellers []*seller, segments int) []*seller {
	sellers[0].id, sellers[0].advert, sellers[0].manner = "turncoat", 70, good
	sellers[0].changes = []change{{segments / 2, gone}}
	sellers[1].id, sellers[1].advert, sellers[1].manner = "penitent", 70, poor
	sellers[1].changes = []change{{segments / 2, good}}
	return sellers
}

// sybils is a fresh key every fortieth part of the time, cheap, that hardly ever
// delivers.
func sybils(segments int) (out []*seller) {
	for k := range 40 {
		out = append(out, &seller{
			id: fmt.Sprintf("sybil-%d", k), advert: 20, born: k * segments / 40, useless: true,
			manner: manner{price: 20, median: 0.5, spread: 0.3, p: 0.02},
		})
	}
	return out
}

// drifting is providers each of which becomes another at random times.
func drifting(r *rand.Rand, segments int) []*seller {
	out := honest(r, 8)
	for _, s := range out {
		for t := r.IntN(segments / 4); t < segments; t += segments/8 + r.IntN(segments/4) {
			m := honest(r, 1)[0].manner
			m.price, m.p = s.price, 0.6+0.4*r.Float64()
			s.changes = append(s.changes, change{t, m})
		}
	}
	return out
}

// liars advertise what they do not hold to: one asks for more, one never
// delivers, one takes the money of every third.
func liars(r *rand.Rand) []*seller {
	return append(honest(r, 5),
		&seller{id: "dearer", advert: 40, manner: manner{price: 250, median: 0.4, spread: 0.3, p: 0.99}},
		&seller{id: "never", advert: 30, useless: true, manner: manner{price: 30, median: 0.4, spread: 0.3}},
		&seller{id: "above", advert: 30, useless: true, manner: manner{price: ceiling + 50, median: 0.4, spread: 0.3, p: 1}},
		&seller{id: "cheat", advert: 50, manner: manner{price: 50, median: 0.4, spread: 0.3, p: 0.66, cheats: 0.34}},
		&seller{id: "thief", advert: 50, useless: true, manner: manner{price: 50, median: 0.4, spread: 0.3, cheats: 1}},
	)
}

func gougers(r *rand.Rand) []*seller {
	out := honest(r, 6)
	for i := range 2 {
		out = append(out, &seller{
			id: fmt.Sprintf("gouger-%d", i), advert: 50, lure: 60, dear: 290,
			manner: manner{price: 50, median: 0.3, spread: 0.3, p: 0.995},
		})
	}
	return out
}

func flood(groups int) (out []*seller) {
	for k := range 100 {
		out = append(out, &seller{
			id: fmt.Sprintf("flood-%d", k), group: fmt.Sprintf("net-%d", k%groups), advert: 20, useless: true,
			manner: manner{price: 20, median: 0.5, spread: 0.3, p: 0.02},
		})
	}
	return out
}

func mixed(r *rand.Rand, segments int) []*seller {
	out := turning(honest(r, 8), segments)
	out = append(out, sybils(segments)...)
	out = append(out, liars(r)[5:]...)
	out = append(out, gougers(r)[6:]...)
	return append(out, busy()...)
}

// busy is one that is the best as long as it is not asked for all.
func busy() []*seller {
	return []*seller{{id: "busy", advert: 60, crowded: 6, manner: manner{price: 60, median: 0.4, spread: 0.3, p: 0.995}}}
}

// Scenarios are the markets.
func Scenarios() []Scenario {
	return []Scenario{
		{"honest", "eight that are what they seem", func(r *rand.Rand, _ int) []*seller { return honest(r, 8) }},
		{"turncoat", "one good turns bad half way, one bad turns good", func(r *rand.Rand, n int) []*seller { return turning(honest(r, 8), n) }},
		{"drifting", "all become others now and then", drifting},
		{"slow", "the cheapest slows down under load", func(r *rand.Rand, _ int) []*seller { return append(honest(r, 6), busy()...) }},
		{"outage", "the best is silent for a tenth of the time", func(r *rand.Rand, n int) []*seller {
			out := honest(r, 6)
			out[0].manner, out[0].advert = good, good.price
			down := good
			down.p = 0
			out[0].changes = []change{{n / 2, down}, {n/2 + n/10, good}}
			return out
		}},
		{"lying", "five honest; others ask for more, never deliver, or take money for nothing", func(r *rand.Rand, _ int) []*seller { return liars(r) }},
		{"gouging", "two are cheap and good until they have sold sixty, then dear", func(r *rand.Rand, _ int) []*seller { return gougers(r) }},
		{"sybils", "turncoat, and a fresh cheap key forty times that hardly ever delivers", func(r *rand.Rand, n int) []*seller { return append(turning(honest(r, 8), n), sybils(n)...) }},
		{"flood", "eight honest and a hundred cheap keys of four networks from the start", func(r *rand.Rand, _ int) []*seller { return append(flood(4), honest(r, 8)...) }},
		{"mixed", "all of these at once", mixed},
		{"alone", "one provider, which is none of the best", func(*rand.Rand, int) []*seller {
			return []*seller{{id: "alone", advert: 100, manner: manner{price: 100, median: 0.9, spread: 0.6, p: 0.9}}}
		}},
	}
}
