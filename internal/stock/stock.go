// Package stock is the own shelf of a provider that resells: the keys that it
// has bought, which it sells as if it had published them, and those that it buys
// on its own account because somebody asks for them.
//
//	viewer asks for an offer -> Order -> buyer pays upstream -> key -> own offer, salt, proof
//	the next viewer's offer  -> Key   (nothing upstream)
//
// A key is in the books once it is paid for, and is never bought again. Who asks
// for an offer need not pay, so what was bought and not sold since is money at
// risk: [Config].Risk bounds it, whoever asks, and the buyer's budgets bound all
// of it.
//
// It does not pass payments on: that needs no stock.
package stock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/margin"
	"htlcdash/lightning"
	"htlcdash/source/cache"
)

const (
	// window is how long a key that nobody has bought counts as money at risk.
	// Then it is written off, and may still sell.
	window = 24 * time.Hour
	// orderTime bounds the wait for one key. A payment that takes longer ends in
	// the books, and its key is found there.
	orderTime = time.Minute
	// How long upstream is left alone after it had no key: longer when it asked
	// too much, since prices do not change by the second.
	pauseFailed = 3 * time.Second
	pauseDear   = 10 * time.Second
	// maxRefused bounds the memory of refusals.
	maxRefused = 1 << 14
)

// tooDear is what the operator reads when the margin does not fit.
const tooDear = "not sold here: upstream asks so much that the margin does not fit under the publisher's price"

// A Buyer buys keys, as [buyer.Buyer.Key] does.
type Buyer interface {
	Key(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error)
}

// Config tells a [Stock] what it works with.
type Config struct {
	Books  *ledger.Ledger // where the buyer keeps what it bought; required
	Buyer  Buyer          // required
	Margin margin.Policy
	// Risk is the most that keys have cost which were bought in the last day and
	// not sold since, those under way included. 0: nothing is bought.
	Risk lightning.Msat
	// InFlight is the most that is under way at a time; 0: as much as Risk.
	InFlight lightning.Msat
	// Guide knows the segments that are resold, and Ahead says which of their keys
	// are bought before anybody asks for them: for who has just paid for one, those
	// that follow. The zero value is none. Less than half of Risk goes into it.
	Guide Guide
	Ahead cache.Terms
	Log   *slog.Logger // nil: none
}

// A Guide knows where in a title a segment is, and which is in a place.
// source.Outline is one. It answers at once, and may be called at once.
type Guide interface {
	Place(htlcdash.Blob) (cache.Place, bool)
	Segment(cache.Place) (htlcdash.Segment, bool)
}

// A Stock is the keys of one provider. Its methods may be called at once.
type Stock struct {
	c     Config
	alive context.Context // ends with Close; kept because purchases outlive who asked
	end   context.CancelFunc
	work  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	cost    map[[32]byte]lightning.Msat // of what is owned, by hash of the key
	unsold  map[[32]byte]bought         // of it, what counts as risk
	risk    lightning.Msat              // sum of unsold
	flying  lightning.Msat              // set aside for orders
	orders  map[[32]byte]*order
	refused map[[32]byte]refusal
	told    map[htlcdash.TitleID]string // the last trouble that was logged

	watch watch // who watches; its lock is taken before mu
}

type bought struct {
	cost lightning.Msat
	at   time.Time
}

type refusal struct {
	err   error
	until time.Time
}

// An order is one purchase, for all who wait for it.
type order struct {
	aside lightning.Msat
	done  chan struct{} // closed when key and err are set
	key   htlcdash.Key
	err   error
}

