package buyer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/agent/market"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// CarriageInfo is what a provider takes for sealed bytes (spec/15-carriage.md).
type CarriageInfo struct {
	Price lightning.Msat `json:"price_msat_per_mib"` // 0: they are free
	Step  int64          `json:"step"`               // bytes that it sends before it is paid
}

func (c CarriageInfo) terms() exchange.Carriage { return exchange.Carriage(c) }

// Check reports terms that no viewer takes. The error matches htlcdash.ErrFormat.
func (c CarriageInfo) Check() error { return c.terms().Check() }

// Cost is what n sealed bytes cost, of terms that are in order.
func (c CarriageInfo) Cost(n int64) lightning.Msat { return c.terms().Cost(n) }

// Waits for a provider that has not heard yet of a payment, and for how long one
// is not asked for bytes that gives none after it was paid, or garbage.
const (
	unheardTries = 5                     // sooner than package source takes a source for stalled
	unheardWait  = 50 * time.Millisecond // doubled with each try
	carriageShun = 10 * time.Minute
	carriageBan  = 24 * time.Hour // of who took money for bytes that are not what was asked for
)

// soundForgives is how many bytes that come sound make up for one that was paid for
// and came to nothing: lines break, and who breaks them on purpose gains as little.
const soundForgives = 16

// errOwing means that a provider wants to be paid for bytes first.
var errOwing = fmt.Errorf("%w: it wants to be paid for bytes that it has sent", exchange.ErrRefused)

// An account is what we owe a provider for sealed bytes that were fetched with one
// credential. The provider counts too; where it says less, less is paid.
type account struct {
	mu      sync.Mutex
	sure    int64 // bytes of blobs that came whole and sound
	cut     int64 // bytes that may have come, of blobs that are not whole
	pending int64 // bytes on their way
	number  uint32
	paying  *paying       // under way; nil: none is
	changed chan struct{} // closed when there may be more room, and replaced
}

// A paying is a payment for carriage under way.
type paying struct {
	done chan struct{} // closed when err is set
	err  error
}

func newAccount() *account { return &account{changed: make(chan struct{})} }

// wake tells who waits for room. It needs a.mu.
func (a *account) wake() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// A carried is a blob on its way from a provider that is paid for it, as a reader.
// One goroutine reads it.
type carried struct {
	b     *Buyer
	ctx   context.Context // of Open; package source has it so
	peer  *peer
	title *title
	terms exchange.Carriage
	blob  htlcdash.Blob

	pass *pass         // whose account the range that is read is on
	body io.ReadCloser // of the range; nil: none is read
	n    int64         // bytes of the range
	got  int64         // of them, those that came
	data []byte        // of the blob, all that came
	wide bool          // holds the peer's token for blobs longer than a step
	over error         // why nothing more comes
}

// Carried opens sealed bytes at a provider that takes money for them, as a source of
// package source does. Without charges, that is nil: the bytes are free there. What
// comes is paid for, a step at a time, out of the budget of the title for which the
// buyer fetches it; nobody else is given anything. The error matches
// htlcdash.ErrNotFound where the provider is not to be asked: it wants more than
// [Config].BytePrice, or has sent garbage.
//
// A provider can take from us what a step costs, once, and a sixteenth of what it earns
// by sound bytes: it is paid for bytes that came whole and sound; for others no further
// than that.
func (b *Buyer) Carried(ctx context.Context, provider *Provider, blob htlcdash.Blob) (r io.ReadCloser, charges bool, err error) {
	b.mu.Lock()
	p := b.peer(provider)
	b.mu.Unlock()
	terms := b.carriageOf(ctx, p)
	if terms == (exchange.Carriage{}) {
		return nil, false, nil
	}
	id, ok := ctx.Value(passKey{}).(htlcdash.TitleID)
	switch {
	case terms.Check() != nil:
		err = terms.Check()
	case terms.Price > b.c.BytePrice:
		err = fmt.Errorf("asks %v for a MiB, you allow %v: %w", terms.Price, b.c.BytePrice, ErrCarriage)
	case !ok:
		err = errors.New("takes money for sealed bytes, and no title pays for these")
	case blob.Length > 2*terms.Step:
		err = fmt.Errorf("sends %d bytes on credit, too few for a blob of %d", terms.Step, blob.Length)
	default:
		err = errors.Join(p.trusted(), p.carries(time.Now()), b.mayCarry(ctx))
	}
	if err != nil {
		return nil, true, fmt.Errorf("%s: %w: %w", p, err, htlcdash.ErrNotFound)
	}
	t, err := b.title(id)
	if err != nil {
		return nil, true, err
	}
	p.asked(blob.Length)
	c := &carried{b: b, ctx: ctx, peer: p, title: t, terms: terms, blob: blob}
	if err := c.next(); err != nil {
		c.Close()
		return nil, true, err
	}
	return c, true, nil
}

