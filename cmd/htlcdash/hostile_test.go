package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/seller"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A hostile provider has the title, its keys and a node, and does one thing
// wrong. It is the first that the viewer asks; a good one is the second.
type hostile struct {
	title  *titletest.Title
	other  *titletest.Title // of another publisher
	node   *sim.Node
	far    *sim.Node    // behind a dear router
	honest http.Handler // what it does otherwise
	inside string       // a server that only the viewer's machine reaches
	proofs []proof.System
	done   chan struct{}

	offered atomic.Pointer[exchange.Offer] // the last one, where an attack notes it
}

// segments are those of all Representations.
func (h *hostile) segments() (all []htlcdash.Segment) {
	for _, rep := range []string{"v0", "v1", "a0"} {
		segs, err := h.title.Title.Segments(context.Background(), rep)
		if err != nil {
			panic(err)
		}
		all = append(all, segs...)
	}
	return all
}

// An attack answers a request, or returns false to leave it to the honest part.
type attack func(h *hostile, w http.ResponseWriter, r *http.Request) bool

// at is an attack on the paths that begin so.
func at(prefix string, do func(h *hostile, w http.ResponseWriter, r *http.Request)) attack {
	return func(h *hostile, w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, prefix) {
			return false
		}
		do(h, w, r)
		return true
	}
}

// mpd is an attack on the MPD, and not on the signature beside it.
func mpd(do func(h *hostile, w http.ResponseWriter, r *http.Request)) attack {
	beside := at("/t/title/manifest.mpd", do)
	return func(h *hostile, w http.ResponseWriter, r *http.Request) bool {
		return !strings.HasSuffix(r.URL.Path, ".sig") && beside(h, w, r)
	}
}

func hang(h *hostile, _ http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-h.done:
	}
}

func gone(_ *hostile, w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

func inward(h *hostile, w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, h.inside+r.URL.Path, http.StatusTemporaryRedirect)
}

func endless(text string) func(*hostile, http.ResponseWriter, *http.Request) {
	return func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
		for chunk := bytes.Repeat([]byte(text), 1000); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
}

// honestly is what the provider would have said.
func (h *hostile) honestly(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.honest.ServeHTTP(w, r)
	return w
}

