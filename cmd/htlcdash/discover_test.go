package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/config"
	"htlcdash/internal/directory"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// serveAt runs a provider of its own, with its own books, at an address.
func (s *street) serveAt(t *testing.T, name string, args ...string) (address string, node *sim.Node, stop func() error) {
	t.Helper()
	folder := t.TempDir()
	public, operator := door(t), door(t)
	address = "http://" + public.Addr().String()
	node = s.network.Node(name)
	s.network.Connect(s.viewer, node, 1_000_000*lightning.Sat, 0)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "SELF", address)
	}
	c := s.parse(t, append([]string{"serve", "--name", name, "--ledger", filepath.Join(folder, "books.db"), "--secret", filepath.Join(folder, "secret")}, args...)...)
	stop = s.open(t, func(ctx context.Context) error { return c.Serve.sell(ctx, public, operator, node, node.ID(), s.log) })
	return address, node, stop
}

// soon waits for ok.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(2 * time.Minute)
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// A viewer that knows a title's identity and the address of anybody who carries
// announcements finds a provider and plays. Who announces in mid-film joins, and
// sells on when the first has gone.
func TestFindByIdentity(t *testing.T) {
	s := newStreet(t)
	id := s.title.ID.String()
	files := t.TempDir()
	carrier, _, _ := s.serveAt(t, "carrier", "--files", files, "--titles-folder", t.TempDir())
	first, firstNode, stopFirst := s.serveAt(t, "first", "--public-url", "SELF", "--relays", carrier)
	soon(t, "the first provider has announced", func() bool { return s.carries(t, carrier, id, 1) })

	s.play(t, "--relays", carrier, "--title", id)
	s.watch(t, "v1")
	if !s.says(t, first) {
		t.Errorf("the log does not name %s", first)
	}
	second, secondNode, _ := s.serveAt(t, "second", "--public-url", "SELF", "--relays", carrier)
	soon(t, "the second provider joins", func() bool { return s.says(t, `"provider found","provider":"`+second) })
	if err := stopFirst(); err != nil {
		t.Error(err)
	}
	s.watch(t, "v0")
	s.network.Wait()
	for name, node := range map[string]*sim.Node{"first": firstNode, "second": secondNode} {
		balance, err := node.Balance(t.Context())
		if err != nil || balance.Outbound == 0 {
			t.Errorf("the %s provider has %v, %v", name, balance.Outbound, err)
		}
	}
	soon(t, "who stopped has withdrawn", func() bool { return s.carries(t, carrier, id, 1) })
}

// carries reports whether a provider tells of n sellers of a title.
func (s *street) carries(t *testing.T, address, id string, n int) bool {
	t.Helper()
	return len(s.announced(t, address, id)) == n
}

