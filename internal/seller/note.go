package seller

import (
	"context"
	"fmt"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// Preimage derives the preimage of an invoice that this seller made from the
// note of its terms, also after a restart: nothing of an invoice is kept. It is
// for payees that settle beside a node; whether it opens the hash is for them to
// check. The error matches [htlcdash.ErrNotFound] if what was sold is not here
// any more.
func (s *Seller) Preimage(ctx context.Context, note []byte, _ lightning.Hash) (lightning.Preimage, error) {
	return s.config.Secret.Preimage(note, func(q htlcdash.Root) (htlcdash.Key, error) {
		t := s.shelf.Load().sealed[q]
		if t == nil || t.segments[q] == nil {
			return htlcdash.Key{}, fmt.Errorf("segment %v: %w", q, htlcdash.ErrNotFound)
		}
		return s.key(ctx, t, *t.segments[q])
	})
}

// noted returns the sale of which a receipt's note tells.
func (s *Seller) noted(r lightning.Receipt) (ledger.Sale, bool) {
	q, scheme, ok := exchange.Noted(r.Note)
	t := s.shelf.Load().sealed[q]
	if !ok || t == nil || t.segments[q] == nil {
		return ledger.Sale{}, false
	}
	return saleOf(*t.segments[q], r.Hash, scheme, r.Amount), true
}

// receipts are the payees whose receipts are booked.
func (s *Seller) receipts() map[ledger.Source]lightning.Payee {
	if s.config.Receipts != nil {
		return s.config.Receipts
	}
	return map[ledger.Source]lightning.Payee{ledger.FromNode: s.config.Payee}
}
