package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/margin"
	"htlcdash/internal/mirror"
	"htlcdash/internal/relay"
	"htlcdash/internal/seller"
	"htlcdash/internal/stock"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/cache"
)

// A reseller is what a provider has besides its own titles if it buys upstream: a
// buyer on its own account, copies of titles, a shelf of keys.
type reseller struct {
	market *market
	buyer  *buyer.Buyer
	stock  *stock.Stock
	relay  *relay.Relay     // nil: nothing is passed on
	holder lightning.Holder // where relay's payments are held
	mirror *mirror.Mirror
	log    *slog.Logger

	// Only refresh uses these.
	changed bool // the mirror, since the seller has read it
	failed  map[copyOf]notCopied
}

const (
	// segmentsAhead is how far is looked ahead of who watches.
	segmentsAhead = 3
	// keysKept is for how many sales a key that was bought ahead, and whose viewer
	// went, counts as one that somebody else may buy.
	keysKept = 20_000
	// readyWorth is what it is worth, by the MiB, that sealed bytes are here when
	// they are asked for.
	readyWorth = 50 * lightning.Msat(1)
)

// keysAhead and bytesAhead say what is got before somebody asks for it. Each risks
// half of what may be risked.
func (c serveCommand) keysAhead() cache.Terms {
	if c.UpstreamAhead < 2 {
		return cache.Terms{}
	}
	return cache.Terms{Depth: segmentsAhead, Risk: c.UpstreamAhead / 2, Keep: keysKept}
}

func (c serveCommand) bytesAhead() cache.Terms {
	if len(c.Upstream) == 0 || c.Cache == "" || c.UpstreamAhead < 2 {
		return cache.Terms{}
	}
	return cache.Terms{Depth: segmentsAhead, Risk: c.UpstreamAhead / 2}
}

func (c serveCommand) margin() margin.Policy {
	return margin.Policy{Factor: c.UpstreamFactor, Add: c.UpstreamMargin, Shelf: c.UpstreamShelf}
}

// bytesMost is the most that a MiB of sealed bytes may cost upstream, so that what it
// costs here brings it in, with its route and the margin.
func (c serveCommand) bytesMost() lightning.Msat {
	most := margin.Policy{Factor: c.UpstreamFactor}.Most(c.BytePrice)
	return lightning.Msat(float64(most) / (1 + c.UpstreamMaxFeePercent/100))
}

// openReseller returns nil if there is no upstream. It adds upstream to where
// sealed bytes come from.
func (c serveCommand) openReseller(ctx context.Context, node till, books *ledger.Ledger, elsewhere *elsewhere, log *slog.Logger) (*reseller, error) {
	if len(c.Upstream) == 0 {
		return nil, nil
	}
	payer, ok := node.(lightning.Payer)
	if !ok {
		return nil, errors.New("serve.upstream: this node cannot pay")
	}
	carry, err := mirror.ParseCarry(c.UpstreamCarry)
	if err != nil {
		return nil, usageError{fmt.Errorf("upstream_carry: %w", err)}
	}
	policy := c.margin()
	if err := policy.Check(); err != nil {
		return nil, usageError{fmt.Errorf("upstream_factor, upstream_margin, upstream_shelf: %w", err)}
	}
	r := &reseller{log: log, failed: map[copyOf]notCopied{}}
	if r.market, err = newMarket(config.ProxyProviders{Providers: c.Upstream, Relays: c.Relays}, nil, log); err != nil {
		return nil, usageError{err}
	}
	r.market.noStrangers(func() []htlcdash.TitleID { return r.mirror.Titles() }, c.PublicURL)
	r.market.take(c.PrivateSources, func(s source.Source) { elsewhere.library.Add(s) })
	r.market.named = elsewhere.named // the seller tells of the mirror's titles there, too
	r.market.holds = func(id htlcdash.TitleID, b htlcdash.Blob) bool {
		place, ok := elsewhere.titles.Place(b) // what is mirrored has read no seal lists
		return ok && place.Title == id
	}
	if r.mirror, err = mirror.Open(ctx, string(c.UpstreamMirror), 0); err != nil {
		return nil, err
	}
	for i, s := range r.market.sources {
		r.market.sources[i] = &hauler{carrier: s.(carrier), titles: &elsewhere.titles}
	}
	elsewhere.library.Add(r.market.sources...)
	fee := buyer.Fee{Floor: c.UpstreamMaxFee, PPM: int64(c.UpstreamMaxFeePercent * 10_000)}
	r.buyer, err = buyer.New(buyer.Config{
		Ledger: books, Payer: payer, Sealed: elsewhere.library,
		Limits: buyer.Limits{Segment: buyer.NoLimit, Title: c.UpstreamBudgetTitle, Day: c.UpstreamBudgetDay},
		Fee:    fee, Most: func(seg htlcdash.Segment) lightning.Msat { return policy.Most(seg.Price) },
		Proofs: c.Proofs, TokenPrice: c.UpstreamTokenPrice, Resells: true,
		BytePrice: c.bytesMost(), CarriageRisk: c.UpstreamRisk, Complain: complaintsIn(c.UpstreamComplaints), Signed: r.market.signed,
		Log: log, Step: crashStep(),
	})
	if err != nil {
		return nil, err
	}
	r.market.buyer, r.market.wants = r.buyer, carry.Wants
	r.stock, err = stock.New(ctx, stock.Config{
		Books: books, Buyer: r.buyer, Margin: policy, Risk: c.UpstreamRisk, InFlight: c.UpstreamInFlight,
		Guide: &elsewhere.titles, Ahead: c.keysAhead(), Log: log,
	})
	if err == nil && c.UpstreamMode == modePass {
		err = r.openRelay(ctx, node, relay.Config{
			Books: books, Buyer: r.buyer, Price: r.stock.Ask, Fee: fee, Life: c.OfferLife,
			MaxFlight: c.UpstreamInFlight, Log: log, Step: crashStep(),
		})
	}
	if err != nil {
		r.buyer.Close()
		return nil, err
	}
	return r, nil
}