// New takes stock of the books.
func New(ctx context.Context, c Config) (*Stock, error) {
	if c.Books == nil || c.Buyer == nil {
		return nil, errors.New("stock: books and a buyer are required")
	}
	if err := c.Margin.Check(); err != nil {
		return nil, fmt.Errorf("margin: %w", err)
	}
	c.Log, c.InFlight = cmp.Or(c.Log, slog.New(slog.DiscardHandler)), cmp.Or(c.InFlight, c.Risk)
	s := &Stock{
		c: c, cost: map[[32]byte]lightning.Msat{}, unsold: map[[32]byte]bought{},
		orders: map[[32]byte]*order{}, refused: map[[32]byte]refusal{}, told: map[htlcdash.TitleID]string{},
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	if c.Ahead.Depth > 0 && c.Guide == nil {
		return nil, errors.New("stock: nothing can be bought ahead without a guide to titles")
	}
	s.watch.open(c.Ahead)
	s.alive, s.end = context.WithCancel(context.Background())
	return s, nil
}

// load reads what is owned, and what of it was bought lately and not sold. A
// sale names the segment and not its key, so a key that was bought for one segment
// of a group and sold for another counts as unsold: more at risk than there is.
func (s *Stock) load(ctx context.Context) error {
	since := time.Now().Add(-window)
	sold := map[htlcdash.Root]bool{}
	for sale, err := range s.c.Books.Sales(ctx, ledger.Filter{Since: since}) {
		if err != nil {
			return err
		}
		sold[sale.Sealed] = true
	}
	owned, err := s.c.Books.Owned(ctx)
	if err != nil {
		return err
	}
	for _, o := range owned {
		s.cost[o.KeyHash] = o.Cost
		if o.Bought.After(since) && !sold[o.Sealed] {
			s.unsold[o.KeyHash] = bought{o.Cost, o.Bought}
			s.risk += o.Cost
		}
	}
	open, err := s.c.Books.Unsettled(ctx)
	for _, p := range open {
		if p.Created.After(since) {
			s.suspect(p)
		}
	}
	return err
}

// suspect counts as risk what a payment may cost of which it is not known yet whether
// it buys its key: until the key is here, or as if nobody bought it. It needs s.mu,
// once others know s.
func (s *Stock) suspect(p ledger.Purchase) {
	_, owned := s.cost[p.KeyHash]
	if _, counted := s.unsold[p.KeyHash]; owned || counted || p.IsNoKey() {
		return
	}
	s.unsold[p.KeyHash] = bought{p.Reserved(), p.Created}
	s.risk += p.Reserved()
}

// lookUp finds the payment for the key of seg that is under way, if there is one.
func (s *Stock) lookUp(ctx context.Context, seg htlcdash.Segment) (p ledger.Purchase, found bool) {
	open, err := s.c.Books.Unsettled(ctx)
	if err != nil {
		s.c.Log.Error("payments under way are not known", "err", err)
	}
	i := slices.IndexFunc(open, func(p ledger.Purchase) bool { return p.KeyHash == seg.KeyHash })
	if i < 0 {
		return p, false
	}
	return open[i], true
}

// Close ends the wait for orders. Payments under way are the buyer's, which is
// closed afterwards.
func (s *Stock) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.work.Wait()
}

// Has reports whether the key of seg is on the shelf, as far as is known without
// a look into the books.
func (s *Stock) Has(seg htlcdash.Segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.cost[seg.KeyHash]
	return ok
}

// Price is what the key of seg costs here, if it is on the shelf.
func (s *Stock) Price(seg htlcdash.Segment) (price lightning.Msat, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cost, ok := s.cost[seg.KeyHash]
	return s.c.Margin.OnShelf(cost, seg.Price), ok
}

// Ask is what to sell the key of seg for when buying it costs at most so much, the
// route included. The error matches [buyer.ErrDear] if the margin does not fit
// under the publisher's price, of which the operator reads once.
func (s *Stock) Ask(seg htlcdash.Segment, cost lightning.Msat) (lightning.Msat, error) {
	price, ok := s.c.Margin.Resale(cost, seg.Price)
	if ok {
		return price, nil
	}
	err := fmt.Errorf("it costs up to %v, the publisher's price is %v: %w", cost, seg.Price, buyer.ErrDear)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell(seg, tooDear, err)
	return 0, err
}

// AtRisk is what keys have cost that were bought in the last day and not sold
// since, and what is set aside for those under way.
func (s *Stock) AtRisk() lightning.Msat {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeOff()
	return s.risk + s.flying
}

// Key returns the key of seg if it was bought, however that came about. Else the
// error matches htlcdash.ErrNotFound.
func (s *Stock) Key(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error) {
	key, err := s.c.Books.Key(ctx, seg.Seal)
	if err == nil && !s.Has(seg) {
		err = s.enter(ctx, seg)
	}
	return key, err
}

// enter puts on the shelf what the books say was bought.
func (s *Stock) enter(ctx context.Context, seg htlcdash.Segment) error {
	o, err := s.c.Books.OwnedKey(ctx, seg.Seal)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.cost[o.KeyHash]; ok {
		return nil
	}
	s.settle(o.KeyHash) // what it might have cost
	s.cost[o.KeyHash] = o.Cost
	s.unsold[o.KeyHash] = bought{o.Cost, o.Bought}
	s.risk += o.Cost
	return nil
}

// Sold tells that somebody paid for the key of seg: it has earned its place, and
// who paid will want the next.
func (s *Stock) Sold(seg htlcdash.Segment) {
	s.earned(seg)
	s.lookAhead(seg)
}

func (s *Stock) earned(seg htlcdash.Segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.cost[seg.KeyHash]; ok || s.closed {
		s.settle(seg.KeyHash)
		return
	}
	s.work.Go(func() { // bought by other ways than an order, and not looked for yet
		if s.enter(context.WithoutCancel(s.alive), seg) == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.settle(seg.KeyHash)
		}
	})
}

// settle needs s.mu.
func (s *Stock) settle(hash [32]byte) {
	s.risk -= s.unsold[hash].cost
	delete(s.unsold, hash)
}

