package seller_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/seller"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A forgetful is a payee beside a node: it keeps nothing but notes, and tells of
// payments when the test says so.
type forgetful struct {
	*sim.Node
	paid chan lightning.Receipt

	mu    sync.Mutex
	notes map[lightning.Hash][]byte
}

func (f *forgetful) Invoice(ctx context.Context, p lightning.Preimage, terms lightning.Terms) (lightning.Invoice, error) {
	f.mu.Lock()
	f.notes[p.Hash()] = terms.Note
	f.mu.Unlock()
	return f.Node.Invoice(ctx, p, terms)
}

func (f *forgetful) Receipts(ctx context.Context, after uint64, got func(lightning.Receipt) error) error {
	for {
		select {
		case r := <-f.paid:
			if r.Index > after {
				if err := got(r); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A seller that is started anew derives all preimages again, and books what its
// till tells it, though it remembers nothing of the sale.
func TestSellerDerivesAgain(t *testing.T) {
	var till *forgetful
	var node *sim.Node
	change := func(c *seller.Config) {
		if till == nil {
			node = c.Payee.(*sim.Node)
			till = &forgetful{Node: node, paid: make(chan lightning.Receipt), notes: map[lightning.Hash][]byte{}}
		}
		c.Payee, c.Receipts = till, map[ledger.Source]lightning.Payee{ledger.FromTill: till, ledger.FromNode: node}
	}
	s := open(t, change)
	segs := s.title.Segments(t, "v0")
	offer := s.offers(t, s.guest(t), segs[0])[0]
	s.get(t, "/t/title/v0/2.m4s") // a 402 with an invoice
	if len(till.notes) != 2 {
		t.Fatalf("%d invoices, want 2", len(till.notes))
	}
	s.stop()
	s.serve(t, change)

	index := uint64(0)
	for h, note := range till.notes {
		p, err := s.Preimage(t.Context(), note, h)
		if err != nil || !p.Opens(h) {
			t.Errorf("note %d: %v, %v", note[0], p, err)
		}
		index++
		till.paid <- lightning.Receipt{Index: index, Hash: h, Amount: 5000, At: time.Now(), Note: note}
	}
	report := s.settled(t, 2)
	if report.Sales != 2 || report.Earned != 10_000 {
		t.Errorf("%d sales, %v", report.Sales, report.Earned)
	}
	for h, note := range till.notes {
		sale, err := s.books.Sale(t.Context(), h)
		want, scheme := segs[1], exchange.SchemePrepaid
		if h == offer.Hash {
			want, scheme = segs[0], exchange.SchemeSalted
		}
		if err != nil || sale.Sealed != want.Sealed || sale.Scheme != scheme || sale.Index != want.Index || sale.Received != 5000 {
			t.Errorf("note %d: got %+v, %v", note[0], sale, err)
		}
	}
	for from, want := range map[ledger.Source]uint64{ledger.FromTill: 2, ledger.FromNode: 0} {
		if n, err := s.books.LastReceipt(t.Context(), from); err != nil || n != want {
			t.Errorf("last receipt of %s: %d, %v, want %d", from, n, err, want)
		}
	}
	if _, err := s.Preimage(t.Context(), append([]byte{1}, make([]byte, 64)...), lightning.Hash{}); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("a segment that is not here: got %v", err)
	}
}
