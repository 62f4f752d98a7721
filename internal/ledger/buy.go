package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// Carriage stands where a payment has its Representation, if it is for sealed bytes
// that were carried, and nobody has signed anything of it.
const Carriage = "carriage"

// Credentials stands there, if it is for anonymous credentials.
const Credentials = "credentials"

// carried is what such a payment looks like.
const carried = "representation = '" + Carriage + "' AND signer = zeroblob(32)"

// IsCarriage reports whether p is for sealed bytes, not for a key.
func (p Purchase) IsCarriage() bool {
	return p.Representation == Carriage && p.Signer == (htlcdash.ProviderID{})
}

// IsNoKey reports whether p is for something that has no key to sell: sealed bytes or
// credentials.
func (p Purchase) IsNoKey() bool {
	return p.IsCarriage() || p.Representation == Credentials && p.Signer == (htlcdash.ProviderID{})
}

// A Purchase is one payment for the key of one segment.
type Purchase struct {
	Hash           lightning.Hash
	Title          htlcdash.TitleID
	Representation string
	Index          int
	Sealed         htlcdash.Root // names what is bought
	KeyHash        [32]byte      // of the seal: tells whether a preimage gave the key
	Provider       string        // URL
	Payee          lightning.NodeID
	Amount         lightning.Msat
	MaxFee         lightning.Msat
	Fee            lightning.Msat // once it is paid
	Salt           htlcdash.Salt  // turns the preimage into the key
	Bolt11         string
	Counter        int64 // names the offer to its provider
	Expires        time.Time
	Signer         htlcdash.ProviderID // who promised the key, and
	Signature      [64]byte            // its signature
	Prover         htlcdash.ProviderID // who was to prove it, if the seller passed it on; else zero
	Proof          string              // by which the key was proved before it was paid for; empty: it was not
	Promise        []byte              // what it signed, if that is not made of the rest
	Parcel         []byte              // what the key opens; see [Ledger.Parcels]
	Preimage       lightning.Preimage  // that gave no key; else zero
	State          lightning.State
	Lost           bool // paid, but the preimage did not give the key
	Created        time.Time
	Settled        time.Time // when the outcome was booked; zero before
	Reason         string    // why it failed
}

// Reserved is the most that p may cost.
func (p Purchase) Reserved() lightning.Msat { return p.Amount + p.MaxFee }

// Intend books that a payment is about to be sent: p is durable before it
// returns. State, Lost, Fee, Settled and Reason are ignored. If the hash is in
// the books the error matches [ErrExists]: a hash is paid once. After any other
// error p may or may not be in the books, and must not be paid.
func (l *Ledger) Intend(ctx context.Context, p Purchase) error {
	return l.change(ctx, func(w *writer) error {
		n, err := w.count(`INSERT INTO purchases
			(hash, title, representation, idx, sealed, key_hash, provider, payee, amount, max_fee, salt, bolt11, created,
				counter, expires, signer, signature, proof, promise, prover)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING`,
			p.Hash[:], p.Title[:], p.Representation, p.Index, p.Sealed[:], p.KeyHash[:], p.Provider, p.Payee[:],
			int64(p.Amount), int64(p.MaxFee), p.Salt[:], p.Bolt11, p.Created.UnixMilli(),
			p.Counter, toUnix(p.Expires), p.Signer[:], p.Signature[:], p.Proof, notNil(p.Promise), p.Prover[:])
		if err == nil && n == 0 {
			err = fmt.Errorf("payment %s: %w", p.Hash, ErrExists)
		}
		if err != nil || len(p.Parcel) == 0 {
			return err
		}
		return w.exec("INSERT INTO parcels (hash, parcel) VALUES (?, ?)", p.Hash[:], p.Parcel)
	})
}

