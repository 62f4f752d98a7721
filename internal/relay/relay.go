// Package relay passes on keys that others sell (spec/14): it offers a key before
// it has it, holds the buyer's payment, buys the key for it, and takes the payment
// with the preimage that it has bought.
//
//	buyer            relay                                   upstream
//	  offers?    ->   offers?                            ->
//	                                                     <-  {price, H, s}, signed
//	             <-   {price + margin, H, s}, signed; a hold invoice over H
//	  proof?     ->   the same question                  ->
//	             <-   the same answer                    <-  proof
//	  pays H     ->   the node holds it
//	                  pays H, within blocks and price    ->
//	                                                     <-  preimage
//	             <-   the node takes it with the preimage
//
// The preimage that upstream sells is the one that the buyer pays for, so the relay
// has no stock and needs no proof: whatever upstream does, either both payments
// take place or neither. What it can lose is in doc/losses.md. A key that passes
// through is in the buyer's books from then on, and is not bought again.
//
// A resale is open in the books from before its offer is known until its end:
//
//	open -> settled     the buyer's payment was taken
//	     -> cancelled   it was given back, or never came; nothing was paid for it
//	     -> lost        it was gone when the key had been bought: the key remains
//
// What stands between is what node and purchases say, and they are asked, in each
// run anew. So there is no step at which a crash does harm.
//
// It does not choose prices ([Config].Price), nor whom to buy from (buyer).
package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// A Buyer is where keys are bought, as [buyer.Buyer] says.
type Buyer interface {
	Resales(ctx context.Context, segs []htlcdash.Segment, number uint8) ([]*buyer.Resale, error)
	ResaleOf(ctx context.Context, record []byte) (*buyer.Resale, error)
}

// Bounds in blocks and in time. The sum is done in spec/14-relay.md.
const (
	// Route is for how many blocks a payment to upstream may be locked beyond what
	// upstream asks for: one node on the way that asks for 40 blocks.
	Route = 40
	// Reserve is how many blocks before the held payment times out the one to
	// upstream has timed out: [lightning.Release], and 22 in which what is on the
	// chain can settle.
	Reserve = 40

	// ahead is how long before upstream's offer ours ends: a payment that is held at
	// the last moment must still reach upstream.
	ahead = 30 * time.Second
	// shortest is the least life of an offer that is worth making.
	shortest = 30 * time.Second
	// afterwards is how long after its end the node may still say that nobody has
	// paid an offer.
	afterwards = 2 * time.Minute
	// fresh is the life that an offer needs to be handed out again.
	fresh = time.Minute

	firstRetry, lastRetry = 200 * time.Millisecond, 10 * time.Second
	forgetAfter           = 24 * time.Hour
)

// Config tells a [Relay] what it works with. Books, Buyer, Holder and Price are
// required.
type Config struct {
	Books  *ledger.Ledger   // the buyer's, too
	Buyer  Buyer            // whose node pays within locks
	Holder lightning.Holder // the node that is paid
	// Price is what the key of seg is sold for when it costs us at most cost, the
	// route included. The error says why it is not sold. What is below cost, or
	// above the publisher's price, is not sold either.
	Price func(seg htlcdash.Segment, cost lightning.Msat) (lightning.Msat, error)
	// Fee is what the route to upstream may cost.
	Fee  buyer.Fee
	Life time.Duration // of an offer; 0: [exchange.OfferLife]

	MaxOpen     int            // resales that can be paid or are held, of all guests; 0: 512
	PerGuest    int            // of one guest; 0: 96
	PerUpstream int            // payments under way to one provider; 0: 48
	MaxFlight   lightning.Msat // under way upstream, prices and routes; 0: 1000 sat
	Route       int            // blocks, see [Route]; 0: Route

	Log *slog.Logger // nil: none
	// Step is called at each step of a resale: "invoice", "offered", "held",
	// "bought", "taken". Tests crash there. nil: nothing happens.
	Step func(step string)
}

