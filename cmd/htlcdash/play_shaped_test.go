package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/playertest"
	"htlcdash/internal/publish"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// beginner begins something at the first line that is written through it.
type beginner struct {
	io.Writer
	begin func()
}

func (b beginner) Write(p []byte) (int, error) {
	b.begin()
	return b.Writer.Write(p)
}

// telephone is a network of 2 to 9 Mbit/s that dies for a second.
var telephone = []replay.Stretch{
	{Duration: 3 * time.Second, Rate: 6e6, Latency: 20 * time.Millisecond},
	{Duration: 2 * time.Second, Rate: 3e6, Latency: 40 * time.Millisecond},
	{Duration: 4 * time.Second, Rate: 9e6, Latency: 20 * time.Millisecond},
	{Duration: 3 * time.Second, Rate: 2e6, Latency: 40 * time.Millisecond},
	{Duration: 1 * time.Second, Rate: 0, Latency: 40 * time.Millisecond},
	{Duration: 4 * time.Second, Rate: 7e6, Latency: 20 * time.Millisecond},
}

// A film that is bought from a real provider, behind a shaped link and over
// Lightning hops that take their time, on half of what it costs at its best, is
// what the simulator foretells; and all books agree on what it cost.
func TestPlayBoughtOverAShapedLink(t *testing.T) {
	const seconds = 24
	rep := func(id string, height int, rate float64, price lightning.Msat) titletest.Rep {
		sizes := make([]int, 7)
		for i := range sizes {
			sizes[i] = int(rate / 8 * (0.7 + 0.1*float64(i*5%7)))
		}
		return titletest.Rep{ID: id, Kind: "video", Height: height, Sizes: sizes, Price: price}
	}
	film := titletest.Make(t, titletest.Options{
		Segments: seconds,
		Group:    publish.Grouping{Length: 2 * time.Second},
		Reps: []titletest.Rep{
			rep("v0", 240, 5e5, 1_000), rep("v1", 360, 1.2e6, 2_000), rep("v2", 540, 2.5e6, 4_000), rep("v3", 720, 5e6, 8_000),
			{ID: "a0", Kind: "audio", Sizes: []int{16_000}, Price: 500},
		},
	})
	for range playertest.Attempts {
		if playBought(t, film) || playertest.Raced {
			return
		}
	}
	t.Error("the simulator foretells something else")
}

// playBought plays once, and reports whether that was foretold.
func playBought(t *testing.T, film *titletest.Title) (foretold bool) {
	t.Helper()
	s := streetFor(t, film)
	s.network = sim.New(sim.Config{Latency: 30 * time.Millisecond})
	s.viewer, s.provider = s.network.Node("viewer"), s.network.Node("provider")
	s.network.Connect(s.viewer, s.provider, 1_000_000*lightning.Sat, 0)
	s.sell(t)
	line := playertest.Shape(t, strings.TrimPrefix(s.shop, "http://"), telephone)
	s.shop = "http://" + line.Address

	_, dearest := film.Manifest.PriceRange()
	budget := dearest / 2
	c := s.parse(t, "play", s.name(), "--json", "-", "--budget", fmt.Sprintf("%d msat", budget), "--buffer", "8s")
	var out, says bytes.Buffer
	if err := c.Play.playSold(t.Context(), terminal{out: beginner{&out, line.Begin}, err: &says}, s.viewer, s.log); err != nil {
		t.Fatal(err, says.String())
	}
	got, pay, late := playertest.Heard(t, &out, func() {})
	ladder, err := film.Ladder(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	wish, err := agent.Profile("film")
	if err != nil {
		t.Fatal(err)
	}
	foretold = playertest.Compare(t, got, ladder.Title, agent.New(ladder.Title, wish), telephone, replay.Setup{Budget: budget, Most: 8 * time.Second, Pay: pay, Weights: wish.Weights}, late)
	s.network.Wait()
	bought, paid := s.sum(t, "bought", "amount_msat")
	sold, received := s.sum(t, "sold", "received_msat")
	if paid != got.Spent || received != got.Spent || bought != sold || got.Spent > budget {
		t.Errorf("%v by what was said, %v for %d keys by the viewer's books, %v for %d by the provider's; %v was allowed", got.Spent, paid, bought, received, sold, budget)
	}
	return foretold
}
