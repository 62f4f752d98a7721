package replay_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/lightning"
)

// A puzzle is a case so small that all ways can be tried.
type puzzle struct {
	title *agent.Title
	setup replay.Setup
}

// newPuzzle draws one track or two, segments of odd lengths, groups that may
// differ by rung, a network with outages and latency that changes, small buffers,
// late keys, and a budget.
func newPuzzle(rnd *rand.Rand) puzzle {
	p := puzzle{title: &agent.Title{Name: "puzzle"}}
	if rnd.IntN(2) == 0 {
		p.title.Tracks = []agent.Track{newTrack(rnd, agent.Video, 3+rnd.IntN(4), 2+rnd.IntN(2))}
	} else {
		p.title.Tracks = []agent.Track{newTrack(rnd, agent.Video, 2+rnd.IntN(3), 2+rnd.IntN(2)), newTrack(rnd, agent.Audio, 1+rnd.IntN(3), 2)}
	}
	p.setup = replay.Setup{
		Link:    oddLink(rnd),
		Budget:  agent.NoLimit,
		Most:    time.Duration(1000+rnd.IntN(9000)) * time.Millisecond,
		Weights: agent.Weights{Switch: 2 * rnd.Float64(), Stall: 1 + 20*rnd.Float64(), Quality: map[agent.Kind]float64{agent.Audio: 0.5}},
	}
	if rnd.IntN(2) == 0 {
		p.setup.Pay = time.Duration(rnd.IntN(1500)) * time.Millisecond
	}
	return p
}

func newTrack(rnd *rand.Rand, kind agent.Kind, segments, rungs int) agent.Track {
	t := agent.Track{Kind: kind}
	even := rnd.IntN(2) == 0 // groups
	group, price := make([]int, rungs), make([]lightning.Msat, rungs)
	for i := range segments {
		seg := agent.Segment{Duration: time.Duration(500+rnd.IntN(3000)) * time.Millisecond}
		for r := range rungs {
			if i == 0 || !even && rnd.IntN(2) == 0 || even && i%3 == 0 {
				group[r], price[r] = i, lightning.Msat(rnd.IntN(3000)*(r+1))
			}
			seg.Rungs = append(seg.Rungs, agent.Rung{
				Size:    int64(20_000 + rnd.IntN(300_000*(r+1)*(r+1))),
				Price:   price[r],
				First:   group[r],
				Quality: 8 + 3*float64(r) + 2*rnd.NormFloat64(),
			})
		}
		t.Segments = append(t.Segments, seg)
	}
	return t
}

func oddLink(rnd *rand.Rand) *replay.Link {
	var steps []replay.Stretch
	latency := 50 * time.Millisecond
	odd := rnd.IntN(2) == 0
	for range 1 + rnd.IntN(8) {
		s := replay.Stretch{Duration: time.Duration(1+rnd.IntN(4000)) * time.Millisecond, Rate: 4e6 * rnd.Float64(), Latency: latency}
		if rnd.IntN(4) == 0 {
			s.Rate = 0
		}
		if odd {
			s.Latency = time.Duration(rnd.IntN(2000)) * time.Millisecond
		}
		steps = append(steps, s)
	}
	steps = append(steps, replay.Stretch{Duration: time.Second, Rate: 1e6, Latency: latency})
	l, err := replay.NewLink("odd", steps)
	if err != nil {
		panic(err)
	}
	return l
}

// ways replays all rung sequences, and calls with each result.
func (p puzzle) ways(t *testing.T, s replay.Setup, each func(replay.Result)) {
	t.Helper()
	var rungs [][]int
	for _, track := range p.title.Tracks {
		rungs = append(rungs, make([]int, len(track.Segments)))
	}
	for {
		r, err := replay.Run(p.title, replay.Plan{Rungs: rungs}, s)
		if err != nil {
			t.Fatal(err)
		}
		each(r)
		if !p.count(rungs) {
			return
		}
	}
}

