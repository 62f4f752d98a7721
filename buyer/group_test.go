package buyer_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// newGroups is a world whose segments are sold in groups of so many.
func newGroups(t testing.TB, groups, each int) *world {
	t.Helper()
	w := newWorld(t, 0)
	for g := range groups {
		group := htlcdash.Group{First: g * each, Count: each}
		var blobs []htlcdash.Blob
		for i := range each {
			plain := fmt.Appendf(nil, "segment %d", group.First+i)
			w.plain = append(w.plain, plain)
			blobs = append(blobs, htlcdash.Blob{Root: htlcdash.RootOf(plain), Length: int64(len(plain))})
		}
		key := htlcdash.KeyOf([]byte("secret"), blobs...)
		for i := group.First; i < group.First+each; i++ {
			sealed, seal := htlcdash.SealWith(nil, key, w.plain[i])
			seal.Price, seal.Duration = price, time.Second
			w.keys[seal.Sealed], w.sealed.blobs[seal.Sealed] = key, sealed
			w.segs = append(w.segs, htlcdash.Segment{Title: w.title, Representation: "a1", Index: i, Group: group, Seal: seal})
		}
	}
	return w
}

// However many ask for however many segments of a group at once, its key is
// paid for once; also where the budget carries no second payment.
func TestGroupIsBoughtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*buyer.Config)
	}{
		{"without limits", func(c *buyer.Config) { c.Exposure = buyer.NoLimit }},
		{"exposure of one price", func(*buyer.Config) {}},
		{"money for one", func(c *buyer.Config) { c.Limits.Title = price }},
		{"money for one, any exposure", func(c *buyer.Config) { c.Limits.Title, c.Exposure = price, buyer.NoLimit }},
		{"paid beside the download", func(c *buyer.Config) { c.PayBeside = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newGroups(t, 1, 16)
			s, c := w.shop(t, "shop"), w.config(t)
			tt.set(&c)
			b := w.open(t, c, s)
			w.viewer.Order(sim.Delay(20 * time.Millisecond))
			var wg sync.WaitGroup
			for i := range w.segs {
				for range 4 {
					wg.Go(func() { w.buy(t, b, i) })
				}
			}
			wg.Wait()
			w.wantBooks(t, c, b, price)
			must(t, c.Ledger.Check(t.Context()))
		})
	}
}

// A key that is owned opens all of its group, without a provider, a budget or
// permission to buy, also in a later run.
func TestOwnedKeyOpensItsGroup(t *testing.T) {
	w := newGroups(t, 2, 5)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	w.buy(t, b, 7)
	s.Close()
	must(t, b.SetTitleBudget(t.Context(), w.title, 0))
	b.Stop(w.title)
	for i := 5; i < 10; i++ {
		w.buy(t, b, i)
	}
	_, err := b.Segment(t.Context(), w.segs[4]) // of the other group
	wantErr(t, err, buyer.ErrStopped)
	w.wantBooks(t, c, b, price)
	b.Close()
	again := w.open(t, c, s)
	w.buy(t, again, 9)
	w.wantBooks(t, c, again, price)
}

// A payment under way for one segment is waited for by the others.
func TestGroupInFlight(t *testing.T) {
	w := newGroups(t, 1, 3)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	events := b.Watch(t.Context())
	w.viewer.Order(sim.Stall)
	var wg sync.WaitGroup
	wg.Go(func() { w.buy(t, b, 0) })
	hash := await(t, events, 0, "paying").Hash
	waitStalled(t, w, hash)
	for i := range w.segs {
		wg.Go(func() { w.buy(t, b, i) })
	}
	w.net.Release(hash, true)
	wg.Wait()
	w.wantBooks(t, c, b, price)
}

// One offer is asked for each key, and serves whichever segment is bought.
func TestPrepareAsksForKeys(t *testing.T) {
	w := newGroups(t, 3, 8)
	s, c := w.shop(t, "shop"), w.config(t)
	var offers atomic.Int64
	s.spoil = func(htlcdash.Segment, *exchange.Offer) { offers.Add(1) }
	b := w.open(t, c, s)
	b.Prepare(t.Context(), w.segs)
	b.Prepare(t.Context(), w.segs[4:])
	if n, m := s.requests.Load(), offers.Load(); n != 1 || m != 3 {
		t.Errorf("%d requests for %d offers, want 1 for 3", n, m)
	}
	for _, i := range []int{6, 13, 20, 7, 0} {
		w.buy(t, b, i)
	}
	if m := offers.Load(); m != 3 {
		t.Errorf("%d offers after buying what was prepared, want 3", m)
	}
	w.wantBooks(t, c, b, 3*price)
}

// An offer for one segment is not paid for another of the same key that may
// cost less.
func TestQuoteOfADearerSeal(t *testing.T) {
	w := newGroups(t, 1, 2)
	w.segs[1].Representation, w.segs[1].Price = "a2", price-lightning.Sat // the key comes back in another list
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	b.Prepare(t.Context(), w.segs[:1])
	w.buy(t, b, 1)
	w.wantBooks(t, c, b, price-lightning.Sat)
}

// A proof, and what is in the books, are of the segment that the offer was asked
// for, whichever of its group is bought.
func TestGroupIsProved(t *testing.T) {
	w := newGroups(t, 1, 4)
	s, c := w.proving(t, "shop"), w.careful(t)
	b := w.open(t, c, s)
	b.Prepare(t.Context(), w.segs[:1])
	w.buy(t, b, 3)
	w.wantBooks(t, c, b, price)
	for p, err := range c.Ledger.Purchases(t.Context(), ledger.Filter{}) {
		must(t, err)
		if p.Sealed != w.segs[0].Sealed || p.Index != 3 {
			t.Errorf("booked as a purchase of %v, segment %d", p.Sealed, p.Index)
		}
	}
}
