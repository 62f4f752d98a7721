package seller

import (
	"context"
	"errors"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// A Shelf is a [Keyring] that buys what somebody asks for.
type Shelf interface {
	Keyring
	// Has reports whether the key of seg is here, at once.
	Has(seg htlcdash.Segment) bool
	// Order returns the key of seg, and gets it if it is not here, for somebody
	// who asks what it costs and may not pay. An [exchange.Refusal] says why it is
	// not sold now.
	Order(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error)
	// Sold tells that somebody has paid for the key of seg, which is of a resold title.
	Sold(seg htlcdash.Segment)
	// AtRisk is what was paid for keys that nobody has paid for here since.
	AtRisk() lightning.Msat
}

// lacks counts the segments whose key or sealed bytes are not here. The sealed
// bytes of a resold title are elsewhere as a rule, and do not count.
func (t *sealedTitle) lacks(bought Shelf) (n int) {
	if !t.resold || bought == nil {
		return t.missing + int(t.lost.Load())
	}
	for _, seg := range t.segments {
		if !bought.Has(*seg) {
			n++
		}
	}
	return n
}

// order gets the key of a resold title's segment because v asks for an offer.
func (s *Seller) order(ctx context.Context, v *guest, seg htlcdash.Segment) (htlcdash.Key, error) {
	if s.config.Shelf == nil || exchange.Hops(ctx) > exchange.MaxHops {
		return htlcdash.Key{}, htlcdash.ErrNotFound
	}
	if err := v.ordered(1); err != nil {
		return htlcdash.Key{}, err
	}
	key, err := s.config.Shelf.Order(ctx, seg)
	if err != nil {
		_ = v.ordered(-1)
	}
	return key, err
}

// refusalOf is what an offer says of why there is no key for it.
func refusalOf(err error) string {
	if r, ok := errors.AsType[exchange.Refusal](err); ok {
		return string(r)
	}
	switch {
	case errors.Is(err, errRation):
		return exchange.RefusedBusy
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return exchange.RefusedUnavailable
	}
	return exchange.RefusedUnknown
}

// sold tells the keyring of a sale.
func (s *Seller) sold(sale ledger.Sale) {
	if s.config.Shelf == nil {
		return
	}
	if t := s.shelf.Load().byID[sale.Title]; t != nil && t.resold && t.segments[sale.Sealed] != nil {
		s.config.Shelf.Sold(*t.segments[sale.Sealed])
	}
}
