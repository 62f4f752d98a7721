package buyer_test

import (
	"sync"
	"testing"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A key can be bought without the segment, and then opens it.
func TestKey(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			key, err := b.Key(t.Context(), w.segs[0])
			if err != nil || !key.Opens(w.segs[0].Seal) {
				t.Errorf("key: %v", err)
			}
		})
	}
	work.Wait()
	w.wantBooks(t, c, b, price)
	s.Close()
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, price)
}

// What costs more than it may is not bought, which is no fault of who asks it,
// and the route is inside.
func TestDear(t *testing.T) {
	w := newWorld(t, 2)
	s, c := w.shop(t, "shop"), w.config(t)
	most := price * 9 / 10
	c.Most = func(htlcdash.Segment) lightning.Msat { return most }
	b := w.open(t, c, s)
	_, err := b.Key(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrDear, buyer.ErrNoOffer)
	w.wantBooks(t, c, b, 0)

	s.percent.Store(90) // again by the same provider, at once
	w.router.SetFees(sim.Fees{Base: 1})
	_, err = b.Key(t.Context(), w.segs[0])
	wantErr(t, err, lightning.ErrFailed)
	w.wantBooks(t, c, b, 0)

	w.router.SetFees(sim.Fees{})
	if _, err := b.Key(t.Context(), w.segs[1]); err != nil {
		t.Error(err)
	}
	w.wantBooks(t, c, b, most)
}
