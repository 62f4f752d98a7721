// Package nodetest is the suite that every backend of package lightning
// passes: the simulated network in unit tests, real lnd in integration tests.
// What it asks is the contracts of [lightning.Payer], [lightning.Payee] and
// [lightning.Holder], above all the three outcomes of a payment.
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"htlcdash/lightning"
)

// Buyer is a node that pays.
type Buyer interface {
	lightning.Locker
	lightning.Wallet
}

// Seller is a node that is paid.
type Seller interface {
	lightning.Payee
	lightning.Holder
}

// Pair is two nodes with a channel between them, in which Payer holds at least
// a million sat and Payee at least one. A pair may be handed out again and
// again; nothing else may use it meanwhile.
type Pair struct {
	Payer Buyer
	Payee Seller
	// Forgetful says that Payee does not remember its invoices: one that is asked
	// for again is another, for the same hash.
	Forgetful bool

	// Far is a payee with no channel to Payer. A node between them forwards
	// and takes at least one msat and at most 100 sat for it.
	Far lightning.Payee

	// Stop makes Payer's node unreachable and Start brings it back with the
	// books it had, ready to pay.
	Stop, Start func(t *testing.T)
}

// patience bounds what should take milliseconds.
const patience = time.Minute

const price = 1234 * lightning.Msat(1) // below a satoshi's round: msat must be exact

// Run runs the suite. newPair is called for each test.
func Run(t *testing.T, newPair func(t *testing.T) Pair) {
	tests := []struct {
		name string
		run  func(*run)
	}{
		{"pay", pays},
		{"pay twice", paysOnce},
		{"pay at once the same", joins},
		{"pay at once many", paysMany},
		{"pay over a hop with a fee limit", feeLimit},
		{"pay more than there is", tooMuch},
		{"pay what the payee cancelled", refusedByPayee},
		{"pay what has expired", expired},
		{"pay what is no invoice", malformed},
		{"pay when done already", doneBefore},
		{"look up the unknown", unknownHash},
		{"invoice again", invoiceAgain},
		{"invoice without amount", noAmount},
		{"hold and settle", holdSettle},
		{"hold and cancel", holdCancel},
		{"hold unknown", holdUnknown},
		{"hold for as long as was asked", holdDelta},
		{"pay within a lock", locks},
		{"receipts in order and resumed", receipts},
		{"receipts stop", receiptsStop},
		{"payer's program dies in flight", programDies},
		{"payer's node dies in flight", nodeDies},
		{"payer's node is down", nodeDown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			test.run(&run{T: t, Pair: newPair(t), ctx: ctx})
		})
	}
}

type run struct {
	*testing.T
	Pair
	ctx context.Context
}

func (r *run) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// is asserts why something failed.
func (r *run) is(err error, wants ...error) {
	r.Helper()
	for _, want := range wants {
		if !errors.Is(err, want) {
			r.Fatalf("got error %v, want one that matches %v", err, want)
		}
	}
}

func (r *run) invoice(t lightning.Terms) (lightning.Preimage, lightning.Invoice) {
	r.Helper()
	p := lightning.RandomPreimage()
	inv, err := r.Payee.Invoice(r.ctx, p, t)
	r.must(err)
	return p, inv
}

func (r *run) hold(t lightning.Terms) (lightning.Preimage, lightning.Invoice) {
	r.Helper()
	p := lightning.RandomPreimage()
	inv, err := r.Payee.HoldInvoice(r.ctx, p.Hash(), t)
	r.must(err)
	return p, inv
}

// held waits until a payment is held or settled.
func (r *run) held(h lightning.Hash) lightning.Held {
	r.Helper()
	held, err := r.Payee.AwaitHeld(r.ctx, h)
	r.must(err)
	return held
}

func (r *run) lookup(h lightning.Hash) lightning.Payment {
	r.Helper()
	p, err := r.Payer.Lookup(r.ctx, h)
	r.must(err)
	return p
}

func (r *run) spendable() lightning.Msat {
	r.Helper()
	b, err := r.Payer.Balance(r.ctx)
	r.must(err)
	return b.Outbound
}

// paid asserts that p is a proper payment of inv.
func (r *run) paid(p lightning.Payment, err error, inv lightning.Invoice, maxFee lightning.Msat) {
	r.Helper()
	r.must(err)
	if p.State != lightning.Paid || !p.Preimage.Opens(inv.Hash) || p.Amount != inv.Amount || p.Fee < 0 || p.Fee > maxFee {
		r.Fatalf("got %+v for an invoice over %v with a fee limit of %v", p, inv.Amount, maxFee)
	}
}