// halfway says how much comes and closes after half of it.
func halfway(h *hostile, w http.ResponseWriter, r *http.Request) {
	b := h.honestly(r).Body.Bytes()
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	_, _ = w.Write(b[:len(b)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func spoilt(h *hostile, w http.ResponseWriter, r *http.Request) {
	b := h.honestly(r).Body.Bytes()
	b[len(b)/2] ^= 1
	_, _ = w.Write(b)
}

// offers changes what an honest provider would offer.
func offers(change func(h *hostile, all []exchange.Offer) []exchange.Offer) attack {
	return at("/v1/offers", func(h *hostile, w http.ResponseWriter, r *http.Request) {
		var resp exchange.OfferResponse
		if err := json.Unmarshal(h.honestly(r).Body.Bytes(), &resp); err != nil {
			panic(err)
		}
		resp.Offers = change(h, resp.Offers)
		for i := range resp.Offers {
			h.sign(&resp.Offers[i])
		}
		_ = json.NewEncoder(w).Encode(resp)
	})
}

// hostileSecret is what the hostile provider signs with.
var hostileSecret = exchange.NewSecret([32]byte{9})

// sign makes a changed offer the provider's word.
func (h *hostile) sign(o *exchange.Offer) {
	for _, seg := range h.segments() {
		if seg.Sealed == o.Sealed {
			o.Signature, _ = exchange.SignOffer(hostileSecret.ProviderKey(), seg.Title, seg.Seal, *o)
		}
	}
}

// proofs changes what the provider sends as a proof.
func proofs(change func(proof []byte) []byte) attack {
	return at("/v1/proofs", func(h *hostile, w http.ResponseWriter, r *http.Request) {
		b := h.honestly(r).Body.Bytes()
		_ = exchange.WriteProofs(w, [][]byte{change(b[4:])})
	})
}

// info changes what the provider says of itself.
func info(change func(map[string]any)) attack {
	return at("/v1/provider", func(h *hostile, w http.ResponseWriter, r *http.Request) {
		said := map[string]any{}
		if err := json.Unmarshal(h.honestly(r).Body.Bytes(), &said); err != nil {
			panic(err)
		}
		change(said)
		_ = json.NewEncoder(w).Encode(said)
	})
}

// offer changes the first of them.
func offer(change func(h *hostile, o *exchange.Offer)) attack {
	return offers(func(h *hostile, all []exchange.Offer) []exchange.Offer {
		change(h, &all[0])
		return all
	})
}

// invoice changes the invoice of an offer, which it signs with a key of its own.
func invoice(change func(*lightning.Invoice)) attack {
	return offer(func(_ *hostile, o *exchange.Offer) {
		inv, err := lightning.DecodeInvoice(o.Invoice)
		if err != nil {
			panic(err)
		}
		change(&inv)
		key, _ := btcec.PrivKeyFromBytes([]byte{7})
		if inv, err = lightning.EncodeInvoice(inv, [32]byte{1}, key); err != nil {
			panic(err)
		}
		o.Invoice, o.Hash = inv.Bolt11, inv.Hash
	})
}

// sells offers the payment hash of p at a node.
func sells(o *exchange.Offer, node *sim.Node, p lightning.Preimage) {
	inv, err := node.Invoice(context.Background(), p, lightning.Terms{Amount: o.Price})
	if err != nil {
		panic(err)
	}
	o.Hash, o.Invoice = inv.Hash, inv.Bolt11
}

// attacks are what a provider may try, and what comes of it. The player gets
// the film whatever the provider does.
var attacks = []struct {
	name   string
	attack attack
	why    string // what the viewer's log or books say
	taken  lightning.Msat
	paid   lightning.Msat // to the good one
	banned bool
	trusts bool // the viewer buys without proofs, and the provider gives none
	slow   bool // it is judged by another that is quicker
}{
	// The list of titles.
	{name: "endless list of titles", attack: at("/v1/titles", endless(" ")), why: "answer above 4194304 bytes", paid: tick},
	{name: "a million titles", attack: at("/v1/titles", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"titles":[%s{"name":"a"}]}`, strings.Repeat(`{"name":"a"},`, 300_000))
	}), why: "more than 4096 titles", paid: tick},
	{name: "list of titles that never comes", attack: at("/v1/titles", hang), why: "does not answer", paid: tick},
	{name: "list of titles in a bomb", attack: at("/v1/titles", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte{0x1f, 0x8b, 8, 0})
	}), why: "invalid character", paid: tick},
	{name: "list of titles elsewhere", attack: at("/v1/titles", inward), why: "moved to another address", paid: tick},
	{name: "header bomb", attack: at("/v1/titles", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Bomb", strings.Repeat("x", 1<<20))
	}), why: "response headers exceeded", paid: tick},

	// The title.
	{name: "another publisher's MPD under this name", attack: at("/t/title/manifest.mpd", func(h *hostile, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sig") {
			_, _ = w.Write(h.other.Signature)
			return
		}
		_, _ = w.Write(h.other.MPD)
	}), why: "it is title", paid: tick},
	{name: "MPD swapped before the signature is read", attack: at("/t/title/manifest.mpd.sig", func(h *hostile, w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(h.other.Signature)
	}), why: "signature does not verify", paid: tick},
	{name: "no signature", attack: at("/t/title/manifest.mpd.sig", gone), why: "manifest.mpd.sig: not found", paid: tick},
	{name: "MPD changed by a bit", attack: mpd(spoilt), why: "signature does not verify", paid: tick},
	{name: "endless MPD", attack: at("/t/title/manifest.mpd", endless("<MPD>")), why: "more than 8388608 bytes", paid: tick},
	{name: "MPD that closes half way", attack: at("/t/title/manifest.mpd", halfway), why: "unexpected EOF", paid: tick},
	{name: "MPD elsewhere", attack: at("/t/title/manifest.mpd", inward), why: "moved to another address", paid: tick},
	{name: "another seal list", attack: at("/t/title/seals/", spoilt), taken: tick},
	{name: "no seal list", attack: at("/t/title/seals/", gone), taken: tick},
	{name: "endless seal list", attack: at("/t/title/seals/", endless("htlcseal")), taken: tick},
	{name: "seal list that never comes", attack: at("/t/title/seals/", hang), taken: tick},

	// Offers.
	{name: "offers that never come", attack: at("/v1/offers", hang), why: "provider gives way to a quicker one", paid: tick, slow: true},
	{name: "offers that close half way", attack: at("/v1/offers", halfway), why: "unexpected EOF", paid: tick},
	{name: "endless offers", attack: at("/v1/offers", endless(" ")), why: "answer above 262144 bytes", paid: tick},
	{name: "offers elsewhere", attack: at("/v1/offers", inward), why: "moved to another address", paid: tick},
	{name: "no offer at all", attack: offers(func(*hostile, []exchange.Offer) []exchange.Offer { return nil }), why: "0 offers for 1 segments", paid: tick},
	{name: "one offer too many", attack: offers(func(_ *hostile, all []exchange.Offer) []exchange.Offer { return append(all, all[0]) }), why: "2 offers for 1 segments", paid: tick},
	{name: "offer for another segment", attack: offer(func(_ *hostile, o *exchange.Offer) { o.Sealed[0] ^= 1 }), why: "offer 0 is for another segment", paid: tick},
	{name: "price above the ceiling", attack: offer(func(_ *hostile, o *exchange.Offer) { o.Price++ }), why: "price above the ceiling", paid: tick},
	{name: "invoice over more than the price", attack: invoice(func(i *lightning.Invoice) { i.Amount *= 10 }), why: "invoice over 10 sat, price 1 sat", paid: tick},
	{name: "invoice over any sum", attack: invoice(func(i *lightning.Invoice) { i.Amount = 0 }), why: "invoice over 0 msat, price 1 sat", paid: tick},
	{name: "invoice for another hash", attack: offer(func(_ *hostile, o *exchange.Offer) { o.Hash[0] ^= 1 }), why: "invoice has another payment hash", paid: tick},
	{name: "no invoice", attack: offer(func(_ *hostile, o *exchange.Offer) { o.Invoice = "lnsb1" }), why: "malformed invoice", paid: tick},
	{name: "expired invoice", attack: invoice(func(i *lightning.Invoice) { i.Created = time.Now().Add(-48 * time.Hour) }), why: "expired: offer breaks the terms", paid: tick},
	{name: "expired offer", attack: offer(func(_ *hostile, o *exchange.Offer) { o.Expires = time.Now().Add(-time.Second) }), why: "expired: offer breaks the terms", paid: tick},
	{name: "offer that expires at once", attack: offer(func(_ *hostile, o *exchange.Offer) { o.Expires = time.Now().Add(3 * time.Second) }), why: "expires within", paid: tick},
	{name: "invoice that may lock the money for months", attack: invoice(func(i *lightning.Invoice) { i.FinalDelta = 10_000 }), why: "may be held for 10000 blocks", paid: tick},
	{name: "hash of the key itself", attack: bareKey, why: "payment hash is not salted", paid: tick},

	// Payments.
	{name: "invoice of a node that nobody reaches", attack: invoice(func(*lightning.Invoice) {}), why: "no route to the payee", paid: tick},
	{name: "route that costs more than the limit", attack: offer(func(h *hostile, o *exchange.Offer) { sells(o, h.far, lightning.RandomPreimage()) }), why: "the cheapest route costs", paid: tick, trusts: true},

	// What a proof is for: with it nothing is lost.
	{name: "salt that leads to another key", attack: offer(func(_ *hostile, o *exchange.Offer) { o.Salt[0] ^= 1 }), why: "offer is not proved", paid: tick},
	{name: "preimage that is no key", attack: offer(func(h *hostile, o *exchange.Offer) { sells(o, h.node, lightning.RandomPreimage()) }), why: "offer is not proved", paid: tick},
	{name: "no proof at all", attack: at("/v1/proofs", gone), why: "offer is not proved", paid: tick},
	{name: "proof that never comes", attack: at("/v1/proofs", hang), why: "provider gives way to a quicker one", paid: tick, slow: true},
	{name: "endless proof", attack: at("/v1/proofs", endless("\x00")), why: "answer above", paid: tick},
	{name: "proof of half its length", attack: proofs(func(b []byte) []byte { return b[:len(b)/2] }), why: "proof does not verify", paid: tick},
	{name: "proof of no length", attack: proofs(func([]byte) []byte { return nil }), why: "proof does not verify", paid: tick},
	{name: "proof with one bit changed", attack: proofs(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), why: "proof does not verify", paid: tick},
	{name: "proof for another nonce", attack: replayed, why: "proof does not verify", paid: tick},
	{name: "provider that proves nothing", attack: info(func(m map[string]any) { m["proofs"] = []string{} }), why: "proves nothing in a way that you accept", paid: tick},
	{name: "provider that proves in a weaker way", attack: info(func(m map[string]any) { m["proofs"] = []string{"vole-1"} }), why: "proves nothing in a way that you accept", paid: tick},
	{name: "offers that its key did not sign", attack: info(func(m map[string]any) { m["key"] = strings.Repeat("02", 32) }), why: "signature does not verify", paid: tick},
	{name: "a provider without keys", attack: info(func(m map[string]any) { delete(m, "credentials") }), why: "names no key", paid: tick},
	{name: "credentials by another key than it names", attack: at("/v1/credentials", otherIssuer), why: "not made with the published key", paid: tick},
	{name: "endless credentials", attack: at("/v1/credentials", endless("x")), why: "malformed", paid: tick},
	{name: "credentials that are never good", attack: at("/v1/offers", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	}), why: "wants another credential", paid: tick},
	{name: "credentials for money that nobody allowed", attack: at("/v1/credentials", func(h *hostile, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		offer, err := exchange.NewTill(h.node, hostileSecret, 0).SellTokens(r.Context(), body, tick, time.Now())
		if err != nil {
			panic(err)
		}
		w.WriteHeader(http.StatusPaymentRequired)
		_ = json.NewEncoder(w).Encode(offer)
	}), why: "tokens for 1 sat, you allow 0 msat", paid: tick},

	// Without proofs, for a viewer who trusts all the same.
	{name: "trusted, and the salt leads to another key", attack: offer(func(_ *hostile, o *exchange.Offer) { o.Salt[0] ^= 1 }), why: "payment did not buy the key", taken: tick, paid: tick, banned: true, trusts: true},
	{name: "trusted, and the preimage is no key", attack: offer(func(h *hostile, o *exchange.Offer) { sells(o, h.node, lightning.RandomPreimage()) }), why: "payment did not buy the key", taken: tick, paid: tick, banned: true, trusts: true},

	// Sealed bytes. The provider sells the right key, so it is paid.
	{name: "wrong sealed bytes", attack: at("/sealed/", spoilt), why: "bytes do not match their root", taken: tick},
	{name: "no sealed bytes", attack: at("/sealed/", gone), taken: tick},
	{name: "sealed bytes that close half way", attack: at("/sealed/", halfway), why: "unexpected EOF", taken: tick},
	{name: "sealed bytes that never come", attack: at("/sealed/", hang), why: "source stalled", taken: tick},
	{name: "sealed bytes of another length", attack: at("/sealed/", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000000000")
		w.WriteHeader(http.StatusOK)
	}), why: "content length 1000000000000", taken: tick},
	{name: "endless sealed bytes", attack: at("/sealed/", endless("x")), why: "bytes do not match their root", taken: tick},
	{name: "sealed bytes in a bomb", attack: at("/sealed/", func(_ *hostile, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte{0x1f, 0x8b})
	}), why: "content encoding", taken: tick},
	{name: "sealed bytes elsewhere", attack: at("/sealed/", inward), why: "in a local network", taken: tick},
}

// tick is the price of the segment that the attacks are about.
const tick = lightning.Sat

// replayed proves what another viewer, or an earlier one, asked for.
func replayed(h *hostile, w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/v1/proofs") {
		return offer(func(h *hostile, o *exchange.Offer) { h.offered.Store(o) })(h, w, r)
	}
	body, _ := io.ReadAll(r.Body)
	req, err := exchange.ParseProofRequest(body)
	if err != nil {
		panic(err)
	}
	o := h.offered.Load()
	for _, seg := range h.segments() {
		if seg.Sealed != req.Sales[0].Sealed {
			continue
		}
		key, err := h.title.Keys.Key(r.Context(), seg)
		if err != nil {
			panic(err)
		}
		pf, err := exchange.Salted{}.Prove(vole.Bits80, hostileSecret.ProviderKey().ID(), seg, *o, key, exchange.NewNonce())
		if err != nil {
			panic(err)
		}
		_ = exchange.WriteProofs(w, [][]byte{pf})
	}
	return true
}

// otherIssuer gives out credentials that it could know again.
func otherIssuer(_ *hostile, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	for e := credential.Epoch(0); ; e++ { // until one whose short name is the same
		key, err := credential.NewIssuerKey([32]byte{66}, e)
		if err != nil {
			panic(err)
		}
		if b, err := key.Issue(body); err == nil {
			_, _ = w.Write(b)
			return
		}
	}
}

// bareKey sells the key without salt: each router on the way would get it.
func bareKey(h *hostile, w http.ResponseWriter, r *http.Request) bool {
	segs, err := h.title.Title.Segments(r.Context(), "v0")
	if err != nil {
		panic(err)
	}
	return invoice(func(i *lightning.Invoice) { i.Hash = segs[0].KeyHash })(h, w, r)
}

func TestHostileProvider(t *testing.T) {
	film, other := titletest.Make(t, titletest.Options{}), titletest.Make(t, titletest.Options{Seed: 1})
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			s, h := besiege(t, film, other)
			flags := []string{"--providers", s.shop}
			if a.trusts {
				h.proofs, flags = nil, append(flags, "--unproved")
			}
			judged := func() bool { return a.paid > 0 && (a.slow || s.says(t, a.why)) }
			tried, knocked := h.serve(t, s, a.attack, judged)
			flags[1] = s.shop
			stop := s.play(t, flags...)
			if got := s.insist(t, "/t/"+film.ID.String()+"/v0/1.m4s"); !bytes.Equal(got, film.Plain("v0", 0)) {
				t.Errorf("the player got %d bytes that are not the segment", len(got))
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			if tried.Load() == 0 {
				t.Error("nothing was tried")
			}
			if n := knocked.Load(); n > 0 {
				t.Errorf("%d requests were sent where only this machine can", n)
			}
			s.wantTaken(t, h.node, a.taken)
			s.wantTaken(t, s.provider, a.paid)
			s.wantBought(t, a.taken+a.paid, a.banned)
			if !s.says(t, a.why) {
				t.Errorf("neither log nor books say %q:\n%s", a.why, s.logged)
			}
		})
	}
}

// besiege makes a street with a good provider and a hostile one.
func besiege(t *testing.T, film, other *titletest.Title) (*street, *hostile) {
	t.Helper()
	s := streetFor(t, film)
	h := &hostile{title: film, other: other, node: s.network.Node("hostile"), far: s.network.Node("far"), proofs: []proof.System{vole.Bits80}, done: make(chan struct{})}
	router := s.network.Node("router")
	router.SetFees(sim.Fees{Base: 1000 * lightning.Sat})
	s.network.Connect(s.viewer, h.node, 1_000_000*lightning.Sat, 0)
	s.network.Connect(s.viewer, router, 1_000_000*lightning.Sat, 0)
	s.network.Connect(router, h.far, 1_000_000*lightning.Sat, 0)
	return s, h
}

// serve opens the hostile provider, the good one behind it in the viewer's
// list, and the server inside. It counts what was tried and who knocked there.
// The good one makes no offers until the hostile one was judged, or on a slow
// machine the viewer would ask it beside the hostile one, and never hear that
// one out.
func (h *hostile) serve(t *testing.T, s *street, a attack, judged func() bool) (tried, knocked *atomic.Int64) {
	t.Helper()
	tried, knocked = new(atomic.Int64), new(atomic.Int64)
	books, err := ledger.Open(filepath.Join(t.TempDir(), "hostile.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { books.Close() })
	shop, err := seller.New(t.Context(), seller.Config{
		Titles: []string{h.title.Dir}, Payee: h.node, Node: h.node.ID(), Books: books, Secret: hostileSecret, Issue: seller.IssueFree, Proofs: h.proofs,
		Prepaid: func(string) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.honest = shop.Handler()
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		knocked.Add(1)
		h.honest.ServeHTTP(w, r)
	}))
	t.Cleanup(inside.Close)
	h.inside = inside.URL
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tried.Add(1) // before an attack that ends in a panic
		if !a(h, w, r) {
			tried.Add(-1)
			h.honest.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(h.done) })
	s.sell(t)
	s.shop = server.URL + "," + s.holdBack(t, judged)
	return tried, knocked
}

// never holds back the good provider for the whole test.
func never() bool { return false }

// holdBack opens a door to the shop that lets requests for offers in once a
// condition holds.
func (s *street) holdBack(t *testing.T, until func() bool) (url string) {
	t.Helper()
	shop, err := neturl.Parse(s.shop)
	if err != nil {
		t.Fatal(err)
	}
	through := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(shop) },
		ErrorLog: log.New(io.Discard, "", 0), // of requests whose sender has gone
	}
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/offers") {
			body, _ := io.ReadAll(r.Body) // so that the server sees it when who asked has gone
			r.Body = io.NopCloser(bytes.NewReader(body))
			for !until() {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(50 * time.Millisecond): // to look into the books is much work
				}
			}
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(door.Close)
	return door.URL
}

// says reports whether the viewer's log or books hold a text.
func (s *street) says(t *testing.T, text string) bool {
	return strings.Contains(s.logged.String(), text) || strings.Contains(s.reasons(t), text)
}

// reasons are those in the viewer's books.
func (s *street) reasons(t *testing.T) (all string) {
	books, err := ledger.OpenReader(filepath.Join(s.folder, "viewer.db"))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer books.Close()
	for p, err := range books.Purchases(context.Background(), ledger.Filter{}) {
		if err != nil {
			t.Error(err)
			return ""
		}
		all += p.Reason + "\n"
	}
	bans, err := books.Bans(context.Background())
	if err != nil {
		t.Error(err)
	}
	for _, b := range bans {
		all += b.Reason + "\n"
	}
	return all
}

// insist asks for a path as a player does: again when it is told to wait.
func (s *street) insist(t *testing.T, path string) []byte {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		code, b := s.get(t, path)
		switch code {
		case http.StatusOK:
			return b
		case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			time.Sleep(200 * time.Millisecond) // Retry-After says more
		default:
			t.Fatalf("status %d: %s\n%s", code, b, s.logged)
		}
	}
	t.Fatalf("the player never gets %s\n%s", path, s.logged)
	return nil
}

// wantTaken holds what a node received, all of it from the viewer.
func (s *street) wantTaken(t *testing.T, node *sim.Node, want lightning.Msat) {
	t.Helper()
	s.network.Wait()
	balance, err := node.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if balance.Outbound != want {
		t.Errorf("%v has %v, want %v", node, balance.Outbound, want)
	}
	if err := s.network.Check(); err != nil {
		t.Error(err)
	}
}

// wantBought holds what the viewer's books say.
func (s *street) wantBought(t *testing.T, want lightning.Msat, banned bool) {
	t.Helper()
	books, err := ledger.OpenReader(filepath.Join(s.folder, "viewer.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	spent, reserved, err := books.Spent(t.Context(), nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	bans, err := books.Bans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(s.shop, ",")
	most, is := 0, false
	if banned {
		most = 2 // its address and its key
	}
	for _, b := range bans {
		is = is || b.Provider == first
	}
	if spent != want || reserved != 0 || is != banned || len(bans) > most {
		t.Errorf("the books say %v spent, %v reserved, banned %v; want %v spent, banned: %v", spent, reserved, bans, want, banned)
	}
}

// Who is paid does not matter, since the key is what is paid for: a provider may
// have its invoices made by a node other than the one that it names.
func TestInvoiceOfAnotherNode(t *testing.T) {
	film := titletest.Make(t, titletest.Options{})
	s, h := besiege(t, film, film)
	friend := s.network.Node("friend")
	s.network.Connect(s.viewer, friend, 1_000_000*lightning.Sat, 0)
	h.proofs = nil // it changes the salt, which its proofs do not
	h.serve(t, s, offer(func(h *hostile, o *exchange.Offer) {
		for _, seg := range film.Segments(t, "v0") {
			if key, err := film.Keys.Key(t.Context(), seg); err == nil && seg.Sealed == o.Sealed {
				o.Salt[0] ^= 1
				sells(o, friend, o.Salt.Preimage(key))
			}
		}
	}), never)
	stop := s.play(t, "--providers", s.shop, "--unproved")
	if got := s.insist(t, "/t/"+film.ID.String()+"/v0/1.m4s"); !bytes.Equal(got, film.Plain("v0", 0)) {
		t.Error("not the segment")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	s.wantTaken(t, friend, tick)
	s.wantTaken(t, h.node, 0)
	s.wantBought(t, tick, false)
}

// A provider that takes a payment into its hands and lets it hang locks one
// segment's price. The player is told, the page shows it, and the rest of the
// film comes from another.
func TestProviderThatHoldsAPayment(t *testing.T) {
	film := titletest.Make(t, titletest.Options{})
	s, h := besiege(t, film, film)
	holder := s.network.Node("holder")
	s.network.Connect(s.viewer, holder, 1_000_000*lightning.Sat, 0)
	var held atomic.Bool
	h.serve(t, s, offer(func(h *hostile, o *exchange.Offer) {
		// The very hash that is proved, at a node that knows no preimage.
		inv, err := holder.HoldInvoice(context.Background(), o.Hash, lightning.Terms{Amount: o.Price})
		if err != nil {
			panic(err)
		}
		o.Invoice = inv.Bolt11
	}), held.Load)
	s.play(t, "--providers", s.shop)
	path := "/t/" + film.ID.String() + "/v0/"
	if code, _ := s.get(t, path+"1.m4s"); code != http.StatusGatewayTimeout {
		t.Errorf("status %d, want %d", code, http.StatusGatewayTimeout)
	}
	held.Store(true)
	if got := s.insist(t, path+"2.m4s"); !bytes.Equal(got, film.Plain("v0", 1)) {
		t.Error("the next segment does not come from another provider")
	}
	code, b := s.get(t, "/api/state?title="+film.ID.String())
	var state struct {
		Title struct {
			Reserved lightning.Msat `json:"reserved_msat"`
			InFlight int            `json:"in_flight"`
			Spent    lightning.Msat `json:"spent_msat"`
		} `json:"title"`
	}
	if err := json.Unmarshal(b, &state); err != nil || code != http.StatusOK {
		t.Fatalf("status %d, %v", code, err)
	}
	if got := state.Title; got.Reserved < tick || got.InFlight < 1 || got.Spent < tick {
		t.Errorf("the page is told %+v\n%s", got, b)
	}
	s.wantTaken(t, h.node, 0)
	if code, b := s.get(t, path+"1.m4s"); code == http.StatusOK {
		t.Errorf("status %d, %d bytes: bought twice?", code, len(b))
	}
}

// With publishers of one's own, nobody else's titles are taken, whatever a
// provider says of them.
func TestOnlyTrustedPublishers(t *testing.T) {
	for _, test := range []struct {
		name   string
		trust  func(film, other *titletest.Title) string
		claims bool // the provider lies about who the publisher is
		titles int
		why    string
	}{
		{"the one that it is", func(film, _ *titletest.Title) string { return film.Publisher.String() }, false, 1, "title on sale"},
		{"another", func(_, other *titletest.Title) string { return other.Publisher.String() }, false, 0, "is not one of yours"},
		{"another, and a lie", func(_, other *titletest.Title) string { return other.Publisher.String() }, true, 0, "is not one of yours"},
	} {
		t.Run(test.name, func(t *testing.T) {
			film, other := titletest.Make(t, titletest.Options{}), titletest.Make(t, titletest.Options{Seed: 1})
			s, h := besiege(t, film, other)
			h.serve(t, s, func(h *hostile, w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v1/titles" || !test.claims {
					return false
				}
				list := h.honestly(r).Body.String()
				_, _ = w.Write([]byte(strings.ReplaceAll(list, film.Publisher.String(), other.Publisher.String())))
				return true
			}, never)
			first, _, _ := strings.Cut(s.shop, ",")
			s.play(t, "--providers", first, "--publishers", test.trust(film, other))
			_, b := s.get(t, "/api/titles")
			var titles []json.RawMessage
			if err := json.Unmarshal(b, &titles); err != nil || len(titles) != test.titles {
				t.Errorf("%d titles, want %d: %v", len(titles), test.titles, err)
			}
			if !strings.Contains(s.logged.String(), test.why) {
				t.Errorf("the log does not say %q:\n%s", test.why, s.logged)
			}
		})
	}
}

// Doors of the proxy: what is too large or too slow goes, and costs nothing.
func TestSlowAndLargeRequests(t *testing.T) {
	s := newStreet(t)
	s.sell(t)
	s.play(t)
	s.get(t, "/api/titles") // until it is ready
	address := strings.TrimPrefix(s.player, "http://")
	for _, test := range []struct {
		name, request, want string
	}{
		{"headers without end", "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20), "431"},
		{"a request that never ends", "GET / HTTP/1.1\r\nHost: localhost\r\n", ""},
		{"a body that never comes", "POST /api/stop HTTP/1.1\r\nHost: localhost\r\nX-Htlcdash: 1\r\nContent-Length: 100\r\n\r\n{", "400"},
		{"two lengths", "POST /api/stop HTTP/1.1\r\nHost: localhost\r\nX-Htlcdash: 1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", "400"},
		{"a length and chunks, another request behind", "POST /api/stop HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "421"},
		{"a name with a null byte", "GET /t/%00/v0/1.m4s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "404"},
		{"a path that leads out", "GET /t/title/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "404"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, test.request)
			answer := make([]byte, 12)
			n, _ := io.ReadFull(conn, answer) // ends when the proxy has had enough
			if got := strings.TrimSpace(strings.TrimPrefix(string(answer[:n]), "HTTP/1.1")); got != test.want {
				t.Errorf("answered %q, want %q", got, test.want)
			}
		})
	}
	t.Cleanup(func() { s.wantTaken(t, s.provider, 0) })
}

// A publisher names Representations and a provider gives reasons: none of that
// becomes a formula in a spreadsheet.
func TestExportHoldsNoFormulas(t *testing.T) {
	var out bytes.Buffer
	write := csvRows(&out)
	row := []cell{{"a", `=HYPERLINK("http://evil.example")`}, {"b", "@x"}, {"c", int64(-5)}, {"d", "film"}}
	if err := write(row); err != nil {
		t.Fatal(err)
	}
	if want := "a,b,c,d\n\"'=HYPERLINK(\"\"http://evil.example\"\")\",'@x,-5,film\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// A client that pays first can lose the price: that is what "prepaid" means. The
// bytes are not what was signed, but nothing that it holds says so to others.
func TestPrepaidTrusts(t *testing.T) {
	film := titletest.Make(t, titletest.Options{})
	s, h := besiege(t, film, film)
	garbage := bytes.Repeat([]byte{7}, 1000)
	h.serve(t, s, func(_ *hostile, w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "L402 ") {
			return false
		}
		_, _ = w.Write(garbage)
		return true
	}, never)
	shop, _, _ := strings.Cut(s.shop, ",")
	ask := func(authorization string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/t/title/v0/1.m4s", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", authorization)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	resp := ask("")
	challenge := resp.Header.Get("WWW-Authenticate")
	param := func(name string) string {
		_, rest, _ := strings.Cut(challenge, name+`="`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	inv, err := lightning.DecodeInvoice(param("invoice"))
	if err != nil || resp.StatusCode != http.StatusPaymentRequired {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	paid, err := s.viewer.Pay(t.Context(), inv, 0)
	if err != nil {
		t.Fatal(err)
	}
	preimage := paid.Preimage.Reveal()
	b, err := io.ReadAll(ask(fmt.Sprintf("L402 %s:%x", param("token"), preimage)).Body)
	if err != nil || !bytes.Equal(b, garbage) || htlcdash.RootOf(b) == film.Segments(t, "v0")[0].Plain {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	s.wantTaken(t, h.node, tick)
}
