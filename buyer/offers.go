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
	"htlcdash/lightning"
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
			err := b.askPeer(ctx, p, t, one, free)
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

// gather gets quotes for segs of one title, from the favourite and, where that
// does not give them or is late, from the next best. It fails if any of segs is
// left without.
func (b *Buyer) gather(ctx context.Context, t *title, segs []htlcdash.Segment) error {
	line := &queue{b: b, t: t, seg: segs[0], need: needOf(ctx, segs[0], len(segs)), asked: make(map[*peer]bool)}
	came := make(chan error, len(t.peers))
	var errs []error
	for running := 0; ; {
		segs = b.desk.lacking(segs, t.peers)
		if len(segs) == 0 {
			return nil
		}
		p, ok := line.next()
		if ok && b.goAsk(p.peer, t, segs, came) {
			running++
		} else if running == 0 {
			return noOffer(errs)
		}
		select {
		case err := <-came:
			running, errs = running-1, append(errs, err)
		case <-line.late(p):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// noOffer says why there are none. Without a reason there were some, and they
// were taken.
func noOffer(errs []error) error {
	if err := errors.Join(errs...); err != nil || len(errs) == 0 {
		return errors.Join(ErrNoOffer, err)
	}
	return nil
}

// goAsk has p asked, and its error sent. It reports whether that was begun.
func (b *Buyer) goAsk(p *peer, t *title, segs []htlcdash.Segment, came chan<- error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.work.Go(func() { came <- b.askAhead(b.alive, p, t, segs) })
	return true
}

// A queue is the peers of a title in the order in which they are asked ahead:
// the favourite, and the others as the market ranks them, if it comes to that.
type queue struct {
	b     *Buyer
	t     *title
	seg   htlcdash.Segment
	need  market.Need
	asked map[*peer]bool
	rest  []bidder
	again bool // rest was filled
}

func (q *queue) next() (p bidder, ok bool) {
	if f := q.b.favourite(q.t, time.Now()); f != nil && len(q.asked) == 0 {
		p = bidder{peer: f, Candidate: market.Candidate{ID: f.id(), Group: f.group}}
		q.asked[f] = true
		return p, true
	}
	if !q.again {
		q.rest, q.again = q.b.rank(q.t, q.seg, q.need), true
	}
	for len(q.rest) > 0 {
		p, q.rest = q.rest[0], q.rest[1:]
		if !q.asked[p.peer] {
			q.asked[p.peer] = true
			return p, true
		}
	}
	return bidder{}, false
}

// late says when p, which was asked now, is not to be waited for alone.
func (q *queue) late(p bidder) <-chan time.Time {
	if p.peer == nil {
		return nil
	}
	others := q.rest
	if !q.again { // to rank them is a choice, which counts
		others = q.b.bidders(q.t, q.seg)
	}
	i := slices.IndexFunc(others, func(o bidder) bool { return !q.asked[o.peer] })
	if i < 0 {
		return nil
	}
	return time.After(q.b.market.HedgeAfter(time.Now(), p.Candidate, others[i].Candidate, q.need))
}

// askAhead asks p for what it has not quoted of segs, in as few requests as can
// be. It buys no credentials for that.
func (b *Buyer) askAhead(ctx context.Context, p *peer, t *title, segs []htlcdash.Segment) error {
	batches := slices.Collect(slices.Chunk(b.desk.wanted(segs, p), exchange.MaxBatch))
	errs := make([]error, len(batches))
	var work sync.WaitGroup
	for i, batch := range batches {
		work.Go(func() {
			defer b.desk.asked(batch, p)
			errs[i] = b.askPeer(ctx, p, t, batch, true)
		})
	}
	work.Wait()
	for _, seg := range segs { // others may have it asked already
		if _, err := b.desk.look(ctx, seg, p); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// offerTimeout bounds the wait for one provider's offers, before the next is
// asked.
const offerTimeout = 5 * time.Second

// askPeer asks one peer and keeps its good offers. It fails if any of segs is left
// without. If free, it buys no credentials for that.
func (b *Buyer) askPeer(ctx context.Context, p *peer, t *title, segs []htlcdash.Segment, free bool) error {
	quotes, err := b.inquire(ctx, p, t, segs, free)
	var dear []error
	for i, q := range quotes {
		if q == nil {
			continue
		}
		if most := b.most(segs[i]); q.Price > most { // no fault of the provider's
			dear = append(dear, fmt.Errorf("%s: segment %d of %s: %w: %v, at most %v", p, segs[i].Index, segs[i].Representation, ErrDear, q.Price, most))
			continue
		}
		b.desk.put(segs[i], q)
	}
	return errors.Join(append(dear, err)...)
}

// inquire asks one peer for quotes for segs, in their order: nil where it gives
// no good one, of which the error tells.
func (b *Buyer) inquire(ctx context.Context, p *peer, t *title, segs []htlcdash.Segment, free bool) ([]*quote, error) {
	ask, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	req := exchange.OfferRequest{Title: t.id, Scheme: exchange.SchemeSalted, Try: exchange.NewTry(), Hops: exchange.Hops(ctx)}
	for _, seg := range segs {
		req.Sealed = append(req.Sealed, seg.Sealed)
	}
	begun := time.Now()
	var offers []exchange.Offer
	var shown *pass
	err := b.withPass(ask, p, t, free, func(v *pass) (err error) {
		if p.onlyCarries() { // which was not known before
			return fmt.Errorf("%s sells no keys: %w", p, exchange.ErrRefused)
		}
		shown = v
		offers, err = p.offers(ask, v.credential, req)
		return err
	})
	took := time.Since(begun)
	if err != nil {
		if later, ok := errors.AsType[*errLater](err); ok && p.putOff(time.Now(), later.wait) {
			b.c.Log.Info("provider asks to wait", "provider", p.URL(), "for", later.wait)
			return nil, err
		}
		if ctx.Err() == nil && !errors.Is(err, errTokensCost) {
			b.fault(p, took, err)
			b.c.Log.Warn("no offers", "provider", p.URL(), "err", err)
		}
		return nil, err
	}
	p.answered()
	quotes := make([]*quote, len(segs))
	var errs []error
	said := market.Outcome{Kind: market.Quoted, Took: took}
	for i, o := range offers {
		q, err := b.check(p, o, segs[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: segment %d of %s: %w", p, segs[i].Index, segs[i].Representation, err))
			continue
		}
		said.Price, said.Ceiling = said.Price+q.Price, said.Ceiling+q.ceiling
		q.pass, q.took = shown, took
		quotes[i] = q
	}
	if said.Ceiling > 0 {
		b.observe(p, said)
	}
	if err = errors.Join(errs...); err != nil {
		b.fault(p, took, err)
		b.c.Log.Warn("offers refused", "provider", p.URL(), "err", err)
	}
	return quotes, err
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

// most is the most that the key of seg may cost, the route included.
func (b *Buyer) most(seg htlcdash.Segment) lightning.Msat {
	if b.c.Most == nil {
		return NoLimit
	}
	return b.c.Most(seg)
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
	_, err := b.c.Sealed.Get(ForTitle(ctx, seg.Title), seg.SealedBlob())
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
