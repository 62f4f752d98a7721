package lnd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// TestPayOutcomes says for each way in which lnd can answer a payment which of
// the three outcomes it is.
func TestPayOutcomes(t *testing.T) {
	type reply = func(http.ResponseWriter, sale)
	stream := func(states ...string) reply {
		return func(w http.ResponseWriter, s sale) {
			for _, state := range states {
				line(w, s.payment(state))
			}
		}
	}
	refuse := func(status, code int, message string) reply {
		return func(w http.ResponseWriter, _ sale) { fault(w, status, code, message) }
	}
	cut := func(http.ResponseWriter, sale) { panic(http.ErrAbortHandler) }
	raw := func(text string) reply {
		return func(w http.ResponseWriter, _ sale) { _, _ = io.WriteString(w, text) }
	}
	unknown := refuse(404, 5, "payment isn't initiated")
	never := func(w http.ResponseWriter, _ sale) { fault(w, 500, 2, "this must not be asked") }

	for _, test := range []struct {
		name        string
		send, track reply
		state       lightning.State // Unknown: an error that matches ErrInFlight
		also        error           // further error to match
		reason      string
	}{
		{"paid", stream("SUCCEEDED"), never, lightning.Paid, nil, ""},
		{"updates, then paid", stream("IN_FLIGHT", "IN_FLIGHT", "SUCCEEDED"), never, lightning.Paid, nil, ""},
		{"failed", stream("FAILED"), never, lightning.Failed, nil, "none"},
		{"connection breaks", cut, never, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"stream ends early", stream("IN_FLIGHT"), never, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"not what lnd sends", raw("<html>gateway</html>\n"), never, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"a state of the future", stream("PONDERING"), never, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"empty answer", raw(""), never, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"already paid", refuse(409, 6, "invoice is already paid"), stream("SUCCEEDED"), lightning.Paid, nil, ""},
		{"in transition, later paid", refuse(409, 6, "payment is in transition"), stream("SUCCEEDED"), lightning.Paid, nil, ""},
		{"in transition, later failed", refuse(409, 6, "payment is in transition"), stream("FAILED"), lightning.Failed, nil, "none"},
		{"in transition, then silence", refuse(409, 6, "payment is in transition"), cut, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"refused before it began", refuse(500, 2, "invoice expired. Valid until 2026-01-01"), unknown, lightning.Failed, nil, "invoice expired"},
		{"refused, and no answer why", refuse(500, 2, "invoice expired"), cut, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"an error, but it happened", refuse(500, 2, "database is locked"), stream("SUCCEEDED"), lightning.Paid, nil, ""},
		{"the macaroon does not allow it", refuse(500, 2, "permission denied"), unknown, lightning.Failed, lightning.ErrDenied, "permission denied"},
		{"nor to look it up", refuse(500, 2, "permission denied"), refuse(500, 2, "permission denied"), lightning.Unknown, lightning.ErrDenied, ""},
		{"lnd starts up", refuse(500, 2, "the RPC server is in the process of starting up, but not yet ready to accept calls"), unknown, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"lnd goes down", raw(`{"error":{"code":2,"message":"routerrpc server shutting down"}}` + "\n"), unknown, lightning.Unknown, lightning.ErrUnavailable, ""},
		{"the stream breaks off with an error", raw(`{"error":{"code":2,"message":"no such thing"}}` + "\n"), stream("SUCCEEDED"), lightning.Paid, nil, ""},
		{
			"paid with another's preimage",
			func(w http.ResponseWriter, s sale) {
				m := s.payment("SUCCEEDED")
				m["payment_preimage"] = strings.Repeat("ab", 32)
				line(w, m)
			},
			never, lightning.Unknown, nil, "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, s := newFake(t), newSale(t, 21_000)
			f.on("POST /v2/router/send", func(w http.ResponseWriter, r *http.Request) { test.send(w, s) })
			f.on(s.trackPath(), func(w http.ResponseWriter, r *http.Request) { test.track(w, s) })
			p, err := f.node(t).Pay(soon(t), s.Invoice, 100)
			if p.State != test.state {
				t.Errorf("got state %v, %v, want %v", p.State, err, test.state)
			}
			switch test.state {
			case lightning.Paid:
				if err != nil || !p.Preimage.Opens(s.Hash) || p.Amount != s.Amount || p.Fee != 7 {
					t.Errorf("got %+v, %v", p, err)
				}
			case lightning.Failed:
				if !errors.Is(err, lightning.ErrFailed) || errors.Is(err, lightning.ErrInFlight) || !strings.Contains(p.Reason, test.reason) {
					t.Errorf("got %v with reason %q", err, p.Reason)
				}
			default:
				if !errors.Is(err, lightning.ErrInFlight) || errors.Is(err, lightning.ErrFailed) {
					t.Errorf("got %v", err)
				}
			}
			if test.also != nil && !errors.Is(err, test.also) {
				t.Errorf("got %v, want one that matches %v", err, test.also)
			}
			if err != nil && (strings.Contains(err.Error(), s.hex()) || strings.Contains(err.Error(), f.secret) || strings.Contains(err.Error(), s.Bolt11)) {
				t.Errorf("a secret is in %v", err)
			}
		})
	}
}

