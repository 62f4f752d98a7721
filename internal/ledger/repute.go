package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"htlcdash"
)

// A Ban says that a provider is not dealt with until a time.
type Ban struct {
	Provider string // its URL, or the key that it signs with
	Reason   string
	At       time.Time
	Until    time.Time
	Times    int // it was banned, this time included
}

// Ban books b in place of what stands for its provider. It is kept when it is
// over, so that the next can be longer.
func (l *Ledger) Ban(ctx context.Context, b Ban) error {
	return l.change(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO bans (provider, reason, at, until, times) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
			SET reason = excluded.reason, at = excluded.at, until = excluded.until, times = excluded.times`,
			b.Provider, b.Reason, b.At.UnixMilli(), b.Until.UnixMilli(), b.Times)
	})
}

// Lift ends the ban of a provider, and those that were made with it: by the same
// deed, of its address and its key. It returns whose bans have ended. If there
// is none that lasts the error matches htlcdash.ErrNotFound.
func (l *Ledger) Lift(ctx context.Context, provider string) (lifted []string, err error) {
	now := time.Now()
	bans, err := l.Bans(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range bans {
		if b.Provider != provider || !now.Before(b.Until) {
			continue
		}
		for _, other := range bans {
			if other.At.Equal(b.At) && other.Reason == b.Reason {
				lifted = append(lifted, other.Provider)
			}
		}
	}
	if lifted == nil {
		return nil, fmt.Errorf("ban of %s: %w", provider, htlcdash.ErrNotFound)
	}
	return lifted, l.change(ctx, func(w *writer) error {
		for _, name := range lifted {
			if err := w.exec("UPDATE bans SET until = ? WHERE provider = ?", now.UnixMilli(), name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Bans returns all bans, also those that are over, the latest first.
func (l *Ledger) Bans(ctx context.Context) ([]Ban, error) {
	rows, err := l.read.QueryContext(ctx, "SELECT provider, reason, at, until, times FROM bans ORDER BY at DESC, provider")
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	var bans []Ban
	for rows.Next() {
		var b Ban
		var at, until int64
		if err := rows.Scan(&b.Provider, &b.Reason, &at, &until, &b.Times); err != nil {
			return nil, explain(l.path, err)
		}
		b.At, b.Until = fromMilli(at), fromMilli(until)
		bans = append(bans, b)
	}
	return bans, explain(l.path, rows.Err())
}

// A Reputation is how a provider fared, as the caller writes it down.
type Reputation struct {
	Provider string // its name with the caller
	URL      string // where it was last; empty: as it stands in the books
	Record   []byte
}

// maxReputation bounds what is kept of how providers fared, in rows. Whoever is
// not heard of for longest is forgotten.
const maxReputation = 1024

// Remember keeps how providers fared, in place of what stood there.
func (l *Ledger) Remember(ctx context.Context, all []Reputation) error {
	now := time.Now().UnixMilli()
	return l.change(ctx, func(w *writer) error {
		for _, r := range all {
			err := w.exec(`INSERT INTO reputation (provider, url, record, at) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
				SET url = iif(excluded.url = '', url, excluded.url), record = excluded.record, at = excluded.at`,
				r.Provider, r.URL, notNil(r.Record), now)
			if err != nil {
				return err
			}
		}
		return w.exec("DELETE FROM reputation WHERE provider IN (SELECT provider FROM reputation ORDER BY at DESC LIMIT -1 OFFSET ?)", maxReputation)
	})
}

// Reputation returns what [Ledger.Remember] kept, the latest first.
func (l *Ledger) Reputation(ctx context.Context) ([]Reputation, error) {
	rows, err := l.read.QueryContext(ctx, "SELECT provider, url, record FROM reputation ORDER BY at DESC, provider")
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	var all []Reputation
	for rows.Next() {
		var r Reputation
		if err := rows.Scan(&r.Provider, &r.URL, &r.Record); err != nil {
			return nil, explain(l.path, err)
		}
		all = append(all, r)
	}
	return all, explain(l.path, rows.Err())
}

// Forgive forgets how the provider of this name, or at this URL, fared, and
// returns the names that were forgotten.
func (l *Ledger) Forgive(ctx context.Context, provider string) (names []string, err error) {
	all, err := l.Reputation(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Provider == provider || r.URL == provider {
			names = append(names, r.Provider)
		}
	}
	return names, l.change(ctx, func(w *writer) error {
		for _, name := range names {
			if err := w.exec("DELETE FROM reputation WHERE provider = ?", name); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxIssuers bounds what is kept of providers' keys for credentials, in rows.
// Whoever has not shown its keys for longest is forgotten.
const maxIssuers = 1024

// KeepIssuer keeps which keys for credentials the provider at url has shown, as the
// caller writes it down, in place of what stood there.
func (l *Ledger) KeepIssuer(ctx context.Context, url string, record []byte) error {
	now := time.Now().UnixMilli()
	return l.change(ctx, func(w *writer) error {
		err := w.exec(`INSERT INTO issuers (url, record, at) VALUES (?, ?, ?) ON CONFLICT DO UPDATE
			SET record = excluded.record, at = excluded.at`, url, record, now)
		if err != nil {
			return err
		}
		return w.exec("DELETE FROM issuers WHERE url IN (SELECT url FROM issuers ORDER BY at DESC LIMIT -1 OFFSET ?)", maxIssuers)
	})
}

// Issuer returns what [Ledger.KeepIssuer] kept, or an error matching
// htlcdash.ErrNotFound.
func (l *Ledger) Issuer(ctx context.Context, url string) (record []byte, err error) {
	err = l.read.QueryRowContext(ctx, "SELECT record FROM issuers WHERE url = ?", url).Scan(&record)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("keys of %s: %w", url, htlcdash.ErrNotFound)
	}
	return record, explain(l.path, err)
}
