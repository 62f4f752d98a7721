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
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// A flight is one payment from the reservation of its money until its outcome
// is in the books. Only its own goroutine changes it.
type flight struct {
	ledger.Purchase
	inv     lightning.Invoice // zero for a payment of an earlier run
	hold    *hold
	began   time.Time
	offer   time.Duration // what the offer took,
	bytes   time.Duration // what the sealed bytes took, and
	proving time.Duration // what the proof took

	looked func()        // closes asked
	asked  chan struct{} // closed when the node was asked once, after a restart
	giveUp func()        // closes late
	late   chan struct{} // closed when callers are not to wait any longer
	done   chan struct{} // closed when key and err are set
	key    htlcdash.Key
	err    error

	ceiling lightning.Msat // the publisher's price; 0: not of a segment
	waited  time.Duration  // for the offer, which was not asked for ahead
	held    bool           // that was told to the market

	resale   *bounds            // of the payment, where another's is held for it; else nil
	preimage lightning.Preimage // that was paid for; set before done is closed

	risk lightning.Msat // of its amount, what counts as exposure
	peer *peer          // whose exposure it counts in, nil: none's; guarded by Buyer.mu
	over bool           // it counts in no exposure any more; guarded by Buyer.mu
}

func (f *flight) seal() htlcdash.Seal { return htlcdash.Seal{Sealed: f.Sealed, KeyHash: f.KeyHash} }

// wait returns the key, or an error matching lightning.ErrInFlight once the
// flight is late.
func (f *flight) wait(ctx context.Context) (htlcdash.Key, error) {
	select {
	case <-f.done:
		return f.key, f.err
	case <-f.late:
		if f.isDone() {
			return f.key, f.err
		}
		return htlcdash.Key{}, fmt.Errorf("payment %s to %s: %w: the key will be kept if it comes", f.Hash, f.Provider, lightning.ErrInFlight)
	case <-ctx.Done():
		return htlcdash.Key{}, ctx.Err()
	}
}

func (f *flight) isDone() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// flight returns the payment under way for the key of seg, or nil.
func (b *Buyer) flight(seg htlcdash.Segment) *flight {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flights[seg.KeyHash]
}

