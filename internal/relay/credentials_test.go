package relay_test

import (
	"testing"

	"htlcdash/buyer"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// Upstream sells its credentials: a relay buys a batch, as far as it may, for all its
// guests. Viewers who ask and never pay cost it that batch, and no more, also where
// they make it take new credentials without end; what it earns buys others.
func TestUpstreamSellsCredentials(t *testing.T) {
	const batch = 2 * lightning.Sat
	w := newTown(t)
	w.origin.closed()
	w.origin.tokens = batch
	w.origin.open(t)

	thrifty := w.house(t, "thrifty", w.origin)
	thrifty.open(t)
	wantErr(t, w.viewer(t, "nobody", thrifty).try(t, "v0", 0), buyer.ErrNoOffer)
	thrifty.wantAccount(t, account{})

	r := w.house(t, "relay", w.origin)
	r.buying = func(c *buyer.Config) { c.TokenPrice, c.Resells = batch, true }
	r.open(t)
	v := w.viewer(t, "viewer", r)
	v.play(t, "v0", 0)
	v.wantSpent(t, price+margin)
	r.wantAccount(t, account{earned: price + margin, spent: price + batch})

	// All that it has is used up, as if guests had asked without end.
	used := func() {
		for {
			if _, err := r.books.TakeCredential(t.Context(), w.origin.front.URL); err != nil {
				return
			}
		}
	}
	used()
	r.closed()
	r.open(t) // and it shows none that it had
	for range 3 {
		wantErr(t, v.try(t, "v0", 1), buyer.ErrNoOffer)
	}
	r.wantAccount(t, account{earned: price + margin, spent: price + batch})

	// The shelf earns what another batch costs.
	for i, name := range []string{"a", "b", "c", "d"} {
		g := w.viewer(t, name, r)
		g.play(t, "v0", 0)
		r.wantAccount(t, account{earned: price + margin + lightning.Msat(i+1)*800, spent: price + batch})
	}
	late := w.viewer(t, "late", r)
	late.play(t, "v0", 1)
	r.wantAccount(t, account{earned: 2*(price+margin) + 4*800, spent: 2*price + 2*batch})

	owned, err := r.books.Owned(t.Context())
	must(t, err)
	if len(owned) != 2 {
		t.Errorf("%d keys are owned, of two", len(owned))
	}
	batches := 0
	for p, err := range r.books.Purchases(t.Context(), ledger.Filter{Paid: true}) {
		must(t, err)
		if p.Representation == ledger.Credentials {
			batches++
		}
	}
	if batches != 2 {
		t.Errorf("%d batches were bought", batches)
	}
}

// A guest for whose berth no credential is to be had shares another's.
func TestGuestsShareABerth(t *testing.T) {
	const batch = 2 * lightning.Sat
	w := newTown(t)
	w.origin.closed()
	w.origin.tokens = batch
	w.origin.open(t)
	r := w.house(t, "relay", w.origin)
	r.buying = func(c *buyer.Config) { c.TokenPrice, c.Resells = batch, true }
	r.open(t)
	w.viewer(t, "first", r).play(t, "v0", 0)
	for {
		if _, err := r.books.TakeCredential(t.Context(), w.origin.front.URL); err != nil {
			break
		}
	}
	// Guests are drawn by lot: so many that some would have another berth.
	for _, name := range []string{"b", "c", "d", "e", "f", "g", "h", "i"} {
		segs := w.film.Segments(t, "v0")
		quotes, err := r.buyer.Resales(t.Context(), segs[1:2], name[0])
		must(t, err)
		if quotes[0] == nil {
			t.Fatal("not offered")
		}
	}
	r.wantAccount(t, account{earned: price + margin, spent: price + batch})
}
