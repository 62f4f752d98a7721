package buyer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/agent/market"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/lightning"
)

// A proving is a proof of a quote on its way.
type proving struct {
	done chan struct{} // closed when the rest is set
	err  error
	how  string        // it was proved; empty: it was not
	took time.Duration // to get and verify the proof
}

// prove asks for the proof of q and verifies it, beside the download. Who asks
// again gets the same one, for it may have been asked for ahead. It goes on
// when the caller is gone, for no longer than [exchange.ProofDeadline].
func (b *Buyer) prove(t *title, seg htlcdash.Segment, q *quote) *proving {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.proof != nil {
		return q.proof
	}
	v := &proving{done: make(chan struct{})}
	q.proof = v
	if b.closed {
		v.err = ErrClosed
		close(v.done)
		return v
	}
	b.work.Go(func() {
		defer close(v.done)
		v.err = b.demand(b.alive, t, seg, q, v)
	})
	return v
}

// Ready asks, ahead of need, for an offer for seg and for its proof, so that with
// the sealed bytes a purchase is a payment and nothing else. It spends nothing.
// A proof takes time of the provider's, which gives few to who does not pay, so
// it is for the first segments of a film. What fails will be asked for again when
// it is bought. It returns nil, too, for what is owned or bought right now.
func (b *Buyer) Ready(ctx context.Context, seg htlcdash.Segment) error {
	t, err := b.title(seg.Title)
	if err != nil || b.sought(ctx, seg) {
		return err
	}
	order := b.choose(ctx, t, seg)
	order = order[:min(len(order), atOnce)]
	errs, ok := b.byTurns(ctx, func() (p *peer) {
		if len(order) > 0 {
			p, order = order[0].peer, order[1:]
		}
		return p
	}, func(p *peer) func() error {
		return func() error { return b.ready(ctx, t, seg, p) }
	}, func(err error) bool { return err == nil })
	switch {
	case ok:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errors.Join(append([]error{ErrNoOffer}, errs...)...)
}

// ready is Ready with one provider. An offer that was asked for comes, also when ctx
// has ended; a proof is not asked for then.
func (b *Buyer) ready(ctx context.Context, t *title, seg htlcdash.Segment, p *peer) error {
	if err := b.askAhead(b.alive, p, t, []htlcdash.Segment{seg}); err != nil {
		return err
	}
	q, err := b.desk.look(ctx, seg, p)
	if q == nil || ctx.Err() != nil {
		return err // it was taken
	}
	err = b.prove(t, seg, q).wait(ctx)
	if err != nil && ctx.Err() == nil {
		b.desk.drop(seg, q)
	}
	return err
}

func (v *proving) wait(ctx context.Context) error {
	select {
	case <-v.done:
		return v.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errNoSystem means that a provider has no way of proof that the viewer takes.
var errNoSystem = fmt.Errorf("it proves nothing in a way that you accept: %w", ErrUnproved)

// errLateProof means that a provider does not prove an offer in time.
var errLateProof = fmt.Errorf("no proof within %v: %w", exchange.ProofDeadline, ErrUnproved)

// errOldPass means that an offer was made to a credential that has ended since:
// another one is to be asked for.
var errOldPass = fmt.Errorf("the offer was made to a credential that has served its time: %w", ErrUnproved)

// demand sees to it that q is proved, or that the viewer buys from a provider
// that proves nothing. The error matches [ErrUnproved] or is ctx's.
func (b *Buyer) demand(ctx context.Context, t *title, seg htlcdash.Segment, q *quote, v *proving) error {
	sys := b.system(q.peer.purse.known())
	if sys == nil && b.c.Unproved {
		return nil
	}
	begun := time.Now()
	err := b.fetchProof(ctx, t, seg, q, sys)
	if err == nil {
		v.how, v.took = sys.Name(), time.Since(begun)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errOldPass) {
		return err // not the provider's doing
	}
	if later, ok := errors.AsType[*errLater](err); ok && q.peer.putOff(time.Now(), later.wait) {
		b.c.Log.Info("provider asks to wait", "provider", q.peer.URL(), "for", later.wait)
		return fmt.Errorf("%w: %w", ErrUnproved, err)
	}
	kind := faultOf(err)
	if errors.Is(err, htlcdash.ErrFormat) {
		kind = market.Garbled // it was an answer
	}
	if !errors.Is(err, ErrUnproved) {
		err = fmt.Errorf("%w: %w", ErrUnproved, err)
	}
	b.observe(q.peer, market.Outcome{Kind: kind, Took: time.Since(begun), Reason: err.Error()})
	b.c.Log.Warn("not bought", "provider", q.peer.URL(), "err", err)
	return err
}

// system is the first of ours that a provider speaks.
func (b *Buyer) system(info ProviderInfo) proof.System {
	for _, sys := range b.proofs {
		if slices.Contains(info.Proofs, sys.Name()) {
			return sys
		}
	}
	return nil
}

// fetchProof asks with a fresh nonce. What comes too late is not believed: a
// forger would have had more time than the proof's strength allows for.
func (b *Buyer) fetchProof(ctx context.Context, t *title, seg htlcdash.Segment, q *quote, sys proof.System) error {
	if sys == nil {
		return fmt.Errorf("%s: %w", q.peer, errNoSystem)
	}
	seg.Sealed = q.Sealed // of its group, the one that the offer was asked for
	ctx, cancel := context.WithTimeoutCause(ctx, exchange.ProofDeadline, errLateProof)
	defer cancel()
	return b.withPass(ctx, q.peer, t, true, func(v *pass) error {
		if v != q.pass {
			return errOldPass
		}
		nonce := exchange.NewNonce()
		pf, err := q.peer.proof(ctx, v.credential, exchange.ProofRequest{
			Title: seg.Title, System: sys.Name(), Nonce: nonce, Sales: []exchange.SaleID{q.Offer.ID()},
		})
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			return err
		}
		return exchange.Salted{}.Verify(sys, q.signer, seg, q.Offer, nonce, pf)
	})
}

// How a provider is asked again for a key that was paid for: its node may know
// of the payment before its books do.
const (
	maxRecalls  = 4 // credentials, the last ones used: to show them links them
	recallAgain = 200 * time.Millisecond
)

// recall asks the provider for the key of a payment whose preimage the wallet
// does not give, as custodians do who settle in their own books. It tries for
// a third of the patience.
func (b *Buyer) recall(ctx context.Context, p *peer, bought ledger.Purchase) (htlcdash.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, b.c.Patience/3)
	defer cancel()
	for wait := recallAgain; ; wait *= 2 {
		key, err := b.recallOnce(ctx, p, bought)
		if err == nil {
			return key, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return key, err
		}
	}
}

func (b *Buyer) recallOnce(ctx context.Context, p *peer, bought ledger.Purchase) (htlcdash.Key, error) {
	used, err := b.c.Ledger.UsedCredentials(ctx, bought.Provider, maxRecalls)
	if err != nil {
		return htlcdash.Key{}, err
	}
	errs := []error{fmt.Errorf("key of payment %s: %w", bought.Hash, htlcdash.ErrNotFound)}
	for _, blob := range used {
		c, err := credential.ParseCredential(blob)
		if err != nil {
			return htlcdash.Key{}, err
		}
		preimage, err := p.recall(ctx, c, exchange.KeyRequest{Title: bought.Title, Sales: []exchange.SaleID{{
			Sealed: bought.Sealed, Price: bought.Amount, Counter: bought.Counter,
		}}})
		if err == nil && preimage.Opens(bought.Hash) {
			return exchange.Salted{}.Key(preimage, bought.Salt, htlcdash.Seal{Sealed: bought.Sealed, KeyHash: bought.KeyHash})
		}
		errs = append(errs, err)
	}
	return htlcdash.Key{}, errors.Join(errs...)
}

// recallLost asks once more for keys of a title that were paid for and never
// came.
func (b *Buyer) recallLost(id htlcdash.TitleID) {
	for bought, err := range b.c.Ledger.Purchases(b.alive, ledger.Filter{Title: &id, Lost: true}) {
		if err != nil {
			return
		}
		b.mu.Lock()
		p := b.peers[bought.Provider]
		b.mu.Unlock()
		if p == nil || p.banned(time.Now()) {
			continue
		}
		key, err := b.recallOnce(b.alive, p, bought)
		if err != nil {
			continue
		}
		out := lightning.Payment{State: lightning.Paid, Amount: bought.Amount, Fee: bought.Fee}
		if err := b.c.Ledger.Conclude(b.alive, bought.Hash, out, key); err == nil {
			p.paidBack(bought.Hash)
			b.c.Log.Info("a key came that was paid for", "hash", bought.Hash, "provider", p.URL())
		}
	}
}
