package relay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	resale "htlcdash/internal/margin"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/relay"
	"htlcdash/internal/seller"
	"htlcdash/internal/stock"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

const (
	funds  = 1_000_000 * lightning.Sat
	margin = 100 * lightning.Msat(1) // of each relay here
	price  = 500 * lightning.Msat(1) // of a key of v0 at the origin: half of what the publisher asks
	blocks = 80                      // that the origin asks for, as lnd does
)

// A town is a title, its origin, and a network of nodes.
type town struct {
	net    *sim.Network
	film   *titletest.Title
	origin *house
}

// A house is a provider: the origin, or a relay. Its address stays when it is
// opened again.
type house struct {
	*town
	name  string
	node  *sim.Node
	front *httptest.Server
	face  atomic.Pointer[http.Handler]
	dir   string

	up     []*house        // whom it buys from; none: it is the origin
	asks   *lightning.Msat // for any key; nil: half of what the publisher asks
	tokens lightning.Msat  // what a batch of credentials costs here; 0: nothing
	config func(*relay.Config)
	buying func(*buyer.Config)

	books  *ledger.Ledger
	buyer  *buyer.Buyer
	relay  *relay.Relay
	seller *seller.Seller
	closed func()
}

// longDelta asks for as many blocks as lnd does.
type longDelta struct{ *sim.Node }

func (n longDelta) Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	t.FinalDelta = blocks
	return n.Node.Invoice(ctx, p, t)
}

func newTown(t testing.TB) *town {
	t.Helper()
	w := &town{net: sim.New(sim.Config{Network: lightning.Regtest}), film: titletest.Make(t, titletest.Options{})}
	w.origin = w.house(t, "origin")
	w.origin.open(t)
	return w
}

// house builds a provider, whose node has channels to those it buys from. It is not
// open yet.
func (w *town) house(t testing.TB, name string, up ...*house) *house {
	t.Helper()
	h := &house{town: w, name: name, node: w.net.Node(name), dir: t.TempDir(), up: up}
	h.front = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if face := h.face.Load(); face != nil {
			(*face).ServeHTTP(rw, r)
		} else {
			http.Error(rw, "closed", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(h.front.Close)
	for _, u := range up {
		w.net.Connect(h.node, u.node, funds, 0)
	}
	return h
}

func (h *house) secret() exchange.Secret { return exchange.NewSecret(sha256.Sum256([]byte(h.name))) }

// key is what the house signs with.
func (h *house) key() htlcdash.ProviderKey { return h.secret().ProviderKey() }

// open opens the house, for the first time or after a crash.
func (h *house) open(t testing.TB) {
	t.Helper()
	var err error
	h.books, err = ledger.Open(filepath.Join(h.dir, "ledger.db"))
	must(t, err)
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})).With("house", h.name)
	config := seller.Config{
		Payee: longDelta{h.node}, Secret: h.secret(), Proofs: []proof.System{vole.Bits80}, Books: h.books, Issue: seller.IssueFree,
		Node: h.node.ID(), Alias: h.name, Log: log,
	}
	if h.tokens > 0 {
		config.Issue, config.IssuePrice = seller.IssueSold, h.tokens
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ends []func()
	if len(h.up) == 0 {
		config.Titles, config.Price = []string{h.film.Dir}, seller.Factor(0.5)
		if h.asks != nil {
			config.Price = func(htlcdash.Segment) lightning.Msat { return *h.asks }
		}
	} else {
		h.trade(t, log)
		shelf, err := stock.New(ctx, stock.Config{Books: h.books, Buyer: h.buyer, Margin: resale.Policy{Factor: 1}})
		must(t, err)
		config.Price = seller.Factor(0.8) // from the own shelf
		config.Resold, config.Bought, config.Sealed = mirror(t, h), shelf, sealedOf{h.film, t}
		config.Relay, config.Holder = h.relay, h.node
		ends = append(ends, shelf.Close, h.relay.Close, h.buyer.Close)
	}
	h.seller, err = seller.New(ctx, config)
	must(t, err)
	public, err := net.Listen("tcp", "127.0.0.1:0") // the front has the known address
	must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = h.seller.Serve(ctx, public, nil) })
	face := h.seller.Handler()
	h.face.Store(&face)
	books := h.books
	h.closed = sync.OnceFunc(func() {
		h.face.Store(nil)
		cancel()
		serving.Wait()
		for _, end := range ends {
			end()
		}
		books.Close()
	})
	closed := h.closed
	t.Cleanup(func() { closed() })
}