// A risked is what sealed bytes have cost who resells beyond what they earned.
type risked struct {
	mu   sync.Mutex
	sum  lightning.Msat
	read time.Time // from the books
}

// add counts what was paid since the books were read.
func (r *risked) add(m lightning.Msat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum += m
}

// booksLife is for how long what was read from the books is used.
const booksLife = time.Second

// mayCarry bounds what who resells pays for sealed bytes, whoever asks for them.
func (b *Buyer) mayCarry(ctx context.Context) error {
	if !b.c.Resells {
		return nil
	}
	r := &b.risked
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.read) > booksLife {
		cost, earned, err := b.c.Ledger.CarriageSince(ctx, now.Add(-window))
		if err != nil {
			return err
		}
		r.sum, r.read = cost-earned, now
	}
	if r.sum >= b.c.CarriageRisk {
		return fmt.Errorf("in a day they have cost %v more than they earned, you allow %v: %w", r.sum, b.c.CarriageRisk, ErrCarriage)
	}
	return nil
}

// carriageOf is what p takes for sealed bytes, asked for if it is not known. Of who
// does not say, bytes are free: it says otherwise when it is asked for them.
func (b *Buyer) carriageOf(ctx context.Context, p *peer) exchange.Carriage {
	if info := p.purse.known(); info.Key != (htlcdash.ProviderID{}) {
		return info.Carriage.terms()
	}
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	info, err := b.info(ctx, p)
	if err != nil {
		return exchange.Carriage{}
	}
	return info.Carriage.terms()
}

// CarriageCost is what a provider takes for a blob, as far as is known.
func (b *Buyer) CarriageCost(provider *Provider, blob htlcdash.Blob) lightning.Msat {
	b.mu.Lock()
	p := b.peers[provider.URL()]
	b.mu.Unlock()
	if p == nil {
		return 0
	}
	terms := p.purse.known().Carriage.terms()
	if terms.Check() != nil {
		return 0
	}
	return terms.Cost(blob.Length)
}

// bytePrice is what a MiB of a title's sealed bytes costs at the cheapest of those
// who sell or carry it, as far as is known.
func (b *Buyer) bytePrice(id htlcdash.TitleID) (least lightning.Msat) {
	b.mu.Lock()
	t := b.titles[id]
	b.mu.Unlock()
	if t == nil {
		return 0
	}
	least = NoLimit
	for _, p := range t.peers {
		info := p.purse.known()
		terms, good := info.Carriage.terms(), info.Key != (htlcdash.ProviderID{}) && p.ok()
		if good && (terms.Free() || terms.Check() == nil && terms.Price <= b.c.BytePrice && p.carries(time.Now()) == nil) {
			least = min(least, terms.Price)
		}
	}
	if least == NoLimit {
		return 0
	}
	return least
}

// Meet asks a provider what it says of itself, unless it was asked lately: among it,
// what it takes for sealed bytes.
func (b *Buyer) Meet(ctx context.Context, provider *Provider) {
	b.mu.Lock()
	p := b.peer(provider)
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	if _, err := b.info(ctx, p); err != nil {
		b.c.Log.Debug("not met", "provider", p.URL(), "err", err)
	}
}

// BytePrice is what a MiB of a title's sealed bytes costs at the cheapest of those who
// sell or carry it: those who have not said yet are asked.
func (b *Buyer) BytePrice(ctx context.Context, id htlcdash.TitleID) lightning.Msat {
	t, err := b.title(id)
	if err != nil {
		return 0
	}
	var asked sync.WaitGroup
	for _, p := range t.peers {
		asked.Go(func() { b.carriageOf(ctx, p) })
	}
	asked.Wait()
	return b.bytePrice(id)
}

// Read implements io.Reader.
func (c *carried) Read(b []byte) (int, error) {
	for c.over == nil && c.body == nil {
		if int64(len(c.data)) == c.blob.Length {
			return 0, io.EOF
		}
		c.over = c.next()
	}
	if c.over != nil {
		return 0, c.over
	}
	n, err := c.body.Read(b[:min(int64(len(b)), c.n-c.got)])
	c.data, c.got = append(c.data, b[:n]...), c.got+int64(n)
	if c.got < c.n {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		c.over = err
		return n, err
	}
	c.body.Close()
	c.body = nil
	if int64(len(c.data)) == c.blob.Length {
		c.over = c.judge()
	}
	return n, c.over
}

// Close implements io.Closer.
func (c *carried) Close() error {
	if c.body != nil {
		c.body.Close()
		c.body = nil
	}
	c.settle(func(a *account) { a.cut += c.n }) // the provider may have sent it all
	if c.wide {
		c.wide = false
		<-c.peer.wide
	}
	return nil
}

