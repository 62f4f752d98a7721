// Package buyer spends money on segments, within a budget.
//
// It buys the content key of a sealed segment by one payment, and opens the
// segment with it:
//
//	offers (ahead, in batches)  provider, who is shown an anonymous credential
//	sealed bytes                anyone; verified before anything is paid
//	proof                       provider; shows that the payment will buy the key
//	reserve -> Intend -> Pay -> Conclude -> commit
//	           (books)  (node)  (books: outcome and key)
//
// A payment has three outcomes: paid, failed, not known yet. While it is not
// known its money stays reserved, its segment is not bought again, and a
// watcher asks the node until it is known, also after a crash. A key that was
// bought is in the books and is never bought again.
//
// What it does not protect against: where the viewer allows offers without a
// proof, a provider that cheats gets what is under way to it, which
// [Config].Exposure bounds, and is never paid again.
//
// How far ahead to buy is the caller's decision; nothing here is bought that
// was not asked for.
package buyer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/agent/market"
	"htlcdash/internal/exchange"
	"htlcdash/internal/join"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/systems"
	"htlcdash/lightning"
)

// Errors that callers decide on. That a payment's outcome is not known yet is
// lightning.ErrInFlight; that it failed is lightning.ErrFailed.
var (
	// ErrBudget means that a limit does not allow the price. Nothing was paid.
	ErrBudget = errors.New("buyer: over budget")
	// ErrStopped means that buying was stopped. Nothing was paid.
	ErrStopped = errors.New("buyer: stopped")
	// ErrPrice means that a provider asks more than the publisher. Nothing was
	// paid.
	ErrPrice = errors.New("buyer: price above the ceiling")
	// ErrDear means that a provider asks more than [Config].Most allows, though
	// no more than the publisher. Nothing was paid.
	ErrDear = errors.New("buyer: dearer than it may be")
	// ErrCarriage means that sealed bytes cost more than [Config].BytePrice or
	// [Config].CarriageRisk allows. It matches htlcdash.ErrNotFound: they may be had
	// elsewhere.
	ErrCarriage = fmt.Errorf("buyer: sealed bytes are too dear: %w", htlcdash.ErrNotFound)
	// ErrNoOffer means that no provider makes an acceptable offer. Nothing was
	// paid.
	ErrNoOffer = errors.New("buyer: no offer")
	// ErrExposure means that too much is under way to a provider already.
	// Nothing was paid.
	ErrExposure = errors.New("buyer: too much unproved with one provider")
	// ErrClosed means that the buyer was closed. Nothing was paid.
	ErrClosed = errors.New("buyer: closed")
	// ErrTerms means that an offer is not what the seal allows. Nothing was
	// paid.
	ErrTerms = exchange.ErrTerms
	// ErrUnproved means that no proof shows that a payment would buy the key.
	// Nothing was paid. It matches [ErrTerms].
	ErrUnproved = exchange.ErrUnproved
	// ErrCheated means that a payment did not buy the key: its money is lost,
	// and the provider is banned.
	ErrCheated = exchange.ErrCheated
)

// Sealed gives sealed bytes, checked against their name. They are not changed.
type Sealed interface {
	Get(ctx context.Context, b htlcdash.Blob) ([]byte, error)
}

// Fee bounds what a route may cost: the greater of both. It counts against the
// budget, and where that leaves less, less bounds the route.
type Fee struct {
	Floor lightning.Msat
	PPM   int64 // millionths of the price
}

// Of is what the route of a payment of price may cost.
func (f Fee) Of(price lightning.Msat) lightning.Msat {
	return max(f.Floor, price/1_000_000*lightning.Msat(f.PPM)+price%1_000_000*lightning.Msat(f.PPM)/1_000_000)
}

