package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/exchange"
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
	cheap, _, _ := s.serveAt(t, "cheap", "--public-url", "SELF", "--relays", carrier, "--price-factor", "0.5", "--byte-price", "900 sat")
	silent, _, _ := s.serveAt(t, "silent", "--price-factor", "0.75") // it sells, and announces nothing
	folder := t.TempDir()
	if err := os.CopyFS(filepath.Join(folder, filepath.Base(s.title.Dir)), os.DirFS(s.title.Dir)); err != nil {
		t.Fatal(err)
	}
	cart, _, _ := s.serveAt(t, "cart", "--titles-folder", folder, "--byte-price", "1 sat", "--public-url", "SELF", "--relays", carrier)
	soon(t, "three are announced", func() bool { return s.carries(t, carrier, id, 3) })
	for _, a := range s.announced(t, carrier, id) {
		if want := map[string]lightning.Msat{dear: 0, cheap: 900 * lightning.Sat, cart: lightning.Sat}[a.Address]; a.PerMiB != want {
			t.Errorf("%s announces %v a MiB, want %v", a.Address, a.PerMiB, want)
		}
	}
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
	if len(r.Titles) != 1 || r.Titles[0].ID != s.title.ID || r.Titles[0].Title != "Dash" || len(r.Titles[0].Offers) != 4 {
		t.Fatalf("%+v", r)
	}
	bytesOf := func(reps ...string) (n int64) {
		for _, rep := range reps {
			for _, seg := range s.title.Segments(t, rep) {
				n += seg.SealedBlob().Length
			}
		}
		return n
	}
	few, many := bytesOf("v0", "a0"), bytesOf("v1", "a0")
	for i, want := range []struct { // by the whole: cheap keys do not make cheap bytes
		address, state string
		quarters       lightning.Msat // of what the publisher asks for keys
		perMiB         lightning.Msat
	}{
		{silent, "unknown", 3, 0}, {dear, "unknown", 4, 0}, {cheap, "banned", 2, 900 * lightning.Sat}, {cart, "unknown", 0, lightning.Sat},
	} {
		o := r.Titles[0].Offers[i]
		p, terms := r.Providers[o.Provider], exchange.Carriage{Price: want.perMiB}
		if p.Address != want.address || o.Min != low*want.quarters/4 || o.Max != high*want.quarters/4 || !o.Priced || o.BytesOnly != (want.address == cart) ||
			o.PerMiB != want.perMiB || o.WholeMin != o.Min+terms.Cost(few) || o.WholeMax != o.Max+terms.Cost(many) ||
			o.Expires.IsZero() != (want.address == silent) || p.Latency <= 0 || p.Standing.State != want.state {
			t.Errorf("%d, %s, want %+v: %+v, %+v", i, p.Address, want, o, p.Standing)
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
	for _, want := range []string{id, cheap, "900 sat", "sells none", "free", "banned until", "it kept?[2J money", "new to you", "Left out:", "not the time that a key takes"} {
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
