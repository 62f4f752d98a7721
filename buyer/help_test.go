package buyer_test

import (
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// waitStalled returns once the payment hangs before the payee.
func waitStalled(t *testing.T, w *world, h lightning.Hash) {
	t.Helper()
	for range 2000 {
		p, err := w.viewer.Lookup(t.Context(), h)
		if err == nil && p.State == lightning.Unknown {
			w.net.Wait()
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the payment was never sent")
}

// quiet returns once nothing is in flight.
func quiet(t *testing.T, b *buyer.Buyer, title htlcdash.TitleID) {
	t.Helper()
	events := b.Watch(t.Context())
	deadline := time.After(20 * time.Second)
	for b.Account(title).InFlight > 0 {
		select {
		case <-events:
		case <-deadline:
			t.Fatal("payments never settle")
		}
	}
}

// bookHash books a failed purchase with the hash that the shop offers.
func bookHash(t *testing.T, c buyer.Config, w *world, h lightning.Hash) {
	t.Helper()
	must(t, c.Ledger.Intend(t.Context(), ledger.Purchase{Hash: h, Title: w.title, Provider: "elsewhere", Amount: price}))
	must(t, c.Ledger.Conclude(t.Context(), h, lightning.Payment{State: lightning.Failed}, htlcdash.Key{}))
}
