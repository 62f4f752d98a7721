package lnd

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash/internal/onion"
	"htlcdash/lightning"
)

// Deriver derives the preimage of h from the note of its invoice's terms. An
// error means that it cannot now, or never could; it must not quote the note.
type Deriver func(ctx context.Context, note []byte, h lightning.Hash) (lightning.Preimage, error)

const (
	heightAge  = 10 * time.Second
	finalsWide = 64 // outcomes that are being booked at once: they share writes to the disk

	firstPause = 250 * time.Millisecond // between two tries to reach the node
	lastPause  = 10 * time.Second
	// retryClaim is between two tries to derive the preimage of a claimed HTLC:
	// it may be revealed already, so that giving up could lose the money.
	retryClaim = time.Second
)

// ErrIntercepted means that another program is the node's HTLC interceptor.
var ErrIntercepted = errors.New("another program intercepts this node's HTLCs, and lnd serves one: stop it, or give the till a node of its own")

// Run settles payments of the till's invoices until ctx is done, through deaths
// of the node. It returns an error only if that will not mend by itself: the
// macaroon must allow [TillRights]. A claimed HTLC is settled whenever it is
// offered; the others are refused unless they pay exactly what an invoice that
// is still good asks, and their preimage opens the hash. All others that the
// node asks about go their way.
func (t *Till) Run(ctx context.Context, preimage Deriver) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := t.session(ctx, preimage)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, lightning.ErrDenied) {
			return fmt.Errorf("till: %w: bake another with htlcdash wallet bake sell --till", err)
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		t.node.log.Warn("the till is shut, opening it again", "err", err, "after", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// session serves one connection to the node.
func (t *Till) session(ctx context.Context, preimage Deriver) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.intercept(ctx, preimage) })
	group.Go(func() error { return t.events(ctx) })
	group.Go(func() error {
		tick := time.NewTicker(heightAge)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := t.look(ctx); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	return group.Wait()
}

// circuit is routerrpc.CircuitKey.
type circuit struct {
	Channel uint64 `json:"chan_id,string"`
	ID      uint64 `json:"htlc_id,string"`
}

// forward is routerrpc.ForwardHtlcInterceptRequest.
type forward struct {
	Key            circuit `json:"incoming_circuit_key"`
	Hash           []byte  `json:"payment_hash"`
	Incoming       int64   `json:"incoming_amount_msat,string"`
	IncomingExpiry uint32  `json:"incoming_expiry"`
	Channel        uint64  `json:"outgoing_requested_chan_id,string"`
	Outgoing       int64   `json:"outgoing_amount_msat,string"`
	OutgoingExpiry uint32  `json:"outgoing_expiry"`
	Onion          []byte  `json:"onion_blob"`
	Deadline       int64   `json:"auto_fail_height"`
}

func (f forward) htlc() lightning.HTLC { return lightning.HTLC{Channel: f.Key.Channel, ID: f.Key.ID} }

// onChain reports that the channel is closed and the HTLC an output: only a
// preimage is of use then, and any other answer breaks the stream. lnd has no
// better sign for it than that it will not fail the HTLC before its expiry.
func (f forward) onChain() bool { return f.Deadline >= int64(f.IncomingExpiry) }

// verdict is routerrpc.ForwardHtlcInterceptResponse.
type verdict struct {
	Key      circuit `json:"incoming_circuit_key"`
	Action   string  `json:"action"`
	Preimage []byte  `json:"preimage,omitempty"`
	Failure  []byte  `json:"failure_message,omitempty"`
}

func (f forward) settle(p lightning.Preimage) *verdict {
	b := p.Reveal()
	return &verdict{Key: f.Key, Action: "SETTLE", Preimage: b[:]}
}

// resume and fail are nil where the node would not hear them.

func (f forward) resume() *verdict {
	if f.onChain() {
		return nil
	}
	return &verdict{Key: f.Key, Action: "RESUME"}
}

func (f forward) fail(l *onion.Layer, height uint32) *verdict {
	if f.onChain() {
		return nil
	}
	return &verdict{Key: f.Key, Action: "FAIL", Failure: l.Fail(onion.Incorrect(lightning.Msat(f.Outgoing), height))}
}

// intercept answers what the node asks until the connection ends.
func (t *Till) intercept(ctx context.Context, preimage Deriver) error {
	conn, err := t.node.rest.socket(ctx, "/v2/router/htlcinterceptor")
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	// lnd says nothing when it has begun. By the time of another answer it has,
	// or has said why not.
	if _, err := t.look(ctx); err != nil {
		return err
	}
	t.serving.Store(true)
	defer t.serving.Store(false)
	ctx, cancel := context.WithCancelCause(ctx)
	var judging sync.WaitGroup
	defer judging.Wait()
	defer cancel(nil)
	reply := func(v *verdict) {
		if v == nil {
			return
		}
		if err := send(ctx, conn, v); err != nil {
			cancel(err)
		}
	}
	for {
		var f forward
		if err := receive(ctx, conn, &f); err != nil {
			var said *answer
			if errors.As(err, &said) && said.says("interceptor already exists") {
				err = ErrIntercepted
			}
			return err
		}
		if !virtual(f.Channel) || len(f.Hash) != len(lightning.Hash{}) {
			reply(f.resume()) // at once: it is somebody else's payment
			continue
		}
		judging.Go(func() {
			v := t.judge(ctx, f, preimage)
			reply(v)
			if v != nil && v.Preimage != nil {
				t.step("settled")
			}
		})
	}
}

// judge decides on an HTLC for a virtual channel. nil is no answer: the node
// holds the HTLC and offers it again to the next session.
func (t *Till) judge(ctx context.Context, f forward, preimage Deriver) *verdict {
	h, claimed := lightning.Hash(f.Hash), t.claimed(f.htlc())
	layer, _ := onion.Open(f.Onion, t.key(f.Channel), h)
	if layer == nil { // for nobody here
		return f.resume()
	}
	t.step("offered")
	o, err := t.read(layer, f, h)
	if err == nil && !claimed {
		err = t.timely(o, f)
	}
	var p lightning.Preimage
	if err == nil {
		p, err = t.derivePreimage(ctx, o, h, claimed, preimage)
	}
	if err == nil && !claimed {
		err = t.claim(ctx, lightning.Claim{HTLC: f.htlc(), Hash: h, Amount: lightning.Msat(f.Incoming), Note: o.note, At: time.Now()})
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		t.node.log.Info("a payment is refused", "hash", h, "err", err)
		return f.fail(layer, t.height.Load())
	}
	return f.settle(p)
}

// read returns the order that an HTLC pays for, or why it does not. Nothing of
// it depends on the time.
func (t *Till) read(l *onion.Layer, f forward, h lightning.Hash) (order, error) {
	final, err := l.Final()
	if err != nil {
		return order{}, err
	}
	o, err := t.unseal(f.Channel, h, final.Metadata)
	if err != nil {
		return order{}, err
	}
	secret := t.payment(f.Channel, h)
	in, out := lightning.Msat(f.Incoming), lightning.Msat(f.Outgoing)
	switch {
	case subtle.ConstantTimeCompare(secret[:], final.Secret[:]) != 1:
		return order{}, errors.New("another payment secret")
	case final.Total != final.Amount:
		return order{}, errors.New("a part of a payment")
	case final.Amount < o.amount || final.Amount/2 > o.amount: // BOLT 4 allows twice the amount
		return order{}, fmt.Errorf("%v for an invoice over %v", final.Amount, o.amount)
	case out < final.Amount || in < out:
		return order{}, fmt.Errorf("%v of %v arrived", min(in, out), final.Amount)
	case f.OutgoingExpiry < final.Expiry || f.IncomingExpiry < f.OutgoingExpiry:
		return order{}, fmt.Errorf("held until block %d, want %d", f.OutgoingExpiry, final.Expiry)
	}
	return o, nil
}

// timely reports why an HTLC comes too late to be taken, or nil.
func (t *Till) timely(o order, f forward) error {
	if height := t.height.Load(); f.IncomingExpiry < height+leastLock {
		return fmt.Errorf("it ends at block %d, and it is %d", f.IncomingExpiry, height)
	}
	if !time.Now().Before(time.Unix(o.expires, 0)) {
		return errors.New("the invoice has expired")
	}
	return nil
}

// derivePreimage asks the seller. For a claimed HTLC it asks until there is an
// answer or the session ends. The preimage opens h: the node would end the
// stream for one that does not.
func (t *Till) derivePreimage(ctx context.Context, o order, h lightning.Hash, claimed bool, preimage Deriver) (lightning.Preimage, error) {
	for {
		p, err := preimage(ctx, o.note, h)
		if err == nil && !p.Opens(h) {
			err = errors.New("the preimage is another's")
		}
		if err == nil || !claimed {
			return p, err
		}
		t.node.log.Error("a claimed payment cannot be settled", "hash", h, "err", err)
		select {
		case <-time.After(retryClaim):
		case <-ctx.Done():
			return p, context.Cause(ctx)
		}
	}
}

// event is routerrpc.HtlcEvent, as far as it is read.
type event struct {
	Channel    uint64    `json:"incoming_channel_id,string"`
	ID         uint64    `json:"incoming_htlc_id,string"`
	At         int64     `json:"timestamp_ns,string"`
	Subscribed *struct{} `json:"subscribed_event"`
	Final      *struct {
		Settled bool `json:"settled"`
	} `json:"final_htlc_event"`
}

// events books what becomes of claimed HTLCs. lnd tells each outcome once, to
// who listens, so those that it told nobody are asked for first.
func (t *Till) events(ctx context.Context) error {
	booking, ctx := errgroup.WithContext(ctx) // a fault of the journal ends the stream
	booking.SetLimit(finalsWide)
	s, err := t.node.rest.stream(ctx, http.MethodGet, "/v2/router/htlcevents", nil)
	if err != nil {
		return err
	}
	defer s.body.Close()
	err = func() error {
		for {
			var e event
			if err := s.next(&e); err != nil {
				if errors.Is(err, io.EOF) {
					err = unavailable(err)
				}
				return err
			}
			switch {
			case e.Subscribed != nil:
				if err := t.ask(ctx); err != nil {
					return err
				}
			case e.Final != nil:
				booking.Go(func() error {
					return t.conclude(ctx, lightning.HTLC{Channel: e.Channel, ID: e.ID}, e.Final.Settled, time.Unix(0, e.At))
				})
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}()
	return errors.Join(booking.Wait(), err)
}

// ask looks up what became of the claims whose outcome is not known.
func (t *Till) ask(ctx context.Context) error {
	for _, c := range t.unknown() {
		var r struct {
			Settled bool `json:"settled"`
		}
		err := t.node.rest.get(ctx, fmt.Sprintf("/v1/htlc-resolution/%d/%d", c.Channel, c.ID), &r)
		var said *answer
		if errors.As(err, &said) && said.code == codeNotFound {
			continue // it is not final yet
		}
		if err == nil {
			err = t.conclude(ctx, c.HTLC, r.Settled, time.Now())
		}
		if err != nil {
			return fmt.Errorf("outcome of payment %v: %w", c.Hash, err)
		}
	}
	return nil
}