// settle ends that bytes are on their way, if some are.
func (c *carried) settle(book func(*account)) {
	if c.n == 0 {
		return
	}
	a := c.pass.account
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending -= c.n
	book(a)
	c.n, c.got = 0, 0
	a.wake()
}

// judge holds the blob, which has come, against its name.
func (c *carried) judge() error {
	if !c.blob.Is(c.data) {
		c.settle(func(*account) {}) // garbage is not paid for
		err := fmt.Errorf("%s: garbage for sealed bytes: %w", c.peer, htlcdash.ErrCorrupt)
		c.b.shunCarrier(c.peer, err)
		return err
	}
	pass := c.pass
	before := c.blob.Length - c.n // of earlier ranges, paid for unseen
	c.peer.believe(before + c.n/soundForgives)
	c.settle(func(a *account) { a.sure += c.n })
	a := pass.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sure >= max(c.terms.Least(), c.terms.Step/2) && a.paying == nil {
		c.b.payCarriage(c.peer, c.title, pass, c.terms)
	}
	return nil
}

// next asks for the next range.
func (c *carried) next() error {
	if c.blob.Length > c.terms.Step && !c.wide {
		select {
		case c.peer.wide <- struct{}{}:
			c.wide = true
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	c.settle(func(a *account) { a.cut += c.n }) // of the range before: it is not known yet what it is worth
	at := int64(len(c.data))
	n := min(c.blob.Length-at, c.terms.Step)
	unheard := 0
	return c.b.withPass(c.ctx, c.peer, c.title, false, func(v *pass) error {
		for {
			if err := c.b.makeRoom(c.ctx, c.peer, c.title, v, c.terms, n); err != nil {
				return err
			}
			c.pass, c.n, c.got = v, n, 0
			body, err := c.peer.sealed(c.ctx, v.credential, c.blob, at, n)
			if err == nil {
				c.body = body
				return nil
			}
			if errors.Is(err, exchange.ErrRefused) || errors.Is(err, htlcdash.ErrNotFound) {
				c.settle(func(*account) {}) // nothing was sent
			} else {
				c.settle(func(a *account) { a.cut += c.n })
			}
			if !errors.Is(err, errOwing) {
				return err
			}
			if unheard++; unheard > unheardTries {
				c.peer.purse.drop(c.title.berth(), v) // its terms may have changed
				c.b.shunCarrier(c.peer, err)
				return err
			}
			select {
			case <-time.After(unheardWait << unheard):
			case <-c.ctx.Done():
				return c.ctx.Err()
			}
		}
	})
}

// makeRoom books n bytes as on their way, as soon as no more than a step is owed
// with them. It pays for what came before, if need be.
func (b *Buyer) makeRoom(ctx context.Context, p *peer, t *title, v *pass, terms exchange.Carriage, n int64) error {
	a := v.account
	for {
		a.mu.Lock()
		owed := a.sure + a.cut
		if owed+a.pending+n <= terms.Step {
			a.pending += n
			a.mu.Unlock()
			return nil
		}
		if a.paying == nil && owed > 0 && (owed >= terms.Least() || a.pending == 0) {
			b.payCarriage(p, t, v, terms)
		}
		under, changed := a.paying, a.changed
		a.mu.Unlock()
		var paid chan struct{}
		if under != nil {
			paid = under.done
		}
		select {
		case <-paid:
			if under.err != nil {
				return under.err
			}
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// payCarriage begins to pay for what came with a pass. It needs the lock of the
// pass's account. The payment outlives who waits for it; no other is made on that
// account until its outcome is known.
func (b *Buyer) payCarriage(p *peer, t *title, v *pass, terms exchange.Carriage) {
	a := v.account
	most := terms.Within(a.sure+a.cut, b.mostPrice())
	sure := min(a.sure, most)
	cut := min(a.cut, most-sure)
	cut = p.venture(cut, terms)
	a.number++
	under := &paying{done: make(chan struct{})}
	a.paying = under
	req := exchange.CarriageRequest{Number: a.number, Bytes: sure + cut}
	end := func(bytes int64, err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		p.ventured(cut, max(0, bytes-sure))
		if err == nil {
			a.sure, a.cut = a.sure-sure, a.cut-cut
		}
		a.paying, under.err = nil, err
		close(under.done)
		a.wake()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		go end(0, ErrClosed)
	case most == 0:
		go end(0, fmt.Errorf("%w: sealed bytes at %v a MiB, and no payment may be for more than %v", ErrBudget, terms.Price, b.c.Limits.Segment))
	case req.Bytes == 0:
		go end(0, fmt.Errorf("%s: was paid for sealed bytes that did not come whole, and is paid no more for such: %w", p, exchange.ErrRefused))
	default:
		b.work.Go(func() { end(b.buyCarriage(p, t, v, terms, req)) })
	}
}

// mostPrice is the most that one payment may be for, so that its route is within the
// limit too.
func (b *Buyer) mostPrice() lightning.Msat {
	limit := b.c.Limits.Segment
	if limit == NoLimit {
		return limit
	}
	return max(limit-b.c.Fee.Of(limit), (limit+1)/2)
}

// buyCarriage pays for bytes that came, and shows that it has. It returns when the
// outcome is known, or the buyer is closed.
func (b *Buyer) buyCarriage(p *peer, t *title, v *pass, terms exchange.Carriage, req exchange.CarriageRequest) (bytes int64, err error) {
	ctx, cancel := context.WithTimeout(b.alive, b.c.Patience)
	defer cancel()
	answer, err := p.carriage(ctx, v.credential, req)
	if err != nil {
		return 0, err
	}
	bill, inv, err := exchange.ParseCarriageBill(answer, req, terms, time.Now())
	if err != nil {
		p.purse.drop(t.berth(), v) // what came on other terms is not paid
		if info, e := b.info(ctx, p); e == nil && info.Carriage.Price > terms.Price {
			return 0, fmt.Errorf("%s: takes more for sealed bytes now: %w", p, err)
		}
		err = fmt.Errorf("%s: %w", p, err)
		b.shunCarrier(p, err)
		return 0, err
	}
	if bill.Bytes == 0 {
		return 0, nil // as it says, nothing is owed
	}
	seg := htlcdash.Segment{Title: t.id, Representation: ledger.Carriage, Seal: htlcdash.Seal{KeyHash: bill.Hash, Price: bill.Price}}
	q := &quote{peer: p, inv: inv, Offer: exchange.Offer{Price: bill.Price, Hash: bill.Hash, Expires: bill.Expires}}
	if err := p.expose(ctx, 0, b.exposure(t), b.c.Patience); err != nil {
		return 0, err
	}
	f, mine, err := b.begin(ctx, seg, q, nil, 0)
	if !mine {
		p.proved(0)
	}
	if err != nil {
		return 0, err
	}
	select {
	case <-f.done: // the account waits as long as it takes
	case <-b.alive.Done():
		return 0, ErrClosed
	}
	if f.err != nil {
		return 0, f.err
	}
	b.risked.add(bill.Price)
	if req.Preimage = f.preimage; !req.Preimage.IsZero() {
		if _, err := p.carriage(ctx, v.credential, req); err != nil { // the receipt will tell
			b.c.Log.Debug("payment for carriage not shown", "provider", p.URL(), "err", err)
		}
	}
	return bill.Bytes, nil
}

// shunCarrier keeps p from being asked for sealed bytes that cost money, for a while.
// If it was paid for bytes that never became whole it has cheated, and is banned.
func (b *Buyer) shunCarrier(p *peer, cause error) {
	b.c.Log.Warn("provider is not asked for sealed bytes for a while", "provider", p.URL(), "err", cause)
	b.observe(p, market.Outcome{Kind: market.Garbled, Reason: cause.Error()})
	p.mu.Lock()
	p.uncarried = time.Now().Add(carriageShun)
	took := p.unsure > 0 && errors.Is(cause, htlcdash.ErrCorrupt)
	p.mu.Unlock()
	if took {
		b.ban([]string{p.URL()}, "took money for sealed bytes, and sent garbage", time.Now().Add(carriageBan))
	}
}

// carries says why p is not to be asked for sealed bytes.
func (p *peer) carries(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.uncarried) {
		return fmt.Errorf("is not asked for sealed bytes until %s", p.uncarried.Round(time.Second))
	}
	return nil
}

// venture reserves that p is paid for bytes that are not known to be sound, n at most:
// as many as make no more than a step in all. A step that is longer than what was asked
// for needs is not believed.
func (p *peer) venture(n int64, terms exchange.Carriage) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := min(terms.Step, exchange.NewCarriage(terms.Price, p.longest).Step)
	n = min(n, max(0, most-p.unsure))
	p.unsure += n
	return n
}

// asked notes that p is asked for a blob of so many bytes.
func (p *peer) asked(length int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.longest = max(p.longest, length)
}

// ventured ends a venture of n bytes, of which so many were paid for.
func (p *peer) ventured(n, paid int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsure += min(paid, n) - n
}

// believe counts that n bytes came whole and sound.
func (p *peer) believe(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsure = max(0, p.unsure-n)
}

// onlyCarries reports whether p says that it has bytes for money, and no keys.
func (p *peer) onlyCarries() bool {
	info := p.purse.known()
	return info.Carriage.Price > 0 && !info.sells()
}
