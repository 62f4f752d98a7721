package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// A Sale is an offer made to one buyer, and its payment once it came.
type Sale struct {
	Hash           lightning.Hash
	Title          htlcdash.TitleID
	Representation string
	Index          int
	Sealed         htlcdash.Root
	Scheme         string
	Amount         lightning.Msat // asked
	Received       lightning.Msat // 0 until it is settled
	Cost           lightning.Msat // of buying the key for this very sale, route included; 0: it was here, or bought for another
	Created        time.Time
	Settled        time.Time // zero until it is settled
}

// Offered books offers before they are handed out, all in one transaction.
// Received and Settled are ignored, and so is an offer whose hash is already
// in the books: the same request gives the same offer.
func (l *Ledger) Offered(ctx context.Context, sales []Sale) error {
	return l.change(ctx, func(w *writer) error {
		for _, s := range sales {
			err := w.exec(`INSERT INTO sales (hash, title, representation, idx, sealed, scheme, amount, created)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING`,
				s.Hash[:], s.Title[:], s.Representation, s.Index, s.Sealed[:], s.Scheme, int64(s.Amount), s.Created.UnixMilli())
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// A Source names a payee whose receipts are booked: each numbers its own.
type Source string

// The sources that there are.
const (
	FromNode Source = "receipt"      // invoices that the node itself settles
	FromTill Source = "receipt/till" // HTLCs that were taken beside it: see [Ledger.Claim]
)

// Settle books receipts of a source and remembers the highest index, in one
// transaction. It may be called again with the same receipts. A receipt for
// something that was not offered here only moves the index.
func (l *Ledger) Settle(ctx context.Context, from Source, receipts ...lightning.Receipt) error {
	return l.change(ctx, func(w *writer) error {
		var last uint64
		for _, r := range receipts {
			if err := settle(w, r); err != nil {
				return err
			}
			last = max(last, r.Index)
		}
		return w.exec(`INSERT INTO settings (name, value) VALUES (?, ?)
			ON CONFLICT DO UPDATE SET value = excluded.value WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)`,
			string(from), fmt.Sprint(last))
	})
}

func settle(w *writer, r lightning.Receipt) error {
	at := max(r.At.UnixMilli(), 1)
	n, err := w.count("UPDATE sales SET settled = ?, received = ? WHERE hash = ? AND settled = 0", at, int64(r.Amount), r.Hash[:])
	if err != nil || n == 0 {
		return err
	}
	err = w.exec(`INSERT INTO sold (title, representation, idx, count) SELECT title, representation, idx, 1 FROM sales WHERE hash = ?
		ON CONFLICT DO UPDATE SET count = count + 1`, r.Hash[:])
	if err != nil {
		return err
	}
	return w.exec(`INSERT INTO earned (title, representation, hour, msat, count)
		SELECT title, representation, ?, received, 1 FROM sales WHERE hash = ?
		ON CONFLICT DO UPDATE SET msat = msat + excluded.msat, count = count + 1`, at/hour, r.Hash[:])
}

// LastReceipt returns the index of the newest receipt of a source that was
// booked, or 0.
func (l *Ledger) LastReceipt(ctx context.Context, from Source) (uint64, error) {
	var n uint64
	err := l.read.QueryRowContext(ctx, "SELECT CAST(value AS INTEGER) FROM settings WHERE name = ?", string(from)).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, explain(l.path, err)
}

// Sale returns the offer with payment hash h, or an error matching
// htlcdash.ErrNotFound.
func (l *Ledger) Sale(ctx context.Context, h lightning.Hash) (Sale, error) {
	for s, err := range l.sales(ctx, []string{"hash = ?"}, []any{h[:]}, Filter{}) {
		return s, err
	}
	return Sale{}, fmt.Errorf("sale %s: %w", h, htlcdash.ErrNotFound)
}

// Sales gives the settled sales that f chooses, in the order in which they
// were offered; with f.Unsettled the offers that were not paid instead.
func (l *Ledger) Sales(ctx context.Context, f Filter) iter.Seq2[Sale, error] {
	where, args := f.where("settled = 0")
	if !f.Unsettled {
		where = append(where, "settled > 0")
	}
	return l.sales(ctx, where, args, f)
}

func (l *Ledger) sales(ctx context.Context, where []string, args []any, f Filter) iter.Seq2[Sale, error] {
	query := `SELECT hash, title, representation, idx, sealed, scheme, amount, received, created, settled,
		coalesce((SELECT p.amount + p.fee FROM purchases p WHERE p.hash = sales.hash AND p.state = 2), 0) FROM sales`
	return scan(ctx, l, query, where, args, f, func(r *sql.Rows) (s Sale, err error) {
		var created, settled int64
		err = r.Scan(blob(&s.Hash), blob(&s.Title), &s.Representation, &s.Index, blob(&s.Sealed), &s.Scheme,
			&s.Amount, &s.Received, &created, &settled, &s.Cost)
		s.Created, s.Settled = fromMilli(created), fromMilli(settled)
		return s, err
	})
}

// A SegmentCount says how often a segment was sold.
type SegmentCount struct {
	Title          htlcdash.TitleID
	Representation string
	Index          int
	Count          uint32
}

// Sold gives how often each segment was sold, of those that were.
func (l *Ledger) Sold(ctx context.Context) iter.Seq2[SegmentCount, error] {
	return each(ctx, l, "SELECT title, representation, idx, count FROM sold", nil, func(r *sql.Rows) (c SegmentCount, err error) {
		err = r.Scan(blob(&c.Title), &c.Representation, &c.Index, &c.Count)
		return c, err
	})
}

// An Earning is what one Representation of a title brought.
type Earning struct {
	Title          htlcdash.TitleID
	Representation string
	Amount         lightning.Msat
	Count          int64 // sales
}

// Earned returns what was earned since a time, rounded down to the hour (the
// zero time: ever), by title and Representation.
func (l *Ledger) Earned(ctx context.Context, since time.Time) ([]Earning, error) {
	rows, err := l.read.QueryContext(ctx, `SELECT title, representation, sum(msat), sum(count) FROM earned
		WHERE hour >= ? GROUP BY title, representation ORDER BY title, representation`, max(since.UnixMilli(), 0)/hour)
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	var all []Earning
	for rows.Next() {
		var e Earning
		if err := rows.Scan(blob(&e.Title), &e.Representation, &e.Amount, &e.Count); err != nil {
			return nil, explain(l.path, err)
		}
		all = append(all, e)
	}
	return all, explain(l.path, rows.Err())
}

// EarnedBy returns what a title has earned, ever.
func (l *Ledger) EarnedBy(ctx context.Context, title htlcdash.TitleID) (sum lightning.Msat, err error) {
	err = l.read.QueryRowContext(ctx, "SELECT coalesce(sum(msat), 0) FROM earned WHERE title = ?", title[:]).Scan(&sum)
	return sum, explain(l.path, err)
}

// CarriageSince returns what sealed bytes have cost since a time, routes and what may
// yet be paid included, and what they have earned, since the begin of its hour.
func (l *Ledger) CarriageSince(ctx context.Context, since time.Time) (cost, earned lightning.Msat, err error) {
	err = l.read.QueryRowContext(ctx, `SELECT
		(SELECT coalesce(sum(amount + fee), 0) FROM purchases WHERE state = 2 AND settled >= ? AND `+carried+`) +
		(SELECT coalesce(sum(amount + max_fee), 0) FROM purchases WHERE state = 0 AND `+carried+`),
		(SELECT coalesce(sum(msat), 0) FROM earned WHERE representation = ? AND hour >= ?)`,
		max(since.UnixMilli(), 0), Carriage, max(since.UnixMilli(), 0)/hour).Scan(&cost, &earned)
	return cost, earned, explain(l.path, err)
}

// Forget deletes offers that were made before a time and never paid, and claims
// that became income before it. Invoices that may still be paid must be younger.
func (l *Ledger) Forget(ctx context.Context, before time.Time) error {
	return l.change(ctx, func(w *writer) error {
		if err := forgetClaims(w, before); err != nil {
			return err
		}
		return w.exec("DELETE FROM sales WHERE settled = 0 AND created < ?", before.UnixMilli())
	})
}
