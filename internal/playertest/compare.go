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
// nine rungs of ten are alike, or the quality from segment to segment within 1 dB on
// average, and half a dB over all; that it starts within 0.3 s and stands still within
// 0.5 s and a tenth of what is foretold; and that bytes and money are within a fifth.
//
// Whatever the network, all segments are played, and the bytes are those of the rungs
// that were, besides those of downloads that were given up.
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
		t.Logf("%.0f %% of the rate, %v later: %s", 100*other.rate, other.later, difference(got, want, film))
		if near(got, want, film) {
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

func near(got player.Result, want replay.Result, film *agent.Title) bool {
	byRung := apart(got.Rungs, want.Rungs, film)
	return whole(got, film) &&
		(alike(got.Rungs, want.Rungs) >= 0.9 || byRung <= 1 && math.Abs(got.Quality-want.Quality) <= 0.5) &&
		(got.Start-want.Start).Abs() <= 300*time.Millisecond &&
		(got.Stall-want.Stall).Abs() <= 500*time.Millisecond+want.Stall/10 &&
		within(float64(got.Bytes), float64(want.Bytes), 0.2) && within(float64(got.Spent), float64(want.Spent), 0.2)
}

func within(got, want, share float64) bool { return math.Abs(got-want) <= share*want }

// whole reports whether each segment was played, and the bytes are theirs.
func whole(got player.Result, film *agent.Title) bool {
	if len(got.Rungs) != len(film.Tracks) {
		return false
	}
	size := int64(0)
	for k, track := range film.Tracks {
		if len(got.Rungs[k]) != len(track.Segments) {
			return false
		}
		for i, rung := range got.Rungs[k] {
			if rung < 0 || rung >= len(track.Segments[i].Rungs) {
				return false
			}
			size += track.Segments[i].Rungs[rung].Size
		}
	}
	return within(float64(got.Bytes-got.Wasted), float64(size), 0.01)
}

// alike is the share of rungs that are the same.
func alike(got, want [][]int) float64 {
	same, all := 0, 0
	for k := range want {
		for i, rung := range want[k] {
			all++
			if k < len(got) && i < len(got[k]) && got[k][i] == rung {
				same++
			}
		}
	}
	return float64(same) / float64(all)
}

// apart is by how many decibels segments of the first track differ, on average.
func apart(got, want [][]int, film *agent.Title) (sum float64) {
	for i, s := range film.Tracks[0].Segments {
		if len(got) == 0 || i >= len(got[0]) || got[0][i] >= len(s.Rungs) {
			return math.Inf(1)
		}
		sum += math.Abs(s.Rungs[got[0][i]].Quality - s.Rungs[want[0][i]].Quality)
	}
	return sum / float64(len(film.Tracks[0].Segments))
}

func difference(got player.Result, want replay.Result, film *agent.Title) string {
	return fmt.Sprintf("%.0f %% of the rungs alike, %.2f dB from segment to segment; quality %.2f dB, foretold %.2f; start %v, foretold %v; stall %v, foretold %v; %d kB, %d of them for nothing, foretold %d and %d; utility %.1f, foretold %.1f; %v spent, foretold %v",
		100*alike(got.Rungs, want.Rungs), apart(got.Rungs, want.Rungs, film), got.Quality, want.Quality, got.Start.Round(time.Millisecond), want.Start.Round(time.Millisecond),
		got.Stall.Round(time.Millisecond), want.Stall.Round(time.Millisecond), got.Bytes/1000, got.Wasted/1000, want.Bytes/1000, want.Wasted/1000,
		got.Utility, want.Utility, got.Spent, want.Spent)
}
