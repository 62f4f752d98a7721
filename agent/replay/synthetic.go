package replay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Kinds of networks that [Synthetic] makes.
const (
	Steady = "steady" // 5 Mbit/s, hardly any change
	Slow   = "slow"   // 0.8 Mbit/s on average
	Mobile = "mobile" // states of 0.3 to 8 Mbit/s, and outages of seconds
	Fiber  = "fiber"  // 80 Mbit/s, near
)

// Synthetic makes a network of ten minutes from a seed, always the same one:
// for tests, which need no recordings then. It panics if there is no such kind.
func Synthetic(seed uint64, kind string) *Link {
	rnd := rand.New(rand.NewPCG(seed, 0))
	var steps []Stretch
	switch kind {
	case Steady:
		steps = wobble(rnd, 5e6, 0.1, 30*time.Millisecond)
	case Slow:
		steps = wobble(rnd, 8e5, 0.4, 80*time.Millisecond)
	case Fiber:
		steps = wobble(rnd, 8e7, 0.15, 4*time.Millisecond)
	case Mobile:
		steps = mobile(rnd)
	default:
		panic("replay: no such kind of network: " + kind)
	}
	l, err := NewLink(fmt.Sprintf("%s %d", kind, seed), steps)
	if err != nil {
		panic(err)
	}
	return l
}

// lasts is how long a made network is.
const lasts = 10 * time.Minute

// wobble is a rate with log-normal noise of a spread, second by second, that
// remembers: half of it is what it was before.
func wobble(rnd *rand.Rand, rate, spread float64, latency time.Duration) (steps []Stretch) {
	noise := 0.0
	for range lasts / time.Second {
		noise = noise/2 + spread*rnd.NormFloat64()
		steps = append(steps, Stretch{time.Second, rate * math.Exp(noise), latency})
	}
	return steps
}

// mobile is a Markov chain over states of reception, with noise. A state lasts
// twelve seconds on average; its neighbours come next, and from the worst an
// outage of one to fifteen seconds.
func mobile(rnd *rand.Rand) (steps []Stretch) {
	states := []float64{3e5, 8e5, 2e6, 4e6, 8e6}
	at := rnd.IntN(len(states))
	for range lasts / time.Second {
		rate := states[at] * math.Exp(0.25*rnd.NormFloat64())
		latency := time.Duration(40+20*(len(states)-at)) * time.Millisecond
		steps = append(steps, Stretch{time.Second, rate, latency})
		if rnd.Float64() > 1.0/12 {
			continue
		}
		if at == 0 && rnd.IntN(2) == 0 {
			steps = append(steps, Stretch{time.Second * time.Duration(1+rnd.IntN(15)), 0, latency})
		}
		at = max(0, min(at+1-2*rnd.IntN(2), len(states)-1))
	}
	return steps
}
