package buyer_test

import (
	"errors"
	"net/http/httptest"
	"testing"

	"htlcdash"
	"htlcdash/buyer"
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
