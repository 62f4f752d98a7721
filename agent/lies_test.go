package agent_test

import (
	"slices"
	"testing"

	"htlcdash/agent"
	"htlcdash/agent/replay"
)

// lied is the film as its publisher tells of it; what is seen stays what it is.
func lied(t *agent.Title, lie func(rung, rungs int, quality float64) float64) *agent.Title {
	out := &agent.Title{Name: t.Name}
	for _, track := range t.Tracks {
		told := agent.Track{Kind: track.Kind}
		for _, s := range track.Segments {
			rungs := slices.Clone(s.Rungs)
			for r := range rungs {
				rungs[r].Quality = lie(r, len(rungs), rungs[r].Quality)
			}
			s.Rungs = rungs
			told.Segments = append(told.Segments, s)
		}
		out.Tracks = append(out.Tracks, told)
	}
	return out
}

// A publisher that lies about quality gets the money that was allowed, and no
// more; the film is played to its end, and in no better rungs than are allowed.
func TestPublisherThatLiesAboutQuality(t *testing.T) {
	const most = 655.35 // decibel that a seal list can tell
	honest := film(90)
	least := price(honest, 0)
	for _, tt := range []struct {
		name  string
		lie   func(rung, rungs int, quality float64) float64
		least bool // it only makes the viewer spend less
	}{
		{"flattered", func(r, _ int, q float64) float64 { return q + float64(10*r) }, false},
		{"turned over", func(r, _ int, _ float64) float64 { return float64(20 - r) }, true},
		{"all alike", func(int, int, float64) float64 { return 12 }, true},
		{"the best is beyond all", func(r, n int, _ float64) float64 {
			if r == n-1 {
				return most
			}
			return 0.01
		}, false},
		{"every rung is beyond all", func(r, n int, _ float64) float64 { return most - float64(n-r) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told := lied(honest, tt.lie)
			for _, kind := range []string{replay.Steady, replay.Mobile, replay.Slow} {
				for seed := range uint64(2) {
					setup := replay.Setup{Link: replay.Synthetic(seed, kind), Budget: price(honest, -1) / 3}
					r := play(t, told, agent.New(told, agent.Preferences{}), setup) // no more than allowed
					for k, track := range told.Tracks {
						if len(r.Rungs[k]) != len(track.Segments) {
							t.Errorf("%s: track %d ends after %d segments of %d", kind, k, len(r.Rungs[k]), len(track.Segments))
						}
					}
					if tt.least && r.Spent != least {
						t.Errorf("%s: %v spent, the lowest rungs cost %v", kind, r.Spent, least)
					}
					// What the viewer allows at most holds whatever is said.
					r = play(t, told, agent.New(told, agent.Preferences{MaxHeight: 480}), setup)
					if best := slices.Max(r.Rungs[0]); best > 2 {
						t.Errorf("%s: rung %d was bought, of at most 480 lines", kind, best)
					}
				}
			}
		})
	}
}