// trade opens what a relay has beside a seller.
func (h *house) trade(t testing.TB, log *slog.Logger) {
	t.Helper()
	bc := buyer.Config{
		Ledger: h.books, Payer: h.node, Sealed: sealedOf{h.film, t}, Log: log,
		Limits: buyer.Limits{Segment: buyer.NoLimit, Title: buyer.NoLimit, Day: buyer.NoLimit},
		Fee:    buyer.Fee{Floor: 20}, Grace: time.Nanosecond, Proofs: []string{"vole-80"},
	}
	if h.buying != nil {
		h.buying(&bc)
	}
	var err error
	h.buyer, err = buyer.New(bc)
	must(t, err)
	must(t, h.buyer.Recover(t.Context()))
	must(t, h.buyer.AddTitle(t.Context(), h.film.ID, 3000, providers(t, h.up)))
	rc := relay.Config{
		Books: h.books, Buyer: h.buyer, Holder: h.node, Log: log, Fee: bc.Fee,
		Price: func(_ htlcdash.Segment, cost lightning.Msat) (lightning.Msat, error) { return cost - 20 + margin, nil },
	}
	if h.config != nil {
		h.config(&rc)
	}
	h.relay, err = relay.New(t.Context(), rc)
	must(t, err)
}

func providers(t testing.TB, houses []*house) (all []*buyer.Provider) {
	t.Helper()
	for _, u := range houses {
		p, err := buyer.NewProvider(u.front.URL, nil)
		must(t, err)
		all = append(all, p)
	}
	return all
}

// mirror is a folder with what is free of the title.
func mirror(t testing.TB, h *house) string {
	t.Helper()
	folder := filepath.Join(h.dir, "mirror")
	to := filepath.Join(folder, "film")
	if _, err := os.Stat(to); err == nil {
		return folder
	}
	must(t, os.CopyFS(to, os.DirFS(h.film.Dir)))
	must(t, os.RemoveAll(filepath.Join(to, htlcdash.SealedFolder)))
	return folder
}

// sealedOf is anybody who has the sealed bytes.
type sealedOf struct {
	film *titletest.Title
	t    testing.TB
}

func (s sealedOf) Get(_ context.Context, b htlcdash.Blob) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.film.Dir, filepath.FromSlash(htlcdash.SealedPath(b.Root))))
}

func (s sealedOf) Has(context.Context, htlcdash.Blob) error { return nil }

// A viewer buys.
type viewer struct {
	*town
	*buyer.Buyer
	node  *sim.Node
	books *ledger.Ledger
	from  []*house
}

// viewer has a channel to each of the houses, and pays for what they prove.
func (w *town) viewer(t testing.TB, name string, from ...*house) *viewer {
	t.Helper()
	return w.viewerWith(t, name, nil, from...)
}

func (w *town) viewerWith(t testing.TB, name string, change func(*buyer.Config), from ...*house) *viewer {
	t.Helper()
	v := &viewer{town: w, node: w.net.Node(name), from: from}
	var err error
	v.books, err = ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	must(t, err)
	t.Cleanup(func() { v.books.Close() })
	for _, h := range from {
		w.net.Connect(v.node, h.node, funds, 0)
	}
	c := buyer.Config{
		Ledger: v.books, Payer: v.node, Sealed: sealedOf{w.film, t}, Proofs: []string{"vole-80"},
		Limits: buyer.Limits{Segment: buyer.NoLimit, Title: buyer.NoLimit, Day: buyer.NoLimit}, Grace: time.Nanosecond,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})).With("viewer", name),
	}
	if change != nil {
		change(&c)
	}
	v.Buyer, err = buyer.New(c)
	must(t, err)
	t.Cleanup(v.Close)
	must(t, v.AddTitle(t.Context(), w.film.ID, 3000, providers(t, from)))
	return v
}

// play gets a segment and holds it against the publisher's.
func (v *viewer) play(t testing.TB, rep string, index int) {
	t.Helper()
	must(t, v.try(t, rep, index))
}

