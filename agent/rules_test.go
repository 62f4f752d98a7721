package agent_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"htlcdash/agent"
)

// ladder is a film of n segments of 2 s at bit rates, whose quality is given.
func ladder(n int, mbit, quality []float64) *agent.Title {
	t := agent.Track{Kind: agent.Video}
	for i := range n {
		seg := agent.Segment{Duration: 2 * time.Second}
		for r, rate := range mbit {
			seg.Rungs = append(seg.Rungs, agent.Rung{Size: int64(rate * 2e6 / 8), Price: 1000, First: i, Quality: quality[r]})
		}
		t.Segments = append(t.Segments, seg)
	}
	return &agent.Title{Tracks: []agent.Track{t}}
}

func three(n int) *agent.Title { return ladder(n, []float64{0.5, 1, 4}, []float64{10, 13, 17}) }

// at is a state before segment 10, after downloads of 1 MB at bit rates.
func at(buffer time.Duration, last int, mbit ...float64) agent.State {
	s := agent.State{
		Next: []int{10}, Last: []int{last}, Buffer: []time.Duration{buffer}, Most: 20 * time.Second,
		Playing: true, Left: agent.NoLimit,
	}
	for _, rate := range mbit {
		s.Past = append(s.Past, agent.Download{Took: time.Duration(8 / rate * 1e9), Size: 1e6})
	}
	return s
}

func TestRulesDecide(t *testing.T) {
	// a rung that is worse than the one below it, and dearer
	still := ladder(100, []float64{0.5, 1, 4}, []float64{17, 17, 16.9})
	for _, tt := range []struct {
		name, rule string
		title      *agent.Title
		state      agent.State
		want       int
	}{
		{"the highest there is", "highest", three(100), at(0, 0), 2},
		{"fixed, and there is none so high", "fixed-9", three(100), at(0, 0), 2},
		{"the lowest", "lowest", three(100), at(20*time.Second, 2, 100), 0},

		{"a rate, nothing known", "rate", three(100), at(10*time.Second, 1), 0},
		{"a rate, nine tenths of it suffice", "rate", three(100), at(0, 0, 4.5), 2},
		{"a rate, nine tenths of it do not", "rate", three(100), at(20*time.Second, 2, 4.4), 1},
		{"a rate, led by the slow one: 5/(4/8+1/0.8) is 2.9", "rate", three(100), at(0, 2, 8, 8, 8, 8, 0.8), 1},
		{"a rate, what was six downloads ago is forgotten", "rate", three(100), at(0, 2, 0.1, 8, 8, 8, 8, 8), 2},

		// V = 18/(ln 8 + 5) = 2.54; 0 over 1 until V*(5-ln 2) = 10.9 s, then 1
		// over 2 until V*(5 + (4 ln 2 - ln 8)/3) = 13.3 s
		{"bola, the buffer is empty", "bola", three(100), at(0, 2, 100), 0},
		{"bola, just before the second", "bola", three(100), at(10800*time.Millisecond, 0), 0},
		{"bola, the second", "bola", three(100), at(11100*time.Millisecond, 2), 1},
		{"bola, just before the third", "bola", three(100), at(13200*time.Millisecond, 2), 1},
		{"bola, the third", "bola", three(100), at(13400*time.Millisecond, 0), 2},

		{"mpc, nothing known", "mpc", three(100), at(10*time.Second, 1), 0},
		{"mpc, fast enough", "mpc", three(100), at(6*time.Second, 1, 8, 8, 8), 2},
		{"mpc, a stall costs more than the best rung is worth", "mpc", three(100), at(2*time.Second, 1, 1.2, 1.2), 1},
		{"mpc, the buffer pays for a slow network", "mpc", three(100), at(20*time.Second, 2, 2.4, 2.4), 2},
		{"mpc, it trusts a rate less that jumped: 3.4 and an error of 5", "mpc", three(100), at(2*time.Second, 1, 2, 12), 1},
		{"mpc, the same rate, steady", "mpc", three(100), at(3*time.Second, 1, 3.4, 3.4), 1},
		{"mpc, better may be worse", "mpc", still, at(20*time.Second, 1, 100, 100), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := agent.Rule(tt.rule, tt.title, agent.Standard)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Decide(tt.state); got.Rung != tt.want || got.Wait != 0 {
				t.Errorf("decided %+v, want rung %d at once", got, tt.want)
			}
		})
	}
}