// Config tells a [Buyer] what it works with.
type Config struct {
	// Ledger holds the books, which no other buyer uses. Required. It is an
	// internal type in a public field: strangers who import this package get
	// one ledger, not a choice, until a second one exists.
	Ledger *ledger.Ledger
	Payer  lightning.Payer // required
	Sealed Sealed          // required

	Limits Limits // zero: nothing is bought
	Fee    Fee
	// Most is the most that the key of a segment may cost, the route included,
	// for who buys to sell again. nil: the publisher's price, and the route. A
	// [Resale] has a bound of its own.
	Most func(htlcdash.Segment) lightning.Msat
	// Proofs are the ways of proof that are believed, by their names in spec/05,
	// the preferred first, such as "vole-80".
	Proofs []string
	// Unproved allows to buy from providers that prove nothing in these ways.
	// Each can then take what Exposure allows, once.
	Unproved bool
	// TokenPrice is the most that a batch of anonymous credentials may cost; 0:
	// no provider that sells them is bought from. All batches of a provider for
	// a title may cost together what its keys of that title have cost, and
	// TokenPrice; see Resells.
	TokenPrice lightning.Msat
	// Resells says that the ledger holds what was earned by selling on. Then who is
	// sold to may ask and never pay, so beyond TokenPrice for each provider and
	// title, credentials are bought out of what the title has earned beyond what its
	// keys have cost, and not as far as keys were bought.
	Resells bool
	// BytePrice is the most that a MiB of sealed bytes may cost at providers that
	// take money for them; 0: none is paid for. See [Buyer.Carried].
	BytePrice lightning.Msat
	// CarriageRisk is, for who resells, the most that sealed bytes may have cost in
	// the last day beyond what they have earned; it is passed by what is under way,
	// a step with each credential. Who fetches them of us need not pay.
	CarriageRisk lightning.Msat
	// Exposure bounds the payments under way to one provider that are unproved,
	// which a cheat could keep, or go to one that has sold no key in this run,
	// which it could let hang. A single payment may always be under way. 0: the price of
	// the title's dearest key.
	Exposure lightning.Msat
	// PayBeside allows to pay a provider that has sold a key in this run while
	// the sealed bytes are still on their way. Then those may not come, and
	// the key waits in the books until they do.
	PayBeside bool
	Patience  time.Duration // how long a caller waits for a payment; 0: 30 s
	// Grace is how long after a payment could last have been sent the node must
	// still not know it, for it to count as failed. 0: 10 s.
	Grace time.Duration
	Log   *slog.Logger // nil: none
	// Complain keeps a complaint, which proves to anybody that a provider or a
	// publisher has cheated (spec/11-fraud.md), and says where. It holds what
	// was paid for. nil: none is kept.
	Complain func(complaint []byte) (name string, err error)
	// Signed gives what its publisher signed of a segment: the MPD, the
	// signature, and the path from the seal to the root of its list. nil: no
	// publisher is accused.
	Signed func(ctx context.Context, seg htlcdash.Segment) (mpd, signature []byte, path [][32]byte, err error)
	// Step is called at each step of a purchase: "before-intent", "intent",
	// "paid", "key". Tests crash there. nil: nothing happens.
	Step func(step string)
}

// A Buyer buys segments. All methods may be called at once.
type Buyer struct {
	c      Config
	till   *till
	desk   *desk
	proofs []proof.System // of Config.Proofs
	market *market.Market // how providers did
	news   *news
	risked risked
	jobs   join.Group[htlcdash.Segment, []byte]
	alive  context.Context // ends with Close; kept because payments outlive their callers
	close  context.CancelFunc
	work   sync.WaitGroup // of goroutines that pay or watch; grows under mu only

	mu      sync.Mutex
	closed  bool
	titles  map[htlcdash.TitleID]*title
	peers   map[string]*peer       // by URL
	bans    map[string]ledger.Ban  // the last of each, by URL, and by the key that signs
	flights map[[32]byte]*flight   // by hash of the key that is bought
	past    []*flight              // that were taken up, most of an earlier run
	doubts  map[[32]byte][]*doubt  // by hash of the key
	files   map[htlcdash.Root]bool // that are being bought
}

// A title is what a segment's title adds to it. It does not change.
type title struct {
	id      htlcdash.TitleID
	dearest lightning.Msat
	peers   []*peer
	favour  *favour
	number  uint8 // of the berth
}

func (t *title) berth() berth { return berth{t.id, t.number} }

// at is t with another berth.
func (t *title) at(number uint8) *title {
	other := *t
	other.number = number
	return &other
}

