package agent_test

import (
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// long is a film of two hours whose better rungs have keys for one segment and
// whose lower ones have keys for some.
func long() *agent.Title {
	title := &agent.Title{Tracks: []agent.Track{
		dear(3600, []int{8, 8, 4, 2, 1, 1}, 100, 200, 400, 800, 1500, 3000).Tracks[0],
		dear(3600, []int{8, 8}, 30, 60).Tracks[0],
	}}
	title.Tracks[1].Kind = agent.Audio
	for k := range title.Tracks {
		for i := range title.Tracks[k].Segments {
			s := &title.Tracks[k].Segments[i]
			s.Duration = 2 * time.Second
			for r := range s.Rungs {
				s.Rungs[r].Quality += float64(i*7%13) / 10 * float64(r)
			}
		}
	}
	return title
}

func BenchmarkLongFilm(b *testing.B) {
	title := long()
	s := agent.State{
		Next: []int{5, 5}, Last: []int{3, 1}, Buffer: make([]time.Duration, 2), Most: 12 * time.Second, Playing: true,
		Left: lightning.Msat(3600 * 1000),
	}
	film, err := agent.Profile("film")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("New", func(b *testing.B) {
		for b.Loop() {
			agent.New(title, film)
		}
	})
	b.Run("Menu", func(b *testing.B) {
		for b.Loop() {
			agent.NewMenu(title, s, film)
		}
	})
	b.Run("Outline", func(b *testing.B) {
		for b.Loop() {
			agent.NewOutline(title, s, film)
		}
	})
	b.Run("Floor", func(b *testing.B) {
		for b.Loop() {
			agent.NewFloor(title)
		}
	})
	b.Run("Decide", func(b *testing.B) {
		policy := agent.New(title, film)
		for b.Loop() {
			policy.Decide(s)
		}
	})
}
