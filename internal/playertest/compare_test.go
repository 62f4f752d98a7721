package playertest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/player"
	"htlcdash/internal/playertest"
	"htlcdash/lightning"
)

// up takes one rung after the other, whatever comes.
type up struct{}

func (up) Decide(s agent.State) agent.Decision {
	return agent.Decision{Rung: (s.Next[0] / 5) % 4}
}

// A player is told from one that plays otherwise, in each single point.
func TestCompareTellsWrongPlayers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	film := &agent.Title{Name: "film", Tracks: []agent.Track{{Kind: agent.Video}}}
	for i := range 40 {
		s := agent.Segment{Duration: time.Second}
		for j, rate := range []float64{3e5, 8e5, 1.8e6, 3.5e6} {
			size := int64(rate / 8 * (0.7 + 0.6*r.Float64()))
			s.Rungs = append(s.Rungs, agent.Rung{ID: fmt.Sprint(j), First: i, Size: size, Price: lightning.Msat(size / 100), Quality: 8 + 2*float64(j)})
		}
		film.Tracks[0].Segments = append(film.Tracks[0].Segments, s)
	}
	steps := []replay.Stretch{{Duration: 5 * time.Second, Rate: 3e6, Latency: 20 * time.Millisecond}, {Duration: 6 * time.Second, Rate: 5e5, Latency: 20 * time.Millisecond}}
	setup := replay.Setup{Budget: agent.NoLimit, Most: 10 * time.Second, Link: playertest.NewLink(t, steps...)}
	right, err := replay.Run(film, up{}, setup)
	if err != nil {
		t.Fatal(err)
	}
	order := func(change func([]int)) func(*player.Result) {
		return func(got *player.Result) {
			change(got.Rungs[0])
			wasted := got.Wasted
			got.Bytes = wasted
			for i, rung := range got.Rungs[0] {
				got.Bytes += film.Tracks[0].Segments[i].Rungs[rung].Size
			}
			got.Score(film, agent.Standard)
		}
	}
	for _, tt := range []struct {
		name  string
		wrong func(got *player.Result)
		good  bool
	}{
		{"right", func(*player.Result) {}, true},
		{"a little late", func(got *player.Result) { got.Start += 100 * time.Millisecond; got.Stall += 300 * time.Millisecond }, true},
		{"one rung is another", order(func(r []int) { r[7] = 0 }), true},
		{"rungs in another order", order(slices.Reverse[[]int]), false},
		{"rungs one block late", order(func(r []int) { copy(r[5:], slices.Clone(r)); copy(r, []int{3, 3, 3, 3, 3}) }), false},
		{"all rungs the lowest", order(func(r []int) { clear(r) }), false},
		{"a segment is missing", func(got *player.Result) { got.Rungs[0] = got.Rungs[0][1:] }, false},
		{"a track is missing", func(got *player.Result) { got.Rungs = nil }, false},
		{"a rung that is none", func(got *player.Result) { got.Rungs[0][3] = 9 }, false},
		{"bytes that no segment has", func(got *player.Result) { got.Bytes += got.Bytes / 20 }, false},
		{"bytes that are not counted", func(got *player.Result) { got.Bytes -= got.Bytes / 20 }, false},
		{"bytes for nothing", func(got *player.Result) { got.Bytes += got.Bytes / 2; got.Wasted += got.Bytes / 3 }, false},
		{"it stands still for longer", func(got *player.Result) { got.Stall *= 2 }, false},
		{"it never stands still", func(got *player.Result) { got.Stall = 0 }, false},
		{"it starts late", func(got *player.Result) { got.Start += time.Second }, false},
		{"it pays twice", func(got *player.Result) { got.Spent *= 2 }, false},
		{"it pays nothing", func(got *player.Result) { got.Spent = 0 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := player.Result{Result: right}
			got.Rungs = [][]int{slices.Clone(right.Rungs[0])}
			tt.wrong(&got)
			if ok := playertest.Compare(t, got, film, up{}, steps, setup, 0); ok != tt.good {
				t.Errorf("it is as foretold: %v, want %v", ok, tt.good)
			}
		})
	}
	steady := []replay.Stretch{{Duration: time.Minute, Rate: 9e6, Latency: 20 * time.Millisecond}}
	setup.Link = playertest.NewLink(t, steady...)
	smooth, err := replay.Run(film, up{}, setup)
	if err != nil || smooth.Stall > 0 {
		t.Fatal(smooth.Stall, err)
	}
	got := player.Result{Result: smooth}
	if got.Stall = time.Second; playertest.Compare(t, got, film, up{}, steady, setup, 0) {
		t.Error("it stood still for a second where it need not, and is as foretold")
	}
	if right.Stall < 2*time.Second {
		t.Errorf("a dull network: it stands still for %v", right.Stall)
	}
}
