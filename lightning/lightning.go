// Package lightning says what this project asks of a Lightning node, in the
// smallest words that serve: pay, be paid, hold, open and close channels.
//
// It is the bottom of the import graph and knows nothing of video. Backends
// live in rooms of their own (lnd, sim) and all pass the suite in nodetest.
// The package is pure: no network, no files, no clock.
package lightning

import (
	"context"
	"errors"
	"time"
)

// State says how far a payment has come. The zero value is [Unknown], so that
// a forgotten field can never read as paid.
type State uint8

// States of a payment.
const (
	Unknown State = iota // may yet succeed: keep the money reserved
	Failed               // can no longer succeed: no money moves
	Paid                 // the preimage is known
)

func (s State) String() string {
	switch s {
	case Failed:
		return "failed"
	case Paid:
		return "paid"
	default:
		return "unknown"
	}
}

// Payment is the outcome of paying an invoice.
type Payment struct {
	State    State
	Preimage Preimage // valid if State is Paid
	Amount   Msat     // what the payee got, without fees
	Fee      Msat     // what the route cost
	Reason   string   // why it failed, for people; never a secret
}

// Spent is what left the payer's balance.
func (p Payment) Spent() Msat { return p.Amount + p.Fee }

var (
	// ErrFailed means that the payment failed and that no money will move.
	ErrFailed = errors.New("lightning: payment failed")
	// ErrInFlight means that the outcome is not known yet: money may still
	// move. [Payer.Lookup] tells, now or later.
	ErrInFlight = errors.New("lightning: payment in flight")
	// ErrNoPayment means that the node has never seen a payment with this hash.
	ErrNoPayment = errors.New("lightning: no payment with this hash")
	// ErrHashUsed means that the payee's node already has another invoice
	// with this hash. A stock node refuses a second one.
	ErrHashUsed = errors.New("lightning: payment hash already used")
	// ErrNoInvoice means that the payee's node has no invoice with this hash.
	ErrNoInvoice = errors.New("lightning: no invoice with this hash")
	// ErrCancelled means that an invoice was cancelled or has expired.
	ErrCancelled = errors.New("lightning: invoice cancelled")
	// ErrSettled means that an invoice is settled and its money taken.
	ErrSettled = errors.New("lightning: invoice settled")
	// ErrUnavailable means that the node did not answer. For a payment it is
	// always joined with [ErrInFlight]: silence is not failure.
	ErrUnavailable = errors.New("lightning: node unavailable")
	// ErrDenied means that the credential does not allow the call.
	ErrDenied = errors.New("lightning: the macaroon does not allow this call")
)

// A Payer pays invoices. All methods may be called at once from many
// goroutines.
type Payer interface {
	// Pay pays inv and spends at most inv.Amount + maxFee. It returns when the
	// outcome is known, or ctx is done.
	//
	// A nil error means that the payment is Paid and that its preimage opens
	// inv.Hash. An error matching [ErrFailed] means that no money moved and
	// none will. Any other error matches [ErrInFlight]: money may still move,
	// even after ctx is done.
	//
	// A hash is paid at most once: paying one that was paid returns that
	// payment, paying one in flight joins it.
	Pay(ctx context.Context, inv Invoice, maxFee Msat) (Payment, error)

	// Lookup reports what became of the payment with hash h, also after a
	// crash of this program or of the node. It does not wait: a payment in
	// flight is Unknown. If the node has never seen h, the error matches
	// [ErrNoPayment].
	Lookup(ctx context.Context, h Hash) (Payment, error)
}

// A Locker is a [Payer] that bounds for how long a payment may be locked. Who
// pays only because it holds another's payment needs it: that one must not run
// out first.
type Locker interface {
	Payer
	// PayWithin is Pay, over no route on which the payment could be locked for
	// more than lock blocks. Below inv.FinalDelta + [Padding] there is none, and
	// the error matches [ErrFailed]; some nodes want one block more.
	PayWithin(ctx context.Context, inv Invoice, maxFee Msat, lock int) (Payment, error)
}

// Padding is how many blocks payers add to what the payee asks for, so that a
// block found on the way does not make the payment too late (BOLT 4, 7, "shadow
// route"; lnd, routing.BlockPadding).
const Padding = 3

// Terms describes an invoice to be made. Amount is required.
type Terms struct {
	Amount Msat
	Expiry time.Duration // 0: one hour
	// FinalDelta is for how many blocks at least the payment can be held before
	// its HTLC times out (BOLT 11, min_final_cltv_expiry_delta). 0: what the
	// node does. lnd takes no less than 24, and payees beside a node ignore it.
	FinalDelta int
	Memo       string // shown to the payer; at most 639 bytes, as BOLT 11 allows
	// Note is what the seller needs to derive the preimage again, at most
	// [MaxNote] bytes. Payees that keep the preimage ignore it; those that do
	// not carry it in the invoice, sealed.
	Note []byte
}

