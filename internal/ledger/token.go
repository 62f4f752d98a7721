package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"htlcdash"
)

// Redeem books that a token of a key was shown. The first time is durable
// before it returns, and of many calls at once with one token exactly one is
// fresh; all others return the time of the first, in whole milliseconds. After
// an error the token may or may not be in the books.
func (l *Ledger) Redeem(ctx context.Context, keyID, nonce [32]byte, at time.Time) (first time.Time, fresh bool, err error) {
	const query = "SELECT redeemed_at FROM spent_tokens WHERE key_id = ? AND nonce = ?"
	var ms int64
	// Most calls are for a token that is known. They need not wait for the disk:
	// what is read here is durable.
	err = l.read.QueryRowContext(ctx, query, keyID[:], nonce[:]).Scan(&ms)
	if !errors.Is(err, sql.ErrNoRows) {
		return time.UnixMilli(ms), false, explain(l.path, err)
	}
	err = l.change(ctx, func(w *writer) error {
		n, err := w.count("INSERT INTO spent_tokens (key_id, nonce, redeemed_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
			keyID[:], nonce[:], at.UnixMilli())
		if err != nil {
			return err
		}
		fresh = n == 1
		return w.row(query, keyID[:], nonce[:]).Scan(&ms)
	})
	if err != nil {
		return time.Time{}, false, err
	}
	return time.UnixMilli(ms), fresh, nil
}

// ForgetTokens deletes what is known of the tokens of a key, shown ones and
// credentials, once nobody takes them any more.
func (l *Ledger) ForgetTokens(ctx context.Context, keyID [32]byte) error {
	return l.change(ctx, func(w *writer) error {
		err := w.exec("DELETE FROM spent_tokens WHERE key_id = ?", keyID[:])
		return errors.Join(err, w.exec("DELETE FROM credentials WHERE key_id = ?", keyID[:]))
	})
}

// AddCredentials keeps credentials for a provider, all in one transaction, to
// be handed out in this order. It may be called again with the same: what was
// handed out stays so.
func (l *Ledger) AddCredentials(ctx context.Context, provider string, keyID [32]byte, blobs [][]byte) error {
	return l.change(ctx, func(w *writer) error {
		for _, b := range blobs {
			err := w.exec("INSERT INTO credentials (provider, key_id, blob) VALUES (?, ?, ?) ON CONFLICT (blob) DO NOTHING", provider, keyID[:], b)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// TakeCredential hands out the oldest credential for a provider, or an error
// matching htlcdash.ErrNotFound. Each is handed out once: that it is used is
// durable before it returns, so after a crash or an error one may be lost, but
// none is ever shown twice.
func (l *Ledger) TakeCredential(ctx context.Context, provider string) (blob []byte, err error) {
	err = l.change(ctx, func(w *writer) error {
		var id int64
		err := w.row("SELECT id, blob FROM credentials WHERE provider = ? AND used = 0 ORDER BY id LIMIT 1", provider).Scan(&id, &blob)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("credential for %s: %w", provider, htlcdash.ErrNotFound)
		}
		if err != nil {
			return err
		}
		return w.exec("UPDATE credentials SET used = 1 WHERE id = ?", id)
	})
	if err != nil {
		return nil, err
	}
	return blob, nil
}

// UsedCredentials returns the credentials for a provider that were handed out
// last, the newest first, at most n.
func (l *Ledger) UsedCredentials(ctx context.Context, provider string, n int) (blobs [][]byte, err error) {
	rows, err := l.read.QueryContext(ctx, "SELECT blob FROM credentials WHERE provider = ? AND used = 1 ORDER BY id DESC LIMIT ?", provider, n)
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, explain(l.path, err)
		}
		blobs = append(blobs, b)
	}
	return blobs, explain(l.path, rows.Err())
}

// CountCredentials returns how many credentials there are for a provider.
func (l *Ledger) CountCredentials(ctx context.Context, provider string) (n int, err error) {
	err = l.read.QueryRowContext(ctx, "SELECT count(*) FROM credentials WHERE provider = ? AND used = 0", provider).Scan(&n)
	return n, explain(l.path, err)
}
