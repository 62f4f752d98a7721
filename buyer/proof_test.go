package buyer_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/proof/zkb"
	"htlcdash/lightning"
)

// careful is a viewer who buys what is proved and nothing else.
func (w *world) careful(t testing.TB) buyer.Config {
	c := w.config(t)
	c.Unproved, c.Proofs = false, []string{"vole-80"}
	return c
}

// proving is a shop that proves what it sells.
func (w *world) proving(t testing.TB, name string) *shop {
	s := w.shop(t, name)
	s.proofs = []proof.System{vole.Bits80}
	return s
}

func TestProvedPurchase(t *testing.T) {
	w := newWorld(t, 3)
	c, s := w.careful(t), w.proving(t, "shop")
	b := w.open(t, c, s)
	for i := range w.segs {
		w.buy(t, b, i)
	}
	w.wantBooks(t, c, b, 3*price)
	if risk := b.Account(w.title).Risk; risk != 0 {
		t.Errorf("the account names a risk of %v", risk)
	}
	for p, err := range c.Ledger.Purchases(t.Context(), ledger.Filter{}) {
		must(t, err)
		if p.Proof != "vole-80" || p.Signer != s.till.Key.ID() {
			t.Errorf("booked as proved by %q, signed by %v", p.Proof, p.Signer)
		}
		// The receipt is evidence: what was promised, signed, and was kept.
		promise := exchange.Promise{
			Title: p.Title, Sealed: p.Sealed, KeyHash: p.KeyHash, Price: p.Amount, Hash: p.Hash, Salt: p.Salt, Expires: p.Expires,
		}
		must(t, promise.Verify(p.Signer, p.Signature))
		key, err := c.Ledger.Key(t.Context(), htlcdash.Seal{Sealed: p.Sealed, KeyHash: p.KeyHash})
		must(t, err)
		must(t, promise.Kept(p.Salt.Preimage(key)))
	}
	if n := s.tokens.Load(); n != 1 {
		t.Errorf("%d batches of credentials were fetched", n)
	}
}

// Whatever a cheat shows, a careful viewer pays it nothing and buys elsewhere.
func TestUnprovedIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cheat func(w *world, s *shop)
	}{
		{"no proofs", func(_ *world, s *shop) { s.proofs = nil }},
		{"proofs of another kind", func(_ *world, s *shop) { s.proofs = []proof.System{zkb.Bits80()} }},
		{"another key", func(w *world, s *shop) {
			s.key = func(htlcdash.Root) htlcdash.Key { return htlcdash.NewKey([32]byte{9}) }
		}},
		{"another salt", func(_ *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) { o.Salt[0] ^= 1 }
		}},
		{"another hash", func(_ *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) {
				inv, err := s.node.Invoice(context.Background(), lightning.RandomPreimage(), lightning.Terms{Amount: price})
				must(t, err)
				o.Hash, o.Invoice = inv.Hash, inv.Bolt11
			}
		}},
		{"a proof for another nonce", func(_ *world, s *shop) {
			s.lie = func(r *exchange.ProofRequest, _ *exchange.Offer) { r.Nonce = exchange.Nonce{1} }
		}},
		{"a proof of garbage", func(_ *world, s *shop) {
			s.lie = func(_ *exchange.ProofRequest, o *exchange.Offer) { o.Salt = htlcdash.Salt{1} }
		}},
		{"a proof of another provider", func(w *world, s *shop) { s.prover = w.proving(t, "behind") }},
		{"another signature", func(_ *world, s *shop) {
			s.forge = func(o *exchange.Offer) { o.Signature[5] ^= 1 }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, 1)
			c, cheat, honest := w.careful(t), w.proving(t, "cheat"), w.proving(t, "honest")
			tc.cheat(w, cheat)
			b := w.open(t, c, cheat, honest)
			w.buy(t, b, 0)
			w.wantBooks(t, c, b, price)
			if got, err := honest.node.Balance(t.Context()); err != nil || got.Outbound != price {
				t.Errorf("the honest one has %v, %v", got.Outbound, err)
			}
			if lost := b.Account(w.title).Lost; lost != 0 {
				t.Errorf("%v are lost", lost)
			}

			alone := newWorld(t, 1)
			cheat = alone.proving(t, "cheat")
			tc.cheat(alone, cheat)
			c = alone.careful(t)
			b = alone.open(t, c, cheat)
			_, err := b.Segment(t.Context(), alone.segs[0])
			wantErr(t, err, buyer.ErrTerms)
			if tc.name != "another signature" {
				wantErr(t, err, buyer.ErrUnproved)
			}
			alone.wantBooks(t, c, b, 0)
		})
	}
}