func (v *viewer) try(t testing.TB, rep string, index int) error {
	t.Helper()
	data, err := v.Segment(t.Context(), v.film.Segments(t, rep)[index])
	if err == nil && !bytes.Equal(data, v.film.Plain(rep, index)) {
		t.Fatalf("%s %d is another than the publisher's", rep, index)
	}
	return err
}

// left is what a node can spend less than it had.
func left(t testing.TB, n *sim.Node, had lightning.Msat) lightning.Msat {
	t.Helper()
	b, err := n.Balance(context.Background())
	must(t, err)
	return had - b.Outbound
}

// An account is what one party has earned and spent.
type account struct{ earned, spent lightning.Msat }

// wantAccount holds books against the node and both against what is wanted.
func (h *house) wantAccount(t testing.TB, want account) {
	t.Helper()
	h.net.Wait()
	got := account{}
	eventually(t, h.name+" has booked what it earned", func() bool {
		earned, err := h.books.Earned(t.Context(), time.Time{})
		must(t, err)
		got.earned = 0
		for _, e := range earned {
			got.earned += e.Amount
		}
		return got.earned == want.earned
	}, &got)
	var err error
	var reserved lightning.Msat
	got.spent, reserved, err = h.books.Spent(t.Context(), nil, time.Time{})
	must(t, err)
	if got != want || reserved != 0 {
		t.Errorf("%s: the books say %+v, with %v reserved, want %+v", h.name, got, reserved, want)
	}
	if n := left(t, h.node, lightning.Msat(len(h.up))*funds); n != want.spent-want.earned {
		t.Errorf("%s: its node has %v less, the books say %v", h.name, n, want.spent-want.earned)
	}
	must(t, h.books.Check(t.Context()))
	must(t, h.net.Check())
}

// wantSpent holds the books of a viewer against its node.
func (v *viewer) wantSpent(t testing.TB, want lightning.Msat) {
	t.Helper()
	v.net.Wait()
	spent, reserved, err := v.books.Spent(t.Context(), nil, time.Time{})
	must(t, err)
	if n := left(t, v.node, lightning.Msat(len(v.from))*funds); spent != want || n != want || reserved != 0 {
		t.Errorf("the viewer's books say %v, its node %v, with %v reserved; want %v", spent, n, reserved, want)
	}
}

// openResales is how many the books of h have.
func (h *house) openResales(t testing.TB) []ledger.Resale {
	t.Helper()
	open, err := h.books.OpenResales(t.Context())
	must(t, err)
	return open
}

// eventually waits for what must come about.
func eventually(t testing.TB, what string, ok func() bool, last ...any) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s; last %+v", what, last)
		}
	}
}

// tamper changes the offers that a house answers with; signs says with whose key.
func (h *house) tamper(t testing.TB, signer htlcdash.ProviderKey, change func(seg htlcdash.Segment, o *exchange.Offer)) {
	t.Helper()
	segs := map[htlcdash.Root]htlcdash.Segment{}
	for _, rep := range []string{"v0", "v1", "a0"} {
		for _, seg := range h.film.Segments(t, rep) {
			segs[seg.Sealed] = seg
		}
	}
	honest := *h.face.Load()
	var face http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/offers" {
			honest.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		honest.ServeHTTP(rec, r)
		var resp exchange.OfferResponse
		if rec.Code != http.StatusOK || json.Unmarshal(rec.Body.Bytes(), &resp) != nil {
			w.WriteHeader(rec.Code)
			return
		}
		for i := range resp.Offers {
			o := &resp.Offers[i]
			seg := segs[o.Sealed]
			if o.Error == "" {
				change(seg, o)
				o.Signature, _ = exchange.SignOffer(signer, seg.Title, seg.Seal, *o)
			}
		}
		_ = json.NewEncoder(w).Encode(resp)
	})
	h.face.Store(&face)
}

// reprice has a house sell for what asks says, as its own operator would.
func (h *house) reprice(t testing.TB, asks *lightning.Msat) {
	t.Helper()
	h.closed()
	h.asks = asks
	h.open(t)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("got %v, want %v", err, w)
		}
	}
}

// testWriter hands logs to the test, as long as it runs.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	defer func() { _ = recover() }() // the test has ended
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}
