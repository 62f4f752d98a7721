package playertest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/player"
)

// Attempts is how often a test that is bound to real time may try: what it asserts
// holds on a machine that has the time, and one is enough to show it.
const Attempts = 3

// Compare holds what was played over a recorded network against what the simulator
// foretells of it. As good as that are a few networks that differ a little: a
// machine that does other things besides is never exact, and where a policy stands
// at a threshold a per cent leads it another way. At one of them it must be so that
// nine rungs of ten are alike, or the mean quality within half a dB; that it starts
// within 0.3 s and stands still within 0.5 s and a tenth of what is foretold.
//
// The first keys take longer than others, because credentials and offers come
// before them: they take more than those that the setup tells of by late.
func Compare(t testing.TB, got player.Result, film *agent.Title, policy agent.Policy, steps []replay.Stretch, s replay.Setup, late time.Duration) (agrees bool) {
	t.Helper()
	for _, other := range []struct {
		rate  float64
		later time.Duration
	}{{1, 0}, {0.98, 5 * time.Millisecond}, {0.95, 10 * time.Millisecond}, {0.9, 20 * time.Millisecond}, {1.02, 0}} {
		s.Link = NewLink(t, like(steps, other.rate, other.later)...)
		want, err := replay.Run(film, policy, s)
		if err != nil {
			t.Fatal(err)
		}
		want.Start += late
		t.Logf("%.0f %% of the rate, %v later: %s", 100*other.rate, other.later, difference(got, want))
		if near(got, want) {
			return true
		}
	}
	t.Logf("rungs %v", got.Rungs)
	return false
}

func like(steps []replay.Stretch, rate float64, later time.Duration) (out []replay.Stretch) {
	for _, s := range steps {
		out = append(out, replay.Stretch{Duration: s.Duration, Rate: rate * s.Rate, Latency: s.Latency + later})
	}
	return out
}

func near(got player.Result, want replay.Result) bool {
	return (alike(got.Rungs, want.Rungs) >= 0.9 || math.Abs(got.Quality-want.Quality) <= 0.5) &&
		(got.Start-want.Start).Abs() <= 300*time.Millisecond &&
		(got.Stall-want.Stall).Abs() <= 500*time.Millisecond+want.Stall/10
}

// alike is the share of rungs that are the same.
func alike(got, want [][]int) float64 {
	same, all := 0, 0
	for k := range want {
		for i, rung := range want[k] {
			all++
			if i < len(got[k]) && got[k][i] == rung {
				same++
			}
		}
	}
	return float64(same) / float64(all)
}

func difference(got player.Result, want replay.Result) string {
	return fmt.Sprintf("%.0f %% of the rungs alike; quality %.2f dB, foretold %.2f; start %v, foretold %v; stall %v, foretold %v; utility %.1f, foretold %.1f; %v spent, foretold %v",
		100*alike(got.Rungs, want.Rungs), got.Quality, want.Quality, got.Start.Round(time.Millisecond), want.Start.Round(time.Millisecond),
		got.Stall.Round(time.Millisecond), want.Stall.Round(time.Millisecond), got.Utility, want.Utility, got.Spent, want.Spent)
}
