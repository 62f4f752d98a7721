package buyer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/lightning"
)

// A proving is a proof of a quote on its way.
type proving struct {
	done chan struct{} // closed when err is set
	err  error
}

// prove asks for the proof of q and verifies it, beside the download. It ends
// when ctx does.
func (b *Buyer) prove(ctx context.Context, t *title, seg htlcdash.Segment, q *quote) *proving {
	v := &proving{done: make(chan struct{})}
	go func() {
		defer close(v.done)
		v.err = b.demand(ctx, t, seg, q)
	}()
	return v
}

func (v *proving) wait(ctx context.Context) error {
	select {
	case <-v.done:
		return v.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// demand sees to it that q is proved, or that the viewer buys from a provider
// that proves nothing. The error matches [ErrUnproved] or is ctx's.
func (b *Buyer) demand(ctx context.Context, t *title, seg htlcdash.Segment, q *quote) error {
	if q.proof != "" {
		return nil // before the payment was put off
	}
	sys := b.system(q.peer.purse.known())
	if sys == nil && b.c.Unproved {
		return nil
	}
	begun := time.Now()
	err := b.fetchProof(ctx, t, seg, q, sys)
	if err == nil {
		q.proof, q.proving = sys.Name(), time.Since(begun)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.Is(err, ErrUnproved) {
		err = fmt.Errorf("%w: %w", ErrUnproved, err)
	}
	q.peer.failed()
	b.c.Log.Warn("not bought", "provider", q.peer.URL(), "err", err)
	return err
}

// system is the first of ours that a provider speaks.
func (b *Buyer) system(info ProviderInfo) proof.System {
	for _, sys := range b.c.Proofs {
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
		return fmt.Errorf("%s proves nothing in a way that you accept: %w", q.peer, ErrUnproved)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, exchange.ProofDeadline, fmt.Errorf("no proof within %v: %w", exchange.ProofDeadline, ErrUnproved))
	defer cancel()
	return b.withPass(ctx, q.peer, t, func(v *pass) error {
		if v != q.pass {
			return fmt.Errorf("the offer was made to a credential that has served its time: %w", ErrUnproved)
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
		if p == nil || !p.ok() {
			continue
		}
		key, err := b.recallOnce(b.alive, p, bought)
		if err != nil {
			continue
		}
		out := lightning.Payment{State: lightning.Paid, Amount: bought.Amount, Fee: bought.Fee}
		if err := b.c.Ledger.Conclude(b.alive, bought.Hash, out, key); err == nil {
			b.c.Log.Info("a key came that was paid for", "hash", bought.Hash, "provider", p.URL())
		}
	}
}
