package lnd

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"htlcdash/lightning"
)

// flight is one payment that this program has asked for and not heard the end
// of. Callers with the same hash share it.
type flight struct {
	cancel  context.CancelFunc
	done    chan struct{} // closed when payment and err are set
	payment lightning.Payment
	err     error

	waiters int  // guarded by Node.mu
	sent    bool // guarded by Node.mu: lnd may know of it
}

// Pay pays inv, as [lightning.Payer] says. The payment goes on when ctx is
// done, unless it is still waiting for its turn.
func (n *Node) Pay(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat) (lightning.Payment, error) {
	return n.PayWithin(ctx, inv, maxFee, n.cfg.MaxLock)
}

// PayWithin pays inv over a short route, as [lightning.Locker] says. lock counts
// where it is less than Config.MaxLock.
func (n *Node) PayWithin(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat, lock int) (lightning.Payment, error) {
	if err := inv.Payable(maxFee); err != nil {
		return refused(inv.Hash, err.Error())
	}
	lock = min(lock, n.cfg.MaxLock)
	if least := inv.FinalDelta + lightning.Padding; lock <= least { // lnd refuses it, or counts below zero
		return refused(inv.Hash, fmt.Sprintf("it would be locked for %d blocks at least, the limit is below %d", least, lock))
	}
	if ctx.Err() != nil {
		return lightning.Payment{}, inFlight(inv.Hash, context.Cause(ctx))
	}
	f, err := n.board(ctx, inv, maxFee, lock)
	if err != nil {
		return lightning.Payment{}, inFlight(inv.Hash, err)
	}
	defer n.leave(f)
	select {
	case <-f.done:
		return f.payment, f.err
	case <-ctx.Done():
		return lightning.Payment{}, inFlight(inv.Hash, context.Cause(ctx))
	}
}

// board joins the flight with inv's hash or starts it.
func (n *Node) board(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat, lock int) (*flight, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("%w: closed", lightning.ErrUnavailable)
	}
	if f := n.flights[inv.Hash]; f != nil {
		f.waiters++
		return f, nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{cancel: cancel, done: make(chan struct{}), waiters: 1}
	n.flights[inv.Hash] = f
	n.ended.Go(func() { n.fly(ctx, f, inv, maxFee, lock) })
	return f, nil
}

// leave withdraws a payment that nobody waits for and that lnd has not seen.
func (n *Node) leave(f *flight) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f.waiters--; f.waiters == 0 && !f.sent {
		f.cancel()
	}
}

func (n *Node) fly(ctx context.Context, f *flight, inv lightning.Invoice, maxFee lightning.Msat, lock int) {
	defer f.cancel()
	f.payment, f.err = n.queue(ctx, f, inv, maxFee, lock)
	n.mu.Lock()
	delete(n.flights, inv.Hash)
	n.mu.Unlock()
	close(f.done)
}

func (n *Node) queue(ctx context.Context, f *flight, inv lightning.Invoice, maxFee lightning.Msat, lock int) (lightning.Payment, error) {
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
	}
	n.mu.Lock()
	f.sent = ctx.Err() == nil
	n.mu.Unlock()
	if !f.sent {
		return lightning.Payment{}, inFlight(inv.Hash, ctx.Err())
	}
	return n.send(ctx, inv, maxFee, lock)
}

// sendRequest is routerrpc.SendPaymentRequest.
type sendRequest struct {
	PaymentRequest    string `json:"payment_request"`
	FeeLimitMsat      int64  `json:"fee_limit_msat,string"`
	CLTVLimit         int    `json:"cltv_limit"`
	TimeoutSeconds    int    `json:"timeout_seconds"`
	MaxParts          int    `json:"max_parts"`
	NoInflightUpdates bool   `json:"no_inflight_updates"`
}

