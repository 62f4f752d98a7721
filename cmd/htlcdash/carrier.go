package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/web"
)

// A carrier is a provider as a source of sealed bytes: it is paid for them, if it
// takes money for them. It implements source.Coster.
type carrier struct {
	*web.Web // where they are free
	market   *market
	provider *buyer.Provider
}

// Open implements source.Source.
func (c carrier) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	r, charges, err := c.market.buyer.Carried(ctx, c.provider, b)
	if charges {
		return r, err
	}
	return c.Web.Open(ctx, b)
}

// Cost implements source.Coster.
func (c carrier) Cost(b htlcdash.Blob) lightning.Msat {
	return c.market.buyer.CarriageCost(c.provider, b)
}

// A hauler is a carrier for who resells: what it fetches is for others, and paid for as
// the title's that it belongs to.
type hauler struct {
	carrier
	titles source.Guide
	told   sync.Once
}

// Open implements source.Source.
func (h *hauler) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	if place, ok := h.titles.Place(b); ok && h.Cost(b) > 0 { // free ones count against no title's ration
		ctx = buyer.ForTitle(ctx, place.Title)
	}
	r, err := h.carrier.Open(ctx, b)
	if errors.Is(err, buyer.ErrCarriage) {
		h.told.Do(func() {
			h.market.log.Warn("sealed bytes are not bought upstream: they come from elsewhere, or not at all", "provider", h.provider.URL(), "err", err,
				"mend", "ask so much for yours, by byte_price, that the margin fits, or give upstream_risk; or name sources")
		})
	}
	return r, err
}
