package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// serve follows a resale to its end, or until r is closed.
func (r *Relay) serve(s *sale) {
	held, err := r.await(s)
	switch {
	case r.alive.Err() != nil:
		return
	case err != nil: // nobody has paid, or it was given back
		r.gone(s, err)
		return
	}
	r.c.Step("held")
	if !r.reread(s) {
		r.salvage(s)
		return
	}
	p, err := r.buy(s, held)
	switch {
	case err == nil:
		r.c.Step("bought")
		r.take(s, p)
	case r.alive.Err() == nil:
		r.cancel(s, err)
	}
}

// reread reads the quote of a resale of an earlier run, unless that is done. It insists
// while the books do not give what is needed; a quote that is spoilt it gives up.
func (r *Relay) reread(s *sale) bool {
	for wait := firstRetry; s.resale == nil; wait = min(2*wait, lastRetry) {
		up, err := r.c.Buyer.ResaleOf(r.alive, s.Quote)
		switch {
		case err == nil:
			r.mu.Lock()
			s.resale = up
			r.mu.Unlock()
		case errors.Is(err, htlcdash.ErrFormat), r.alive.Err() != nil:
			return false
		default:
			r.c.Log.Error("a quote of an earlier run is not read, trying again", "hash", s.Hash, "err", err, "after", wait)
			r.pause(wait)
		}
	}
	return true
}

// errSpoilt is why a payment is given back.
var errSpoilt = errors.New("its quote cannot be read any more")

// salvage ends a resale whose payment is held and whose quote is spoilt: nothing is paid
// for it, but what an earlier run has paid is not given away.
func (r *Relay) salvage(s *sale) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		paid := r.outcome(s)
		p, err := r.preimage(r.alive, s.Resale)
		switch {
		case r.alive.Err() != nil:
			return
		case err == nil && !p.IsZero():
			r.take(s, p)
			return
		case !paid:
			r.cancel(s, errSpoilt)
			return
		case r.still(s) == lightning.Held{}:
			r.lose(s, err)
			return
		}
		r.pause(wait) // the key may yet be told
	}
}

// outcome reports whether upstream was paid for s, once the books know: while they do
// not, it waits, or until r is closed.
func (r *Relay) outcome(s *sale) (paid bool) {
	for wait := firstRetry; r.alive.Err() == nil; wait = min(2*wait, lastRetry) {
		own, err := r.c.Books.Purchase(r.alive, s.Hash)
		switch {
		case errors.Is(err, htlcdash.ErrNotFound), err == nil && own.State == lightning.Failed:
			return false
		case err == nil && own.State == lightning.Paid:
			return true
		}
		r.pause(wait)
	}
	return false
}

// gone is for an offer whose payment is not held, and will not be. It may have been
// in an earlier run, which may have paid upstream.
func (r *Relay) gone(s *sale, err error) {
	paid := r.outcome(s)
	switch {
	case r.alive.Err() != nil:
	case paid:
		r.lose(s, err)
	default:
		reason := err.Error()
		if errors.Is(err, lightning.ErrCancelled) {
			reason = "nobody has paid"
		}
		r.end(s, ledger.ResaleCancelled, reason)
	}
}

func (r *Relay) lose(s *sale, err error) {
	r.c.Log.Error("a payment was gone when its key had been bought; the key remains", "hash", s.Hash, "price", s.Amount, "err", err)
	r.end(s, ledger.ResaleLost, err.Error())
}

// await returns once the payment of s is held, or was settled. An error is final: the
// node says that there will be none, or has said nothing for long after the
// offer's end. Unless r is closed.
func (r *Relay) await(s *sale) (lightning.Held, error) {
	ctx, cancel := context.WithDeadline(r.alive, s.Expires.Add(afterwards))
	defer cancel()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		held, err := r.c.Holder.AwaitHeld(ctx, s.Hash)
		switch {
		case err == nil, errors.Is(err, lightning.ErrCancelled), errors.Is(err, lightning.ErrNoInvoice):
			return held, err
		case r.alive.Err() != nil:
			return held, err
		case ctx.Err() != nil:
			return r.last(s)
		}
		r.c.Log.Debug("not known whether it is held", "hash", s.Hash, "err", err)
		r.pause(wait)
	}
}

// last makes sure that an offer which the node has not closed cannot be paid any
// more: it may have been paid at the last moment, or while this program did not run.
func (r *Relay) last(s *sale) (lightning.Held, error) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		ctx, cancel := context.WithTimeout(r.alive, lastRetry)
		held, err := r.c.Holder.AwaitHeld(ctx, s.Hash)
		if err == nil || errors.Is(err, lightning.ErrCancelled) || errors.Is(err, lightning.ErrNoInvoice) {
			cancel()
			return held, err
		}
		if errors.Is(err, context.DeadlineExceeded) { // the node answers, and there is nothing
			err = r.c.Holder.Cancel(ctx, s.Hash)
			if err == nil {
				err = lightning.ErrCancelled
			}
		}
		cancel()
		if errors.Is(err, lightning.ErrCancelled) || errors.Is(err, lightning.ErrNoInvoice) || r.alive.Err() != nil {
			return held, err
		}
		r.pause(wait)
	}
}