// begin reserves the money for q and starts its payment. If one for the same
// key is under way it returns that, and q is not used. What lacks only fees
// that are reserved for others waits until those are free.
func (b *Buyer) begin(ctx context.Context, seg htlcdash.Segment, q *quote, d *download, risk lightning.Msat) (f *flight, mine bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.c.Patience, ErrBudget)
	defer cancel()
	for {
		f, mine, err = b.tryBegin(seg, q, d, risk)
		tied, ok := errors.AsType[tiedError](err)
		if !ok {
			return f, mine, err
		}
		select {
		case <-tied.freed:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

func (b *Buyer) tryBegin(seg htlcdash.Segment, q *quote, d *download, risk lightning.Msat) (f *flight, mine bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, ok := b.flights[seg.KeyHash]; ok {
		return f, false, nil
	}
	if b.closed {
		return nil, false, ErrClosed
	}
	// It may have been found to cheat since it was asked.
	if err := errors.Join(q.peer.trusted(), b.judgeKey(q.peer, q.signer)); err != nil {
		return nil, false, err
	}
	f = &flight{
		Purchase: ledger.Purchase{
			Hash: q.inv.Hash, Title: seg.Title, Representation: seg.Representation, Index: seg.Index,
			Sealed: q.Sealed, KeyHash: seg.KeyHash, Provider: q.peer.URL(), Payee: q.inv.Payee,
			Amount: q.inv.Amount, Salt: q.Salt, Bolt11: q.inv.Bolt11, Created: time.Now(),
			Counter: q.Counter, Expires: q.Expires, Signer: q.signer, Signature: q.Signature,
			Promise: q.promise, Parcel: q.parcel, Prover: q.Prover,
		},
		inv: q.inv, offer: q.took, began: time.Now(), peer: q.peer, risk: risk, ceiling: q.ceiling, resale: q.resale,
	}
	if q.waited {
		f.waited = q.took
	}
	f.Proof, f.proving = q.proved()
	most := b.most(seg)
	if q.resale != nil {
		most = q.resale.most
	}
	if f.IsCarriage() {
		most = NoLimit // it is no key
	}
	if f.hold, err = b.till.reserve(seg.Title, f.Amount, min(b.c.Fee.Of(f.Amount), max(most-f.Amount, 0))); err != nil {
		return nil, false, err
	}
	f.MaxFee, f.hold.rung = f.hold.fee, rungOf(f.Purchase)
	if d != nil {
		select {
		case <-d.done:
			f.bytes = d.took
		default: // paid beside the download
		}
	}
	if f.resale != nil && f.resale.again {
		for _, d := range slices.Clone(b.doubts[f.KeyHash]) {
			if d.Hash == f.Hash {
				b.drop(d) // the flight will know
			}
		}
	}
	b.launch(f, func() { b.pay(f) })
	return f, true, nil
}

// takeUp asks for the outcome of a payment that was ordered before, by an
// earlier run or so that it seemed to have failed. It needs b.mu.
func (b *Buyer) takeUp(p ledger.Purchase) {
	f := &flight{Purchase: p, began: p.Created, risk: p.Amount, hold: b.till.restore(p.Title, p.Amount, p.MaxFee)}
	f.hold.rung = rungOf(p)
	b.past = append(b.past, f)
	if known := b.peers[p.Provider]; known != nil {
		known.adopt(f)
	}
	b.launch(f, func() { b.watch(f, time.Now()) })
}

// launch runs a flight. It needs b.mu.
func (b *Buyer) launch(f *flight, run func()) {
	f.asked, f.late, f.done = make(chan struct{}), make(chan struct{}), make(chan struct{})
	f.looked = sync.OnceFunc(func() { close(f.asked) })
	f.giveUp = sync.OnceFunc(func() { close(f.late) })
	if b.flights[f.KeyHash] == nil { // else another payment for the key is older or surer
		b.flights[f.KeyHash] = f
	}
	late := time.AfterFunc(b.c.Patience, f.giveUp)
	b.work.Go(func() {
		defer f.giveUp() // the buyer may be closed before the outcome is known
		defer late.Stop()
		run()
	})
}

// pay is the only place where money leaves. The money is reserved when it
// begins. It writes the intent before it acts and the outcome after, and it
// gives the money back only when the payment can no longer succeed.
func (b *Buyer) pay(f *flight) {
	// Another flight may have bought the key between the caller's look into
	// the books and the start of this one. Now none can.
	if key, err := b.c.Ledger.Key(b.alive, f.seal()); err == nil {
		b.finish(f, lightning.Payment{}, key, nil)
		return
	}
	b.c.Step("before-intent")
	if err := b.intend(f); err != nil {
		b.finish(f, lightning.Payment{}, htlcdash.Key{}, unpaid(f, err))
		return
	}
	b.news.tell(f.view("paying"))
	b.c.Step("intent")
	ctx, cancel := context.WithTimeout(b.alive, b.c.Patience)
	out, err := b.send(ctx, f)
	cancel()
	switch {
	case err == nil && out.State == lightning.Paid:
		b.settle(f, out)
	case errors.Is(err, lightning.ErrFailed) && !errors.Is(err, lightning.ErrInFlight):
		b.settle(f, lightning.Payment{State: lightning.Failed, Reason: err.Error()})
	default:
		b.c.Log.Warn("payment not known", "hash", f.Hash, "provider", f.Provider, "err", err)
		b.watch(f, time.Now())
	}
}

// intend writes down that f is about to be sent.
func (b *Buyer) intend(f *flight) error {
	if f.resale != nil && f.resale.again {
		return b.c.Ledger.IntendAgain(b.alive, f.Hash, f.MaxFee)
	}
	return b.c.Ledger.Intend(b.alive, f.Purchase)
}

// send has the node pay.
func (b *Buyer) send(ctx context.Context, f *flight) (lightning.Payment, error) {
	if f.resale == nil {
		return b.c.Payer.Pay(ctx, f.inv, f.MaxFee)
	}
	return b.c.Payer.(lightning.Locker).PayWithin(ctx, f.inv, f.MaxFee, f.resale.lock)
}

// unpaid explains why an intent was not booked. A hash that is in the books
// was offered before: the provider would be paid once for two keys.
func unpaid(f *flight, err error) error {
	if errors.Is(err, ledger.ErrExists) {
		return fmt.Errorf("%s offers one payment hash twice: %w: %w", f.Provider, ErrTerms, err)
	}
	return err
}

// Bounds of the wait between two questions about a payment.
const (
	firstLook = 100 * time.Millisecond
	lastLook  = 5 * time.Second
)

// watch asks the node about f until its outcome is known or the buyer is
// closed. Before sent the payment may still have been on its way to the node.
func (b *Buyer) watch(f *flight, sent time.Time) {
	if b.look(f, sent) {
		return
	}
	b.news.tell(f.view("unknown"))
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		select {
		case <-b.alive.Done():
			return
		case <-time.After(wait):
		}
		if b.look(f, sent) {
			return
		}
	}
}

// look asks once and settles f if it can.
func (b *Buyer) look(f *flight, sent time.Time) (known bool) {
	ctx, cancel := context.WithTimeout(b.alive, 10*time.Second)
	defer cancel()
	out, err := b.c.Payer.Lookup(ctx, f.Hash)
	switch {
	case errors.Is(err, lightning.ErrNoPayment):
		if time.Since(sent) >= b.c.Grace {
			out, err = lightning.Payment{State: lightning.Failed, Reason: neverReached}, nil
		}
	case err != nil:
		b.c.Log.Debug("payment not looked up", "hash", f.Hash, "err", err)
		return false
	}
	f.looked()
	if err != nil || out.State == lightning.Unknown {
		b.hung(f, err)
		return false
	}
	b.settle(f, out)
	return true
}

// hung tells the market, once, of a payment that the node has sent and that
// comes to no end: err says that the node did not send it, as far as it knows.
func (b *Buyer) hung(f *flight, err error) {
	b.mu.Lock()
	p := f.peer
	b.mu.Unlock()
	if err != nil || p == nil || f.inv.Bolt11 == "" || f.held || time.Since(f.began) < b.c.Patience {
		return
	}
	f.held = true
	b.observe(p, market.Outcome{Kind: market.Hung, Took: time.Since(f.began), Reason: "holds a payment: " + f.Hash.String()})
}

// settle books a known outcome and tells all who wait.
func (b *Buyer) settle(f *flight, out lightning.Payment) {
	var key htlcdash.Key
	var err error
	if out.State == lightning.Paid {
		b.c.Step("paid")
		f.preimage = out.Preimage
		key, err = b.open(f, out)
	} else {
		err = b.failed(f, out)
	}
	f.Purchase.State, f.Fee, f.Reason, f.Lost = out.State, out.Fee, out.Reason, out.State == lightning.Paid && err != nil
	booked := b.c.Ledger.Conclude(context.WithoutCancel(b.alive), f.Hash, out, key)
	if booked == nil && out.State == lightning.Paid {
		b.c.Step("key")
	}
	b.judge(f, err)
	if booked != nil {
		// The outcome is known, whether or not it is booked: who waits gets
		// it, and the flight keeps the key until the books do.
		b.c.Log.Error("outcome of a payment not booked", "hash", f.Hash, "err", booked)
		b.free(f, out, key)
		b.tell(f, out, key, err)
		b.book(f, out, key)
		b.forget(f)
		return
	}
	b.finish(f, out, key, err)
}

// failed explains a payment that failed. Where the budget left less for the
// route than routes may take, the budget may be why.
func (b *Buyer) failed(f *flight, out lightning.Payment) error {
	err := fmt.Errorf("payment %s to %s: %w: %s", f.Hash, f.Provider, lightning.ErrFailed, out.Reason)
	if f.MaxFee < b.c.Fee.Of(f.Amount) {
		err = fmt.Errorf("%w; only %v were left for the route: %w", err, f.MaxFee, ErrBudget)
	}
	return err
}

// open turns the preimage into the key. A provider whose preimage is not the
// key has cheated. Where the wallet gives no preimage, the provider is asked.
func (b *Buyer) open(f *flight, out lightning.Payment) (htlcdash.Key, error) {
	if f.IsCarriage() {
		return htlcdash.Key{}, nil // the bytes are here
	}
	if !out.Preimage.Opens(f.Hash) {
		b.mu.Lock()
		p := f.peer
		b.mu.Unlock()
		if p == nil {
			return htlcdash.Key{}, fmt.Errorf("payment %s: the node gives no preimage, and %s is not configured: %w", f.Hash, f.Provider, ErrCheated)
		}
		key, err := b.recall(b.alive, p, f.Purchase)
		if err != nil {
			p.owe(f.Hash)
			err = fmt.Errorf("payment %s to %s: the node gives no preimage, nor does the provider: %w: %w", f.Hash, f.Provider, ErrCheated, err)
		}
		return key, err
	}
	key, err := exchange.Salted{}.Key(out.Preimage, f.Salt, f.seal())
	if err != nil {
		b.accuse(f, out.Preimage, err)
		err = fmt.Errorf("%s took %v: %w", f.Provider, out.Spent(), err)
	}
	return key, err
}

// accuse is for a preimage that is not the key. Who passes on what another was to
// prove cannot know that it lies, and has promised no key: where the payment was
// made for another's, which is held, nothing is lost, and the provider is
// asked last for a while.
func (b *Buyer) accuse(f *flight, preimage lightning.Preimage, cause error) {
	passedOn := f.Prover != (htlcdash.ProviderID{})
	b.mu.Lock()
	p := f.peer
	b.mu.Unlock()
	if passedOn && f.resale != nil {
		if p != nil {
			b.observe(p, market.Outcome{Kind: market.Garbled, Reason: cause.Error()})
		}
		return
	}
	b.convict(f, cause)
	if !passedOn {
		b.complain(f.Provider, saltedComplaint(f.Purchase, preimage))
	}
}

// judge tells what a payment says of the provider that was paid.
func (b *Buyer) judge(f *flight, err error) {
	b.mu.Lock()
	p := f.peer
	b.mu.Unlock()
	took := f.waited + f.proving + time.Since(f.began)
	switch {
	case p == nil || f.inv.Bolt11 == "" || f.IsCarriage(): // of an earlier run: its time says nothing, nor that of a payment for no key
	case err == nil && rungOf(f.Purchase) == ledger.Credentials: // who sells credentials has sold no key yet
	case errors.Is(err, ErrBudget): // not the provider's doing
	case err == nil:
		p.sold(f.Amount)
		if f.ceiling > 0 {
			b.observe(p, market.Outcome{Kind: market.Delivered, Took: took, Price: f.Amount, Ceiling: f.ceiling})
		}
	case !errors.Is(err, ErrCheated): // else it is convicted
		b.observe(p, market.Outcome{Kind: market.Silent, Took: took, Reason: err.Error()})
	}
}

// book tries until the books take the outcome or the buyer is closed: then
// the next run learns it from the node.
func (b *Buyer) book(f *flight, out lightning.Payment, key htlcdash.Key) {
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		select {
		case <-b.alive.Done():
			return
		case <-time.After(wait):
		}
		if b.c.Ledger.Conclude(b.alive, f.Hash, out, key) == nil {
			return
		}
	}
}