// Whatever an invoice asks for, by its hints of private channels too, lnd is
// told how much a route may cost and for how long it may lock the money.
func TestPayBoundsTheRoute(t *testing.T) {
	f, s := newFake(t), newSale(t, 21_000)
	var asked struct {
		Fee   string `json:"fee_limit_msat"`
		Lock  int    `json:"cltv_limit"`
		Parts int    `json:"max_parts"`
	}
	f.on("POST /v2/router/send", func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		line(w, s.payment("SUCCEEDED"))
	})
	if _, err := f.node(t).Pay(soon(t), s.Invoice, 100); err != nil {
		t.Fatal(err)
	}
	if asked.Fee != "100" || asked.Lock != 1008 || asked.Parts != 1 {
		t.Errorf("lnd was told %+v", asked)
	}
}

func TestPaySaysWhyThereIsNoMoney(t *testing.T) {
	for _, test := range []struct{ name, channels, want string }{
		{"no channel", `[]`, "this node has no channel"},
		{"peer is offline", `[{"active":false,"remote_pubkey":"` + strings.Repeat("02", 33) + `","capacity":"9","local_balance":"90","remote_balance":"0"}]`, "offline"},
		{"too little", `[{"active":true,"remote_pubkey":"` + strings.Repeat("02", 33) + `","capacity":"9","local_balance":"20","remote_balance":"0"}]`, "holds 20 sat, the invoice asks 21 sat"},
		{"not allowed to look", ``, "not enough outbound balance"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, s := newFake(t), newSale(t, 21_000)
			f.on("POST /v2/router/send", func(w http.ResponseWriter, r *http.Request) {
				m := s.payment("FAILED")
				m["failure_reason"] = "FAILURE_REASON_INSUFFICIENT_BALANCE"
				line(w, m)
			})
			f.on("GET /v1/channels", func(w http.ResponseWriter, r *http.Request) {
				if test.channels == "" {
					fault(w, 500, 2, "permission denied")
					return
				}
				fmt.Fprintf(w, `{"channels":%s}`, test.channels)
			})
			p, err := f.node(t).Pay(soon(t), s.Invoice, 0)
			if !errors.Is(err, lightning.ErrFailed) || !strings.Contains(p.Reason, test.want) {
				t.Errorf("got %q, %v, want %q", p.Reason, err, test.want)
			}
		})
	}
}

