package proxy

import (
	"context"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/lightning"
)

// A Buyer is what the proxy asks of the one who spends: [buyer.Buyer], which
// says what each method does.
type Buyer interface {
	Segment(ctx context.Context, seg htlcdash.Segment) ([]byte, error)
	Prepare(ctx context.Context, segs []htlcdash.Segment)
	Ready(ctx context.Context, seg htlcdash.Segment) error
	Download(ctx context.Context, seg htlcdash.Segment) error
	Account(id htlcdash.TitleID) buyer.Account
	Standing(id htlcdash.TitleID) []buyer.Standing
	SetTitleBudget(ctx context.Context, id htlcdash.TitleID, budget lightning.Msat) error
	Stop(id htlcdash.TitleID)
	Resume(id htlcdash.TitleID)
	Watch(ctx context.Context) <-chan buyer.Purchase
}

var _ Buyer = (*buyer.Buyer)(nil)
