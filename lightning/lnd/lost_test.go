package lnd_test

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// TestLostPayment holds what lnd calls in flight against its channels.
func TestLostPayment(t *testing.T) {
	s := newSale(t, lightning.Sat)
	inFlight := s.payment("IN_FLIGHT")
	inFlight["htlcs"] = []any{map[string]any{
		"status": "IN_FLIGHT",
		"route":  map[string]any{"hops": []any{map[string]any{"chan_id": "7"}, map[string]any{"chan_id": "8"}}},
	}}
	channel := func(id string, active bool, hashes ...lightning.Hash) map[string]any {
		pending := []any{}
		for _, h := range hashes {
			pending = append(pending, map[string]any{"hash_lock": h[:]})
		}
		return map[string]any{
			"chan_id": id, "active": active, "pending_htlcs": pending, "capacity": "1", "local_balance": "1", "remote_balance": "0",
			"remote_pubkey": "02" + s.Hash.String(),
		}
	}
	for _, test := range []struct {
		name     string
		channels []any
		want     lightning.State
	}{
		{"its channel is active and does not carry it", []any{channel("7", true, lightning.Hash{1})}, lightning.Failed},
		{"its channel carries it", []any{channel("7", true, s.Hash)}, lightning.Unknown},
		{"its channel is not active", []any{channel("7", false)}, lightning.Unknown},
		{"its channel is gone", []any{channel("9", true)}, lightning.Unknown},
		{"another channel carries it", []any{channel("7", true), channel("9", true, s.Hash)}, lightning.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.on(s.trackPath(), func(w http.ResponseWriter, _ *http.Request) { line(w, inFlight) })
			var looks atomic.Int32
			f.on("GET /v1/channels", func(w http.ResponseWriter, _ *http.Request) {
				looks.Add(1)
				_ = json.NewEncoder(w).Encode(map[string]any{"channels": test.channels})
			})
			n := f.node(t, func(c *lnd.Config) { c.LostAfter = time.Nanosecond })
			for i, want := range []lightning.State{lightning.Unknown, test.want} { // one look proves nothing
				p, err := n.Lookup(t.Context(), s.Hash)
				if err != nil || p.State != want {
					t.Errorf("look %d: got %v, %v, want %v", i, p.State, err, want)
				}
			}
			if looks.Load() != 2 {
				t.Errorf("%d looks at the channels", looks.Load())
			}
		})
	}
}
