//go:build itest

package itest

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/devnet"
	"htlcdash/internal/ledger"
	"htlcdash/internal/relay"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// A relayStage is an origin, a relay with no title of its own, and a viewer, each
// with a real node: viewer - relay - provider.
type relayStage struct {
	*stage
	title  *titletest.Title
	table  *crashTable
	origin *process
	front  *httptest.Server // before the origin
	freeze atomic.Bool      // the origin's node, once the front has passed offers on
	relay  *process
	rights string // macaroon of the relay
}

func newRelayStage(t *testing.T) *relayStage {
	t.Helper()
	film := titletest.Make(t, titletest.Options{Segments: 20})
	s := &stage{dir: t.TempDir(), titles: film.Dir}
	s.network = startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{
			{Name: "viewer", SQLite: true, Fund: 20 * million}, {Name: "relay", SQLite: true, Fund: 20 * million}, {Name: "provider", SQLite: true},
		},
		Channels: []devnet.ChannelSpec{
			{From: "viewer", To: "relay", Capacity: 10 * million, Push: million},
			{From: "relay", To: "provider", Capacity: 10 * million, Push: million},
		},
	})
	s.buying = s.bake(t, "viewer", lnd.BuyingRights)
	s.selling = s.bake(t, "provider", lnd.SellingRights)
	r := &relayStage{stage: s, title: film, table: &crashTable{stage: s, title: film, pids: map[string]int{}}}
	r.rights = s.bake(t, "relay", lnd.Relaying(lnd.SellingRights))
	return r
}

// openOrigin starts the origin, for the first time or again.
func (s *relayStage) openOrigin(t *testing.T) {
	t.Helper()
	address := freeAddress(t)
	if s.origin != nil {
		address = s.origin.url[len("http://"):]
	}
	s.origin = s.serve(t, address, "--price-factor", "0.5")
	if s.front != nil {
		return
	}
	target, err := url.Parse(s.origin.url)
	if err != nil {
		t.Fatal(err)
	}
	front := httputil.NewSingleHostReverseProxy(target)
	front.ErrorLog = log.New(io.Discard, "", 0)
	front.ModifyResponse = func(r *http.Response) error {
		if strings.HasSuffix(r.Request.URL.Path, "/v1/offers") && s.freeze.CompareAndSwap(true, false) {
			s.table.signal(t, "provider", syscall.SIGSTOP)
		}
		return nil
	}
	s.front = httptest.NewServer(front)
	t.Cleanup(s.front.Close)
}

// openRelay starts the relay, for the first time or again, and waits until it sells
// the title. With a crash it kills itself at that step.
func (s *relayStage) openRelay(t *testing.T, crash string) {
	t.Helper()
	address := freeAddress(t)
	if s.relay != nil {
		address = s.relay.url[len("http://"):]
	}
	var env []string
	if crash != "" {
		env = []string{"HTLCDASH_CRASH_AT=" + crash}
	}
	node := s.network.Node("relay")
	s.relay = s.launch(t, "relay", env,
		"serve", "--credentials", "free", "--listen", address, "--page", "", "--titles-folder", filepath.Join(s.dir, "none"),
		"--upstream", s.front.URL, "--upstream-ahead", "0", "--upstream-factor", "1", "--upstream-margin", "200 msat", "--upstream-max-fee", "0", "--upstream-max-fee-percent", "0",
		"--upstream-mirror", filepath.Join(s.dir, "mirror"), "--cache", filepath.Join(s.dir, "relay.cache"),
		"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--macaroon", s.rights, "--upstream-macaroon", s.rights,
		"--ledger", s.books("relay"), "--secret", filepath.Join(s.dir, "relay.secret"), "--upstream-complaints", "",
	)
	s.relay.url = "http://" + address
	s.relay.await(t, "/v1/provider")
	for deadline := time.Now().Add(time.Minute); !s.sells(t); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the relay never sold the title")
		}
	}
}

