package replay_test

import (
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/lightning"
)

type always int

func (a always) Decide(agent.State) agent.Decision { return agent.Decision{Rung: int(a)} }

// twoRungs has n segments of 2 s, 100 kB and 1 MB.
func twoRungs(n int) *agent.Title {
	t := agent.Track{Kind: agent.Video}
	for i := range n {
		t.Segments = append(t.Segments, agent.Segment{Duration: 2 * time.Second, Rungs: []agent.Rung{
			{ID: "low", Size: 100_000, Price: 1000, First: i, Quality: 8},
			{ID: "high", Size: 1_000_000, Price: 5000, First: i, Quality: 15},
		}})
	}
	return &agent.Title{Name: "two rungs", Tracks: []agent.Track{t}}
}

func flat(t *testing.T, rate float64) *replay.Link {
	t.Helper()
	l, err := replay.NewLink("flat", []replay.Stretch{{Duration: time.Minute, Rate: rate, Latency: 100 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRunOnAFlatLink(t *testing.T) {
	for _, tt := range []struct {
		name   string
		rung   always
		rate   float64
		budget lightning.Msat
		want   replay.Result
	}{
		// 100 kB at 8 Mbit/s: 0.1 s, after 0.1 s
		{"low, fast", 0, 8e6, agent.NoLimit, replay.Result{Utility: 10*8 - 20*0.2, Quality: 8, Start: 200 * time.Millisecond, Spent: 10_000, Bytes: 1_000_000}},
		// 1 MB at 8 Mbit/s: 1 s, after 0.1 s
		{"high, fast", 1, 8e6, agent.NoLimit, replay.Result{Utility: 10*15 - 20*1.1, Quality: 15, Start: 1100 * time.Millisecond, Spent: 50_000, Bytes: 10_000_000}},
		// 1 MB at 2 Mbit/s: 4 s, after 0.1 s, for 2 s of film: nine stalls of 2.1 s
		{"high, slow", 1, 2e6, agent.NoLimit, replay.Result{Utility: 10*15 - 20*(4.1+9*2.1), Quality: 15, Start: 4100 * time.Millisecond, Stall: 18900 * time.Millisecond, Stalls: 9, Spent: 50_000, Bytes: 10_000_000}},
		// four high ones, then the money is for low ones
		{"high, poor", 1, 8e6, 26_000, replay.Result{Utility: 4*15 + 6*8 - 7 - 20*1.1, Quality: 10.8, Changes: 7, Switches: 1, Start: 1100 * time.Millisecond, Spent: 26_000, Bytes: 4_600_000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := replay.Run(twoRungs(10), tt.rung, replay.Setup{Link: flat(t, tt.rate), Budget: tt.budget})
			if err != nil {
				t.Fatal(err)
			}
			if d := got.Utility - tt.want.Utility; d > 1e-6 || d < -1e-6 {
				t.Errorf("utility %v, want %v", got.Utility, tt.want.Utility)
			}
			if d := got.Quality - tt.want.Quality; d > 1e-6 || d < -1e-6 {
				t.Errorf("quality %v, want %v", got.Quality, tt.want.Quality)
			}
			if got.Start != tt.want.Start || got.Stall != tt.want.Stall || got.Stalls != tt.want.Stalls || got.Spent != tt.want.Spent || got.Bytes != tt.want.Bytes || got.Changes != tt.want.Changes || got.Switches != tt.want.Switches {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}