// refused asserts that a payment failed and that the node says so later.
func (r *run) refused(p lightning.Payment, err error, h lightning.Hash) {
	r.Helper()
	r.is(err, lightning.ErrFailed)
	if errors.Is(err, lightning.ErrInFlight) {
		r.Fatalf("got error %v, which says both failed and in flight", err)
	}
	if p.State != lightning.Failed || p.Reason == "" {
		r.Fatalf("got %+v, want a failed payment with a reason", p)
	}
	switch later, err := r.Payer.Lookup(r.ctx, h); {
	case errors.Is(err, lightning.ErrNoPayment):
	case err != nil:
		r.Fatal(err)
	case later.State != lightning.Failed:
		r.Fatalf("later it is %v, want failed", later.State)
	}
}

// outcome is what a call of Pay returned.
type outcome struct {
	payment lightning.Payment
	err     error
}

func (r *run) payInBackground(ctx context.Context, inv lightning.Invoice) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		p, err := r.Payer.Pay(ctx, inv, 0)
		done <- outcome{p, err}
	}()
	return done
}

// inFlight pays a hold invoice until the payment is held.
func (r *run) inFlight(ctx context.Context) (lightning.Preimage, lightning.Invoice, <-chan outcome) {
	r.Helper()
	p, inv := r.hold(lightning.Terms{Amount: price})
	done := r.payInBackground(ctx, inv)
	r.held(inv.Hash)
	return p, inv, done
}

func pays(r *run) {
	before := r.spendable()
	preimage, inv := r.invoice(lightning.Terms{Amount: price, Memo: "a segment"})
	if inv.Amount != price || inv.Memo != "a segment" || inv.Hash != preimage.Hash() {
		r.Fatalf("got invoice %+v", inv)
	}
	p, err := r.Payer.Pay(r.ctx, inv, 0)
	r.paid(p, err, inv, 0)
	r.paid(r.lookup(inv.Hash), nil, inv, 0)
	r.has(before - price)
}

