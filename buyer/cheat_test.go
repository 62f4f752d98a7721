package buyer_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// Who is found to cheat gets nothing more, though others have its offers in hand
// already, at whatever address they asked for them.
func TestACheatGetsNothingMore(t *testing.T) {
	for _, c := range []struct {
		name  string
		doors int
	}{{"at its address", 1}, {"at another address with the same key", 2}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 2)
			cheat, conf := w.shop(t, "cheat"), w.config(t)
			cheat.key = func(htlcdash.Root) htlcdash.Key { return htlcdash.NewKey([32]byte{9}) }
			last := cheat
			if c.doors == 2 {
				last = &shop{Server: httptest.NewServer(cheat.Config.Handler)}
				t.Cleanup(last.Close)
			}
			b := w.open(t, conf, last)
			comes := w.sealed.hold()
			waits := make(chan error)
			go func() {
				_, err := b.Segment(t.Context(), w.segs[1])
				waits <- err
			}()
			eventually(t, "nobody asks for an offer", func() bool { return w.standing(t, b, last).Factor != 0 })
			w.sealed.mu.Lock()
			w.sealed.gate = nil
			w.sealed.mu.Unlock()
			must(t, b.AddTitle(t.Context(), w.title, price, []*buyer.Provider{cheat.provider(t)}))
			_, err := b.Segment(t.Context(), w.segs[0])
			wantErr(t, err, buyer.ErrCheated)
			comes() // and the other may be paid for
			wantErr(t, <-waits, buyer.ErrNoOffer)
			w.wantBooks(t, conf, b, price)
			if lost := b.Account(w.title).Lost; lost != price {
				t.Errorf("lost %v, want %v", lost, lightning.Msat(price))
			}
		})
	}
}

// So it is with those who wait until they may pay it.
func TestWhoWaitsDoesNotPayACheat(t *testing.T) {
	w := newWorld(t, 3)
	cheat, conf := w.shop(t, "cheat"), w.config(t)
	cheat.key = func(htlcdash.Root) htlcdash.Key { return htlcdash.NewKey([32]byte{9}) }
	conf.Exposure = price
	b := w.open(t, conf, cheat)
	b.Prepare(t.Context(), w.segs)
	ended := make(chan error)
	for _, seg := range w.segs {
		go func() {
			_, err := b.Segment(t.Context(), seg)
			ended <- err
		}()
	}
	cheated := 0
	for range w.segs {
		if errors.Is(<-ended, buyer.ErrCheated) {
			cheated++
		}
	}
	if cheated != 1 {
		t.Errorf("cheated %d times", cheated)
	}
	w.wantBooks(t, conf, b, price)
}

// A provider that shows another one's key, and passes on what that one signs,
// spoils its own name only.
func TestABorrowedKeyHarmsNobody(t *testing.T) {
	for _, c := range []struct {
		name  string
		bad   func(s *shop, w *world)
		state string // that it comes to
	}{
		{"offers that the key did not sign", func(*shop, *world) {}, "shunned"},
		{"prices above the ceiling", func(s *shop, _ *world) { s.percent.Store(200) }, "shunned"},
		{"no offers", func(s *shop, _ *world) {
			s.serves(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v1/offers" {
					return false
				}
				w.WriteHeader(http.StatusTeapot)
				return true
			})
		}, "shunned"},
		// What the other signs, at a node that holds the money.
		{"a payment that hangs", func(s *shop, w *world) {
			holder := w.net.Node("holder")
			w.net.Connect(w.router, holder, channel, 0)
			s.till.Key = s.borrows.till.Key
			s.forge = func(o *exchange.Offer) {
				inv, err := holder.HoldInvoice(context.Background(), o.Hash, lightning.Terms{Amount: o.Price})
				if err != nil {
					panic(err)
				}
				o.Invoice = inv.Bolt11
			}
		}, "hanging"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 14)
			thief, honest, conf := w.shop(t, "thief"), w.shop(t, "honest"), w.config(t)
			thief.borrows = honest
			conf.Patience = 2 * time.Second
			c.bad(thief, w)
			b := w.open(t, conf, thief)
			for i := 0; i < 10 && w.standing(t, b, thief).State != c.state; i++ {
				if _, err := b.Segment(t.Context(), w.segs[i]); err == nil {
					t.Fatal("it sells")
				}
			}
			eventually(t, "it is not found out", func() bool { return w.standing(t, b, thief).State == c.state })
			must(t, b.AddTitle(t.Context(), w.title, price, []*buyer.Provider{thief.provider(t), honest.provider(t)}))
			eventually(t, "the key of a provider is never asked for", func() bool { return w.standing(t, b, honest).Key != htlcdash.ProviderID{} })
			if a, b := w.standing(t, b, thief), w.standing(t, b, honest); a.Key != b.Key || b.State != "unknown" && b.State != "on probation" || b.Why != "" {
				t.Errorf("the thief %+v, the honest one %+v", a, b)
			}
			for i := 10; i < 14; i++ {
				w.buy(t, b, i)
			}
			if v := w.standing(t, b, honest); v.Sold != 4 {
				t.Errorf("the honest one: %+v", v)
			}
			bans, err := conf.Ledger.Bans(t.Context())
			must(t, err)
			if len(bans) != 0 {
				t.Errorf("banned: %v", bans)
			}
		})
	}
}
