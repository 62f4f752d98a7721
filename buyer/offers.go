package buyer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// A quote is an offer that was checked against its seal. It is paid at most
// once.
type quote struct {
	peer           *peer
	exchange.Offer // by this name, so that its salt does not print
	inv            lightning.Invoice
	signer         htlcdash.ProviderID
	pass           *pass         // that it was made to
	took           time.Duration // to ask for it
	proof          *proving      // nil: not asked for yet; guarded by Buyer.mu
	promise        []byte        // of a chunk: what was signed, and
	parcel         []byte        // what the key opens
}

// A desk keeps quotes until they are used or too old, and knows which are
// being asked for.
type desk struct {
	mu     sync.Mutex
	quotes map[ware]*quote
	asking map[ware]chan struct{} // closed when the answer is in
}

func newDesk() *desk {
	return &desk{quotes: make(map[ware]*quote), asking: make(map[ware]chan struct{})}
}

// A ware is a key as a title sells it: a quote for any of the segments that the
// key opens will do for the others, whose seals have the same ceiling.
type ware struct {
	title htlcdash.TitleID
	key   [32]byte // its hash
	price lightning.Msat
}

func wareOf(seg htlcdash.Segment) ware { return ware{seg.Title, seg.KeyHash, seg.Price} }

// margin is the life that a quote needs, so that a payment does not arrive at
// an invoice that has expired.
const margin = 20 * time.Second

func (q *quote) usable(now time.Time, tried map[*peer]bool) bool {
	then := now.Add(margin)
	return then.Before(q.Expires) && !q.inv.Expired(then) && q.peer.ok() && !tried[q.peer]
}

// take removes and returns a usable quote. If there is none it returns a
// channel to wait on, or leave to ask: then the caller must call asked.
func (d *desk) take(seg htlcdash.Segment, tried map[*peer]bool) (q *quote, wait chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := wareOf(seg)
	if q, ok := d.quotes[w]; ok {
		delete(d.quotes, w)
		if q.usable(time.Now(), tried) {
			return q, nil
		}
	}
	if wait, ok := d.asking[w]; ok {
		return nil, wait
	}
	d.asking[w] = make(chan struct{})
	return nil, nil
}

// wanted returns those of segs that have no usable quote and are not asked
// for, one for each key. The caller must call asked for them.
func (d *desk) wanted(segs []htlcdash.Segment) (out []htlcdash.Segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, seg := range segs {
		w := wareOf(seg)
		q, ok := d.quotes[w]
		if _, busy := d.asking[w]; busy || (ok && q.usable(now, nil)) {
			continue
		}
		d.asking[w] = make(chan struct{})
		out = append(out, seg)
	}
	return out
}

