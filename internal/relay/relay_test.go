package relay_test

import (
	"testing"

	"htlcdash/internal/ledger"
)

// A key passes through once, at the price of upstream and the relay's margin, and is
// sold from the own shelf from then on.
func TestPassThrough(t *testing.T) {
	w := newTown(t)
	r := w.house(t, "relay", w.origin)
	r.open(t)
	v := w.viewer(t, "viewer", r)
	for i := range 3 {
		v.play(t, "v0", i)
	}
	v.play(t, "a0", 0)
	const up, down = 3*price + price/2, 3*price + price/2 + 4*margin
	v.wantSpent(t, down)
	r.wantAccount(t, account{earned: down, spent: up})
	w.origin.wantAccount(t, account{earned: up})
	if open := r.openResales(t); len(open) > 0 {
		t.Errorf("still open: %+v", open)
	}
	for sale, err := range r.books.Sales(t.Context(), ledger.Filter{}) {
		must(t, err)
		if sale.Received != sale.Cost+margin || sale.Scheme != "salted" {
			t.Errorf("sale %+v", sale)
		}
	}
	prover := w.origin.key().ID()
	for p, err := range v.books.Purchases(t.Context(), ledger.Filter{}) {
		must(t, err)
		if p.Proof != "vole-80" || p.Prover != prover || p.Signer != r.key().ID() || p.Payee != r.node.ID() {
			t.Errorf("purchase %+v", p)
		}
	}

	// The next viewer costs nothing upstream: own offer, own salt, own proof.
	next := w.viewer(t, "next", r)
	next.play(t, "v0", 0)
	paid := left(t, next.node, funds)
	r.wantAccount(t, account{earned: down + paid, spent: up})
	w.origin.wantAccount(t, account{earned: up})
	for p, err := range next.books.Purchases(t.Context(), ledger.Filter{}) {
		must(t, err)
		if p.Signer != r.key().ID() || p.Prover != [32]byte{} {
			t.Errorf("from the shelf: %+v", p)
		}
	}
}