// A provider that proves is not held to the bound on unproved payments.
func TestProvedPaymentsAreNotExposed(t *testing.T) {
	w := newWorld(t, 8)
	c, s := w.careful(t), w.proving(t, "shop")
	c.Exposure = 1
	b := w.open(t, c, s)
	var wg sync.WaitGroup
	for i := range w.segs {
		wg.Go(func() { w.buy(t, b, i) })
	}
	wg.Wait()
	w.wantBooks(t, c, b, 8*price)
}

// One credential serves a title, and another one another title.
func TestCredentialsAreNotShared(t *testing.T) {
	w := newWorld(t, 2)
	w.segs[1].Title = htlcdash.TitleID{8}
	s := w.proving(t, "shop")
	var mu sync.Mutex
	seen := map[htlcdash.TitleID]map[string]bool{}
	s.saw = func(title htlcdash.TitleID, token string) {
		mu.Lock()
		defer mu.Unlock()
		if seen[title] == nil {
			seen[title] = map[string]bool{}
		}
		seen[title][token] = true
	}
	b := w.open(t, w.careful(t), s)
	must(t, b.AddTitle(t.Context(), htlcdash.TitleID{8}, price, []*buyer.Provider{s.provider(t)}))
	w.buy(t, b, 0)
	w.buy(t, b, 1)
	if len(seen) != 2 {
		t.Fatalf("%d titles were asked for", len(seen))
	}
	for title, tokens := range seen {
		if len(tokens) != 1 {
			t.Errorf("title %v was asked for under %d credentials", title, len(tokens))
		}
		for token := range tokens {
			for other := range seen {
				if other != title && seen[other][token] {
					t.Error("two titles were asked for under one credential")
				}
			}
		}
	}
	if n := s.tokens.Load(); n != 1 {
		t.Errorf("%d batches were fetched, one has enough for both", n)
	}
}

// A credential that the provider no longer takes is replaced by another.
func TestCredentialThatIsRefused(t *testing.T) {
	w := newWorld(t, 2)
	c, s := w.careful(t), w.proving(t, "shop")
	b := w.open(t, c, s)
	w.buy(t, b, 0)
	s.useKeys(t, 2)
	w.buy(t, b, 1)
	w.wantBooks(t, c, b, 2*price)
}

// An offer that was asked for ahead, under a credential that has ended since, is
// asked for anew: it is not the provider's fault, and there is no other one.
func TestCredentialEndsBeforeItsOffers(t *testing.T) {
	w := newWorld(t, 2)
	c, s := w.careful(t), w.proving(t, "shop")
	b := w.open(t, c, s)
	b.Prepare(t.Context(), w.segs)
	w.buy(t, b, 0)
	s.useKeys(t, 2)
	w.buy(t, b, 1)
	w.wantBooks(t, c, b, 2*price)
}

// A provider that shows one viewer another key than before could know it by its
// credentials. It gets no more requests.
func TestKeyOfOnesOwn(t *testing.T) {
	w := newWorld(t, 2)
	c, s := w.careful(t), w.proving(t, "shop")
	s.expires = time.Now().Add(time.Hour).Unix()
	b := w.open(t, c, s)
	w.buy(t, b, 0)
	b.Close()
	must(t, c.Ledger.Close())
	s.useKeys(t, 2) // under the same expiry
	c = w.careful(t)
	b = w.open(t, c, s)
	_, err := b.Segment(t.Context(), w.segs[1])
	wantErr(t, err, credential.ErrIssuer)
	w.wantBooks(t, c, b, price)
}

// One that shows so many keys that the first would be forgotten could change that
// then. It gets no more requests either.
func TestKeysWithoutEnd(t *testing.T) {
	w := newWorld(t, 5)
	s := w.proving(t, "shop")
	for run := 0; ; run++ {
		c := w.careful(t)
		s.older = nil
		for i := range 15 {
			s.older = append(s.older, time.Now().Add(time.Hour).Unix()+int64(16*run+i))
		}
		b := w.open(t, c, s)
		_, err := b.Segment(t.Context(), w.segs[run])
		b.Close()
		must(t, c.Ledger.Close())
		if err == nil && run < 4 {
			continue
		}
		wantErr(t, err, credential.ErrIssuer)
		if run != 4 {
			t.Errorf("run %d is the first that is refused", run)
		}
		break
	}
}

func TestCredentialsForMoney(t *testing.T) {
	w := newWorld(t, 2)
	s := w.proving(t, "shop")
	s.price = 5 * lightning.Sat
	c := w.careful(t)
	b := w.open(t, c, s)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrTerms)
	w.wantBooks(t, c, b, 0)
	b.Close()

	w.path = filepath.Join(t.TempDir(), "ledger.db")
	c = w.careful(t)
	c.TokenPrice = 5 * lightning.Sat
	b = w.open(t, c, s)
	w.buy(t, b, 0)
	w.buy(t, b, 1)
	w.wantBooks(t, c, b, 2*price+5*lightning.Sat)
	if n := s.tokens.Load(); n != 1 {
		t.Errorf("%d batches were given out", n)
	}
}

