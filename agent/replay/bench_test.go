package replay_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/lightning"
)

// film is n segments of 2 s at five rungs, in scenes of 24 s that are easy or
// hard, bright or dark.
func film(n int) *agent.Title {
	rnd := rand.New(rand.NewPCG(1, 1))
	t := agent.Track{Kind: agent.Video}
	size, gain := 1.0, 1.0
	for i := range n {
		if i%12 == 0 {
			size, gain = math.Exp(0.4*rnd.NormFloat64()), 0.5+rnd.Float64()
		}
		seg := agent.Segment{Duration: 2 * time.Second}
		for r, mbit := range []float64{0.3, 0.75, 1.5, 3, 6} {
			seg.Rungs = append(seg.Rungs, agent.Rung{
				Size:    int64(mbit * 2e6 / 8 * size * math.Exp(0.15*rnd.NormFloat64())),
				Price:   lightning.Msat(2000 * mbit),
				First:   i,
				Quality: 10 + gain*float64(2*r) + 0.2*rnd.NormFloat64(),
			})
		}
		t.Segments = append(t.Segments, seg)
	}
	return &agent.Title{Name: "film", Tracks: []agent.Track{t}}
}

// An hour of film, by what players do.
func BenchmarkRun(b *testing.B) {
	title := film(1800)
	s := replay.Setup{Link: replay.Synthetic(1, replay.Mobile), Budget: 1800 * 12000 / 3}
	for _, name := range agent.Rules() {
		p, err := agent.Rule(name, title, agent.Standard)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := replay.Run(title, p, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Five minutes of film, at a third of the price of the best rung. It reports how
// near the plan comes to the bound.
func BenchmarkBest(b *testing.B) {
	title := film(150)
	for _, kind := range []string{replay.Fiber, replay.Steady, replay.Mobile, replay.Slow} {
		s := replay.Setup{Link: replay.Synthetic(1, kind), Budget: 150 * 12000 / 3}
		b.Run(kind, func(b *testing.B) {
			var bound replay.Bound
			for b.Loop() {
				var err error
				if bound, err = replay.Best(title, s); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(100*bound.Feasible.Utility/bound.Upper, "%ofbound")
		})
	}
}

// Films of a length that nobody can try all ways of: what is possible lies
// within a hundredth of the bound, and no rule of today's players above it.
func TestBestIsTight(t *testing.T) {
	title := film(90)
	for _, kind := range []string{replay.Fiber, replay.Steady, replay.Mobile, replay.Slow} {
		for _, budget := range []lightning.Msat{agent.NoLimit, 90 * 12000 / 2, 90 * 12000 / 5} {
			s := replay.Setup{Link: replay.Synthetic(2, kind), Budget: budget, Pay: 100 * time.Millisecond}
			b, err := replay.Best(title, s)
			if err != nil {
				t.Fatal(err)
			}
			if gap := b.Upper - b.Feasible.Utility; gap > 0.01*math.Abs(b.Upper) || b.Feasible.Spent > budget {
				t.Errorf("%s, %v: the plan gives %.1f of at most %.1f, and spends %v", s.Link.Name, budget, b.Feasible.Utility, b.Upper, b.Feasible.Spent)
			}
			for _, name := range agent.Rules() {
				p, err := agent.Rule(name, title, agent.Standard)
				if err != nil {
					t.Fatal(err)
				}
				if r, err := replay.Run(title, p, s); err != nil || r.Utility > b.Upper {
					t.Errorf("%s, %v: %s gives %.1f (%v), the bound is %.1f", s.Link.Name, budget, name, r.Utility, err, b.Upper)
				}
			}
		}
	}
}
