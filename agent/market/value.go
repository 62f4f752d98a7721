package market

import (
	"math"
	"time"
)

// value is what a need is worth, by when it is served, in msat.
//
//	worth ─────────┐
//	               │╲ late, for each second
//	    0          │  ╲
//	-worth         │    ╲────── never
//	           deadline  + grace
type value struct {
	worth, late     float64
	deadline, grace float64 // seconds
	when            [6]float64
}

// Abscissae and weights of Gauss and Legendre on [0, 1].
var (
	abscissae = [6]float64{0.03376524289842397, 0.16939530676686775, 0.38069040695840156, 0.6193095930415985, 0.8306046932331322, 0.966234757101576}
	weights   = [6]float64{0.08566224618958517, 0.1803807865240693, 0.23395696728634552, 0.23395696728634552, 0.1803807865240693, 0.08566224618958517}
)

func (n Need) value(usual float64) value {
	worth := float64(n.Worth)
	if worth <= 0 {
		worth = max(3*max(float64(n.Ceiling), usual), 1)
	}
	late := float64(n.Late)
	if late <= 0 {
		late = worth
	}
	v := value{worth: worth, late: late, deadline: max(n.Deadline.Seconds(), 0)}
	v.grace = 2 * v.worth / v.late
	for i, a := range abscissae {
		v.when[i] = math.Log(v.deadline + a*v.grace)
	}
	return v
}

// of is the mean value of asking a provider that takes price if it serves.
func (v value) of(g guess, price float64) float64 {
	missing := 0.0 // of the time from the deadline on, in which it is not yet there
	for i, w := range weights {
		missing += w * (1 - g.by(v.when[i]))
	}
	return v.worth - v.late*v.grace*missing - g.p*price
}

// both is the mean value, but for the price, if a second one is asked after
// some seconds.
func (v value) both(a, b guess, after float64) float64 {
	missing := 0.0
	for i, w := range weights {
		gap := 1 - a.by(v.when[i])
		if t := v.deadline + abscissae[i]*v.grace - after; t > 0 {
			gap *= 1 - b.by(math.Log(t))
		}
		missing += w * gap
	}
	return v.worth - v.late*v.grace*missing
}

// An aid is who is asked when the first is silent, and its price.
type aid struct {
	guess
	price float64
}

// helped is the mean value if the aid is asked when four of five of a's answers
// would be in.
func (v value) helped(a guess, price float64, b aid) float64 {
	const most = 0.8
	return v.both(a, b.guess, a.quantile(most)) - a.p*price - (1-a.p)*b.p*b.price - asking*v.worth*(1-most*a.p)
}

// hedge is after how many seconds it is best to ask b as well.
func (v value) hedge(a, b guess) float64 {
	// Before most of a's answers are in, a second request is load for nothing;
	// far beyond them it is known that none will come.
	soon, last := a.quantile(patience), max(a.quantile(overdue), v.deadline/2)
	if last <= soon {
		return soon
	}
	best, at := math.Inf(-1), soon
	const steps = 12
	for i := range steps + 1 {
		t := soon * math.Pow(last/soon, float64(i)/steps)
		if u := v.both(a, b, t) - asking*v.worth*(1-a.by(math.Log(t))); u > best {
			best, at = u, t
		}
	}
	return at
}

func seconds(s float64) time.Duration { return time.Duration(min(s, 1e6) * float64(time.Second)) }