// A Relay sells on what others sell. Its methods may be called at once.
type Relay struct {
	c     Config
	alive context.Context // ends with Close; kept because resales outlive who asked
	close context.CancelFunc
	work  sync.WaitGroup // grows under mu only

	mu      sync.Mutex
	closed  bool
	open    map[lightning.Hash]*sale
	asked   map[request]*sale
	named   map[name]*sale
	guests  map[[32]byte]int // open resales of each
	pending int              // that are being made
	flying  lightning.Msat   // that payments under way may cost
	under   map[string]int   // payments under way, by provider
}

// A request is what a guest asks for: the same one gets the same offer.
type request struct {
	guest  [32]byte
	sealed htlcdash.Root
	try    exchange.Try
}

// A name is by what a guest names its offer.
type name struct {
	guest   [32]byte
	counter int64
}

// A sale is a resale that is open.
type sale struct {
	ledger.Resale
	*request // nil: of an earlier run
	resale   *buyer.Resale
	Offer    exchange.Offer // zero: of an earlier run
}

// New takes up what the books say is open. The caller calls Close.
func New(ctx context.Context, c Config) (*Relay, error) {
	if c.Books == nil || c.Buyer == nil || c.Holder == nil || c.Price == nil {
		return nil, errors.New("relay: books, a buyer, a node that holds payments and prices are required")
	}
	c.Life = cmp.Or(c.Life, exchange.OfferLife)
	c.MaxOpen, c.PerGuest = cmp.Or(c.MaxOpen, 512), cmp.Or(c.PerGuest, 96)
	c.PerUpstream, c.MaxFlight = cmp.Or(c.PerUpstream, 48), cmp.Or(c.MaxFlight, 1000*lightning.Sat)
	c.Route = cmp.Or(c.Route, Route)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Step == nil {
		c.Step = func(string) {}
	}
	r := &Relay{
		c: c, open: make(map[lightning.Hash]*sale), asked: make(map[request]*sale), named: make(map[name]*sale),
		guests: make(map[[32]byte]int), under: make(map[string]int),
	}
	r.alive, r.close = context.WithCancel(context.Background())
	past, err := c.Books.OpenResales(ctx)
	if err != nil {
		r.close()
		return nil, err
	}
	for _, p := range past {
		s := &sale{Resale: p}
		if s.resale, err = c.Buyer.ResaleOf(ctx, p.Quote); err != nil {
			c.Log.Error("resale of an earlier run cannot be read", "hash", p.Hash, "err", err)
		}
		r.mu.Lock()
		r.guests[p.Guest]++
		r.follow(s)
		r.mu.Unlock()
	}
	r.work.Go(r.forget)
	return r, nil
}

// Close stops, and waits until nothing of r runs. What is open stays so, for the
// next run. The buyer must be closed after it.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.close()
	r.work.Wait()
}

// follow begins to watch s. It needs r.mu, and that s counts for its guest.
func (r *Relay) follow(s *sale) {
	r.open[s.Hash] = s
	r.named[name{s.Guest, s.Counter}] = s
	if s.request != nil {
		r.asked[*s.request] = s
	}
	if !r.closed {
		r.work.Go(func() { r.serve(s) })
	}
}

// drop forgets s.
func (r *Relay) drop(s *sale) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, s.Hash)
	delete(r.named, name{s.Guest, s.Counter})
	if s.request != nil && r.asked[*s.request] == s {
		delete(r.asked, *s.request)
	}
	r.count(s.Guest, -1)
}

// count needs r.mu.
func (r *Relay) count(guest [32]byte, n int) {
	if r.guests[guest] += n; r.guests[guest] == 0 {
		delete(r.guests, guest)
	}
}

// hold makes a hold invoice, within the rations of who is to pay it.
type hold = func(ctx context.Context, h lightning.Hash, t lightning.Terms) (lightning.Invoice, error)

