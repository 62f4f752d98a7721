package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// A ResaleState says how far a resale has come.
type ResaleState uint8

// States of a resale.
const (
	ResaleOpen      ResaleState = iota // its payment may be held, and the key bought
	ResaleSettled                      // the buyer's payment was taken
	ResaleCancelled                    // it was given back, or never came, and nothing was paid for it
	ResaleLost                         // it was gone when the key had been bought
)

func (s ResaleState) String() string {
	return [...]string{"open", "settled", "cancelled", "lost"}[min(s, ResaleLost)]
}

// A Resale is an offer of a key that is not here: the buyer's payment is held
// until the key was bought. What it earned and cost is that of the [Sale] and the
// [Purchase] with its hash.
type Resale struct {
	Hash    lightning.Hash
	Guest   [32]byte // whom it was offered to, and
	Counter int64    // under which number
	Title   htlcdash.TitleID
	Sealed  htlcdash.Root
	KeyHash [32]byte
	Salt    htlcdash.Salt
	Amount  lightning.Msat // that the buyer is asked for
	Most    lightning.Msat // that buying may cost, route included
	Quote   []byte         // what is paid, in the buyer's words
	Expires time.Time      // of the offer
	State   ResaleState
	Reason  string // of its end
	Created time.Time
	Ended   time.Time // zero before
}

// Resell books resales before they are offered, all in one transaction. If the
// hash of one is in the books the error matches [ErrExists], and none is.
func (l *Ledger) Resell(ctx context.Context, all []Resale) error {
	return l.change(ctx, func(w *writer) error {
		for _, r := range all {
			n, err := w.count(`INSERT INTO resales (hash, guest, counter, title, sealed, key_hash, salt, amount, most, quote, expires, created)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING`,
				r.Hash[:], r.Guest[:], r.Counter, r.Title[:], r.Sealed[:], r.KeyHash[:], r.Salt[:], int64(r.Amount), int64(r.Most),
				r.Quote, r.Expires.UnixMilli(), r.Created.UnixMilli())
			if err == nil && n == 0 {
				err = fmt.Errorf("resale %s: %w", r.Hash, ErrExists)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// EndResale books what became of an open resale. The first end counts.
func (l *Ledger) EndResale(ctx context.Context, h lightning.Hash, state ResaleState, reason string) error {
	now := time.Now().UnixMilli()
	return l.change(ctx, func(w *writer) error {
		return w.exec("UPDATE resales SET state = ?, reason = ?, ended = ? WHERE hash = ? AND state = 0", int(state), reason, now, h[:])
	})
}

// OpenResales gives those without an end, oldest first.
func (l *Ledger) OpenResales(ctx context.Context) ([]Resale, error) {
	return collect(l.resales(ctx, []string{"state = 0"}, nil))
}

// Resale returns the one that was offered to a guest under a number, or an error
// matching htlcdash.ErrNotFound.
func (l *Ledger) Resale(ctx context.Context, guest [32]byte, counter int64) (Resale, error) {
	for r, err := range l.resales(ctx, []string{"guest = ?", "counter = ?"}, []any{guest[:], counter}) {
		return r, err
	}
	return Resale{}, fmt.Errorf("resale %d: %w", counter, htlcdash.ErrNotFound)
}

func (l *Ledger) resales(ctx context.Context, where []string, args []any) iter.Seq2[Resale, error] {
	query := `SELECT hash, guest, counter, title, sealed, key_hash, salt, amount, most, quote, expires, state, reason, created, ended FROM resales`
	return scan(ctx, l, query, where, args, Filter{}, func(rows *sql.Rows) (r Resale, err error) {
		var expires, created, ended int64
		err = rows.Scan(blob(&r.Hash), blob(&r.Guest), &r.Counter, blob(&r.Title), blob(&r.Sealed), blob(&r.KeyHash), blob(&r.Salt),
			&r.Amount, &r.Most, &r.Quote, &expires, &r.State, &r.Reason, &created, &ended)
		r.Expires, r.Created, r.Ended = fromMilli(expires), fromMilli(created), fromMilli(ended)
		return r, err
	})
}

// ForgetResales deletes those that ended before a time and moved no money.
func (l *Ledger) ForgetResales(ctx context.Context, before time.Time) error {
	return l.change(ctx, func(w *writer) error {
		return w.exec("DELETE FROM resales WHERE state = ? AND ended < ?", int(ResaleCancelled), before.UnixMilli())
	})
}