// sells reports whether the relay lists the title.
func (s *relayStage) sells(t *testing.T) bool {
	t.Helper()
	p, err := buyer.NewProvider(s.relay.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	titles, err := p.Titles(t.Context())
	return err == nil && len(titles) == 1 && titles[0].ID == s.title.ID
}

// watcher is a viewer with books of its own, who buys no more than it is asked for.
func (s *relayStage) watcher(t *testing.T, name string) *process {
	t.Helper()
	return s.proxy(t, name, s.relay, nil, "--ahead", "0s", "--ahead-money", "1 msat")
}

func (s *relayStage) play(t *testing.T, viewer *process, from, to int) {
	t.Helper()
	for _, seg := range s.title.Segments(t, "v0")[from:to] {
		s.get(t, viewer, seg)
	}
}

func (s *relayStage) get(t *testing.T, viewer *process, seg htlcdash.Segment) {
	t.Helper()
	s.table.obtain(t, seg, func(ctx context.Context) ([]byte, error) { return fetchSegment(ctx, viewer.url, s.title, seg) })
}

// account holds the books of all against each other and against the nodes, to the
// msat: so many keys were passed on, and so many sold from the shelf.
func (s *relayStage) account(t *testing.T, passed, shelf int, viewers ...string) {
	t.Helper()
	var paid lightning.Msat
	for _, name := range viewers {
		paid += spent(t, purchases(t, s.books(name)))
	}
	var earned, cost, upstream lightning.Msat
	sales, bought := 0, 0
	deadline := time.Now().Add(30 * time.Second)
	for {
		earned, cost, sales, bought = 0, 0, 0, 0
		books, err := ledger.OpenReader(s.books("relay"))
		if err != nil {
			t.Fatal(err)
		}
		for sale, err := range books.Sales(t.Context(), ledger.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			earned, cost, sales = earned+sale.Received, cost+sale.Cost, sales+1
			if sale.Cost > 0 {
				bought++
			}
		}
		books.Close()
		if earned == paid || time.Now().After(deadline) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	upstream = spent(t, purchases(t, s.books("relay")))
	if sales != passed+shelf || bought != passed {
		t.Errorf("the relay sold %d keys, %d of them passed on; want %d and %d", sales, bought, passed+shelf, passed)
	}
	if earned != paid || cost != upstream || earned != cost+lightning.Msat(sales-bought)*700+lightning.Msat(bought)*200 {
		t.Errorf("viewers paid %v, the relay earned %v; its keys cost %v, it paid %v", paid, earned, cost, upstream)
	}
	if got := received(t, admin(t, s.network, "relay"), paid); got != paid {
		t.Errorf("the relay's node received %v, viewers paid %v", got, paid)
	}
	if got := received(t, admin(t, s.network, "provider"), upstream); got != upstream {
		t.Errorf("the origin's node received %v, the relay paid %v", got, upstream)
	}
	t.Logf("viewers paid %v, of which the relay kept %v and the origin got %v", paid, paid-upstream, upstream)
}

// TestRelay plays by pass-through, with the origin killed in the middle, and then from
// the relay's own shelf; kills the relay where it stands between two payments; and
// has upstream's node hang. All accounts agree to the msat.
func TestRelay(t *testing.T) {
	s := newRelayStage(t)
	s.openOrigin(t)
	s.openRelay(t, "")
	first := s.watcher(t, "first")
	s.play(t, first, 0, 3)
	s.account(t, 3, 0, "first")

	s.origin.kill()
	second := s.watcher(t, "second")
	s.play(t, second, 0, 3) // from the shelf, while upstream is gone
	segs := s.title.Segments(t, "v0")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	if _, err := fetchSegment(ctx, second.url, s.title, segs[3]); err == nil {
		t.Error("a key came from nowhere")
	}
	cancel()
	s.openOrigin(t)
	s.play(t, first, 3, 5)
	s.account(t, 5, 3, "first", "second")

	// The relay is killed between the viewer's payment and its own, and between its
	// own and the viewer's.
	passed := 5
	for _, step := range []string{"held", "intent", "paid", "bought", "taken"} {
		s.relay.kill()
		s.openRelay(t, step)
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, _ = fetchSegment(ctx, first.url, s.title, segs[passed])
		}()
		select {
		case <-s.relay.done:
		case <-time.After(time.Minute):
			t.Fatalf("the relay never came to %q", step)
		}
		s.openRelay(t, "")
		<-asked
		s.get(t, first, segs[passed])
		passed++
		s.account(t, passed, 3, "first", "second")
	}

	// Upstream's node stands still while it is paid: the viewer's payment is held for as
	// long, and both are settled when it goes on.
	third := s.watcher(t, "third")
	s.freeze.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.get(t, third, segs[passed])
	}()
	h := s.awaitOut(t)
	held, err := admin(t, s.network, "relay").AwaitHeld(t.Context(), h)
	if err != nil || held.Blocks < relay.Reserve+lightning.Padding {
		t.Errorf("the viewer's payment is held for %d blocks, %v", held.Blocks, err)
	}
	s.table.signal(t, "provider", syscall.SIGCONT)
	<-done
	s.account(t, passed+1, 3, "first", "second", "third")
}

// awaitOut returns when the relay's node has sent out a payment that is open in the
// books.
func (s *relayStage) awaitOut(t *testing.T) lightning.Hash {
	t.Helper()
	books, err := ledger.OpenReader(s.books("relay"))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	node := admin(t, s.network, "relay")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		open, err := books.Unsettled(t.Context())
		if err != nil || len(open) == 0 {
			continue
		}
		if out, err := node.Lookup(t.Context(), open[0].Hash); err == nil && out.State == lightning.Unknown {
			return open[0].Hash
		}
	}
	t.Fatal("the relay sent no payment out")
	return lightning.Hash{}
}
