package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/ledger"
	"htlcdash/internal/nostr"
	"htlcdash/internal/survey"
	"htlcdash/lightning"
)

// claim announces a title at an address in the name of a key of one's own.
func (s *street) claim(t *testing.T, carrier string, addresses ...string) {
	t.Helper()
	key, err := htlcdash.NewProviderKey([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	for i, address := range addresses {
		id := s.title.ID
		id[0] ^= byte(i) // an announcement for each
		e, err := directory.Announcement{
			Title: id, At: now, Expires: now.Add(time.Hour), Addresses: []string{address},
			Publisher: s.title.Publisher, Name: s.name(), Factor: 1,
		}.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := nostr.NewClient("ws"+strings.TrimPrefix(carrier, "http")+"/v1/relay", nostr.ClientConfig{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var work sync.WaitGroup
		work.Go(func() { c.Run(ctx) })
		if err := c.Publish(ctx, e); err != nil {
			t.Error(err)
		}
		cancel()
		work.Wait()
	}
}

// The market shows who sells a title and for how much, without a node. Who is dead,
// shows another key than the one that announced it, or claims another's address is
// not taken for a seller.
func TestMarketIsShown(t *testing.T) {
	s := newStreet(t)
	id := s.title.ID.String()
	carrier, _, _ := s.serveAt(t, "carrier", "--files", t.TempDir(), "--titles-folder", t.TempDir())
	dear, _, _ := s.serveAt(t, "dear", "--public-url", "SELF", "--relays", carrier)
	cheap, _, _ := s.serveAt(t, "cheap", "--public-url", "SELF", "--relays", carrier, "--price-factor", "0.5")
	silent, _, _ := s.serveAt(t, "silent") // it sells, and announces nothing
	soon(t, "both are announced", func() bool { return s.carries(t, carrier, id, 2) })
	at, err := url.Parse(dear)
	if err != nil {
		t.Fatal(err)
	}
	mirror := httptest.NewServer(httputil.NewSingleHostReverseProxy(at))
	t.Cleanup(mirror.Close)
	s.claim(t, carrier, mirror.URL, dear)
	books, err := ledger.Open(filepath.Join(s.folder, "viewer.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := books.Ban(t.Context(), ledger.Ban{Provider: cheap, Reason: "it kept\x1b[2J money", At: time.Now(), Until: time.Now().Add(time.Hour), Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := books.Close(); err != nil {
		t.Fatal(err)
	}

	const dead = "http://127.0.0.1:1"
	args := []string{"market", "--config", filepath.Join(s.folder, "htlcdash.toml"), "--proxy-providers", dead + "," + silent, "--proxy-relays", carrier}
	out, progress, err := call(t, append(args, "--json")...)
	if err != nil {
		t.Fatal(err)
	}
	var r survey.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	low, high := s.title.Manifest.PriceRange()
	if len(r.Titles) != 1 || r.Titles[0].ID != s.title.ID || r.Titles[0].Title != "Dash" || len(r.Titles[0].Offers) != 3 {
		t.Fatalf("%+v", r)
	}
	for _, o := range r.Titles[0].Offers {
		p := r.Providers[o.Provider]
		factor, isPriced, state := lightning.Msat(2), true, "unknown"
		switch p.Address {
		case cheap:
			factor, state = 1, "banned"
		case silent:
			isPriced = false
		case dear:
		default:
			t.Errorf("%s sells", p.Address)
		}
		if o.Min != low*factor/2 || o.Max != high*factor/2 || o.Priced != isPriced || o.Expires.IsZero() == isPriced || p.Latency <= 0 || p.Standing.State != state {
			t.Errorf("%s: %+v, %+v", p.Address, o, p.Standing)
		}
	}
	left := map[string]string{}
	for _, p := range r.Providers {
		left[p.Address] = p.Error
	}
	if left[dead] == "" || !strings.Contains(left[mirror.URL], "another key") || left[dear] != "" {
		t.Errorf("left out: %v", left)
	}

	out, _, err = call(t, append(args, "dash")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{id, cheap, "at most ", "banned until", "it kept?[2J money", "new to you", "Left out:", "not the time that a key takes"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table does not say %q:\n%s", want, out)
		}
	}
	if !strings.Contains(progress, "asking providers") || strings.Contains(out, "asking providers") {
		t.Errorf("progress: %q", progress)
	}
	out, _, err = call(t, append(args, "nothing of the kind")...)
	if err != nil || !strings.Contains(out, "nobody who answers sells") {
		t.Errorf("%v: %s", err, out)
	}
	if _, _, err = call(t, "market", "--config", filepath.Join(s.folder, "htlcdash.toml")); err == nil || !strings.Contains(err.Error(), "--proxy-relays") {
		t.Errorf("nobody to ask: %v", err)
	}
}

// A title's id and one node of a table show who sells it.
func TestMarketByTheTable(t *testing.T) {
	s := newStreet(t)
	shop, _, _ := s.serveAt(t, "shop", "--dht", "127.0.0.1:0")
	at := s.logField(t, "in the distributed hash table", "listen")
	soon(t, "the table tells who sells it", func() bool {
		out, _, err := call(t, "market", s.title.ID.String(), "--config", filepath.Join(s.folder, "htlcdash.toml"), "--proxy-dht-bootstrap", at)
		return err == nil && strings.Contains(out, shop)
	})
}
