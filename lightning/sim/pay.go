package sim

import (
	"context"
	"fmt"
	"time"

	"htlcdash/lightning"
)

// payment is one payment in its payer's books. Guarded by Network.mu; done is
// closed when outcome is final.
type payment struct {
	payer   *Node
	invoice lightning.Invoice
	maxFee  lightning.Msat
	lock    int // blocks for which all of it may be locked; 0: any
	timeout int // height at which its HTLC to the payee times out
	fault   Fault
	hops    []hop
	outcome lightning.Payment
	done    chan struct{}
}

// Pay pays inv, as [lightning.Payer] says.
func (n *Node) Pay(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat) (lightning.Payment, error) {
	return n.pay(ctx, inv, maxFee, 0)
}

// PayWithin pays inv over a short route, as [lightning.Locker] says.
func (n *Node) PayWithin(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat, lock int) (lightning.Payment, error) {
	return n.pay(ctx, inv, maxFee, max(lock, 1))
}

func (n *Node) pay(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat, lock int) (lightning.Payment, error) {
	if err := inv.Payable(maxFee); err != nil {
		return lightning.Payment{State: lightning.Failed, Reason: err.Error()}, fmt.Errorf("payment %v: %w: %w", inv.Hash, lightning.ErrFailed, err)
	}
	p, gone, err := n.begin(ctx, inv, maxFee, lock)
	if err == nil {
		select {
		case <-p.done:
		case <-gone:
			err = lightning.ErrUnavailable
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return lightning.Payment{}, fmt.Errorf("payment %v: %w: %w", inv.Hash, lightning.ErrInFlight, err)
	}
	if p.outcome.State == lightning.Failed {
		return p.outcome, fmt.Errorf("payment %v: %w: %s", inv.Hash, lightning.ErrFailed, p.outcome.Reason)
	}
	return p.outcome, nil
}

// begin finds the payment in n's books or writes it there. A failed one may be
// tried again. An error means that nobody waits for what was begun.
func (n *Node) begin(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat, lock int) (*payment, <-chan struct{}, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	w := n.net
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.down {
		return nil, nil, lightning.ErrUnavailable
	}
	if p := n.payments[inv.Hash]; p != nil && p.outcome.State != lightning.Failed {
		return p, n.gone, nil
	}
	p := &payment{payer: n, invoice: inv, maxFee: maxFee, lock: lock, fault: n.nextFault(), done: make(chan struct{})}
	n.payments[inv.Hash] = p
	w.after(p.fault.delay, func() { w.start(p) })
	if p.fault.loseAnswer {
		return nil, nil, lightning.ErrUnavailable
	}
	return p, n.gone, nil
}

// Lookup reports on a payment, as [lightning.Payer] says.
func (n *Node) Lookup(ctx context.Context, h lightning.Hash) (lightning.Payment, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.down {
		return lightning.Payment{}, fmt.Errorf("payment %v: %w", h, lightning.ErrUnavailable)
	}
	p := n.payments[h]
	if p == nil {
		return lightning.Payment{}, fmt.Errorf("payment %v: %w", h, lightning.ErrNoPayment)
	}
	return p.outcome, nil
}

// after calls f with the lock held, d from now.
func (w *Network) after(d time.Duration, f func()) {
	w.moving.begin()
	go func() {
		defer w.moving.end()
		time.Sleep(d)
		w.mu.Lock()
		defer w.mu.Unlock()
		f()
	}()
}

// start finds a route and puts the money into HTLCs.
func (w *Network) start(p *payment) {
	payee := w.nodes[p.invoice.Payee]
	switch {
	case p.fault.refuse:
		w.finish(p, lightning.Payment{State: lightning.Failed, Reason: "refused"})
		return
	case p.invoice.Expired(time.Now()):
		w.finish(p, lightning.Payment{State: lightning.Failed, Reason: "invoice expired"})
		return
	case payee == nil || payee == p.payer || p.payer.down:
		w.finish(p, lightning.Payment{State: lightning.Failed, Reason: "no route to the payee"})
		return
	}
	hops := w.route(p.payer, payee, p.invoice.Amount)
	if hops == nil {
		w.finish(p, lightning.Payment{State: lightning.Failed, Reason: "no route to the payee: offline, or not enough balance on the way"})
		return
	}
	if fee := hops[0].amount - p.invoice.Amount; fee > p.maxFee {
		w.finish(p, lightning.Payment{State: lightning.Failed, Reason: fmt.Sprintf("the cheapest route costs %v, the limit is %v", fee, p.maxFee)})
		return
	}
	final := p.invoice.FinalDelta + lightning.Padding
	if lock := final + (len(hops)-1)*hopDelta; p.lock > 0 && lock > p.lock {
		w.finish(p, lightning.Payment{State: lightning.Failed, Reason: fmt.Sprintf("it could be locked for %d blocks, the limit is %d", lock, p.lock)})
		return
	}
	p.hops, p.timeout = hops, w.height+final
	for _, h := range hops {
		h.add()
	}
	w.after(w.cfg.Latency*time.Duration(len(hops)), func() {
		if p.fault.stall {
			w.stalled[p.invoice.Hash] = p
			return
		}
		w.arrive(p)
	})
}

// arrive is the payee's part.
func (w *Network) arrive(p *payment) {
	for _, h := range p.hops {
		if !h.channel.active() {
			w.fail(p, "a node on the way is offline")
			return
		}
	}
	payee := w.nodes[p.invoice.Payee]
	i := payee.invoices[p.invoice.Hash]
	switch {
	case i == nil || i.Amount != p.invoice.Amount || i.Bolt11 != p.invoice.Bolt11:
		w.fail(p, "the payee does not know it")
	case i.state != open || i.Expired(time.Now()):
		w.fail(p, "the payee refuses it: already "+i.state.String()+" or expired")
	case i.preimage.IsZero():
		i.held = p
		i.turn(held)
	default:
		payee.settle(i, p, i.preimage)
	}
}

// hopDelta is the cltv_expiry_delta of all nodes (BOLT 7), blocks.
const hopDelta = 40

// Mine lets n blocks be found. Payments that are held are given back
// [lightning.Release] blocks before they time out, and those that hang on their
// way fail when they do.
func (w *Network) Mine(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.height += n
	for _, node := range w.nodes {
		for _, i := range node.invoices {
			if i.state == held && w.height >= i.held.timeout-lightning.Release {
				w.fail(i.held, "the payee gave it back before it timed out")
				i.turn(cancelled)
			}
		}
	}
	for h, p := range w.stalled {
		if w.height >= p.timeout {
			delete(w.stalled, h)
			w.fail(p, "it timed out on its way")
		}
	}
}

// settle moves the money and lets the preimage travel back.
func (n *Node) settle(i *invoice, p *payment, preimage lightning.Preimage) {
	for _, h := range p.hops {
		h.settle()
	}
	i.preimage = preimage
	i.turn(settled)
	n.receipts = append(n.receipts, lightning.Receipt{
		Index: uint64(len(n.receipts)) + 1, Hash: i.Hash, Amount: i.Amount, At: time.Now().UTC(),
	})
	close(n.receipted)
	n.receipted = make(chan struct{})
	n.net.back(p, lightning.Payment{State: lightning.Paid, Preimage: preimage, Amount: i.Amount, Fee: p.hops[0].amount - i.Amount})
}

// fail gives the money back and lets the news travel.
func (w *Network) fail(p *payment, reason string) {
	for _, h := range p.hops {
		h.fail()
	}
	w.back(p, lightning.Payment{State: lightning.Failed, Reason: reason})
}

// back brings the outcome to the payer once all nodes on the way are up.
func (w *Network) back(p *payment, outcome lightning.Payment) {
	var deliver func()
	deliver = func() {
		for _, h := range p.hops {
			if !h.channel.active() {
				w.parked = append(w.parked, deliver)
				return
			}
		}
		w.finish(p, outcome)
	}
	w.after(w.cfg.Latency*time.Duration(len(p.hops)), deliver)
}

func (w *Network) finish(p *payment, outcome lightning.Payment) {
	p.outcome = outcome
	close(p.done)
}