// pause waits, unless r is closed.
func (r *Relay) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.alive.Done():
	}
}

// Reasons for giving a held payment back at once, so that its payer can buy
// elsewhere.
var (
	errShort = errors.New("it times out too soon")
	errFull  = errors.New("too much is under way upstream")
)

// buy gets the preimage, for as long as that may be: an error is certain, and
// nothing was paid or will be, unless r is closed. It is the only place where the relay
// has money leave, and it does so only for a payment that is held.
//
// Money leaves for no longer than the hold lasts: the lock of the payment, in
// blocks, ends before the node would give the held one back.
func (r *Relay) buy(s *sale, held lightning.Held) (p lightning.Preimage, err error) {
	full := r.board(s)
	if full == nil {
		defer r.leave(s)
	}
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		lock, why := r.lockOf(s, held)
		if full != nil {
			why = full
		}
		most := s.Most
		if why != nil {
			most = 0 // what was paid in an earlier run, or for another, still counts
		}
		p, err = s.resale.Pay(r.alive, most, lock)
		switch {
		case err == nil, r.alive.Err() != nil:
			return p, err
		case !errors.Is(err, lightning.ErrInFlight):
			if why != nil {
				err = why
			}
			return p, err
		}
		r.c.Log.Info("not known yet whether upstream was paid", "hash", s.Hash, "provider", s.resale.Provider, "err", err)
		r.pause(wait)
		held = r.still(s)
	}
}

// lockOf is for how many blocks a payment for s may be locked now, or why there is
// no time for one.
func (r *Relay) lockOf(s *sale, held lightning.Held) (lock int, err error) {
	lock = min(held.Blocks-Reserve, r.lock(s.resale))
	if lock < s.resale.FinalDelta+lightning.Padding {
		return 0, fmt.Errorf("%d blocks: %w", held.Blocks, errShort)
	}
	return lock, nil
}

// still says for how long the payment of s is held now: not at all, where the node does
// not say.
func (r *Relay) still(s *sale) lightning.Held {
	ctx, cancel := context.WithTimeout(r.alive, lastRetry)
	defer cancel()
	held, err := r.c.Holder.AwaitHeld(ctx, s.Hash)
	if err != nil {
		return lightning.Held{}
	}
	return held
}

// board counts a payment that is about to go upstream, unless that is too much.
func (r *Relay) board(s *sale) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := s.resale.Provider
	if r.flying+s.Most > r.c.MaxFlight || r.under[to] >= r.c.PerUpstream {
		return errFull
	}
	r.flying += s.Most
	r.under[to]++
	return nil
}

func (r *Relay) leave(s *sale) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flying -= s.Most
	if r.under[s.resale.Provider]--; r.under[s.resale.Provider] == 0 {
		delete(r.under, s.resale.Provider)
	}
}

// take takes the held payment. One that is gone is a loss, unless the preimage came
// for nothing; the key remains.
func (r *Relay) take(s *sale, p lightning.Preimage) {
	err := r.insist(func(ctx context.Context) error { return r.c.Holder.Settle(ctx, p) })
	switch {
	case err == nil:
		r.c.Step("taken")
		r.end(s, ledger.ResaleSettled, "")
	case r.alive.Err() == nil:
		r.lose(s, err)
	}
}

// cancel gives the held payment back, because of why.
func (r *Relay) cancel(s *sale, why error) {
	r.c.Log.Warn("not bought upstream, the payment for it is given back", "hash", s.Hash, "err", why)
	err := r.insist(func(ctx context.Context) error { return r.c.Holder.Cancel(ctx, s.Hash) })
	switch {
	case errors.Is(err, lightning.ErrSettled):
		r.end(s, ledger.ResaleSettled, "")
	case r.alive.Err() == nil:
		r.end(s, ledger.ResaleCancelled, why.Error())
	}
}

// insist calls do until the node answers, or r is closed.
func (r *Relay) insist(do func(context.Context) error) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		ctx, cancel := context.WithTimeout(r.alive, lastRetry)
		err := do(ctx)
		cancel()
		if err == nil || errors.Is(err, lightning.ErrCancelled) || errors.Is(err, lightning.ErrSettled) || errors.Is(err, lightning.ErrNoInvoice) || r.alive.Err() != nil {
			return err
		}
		r.c.Log.Error("the node does not take or give back a held payment, asking again", "err", err, "after", wait)
		r.pause(wait)
	}
}

// end books the end of s, and forgets it. What is not booked is found open by the
// next run, which asks the node again.
func (r *Relay) end(s *sale, state ledger.ResaleState, reason string) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := r.c.Books.EndResale(r.alive, s.Hash, state, reason)
		if err == nil || r.alive.Err() != nil {
			break
		}
		r.c.Log.Error("end of a resale not booked", "hash", s.Hash, "err", err)
		r.pause(wait)
	}
	r.drop(s)
}
