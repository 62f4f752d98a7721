package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash/lightning"
)

// Node is one node of a [Network]. It implements [lightning.Payer],
// [lightning.Payee], [lightning.Holder] and [lightning.Wallet]. All methods may
// be called at once.
type Node struct {
	net  *Network
	name string
	key  *btcec.PrivateKey
	id   lightning.NodeID

	// Guarded by Network.mu.
	fees      Fees
	chain     lightning.Msat // in the wallet, outside channels
	down      bool
	gone      chan struct{} // closed by Down, new after Up
	faults    []Fault
	payments  map[lightning.Hash]*payment
	invoices  map[lightning.Hash]*invoice
	receipts  []lightning.Receipt
	receipted chan struct{} // closed at the next receipt
}

var (
	_ lightning.Locker = (*Node)(nil)
	_ lightning.Payee  = (*Node)(nil)
	_ lightning.Holder = (*Node)(nil)
	_ lightning.Wallet = (*Node)(nil)
)

// ID is the node's public key.
func (n *Node) ID() lightning.NodeID { return n.id }

func (n *Node) String() string { return n.name }

// SetFees says what n takes for forwarding from now on.
func (n *Node) SetFees(f Fees) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.fees = f
}

// Fund gives n's wallet fresh money.
func (n *Node) Fund(amount lightning.Msat) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.chain += amount
	n.net.minted += amount
}

// state of an invoice.
type state uint8

const (
	open state = iota
	held
	settled
	cancelled
)

func (s state) String() string { return [...]string{"open", "held", "settled", "cancelled"}[s] }

// invoice in its payee's books. Guarded by Network.mu.
type invoice struct {
	lightning.Invoice
	preimage lightning.Preimage // none: a hold invoice not settled
	state    state
	held     *payment
	turned   chan struct{} // closed when state changes
}

func (i *invoice) turn(s state) {
	i.state = s
	close(i.turned)
	i.turned = make(chan struct{})
}

// Invoice makes an invoice, as [lightning.Payee] says.
func (n *Node) Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	return n.add(ctx, p.Hash(), p, t)
}

// HoldInvoice makes an invoice for h, as [lightning.Holder] says.
func (n *Node) HoldInvoice(ctx context.Context, h lightning.Hash, t lightning.Terms) (lightning.Invoice, error) {
	return n.add(ctx, h, lightning.Preimage{}, t)
}

func (n *Node) add(ctx context.Context, h lightning.Hash, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	if err := ctx.Err(); err != nil {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, err)
	}
	if t.Amount <= 0 {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: an invoice needs an amount", h)
	}
	var fresh [32]byte
	rand.Read(fresh[:])
	inv, err := lightning.EncodeInvoice(lightning.Invoice{
		Network: n.net.cfg.Network, Hash: h, Amount: t.Amount, Created: time.Now(), Expiry: t.Expiry, Memo: t.Memo,
		FinalDelta: t.FinalDelta,
	}, fresh, n.key)
	if err != nil {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, err)
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.down {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, lightning.ErrUnavailable)
	}
	if old := n.invoices[h]; old != nil {
		if p.IsZero() || !old.preimage.Opens(h) || old.Amount != t.Amount {
			return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, lightning.ErrHashUsed)
		}
		return old.Invoice, nil
	}
	n.invoices[h] = &invoice{Invoice: inv, preimage: p, turned: make(chan struct{})}
	return inv, nil
}

// Receipts reports settled invoices, as [lightning.Payee] says.
func (n *Node) Receipts(ctx context.Context, after uint64, got func(lightning.Receipt) error) error {
	for {
		fresh, more, gone, err := n.receiptsAfter(after)
		if err != nil {
			return err
		}
		for _, r := range fresh {
			if err := got(r); err != nil {
				return err
			}
			after = r.Index
		}
		select {
		case <-more:
		case <-gone:
			return fmt.Errorf("receipts after %d: %w", after, lightning.ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("receipts after %d: %w", after, context.Cause(ctx))
		}
	}
}

func (n *Node) receiptsAfter(after uint64) (fresh []lightning.Receipt, more, gone <-chan struct{}, err error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.down {
		return nil, nil, nil, fmt.Errorf("receipts after %d: %w", after, lightning.ErrUnavailable)
	}
	from := min(after, uint64(len(n.receipts)))
	return slices.Clone(n.receipts[from:]), n.receipted, n.gone, nil
}

// AwaitHeld waits for a payment, as [lightning.Holder] says.
func (n *Node) AwaitHeld(ctx context.Context, h lightning.Hash) (lightning.Held, error) {
	for {
		s, expires, blocks, turned, gone, err := n.look(h)
		switch {
		case err != nil:
			return lightning.Held{}, fmt.Errorf("invoice %v: %w", h, err)
		case s == held || s == settled:
			return lightning.Held{Blocks: blocks}, nil
		case s == cancelled || expires <= 0:
			return lightning.Held{}, fmt.Errorf("invoice %v: %w", h, lightning.ErrCancelled)
		}
		select {
		case <-turned:
		case <-time.After(expires):
		case <-gone:
			return lightning.Held{}, fmt.Errorf("invoice %v: %w", h, lightning.ErrUnavailable)
		case <-ctx.Done():
			return lightning.Held{}, fmt.Errorf("invoice %v: %w", h, context.Cause(ctx))
		}
	}
}

func (n *Node) look(h lightning.Hash) (s state, expires time.Duration, blocks int, turned, gone <-chan struct{}, err error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	i, err := n.find(h)
	if err != nil {
		return 0, 0, 0, nil, nil, err
	}
	if i.state == held {
		blocks = i.held.timeout - n.net.height
	}
	return i.state, time.Until(i.Created.Add(i.Expiry)), blocks, i.turned, n.gone, nil
}

// find returns n's invoice; the caller holds the lock.
func (n *Node) find(h lightning.Hash) (*invoice, error) {
	if n.down {
		return nil, lightning.ErrUnavailable
	}
	if i := n.invoices[h]; i != nil {
		return i, nil
	}
	return nil, lightning.ErrNoInvoice
}

// Settle takes a held payment, as [lightning.Holder] says.
func (n *Node) Settle(ctx context.Context, p lightning.Preimage) error {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	i, err := n.find(p.Hash())
	switch {
	case err != nil:
	case i.state == held:
		n.settle(i, i.held, p)
	case i.state == cancelled:
		err = lightning.ErrCancelled
	case i.state == open:
		err = errors.New("no payment is held yet")
	}
	if err != nil {
		return fmt.Errorf("invoice %v: %w", p.Hash(), err)
	}
	return nil
}

// Cancel gives a held payment back, as [lightning.Holder] says.
func (n *Node) Cancel(ctx context.Context, h lightning.Hash) error {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	i, err := n.find(h)
	switch {
	case err != nil:
	case i.state == settled:
		err = lightning.ErrSettled
	case i.state == held:
		n.net.fail(i.held, "the payee cancelled it")
		i.turn(cancelled)
	case i.state == open:
		i.turn(cancelled)
	}
	if err != nil {
		return fmt.Errorf("invoice %v: %w", h, err)
	}
	return nil
}
