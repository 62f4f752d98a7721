package ledger

import (
	"context"
	"fmt"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// An Owned is a content key that was bought, without the key itself.
type Owned struct {
	KeyHash [32]byte
	Sealed  htlcdash.Root  // of the segment that it was bought for last
	Cost    lightning.Msat // fees, and payments for it that gave no key, included
	Bought  time.Time      // when the last payment for it was booked
}

// ownedRows are the purchases of keys: what else is bought has no key to sell.
const ownedRows = "SELECT key_hash, sealed, sum(amount + fee), max(settled) FROM purchases WHERE state = 2 AND NOT (signer = zeroblob(32) AND representation IN ('" +
	Carriage + "', '" + Credentials + "'))"

// Owned returns all keys that were bought, in no order.
func (l *Ledger) Owned(ctx context.Context) ([]Owned, error) {
	return l.owned(ctx, ownedRows+" GROUP BY key_hash HAVING min(lost) = 0")
}

// OwnedKey tells of the key of s what [Ledger.Owned] does. The error matches
// htlcdash.ErrNotFound if it was not bought.
func (l *Ledger) OwnedKey(ctx context.Context, s htlcdash.Seal) (Owned, error) {
	list, err := l.owned(ctx, ownedRows+" AND key_hash = ? GROUP BY key_hash HAVING min(lost) = 0", s.KeyHash[:])
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("key of %s: %w", s.Sealed, htlcdash.ErrNotFound)
	}
	if err != nil {
		return Owned{}, err
	}
	return list[0], nil
}

func (l *Ledger) owned(ctx context.Context, query string, args ...any) (all []Owned, err error) {
	rows, err := l.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var o Owned
		var settled int64
		if err := rows.Scan(blob(&o.KeyHash), blob(&o.Sealed), &o.Cost, &settled); err != nil {
			return nil, explain(l.path, err)
		}
		o.Bought = fromMilli(settled)
		all = append(all, o)
	}
	return all, explain(l.path, rows.Err())
}

// SpentByTitle returns what was spent since a time, rounded down to the hour
// (the zero time: ever), fees included, by title.
func (l *Ledger) SpentByTitle(ctx context.Context, since time.Time) (map[htlcdash.TitleID]lightning.Msat, error) {
	rows, err := l.read.QueryContext(ctx, "SELECT title, sum(msat) FROM spent WHERE hour >= ? GROUP BY title", max(since.UnixMilli(), 0)/hour)
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	spent := make(map[htlcdash.TitleID]lightning.Msat)
	for rows.Next() {
		var id htlcdash.TitleID
		var msat lightning.Msat
		if err := rows.Scan(blob(&id), &msat); err != nil {
			return nil, explain(l.path, err)
		}
		spent[id] = msat
	}
	return spent, explain(l.path, rows.Err())
}
