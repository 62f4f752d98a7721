package market

import (
	"math"
	"time"
)

// Evidence is what was seen of a provider, the old of less weight than the new.
type Evidence struct {
	Yes float64 `json:"yes,omitempty"` // needs that it served,
	No  float64 `json:"no,omitempty"`  // and that it did not

	// Of the logarithm of the seconds it took: weight, mean, and sum of squared
	// deviations.
	N      float64 `json:"n,omitempty"`
	Mean   float64 `json:"mean,omitempty"`
	Square float64 `json:"square,omitempty"`
}

func (e Evidence) weight() float64 { return e.Yes + e.No }

// faded is e when it counts only for a share.
func (e Evidence) faded(share float64) Evidence {
	return Evidence{e.Yes * share, e.No * share, e.N * share, e.Mean, e.Square * share}
}

// atMost is e with a weight of no more than most.
func (e Evidence) atMost(most float64) Evidence {
	out := e
	if w := e.weight(); w > most {
		out.Yes, out.No = e.Yes*most/w, e.No*most/w
	}
	if e.N > most {
		out.N, out.Square = most, e.Square*most/e.N
	}
	return out
}

// with is what both say together.
func (e Evidence) with(o Evidence) Evidence {
	out := Evidence{Yes: e.Yes + o.Yes, No: e.No + o.No, N: e.N + o.N, Square: e.Square + o.Square}
	if out.N > 0 {
		out.Mean = (e.N*e.Mean + o.N*o.Mean) / out.N
		out.Square += e.N * o.N / out.N * (e.Mean - o.Mean) * (e.Mean - o.Mean)
	}
	return out
}

// came is the evidence of one delivery that took some seconds.
func came(seconds, weight float64) Evidence {
	return Evidence{Yes: weight, N: weight, Mean: math.Log(max(seconds, 1e-3))}
}

var failure = Evidence{No: 1}

// A belief is what is expected of the next need.
type belief struct {
	yes, no  float64 // of a beta distribution of the chance that it is served
	mean, sd float64 // of the logarithm of the seconds
	n        float64 // observations that the mean rests on
	served   float64 // needs that it has served, the old of less weight
}

// regular is the least spread that is believed: nobody is as regular as few
// answers may look.
const regular = 0.1

// believe turns evidence, a prior in it, into a belief.
func believe(e Evidence, served float64) belief {
	return belief{served: served, yes: e.Yes, no: e.No, mean: e.Mean, sd: max(math.Sqrt(e.Square/e.N), regular), n: e.N}
}

// p is the chance that a need is served.
func (b belief) p() float64 { return b.yes / (b.yes + b.no) }

// expected is b with its uncertainty in the spread, as a forecast has it.
func (b belief) expected() guess {
	return guess{p: b.p(), mean: b.mean, sd: b.sd * math.Sqrt(1+1/b.n)}
}

// sampled is what b would be if the dice told the truth, in standard deviations.
func (b belief) sampled(d dice) guess {
	p := b.p()
	sd := math.Sqrt(p * (1 - p) / (b.yes + b.no + 1)) // of the beta distribution
	return guess{p: min(max(p+d.chance*sd, 0.001), 0.999), mean: b.mean + d.latency*b.sd/math.Sqrt(b.n), sd: b.sd}
}

// dice are two throws of a normal distribution.
type dice struct{ chance, latency float64 }

// A guess is a provider of whom all is known: it serves with chance p, after a
// log-normal time.
type guess struct{ p, mean, sd float64 }

// by is the chance that it has served until then.
func (g guess) by(logSeconds float64) float64 { return g.p * normal((logSeconds-g.mean)/g.sd) }

// within is the time in which it serves, if it serves, but for what lies z
// standard deviations out.
func (g guess) within(z float64) float64 { return math.Exp(g.mean + g.sd*z) }

// normal is the chance that a standard normal variable is below z, to one part
// in ten thousand. Rankings ask for it thousands of times.
func normal(z float64) float64 {
	x := (z + reach) * fineness
	if !(x > 0) {
		return 0
	}
	i := int(x)
	if i >= len(normals)-1 {
		return 1
	}
	return normals[i] + (x-float64(i))*(normals[i+1]-normals[i])
}

const (
	reach    = 6  // beyond that many standard deviations there is nothing
	fineness = 32 // steps of each
)

var normals = func() (table [2*reach*fineness + 1]float64) {
	for i := range table {
		table[i] = math.Erfc(-(float64(i)/fineness-reach)/math.Sqrt2) / 2
	}
	return table
}()

// unseen is what it says that nothing has come after some seconds: perhaps it
// will never come, perhaps it is only slow. Both get their share, as in the
// E-step of Dempster, Laird and Rubin (1977), and the whole counts as much as
// was to be expected by then.
func unseen(seconds float64, g guess) Evidence {
	z := (math.Log(max(seconds, 1e-3)) - g.mean) / g.sd
	due := normal(z)
	still := g.p * (1 - due) / (1 - g.p + g.p*(1-due))
	z = min(z, 4) // further out the next line divides by next to nothing
	beyond := math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) / normal(-z)
	e := Evidence{Yes: still * due, No: (1 - still) * due, N: still * due, Mean: g.mean + g.sd*beyond}
	return e
}

// fade is what remains after some time of something that halves.
func fade(past, half time.Duration) float64 {
	return math.Exp2(-max(past.Seconds(), 0) / half.Seconds())
}