// send asks lnd to pay and waits for the outcome. If lnd answers with an error
// it may still have the payment, from this call or an earlier one, so that it
// is asked what became of it: only "never heard of it" is a failure.
func (n *Node) send(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat, lock int) (lightning.Payment, error) {
	s, err := n.rest.stream(ctx, http.MethodPost, "/v2/router/send", sendRequest{
		PaymentRequest: inv.Bolt11, FeeLimitMsat: int64(maxFee), MaxParts: n.cfg.MaxParts,
		CLTVLimit: lock, TimeoutSeconds: int(max(n.cfg.PayTimeout/time.Second, 1)), NoInflightUpdates: true,
	})
	var p lightning.Payment
	if err == nil {
		p, err = outcome(s, inv.Hash)
	}
	var said *answer
	if errors.As(err, &said) && !errors.Is(err, lightning.ErrUnavailable) {
		p, err = n.track(ctx, inv.Hash)
		if errors.Is(err, lightning.ErrNoPayment) {
			return rejected(inv.Hash, said)
		}
	}
	switch {
	case err != nil:
		return lightning.Payment{}, inFlight(inv.Hash, err)
	case p.State == lightning.Failed:
		return refused(inv.Hash, n.explain(ctx, inv, p.Reason))
	}
	return p, nil
}

// track follows the payment with hash h to its end.
func (n *Node) track(ctx context.Context, h lightning.Hash) (lightning.Payment, error) {
	s, err := n.follow(ctx, h, true)
	if err != nil {
		return lightning.Payment{}, err
	}
	return outcome(s, h)
}

// Lookup reports on a payment, as [lightning.Payer] says.
func (n *Node) Lookup(ctx context.Context, h lightning.Hash) (lightning.Payment, error) {
	if n.flying(h) {
		return lightning.Payment{}, nil // lnd may not have read our call yet
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := n.follow(ctx, h, false)
	if err != nil {
		return lightning.Payment{}, fmt.Errorf("payment %v: %w", h, err)
	}
	var m payment
	var p lightning.Payment
	if err = next(s, &m); err == nil {
		p, err = m.outcome(h)
	}
	s.end(p.State)
	if err != nil {
		return lightning.Payment{}, fmt.Errorf("payment %v: %w", h, err)
	}
	if p.State == lightning.Unknown && n.lost(ctx, h, m.Attempts) {
		n.log.Warn("lnd calls a payment in flight that no channel carries", "hash", h)
		return lightning.Payment{State: lightning.Failed, Reason: "lnd lost it before it went out"}, nil
	}
	return p, nil
}

func (n *Node) flying(h lightning.Hash) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.flights[h] != nil
}

// follow opens lnd's stream about one payment.
func (n *Node) follow(ctx context.Context, h lightning.Hash, quiet bool) (*stream, error) {
	s, err := n.rest.stream(ctx, http.MethodGet, fmt.Sprintf("/v2/router/track/%s?no_inflight_updates=%t", pathBytes(h), quiet), nil)
	var said *answer
	if errors.As(err, &said) && (said.code == codeNotFound || said.says("payment isn't initiated")) {
		return nil, lightning.ErrNoPayment
	}
	return s, err
}

// pathBytes writes bytes into a path as lnd reads them.
func pathBytes(h lightning.Hash) string { return base64.URLEncoding.EncodeToString(h[:]) }

// payment is lnrpc.Payment.
type payment struct {
	Preimage secret    `json:"payment_preimage"`
	Amount   int64     `json:"value_msat,string"`
	Fee      int64     `json:"fee_msat,string"`
	Status   string    `json:"status"`
	Reason   string    `json:"failure_reason"`
	Attempts []attempt `json:"htlcs"`
}

// secret is hexadecimal text that must not be printed.
type secret string

func (secret) String() string { return "secret" }

