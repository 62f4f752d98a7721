package main

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// A keyhole is an address of a street's provider at which it gives no sealed
// bytes, as if what carried them were gone.
type keyhole struct {
	url     string
	shop    atomic.Pointer[httputil.ReverseProxy]
	refused atomic.Int64 // requests for sealed bytes
}

func newKeyhole(t *testing.T) *keyhole {
	t.Helper()
	k := &keyhole{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/sealed/") {
			k.refused.Add(1)
			http.NotFound(w, r)
			return
		}
		k.shop.Load().ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	k.url = s.URL
	return k
}

// before stands before the provider of a street from now on, and waits until that
// answers.
func (k *keyhole) before(t *testing.T, s *street) {
	t.Helper()
	to, err := url.Parse(s.shop)
	if err != nil {
		t.Fatal(err)
	}
	k.shop.Store(httputil.NewSingleHostReverseProxy(to))
	resp, err := http.Get(s.shop + "/v1/provider")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	s.shop = k.url
}

// seedOf is where the provider of a street lets BitTorrent clients in.
func seedOf(t *testing.T, s *street) string {
	t.Helper()
	found := regexp.MustCompile(`"seeding","listen":"([^"]+)"`).FindStringSubmatch(s.logged.String())
	if found == nil {
		t.Fatal("the provider does not say where it seeds")
	}
	return found[1]
}

// A viewer whom nobody gives sealed bytes by HTTP gets them from the torrents that
// the provider seeds, if it may join swarms.
func TestSealedBytesFromTheSeed(t *testing.T) {
	s, k := newStreet(t), newKeyhole(t)
	s.sell(t, "--seed", "127.0.0.1:0", "--public-url", k.url)
	k.before(t, s)
	path := "/t/" + s.title.ID.String() + "/" + s.title.Manifest.Representations()[0].Segments[0].Path

	stop := s.play(t, "--title", s.title.ID.String())
	if code, _ := s.get(t, path); code == http.StatusOK {
		t.Fatal("a viewer who joins no swarm has a segment: the test shows nothing")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	bought, _, err := call(t, "ledger", "export", "bought", "--config", filepath.Join(s.folder, "htlcdash.toml"))
	if err != nil || strings.TrimSpace(bought) != "" || k.refused.Load() == 0 {
		t.Fatalf("bytes were asked for %d times, did not come, and yet this was bought: %s (%v)", k.refused.Load(), bought, err)
	}

	rep := s.title.Manifest.Representations()[0].ID
	for name, args := range map[string][]string{
		"a peer that is named":     {"--torrent-peers", seedOf(t, s)},
		"a peer that is announced": {"--torrents", "--title", s.title.ID.String()},
	} {
		stop := s.play(t, append(args, "--ledger", filepath.Join(t.TempDir(), "viewer.db"), "--cache", t.TempDir())...)
		if code, got := s.get(t, path); code != http.StatusOK || !bytes.Equal(got, s.title.Plain(rep, 0)) {
			t.Errorf("%s: status %d, %d bytes", name, code, len(got))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

// What is announced of a seed is where others reach it.
func TestWhereASeedIs(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4zero, Port: 6881}
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6881}
	for name, c := range map[string]struct {
		at     net.Addr
		urls   []string
		seeds  []string
		want   string
		refuse bool
	}{
		"as the provider":         {at: at, urls: []string{"https://films.example/a", "http://192.0.2.1"}, want: "films.example:6881"},
		"an address":              {at: at, urls: []string{"http://[2001:db8::1]:8402"}, want: "[2001:db8::1]:6881"},
		"elsewhere":               {at: here, urls: []string{"https://films.example"}, seeds: []string{"seed.example:51413"}, want: "seed.example:51413"},
		"for this machine only":   {at: here, urls: []string{"https://films.example"}},
		"all on this machine":     {at: here, urls: []string{"http://127.0.0.1:8402"}, want: "127.0.0.1:6881"},
		"nothing is announced":    {at: at},
		"no address":              {at: at, seeds: []string{"seed.example"}, refuse: true},
		"more than are announced": {at: at, seeds: []string{"a.example:1", "b.example:1", "c.example:1", "d.example:1", "e.example:1"}, refuse: true},
	} {
		var command serveCommand
		command.PublicURL, command.PublicSeeds = c.urls, c.seeds
		got, err := command.seedsAt(c.at)
		if strings.Join(got, " ") != c.want || (err != nil) != c.refuse {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}