// IntendAgain books that the payment h, which has failed as it seemed, is about to be
// sent once more, for at most maxFee besides its amount. If it has not failed the
// error matches [ErrExists], and it must not be paid.
func (l *Ledger) IntendAgain(ctx context.Context, h lightning.Hash, maxFee lightning.Msat) error {
	return l.change(ctx, func(w *writer) error {
		n, err := w.count("UPDATE purchases SET state = 0, settled = 0, reason = '', max_fee = ? WHERE hash = ? AND state = 1", int64(maxFee), h[:])
		if err == nil && n == 0 {
			err = fmt.Errorf("payment %s: %w", h, ErrExists)
		}
		return err
	})
}

// Conclude books the outcome of the payment h and the key that it gave, in one
// transaction. A payment that is Paid without a key is booked as lost, unless it
// was for carriage. It may
// be called again: what is paid stays paid, and a key that was missing is
// added. An Unknown outcome is no outcome and is refused. If h was never
// intended the error matches htlcdash.ErrNotFound.
func (l *Ledger) Conclude(ctx context.Context, h lightning.Hash, out lightning.Payment, key htlcdash.Key) error {
	if out.State == lightning.Unknown {
		return fmt.Errorf("payment %s: %w: cannot be concluded", h, lightning.ErrInFlight)
	}
	now := time.Now().UnixMilli()
	return l.change(ctx, func(w *writer) error { return conclude(w, h, out, key, now) })
}

func conclude(w *writer, h lightning.Hash, out lightning.Payment, key htlcdash.Key, now int64) error {
	var title []byte
	var state lightning.State
	var bytes bool // were bought, not a key
	err := w.row("SELECT title, state, "+carried+" FROM purchases WHERE hash = ?", h[:]).Scan(&title, &state, &bytes)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("payment %s: %w", h, htlcdash.ErrNotFound)
	}
	if err != nil {
		return err
	}
	if state != lightning.Paid {
		err = book(w, h, title, out, now)
	}
	if err != nil || out.State != lightning.Paid {
		return err
	}
	if bytes {
		return nil
	}
	if err := w.exec("UPDATE purchases SET lost = ? WHERE hash = ?", key.IsZero(), h[:]); err != nil {
		return err
	}
	if key.IsZero() {
		return keepPreimage(w, h, out.Preimage)
	}
	hash, secret := key.Hash(), key.Reveal()
	return w.exec("INSERT INTO keys (hash, key) VALUES (?, ?) ON CONFLICT DO NOTHING", hash[:], secret[:])
}

// book writes an outcome where none stood, or "paid" where "failed" stood: a
// node may learn better, and money that left must be in the totals.
func book(w *writer, h lightning.Hash, title []byte, out lightning.Payment, now int64) error {
	err := w.exec("UPDATE purchases SET state = ?, amount = iif(?1 = 2, ?, amount), fee = ?, reason = ?, settled = ? WHERE hash = ?",
		int(out.State), int64(out.Amount), int64(out.Fee), out.Reason, now, h[:])
	if err != nil || out.State != lightning.Paid {
		return err
	}
	return w.exec(`INSERT INTO spent (title, hour, msat, fees) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET msat = msat + excluded.msat, fees = fees + excluded.fees`,
		title, now/hour, int64(out.Spent()), int64(out.Fee))
}

// hour is the width of a total in milliseconds.
const hour = int64(time.Hour / time.Millisecond)

// Key returns the content key of s if it was bought, or an error matching
// htlcdash.ErrNotFound. It goes by the hash of the key, not by the name of the
// sealed bytes, which another publisher's seal may claim too.
func (l *Ledger) Key(ctx context.Context, s htlcdash.Seal) (htlcdash.Key, error) {
	var b []byte
	err := l.read.QueryRowContext(ctx, "SELECT key FROM keys WHERE hash = ?", s.KeyHash[:]).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return htlcdash.Key{}, fmt.Errorf("key of %s: %w", s.Sealed, htlcdash.ErrNotFound)
	}
	if err != nil {
		return htlcdash.Key{}, explain(l.path, err)
	}
	if len(b) == 32 {
		if key := htlcdash.NewKey([32]byte(b)); key.Opens(s) {
			return key, nil
		}
	}
	return htlcdash.Key{}, explain(l.path, fmt.Errorf("%w: a key of %d bytes does not match its hash", ErrDamaged, len(b)))
}

