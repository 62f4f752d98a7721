package buyer_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A world is a title of many segments, a viewer's node, and a router between
// it and the shops.
type world struct {
	net    *sim.Network
	viewer *sim.Node
	router *sim.Node
	title  htlcdash.TitleID
	segs   []htlcdash.Segment
	plain  [][]byte
	keys   map[htlcdash.Root]htlcdash.Key
	sealed *store
	path   string // of the ledger
}

const (
	price   = 10 * lightning.Sat
	funds   = 100_000 * lightning.Sat
	channel = 10 * funds
)

func newWorld(t testing.TB, segments int) *world {
	t.Helper()
	w := &world{
		net: sim.New(sim.Config{}), title: htlcdash.TitleID{7},
		keys: make(map[htlcdash.Root]htlcdash.Key), sealed: &store{blobs: make(map[htlcdash.Root][]byte)},
		path: filepath.Join(t.TempDir(), "ledger.db"),
	}
	w.viewer, w.router = w.net.Node("viewer"), w.net.Node("router")
	w.net.Connect(w.viewer, w.router, channel, 0)
	for i := range segments {
		plain := fmt.Appendf(nil, "segment %d", i)
		sealed, seal, key := htlcdash.SealSegment([]byte("secret"), plain)
		seal.Price, seal.Duration = price, 4*time.Second // so that no shop is late on a slow machine
		w.plain, w.keys[seal.Sealed], w.sealed.blobs[seal.Sealed] = append(w.plain, plain), key, sealed
		w.segs = append(w.segs, htlcdash.Segment{Title: w.title, Representation: "v1", Index: i, Seal: seal})
	}
	return w
}

// store is sealed bytes. A gate holds them back until it is closed.
type store struct {
	mu    sync.Mutex
	blobs map[htlcdash.Root][]byte
	gate  chan struct{}
	gets  int
}

func (s *store) Get(ctx context.Context, b htlcdash.Blob) ([]byte, error) {
	s.mu.Lock()
	data, ok := s.blobs[b.Root]
	gate := s.gate
	s.gets++
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if !ok {
		return nil, htlcdash.ErrNotFound
	}
	return data, nil
}

func (s *store) hold() (open func()) {
	gate := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = gate
	return func() { close(gate) }
}

// A shop is a provider. By default it is honest.
type shop struct {
	*httptest.Server
	w        *world
	node     *sim.Node
	patience time.Duration                                       // of those who ask it; 0: for ever
	requests atomic.Int64                                        // for offers
	percent  atomic.Int64                                        // of the publisher's price that it asks; 0: all
	slow     atomic.Int64                                        // nanoseconds before it answers any request
	spoil    func(seg htlcdash.Segment, o *exchange.Offer)       // tampers with each offer, and signs it all the same
	forge    func(o *exchange.Offer)                             // tampers with each signed offer
	lie      func(req *exchange.ProofRequest, o *exchange.Offer) // tampers with what is proved
	proofs   []proof.System                                      // in which it proves
	price    lightning.Msat                                      // of credentials; 0: none
	keys     credential.IssuerKey
	till     exchange.Till
	tokens   atomic.Int64 // batches given out
	cart     *cart        // carries sealed bytes for money; nil: they are elsewhere
	expires  int64        // of the keys; 0: always another time
	older    []int64      // when further keys that it shows expire
	prover   *shop        // whose proofs it passes on; nil: its own
	silent   atomic.Bool  // gives out no credentials that were paid for
	saw      func(title htlcdash.TitleID, token string)
	borrows  *shop                                                  // whose key it shows; nil: its own
	paid     func(lightning.Hash) bool                              // whether it tells a key again; nil: as its node says
	answer   func(w http.ResponseWriter, offers []byte) (done bool) // answers in its own way
	key      func(htlcdash.Root) htlcdash.Key                       // sells this key; nil: the right one
}

