//go:build itest

package itest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/playertest"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// train is a network of 2 to 12 Mbit/s with a hole of two seconds.
var train = []replay.Stretch{
	{Duration: 5 * time.Second, Rate: 8e6, Latency: 30 * time.Millisecond},
	{Duration: 4 * time.Second, Rate: 4e6, Latency: 50 * time.Millisecond},
	{Duration: 2 * time.Second, Rate: 0, Latency: 50 * time.Millisecond},
	{Duration: 6 * time.Second, Rate: 12e6, Latency: 30 * time.Millisecond},
	{Duration: 5 * time.Second, Rate: 2e6, Latency: 80 * time.Millisecond},
}

// TestPlay plays the film with our own player through real nodes, over a shaped
// link, on half of what it costs at its best: all of it, as the simulator foretells,
// and what was paid is the same in the account, in both books and at the node.
func TestPlay(t *testing.T) {
	s := newStage(t, publishedFilm(t))
	provider := s.serve(t, freeAddress(t))
	film, err := title.OpenDir(filepath.Join(s.titles, filmName))
	if err != nil {
		t.Fatal(err)
	}
	cost, foretold := lightning.Msat(0), false
	for i := 0; i < playertest.Attempts && !foretold; i++ {
		name := fmt.Sprintf("play%d", i)
		foretold = s.play(t, name, provider, film)
		cost += spent(t, purchases(t, s.books(name)))
	}
	if !foretold && !playertest.Raced {
		t.Error("the simulator foretells something else")
	}
	if at := received(t, admin(t, s.network, "provider"), cost); at != cost {
		t.Errorf("the viewer's books say %v, the provider's node received %v", cost, at)
	}
	if at := sold(t, filepath.Join(s.dir, "provider.db")); at != cost {
		t.Errorf("the viewer's books say %v, the provider's %v", cost, at)
	}
}

// play plays with books and a cache of their own, and reports whether what was seen
// is what the simulator foretells.
func (s *stage) play(t *testing.T, name string, provider *process, film *title.Title) (foretold bool) {
	t.Helper()
	_, dearest := film.Manifest.PriceRange()
	budget := dearest / 2
	line := playertest.Shape(t, strings.TrimPrefix(provider.url, "http://"), train)
	const most = 12 * time.Second
	node, played := s.network.Node("viewer"), filepath.Join(s.dir, name+".mp4")
	cmd := exec.CommandContext(t.Context(), program(t), "play", filmName, "--proxy-providers", "http://"+line.Address, "--json", "-", "--quiet",
		"--budget", fmt.Sprintf("%d msat", budget), "--buffer", most.String(), "--write", played,
		"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--proxy-macaroon", s.buying,
		"--proxy-ledger", s.books(name), "--proxy-cache", filepath.Join(s.dir, name+".cache"))
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got, pay, late := playertest.Heard(t, out, line.Begin)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	if cost := spent(t, purchases(t, s.books(name))); cost != got.Spent || cost > budget {
		t.Errorf("%v by the account, %v by the books, %v were allowed", got.Spent, cost, budget)
	}
	count, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", played).Output()
	if n := strings.TrimSpace(string(count)); err != nil || n != fmt.Sprint(filmFrames) {
		t.Errorf("%s frames were written, want %d: %v", n, filmFrames, err)
	}
	ladder, err := film.Ladder(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	wish, err := agent.Profile("film")
	if err != nil {
		t.Fatal(err)
	}
	return playertest.Compare(t, got, ladder.Title, agent.New(ladder.Title, wish), train, replay.Setup{Budget: budget, Most: most, Pay: pay, Weights: wish.Weights}, late)
}
