package ledger

import (
	"context"
	"fmt"
	"time"

	"htlcdash/lightning"
)

// Claim books that an HTLC is about to be taken: c is durable before it
// returns. The same HTLC may be claimed again. If another HTLC has claimed the
// hash the error matches [lightning.ErrHashUsed]: what is sold is paid once.
func (l *Ledger) Claim(ctx context.Context, c lightning.Claim) error {
	return l.change(ctx, func(w *writer) error {
		n, err := w.count(`INSERT INTO claims (channel, htlc, hash, amount, note, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			int64(c.Channel), int64(c.ID), c.Hash[:], int64(c.Amount), append([]byte{}, c.Note...), c.At.UnixMilli())
		if err != nil || n == 1 {
			return err
		}
		err = w.row("SELECT count(*) FROM claims WHERE channel = ? AND htlc = ? AND hash = ?", int64(c.Channel), int64(c.ID), c.Hash[:]).Scan(&n)
		if err == nil && n == 0 {
			err = fmt.Errorf("payment %s: %w", c.Hash, lightning.ErrHashUsed)
		}
		return err
	})
}

// Claims returns the claims whose outcome is not known, oldest first.
func (l *Ledger) Claims(ctx context.Context) (open []lightning.Claim, err error) {
	rows, err := l.read.QueryContext(ctx, "SELECT channel, htlc, hash, amount, note, at FROM claims WHERE receipt = 0 ORDER BY id")
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var c lightning.Claim
		var channel, htlc, at int64
		if err := rows.Scan(&channel, &htlc, blob(&c.Hash), &c.Amount, &c.Note, &at); err != nil {
			return nil, explain(l.path, err)
		}
		c.Channel, c.ID, c.At = uint64(channel), uint64(htlc), fromMilli(at)
		open = append(open, c)
	}
	return open, explain(l.path, rows.Err())
}

// Final books what became of a claimed HTLC. One that was taken becomes the
// next receipt, the other claims are forgotten. It may be called again, and for
// an HTLC that nobody claimed.
func (l *Ledger) Final(ctx context.Context, h lightning.HTLC, taken bool, at time.Time) error {
	return l.change(ctx, func(w *writer) error {
		if !taken {
			return w.exec("DELETE FROM claims WHERE channel = ? AND htlc = ? AND receipt = 0", int64(h.Channel), int64(h.ID))
		}
		return w.exec(`UPDATE claims SET receipt = 1 + (SELECT coalesce(max(receipt), 0) FROM claims), settled = ?
			WHERE channel = ? AND htlc = ? AND receipt = 0`, max(at.UnixMilli(), 1), int64(h.Channel), int64(h.ID))
	})
}

// Receipts returns at most limit of the claims that were taken, as receipts
// after an index, oldest first.
func (l *Ledger) Receipts(ctx context.Context, after uint64, limit int) (all []lightning.Receipt, err error) {
	rows, err := l.read.QueryContext(ctx, "SELECT receipt, hash, amount, note, settled FROM claims WHERE receipt > max(?, 0) ORDER BY receipt LIMIT ?", int64(after), limit)
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var r lightning.Receipt
		var at int64
		if err := rows.Scan(&r.Index, blob(&r.Hash), &r.Amount, &r.Note, &at); err != nil {
			return nil, explain(l.path, err)
		}
		r.At = fromMilli(at)
		all = append(all, r)
	}
	return all, explain(l.path, rows.Err())
}

// forgetClaims deletes claims that were taken before a time and booked as
// income. The newest stays, so that the next receipt gets a higher index.
func forgetClaims(w *writer, before time.Time) error {
	return w.exec(`DELETE FROM claims WHERE receipt > 0 AND settled < ?
		AND receipt < (SELECT CAST(value AS INTEGER) FROM settings WHERE name = ?)`, before.UnixMilli(), string(FromTill))
}