// Offers answers a guest, as seller.Relay says.
func (r *Relay) Offers(ctx context.Context, guest [32]byte, hold hold, segs []htlcdash.Segment, try exchange.Try) []exchange.Offer {
	offers := make([]exchange.Offer, len(segs))
	var at []int
	var want []htlcdash.Segment
	for i, seg := range segs {
		switch o, ok := r.before(request{guest, seg.Sealed, try}); {
		case ok:
			offers[i] = o
		case !r.reserve(guest):
			offers[i] = refused(seg, exchange.RefusedBusy)
		default:
			at, want = append(at, i), append(want, seg)
		}
	}
	if len(want) == 0 {
		return offers
	}
	made := make([]*sale, len(want))
	quotes, err := r.c.Buyer.Resales(ctx, want, guest[0]%buyer.Berths)
	if err != nil {
		r.c.Log.Debug("not offered upstream", "title", want[0].Title, "err", err)
	}
	var work sync.WaitGroup // the seller's register bounds how many calls reach the node
	for i, seg := range want {
		work.Go(func() { made[i], offers[at[i]] = r.offer(ctx, request{guest, seg.Sealed, try}, hold, seg, quotes[i]) })
	}
	work.Wait()
	r.c.Step("invoice")
	if err := r.book(guest, made); err != nil {
		r.c.Log.Error("resales not booked", "err", err)
		for i, seg := range want {
			offers[at[i]] = refused(seg, exchange.RefusedUnavailable)
		}
	} else {
		r.c.Step("offered")
	}
	return offers
}

func refused(seg htlcdash.Segment, why string) exchange.Offer {
	return exchange.Offer{Sealed: seg.Sealed, Error: why}
}

// before returns the offer that was made for the same request, if it lives.
func (r *Relay) before(q request) (exchange.Offer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.asked[q]
	if s == nil || time.Until(s.Expires) < fresh {
		return exchange.Offer{}, false
	}
	return s.Offer, true
}

// reserve makes room for one more resale.
func (r *Relay) reserve(guest [32]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.open)+r.pending >= r.c.MaxOpen || r.guests[guest] >= r.c.PerGuest {
		return false
	}
	r.pending++
	r.count(guest, 1)
	return true
}

// offer makes one offer out of a quote, which may be nil.
func (r *Relay) offer(ctx context.Context, q request, hold hold, seg htlcdash.Segment, up *buyer.Resale) (*sale, exchange.Offer) {
	terms, most, why := r.terms(seg, up)
	if why != "" {
		return nil, refused(seg, why)
	}
	record, err := up.Record()
	if err != nil {
		return nil, refused(seg, exchange.RefusedUnavailable)
	}
	inv, err := hold(ctx, up.Hash, terms)
	if err != nil {
		r.c.Log.Warn("no hold invoice", "hash", up.Hash, "provider", up.Provider, "err", err)
		return nil, refused(seg, exchange.RefusedBusy)
	}
	s := &sale{
		Resale: ledger.Resale{
			Hash: up.Hash, Guest: q.guest, Counter: -1 - rand.Int64N(1<<62), Title: seg.Title, Sealed: seg.Sealed, KeyHash: seg.KeyHash, Salt: up.Salt,
			Amount: terms.Amount, Most: most, Quote: record, Expires: inv.Created.Add(inv.Expiry).Truncate(time.Second).UTC(), Created: time.Now(),
		},
		request: &q, resale: up,
	}
	s.Offer = exchange.Offer{
		Sealed: seg.Sealed, Price: s.Amount, Hash: s.Hash, Invoice: inv.Bolt11, Salt: s.Salt, Counter: s.Counter, Expires: s.Expires, Prover: up.Prover,
	}
	return s, s.Offer
}

