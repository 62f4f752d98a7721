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
	deadline, grace float64    // seconds
	when            [4]float64 // logarithms of seconds, from the deadline to the end of the grace
}

// Abscissae and weights of Gauss and Legendre on [0, 1].
var (
	abscissae = [4]float64{0.06943184420297371, 0.33000947820757187, 0.6699905217924281, 0.9305681557970262}
	weights   = [4]float64{0.17392742256872692, 0.32607257743127307, 0.32607257743127307, 0.17392742256872692}
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

// alone is the mean value of asking a provider that takes price if it serves.
func (v *value) alone(g guess, price float64) float64 {
	missing := 0.0 // of the time from the deadline on, in which it is not yet there
	for i, w := range weights {
		missing += w * (1 - g.by(v.when[i]))
	}
	return v.worth - v.late*v.grace*missing - g.p*price
}

// both is the mean value, but for the price, if a second one is asked after
// some seconds.
func (v *value) both(a, b guess, after float64) float64 {
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
func (v *value) helped(a guess, price float64, b aid) float64 {
	return v.both(a, b.guess, a.within(fourOfFive)) - a.p*price - (1-a.p)*b.p*b.price - asking*v.worth*(1-0.8*a.p)
}

// hedge is after how many seconds it is best to ask b as well.
func (v *value) hedge(a, b guess) float64 {
	// Before half of a's answers are in, a second request is load for nothing;
	// far beyond them it is known that none will come.
	soon, last := a.within(median), max(a.within(nearlyAll), v.deadline/2)
	best, at := math.Inf(-1), soon
	const steps = 12
	for i := range steps + 1 {
		t := soon + (last-soon)*float64(i*i)/(steps*steps)
		if u := v.both(a, b, t) - asking*v.worth*(1-a.by(math.Log(t))); u > best {
			best, at = u, t
		}
	}
	return at
}

// Standard deviations within which a part of all answers are in.
const (
	median     = 0
	fourOfFive = 0.8416
	nearlyAll  = 2.5758 // 995 of 1000
)

func seconds(s float64) time.Duration { return time.Duration(min(s, 1e9) * float64(time.Second)) }