func TestNoRule(t *testing.T) {
	for _, name := range []string{"", "fixed", "fixed-", "fixed--1", "fixed-1x", "BOLA"} {
		if _, err := agent.Rule(name, three(1), agent.Standard); !errors.Is(err, agent.ErrRule) {
			t.Errorf("%q gave error %v, want %v", name, err, agent.ErrRule)
		}
	}
	for _, name := range agent.Rules() {
		if _, err := agent.Rule(name, three(1), agent.Standard); err != nil {
			t.Errorf("%q is listed and gave %v", name, err)
		}
	}
}

// A second of sound between the segments of a film is mostly latency. It must
// neither make the network look slow nor be left out of what is spent.
func TestRulesOfTwoTracks(t *testing.T) {
	film := three(100)
	sound := ladder(100, []float64{0.1, 0.2}, []float64{10, 12})
	film.Tracks = append(film.Tracks, sound.Tracks[0])
	s := agent.State{
		Next: []int{10, 10}, Last: []int{2, 1}, Buffer: []time.Duration{8 * time.Second, 8 * time.Second},
		Most: 20 * time.Second, Playing: true, Left: agent.NoLimit,
	}
	for range 10 { // 1 MB in 1.6 s, then 25 kB in 150 ms: 4.7 Mbit/s together
		s.Past = append(s.Past, agent.Download{Took: 1600 * time.Millisecond, Size: 1e6}, agent.Download{Took: 150 * time.Millisecond, Size: 25e3})
	}
	p := agent.NewThroughput(film)
	if got := p.Decide(s).Rung; got != 2 {
		t.Errorf("0.9*4.7 - 0.2 is 4.02 Mbit/s, but rung %d was taken, want 2", got)
	}
	for i := range s.Past {
		s.Past[i].Took += s.Past[i].Took / 50
	}
	if got := p.Decide(s).Rung; got != 1 {
		t.Errorf("0.9*4.6 - 0.2 is less than 4 Mbit/s, but rung %d was taken, want 1", got)
	}
	if got := agent.NewRobustMPC(film, agent.Standard).Decide(s).Rung; got != 2 {
		t.Errorf("MPC took rung %d, want 2: the buffer carries it", got)
	}
}

// The search of RobustMPC leaves out much. What it finds is what trying all
// sequences finds.
func TestMPCSearchIsExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		title := ladder(14, make([]float64, 4), make([]float64, 4))
		for _, seg := range title.Tracks[0].Segments {
			for r := range seg.Rungs {
				seg.Rungs[r].Size = rnd.Int64N(2e6)
				seg.Rungs[r].Quality = 20 * rnd.Float64()
			}
		}
		rate := 0.5 + 4*rnd.Float64()
		s := at(time.Duration(rnd.Int64N(2e10)), 2, rate, rate)
		got := agent.NewRobustMPC(title, agent.Standard).Decide(s).Rung
		want, second := best(title, s, rate*1e6)
		if got != want && second > 1e-9 {
			t.Fatalf("case %d: took rung %d, want %d, which is better by %v", n, got, want, second)
		}
	}
}

// best tries all ways through the rest of a title, and says by how much the
// best first rung beats the next.
func best(t *agent.Title, s agent.State, rate float64) (rung int, lead float64) {
	segs := t.Tracks[0].Segments
	var try func(i int, before, buffer float64) float64
	step := func(i, r int, before, buffer float64) float64 {
		g := segs[i].Rungs[r]
		takes := float64(g.Size) * 8 / rate
		return g.Quality - math.Abs(g.Quality-before) - 20*max(0, takes-buffer) + try(i+1, g.Quality, min(20, max(0, buffer-takes)+2))
	}
	try = func(i int, before, buffer float64) float64 {
		if i == len(segs) {
			return 0
		}
		most := math.Inf(-1)
		for r := range segs[i].Rungs {
			most = max(most, step(i, r, before, buffer))
		}
		return most
	}
	first := s.Next[0]
	before, most := segs[first-1].Rungs[s.Last[0]].Quality, math.Inf(-1)
	for r := range segs[first].Rungs {
		switch v := step(first, r, before, s.Buffer[0].Seconds()); {
		case v > most:
			rung, most, lead = r, v, v-most
		default:
			lead = min(lead, most-v)
		}
	}
	return rung, lead
}

func BenchmarkRules(b *testing.B) {
	title := ladder(100, []float64{0.3, 0.6, 1.2, 2.4, 4.8, 9.6}, []float64{8, 10, 12, 14, 16, 18})
	s := at(9*time.Second, 3, 3, 4, 2, 3.5, 3, 3.2, 4, 4, 3, 3)
	for _, name := range agent.Rules() {
		p, err := agent.Rule(name, title, agent.Standard)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p.Decide(s)
			}
		})
	}
}