// announced is what a relay tells of who sells a title.
func (s *street) announced(t *testing.T, address, id string) []directory.Seller {
	t.Helper()
	title, err := htlcdash.ParseTitleID(id)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMarket(configOf(address), nil, s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer m.found.directory.Close()
	found, err := m.found.directory.Find(t.Context(), title)
	if err != nil && !errors.Is(err, htlcdash.ErrNotFound) {
		t.Fatal(err)
	}
	return found
}

func TestPlayByIdentity(t *testing.T) {
	s := newStreet(t)
	carrier, _, _ := s.serveAt(t, "carrier", "--files", t.TempDir(), "--titles-folder", t.TempDir())
	_, node, _ := s.serveAt(t, "first", "--public-url", "SELF", "--relays", carrier)
	id := s.title.ID.String()
	soon(t, "it is announced", func() bool { return s.carries(t, carrier, id, 1) })
	events, says, err := s.playTitle(t, t.Context(), id, "--proxy-relays", "ws"+strings.TrimPrefix(carrier, "http"))
	if err != nil || len(events) == 0 {
		t.Fatalf("%v\n%s", err, says)
	}
	s.network.Wait()
	if balance, err := node.Balance(t.Context()); err != nil || balance.Outbound == 0 {
		t.Errorf("the provider has %v, %v", balance.Outbound, err)
	}
	unknown := htlcdash.TitleID{9}.String()
	_, _, err = s.playTitle(t, t.Context(), unknown, "--proxy-relays", carrier)
	if !errors.Is(err, htlcdash.ErrNotFound) || !strings.Contains(err.Error(), "--proxy-relays") {
		t.Errorf("a title that nobody sells: %v", err)
	}
}

func TestAddressesThatCannotBe(t *testing.T) {
	s := newStreet(t)
	for _, args := range [][]string{{"--relays", "gopher://x"}, {"--public-url", "films"}} {
		c := s.parse(t, append([]string{"serve"}, args...)...)
		var usage usageError
		if err := c.Serve.sell(t.Context(), door(t), nil, s.provider, s.provider.ID(), s.log); !errors.As(err, &usage) {
			t.Errorf("serve %v: %v", args, err)
		}
	}
	for _, args := range [][]string{{"--relays", "gopher://x"}, {"--title", "bunny"}} {
		c := s.parse(t, append([]string{"proxy"}, args...)...)
		var usage usageError
		if err := c.Proxy.play(t.Context(), door(t), s.viewer, s.log); !errors.As(err, &usage) {
			t.Errorf("proxy %v: %v", args, err)
		}
	}
}

func configOf(relay string) config.ProxyProviders {
	return config.ProxyProviders{Relays: []string{relay}}
}

// shown takes the sealed bytes of the title out of its folder, and shows them at a
// web address, which counts who asks.
func (s *street) shown(t *testing.T) (address string, asked *atomic.Int64) {
	t.Helper()
	elsewhere := t.TempDir()
	if err := os.Rename(filepath.Join(s.title.Dir, htlcdash.SealedFolder), filepath.Join(elsewhere, htlcdash.SealedFolder)); err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	files := http.FileServer(http.Dir(elsewhere))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// A provider that has keys and no bytes announces where these lie: a viewer
// fetches them there.
func TestAnnouncedSources(t *testing.T) {
	s := newStreet(t)
	id := s.title.ID.String()
	bytesAt, asked := s.shown(t)
	carrier, _, _ := s.serveAt(t, "carrier", "--files", t.TempDir(), "--titles-folder", t.TempDir())
	s.serveAt(t, "first", "--public-url", "SELF", "--relays", carrier, "--public-sources", bytesAt, "--sources", t.TempDir())
	soon(t, "it is announced", func() bool { return s.carries(t, carrier, id, 1) })
	s.play(t, "--relays", carrier, "--title", id)
	s.watch(t, "v1")
	if n := len(s.title.Segments(t, "v1")); asked.Load() < int64(n) {
		t.Errorf("%d requests to the announced source for %d segments", asked.Load(), n)
	}
}

// A relay gets sealed bytes from a source that others announce, also once its
// upstream is gone; and is not led to itself.
func TestRelayUsesAnnouncedSources(t *testing.T) {
	s := newStreet(t)
	id := s.title.ID.String()
	bytesAt, asked := s.shown(t)
	carrier, _, _ := s.serveAt(t, "carrier", "--files", t.TempDir(), "--titles-folder", t.TempDir())
	origin, _, stop := s.serveAt(t, "origin", "--public-url", "SELF", "--relays", carrier, "--public-sources", bytesAt, "--sources", t.TempDir())
	soon(t, "it is announced", func() bool { return s.carries(t, carrier, id, 1) })
	relay, _, _ := s.serveAt(t, "relay", "--titles-folder", t.TempDir(), "--upstream", origin, "--upstream-mirror", t.TempDir(),
		"--public-url", "SELF", "--public-sources", "SELF/more", "--relays", carrier, "--cache", "")
	segs := s.title.Segments(t, "v1")
	gives := func(i int) bool {
		resp, err := http.Get(relay + "/" + htlcdash.SealedPath(segs[i].Sealed))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK && segs[i].SealedBlob().Is(b)
	}
	soon(t, "the relay has heard of the source", func() bool { return gives(0) })
	soon(t, "the relay is announced", func() bool { return s.carries(t, carrier, id, 2) })
	if err := stop(); err != nil {
		t.Error(err)
	}
	before := asked.Load()
	for i := range segs {
		if !gives(i) {
			t.Errorf("segment %d is not to be had without upstream", i)
		}
	}
	if asked.Load() == before {
		t.Error("the announced source was not asked")
	}
}

func TestOwnAddressesAreNoSources(t *testing.T) {
	d, sources := discovery{mine: []string{"https://Relay.example/films"}}, map[htlcdash.TitleID][]string{}
	id := htlcdash.TitleID{1}
	d.hearOf(sources, id, []string{"https://relay.example", "https://relay.example/films/x", "https://other.example"})
	if got := sources[id]; len(got) != 1 || got[0] != "https://other.example" {
		t.Errorf("sources: %v", got)
	}
}