// Credentials that were paid for are had after a crash between the payment and
// the answer.
func TestCredentialsForMoneyAcrossACrash(t *testing.T) {
	w := newWorld(t, 1)
	s := w.proving(t, "shop")
	s.price = 5 * lightning.Sat
	c := w.careful(t)
	c.TokenPrice = s.price
	s.silent.Store(true) // it takes the money and says nothing
	b := w.open(t, c, s)
	if _, err := b.Segment(t.Context(), w.segs[0]); err == nil {
		t.Fatal("bought without a credential")
	}
	w.wantBooks(t, c, b, s.price)
	b.Close()
	must(t, c.Ledger.Close())
	s.silent.Store(false)
	c = w.careful(t)
	c.TokenPrice = s.price
	b = w.open(t, c, s)
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, price+s.price)
}

// A blind wallet pays and gives no preimage, as custodians do who settle in
// their own books.
type blindWallet struct{ lightning.Payer }

func (w blindWallet) Pay(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat) (lightning.Payment, error) {
	p, err := w.Payer.Pay(ctx, inv, maxFee)
	p.Preimage = lightning.Preimage{}
	return p, err
}

func TestKeyFromTheProvider(t *testing.T) {
	w := newWorld(t, 4)
	c, s := w.careful(t), w.proving(t, "shop")
	c.Payer, c.Patience = blindWallet{w.viewer}, 3*time.Second
	s.paid = func(lightning.Hash) bool { return true }
	b := w.open(t, c, s)
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, price)

	// It tells nothing at first: the money is booked as lost, and the provider,
	// who may be honest, is not banned. In a later run the key comes.
	s.paid = func(lightning.Hash) bool { return false }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := b.Segment(ctx, w.segs[1])
	wantErr(t, err, buyer.ErrCheated)
	_, err = b.Segment(ctx, w.segs[2]) // nor does it get more
	wantErr(t, err, buyer.ErrNoOffer)
	if v := w.standing(t, b, s); v.State != "owing" {
		t.Errorf("who has told no key: %+v", v)
	}
	if lost := b.Account(w.title).Lost; lost != price {
		t.Errorf("lost %v, want %v", lost, price)
	}
	s.paid = func(lightning.Hash) bool { return true } // it thinks better of it
	must(t, b.AddTitle(t.Context(), w.title, price, []*buyer.Provider{s.provider(t)}))
	eventually(t, "it is never asked again", func() bool { return w.standing(t, b, s).State != "owing" })
	w.buy(t, b, 1)
	w.buy(t, b, 2)
	w.wantBooks(t, c, b, 3*price)
	s.paid = func(lightning.Hash) bool { return false }
	_, err = b.Segment(ctx, w.segs[3])
	wantErr(t, err, buyer.ErrCheated)
	b.Close()
	must(t, c.Ledger.Close())
	s.paid = func(lightning.Hash) bool { return true }
	c = w.careful(t)
	c.Payer = blindWallet{w.viewer}
	b = w.open(t, c, s)
	eventually(t, "the key never comes", func() bool { _, err := c.Ledger.Key(t.Context(), w.segs[3].Seal); return err == nil })
	w.buy(t, b, 3)
	w.wantBooks(t, c, b, 4*price)
}

// Requests for sealed bytes show the credential of the title, where there is
// one, and nothing else does.
func TestAuthorizationOfBytes(t *testing.T) {
	w := newWorld(t, 1)
	s := w.proving(t, "shop")
	c := w.careful(t)
	carrier := &carrier{store: w.sealed}
	c.Sealed = carrier
	b := w.open(t, c, s)
	path := "/" + htlcdash.SealedPath(w.segs[0].Sealed)
	carrier.show = func(ctx context.Context) string { return b.Authorization(ctx, s.URL+"/", path) }
	b.Prepare(t.Context(), w.segs)
	must(t, b.Download(t.Context(), w.segs[0]))
	if !strings.HasPrefix(carrier.shown, "PrivateToken ") {
		t.Errorf("bytes were asked for with %q", carrier.shown)
	}
	r, err := http.NewRequest(http.MethodGet, path, nil)
	must(t, err)
	r.Header.Set("Authorization", carrier.shown)
	if s.guest(r, nil) == nil {
		t.Error("the provider does not take it")
	}
	for name, got := range map[string]string{
		"another provider": b.Authorization(carrier.ctx, "http://elsewhere.example", path),
		"no title":         b.Authorization(t.Context(), s.URL, path),
	} {
		if got != "" {
			t.Errorf("%s is shown %q", name, got)
		}
	}
}

// A carrier notes what a source of bytes would show.
type carrier struct {
	*store
	show  func(context.Context) string
	shown string
	ctx   context.Context
}

func (c *carrier) Get(ctx context.Context, b htlcdash.Blob) ([]byte, error) {
	c.shown, c.ctx = c.show(ctx), ctx
	return c.store.Get(ctx, b)
}
