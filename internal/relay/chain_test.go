package relay_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/relay"
	"htlcdash/lightning"
)

// Three providers in a row: each is paid by the next, to the msat, and the proof
// comes from the first. The blocks for which each holds are those of spec/14.
func TestChainOfThree(t *testing.T) {
	w := newTown(t)
	first := w.house(t, "first", w.origin)
	first.open(t)
	second := w.house(t, "second", first)
	second.open(t)
	v := w.viewer(t, "viewer", second)
	for i := range 3 {
		v.play(t, "v0", i)
	}
	v.wantSpent(t, 3*(price+2*margin))
	second.wantAccount(t, account{earned: 3 * (price + 2*margin), spent: 3 * (price + margin)})
	first.wantAccount(t, account{earned: 3 * (price + margin), spent: 3 * price})
	w.origin.wantAccount(t, account{earned: 3 * price})
	for p, err := range v.books.Purchases(t.Context(), ledger.Filter{}) {
		must(t, err)
		inv, err := lightning.DecodeInvoice(p.Bolt11)
		must(t, err)
		const step = lightning.Padding + relay.Route + relay.Reserve
		if p.Prover != w.origin.key().ID() || p.Signer != second.key().ID() || inv.FinalDelta != blocks+2*step || inv.FinalDelta > exchange.MaxLock {
			t.Errorf("signed by %s, proved by %s, held for %d blocks", p.Signer, p.Prover, inv.FinalDelta)
		}
	}

	// A fourth would have to hold for longer than buyers allow, and sells nothing
	// that is not on a shelf.
	third := w.house(t, "third", second)
	third.open(t)
	late := w.viewer(t, "late", third)
	wantErr(t, late.try(t, "v0", 4), buyer.ErrNoOffer)
	late.play(t, "v0", 0) // which is on the shelf of the second
	w.origin.wantAccount(t, account{earned: 3 * price})
}

// What many want at once is bought once: all payments that are held are taken with
// the one key.
func TestJoinedMisses(t *testing.T) {
	w := newTown(t)
	r := w.house(t, "relay", w.origin)
	r.open(t)
	const viewers = 5
	var all []*viewer
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		v := w.viewer(t, name, r)
		must(t, v.Ready(t.Context(), w.film.Segments(t, "v0")[0])) // so that all have an offer that is passed on
		all = append(all, v)
	}
	errs := make([]error, viewers)
	var work sync.WaitGroup
	for i, v := range all {
		work.Go(func() { errs[i] = v.try(t, "v0", 0) })
	}
	work.Wait()
	must(t, errors.Join(errs...))
	for _, v := range all {
		v.wantSpent(t, price+margin)
	}
	r.wantAccount(t, account{earned: viewers * (price + margin), spent: price})
	w.origin.wantAccount(t, account{earned: price})
	costs := 0
	for sale, err := range r.books.Sales(t.Context(), ledger.Filter{}) {
		must(t, err)
		if sale.Cost != 0 {
			costs++
		}
	}
	if costs != 1 {
		t.Errorf("%d sales bear the cost, want one", costs)
	}
}

// The same request gets the same offers, within what a guest may have.
func TestOffersAreTheSameAgain(t *testing.T) {
	w := newTown(t)
	r := w.house(t, "relay", w.origin)
	r.config = func(c *relay.Config) { c.PerGuest = 2 }
	r.open(t)
	segs := w.film.Segments(t, "v0")
	var made atomic.Int32
	hold := func(ctx context.Context, h lightning.Hash, terms lightning.Terms) (lightning.Invoice, error) {
		made.Add(1)
		return r.node.HoldInvoice(ctx, h, terms)
	}
	guest := [32]byte{1}
	first := r.relay.Offers(t.Context(), guest, hold, segs[:3], 7)
	again := r.relay.Offers(t.Context(), guest, hold, segs[:2], 7)
	other := r.relay.Offers(t.Context(), [32]byte{2}, hold, segs[:1], 7)
	for i := range 2 {
		if first[i].Error != "" || again[i] != first[i] {
			t.Errorf("offers %+v and %+v", first[i], again[i])
		}
	}
	// A guest has no more than its share, and each has offers of its own.
	if first[2].Error != exchange.RefusedBusy || other[0].Error != "" || other[0].Hash == first[0].Hash || made.Load() != 3 {
		t.Errorf("offers %+v and %+v, %d invoices", first[2], other[0], made.Load())
	}
	// Another's offer proves nothing to a guest.
	_, err := r.relay.Proof(t.Context(), [32]byte{2}, first[0].ID(), "vole-80", exchange.NewNonce())
	wantErr(t, err, htlcdash.ErrNotFound)
	_, err = r.relay.Proof(t.Context(), guest, first[0].ID(), "no-such-system", exchange.NewNonce())
	wantErr(t, err, htlcdash.ErrNotFound)
	if p, err := r.relay.Sold(t.Context(), guest, first[0].ID()); err != nil || !p.IsZero() {
		t.Errorf("a key was told that nobody has paid for: %v", err)
	}
	// What nobody pays ends with its invoice, and makes room.
	for _, o := range first[:2] {
		must(t, r.node.Cancel(t.Context(), o.Hash))
	}
	eventually(t, "room for others", func() bool { return len(r.openResales(t)) == 1 })
	eventually(t, "an offer", func() bool { return r.relay.Offers(t.Context(), guest, hold, segs[2:3], 8)[0].Error == "" })
	r.wantAccount(t, account{})
}

// Two relays that buy of each other, and neither has the key: the question ends, and
// nothing is paid.
func TestRelaysInACircle(t *testing.T) {
	w := newTown(t)
	one, two := w.house(t, "one"), w.house(t, "two")
	one.up, two.up = []*house{two}, []*house{one}
	w.net.Connect(one.node, two.node, funds, 0)
	w.net.Connect(two.node, one.node, funds, 0)
	one.open(t)
	two.open(t)
	v := w.viewer(t, "viewer", one)
	wantErr(t, v.try(t, "v0", 0), buyer.ErrNoOffer)
	v.wantSpent(t, 0)
	if n := one.node; left(t, n, funds) != 0 || len(one.openResales(t))+len(two.openResales(t)) != 0 {
		t.Error("something was paid, or is open")
	}
	for _, h := range []*house{one, two} {
		if s := h.buyer.Standing(w.film.ID)[0]; s.State == "shunned" {
			t.Errorf("%s thinks the other has failed too often: %+v", h.name, s)
		}
	}
}

// What a hold must last is counted from upstream's invoice, and is no more than buyers
// allow.
func TestBlocksOfAHold(t *testing.T) {
	const most = exchange.MaxLock - relay.Reserve - lightning.Padding - blocks
	for _, c := range []struct {
		route int
		want  error
	}{{most, nil}, {most + 1, buyer.ErrNoOffer}} {
		w := newTown(t)
		r := w.house(t, "relay", w.origin)
		r.config = func(rc *relay.Config) { rc.Route = c.route }
		r.open(t)
		if err := w.viewer(t, "viewer", r).try(t, "v0", 0); !errors.Is(err, c.want) {
			t.Errorf("%d blocks for the route: got %v, want %v", c.route, err, c.want)
		}
	}
}