// MaxNote bounds a note, because it travels in the onion of each payment.
const MaxNote = 128 // bytes

// A Receipt says that an invoice was paid.
type Receipt struct {
	Index  uint64 // grows by one with each settled invoice of the payee
	Hash   Hash
	Amount Msat // what was received
	At     time.Time
	Note   []byte // of the invoice's terms; nil from a payee that ignores notes
}

// An HTLC is an incoming payment of a node, by the channel on which it came
// (BOLT 7, short_channel_id) and its number there (BOLT 2, update_add_htlc, id).
type HTLC struct {
	Channel uint64
	ID      uint64
}

// A Claim says that an HTLC is about to be taken by revealing the preimage of
// its hash. What became of it is not known yet.
type Claim struct {
	HTLC
	Hash   Hash
	Amount Msat // what the HTLC carries
	Note   []byte
	At     time.Time
}

// A Payee makes invoices whose preimage it chooses. All methods may be called
// at once.
type Payee interface {
	// Invoice returns an invoice that p settles. The node settles it without
	// asking again, so the seller is off the path while the buyer pays.
	//
	// Asking again with the same preimage and the same amount returns the
	// invoice made before; with another amount the error matches
	// [ErrHashUsed].
	Invoice(ctx context.Context, p Preimage, t Terms) (Invoice, error)

	// Receipts calls got for each invoice settled after the one with index
	// after, oldest first, those of the past included, until ctx is done, got
	// fails, or the node goes away. The caller starts it again with the index
	// of the last receipt it has booked.
	Receipts(ctx context.Context, after uint64, got func(Receipt) error) error
}

// Held is a payment that a node holds.
type Held struct {
	// Blocks is how many blocks from now the first of its HTLCs times out. The
	// node gives it back [Release] blocks before, so that it need not go to the
	// chain. 0: it was settled.
	Blocks int
}

// Release is how many blocks before its HTLC times out a node gives a held
// payment back (lnd, lncfg.DefaultHoldInvoiceExpiryDelta).
const Release = 18

// A Holder makes invoices that it settles or cancels later, by hand. A relay
// holds its buyer's payment until it has bought upstream.
type Holder interface {
	// HoldInvoice returns an invoice for h, whose preimage the node does not
	// know. A second call for the same hash matches [ErrHashUsed].
	HoldInvoice(ctx context.Context, h Hash, t Terms) (Invoice, error)

	// AwaitHeld returns once a payment for h is held, or was settled. If
	// the invoice was cancelled or expired the error matches [ErrCancelled].
	AwaitHeld(ctx context.Context, h Hash) (Held, error)

	// Settle takes the held payment by revealing p. It is idempotent. The
	// error matches [ErrNoInvoice] if no invoice is open for p, and
	// [ErrCancelled] if it was cancelled.
	Settle(ctx context.Context, p Preimage) error

	// Cancel gives the held payment back. It is idempotent. The error matches
	// [ErrSettled] once the invoice is settled, and [ErrNoInvoice] if there
	// is none.
	Cancel(ctx context.Context, h Hash) error
}

// NodeID is the compressed public key of a node (BOLT 7, node_id).
type NodeID [33]byte

// Balance is what a node can spend and receive.
type Balance struct {
	Outbound Msat // spendable over active channels, reserves and fees not deducted
	Inbound  Msat // receivable over active channels
	Chain    Msat // confirmed on the chain, in the node's wallet
}

// Channel is one payment channel as its own node sees it.
type Channel struct {
	Point    ChannelPoint
	Peer     NodeID
	Capacity Msat
	Local    Msat
	Remote   Msat
	InFlight int // HTLCs now in the channel; BOLT 2 allows 483 each way
	Active   bool
	Private  bool
}

// ChannelPoint names a channel by its funding output, "txid:index".
type ChannelPoint string

// OpenRequest describes a channel to be opened. Peer and Capacity are required.
type OpenRequest struct {
	Peer     NodeID
	Addr     string // host:port; empty if already connected
	Capacity Msat   // rounded down to whole satoshis
	Push     Msat   // given to the peer at once
	Private  bool
}

// Wallet is the rest of what a person asks of a node. Pay and Request of the
// talk are [Payer.Pay] and [Payee.Invoice].
type Wallet interface {
	Balance(ctx context.Context) (Balance, error)
	Channels(ctx context.Context) ([]Channel, error)
	// OpenChannel returns when the funding transaction is broadcast.
	OpenChannel(ctx context.Context, r OpenRequest) (ChannelPoint, error)
	// CloseChannel returns the closing transaction's id once it is broadcast.
	// Without force it waits until the payments in the channel have ended.
	// With force the node does not ask its peer, and its money is locked for
	// a while (BOLT 5).
	CloseChannel(ctx context.Context, p ChannelPoint, force bool) (txid string, err error)
}