// look returns the usable quote for seg and leaves it where it is, or nil if
// there is none. It waits if one is being asked for.
func (d *desk) look(ctx context.Context, seg htlcdash.Segment) (*quote, error) {
	for {
		d.mu.Lock()
		q, wait := d.quotes[wareOf(seg)], d.asking[wareOf(seg)]
		d.mu.Unlock()
		if q != nil && q.usable(time.Now(), nil) {
			return q, nil
		}
		if wait == nil {
			return nil, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// drop forgets q, unless somebody has taken it.
func (d *desk) drop(seg htlcdash.Segment, q *quote) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.quotes[wareOf(seg)] == q {
		delete(d.quotes, wareOf(seg))
	}
}

func (d *desk) asked(segs []htlcdash.Segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, seg := range segs {
		w := wareOf(seg)
		close(d.asking[w])
		delete(d.asking, w)
	}
}

// put keeps a quote, and forgets those that are too old.
func (d *desk) put(seg htlcdash.Segment, q *quote) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for s, old := range d.quotes {
		if !old.usable(now, nil) {
			delete(d.quotes, s)
		}
	}
	d.quotes[wareOf(seg)] = q
}

// quote returns an offer for seg from a peer that was not tried: one asked for
// ahead, or a new one.
func (b *Buyer) quote(ctx context.Context, t *title, seg htlcdash.Segment, tried map[*peer]bool) (*quote, error) {
	for {
		q, wait := b.desk.take(seg, tried)
		if q != nil {
			return q, nil
		}
		if wait == nil {
			if err := b.ask(ctx, t, []htlcdash.Segment{seg}, tried); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask gets quotes for segs of one title, which the desk holds as being asked
// for, from the best peer that gives them. It fails if any is left without.
func (b *Buyer) ask(ctx context.Context, t *title, segs []htlcdash.Segment, tried map[*peer]bool) error {
	defer b.desk.asked(segs)
	var errs []error
	left := segs
	for _, p := range rank(t.peers) {
		if len(left) == 0 || ctx.Err() != nil {
			break
		}
		if tried[p] {
			continue
		}
		var err error
		if left, err = b.askPeer(ctx, p, t, left); err != nil {
			errs = append(errs, err)
		}
	}
	if len(left) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("no provider sells segment %d of %s: %w", left[0].Index, left[0].Representation,
		errors.Join(append([]error{ErrNoOffer}, errs...)...))
}

// offerTimeout bounds the wait for one provider's offers, before the next is
// asked.
const offerTimeout = 5 * time.Second

// askPeer asks one peer, keeps its good offers, and returns the segments for
// which there is none.
func (b *Buyer) askPeer(ctx context.Context, p *peer, t *title, segs []htlcdash.Segment) (left []htlcdash.Segment, err error) {
	ask, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	req := exchange.OfferRequest{Title: t.id, Scheme: exchange.SchemeSalted, Try: exchange.NewTry()}
	for _, seg := range segs {
		req.Sealed = append(req.Sealed, seg.Sealed)
	}
	begun := time.Now()
	var offers []exchange.Offer
	var shown *pass
	err = b.withPass(ask, p, t, func(v *pass) (err error) {
		shown = v
		offers, err = p.offers(ask, v.credential, req)
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			p.failed()
			b.c.Log.Warn("no offers", "provider", p.URL(), "err", err)
		}
		return segs, err
	}
	var errs []error
	for i, o := range offers {
		q, err := b.check(p, o, segs[i])
		if err != nil {
			left, errs = append(left, segs[i]), append(errs, fmt.Errorf("%s: segment %d of %s: %w", p, segs[i].Index, segs[i].Representation, err))
			continue
		}
		q.pass, q.took = shown, time.Since(begun)
		b.desk.put(segs[i], q)
	}
	if err := errors.Join(errs...); err != nil {
		if errors.Is(err, exchange.ErrTerms) {
			p.failed()
		}
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
	q := &quote{peer: p, Offer: o, inv: inv, signer: signer}
	if inv.Expiry > maxLife {
		return nil, fmt.Errorf("invoice for more than %v: %w", maxLife, exchange.ErrTerms)
	}
	if !q.usable(time.Now(), nil) {
		return nil, fmt.Errorf("expires within %v: %w", margin, exchange.ErrTerms)
	}
	return q, nil
}

// Prepare asks, ahead of need, for offers for segs in as few requests as can
// be: then a purchase needs no round trips but for the proof, beside the bytes,
// and for the payment. It spends nothing and fetches neither proofs nor sealed
// bytes, see [Buyer.Ready] and [Buyer.Download]. It returns when
// the offers are there, or could not be had, or ctx is done: what fails will be
// asked for again when it is bought.
func (b *Buyer) Prepare(ctx context.Context, segs []htlcdash.Segment) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, t := range b.titlesOf(segs) {
		mine := slices.DeleteFunc(slices.Clone(segs), func(s htlcdash.Segment) bool { return s.Title != t.id || b.has(ctx, s) })
		for batch := range slices.Chunk(b.desk.wanted(mine), exchange.MaxBatch) {
			wg.Go(func() {
				if err := b.ask(ctx, t, batch, nil); err != nil {
					b.c.Log.Debug("not prepared", "title", t.id, "err", err)
				}
			})
		}
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