// Spent returns what was spent since a time (the zero time: ever), fees
// included, and what is reserved now for payments whose outcome is not known,
// for one title, or for all if title is nil.
func (l *Ledger) Spent(ctx context.Context, title *htlcdash.TitleID, since time.Time) (spent, reserved lightning.Msat, err error) {
	ms := max(since.UnixMilli(), 0)
	whole := (ms + hour - 1) / hour // the first hour whose total counts whole
	var id any
	if title != nil {
		id = title[:]
	}
	err = l.read.QueryRowContext(ctx, spentQuery, whole, id, ms, hour).Scan(&spent, &reserved)
	if err != nil {
		return 0, 0, explain(l.path, err)
	}
	return spent, reserved, nil
}

// spentQuery is one statement, so one snapshot: a payment is never in both
// sums. Whole hours come from the totals, the begun one from an index.
const spentQuery = `SELECT
		(SELECT coalesce(sum(msat), 0) FROM spent WHERE hour >= ?1 AND (?2 IS NULL OR title = ?2)) +
		(SELECT coalesce(sum(amount + fee), 0) FROM purchases WHERE state = 2 AND settled >= ?3 AND settled < ?1 * ?4 AND (?2 IS NULL OR title = ?2)),
		(SELECT coalesce(sum(amount + max_fee), 0) FROM purchases WHERE state = 0 AND (?2 IS NULL OR title = ?2))`

// SpentByHour returns what was spent in each hour since a time, fees included,
// by the start of the hour. The hour of since counts whole.
func (l *Ledger) SpentByHour(ctx context.Context, since time.Time) (map[time.Time]lightning.Msat, error) {
	rows, err := l.read.QueryContext(ctx, "SELECT hour, sum(msat) FROM spent WHERE hour >= ? GROUP BY hour", max(since.UnixMilli(), 0)/hour)
	if err != nil {
		return nil, explain(l.path, err)
	}
	defer rows.Close()
	spent := make(map[time.Time]lightning.Msat)
	for rows.Next() {
		var h int64
		var msat lightning.Msat
		if err := rows.Scan(&h, &msat); err != nil {
			return nil, explain(l.path, err)
		}
		spent[time.UnixMilli(h*hour)] = msat
	}
	return spent, explain(l.path, rows.Err())
}

// Fees returns what routes ever cost, for one title, or for all if title is
// nil.
func (l *Ledger) Fees(ctx context.Context, title *htlcdash.TitleID) (fees lightning.Msat, err error) {
	query, args := "SELECT coalesce(sum(fees), 0) FROM spent", []any(nil)
	if title != nil {
		query, args = query+" WHERE title = ?", append(args, title[:])
	}
	err = l.read.QueryRowContext(ctx, query, args...).Scan(&fees)
	return fees, explain(l.path, err)
}

// Unsigned returns what was paid, without routes, for what stands where a purchase
// has its Representation, and of which nothing is signed, of one title.
func (l *Ledger) Unsigned(ctx context.Context, title htlcdash.TitleID, what string) (sum lightning.Msat, err error) {
	err = l.read.QueryRowContext(ctx, `SELECT coalesce(sum(amount), 0) FROM purchases
		WHERE title = ? AND state = 2 AND representation = ? AND signer = zeroblob(32)`, title[:], what).Scan(&sum)
	return sum, explain(l.path, err)
}

// Lost returns what was paid to providers who gave no key, for one title, or
// for all if title is nil.
func (l *Ledger) Lost(ctx context.Context, title *htlcdash.TitleID) (lost lightning.Msat, err error) {
	for p, e := range l.Purchases(ctx, Filter{Title: title, Lost: true}) {
		if e != nil {
			return 0, e
		}
		lost += p.Amount + p.Fee
	}
	return lost, nil
}