// finish forgets f and ends it for all who wait, in this order: who is told
// that it failed may buy anew.
func (b *Buyer) finish(f *flight, out lightning.Payment, key htlcdash.Key, err error) {
	b.free(f, out, key)
	b.forget(f)
	b.tell(f, out, key, err)
}

func (b *Buyer) forget(f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flights[f.KeyHash] == f {
		delete(b.flights, f.KeyHash)
	}
}

// free ends what f holds of budget and exposure.
func (b *Buyer) free(f *flight, out lightning.Payment, key htlcdash.Key) {
	b.doubt(f.Purchase)
	if out.State == lightning.Paid {
		f.hold.commit(out, key.IsZero() && !f.IsCarriage())
	} else {
		f.hold.release()
	}
	b.mu.Lock()
	p := f.peer
	f.over = true
	b.mu.Unlock()
	if p != nil {
		p.proved(f.risk)
	}
}

// tell ends the wait for f.
func (b *Buyer) tell(f *flight, out lightning.Payment, key htlcdash.Key, err error) {
	f.key, f.err = key, err
	close(f.done)
	if out.State != lightning.Unknown {
		b.news.tell(f.view(out.State.String()))
	} else {
		b.news.tell(Purchase{Title: f.Title})
	}
}

// Recover waits until the node was asked about every payment of an earlier run
// whose outcome was not known. Those that it still does not know stay reserved
// and are watched. It is a good moment before anything new is bought, though
// nothing is bought twice without it.
func (b *Buyer) Recover(ctx context.Context) error {
	b.mu.Lock()
	past := b.past
	b.mu.Unlock()
	for _, f := range past {
		select {
		case <-f.asked:
		case <-f.done:
		case <-ctx.Done():
			return fmt.Errorf("payments of an earlier run: the node does not answer yet: %w", ctx.Err())
		}
	}
	return nil
}
