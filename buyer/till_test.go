package buyer_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash/buyer"
	"htlcdash/lightning"
)

// serves lets a shop's requests through a function that returns whether it has
// answered.
func (s *shop) serves(do func(w http.ResponseWriter, r *http.Request) bool) {
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !do(w, r) {
			inner.ServeHTTP(w, r)
		}
	})
}

// takes has a shop want another credential for all requests for offers but the
// first n.
func (s *shop) takes(n int64) {
	var asked atomic.Int64
	s.serves(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/offers" || asked.Add(1) <= n {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

// Who sells credentials and takes none of them has sold one batch, whatever the
// viewer would spend, also in later runs. Who sells keys can sell more.
func TestCredentialsCostLittle(t *testing.T) {
	w := newWorld(t, 60)
	s, conf := w.shop(t, "shop"), w.config(t)
	s.price, conf.TokenPrice = 3*lightning.Sat, 3*lightning.Sat
	s.takes(0)
	b := w.open(t, conf, s)
	for range 2 {
		for i := range 40 { // each shows another one of the 16
			_, err := b.Segment(t.Context(), w.segs[i])
			wantErr(t, err, buyer.ErrNoOffer)
		}
		w.wantBooks(t, conf, b, s.price)
		if v := w.standing(t, b, s); v.Sold != 0 || v.Paid != 0 {
			t.Errorf("it counts as having sold %d keys, for %v", v.Sold, v.Paid)
		}
		b.Close()
		must(t, conf.Ledger.Close())
		conf = w.config(t)
		conf.TokenPrice = s.price
		b = w.open(t, conf, s)
	}

	w = newWorld(t, 120)
	s, conf = w.shop(t, "shop"), w.config(t)
	s.price, conf.TokenPrice = 3*lightning.Sat, 3*lightning.Sat
	s.takes(1)
	b = w.open(t, conf, s)
	w.buy(t, b, 0)
	for i := 1; i < 120; i++ {
		_, err := b.Segment(t.Context(), w.segs[i])
		wantErr(t, err, buyer.ErrNoOffer)
	}
	w.wantBooks(t, conf, b, price+4*s.price) // one, and three for a key of 10 sat
}

// However late the one is, credentials of another are not bought beside it, be it
// to buy or ahead of that.
func TestHedgingCostsNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		want lightning.Msat
		do   func(t *testing.T, w *world, b *buyer.Buyer)
	}{
		{"ahead", 0, func(t *testing.T, w *world, b *buyer.Buyer) { b.Prepare(t.Context(), w.segs) }},
		{"made ready", 0, func(t *testing.T, w *world, b *buyer.Buyer) { must(t, b.Ready(t.Context(), w.segs[0])) }},
		{"to buy", price, func(t *testing.T, w *world, b *buyer.Buyer) {
			_, err := b.Segment(buyer.NeededBy(t.Context(), time.Now()), w.segs[0])
			must(t, err)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			late, sells, conf := w.shop(t, "late"), w.shop(t, "sells"), w.config(t)
			sells.price, conf.TokenPrice = lightning.Sat, lightning.Sat
			asked := make(chan struct{})
			done := sync.OnceFunc(func() { close(asked) })
			late.serves(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v1/offers" {
					select {
					case <-asked: // then the other was asked
					case <-r.Context().Done():
					}
				}
				return false
			})
			sells.serves(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v1/credentials" {
					defer done()
				}
				return false
			})
			b := w.open(t, conf, late, sells)
			c.do(t, w, b)
			w.wantBooks(t, conf, b, c.want)
			b.Close()
			w.wantBooks(t, conf, b, c.want)
		})
	}
}

// A provider that a title does not have any more is not asked, nor does what it
// has offered stand in the way.
func TestFormerFavouriteIsNotAsked(t *testing.T) {
	w := newWorld(t, 8)
	old, now, conf := w.shop(t, "old"), w.shop(t, "now"), w.config(t)
	b := w.open(t, conf, old)
	w.play(t, b, 0, 4)
	b.Prepare(t.Context(), w.segs[4:6])
	must(t, b.AddTitle(t.Context(), w.title, price, []*buyer.Provider{now.provider(t)}))
	asked := old.requests.Load()
	b.Prepare(t.Context(), w.segs[4:])
	if n := old.requests.Load(); n != asked || now.requests.Load() == 0 {
		t.Errorf("the former one was asked %d times, the new one %d times", n-asked, now.requests.Load())
	}
	w.play(t, b, 4, 8)
	if sold := sales(t, conf.Ledger, 4); sold[now.URL] != 4 {
		t.Errorf("sold %v", sold)
	}
	w.wantBooks(t, conf, b, 8*price)
}
