package buyer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// neverReached is the reason of a payment that counts as failed because its
// node did not know it.
const neverReached = "never reached the node"

const (
	// maxLife bounds the life of an invoice, and so of a doubt.
	maxLife = 24 * time.Hour
	// lateness is what clocks may differ by.
	lateness = time.Minute
	// slowLook is the longest wait between two looks at a doubt.
	slowLook = time.Minute
)

// A doubt is about a payment that never reached its node, as it seemed: the
// order may hang in between, and money may leave until the invoice has expired.
// Nothing is reserved for it. Until then the node is asked again: now and then,
// before its segment is bought anew, and when the next run starts.
type doubt struct {
	ledger.Purchase
	until time.Time
}

// newDoubt returns the doubt about p, if there is any at a time.
func newDoubt(p ledger.Purchase, now time.Time) (d *doubt, ok bool) {
	if p.State != lightning.Failed || p.Reason != neverReached {
		return nil, false
	}
	inv, err := lightning.DecodeInvoice(p.Bolt11)
	if err != nil {
		return nil, false
	}
	d = &doubt{p, inv.Created.Add(inv.Expiry + lateness)}
	return d, now.Before(d.until)
}

// doubted gives the payments of earlier runs that are in doubt.
func (b *Buyer) doubted(ctx context.Context) (in []ledger.Purchase, err error) {
	now := time.Now()
	for p, err := range b.c.Ledger.Purchases(ctx, ledger.Filter{Since: now.Add(-maxLife - lateness), Newest: true}) {
		if err != nil {
			return nil, err
		}
		if _, ok := newDoubt(p, now); ok {
			in = append(in, p)
		}
	}
	return in, nil
}

// doubt begins to doubt that p failed.
func (b *Buyer) doubt(p ledger.Purchase) {
	d, ok := newDoubt(p, time.Now())
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ok || b.closed {
		return
	}
	b.doubts[p.KeyHash] = append(b.doubts[p.KeyHash], d)
	b.work.Go(func() { b.dispel(d) })
}

// dispel asks now and then about d, until it is known or too late.
func (b *Buyer) dispel(d *doubt) {
	for wait := lastLook; time.Now().Before(d.until); wait = min(2*wait, slowLook) {
		select {
		case <-b.alive.Done():
			return
		case <-time.After(wait):
		}
		if gone, err := b.reconsider(b.alive, d); gone {
			return
		} else if err != nil {
			b.c.Log.Debug("payment not looked up", "hash", d.Hash, "err", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(d)
}

// reconsider asks the node about d. If the node knows the payment the doubt is
// gone, and a flight has taken its place unless it failed for good.
func (b *Buyer) reconsider(ctx context.Context, d *doubt) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := b.c.Payer.Lookup(ctx, d.Hash)
	if errors.Is(err, lightning.ErrNoPayment) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("payment %s to %s may yet go out: %w: %w", d.Hash, d.Provider, lightning.ErrInFlight, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drop(d) && out.State != lightning.Failed && !b.closed {
		b.c.Log.Warn("a payment reached the node after all", "hash", d.Hash, "provider", d.Provider)
		b.takeUp(d.Purchase)
	}
	return true, nil
}

// reconsiderAll asks the node about all doubts on the way to the key of seg.
func (b *Buyer) reconsiderAll(ctx context.Context, seg htlcdash.Segment) error {
	b.mu.Lock()
	doubts := slices.Clone(b.doubts[seg.KeyHash])
	b.mu.Unlock()
	for _, d := range doubts {
		if _, err := b.reconsider(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// inDoubt reports whether a payment for the key with a hash may yet go out.
func (b *Buyer) inDoubt(keyHash [32]byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.doubts[keyHash]) > 0
}

// drop forgets d, and reports whether nobody did before. It needs b.mu.
func (b *Buyer) drop(d *doubt) bool {
	list := b.doubts[d.KeyHash]
	i := slices.Index(list, d)
	if i < 0 {
		return false
	}
	if list = slices.Delete(list, i, i+1); len(list) > 0 {
		b.doubts[d.KeyHash] = list
	} else {
		delete(b.doubts, d.KeyHash)
	}
	return true
}