// New returns a Buyer that knows from the books what was spent, what is owned
// and what is not known yet, and begins to ask the node about the last.
func New(c Config) (*Buyer, error) {
	if c.Ledger == nil || c.Payer == nil || c.Sealed == nil {
		return nil, errors.New("buyer: a ledger, a payer and sealed bytes are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Step == nil {
		c.Step = func(string) {}
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	proofs, err := systems.Named(c.Proofs)
	if err != nil {
		return nil, fmt.Errorf("buyer: %w", err)
	}
	b := &Buyer{
		c: c, proofs: proofs, desk: newDesk(), news: newNews(),
		market: market.New(market.Config{Cheat: cheatBan}, mrand.NewPCG(mrand.Uint64(), mrand.Uint64())),
		titles: make(map[htlcdash.TitleID]*title), peers: make(map[string]*peer), flights: make(map[[32]byte]*flight),
		doubts: make(map[[32]byte][]*doubt), files: make(map[htlcdash.Root]bool),
	}
	b.alive, b.close = context.WithCancel(context.Background())
	if err := b.restore(b.alive); err != nil {
		b.close()
		return nil, err
	}
	b.work.Go(b.keepBooksOfReputation)
	return b, nil
}

// restore reads the books.
func (b *Buyer) restore(ctx context.Context) error {
	hours, err := b.c.Ledger.SpentByHour(ctx, time.Now().Add(-window))
	if err != nil {
		return err
	}
	b.till = newTill(b.c.Limits, hours)
	if err := b.restoreReputation(ctx); err != nil {
		return err
	}
	open, err := b.c.Ledger.Unsettled(ctx)
	if err != nil {
		return err
	}
	doubted, err := b.doubted(ctx)
	if err != nil {
		return err
	}
	for _, p := range append(open, doubted...) {
		if err := b.openAccount(ctx, p.Title); err != nil {
			return err
		}
		b.mu.Lock()
		b.takeUp(p)
		b.mu.Unlock()
	}
	return nil
}

// Close stops buying, and waits until nothing of this buyer runs. Payments
// under way stay in the books as not known, for the next run to settle.
func (b *Buyer) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.close()
	b.work.Wait()
	b.keepReputation(context.Background())
	b.news.close()
}

// openAccount loads how the money of a title stands, unless it is known. What
// is reserved is added by those who hold it.
func (b *Buyer) openAccount(ctx context.Context, id htlcdash.TitleID) error {
	if b.till.knows(id) {
		return nil
	}
	a := Account{Budget: b.c.Limits.Title}
	var err error
	if a.Spent, _, err = b.c.Ledger.Spent(ctx, &id, time.Time{}); err != nil {
		return err
	}
	if a.Fees, err = b.c.Ledger.Fees(ctx, &id); err != nil {
		return err
	}
	if a.Lost, err = b.c.Ledger.Lost(ctx, &id); err != nil {
		return err
	}
	if a.Carriage, err = b.c.Ledger.Unsigned(ctx, id, ledger.Carriage); err != nil {
		return err
	}
	if a.Credentials, err = b.c.Ledger.Unsigned(ctx, id, ledger.Credentials); err != nil {
		return err
	}
	chosen, err := b.c.Ledger.Setting(ctx, budgetSetting(id))
	if err == nil {
		var n int64
		n, err = strconv.ParseInt(chosen, 10, 64)
		a.Budget = lightning.Msat(n)
	}
	if err != nil && !errors.Is(err, htlcdash.ErrNotFound) {
		return fmt.Errorf("budget of title %s: %w", id, err)
	}
	b.till.open(id, a)
	return nil
}

func budgetSetting(id htlcdash.TitleID) string { return "budget/" + id.String() }

// AddTitle makes the segments of a title buyable: dearest is the price of its
// dearest key, and providers sell it, the preferred first. Called again it
// replaces both.
func (b *Buyer) AddTitle(ctx context.Context, id htlcdash.TitleID, dearest lightning.Msat, providers []*Provider) error {
	if err := b.openAccount(ctx, id); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &title{id: id, dearest: dearest, favour: new(favour)}
	if old := b.titles[id]; old != nil {
		t.favour = old.favour
	}
	for _, p := range providers {
		t.peers = append(t.peers, b.peer(p))
	}
	b.titles[id] = t
	risk := lightning.Msat(0)
	if b.c.Unproved {
		risk = b.exposure(t)
	}
	b.till.change(id, func(a *Account) { a.Risk = risk })
	if !b.closed {
		b.work.Go(func() { b.recallLost(id) })
		for _, p := range t.peers {
			b.work.Go(func() { b.meet(p) })
		}
	}
	return nil
}

// peer needs b.mu.
func (b *Buyer) peer(p *Provider) *peer {
	known, ok := b.peers[p.URL()]
	if !ok {
		known = newPeer(p, b.c.Patience/10)
		known.ban = b.bans[p.URL()]
		for _, f := range b.past {
			if f.Provider == p.URL() && !f.over {
				known.adopt(f)
			}
		}
		b.peers[p.URL()] = known
	}
	return known
}

func (b *Buyer) exposure(t *title) lightning.Msat {
	if b.c.Exposure > 0 {
		return b.c.Exposure
	}
	return t.dearest
}

func (b *Buyer) title(id htlcdash.TitleID) (*title, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.titles[id]
	if !ok {
		return nil, fmt.Errorf("title %s is not open: %w", id, htlcdash.ErrNotFound)
	}
	return t, nil
}

func (b *Buyer) titlesOf(segs []htlcdash.Segment) []*title {
	found := make(map[htlcdash.TitleID]*title)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range segs {
		if t, ok := b.titles[s.Title]; ok {
			found[s.Title] = t
		}
	}
	return slices.Collect(maps.Values(found))
}

// Account tells how the money of a title stands. It is the zero Account for a
// title that was not added.
func (b *Buyer) Account(id htlcdash.TitleID) Account {
	a := b.till.account(id)
	a.BytePrice = b.bytePrice(id)
	return a
}

// SetTitleBudget bounds what a title may cost, what it has cost included, at
// once and for later runs. An error means that later runs may not know.
func (b *Buyer) SetTitleBudget(ctx context.Context, id htlcdash.TitleID, budget lightning.Msat) error {
	if budget < 0 {
		return fmt.Errorf("budget of %v: %w", budget, ErrBudget)
	}
	if !b.till.change(id, func(a *Account) { a.Budget = budget }) {
		return fmt.Errorf("title %s is not open: %w", id, htlcdash.ErrNotFound)
	}
	b.news.tell(Purchase{Title: id})
	return b.c.Ledger.Set(ctx, budgetSetting(id), strconv.FormatInt(int64(budget), 10))
}

// Stop keeps the buyer from starting payments for a title until Resume or the
// next run. Payments under way go on.
func (b *Buyer) Stop(id htlcdash.TitleID) { b.setStopped(id, true) }

// Resume undoes Stop.
func (b *Buyer) Resume(id htlcdash.TitleID) { b.setStopped(id, false) }

func (b *Buyer) setStopped(id htlcdash.TitleID, stopped bool) {
	if b.till.change(id, func(a *Account) { a.Stopped = stopped }) {
		b.news.tell(Purchase{Title: id})
	}
}

// Segment returns the segment, opened and verified: with a key that is owned,
// or one that it buys. Others may hold the same slice: it must not be changed.
// Callers at the same time share one purchase. What a caller whose ctx ends
// leaves behind is finished only if it is money under way.
//
// An error that matches lightning.ErrInFlight means that money may have been
// spent and that the key will be there later, if it was. One that matches
// [ErrCheated] means that a provider took money for nothing; htlcdash.ErrCorrupt
// from a key that was bought, that the publisher sealed something else than it
// signed. If sealed bytes could not be had, a key that was bought is kept.
// After all other errors nothing was spent.
func (b *Buyer) Segment(ctx context.Context, seg htlcdash.Segment) ([]byte, error) {
	return b.jobs.Do(ctx, seg, func(ctx context.Context) ([]byte, error) {
		data, err := b.segment(ctx, seg)
		if err != nil {
			return nil, fmt.Errorf("segment %d of %s: %w", seg.Index, seg.Representation, err)
		}
		return data, nil
	})
}

// Key returns the key of seg without opening anything: one that is owned, or one
// that it buys as [Buyer.Segment] does, once the sealed bytes are in hand. Callers
// at the same time may have to be joined by who calls; a key is paid for once.
func (b *Buyer) Key(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error) {
	key, err := b.c.Ledger.Key(ctx, seg.Seal)
	if err == nil || !errors.Is(err, htlcdash.ErrNotFound) {
		return key, err
	}
	if b.flight(seg) == nil {
		if err := b.till.admits(seg.Title); err != nil && !b.has(ctx, seg) {
			return htlcdash.Key{}, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the download, if the key came without
	key, err = b.buy(ctx, seg, b.download(ctx, seg))
	if err != nil {
		err = fmt.Errorf("segment %d of %s: %w", seg.Index, seg.Representation, err)
	}
	return key, err
}

func (b *Buyer) segment(ctx context.Context, seg htlcdash.Segment) ([]byte, error) {
	key, err := b.c.Ledger.Key(ctx, seg.Seal)
	owned := err == nil
	if !owned && !errors.Is(err, htlcdash.ErrNotFound) {
		return nil, err
	}
	if !owned && b.flight(seg) == nil {
		if err := b.till.admits(seg.Title); err != nil && !b.has(ctx, seg) {
			return nil, err
		}
	}
	d := b.download(ctx, seg)
	if !owned {
		if key, err = b.buy(ctx, seg, d); err != nil {
			return nil, err
		}
	}
	sealed, err := d.wait(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := seg.Open(key, slices.Clone(sealed))
	if errors.Is(err, htlcdash.ErrCorrupt) {
		b.accusePublisher(ctx, seg, key, sealed)
	}
	return plain, err
}

// A download is sealed bytes on their way.
type download struct {
	done chan struct{} // closed when the rest is set
	data []byte
	err  error
	took time.Duration
}

// download ends when ctx does.
func (b *Buyer) download(ctx context.Context, seg htlcdash.Segment) *download {
	d := &download{done: make(chan struct{})}
	begun := time.Now()
	go func() {
		defer close(d.done)
		d.data, d.err = b.c.Sealed.Get(ForTitle(ctx, seg.Title), seg.SealedBlob())
		d.took = time.Since(begun)
	}()
	return d
}

func (d *download) wait(ctx context.Context) ([]byte, error) {
	select {
	case <-d.done:
		return d.data, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// buy gets the key of seg from the first provider that delivers it. Others may
// buy the same key meanwhile, for another segment that it opens: then that one
// is taken, also where nothing is left for a second.
func (b *Buyer) buy(ctx context.Context, seg htlcdash.Segment, d *download) (htlcdash.Key, error) {
	key, err := b.buyAnew(ctx, seg, d)
	if err == nil || ctx.Err() != nil {
		return key, err
	}
	if f := b.flight(seg); f != nil {
		return f.wait(ctx)
	}
	if owned, e := b.c.Ledger.Key(ctx, seg.Seal); e == nil {
		return owned, nil
	}
	return key, err
}

func (b *Buyer) buyAnew(ctx context.Context, seg htlcdash.Segment, d *download) (htlcdash.Key, error) {
	t, err := b.title(seg.Title)
	if err != nil {
		return htlcdash.Key{}, err
	}
	var errs []error
	var r *race
	for {
		if err := b.reconsiderAll(ctx, seg); err != nil {
			return htlcdash.Key{}, err
		}
		if f := b.flight(seg); f != nil {
			return f.wait(ctx)
		}
		if r == nil {
			r = b.race(ctx, t, seg)
			defer r.close()
			b.survey(t, []htlcdash.Segment{seg})
		}
		q, err := r.next(ctx)
		if err != nil {
			return htlcdash.Key{}, errors.Join(append(errs, err)...)
		}
		key, err := b.accept(ctx, t, seg, q, d, b.patience(r, q.peer))
		if err == nil || !anotherMayHelp(err) {
			return key, err
		}
		errs = append(errs, err)
	}
}

// patience is how long to wait until a provider may be paid more: not for long
// if another could be paid instead.
func (b *Buyer) patience(r *race, p *peer) time.Duration {
	if len(r.left) > 0 || len(r.running) > 0 {
		return p.stall
	}
	return b.c.Patience
}

func anotherMayHelp(err error) bool {
	return errors.Is(err, lightning.ErrFailed) || errors.Is(err, ErrCheated) || errors.Is(err, ErrExposure) ||
		errors.Is(err, ErrTerms) || errors.Is(err, ErrNoOffer)
}

// accept pays for q, which is proved, once the sealed bytes are in hand; or,
// without a proof, once the provider's exposure allows it.
func (b *Buyer) accept(ctx context.Context, t *title, seg htlcdash.Segment, q *quote, d *download, patience time.Duration) (htlcdash.Key, error) {
	if !b.c.PayBeside || !q.peer.isProven() {
		if _, err := d.wait(ctx); err != nil {
			b.desk.put(seg, q) // not used
			return htlcdash.Key{}, err
		}
	}
	risk := q.risk()
	if err := q.peer.expose(ctx, risk, b.exposure(t), patience); err != nil {
		b.desk.put(seg, q)
		return htlcdash.Key{}, err
	}
	f, mine, err := b.begin(ctx, seg, q, d, risk)
	if !mine {
		q.peer.proved(risk)
		b.desk.put(seg, q)
	}
	if err != nil {
		return htlcdash.Key{}, err
	}
	return f.wait(ctx)
}

// risk is what counts as exposure of the payment for q: all of it, unless it is
// proved and its provider has settled payments in this run.
func (q *quote) risk() lightning.Msat {
	if how, _ := q.proved(); how != "" && q.peer.isProven() {
		return 0
	}
	return q.inv.Amount
}

// proved is how q was proved, and what that took; empty: it was not. Only who has
// waited for its proof may ask.
func (q *quote) proved() (how string, took time.Duration) {
	if q.proof == nil {
		return "", 0
	}
	return q.proof.how, q.proof.took
}