func (p payment) outcome(h lightning.Hash) (lightning.Payment, error) {
	out := lightning.Payment{Amount: lightning.Msat(p.Amount), Fee: lightning.Msat(p.Fee)}
	switch p.Status {
	case "SUCCEEDED":
		preimage, err := lightning.ParsePreimage(string(p.Preimage))
		if err != nil || !preimage.Opens(h) {
			return lightning.Payment{}, errors.New("lnd calls it paid, but its preimage does not open the hash")
		}
		out.State, out.Preimage = lightning.Paid, preimage
	case "FAILED":
		out = lightning.Payment{State: lightning.Failed, Reason: words(p.Reason)}
	}
	return out, nil
}

// outcome reads s until the payment has ended.
func outcome(s *stream, h lightning.Hash) (lightning.Payment, error) {
	for {
		p, err := read(s, h)
		if err != nil || p.State != lightning.Unknown {
			s.end(p.State)
			return p, err
		}
	}
}

// end closes s. lnd ends the stream itself once the payment has ended.
func (s *stream) end(state lightning.State) {
	if state == lightning.Unknown {
		s.body.Close()
		return
	}
	s.finish()
}

func read(s *stream, h lightning.Hash) (lightning.Payment, error) {
	var m payment
	if err := next(s, &m); err != nil {
		return lightning.Payment{}, err
	}
	return m.outcome(h)
}

func next(s *stream, m *payment) error {
	err := s.next(m)
	if errors.Is(err, io.EOF) {
		err = unavailable(errors.New("the stream ended before the payment"))
	}
	return err
}

// reasons are lnd's payment failure reasons, for people.
var reasons = map[string]string{
	"FAILURE_REASON_TIMEOUT":                   "no route found in time",
	"FAILURE_REASON_NO_ROUTE":                  "no route to the payee",
	"FAILURE_REASON_ERROR":                     "the payment broke on its way",
	"FAILURE_REASON_INCORRECT_PAYMENT_DETAILS": "the payee refuses it: unknown, cancelled or another amount",
	"FAILURE_REASON_INSUFFICIENT_BALANCE":      "not enough outbound balance",
	"FAILURE_REASON_CANCELED":                  "cancelled",
}

func words(reason string) string {
	if w, ok := reasons[reason]; ok {
		return w
	}
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(reason, "FAILURE_REASON_"), "_", " "))
}

// explain tells "the peer is offline" from "no money left", which lnd calls by
// one name.
func (n *Node) explain(ctx context.Context, inv lightning.Invoice, reason string) string {
	if reason != reasons["FAILURE_REASON_INSUFFICIENT_BALANCE"] && reason != reasons["FAILURE_REASON_NO_ROUTE"] {
		return reason
	}
	channels, err := n.Channels(ctx)
	if err != nil {
		return reason
	}
	var most lightning.Msat
	active := 0
	for _, c := range channels {
		if c.Active {
			active++
			most = max(most, c.Local)
		}
	}
	switch {
	case len(channels) == 0:
		return reason + ": this node has no channel"
	case active == 0:
		return reason + ": the peers of all channels are offline"
	case most < inv.Amount:
		return fmt.Sprintf("%s: the fullest active channel holds %v, the invoice asks %v", reason, most, inv.Amount)
	case active < len(channels):
		return fmt.Sprintf("%s: %d of %d channels are offline", reason, len(channels)-active, len(channels))
	}
	return reason
}

func inFlight(h lightning.Hash, cause error) error {
	return fmt.Errorf("payment %v: %w: %w", h, lightning.ErrInFlight, cause)
}

func refused(h lightning.Hash, reason string) (lightning.Payment, error) {
	return lightning.Payment{State: lightning.Failed, Reason: reason}, fmt.Errorf("payment %v: %w: %s", h, lightning.ErrFailed, reason)
}

// rejected is refused with lnd's own answer, so that ErrDenied can be told.
func rejected(h lightning.Hash, said *answer) (lightning.Payment, error) {
	return lightning.Payment{State: lightning.Failed, Reason: said.message}, fmt.Errorf("payment %v: %w: %w", h, lightning.ErrFailed, said)
}