func TestPaymentsQueue(t *testing.T) {
	f := newFake(t)
	const places = 2
	var now, most, sent atomic.Int32
	arrived, gate := make(chan struct{}, 100), make(chan struct{})
	sales := make(map[string]sale)
	for range 10 {
		s := newSale(t, 1000)
		sales[s.Bolt11] = s
	}
	f.on("POST /v2/router/send", func(w http.ResponseWriter, r *http.Request) {
		sent.Add(1)
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		body, _ := io.ReadAll(r.Body)
		arrived <- struct{}{}
		<-gate
		for text, s := range sales {
			if strings.Contains(string(body), text) {
				line(w, s.payment("SUCCEEDED"))
			}
		}
	})
	f.on("GET /v2/router/track/", func(w http.ResponseWriter, r *http.Request) { fault(w, 404, 5, "payment isn't initiated") })
	n := f.node(t, func(c *lnd.Config) { c.MaxInFlight = places })

	var wg sync.WaitGroup
	for _, s := range sales {
		wg.Go(func() {
			if _, err := n.Pay(soon(t), s.Invoice, 0); err != nil {
				t.Error(err)
			}
		})
	}
	for range places {
		<-arrived
	}
	impatient := newSale(t, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := n.Pay(ctx, impatient.Invoice, 0)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, lightning.ErrInFlight) || !errors.Is(err, context.Canceled) {
		t.Errorf("withdrawn from the queue: %v", err)
	}
	close(gate)
	wg.Wait()
	if most.Load() > places || sent.Load() != int32(len(sales)) {
		t.Errorf("%d payments were in flight at once and %d were sent, want at most %d and exactly %d", most.Load(), sent.Load(), places, len(sales))
	}
	if _, err := n.Lookup(soon(t), impatient.Hash); !errors.Is(err, lightning.ErrNoPayment) {
		t.Errorf("later: %v", err)
	}
}

// TestLookupBeforeLndHasRead asks while the call is on its way: lnd does not
// know the payment yet, and yet it is not unknown.
func TestLookupBeforeLndHasRead(t *testing.T) {
	f, s := newFake(t), newSale(t, 1000)
	arrived, gate := make(chan struct{}), make(chan struct{})
	f.on("POST /v2/router/send", func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-gate
		line(w, s.payment("SUCCEEDED"))
	})
	f.on(s.trackPath(), func(w http.ResponseWriter, r *http.Request) { fault(w, 404, 5, "payment isn't initiated") })
	n := f.node(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := n.Pay(ctx, s.Invoice, 0)
		done <- err
	}()
	<-arrived
	cancel()
	<-done
	if p, err := n.Lookup(soon(t), s.Hash); err != nil || p.State != lightning.Unknown {
		t.Errorf("got %+v, %v, want unknown", p, err)
	}
	close(gate)
}

func TestCloseLetsGo(t *testing.T) {
	f, s := newFake(t), newSale(t, 1000)
	arrived := make(chan struct{})
	f.on("POST /v2/router/send", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // or the server does not see the client go
		close(arrived)
		<-r.Context().Done()
	})
	n := f.node(t)
	done := make(chan error, 1)
	go func() {
		_, err := n.Pay(t.Context(), s.Invoice, 0)
		done <- err
	}()
	<-arrived
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, lightning.ErrInFlight) {
		t.Errorf("got %v", err)
	}
	if _, err := n.Pay(t.Context(), newSale(t, 1).Invoice, 0); !errors.Is(err, lightning.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

// TestConnectionsAreKept is about cost: a TLS handshake for each payment would
// take longer than the call.
func TestConnectionsAreKept(t *testing.T) {
	f := newFake(t)
	s := newSale(t, 1000)
	f.on("POST /v2/router/send", func(w http.ResponseWriter, r *http.Request) { line(w, s.payment("SUCCEEDED")) })
	f.on(s.trackPath(), func(w http.ResponseWriter, r *http.Request) { line(w, s.payment("SUCCEEDED")) })
	n := f.node(t)
	for range 20 {
		if _, err := n.Pay(soon(t), s.Invoice, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Lookup(soon(t), s.Hash); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.dials.Load(); got > 2 {
		t.Errorf("40 calls took %d connections", got)
	}
}