// terms are those of the invoice for a quote, and what buying may cost; or why
// there is none.
func (r *Relay) terms(seg htlcdash.Segment, up *buyer.Resale) (t lightning.Terms, most lightning.Msat, why string) {
	if up == nil {
		return t, 0, exchange.RefusedUnavailable
	}
	delta := r.lock(up) + Reserve
	life := min(r.c.Life, time.Until(up.Expires)-ahead)
	most = up.Price + r.c.Fee.Of(up.Price)
	price, err := r.c.Price(seg, most)
	switch {
	case delta > exchange.MaxLock:
		r.c.Log.Debug("too many hands", "provider", up.Provider, "blocks", delta)
		return t, 0, exchange.RefusedUnavailable
	case life < shortest:
		return t, 0, exchange.RefusedUnavailable
	case err != nil, price < most, price > seg.Price:
		r.c.Log.Debug("too dear to be sold on", "provider", up.Provider, "price", up.Price, "ceiling", seg.Price, "err", err)
		return t, 0, exchange.RefusedDear
	}
	return lightning.Terms{Amount: price, Expiry: life, FinalDelta: delta, Memo: exchange.Memo}, most, ""
}

// lock is for how many blocks the payment for a quote may be locked.
func (r *Relay) lock(up *buyer.Resale) int { return up.FinalDelta + lightning.Padding + r.c.Route }

// book writes what was made into the books and begins to watch it. What is not
// made, or not booked, makes room.
func (r *Relay) book(guest [32]byte, made []*sale) error {
	var rows []ledger.Resale
	for _, s := range made {
		if s != nil {
			rows = append(rows, s.Resale)
		}
	}
	var err error
	if len(rows) > 0 {
		err = r.c.Books.Resell(r.alive, rows)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending -= len(made)
	for i, s := range made {
		if s == nil || err != nil {
			r.count(guest, -1)
		} else {
			r.follow(made[i])
		}
	}
	return err
}

// Proof passes a request for a proof on, as seller.Relay says.
func (r *Relay) Proof(ctx context.Context, guest [32]byte, id exchange.SaleID, system string, nonce exchange.Nonce) ([]byte, error) {
	r.mu.Lock()
	s := r.named[name{guest, id.Counter}]
	var up *buyer.Resale
	if s != nil && s.Sealed == id.Sealed && s.Amount == id.Price {
		up = s.resale
	}
	r.mu.Unlock()
	if up == nil {
		return nil, fmt.Errorf("offer %d: %w", id.Counter, htlcdash.ErrNotFound)
	}
	return up.Proof(ctx, system, nonce)
}

// Sold returns what a guest has paid for, as seller.Relay says.
func (r *Relay) Sold(ctx context.Context, guest [32]byte, id exchange.SaleID) (p lightning.Preimage, err error) {
	s, err := r.c.Books.Resale(ctx, guest, id.Counter)
	switch {
	case errors.Is(err, htlcdash.ErrNotFound), err == nil && (s.State != ledger.ResaleSettled || s.Sealed != id.Sealed || s.Amount != id.Price):
		return p, nil
	case err != nil:
		return p, err
	}
	return r.preimage(ctx, s)
}

// preimage is that of a resale whose key was bought, by it or otherwise: zero if it was
// not.
func (r *Relay) preimage(ctx context.Context, s ledger.Resale) (p lightning.Preimage, err error) {
	key, err := r.c.Books.Key(ctx, htlcdash.Seal{Sealed: s.Sealed, KeyHash: s.KeyHash})
	if err == nil {
		if p = s.Salt.Preimage(key); p.Opens(s.Hash) {
			return p, nil
		}
	}
	bought, err := r.c.Books.Purchase(ctx, s.Hash)
	return bought.Preimage, err
}

// forget deletes, now and every hour, what moved no money.
func (r *Relay) forget() {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := r.c.Books.ForgetResales(r.alive, time.Now().Add(-forgetAfter)); err != nil && r.alive.Err() == nil {
			r.c.Log.Warn("forget old resales", "err", err)
		}
		select {
		case <-tick.C:
		case <-r.alive.Done():
			return
		}
	}
}