// has asserts a balance. A real node may lag behind its own payment: HTLCs
// leave the channel a moment after the preimage is known.
func (r *run) has(want lightning.Msat) {
	r.Helper()
	for r.ctx.Err() == nil {
		if r.spendable() == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.Fatalf("the payer has %v, want %v", r.spendable(), want)
}

func paysOnce(r *run) {
	before := r.spendable()
	_, inv := r.invoice(lightning.Terms{Amount: price})
	for range 3 {
		p, err := r.Payer.Pay(r.ctx, inv, 0)
		r.paid(p, err, inv, 0)
	}
	r.has(before - price)
}

func joins(r *run) {
	before := r.spendable()
	_, inv := r.invoice(lightning.Terms{Amount: price})
	var all []<-chan outcome
	for range 16 {
		all = append(all, r.payInBackground(r.ctx, inv))
	}
	for _, done := range all {
		got := <-done
		r.paid(got.payment, got.err, inv, 0)
	}
	r.has(before - price)
}

func paysMany(r *run) {
	before := r.spendable()
	const many = 25
	var wg sync.WaitGroup
	failures := make(chan error, many)
	for range many {
		wg.Go(func() {
			preimage := lightning.RandomPreimage()
			inv, err := r.Payee.Invoice(r.ctx, preimage, lightning.Terms{Amount: price})
			if err != nil {
				failures <- err
				return
			}
			p, err := r.Payer.Pay(r.ctx, inv, 0)
			if err != nil || p.State != lightning.Paid || !p.Preimage.Opens(inv.Hash) {
				failures <- fmt.Errorf("got %+v, %w", p, err)
			}
		})
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		r.Error(err)
	}
	r.has(before - many*price)
}

func feeLimit(r *run) {
	inv, err := r.Far.Invoice(r.ctx, lightning.RandomPreimage(), lightning.Terms{Amount: 5000 * lightning.Sat})
	r.must(err)
	p, err := r.Payer.Pay(r.ctx, inv, 0)
	r.refused(p, err, inv.Hash)

	limit := 100 * lightning.Sat
	p, err = r.Payer.Pay(r.ctx, inv, limit) // a failed payment may be tried again
	r.paid(p, err, inv, limit)
	if p.Fee == 0 {
		r.Error("a hop was free")
	}
	r.paid(r.lookup(inv.Hash), nil, inv, limit)
}

func tooMuch(r *run) {
	_, inv := r.invoice(lightning.Terms{Amount: r.spendable() + lightning.Sat})
	p, err := r.Payer.Pay(r.ctx, inv, 0)
	r.refused(p, err, inv.Hash)
}

func refusedByPayee(r *run) {
	before := r.spendable()
	_, inv := r.hold(lightning.Terms{Amount: price})
	r.must(r.Payee.Cancel(r.ctx, inv.Hash))
	for range 2 {
		p, err := r.Payer.Pay(r.ctx, inv, 0)
		r.refused(p, err, inv.Hash)
	}
	r.has(before)
}

func expired(r *run) {
	_, inv := r.invoice(lightning.Terms{Amount: price, Expiry: time.Second})
	if inv.Expiry != time.Second || inv.Expired(inv.Created) {
		r.Fatalf("got an expiry of %v", inv.Expiry)
	}
	time.Sleep(time.Until(inv.Created.Add(inv.Expiry + 1500*time.Millisecond)))
	p, err := r.Payer.Pay(r.ctx, inv, 0)
	r.refused(p, err, inv.Hash)
}

func malformed(r *run) {
	_, good := r.invoice(lightning.Terms{Amount: price})
	for name, change := range map[string]func(*lightning.Invoice){
		"another amount":  func(i *lightning.Invoice) { i.Amount-- },
		"another hash":    func(i *lightning.Invoice) { i.Hash = lightning.RandomPreimage().Hash() },
		"no text":         func(i *lightning.Invoice) { i.Bolt11 = "" },
		"a letter is off": func(i *lightning.Invoice) { i.Bolt11 = i.Bolt11[:len(i.Bolt11)-1] + "b" },
	} {
		inv := good
		change(&inv)
		p, err := r.Payer.Pay(r.ctx, inv, 0)
		if !errors.Is(err, lightning.ErrFailed) || p.State != lightning.Failed {
			r.Errorf("%s: got %+v, %v", name, p, err)
		}
	}
	p, err := r.Payer.Pay(r.ctx, good, -1)
	if !errors.Is(err, lightning.ErrFailed) || p.State != lightning.Failed {
		r.Errorf("negative fee limit: got %+v, %v", p, err)
	}
	_, err = r.Payer.Lookup(r.ctx, good.Hash)
	r.is(err, lightning.ErrNoPayment)
}

func doneBefore(r *run) {
	before := r.spendable()
	_, inv := r.invoice(lightning.Terms{Amount: price})
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	_, err := r.Payer.Pay(ctx, inv, 0)
	r.is(err, lightning.ErrInFlight, context.Canceled)
	_, err = r.Payer.Lookup(r.ctx, inv.Hash)
	r.is(err, lightning.ErrNoPayment)
	r.has(before)
}

func unknownHash(r *run) {
	_, err := r.Payer.Lookup(r.ctx, lightning.RandomPreimage().Hash())
	r.is(err, lightning.ErrNoPayment)
}

func invoiceAgain(r *run) {
	preimage, inv := r.invoice(lightning.Terms{Amount: price})
	if r.Forgetful {
		again, err := r.Payee.Invoice(r.ctx, preimage, lightning.Terms{Amount: price})
		r.must(err)
		if again.Hash != inv.Hash || again.Amount != price {
			r.Errorf("got %+v, want one for %v", again, inv.Hash)
		}
		return
	}
	again, err := r.Payee.Invoice(r.ctx, preimage, lightning.Terms{Amount: price, Memo: "other words"})
	r.must(err)
	if again != inv {
		r.Errorf("got %+v, want the invoice made before, %+v", again, inv)
	}
	_, err = r.Payee.Invoice(r.ctx, preimage, lightning.Terms{Amount: price + 1})
	r.is(err, lightning.ErrHashUsed)
	_, err = r.Payee.HoldInvoice(r.ctx, inv.Hash, lightning.Terms{Amount: price})
	r.is(err, lightning.ErrHashUsed)

	preimage, inv = r.hold(lightning.Terms{Amount: price})
	_, err = r.Payee.HoldInvoice(r.ctx, inv.Hash, lightning.Terms{Amount: price})
	r.is(err, lightning.ErrHashUsed)
	_, err = r.Payee.Invoice(r.ctx, preimage, lightning.Terms{Amount: price})
	r.is(err, lightning.ErrHashUsed)
}

func noAmount(r *run) {
	if _, err := r.Payee.Invoice(r.ctx, lightning.RandomPreimage(), lightning.Terms{}); err == nil {
		r.Error("made an invoice over nothing")
	}
	if _, err := r.Payee.HoldInvoice(r.ctx, lightning.RandomPreimage().Hash(), lightning.Terms{Amount: -1}); err == nil {
		r.Error("made an invoice over less than nothing")
	}
}

func holdSettle(r *run) {
	before := r.spendable()
	preimage, inv, done := r.inFlight(r.ctx)
	if p := r.lookup(inv.Hash); p.State != lightning.Unknown {
		r.Fatalf("held, the payment is %v, want unknown", p.State)
	}
	r.must(r.Payee.Settle(r.ctx, preimage))
	got := <-done
	r.paid(got.payment, got.err, inv, 0)
	r.must(r.Payee.Settle(r.ctx, preimage))
	if held := r.held(inv.Hash); held.Blocks != 0 {
		r.Errorf("settled, it times out in %d blocks", held.Blocks)
	}
	r.is(r.Payee.Cancel(r.ctx, inv.Hash), lightning.ErrSettled)
	r.has(before - price)
}

func holdCancel(r *run) {
	before := r.spendable()
	preimage, inv, done := r.inFlight(r.ctx)
	r.must(r.Payee.Cancel(r.ctx, inv.Hash))
	got := <-done
	r.refused(got.payment, got.err, inv.Hash)
	r.must(r.Payee.Cancel(r.ctx, inv.Hash))
	r.is(r.Payee.Settle(r.ctx, preimage), lightning.ErrCancelled)
	_, err := r.Payee.AwaitHeld(r.ctx, inv.Hash)
	r.is(err, lightning.ErrCancelled)
	r.has(before)
}

func holdUnknown(r *run) {
	preimage := lightning.RandomPreimage()
	_, err := r.Payee.AwaitHeld(r.ctx, preimage.Hash())
	r.is(err, lightning.ErrNoInvoice)
	r.is(r.Payee.Cancel(r.ctx, preimage.Hash()), lightning.ErrNoInvoice)
	r.is(r.Payee.Settle(r.ctx, preimage), lightning.ErrNoInvoice)

	preimage, inv := r.hold(lightning.Terms{Amount: price})
	if r.Payee.Settle(r.ctx, preimage) == nil {
		r.Error("settled what nobody has paid")
	}
	ctx, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancel()
	_, err = r.Payee.AwaitHeld(ctx, inv.Hash)
	r.is(err, context.DeadlineExceeded)
}

// holdDelta asks for a hold of many blocks and wants to be told how many there
// are. What a payer adds is 3 blocks with lnd, and never much.
func holdDelta(r *run) {
	const delta = 163
	preimage, inv := r.hold(lightning.Terms{Amount: price, FinalDelta: delta})
	if inv.FinalDelta != delta {
		r.Fatalf("the invoice asks for %d blocks, want %d", inv.FinalDelta, delta)
	}
	done := r.payInBackground(r.ctx, inv)
	if held := r.held(inv.Hash); held.Blocks < delta || held.Blocks > delta+24 {
		r.Errorf("it times out in %d blocks, want %d or a few more", held.Blocks, delta)
	}
	r.must(r.Payee.Settle(r.ctx, preimage))
	got := <-done
	r.paid(got.payment, got.err, inv, 0)
}

// locks pays where the lock allows just that, and not where it does not.
func locks(r *run) {
	_, inv := r.hold(lightning.Terms{Amount: price, FinalDelta: 100})
	p, err := r.Payer.PayWithin(r.ctx, inv, 0, 100+lightning.Padding-1)
	r.refused(p, err, inv.Hash)

	preimage, inv := r.hold(lightning.Terms{Amount: price, FinalDelta: 100})
	done := make(chan outcome, 1)
	go func() {
		p, err := r.Payer.PayWithin(r.ctx, inv, 0, 100+lightning.Padding+1)
		done <- outcome{p, err}
	}()
	r.held(inv.Hash)
	r.must(r.Payee.Settle(r.ctx, preimage))
	got := <-done
	r.paid(got.payment, got.err, inv, 0)

	far, err := r.Far.Invoice(r.ctx, lightning.RandomPreimage(), lightning.Terms{Amount: price, FinalDelta: 100})
	r.must(err)
	p, err = r.Payer.PayWithin(r.ctx, far, 100*lightning.Sat, 100+lightning.Padding+1)
	r.refused(p, err, far.Hash) // a node on the way asks for more
	p, err = r.Payer.PayWithin(r.ctx, far, 100*lightning.Sat, 400)
	r.paid(p, err, far, 100*lightning.Sat)
}

var errEnough = errors.New("enough")

// receiptsOf collects until all of hashes have been seen.
func (r *run) receiptsOf(after uint64, hashes ...lightning.Hash) []lightning.Receipt {
	r.Helper()
	missing := make(map[lightning.Hash]bool)
	for _, h := range hashes {
		missing[h] = true
	}
	var got []lightning.Receipt
	last := after
	err := r.Payee.Receipts(r.ctx, after, func(receipt lightning.Receipt) error {
		if receipt.Index != last+1 {
			return fmt.Errorf("receipt %d follows %d", receipt.Index, last)
		}
		last = receipt.Index
		if missing[receipt.Hash] {
			delete(missing, receipt.Hash)
			got = append(got, receipt)
		}
		if len(missing) == 0 {
			return errEnough
		}
		return nil
	})
	r.is(err, errEnough)
	return got
}

func receipts(r *run) {
	var hashes []lightning.Hash
	for i := range lightning.Msat(5) {
		_, inv := r.invoice(lightning.Terms{Amount: price + i})
		p, err := r.Payer.Pay(r.ctx, inv, 0)
		r.paid(p, err, inv, 0)
		hashes = append(hashes, inv.Hash)
	}
	all := r.receiptsOf(0, hashes...)
	for i, receipt := range all {
		if receipt.Hash != hashes[i] || receipt.Amount != price+lightning.Msat(i) || receipt.At.IsZero() {
			r.Errorf("receipt %d is %+v, want one over %v for %v", i, receipt, price+lightning.Msat(i), hashes[i])
		}
	}
	rest := r.receiptsOf(all[2].Index, hashes[3:]...)
	if len(rest) != 2 || rest[0].Hash != hashes[3] || rest[1].Hash != hashes[4] {
		r.Errorf("resumed, got %+v", rest)
	}

	_, later := r.invoice(lightning.Terms{Amount: price})
	done := r.payInBackground(r.ctx, later)
	live := r.receiptsOf(all[4].Index, later.Hash)
	if live[0].Index != all[4].Index+1 {
		r.Errorf("got %+v", live)
	}
	got := <-done
	r.paid(got.payment, got.err, later, 0)
}

func receiptsStop(r *run) {
	ctx, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancel()
	err := r.Payee.Receipts(ctx, 0, func(lightning.Receipt) error { return nil })
	r.is(err, context.DeadlineExceeded)
}

// programDies cuts the caller of Pay off. The payment takes its course.
func programDies(r *run) {
	ctx, cancel := context.WithCancel(r.ctx)
	preimage, inv, done := r.inFlight(ctx)
	cancel()
	got := <-done
	r.is(got.err, lightning.ErrInFlight, context.Canceled)
	if p := r.lookup(inv.Hash); p.State != lightning.Unknown {
		r.Fatalf("in flight, the payment is %v, want unknown", p.State)
	}
	r.must(r.Payee.Settle(r.ctx, preimage))
	p, err := r.Payer.Pay(r.ctx, inv, 0) // joins
	r.paid(p, err, inv, 0)
	r.paid(r.lookup(inv.Hash), nil, inv, 0)
}

// nodeDies takes the node away while a payment is held, and the payee settles
// meanwhile: failed, says the silence, but it happened.
func nodeDies(r *run) {
	before := r.spendable()
	preimage, inv, done := r.inFlight(r.ctx)
	_, other, otherDone := r.inFlight(r.ctx)
	r.Stop(r.T)
	for _, d := range []<-chan outcome{done, otherDone} {
		got := <-d
		r.is(got.err, lightning.ErrInFlight, lightning.ErrUnavailable)
	}
	r.must(r.Payee.Settle(r.ctx, preimage))
	r.Start(r.T)
	p, err := r.Payer.Pay(r.ctx, inv, 0)
	r.paid(p, err, inv, 0)
	if p := r.lookup(other.Hash); p.State != lightning.Unknown {
		r.Fatalf("still held, the payment is %v, want unknown", p.State)
	}
	r.must(r.Payee.Cancel(r.ctx, other.Hash))
	p, err = r.Payer.Pay(r.ctx, other, 0)
	r.refused(p, err, other.Hash)
	r.has(before - price)
}

func nodeDown(r *run) {
	_, inv := r.invoice(lightning.Terms{Amount: price})
	r.Stop(r.T)
	_, err := r.Payer.Pay(r.ctx, inv, 0)
	r.is(err, lightning.ErrInFlight, lightning.ErrUnavailable)
	_, err = r.Payer.Lookup(r.ctx, inv.Hash)
	r.is(err, lightning.ErrUnavailable)
	_, err = r.Payer.Balance(r.ctx)
	r.is(err, lightning.ErrUnavailable)
	r.Start(r.T)
	_, err = r.Payer.Lookup(r.ctx, inv.Hash)
	r.is(err, lightning.ErrNoPayment)
	p, err := r.Payer.Pay(r.ctx, inv, 0)
	r.paid(p, err, inv, 0)
}
