package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// Parcels returns the purchases of a title that have a parcel, oldest first:
// bytes that only their key opens, that nobody else has, and that were not yet
// delivered. [Ledger.Intend] books a parcel together with the intent, so what is
// paid for can be opened after a crash.
func (l *Ledger) Parcels(ctx context.Context, title htlcdash.TitleID) (found []Purchase, err error) {
	for p, err := range l.Purchases(ctx, Filter{Title: &title, Parcel: true}) {
		if err != nil {
			return nil, err
		}
		err = l.read.QueryRowContext(ctx, "SELECT parcel FROM parcels WHERE hash = ?", p.Hash[:]).Scan(&p.Parcel)
		if errors.Is(err, sql.ErrNoRows) {
			continue // delivered in between
		}
		if err != nil {
			return nil, explain(l.path, err)
		}
		found = append(found, p)
	}
	return found, nil
}

// parcelLife is for how long the parcel of a payment that failed is kept: it
// may turn out to have gone out after all.
const parcelLife = 25 * time.Hour

// Delivered forgets parcels: what they held is where it belongs, and durable,
// or is worth nothing. It forgets those of payments that failed a day ago, too.
func (l *Ledger) Delivered(ctx context.Context, hashes ...lightning.Hash) error {
	return l.change(ctx, func(w *writer) error {
		for _, h := range hashes {
			if err := w.exec("DELETE FROM parcels WHERE hash = ?", h[:]); err != nil {
				return err
			}
		}
		return w.exec("DELETE FROM parcels WHERE hash IN (SELECT hash FROM purchases WHERE state = 1 AND created < ?)",
			time.Now().Add(-parcelLife).UnixMilli())
	})
}

// Lose books that the key of a paid purchase opens nothing of worth. If there is
// no such purchase the error matches htlcdash.ErrNotFound.
func (l *Ledger) Lose(ctx context.Context, h lightning.Hash) error {
	return l.change(ctx, func(w *writer) error {
		n, err := w.count("UPDATE purchases SET lost = 1 WHERE hash = ? AND state = 2", h[:])
		if err == nil && n == 0 {
			err = fmt.Errorf("payment %s: %w", h, htlcdash.ErrNotFound)
		}
		return err
	})
}

// keepPreimage books what a payment revealed that gave no key: it is evidence.
func keepPreimage(w *writer, h lightning.Hash, p lightning.Preimage) error {
	if !p.Opens(h) {
		return nil
	}
	b := p.Reveal()
	return w.exec("UPDATE purchases SET preimage = ? WHERE hash = ?", b[:], h[:])
}

// secret scans a preimage, or none.
type secret struct{ dst *lightning.Preimage }

func (s secret) Scan(src any) error {
	switch b, _ := src.([]byte); len(b) {
	case 0:
		*s.dst = lightning.Preimage{}
	case 32:
		*s.dst = lightning.NewPreimage([32]byte(b))
	default:
		return fmt.Errorf("%w: a preimage of %d bytes", ErrDamaged, len(b))
	}
	return nil
}

// notNil is b as a BLOB that is not NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
