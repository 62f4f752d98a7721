package main

import (
	"context"
	"io"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/lightning"
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