func (w *world) shop(t testing.TB, name string) *shop {
	t.Helper()
	s := &shop{w: w, node: w.net.Node(name)}
	w.net.Connect(w.router, s.node, channel, 0)
	secret := exchange.NewSecret(sha256.Sum256([]byte(name)))
	s.till = exchange.NewTill(s.node, secret, 0)
	s.useKeys(t, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/provider", s.info)
	mux.HandleFunc("POST /v1/credentials", s.credentials)
	mux.HandleFunc("POST /v1/offers", s.offers)
	mux.HandleFunc("POST /v1/proofs", s.prove)
	mux.HandleFunc("POST /v1/keys", s.tell)
	mux.HandleFunc("POST /v1/carriage", func(w http.ResponseWriter, r *http.Request) { s.cart.bill(w, r) })
	mux.HandleFunc("GET /sealed/{shard}/{root}", func(w http.ResponseWriter, r *http.Request) { s.cart.carry(w, r) })
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // so that the server sees it when who asked has gone
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-time.After(time.Duration(s.slow.Load())):
			mux.ServeHTTP(rw, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// useKeys changes the keys of credentials.
func (s *shop) useKeys(t testing.TB, e credential.Epoch) {
	t.Helper()
	var err error
	s.keys, err = credential.NewIssuerKey(s.till.Secret.Issuer(), e)
	must(t, err)
}

func (s *shop) info(w http.ResponseWriter, _ *http.Request) {
	names := []string{}
	for _, sys := range s.proofs {
		names = append(names, sys.Name())
	}
	key := s.till.Key.ID()
	if s.borrows != nil {
		key = s.borrows.till.Key.ID()
	}
	keys := []any{map[string]any{"key": s.keys.Public(), "expires": cmp.Or(s.expires, time.Now().Add(time.Hour).UnixNano())}}
	for _, e := range s.older {
		keys = append(keys, map[string]any{"key": s.keys.Public(), "expires": e})
	}
	info := map[string]any{
		"version": 1, "node": s.node.ID(), "key": key, "proofs": names, "max_batch": exchange.MaxBatch,
		"credentials": map[string]any{
			"issue": "free", "max_batch": 32, "life_s": 3600, "price_msat": s.price,
			"keys": keys,
		},
	}
	if s.cart != nil {
		s.cart.mu.Lock()
		info["carriage"], info["schemes"] = s.cart.terms, s.cart.schemes
		s.cart.mu.Unlock()
	}
	_ = json.NewEncoder(w).Encode(info)
}

func (s *shop) credentials(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if s.price > 0 && s.till.TokensPaid(body, r.Header.Get("Authorization"), time.Now()) != nil {
		offer, err := s.till.SellTokens(r.Context(), body, s.price, time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusPaymentRequired)
		_ = json.NewEncoder(w).Encode(offer)
		return
	}
	if s.silent.Load() {
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	resp, err := s.keys.Issue(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.tokens.Add(1)
	_, _ = w.Write(resp)
}

// guest is who sent r, or nil.
func (s *shop) guest(r *http.Request, body []byte) exchange.Salter {
	p, err := credential.ParseAuthorization(r.Header.Get("Authorization"))
	if err != nil || p.KeyID != s.keys.ID() {
		return nil
	}
	shared := s.keys.Redeem(p.Token)
	if p.Verify(shared, r.Method, r.URL.Path, body, time.Now()) != nil {
		return nil
	}
	return shared
}

// sold is a sale that the shop derives again.
func (s *shop) sold(guest exchange.Salter, id exchange.SaleID) (exchange.Offer, lightning.Preimage, htlcdash.Key) {
	key := s.keyOf(id.Sealed)
	o, p := exchange.Salted{}.Resold(guest, id, key)
	return o, p, key
}

func (s *shop) keyOf(q htlcdash.Root) htlcdash.Key {
	if s.key != nil {
		return s.key(q)
	}
	return s.w.keys[q]
}

func (s *shop) prove(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	req, err := exchange.ParseProofRequest(body)
	guest := s.guest(r, body)
	if err != nil || guest == nil {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	for _, sys := range s.proofs {
		if sys.Name() != req.System {
			continue
		}
		seg := s.segment(req.Sales[0].Sealed)
		o, _, key := s.sold(guest, req.Sales[0])
		if s.lie != nil {
			s.lie(&req, &o)
		}
		prover := s.till.Key.ID()
		if s.prover != nil {
			prover = s.prover.till.Key.ID()
		}
		pf, err := exchange.Salted{}.Prove(sys, prover, seg, o, key, req.Nonce)
		if err != nil { // a liar sends something
			pf = bytes.Repeat([]byte{7}, sys.Length(proof.Link))
		}
		_ = exchange.WriteProofs(w, [][]byte{pf})
		return
	}
	http.Error(w, "no such proof", http.StatusBadRequest)
}

func (s *shop) tell(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	req, err := exchange.ParseKeyRequest(body)
	guest := s.guest(r, body)
	if err != nil || guest == nil {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	o, p, _ := s.sold(guest, req.Sales[0])
	resp := exchange.KeyResponse{Preimages: []string{""}}
	if s.paid != nil && s.paid(o.Hash) {
		b := p.Reveal()
		resp.Preimages[0] = hex.EncodeToString(b[:])
	}
	_ = json.NewEncoder(w).Encode(resp)
}

func (s *shop) segment(q htlcdash.Root) htlcdash.Segment {
	for _, seg := range s.w.segs {
		if seg.Sealed == q {
			return seg
		}
	}
	return htlcdash.Segment{}
}

func (s *shop) offers(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	body, _ := io.ReadAll(r.Body)
	req, err := exchange.ParseOfferRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	guest := s.guest(r, body)
	if guest == nil {
		http.Error(w, "who is it?", http.StatusUnauthorized)
		return
	}
	if s.saw != nil {
		token, _, _ := strings.Cut(r.Header.Get("Authorization"), ", ")
		s.saw(req.Title, token)
	}
	var resp exchange.OfferResponse
	for _, q := range req.Sealed {
		seg := s.segment(q)
		asked := seg.Price
		if percent := s.percent.Load(); percent > 0 {
			asked = asked * lightning.Msat(percent) / 100
		}
		o, err := exchange.Salted{}.Sell(r.Context(), s.till, guest, seg, s.keyOf(q), min(asked, seg.Price), req.Try, time.Now())
		if err != nil {
			o = exchange.Offer{Sealed: q, Error: exchange.RefusedUnavailable}
		}
		if asked > seg.Price {
			o.Price = asked
			o.Signature, _ = exchange.SignOffer(s.till.Key, seg.Title, seg.Seal, o)
		}
		if s.spoil != nil {
			s.spoil(seg, &o)
			o.Signature, _ = exchange.SignOffer(s.till.Key, seg.Title, seg.Seal, o)
		}
		if s.forge != nil {
			s.forge(&o)
		}
		resp.Offers = append(resp.Offers, o)
	}
	b, err := json.Marshal(resp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if s.answer == nil || !s.answer(w, b) {
		_, _ = w.Write(b)
	}
}

func (s *shop) provider(t testing.TB) *buyer.Provider {
	t.Helper()
	p, err := buyer.NewProvider(s.URL, &http.Client{Timeout: s.patience})
	must(t, err)
	return p
}

// config is for a viewer who trusts the world, asks for no proofs, and has no
// limits.
func (w *world) config(t testing.TB) buyer.Config {
	t.Helper()
	books, err := ledger.Open(w.path)
	must(t, err)
	t.Cleanup(func() { books.Close() })
	return buyer.Config{
		Ledger: books, Payer: w.viewer, Sealed: w.sealed,
		Limits: buyer.Limits{Segment: buyer.NoLimit, Title: buyer.NoLimit, Day: buyer.NoLimit},
		Fee:    buyer.Fee{Floor: lightning.Sat}, Grace: time.Nanosecond, Unproved: true,
	}
}

// open starts a buyer that knows the title and the shops.
func (w *world) open(t testing.TB, c buyer.Config, shops ...*shop) *buyer.Buyer {
	t.Helper()
	b, err := buyer.New(c)
	must(t, err)
	t.Cleanup(b.Close)
	var providers []*buyer.Provider
	for _, s := range shops {
		providers = append(providers, s.provider(t))
	}
	must(t, b.AddTitle(t.Context(), w.title, price, providers))
	return b
}

// buy gets segment i and checks that it is the segment.
func (w *world) buy(t testing.TB, b *buyer.Buyer, i int) {
	t.Helper()
	data, err := b.Segment(t.Context(), w.segs[i])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, w.plain[i]) {
		t.Fatalf("segment %d is %q, want %q", i, data, w.plain[i])
	}
}

// left is what has left the viewer's node.
func (w *world) left(t testing.TB) lightning.Msat {
	t.Helper()
	w.net.Wait()
	balance, err := w.viewer.Balance(context.Background())
	must(t, err)
	return channel - balance.Outbound
}

// wantBooks holds the books against the node.
func (w *world) wantBooks(t testing.TB, c buyer.Config, b *buyer.Buyer, want lightning.Msat) {
	t.Helper()
	spent, reserved, err := c.Ledger.Spent(context.Background(), nil, time.Time{})
	must(t, err)
	a := b.Account(w.title)
	if left := w.left(t); left != want || spent != want || a.Spent != want {
		t.Errorf("the node says %v were spent, the books %v, the account %v; want %v", left, spent, a.Spent, want)
	}
	if reserved != 0 || a.Reserved != 0 || a.InFlight != 0 {
		t.Errorf("reserved in the books %v, in the account %v, %d in flight; want nothing", reserved, a.Reserved, a.InFlight)
	}
	must(t, w.net.Check())
}

// await reads events until one of segment i has the state.
func await(t testing.TB, events <-chan buyer.Purchase, i int, state string) buyer.Purchase {
	t.Helper()
	for {
		select {
		case p, ok := <-events:
			if !ok {
				t.Fatal("no more events")
			}
			if p.Index == i && p.State == state {
				return p
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("segment %d was never %s", i, state)
		}
	}
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