// writeOff needs s.mu.
func (s *Stock) writeOff() {
	since := time.Now().Add(-window)
	for hash, b := range s.unsold {
		if b.at.Before(since) {
			s.settle(hash)
		}
	}
}

// Order returns the key of seg, and buys it if it is not here. All who ask at
// the same time share one purchase, which goes on when they leave. The error is
// an [exchange.Refusal], or that of ctx.
func (s *Stock) Order(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error) {
	if key, err := s.Key(ctx, seg); !errors.Is(err, htlcdash.ErrNotFound) {
		return key, err
	}
	o, err := s.order(seg, s.c.Risk, exchange.Hops(ctx))
	if errors.Is(err, errHere) { // since it was looked for
		return s.Key(ctx, seg)
	}
	if err != nil {
		return htlcdash.Key{}, err
	}
	select {
	case <-o.done:
		return o.key, o.err
	case <-ctx.Done():
		return htlcdash.Key{}, ctx.Err()
	}
}

// errHere means that a key is on the shelf and need not be ordered.
var errHere = errors.New("the key is here")

// order joins the purchase of the key of seg, or begins it if no more than risk
// is at risk then.
func (s *Stock) order(seg htlcdash.Segment, risk lightning.Msat, hops uint8) (*order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.cost[seg.KeyHash]; ok {
		return nil, errHere
	}
	if o := s.orders[seg.KeyHash]; o != nil {
		return o, nil
	}
	if r, ok := s.refused[seg.KeyHash]; ok && time.Now().Before(r.until) {
		return nil, r.err
	}
	if s.closed {
		return nil, exchange.Refusal(exchange.RefusedUnavailable)
	}
	aside := s.c.Margin.Most(seg.Price)
	if aside == 0 {
		return nil, s.refuse(seg, fmt.Errorf("the publisher's price of %v leaves no room for the margin: %w", seg.Price, buyer.ErrDear))
	}
	s.writeOff()
	if s.risk+s.flying+aside > risk || s.flying+aside > s.c.InFlight {
		if risk == s.c.Risk {
			s.tell(seg, "as much as allowed is spent on keys that nobody has bought, or under way", nil)
		}
		return nil, exchange.Refusal(exchange.RefusedBusy)
	}
	o := &order{aside: aside, done: make(chan struct{})}
	s.orders[seg.KeyHash], s.flying = o, s.flying+aside
	s.work.Go(func() { s.run(exchange.WithHops(s.alive, hops), o, seg) })
	return o, nil
}

func (s *Stock) run(ctx context.Context, o *order, seg htlcdash.Segment) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	key, err := s.c.Buyer.Key(ctx, seg)
	var under ledger.Purchase
	stays := false
	if err == nil {
		err = s.enter(context.WithoutCancel(ctx), seg)
	} else {
		under, stays = s.lookUp(context.WithoutCancel(ctx), seg)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stays {
		s.suspect(under)
	}
	delete(s.orders, seg.KeyHash)
	s.flying -= o.aside
	if err == nil {
		delete(s.told, seg.Title)
		s.c.Log.Debug("key bought for the shelf", "title", seg.Title, "representation", seg.Representation,
			"segment", seg.Index, "cost", s.cost[seg.KeyHash])
		o.key = key
	} else {
		o.err = s.refuse(seg, err)
	}
	close(o.done)
}

// refuse remembers for a while that the key of seg is not to be had, and turns
// the reason into one for who asks. It needs s.mu.
func (s *Stock) refuse(seg htlcdash.Segment, err error) error {
	r := refusal{exchange.Refusal(exchange.RefusedUnavailable), time.Now().Add(pauseFailed)}
	switch {
	case s.closed:
		return r.err
	case errors.Is(err, buyer.ErrDear):
		r = refusal{exchange.Refusal(exchange.RefusedDear), time.Now().Add(pauseDear)}
		s.tell(seg, tooDear, err)
	case errors.Is(err, buyer.ErrBudget):
		r.err = exchange.Refusal(exchange.RefusedBusy)
		s.tell(seg, "not sold here: the budget for buying upstream is spent", err)
	default:
		s.tell(seg, "not sold here: no key from upstream", err)
	}
	if len(s.refused) >= maxRefused {
		clear(s.refused)
	}
	s.refused[seg.KeyHash] = r
	return r.err
}

// tell logs a trouble with a title, once until another one comes or it is over.
// It needs s.mu.
func (s *Stock) tell(seg htlcdash.Segment, what string, err error) {
	if s.told[seg.Title] == what {
		return
	}
	s.told[seg.Title] = what
	args := []any{"title", seg.Title, "representation", seg.Representation, "segment", seg.Index}
	if err != nil {
		args = append(args, "err", err)
	}
	s.c.Log.Warn(what, args...)
}
