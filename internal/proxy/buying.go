package proxy

import (
	"context"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// A Buyer is what the proxy asks of the one who spends. All methods may be
// called at once.
type Buyer interface {
	// Segment returns the opened segment, and buys its key if need be. Callers
	// at the same time share one purchase. A purchase goes on when ctx ends.
	Segment(ctx context.Context, seg htlcdash.Segment) ([]byte, error)
	// Prepare fetches offers and sealed bytes, and spends nothing.
	Prepare(ctx context.Context, segs []htlcdash.Segment)
	// Account tells how the money of a title stands.
	Account(id htlcdash.TitleID) Account
	// SetTitleBudget bounds what a title may cost from now on, what it has
	// cost included, durably.
	SetTitleBudget(ctx context.Context, id htlcdash.TitleID, budget lightning.Msat) error
	// Stop keeps the buyer from starting payments for a title until Resume.
	Stop(id htlcdash.TitleID)
	Resume(id htlcdash.TitleID)
	// Watch gives each purchase when its outcome is known, and wakes by a
	// purchase without a hash when an account changed otherwise. It closes
	// the channel when ctx ends.
	Watch(ctx context.Context) <-chan Purchase
}

// An Account is how the money of one title stands.
type Account struct {
	Budget   lightning.Msat // 0: none was set
	Spent    lightning.Msat // ever, fees included
	Reserved lightning.Msat // for payments whose outcome is not known
	Fees     lightning.Msat // of Spent
	InFlight int            // payments
	Stopped  bool
	Scheme   string         // of the exchange: "salted", "direct", "prepaid"
	Risk     lightning.Msat // the most that one provider can take and give nothing for
}

// Left is what may still be spent, if there is a limit.
func (a Account) Left() (left lightning.Msat, limited bool) {
	return max(a.Budget-a.Spent-a.Reserved, 0), a.Budget > 0
}

// A Purchase is one payment for one segment, without its secrets.
type Purchase struct {
	Hash           lightning.Hash   `json:"hash"`
	Title          htlcdash.TitleID `json:"title"`
	Representation string           `json:"rep"`
	Index          int              `json:"index"`
	Provider       string           `json:"provider"`
	Amount         lightning.Msat   `json:"amount_msat"`
	Fee            lightning.Msat   `json:"fee_msat"`
	State          string           `json:"state"`          // "paid", "failed", "unknown"
	Lost           bool             `json:"lost,omitempty"` // paid, and no key came
	At             time.Time        `json:"at"`
	Took           time.Duration    `json:"took_ns"` // from the intent to the outcome
	Reason         string           `json:"reason,omitempty"`
}
