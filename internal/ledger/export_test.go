package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"htlcdash/lightning"
)

// MaxIssuers is how many providers are remembered by their keys.
const MaxIssuers = maxIssuers

// Fill books n purchases like p, paid over the last n seconds, without a
// commit for each.
func (l *Ledger) Fill(n int, p Purchase) error {
	return l.change(context.Background(), func(w *writer) error {
		now := time.Now().UnixMilli()
		if err := w.exec(`INSERT INTO purchases (hash, title, representation, idx, sealed, key_hash, provider, payee, amount, max_fee, fee, salt, bolt11, state, created, settled)
			WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)
			SELECT randomblob(32), ?, ?, i, randomblob(32), randomblob(32), ?, ?, 1000, 10, 1, randomblob(32), hex(randomblob(150)), ?, ? - i, ? - i FROM n`,
			n, p.Title[:], p.Representation, p.Provider, p.Payee[:], int(lightning.Paid), now, now); err != nil {
			return err
		}
		return w.exec(`INSERT INTO spent (title, hour, msat, fees)
			SELECT title, settled / ?, sum(amount + fee), sum(fee) FROM purchases GROUP BY 1, 2`, hour)
	})
}

// CreateOld makes a file of the first format, with a ban in it.
func CreateOld(path string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	_, err = db.Exec(fmt.Sprintf("%s; PRAGMA application_id = %d; PRAGMA user_version = 1; INSERT INTO bans VALUES ('them', 'cheated', 1)",
		migrations[0], applicationID))
	return errors.Join(err, db.Close())
}

// SpentPlan is how SQLite runs the query of Spent.
func (l *Ledger) SpentPlan(t *testing.T) (steps []string) {
	t.Helper()
	rows, err := l.read.Query("EXPLAIN QUERY PLAN "+spentQuery, 0, nil, 0, hour)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, detail)
	}
	return steps
}
