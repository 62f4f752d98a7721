package buyer_test

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/lightning/sim"
)

// What was made ready costs nothing, and is then bought by a payment alone:
// offer, proof and bytes are asked for once, however many are in a hurry.
func TestReadyAhead(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(w *world, ahead func()) // called with what is done ahead
	}{
		{"long before", func(_ *world, ahead func()) { ahead() }},
		{"at the same time", func(w *world, ahead func()) { go ahead() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			s, config := w.proving(t, "shop"), w.careful(t)
			var mu sync.Mutex
			proofs := 0
			s.lie = func(*exchange.ProofRequest, *exchange.Offer) {
				mu.Lock()
				defer mu.Unlock()
				proofs++
			}
			b := w.open(t, config, s)
			w.viewer.Order(sim.Delay(20 * time.Millisecond))
			var done sync.WaitGroup
			done.Add(1)
			c.before(w, func() {
				defer done.Done()
				must(t, b.Ready(t.Context(), w.segs[0]))
			})
			if c.name == "long before" {
				w.wantBooks(t, config, b, 0)
			}
			w.buy(t, b, 0)
			done.Wait()
			w.wantBooks(t, config, b, price)
			mu.Lock()
			defer mu.Unlock()
			if n := s.requests.Load(); n != 1 || proofs != 1 {
				t.Errorf("%d offers and %d proofs were asked for, want one of each", n, proofs)
			}
			must(t, b.Ready(t.Context(), w.segs[0]))
			if n := s.requests.Load(); n != 1 {
				t.Errorf("an offer was asked for what is owned")
			}
		})
	}
}

// A proof ahead that fails does not stand in the way of another offer.
func TestReadyFails(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.proving(t, "shop"), w.careful(t)
	var lies sync.Once
	s.lie = func(r *exchange.ProofRequest, _ *exchange.Offer) {
		lies.Do(func() { r.Nonce = exchange.Nonce{1} })
	}
	b := w.open(t, c, s)
	wantErr(t, b.Ready(t.Context(), w.segs[0]), buyer.ErrUnproved)
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, price)
}

// Credentials are got before anybody needs them where they cost nothing, and
// not paid for, whatever the provider says they cost.
func TestMeetProviders(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.proving(t, "shop"), w.careful(t)
	c.TokenPrice = price
	asked := make(chan string, 16)
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(rw, r)
		asked <- r.URL.Path
	})
	b := w.open(t, c, s)
	for path := range asked {
		if path == "/v1/credentials" {
			break
		}
	}
	w.buy(t, b, 0)
	if n := s.tokens.Load(); n != 1 {
		t.Errorf("%d batches, want one", n)
	}

	w = newWorld(t, 0)
	s, c = w.proving(t, "shop"), w.careful(t)
	c.TokenPrice = price
	wanted := make(chan struct{}, 16)
	inner = s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/credentials" {
			inner.ServeHTTP(rw, r)
			return
		}
		defer func() { wanted <- struct{}{} }()
		body, err := io.ReadAll(r.Body)
		must(t, err)
		offer, err := s.till.SellTokens(r.Context(), body, price, time.Now())
		must(t, err)
		rw.WriteHeader(http.StatusPaymentRequired)
		must(t, json.NewEncoder(rw).Encode(offer))
	})
	b = w.open(t, c, s)
	<-wanted
	b.Close()
	w.wantBooks(t, c, b, 0)
}