// Unsettled returns the purchases whose outcome is not known, oldest first.
func (l *Ledger) Unsettled(ctx context.Context) ([]Purchase, error) {
	return collect(l.Purchases(ctx, Filter{Unsettled: true}))
}

// Filter chooses rows. The zero value chooses all.
type Filter struct {
	Title     *htlcdash.TitleID
	Since     time.Time // created at this time or later
	Unsettled bool      // outcome not known
	Lost      bool      // purchases only: paid without getting a key
	Paid      bool      // purchases only: paid
	Parcel    bool      // purchases only: with a parcel that was not delivered
	Newest    bool      // newest first, else oldest first
	Limit     int       // 0: no limit
}

// Purchases gives the purchases that f chooses, in the order in which they
// were intended. It reads one snapshot of the books, row by row, so a million
// cost no memory. An error ends it.
func (l *Ledger) Purchases(ctx context.Context, f Filter) iter.Seq2[Purchase, error] {
	where, args := f.where("state = 0")
	if f.Lost {
		where = append(where, "lost = 1")
	}
	if f.Paid {
		where = append(where, "state = 2")
	}
	if f.Parcel {
		where = append(where, "hash IN (SELECT hash FROM parcels)")
	}
	return l.purchases(ctx, where, args, f)
}

// Purchase returns the payment over h, or an error matching
// htlcdash.ErrNotFound.
func (l *Ledger) Purchase(ctx context.Context, h lightning.Hash) (Purchase, error) {
	for p, err := range l.purchases(ctx, []string{"hash = ?"}, []any{h[:]}, Filter{}) {
		return p, err
	}
	return Purchase{}, fmt.Errorf("purchase %s: %w", h, htlcdash.ErrNotFound)
}

func (l *Ledger) purchases(ctx context.Context, where []string, args []any, f Filter) iter.Seq2[Purchase, error] {
	query := `SELECT hash, title, representation, idx, sealed, key_hash, provider, payee, amount, max_fee, fee,
		salt, bolt11, state, lost, created, settled, reason, counter, expires, signer, signature, proof, promise, preimage, prover FROM purchases`
	return scan(ctx, l, query, where, args, f, func(r *sql.Rows) (p Purchase, err error) {
		var created, settled, expires int64
		err = r.Scan(blob(&p.Hash), blob(&p.Title), &p.Representation, &p.Index, blob(&p.Sealed), blob(&p.KeyHash),
			&p.Provider, blob(&p.Payee), &p.Amount, &p.MaxFee, &p.Fee, blob(&p.Salt), &p.Bolt11, &p.State, &p.Lost,
			&created, &settled, &p.Reason, &p.Counter, &expires, blob(&p.Signer), blob(&p.Signature), &p.Proof,
			&p.Promise, secret{&p.Preimage}, blob(&p.Prover))
		p.Created, p.Settled, p.Expires = fromMilli(created), fromMilli(settled), fromMilli(expires*1000)
		return p, err
	})
}

// Setting returns a value that is kept from run to run, such as what a person
// chose, or an error matching htlcdash.ErrNotFound.
func (l *Ledger) Setting(ctx context.Context, name string) (value string, err error) {
	err = l.read.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = ?", name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("setting %q: %w", name, htlcdash.ErrNotFound)
	}
	return value, explain(l.path, err)
}

// Set keeps a value from run to run.
func (l *Ledger) Set(ctx context.Context, name, value string) error {
	return l.change(ctx, func(w *writer) error {
		return w.exec("INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", name, value)
	})
}

// Unset forgets a value; there need not be one.
func (l *Ledger) Unset(ctx context.Context, name string) error {
	return l.change(ctx, func(w *writer) error { return w.exec("DELETE FROM settings WHERE name = ?", name) })
}

func collect[T any](rows iter.Seq2[T, error]) (all []T, err error) {
	for v, err := range rows {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return slices.Clip(all), nil
}