// modePass is serve.upstream_mode for selling before buying.
const modePass = "pass"

func (r *reseller) openRelay(ctx context.Context, node till, c relay.Config) (err error) {
	var ok bool
	if r.holder, ok = node.(lightning.Holder); !ok {
		return usageError{errors.New("serve.upstream_mode: this node cannot hold payments; choose \"shelf\"")}
	}
	c.Holder = r.holder
	r.relay, err = relay.New(ctx, c)
	return err
}

func (r *reseller) close() {
	if r.relay != nil {
		r.relay.Close()
	}
	r.market.found.close()
	r.stock.Close()
	r.buyer.Close()
}

// sells has a seller sell what is bought.
func (r *reseller) sells(c *seller.Config, folder string) {
	own := c.Price
	c.Resold, c.Shelf = folder, r.stock
	if r.relay != nil {
		c.Relay, c.Holder = r.relay, r.holder
	}
	c.Price = func(seg htlcdash.Segment) lightning.Msat {
		if price, ok := r.stock.Price(seg); ok {
			return price
		}
		return own(seg)
	}
}

// run follows the providers upstream until ctx is done: what they sell is copied,
// and sold by s from then on.
func (r *reseller) run(ctx context.Context, s *seller.Seller) {
	r.market.show = r.copyTitle
	r.market.refreshed = func(ctx context.Context, gone func(htlcdash.TitleID) bool) []htlcdash.TitleID {
		withdrawn := r.withdraw(gone)
		if r.changed {
			if err := s.Reload(ctx); err != nil {
				r.log.Error("titles", "err", err)
			}
			r.changed = false
		}
		return withdrawn
	}
	settlePast(ctx, r.buyer, r.log)
	r.market.refresh(ctx)
	defer r.market.follow(ctx)()
	<-ctx.Done()
}

// A notCopied is why a title of a provider is not copied.
type notCopied struct {
	err   error
	until time.Time // when it is tried again
}

type copyOf struct {
	at *buyer.Provider
	id htlcdash.TitleID
}

const (
	failurePause = 10 * time.Minute
	maxFailures  = 4096
)

// copyTitle has the mirror keep a title. One that cannot be kept is left alone for a
// while at that provider: a copy may be many megabytes, and providers are asked every
// minute.
func (r *reseller) copyTitle(ctx context.Context, f found) error {
	it := copyOf{f.at, f.info.ID}
	if n, ok := r.failed[it]; ok && time.Now().Before(n.until) {
		return n.err
	}
	changed, err := r.mirror.Keep(ctx, f.info.Name, f.open)
	r.changed = r.changed || changed
	delete(r.failed, it)
	if err != nil && ctx.Err() == nil {
		if len(r.failed) >= maxFailures {
			clear(r.failed)
		}
		r.failed[it] = notCopied{err, time.Now().Add(failurePause)}
	}
	return err
}

// withdraw removes the copies of titles that nobody upstream sells any more. A
// provider that is silent sells what it listed last, and whatever there is if it was
// never heard: what is on the shelf sells without it.
func (r *reseller) withdraw(gone func(htlcdash.TitleID) bool) (withdrawn []htlcdash.TitleID) {
	for _, id := range r.mirror.Titles() {
		if gone(id) {
			withdrawn = append(withdrawn, id)
			r.log.Info("title withdrawn: nobody upstream sells it", "title", id)
		}
	}
	changed, err := r.mirror.Retain(func(id htlcdash.TitleID) bool { return !slices.Contains(withdrawn, id) })
	if err != nil {
		r.log.Warn("title not removed", "err", err)
	}
	r.changed = r.changed || changed
	return withdrawn
}
