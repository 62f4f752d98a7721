//go:build itest

package itest

import (
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash/internal/ledger"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

const (
	marketLength = 120                    // segments
	marketPace   = 400 * time.Millisecond // in which the player plays one
	marketBuffer = 6                      // segments that it holds
)

// A front is a web proxy before a provider's process: what the viewer sees of
// it.
type front struct {
	url   string
	delay atomic.Int64                                  // nanoseconds, of each answer
	lie   func(http.ResponseWriter, *http.Request) bool // answers in the provider's place
}

func newFront(t *testing.T, behind string) *front {
	t.Helper()
	target, err := url.Parse(behind)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // so that the server sees it when who asked has gone
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-time.After(time.Duration(f.delay.Load())):
		case <-r.Context().Done():
			return
		}
		if f.lie == nil || !f.lie(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// A viewing is how it was for a player that plays a segment every marketPace once
// it has begun, and holds no more than marketBuffer of them.
type viewing struct {
	stalls int
	waited time.Duration // in all of them
	failed int           // requests that were answered with an error, and asked again
}

// playMarket is that player. at is called before each segment is asked for.
func (s *stage) playMarket(t *testing.T, viewer *process, film *titletest.Title, at func(i int)) (v viewing) {
	t.Helper()
	segs := film.Segments(t, "v1")
	var due time.Time // when the next segment is to be played
	for i, seg := range segs {
		at(i)
		if early := time.Until(due) - marketBuffer*marketPace; !due.IsZero() && early > 0 {
			time.Sleep(early)
		}
		for tries := 0; ; tries++ {
			b, err := fetchSegment(t.Context(), viewer.url, film, seg)
			if err == nil && bytes.Equal(b, film.Plain("v1", i)) {
				break
			}
			if v.failed++; err == nil || tries > 100 {
				t.Fatalf("segment %d: %d bytes, %v", i, len(b), err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		now := time.Now()
		if !due.IsZero() && now.After(due) {
			v.stalls++
			v.waited += now.Sub(due)
		}
		if now.After(due) {
			due = now
		}
		due = due.Add(marketPace)
	}
	return v
}

// boughtFrom counts the keys that were bought from each provider, from a segment
// on.
func boughtFrom(bought []ledger.Purchase, from int) map[string]int {
	n := map[string]int{}
	for _, p := range bought {
		if p.State == lightning.Paid && p.Index >= from {
			n[p.Provider]++
		}
	}
	return n
}

// TestMarket plays a film through real processes: six providers of one title
// with a real node, and a proxy that buys. One provider becomes slow in mid-film,
// a cheaper one opens in mid-film, one lies, two are the same liar under fresh
// keys, and one dies. The film plays to its end, each key is paid once, no liar is
// paid, and the player stalls about as often as where all are honest.
func TestMarket(t *testing.T) {
	film := titletest.Make(t, titletest.Options{Segments: marketLength})
	s := newStage(t, film.Dir)
	sell := func(name, address string, flags ...string) *process {
		node := s.network.Node("provider")
		p := s.launch(t, name, nil, append([]string{
			"serve", "--credentials", "free", "--listen", address, "--page", "", "--titles-folder", s.titles,
			"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--macaroon", s.selling,
			"--ledger", filepath.Join(s.dir, name+".db"), "--secret", filepath.Join(s.dir, name+".secret"),
		}, flags...)...)
		p.url = "http://" + address
		return p
	}
	garbage := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/proofs") && !strings.HasPrefix(r.URL.Path, "/sealed/") {
			return false
		}
		b := make([]byte, 50_000)
		_, _ = rand.Read(b)
		_, _ = w.Write(b)
		return true
	}
	never := func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v1/proofs") || strings.HasPrefix(r.URL.Path, "/sealed/") {
			<-r.Context().Done()
			return true
		}
		return false
	}

	honest := []*process{sell("drifting", freeAddress(t)), sell("dying", freeAddress(t))}
	liars := []*process{sell("liar", freeAddress(t), "--price-factor", "0.3"), sell("sybil1", freeAddress(t), "--price-factor", "0.3"), sell("sybil2", freeAddress(t), "--price-factor", "0.3")}
	for _, p := range append(honest, liars...) {
		p.await(t, "/v1/provider")
	}
	drifting, dying := newFront(t, honest[0].url), newFront(t, honest[1].url)
	open := func(name string, fronts ...*front) *process {
		var urls []string
		for _, f := range fronts {
			urls = append(urls, f.url)
		}
		return s.proxy(t, name, &process{url: strings.Join(urls, ",")}, nil, "--budget-title", "10000 sat")
	}

	viewer := open("calm", drifting, dying)
	calm := s.playMarket(t, viewer, film, func(int) {})
	viewer.stop()
	cost := spent(t, purchases(t, s.books("calm")))
	t.Logf("all honest: %+v, %v, bought from %v", calm, cost, boughtFrom(purchases(t, s.books("calm")), 0))

	var fakes []*front
	for i, p := range liars {
		f := newFront(t, p.url)
		if f.lie = never; i == 0 {
			f.lie = garbage
		}
		fakes = append(fakes, f)
	}
	nobody := freeAddress(t)
	late := newFront(t, "http://"+nobody) // where nobody is yet
	viewer = open("rough", fakes[0], drifting, fakes[1], dying, late, fakes[2])
	var cheap *process
	rough := s.playMarket(t, viewer, film, func(i int) {
		switch i {
		case 10:
			cheap = sell("cheap", nobody, "--price-factor", "0.6")
		case 30:
			drifting.delay.Store(int64(1500 * time.Millisecond))
		case 90:
			honest[1].kill()
		}
	})
	viewer.stop()
	cheap.stop()

	bought := purchases(t, s.books("rough"))
	paid := spent(t, bought)
	all, end := boughtFrom(bought, 0), boughtFrom(bought, marketLength/2)
	t.Logf("a rough market: %+v, %v, bought from %v, in the second half %v", rough, paid, all, end)
	for _, f := range fakes {
		if n := all[f.url]; n > 0 {
			t.Errorf("a liar sold %d keys", n)
		}
	}
	if end[drifting.url] >= end[dying.url]+end[late.url] {
		t.Errorf("the slow provider sold %d of the second half, the others %d", end[drifting.url], end[dying.url]+end[late.url])
	}
	if all[late.url] == 0 || paid >= cost {
		t.Errorf("the cheap provider sold %d keys, and the film cost %v, %v without it", all[late.url], paid, cost)
	}
	if rough.stalls > calm.stalls+3 {
		t.Errorf("%d stalls, %d where all are honest", rough.stalls, calm.stalls)
	}
	if got := received(t, admin(t, s.network, "provider"), cost+paid); got != cost+paid {
		t.Errorf("the books say %v, the node received %v", cost+paid, got)
	}
	if shunned := s.command(t, "ledger", "bans", "--proxy-ledger", s.books("rough")); !strings.Contains(shunned, fakes[0].url) {
		t.Errorf("the liar is not shunned: %s", shunned)
	}
}
