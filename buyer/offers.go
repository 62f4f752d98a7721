package buyer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/agent/market"
	"htlcdash/internal/exchange"
)

// quote returns an offer of p for seg: one asked for ahead, or a new one.
func (b *Buyer) quote(ctx context.Context, t *title, seg htlcdash.Segment, p *peer, free bool) (*quote, error) {
	waited := false
	for {
		q, wait := b.desk.take(seg, p)
		if q != nil {
			q.waited = waited
			return q, nil
		}
		if wait == nil {
			one := []htlcdash.Segment{seg}
			_, err := b.askPeer(ctx, p, t, one, free)
			b.desk.asked(one, p)
			if err != nil {
				return nil, err
			}
			waited = true
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// gather gets quotes for segs of one title, from the favourite and, for what it
// does not give, from the next best. It returns who gave some, and fails if any
// of segs is left without.
func (b *Buyer) gather(ctx context.Context, t *title, segs []htlcdash.Segment) error {
	asked := make(map[*peer]bool)
	var errs []error
	ask := func(p *peer) {
		asked[p] = true
		var err error
		if segs, err = b.askAhead(ctx, p, t, segs); err != nil {
			errs = append(errs, err)
		}
	}
	if p := b.favourite(t, time.Now()); p != nil {
		ask(p)
	}
	if len(segs) > 0 {
		for _, p := range b.rank(t, segs[0], needOf(ctx, segs[0], len(segs))) {
			if len(segs) > 0 && !asked[p.peer] && ctx.Err() == nil {
				ask(p.peer)
			}
		}
	}
	if len(segs) == 0 {
		return nil
	}
	return errors.Join(append([]error{ErrNoOffer, ctx.Err()}, errs...)...)
}

// askAhead asks p for what it has not quoted of segs, and returns what it does
// not sell.
func (b *Buyer) askAhead(ctx context.Context, p *peer, t *title, segs []htlcdash.Segment) (left []htlcdash.Segment, err error) {
	var mu sync.Mutex
	var work sync.WaitGroup
	var errs []error
	for batch := range slices.Chunk(b.desk.wanted(segs, p), exchange.MaxBatch) {
		work.Go(func() {
			defer b.desk.asked(batch, p)
			none, err := b.askPeer(ctx, p, t, batch, false)
			mu.Lock()
			defer mu.Unlock()
			left, errs = append(left, none...), append(errs, err)
		})
	}
	work.Wait()
	return left, errors.Join(errs...)
}

// offerTimeout bounds the wait for one provider's offers, before the next is
// asked.
const offerTimeout = 5 * time.Second

// askPeer asks one peer, keeps its good offers, and returns the segments for
// which there is none, with an error. If free, it buys no credentials for that.
func (b *Buyer) askPeer(ctx context.Context, p *peer, t *title, segs []htlcdash.Segment, free bool) (left []htlcdash.Segment, err error) {
	ask, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	req := exchange.OfferRequest{Title: t.id, Scheme: exchange.SchemeSalted, Try: exchange.NewTry()}
	for _, seg := range segs {
		req.Sealed = append(req.Sealed, seg.Sealed)
	}
	begun := time.Now()
	var offers []exchange.Offer
	var shown *pass
	err = b.withPass(ask, p, t, free, func(v *pass) (err error) {
		shown = v
		offers, err = p.offers(ask, v.credential, req)
		return err
	})
	took := time.Since(begun)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, errTokensCost) {
			b.fault(p, took, err)
			b.c.Log.Warn("no offers", "provider", p.URL(), "err", err)
		}
		return segs, err
	}
	var errs []error
	said := market.Outcome{Kind: market.Quoted, Took: took}
	for i, o := range offers {
		q, err := b.check(p, o, segs[i])
		if err != nil {
			left, errs = append(left, segs[i]), append(errs, fmt.Errorf("%s: segment %d of %s: %w", p, segs[i].Index, segs[i].Representation, err))
			continue
		}
		said.Price, said.Ceiling = said.Price+q.Price, said.Ceiling+q.ceiling
		q.pass, q.took = shown, took
		b.desk.put(segs[i], q)
	}
	if said.Ceiling > 0 {
		p.quotes(said.Price, said.Ceiling)
		b.observe(p, said)
	}
	if err := errors.Join(errs...); err != nil {
		b.fault(p, took, err)
		b.c.Log.Warn("offers refused", "provider", p.URL(), "err", err)
		return left, err
	}
	return nil, nil
}

// check holds an offer against the seal and the bans.
func (b *Buyer) check(p *peer, o exchange.Offer, seg htlcdash.Segment) (*quote, error) {
	if o.Error == "" && o.Price > seg.Price {
		return nil, fmt.Errorf("%w: %v, publisher's price %v: %w", ErrPrice, o.Price, seg.Price, exchange.ErrTerms)
	}
	signer := p.purse.known().Key
	inv, err := exchange.Salted{}.Check(o, signer, seg, time.Now())
	if err != nil {
		return nil, err
	}
	q := &quote{peer: p, Offer: o, inv: inv, signer: signer, ceiling: seg.Price}
	if inv.Expiry > maxLife {
		return nil, fmt.Errorf("invoice for more than %v: %w", maxLife, exchange.ErrTerms)
	}
	if !q.usable(time.Now()) {
		return nil, fmt.Errorf("expires within %v: %w", margin, exchange.ErrExpired)
	}
	return q, nil
}

// Prepare asks, ahead of need, for offers for segs in as few requests as can
// be: then a purchase needs no round trips but for the proof, beside the bytes,
// and for the payment. It spends nothing and fetches neither proofs nor sealed
// bytes, see [Buyer.Ready] and [Buyer.Download]. It returns when
// the offers are there, or could not be had, or ctx is done: what fails will be
// asked for again when it is bought. Now and then it has others than the
// favourite asked, too, and does not wait for them.
func (b *Buyer) Prepare(ctx context.Context, segs []htlcdash.Segment) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, t := range b.titlesOf(segs) {
		mine := slices.DeleteFunc(slices.Clone(segs), func(s htlcdash.Segment) bool { return s.Title != t.id || b.has(ctx, s) })
		if len(mine) == 0 {
			continue
		}
		wg.Go(func() {
			if err := b.gather(ctx, t, mine); err != nil {
				b.c.Log.Debug("not prepared", "title", t.id, "err", err)
			}
			b.survey(t, mine)
		})
	}
}

// Download fetches, ahead of need, the sealed bytes of seg into the store of
// sealed bytes, if that keeps any. It spends nothing. It takes its share of the
// line from what is needed now, so it is for few segments.
func (b *Buyer) Download(ctx context.Context, seg htlcdash.Segment) error {
	_, err := b.c.Sealed.Get(withTitle(ctx, seg.Title), seg.SealedBlob())
	return err
}

// has reports whether the key of seg was bought or is being paid for.
func (b *Buyer) has(ctx context.Context, seg htlcdash.Segment) bool {
	if b.flight(seg) != nil {
		return true
	}
	_, err := b.c.Ledger.Key(ctx, seg.Seal)
	return err == nil
}
