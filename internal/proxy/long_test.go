package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"htlcdash/internal/proxy"
	"htlcdash/internal/publish"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// BenchmarkState is what a page that watches a long film costs each time that
// something changes: what was spent; and what is owned, with the purchase itself.
func BenchmarkState(b *testing.B) {
	reps := []titletest.Rep{
		{ID: "a0", Kind: "audio", Bandwidth: 64_000, Sizes: []int{40}, Price: 30},
		{ID: "a1", Kind: "audio", Bandwidth: 128_000, Sizes: []int{60}, Price: 60},
	}
	for i, id := range []string{"v0", "v1", "v2", "v3", "v4", "v5"} {
		reps = append(reps, titletest.Rep{ID: id, Kind: "video", Height: 180 * (i + 1), Sizes: []int{60 << i, 50 << i, 70 << i}, Price: lightning.Msat(100 << i)})
	}
	title := titletest.Make(b, titletest.Options{Segments: 3600, Reps: reps, Group: publish.Grouping{Auto: true}})
	s := newSpender(title)
	p, err := proxy.New(proxy.Config{Buyer: s})
	check(b, err)
	check(b, p.Add("film", title.Title))
	h := &house{p, s}
	h.account.Budget = 3600 * 700
	h.get("/t/film/manifest.mpd?all=1")
	for h.state(b).Agent.Why == nil {
		time.Sleep(10 * time.Millisecond) // the prices are read
	}
	b.Run("money", func(b *testing.B) {
		for b.Loop() {
			s.mu.Lock()
			s.account.Spent++
			s.mu.Unlock()
			h.state(b)
		}
	})
	b.Run("key", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			h.get(fmt.Sprintf("/t/film/v1/%d.m4s", i*16%3600+1)) // a group or more on
			h.state(b)
		}
	})
	check(b, h.Close())
}
