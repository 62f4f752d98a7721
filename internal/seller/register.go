package seller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// errBusy means that as many offers are open as the operator allows.
var errBusy = errors.New("too many open offers")

// A register is the till's door to the node. It remembers the invoices that
// can still be paid: to hand them out again without asking the node, and so
// that there are never more than a number of them, of one guest and of all.
type register struct {
	node   exchange.Invoicer
	holder lightning.Holder // nil: it holds nothing
	limit  int              // of open invoices
	calls  *lanes           // to the node

	mu      sync.Mutex
	open    map[lightning.Hash]openOffer
	pending int       // invoices that the node is making
	swept   time.Time // when the expired were last taken out
}

// An openOffer is an invoice that can be paid, whose it is, and what it sells
// once that is known.
type openOffer struct {
	invoice lightning.Invoice
	owner   *guest
	sale    ledger.Sale
}

// A counter is the register for one guest. It is an [exchange.Invoicer].
type counter struct {
	*register
	owner *guest
}

func (r *register) counter(owner *guest) counter { return counter{r, owner} }

func newRegister(node exchange.Invoicer, limit, calls int) *register {
	return &register{node: node, limit: limit, calls: &lanes{free: calls, kept: calls - calls/4, most: limit, patience: offerPatience}, open: map[lightning.Hash]openOffer{}}
}

// Invoice returns the open invoice of p, or asks the node for one. The error
// matches errBusy if too many are open.
func (c counter) Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	r, hash := c.register, p.Hash()
	if inv, ok := r.find(hash, t.Amount); ok {
		return inv, nil
	}
	if err := r.reserve(c.owner); err != nil {
		return lightning.Invoice{}, err
	}
	inv, err := r.ask(ctx, c.owner, p, t)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending--
	if _, ok := r.open[hash]; ok || err != nil { // another request was as quick
		c.owner.offered(-1)
		return inv, err
	}
	r.open[hash] = openOffer{invoice: inv, owner: c.owner}
	return inv, nil
}

// ask has the node make an invoice, in turn with those for other guests.
func (r *register) ask(ctx context.Context, owner *guest, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	leave, err := r.calls.enter(ctx, &owner.desk)
	if err != nil {
		return lightning.Invoice{}, err
	}
	defer leave()
	return r.node.Invoice(ctx, p, t)
}

func (r *register) find(h lightning.Hash, amount lightning.Msat) (lightning.Invoice, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.open[h]
	return o.invoice, ok && o.invoice.Amount == amount && !o.invoice.Expired(time.Now())
}

func (r *register) reserve(owner *guest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.fits(owner)
	if err == nil {
		owner.offered(1)
		r.pending++
	}
	return err
}

// room tells owner whether there would be an invoice, without making one.
func (r *register) room(owner *guest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fits(owner)
}

// fits looks for room for one more invoice, also among those that expired. The
// caller holds mu.
func (r *register) fits(owner *guest) error {
	err := r.tight(owner)
	if err != nil {
		r.sweep()
		err = r.tight(owner)
	}
	return err
}

// tight is fits for what is in memory.
func (r *register) tight(owner *guest) error {
	free := r.limit - len(r.open) - r.pending
	switch {
	case free <= 0:
		return fmt.Errorf("%d: %w", r.limit, errBusy)
	case owner.full(float64(free) / float64(r.limit)):
		return fmt.Errorf("as many as one credential may have now: %w", errBusy)
	}
	return nil
}

// sweep takes out what expired, at most once a second. The caller holds mu.
func (r *register) sweep() {
	now := time.Now()
	if now.Sub(r.swept) < time.Second {
		return
	}
	r.swept = now
	for h, o := range r.open {
		if o.invoice.Expired(now) {
			delete(r.open, h)
			o.owner.offered(-1)
		}
	}
}

// booked notes what open invoices sell.
func (r *register) booked(sales []ledger.Sale) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range sales {
		if o, ok := r.open[s.Hash]; ok {
			r.open[s.Hash] = openOffer{o.invoice, o.owner, s}
		}
	}
}

// sale returns what the open invoice with hash h sells, and to whom, if that is
// known here.
func (r *register) sale(h lightning.Hash) (ledger.Sale, *guest, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.open[h]
	return o.sale, o.owner, ok && o.sale.Hash == h
}

// close takes out an invoice that was paid.
func (r *register) close(h lightning.Hash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.open[h]; ok {
		delete(r.open, h)
		o.owner.offered(-1)
	}
}

// count returns how many invoices can still be paid.
func (r *register) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep()
	return len(r.open)
}

// isOpen reports whether the invoice with hash h can still be paid.
func (r *register) isOpen(h lightning.Hash) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.open[h]
	return ok && !o.invoice.Expired(time.Now())
}