// count changes rungs to the next ones, if there are any.
func (p puzzle) count(rungs [][]int) bool {
	for k, track := range p.title.Tracks {
		for i, s := range track.Segments {
			if rungs[k][i]++; rungs[k][i] < len(s.Rungs) {
				return true
			}
			rungs[k][i] = 0
		}
	}
	return false
}

// restless waits, and gives up, as it likes.
type restless struct{ rnd *rand.Rand }

func (r restless) Decide(agent.State) agent.Decision {
	d := agent.Decision{Rung: r.rnd.IntN(2)}
	if r.rnd.IntN(3) == 0 {
		d.Wait = time.Duration(r.rnd.IntN(2000)) * time.Millisecond
	}
	return d
}

func (r restless) Abandon(agent.State, agent.Progress) (int, bool) {
	return r.rnd.IntN(2), r.rnd.IntN(6) == 0
}

// Whatever is tried, it is not above the bound; and what is said to be possible
// is.
func TestBestIsABound(t *testing.T) {
	var gaps, loose []float64
	for seed := range uint64(250) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		p := newPuzzle(rnd)
		most, dearest := math.Inf(-1), lightning.Msat(0)
		p.ways(t, p.setup, func(r replay.Result) {
			most, dearest = max(most, r.Utility), max(dearest, r.Spent)
		})
		gaps = append(gaps, p.check(t, seed, "no budget", p.setup, most))

		poor := p.setup
		poor.Budget = cheapest(t, p)
		poor.Budget += (dearest - poor.Budget) * lightning.Msat(1+rnd.IntN(9)) / 10
		most = math.Inf(-1)
		p.ways(t, poor, func(r replay.Result) {
			most = max(most, r.Utility)
			if r.Spent > poor.Budget {
				t.Fatalf("seed %d: spent %v of %v", seed, r.Spent, poor.Budget)
			}
		})
		for range 30 {
			r, err := replay.Run(p.title, restless{rnd}, poor)
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, r.Utility)
		}
		loose = append(loose, p.check(t, seed, "a budget", poor, most))
	}
	slices.Sort(gaps)
	slices.Sort(loose)
	t.Logf("without a budget the bound is above the best by %.3f, 90 %% of the cases by %.3f, at most by %.3f (decibel)",
		gaps[len(gaps)/2], gaps[len(gaps)*9/10], gaps[len(gaps)-1])
	t.Logf("with a budget by %.3f, 90 %% of the cases by %.3f", loose[len(loose)/2], loose[len(loose)*9/10])
	if gaps[len(gaps)/2] > 0.1 {
		t.Error("without a budget the bound is loose")
	}
}

// cheapest is what the cheapest way costs.
func cheapest(t *testing.T, p puzzle) lightning.Msat {
	t.Helper()
	s := p.setup
	s.Budget = 0
	for {
		if _, err := replay.Best(p.title, s); !errors.Is(err, replay.ErrBudget) {
			return s.Budget
		}
		s.Budget += 50
	}
}

// check bounds a case, and returns by how much the bound is above the most.
func (p puzzle) check(t *testing.T, seed uint64, name string, s replay.Setup, most float64) float64 {
	t.Helper()
	b, err := replay.Best(p.title, s)
	if err != nil {
		t.Fatalf("seed %d, %s: %v", seed, name, err)
	}
	if b.Upper < most-1e-9 {
		t.Errorf("seed %d, %s: %v is possible, the bound says %v", seed, name, most, b.Upper)
	}
	again, err := replay.Run(p.title, b.Plan, s)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(again) != fmt.Sprint(b.Feasible) {
		t.Errorf("seed %d, %s: the plan gives\n%+v\nnot\n%+v", seed, name, again, b.Feasible)
	}
	if again.Utility > b.Upper || again.Utility > most+1e-9 && s.Budget == agent.NoLimit && b.Plan.Waits == nil {
		t.Errorf("seed %d, %s: the plan gives %v, all ways at most %v, the bound is %v", seed, name, again.Utility, most, b.Upper)
	}
	return b.Upper - max(most, again.Utility)
}
