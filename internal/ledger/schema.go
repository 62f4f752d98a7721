package ledger

import (
	"database/sql"
	"fmt"
)

// applicationID marks the file as ours: "htlc".
const applicationID = 0x68746c63

// migrations bring a file from version i to i+1. Never change one that was
// released: add another.
//
// Totals stand beside the rows, per hour, so that a day's spending costs the
// same to read after a million purchases as after ten.
var migrations = []string{
	`CREATE TABLE purchases (
		id INTEGER PRIMARY KEY,
		hash BLOB NOT NULL UNIQUE,
		title BLOB NOT NULL,
		representation TEXT NOT NULL,
		idx INTEGER NOT NULL,
		sealed BLOB NOT NULL,
		key_hash BLOB NOT NULL,
		provider TEXT NOT NULL,
		payee BLOB NOT NULL,
		amount INTEGER NOT NULL CHECK (amount >= 0),
		max_fee INTEGER NOT NULL CHECK (max_fee >= 0),
		fee INTEGER NOT NULL DEFAULT 0,
		salt BLOB NOT NULL,
		bolt11 TEXT NOT NULL,
		state INTEGER NOT NULL DEFAULT 0,
		lost INTEGER NOT NULL DEFAULT 0,
		created INTEGER NOT NULL,
		settled INTEGER NOT NULL DEFAULT 0,
		reason TEXT NOT NULL DEFAULT ''
	) STRICT;
	CREATE INDEX purchases_title ON purchases (title, id);
	CREATE INDEX purchases_open ON purchases (title, amount, max_fee) WHERE state = 0;
	CREATE INDEX purchases_paid ON purchases (settled, title, amount, fee) WHERE state = 2;
	CREATE TABLE spent (
		title BLOB NOT NULL,
		hour INTEGER NOT NULL,
		msat INTEGER NOT NULL,
		fees INTEGER NOT NULL, -- of msat
		PRIMARY KEY (title, hour)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX purchases_lost ON purchases (title) WHERE lost = 1;
	CREATE TABLE keys (
		hash BLOB PRIMARY KEY,
		key BLOB NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE bans (
		provider TEXT PRIMARY KEY,
		reason TEXT NOT NULL,
		at INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE sales (
		id INTEGER PRIMARY KEY,
		hash BLOB NOT NULL UNIQUE,
		title BLOB NOT NULL,
		representation TEXT NOT NULL,
		idx INTEGER NOT NULL,
		sealed BLOB NOT NULL,
		scheme TEXT NOT NULL,
		amount INTEGER NOT NULL,
		created INTEGER NOT NULL,
		settled INTEGER NOT NULL DEFAULT 0,
		received INTEGER NOT NULL DEFAULT 0
	) STRICT;
	CREATE INDEX sales_open ON sales (created) WHERE settled = 0;
	CREATE INDEX sales_settled ON sales (settled) WHERE settled > 0;
	CREATE TABLE earned (
		title BLOB NOT NULL,
		representation TEXT NOT NULL,
		hour INTEGER NOT NULL,
		msat INTEGER NOT NULL,
		count INTEGER NOT NULL,
		PRIMARY KEY (title, representation, hour)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE settings (
		name TEXT PRIMARY KEY,
		value TEXT NOT NULL
	) STRICT, WITHOUT ROWID;`,

	// What the provider signed, so that a receipt is evidence, and whether the
	// key was proved before it was paid for.
	`ALTER TABLE purchases ADD COLUMN proof TEXT NOT NULL DEFAULT '';
	ALTER TABLE purchases ADD COLUMN counter INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE purchases ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE purchases ADD COLUMN signer BLOB NOT NULL DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';
	ALTER TABLE purchases ADD COLUMN signature BLOB NOT NULL DEFAULT x'00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000';`,

	// Anonymous tokens: those shown to a seller, and those a buyer has.
	`CREATE TABLE spent_tokens (
		key_id BLOB NOT NULL,
		nonce BLOB NOT NULL,
		redeemed_at INTEGER NOT NULL,
		PRIMARY KEY (key_id, nonce)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE credentials (
		id INTEGER PRIMARY KEY,
		provider TEXT NOT NULL,
		key_id BLOB NOT NULL,
		blob BLOB NOT NULL UNIQUE,
		used INTEGER NOT NULL DEFAULT 0
	) STRICT;
	CREATE INDEX credentials_fresh ON credentials (provider, id) WHERE used = 0;
	CREATE INDEX credentials_key ON credentials (key_id);`,

	// What a key that is being bought opens, where nobody else has it; what the
	// provider signed, where that cannot be put together again; and the
	// preimage that gave no key, which is evidence.
	`CREATE TABLE parcels (
		hash BLOB PRIMARY KEY REFERENCES purchases (hash),
		parcel BLOB NOT NULL
	) STRICT, WITHOUT ROWID;
	ALTER TABLE purchases ADD COLUMN promise BLOB NOT NULL DEFAULT x'';
	ALTER TABLE purchases ADD COLUMN preimage BLOB NOT NULL DEFAULT x'';`,

	// HTLCs that a till takes by revealing a preimage, and then their receipts.
	// Channels and numbers are unsigned, stored by their bits.
	`CREATE TABLE claims (
		id INTEGER PRIMARY KEY,
		channel INTEGER NOT NULL,
		htlc INTEGER NOT NULL,
		hash BLOB NOT NULL UNIQUE,
		amount INTEGER NOT NULL,
		note BLOB NOT NULL,
		at INTEGER NOT NULL,
		receipt INTEGER NOT NULL DEFAULT 0, -- index of the receipt; 0: outcome not known
		settled INTEGER NOT NULL DEFAULT 0,
		UNIQUE (channel, htlc)
	) STRICT;
	CREATE INDEX claims_open ON claims (id) WHERE receipt = 0;
	CREATE UNIQUE INDEX claims_taken ON claims (receipt) WHERE receipt > 0;`,

	// Bans end. Those that stood were all for a key that was paid for and opened
	// nothing: a year. And how providers fared, as the buyer writes it down.
	`ALTER TABLE bans ADD COLUMN until INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE bans ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
	UPDATE bans SET until = at + 31536000000;
	CREATE TABLE reputation (
		provider TEXT PRIMARY KEY,
		url TEXT NOT NULL,
		record BLOB NOT NULL,
		at INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX reputation_at ON reputation (at);`,

	// Keys that are passed on: offers to buyers whose payment is held until the
	// key was bought. And who proved a key, where the seller passed it on.
	`CREATE TABLE resales (
		id INTEGER PRIMARY KEY,
		hash BLOB NOT NULL UNIQUE,
		guest BLOB NOT NULL,
		counter INTEGER NOT NULL,
		title BLOB NOT NULL,
		sealed BLOB NOT NULL,
		key_hash BLOB NOT NULL,
		salt BLOB NOT NULL,
		amount INTEGER NOT NULL,
		most INTEGER NOT NULL, -- that buying it may cost
		quote BLOB NOT NULL,
		expires INTEGER NOT NULL,
		state INTEGER NOT NULL DEFAULT 0,
		reason TEXT NOT NULL DEFAULT '',
		created INTEGER NOT NULL,
		ended INTEGER NOT NULL DEFAULT 0,
		UNIQUE (guest, counter)
	) STRICT;
	CREATE INDEX resales_open ON resales (id) WHERE state = 0;
	CREATE INDEX resales_ended ON resales (ended) WHERE state > 0;
	ALTER TABLE purchases ADD COLUMN prover BLOB NOT NULL DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';`,

	// What a key cost, for who sells it again.
	`CREATE INDEX purchases_key ON purchases (key_hash) WHERE state = 2;`,

	// How often each segment was sold, so that a provider does not read all its
	// sales when it starts.
	`CREATE TABLE sold (
		title BLOB NOT NULL,
		representation TEXT NOT NULL,
		idx INTEGER NOT NULL,
		count INTEGER NOT NULL,
		PRIMARY KEY (title, representation, idx)
	) STRICT, WITHOUT ROWID;
	INSERT INTO sold SELECT title, representation, idx, count(*) FROM sales WHERE settled > 0 GROUP BY title, representation, idx;`,

	// Which keys for credentials providers have shown, as the buyer writes it down,
	// in place of settings without a bound. Those are let go: they lasted for days.
	`CREATE TABLE issuers (
		url TEXT PRIMARY KEY,
		record BLOB NOT NULL,
		at INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX issuers_at ON issuers (at);
	DELETE FROM settings WHERE name LIKE 'issuer/%' OR name LIKE 'tokens/%' AND value = '';`,
}

// checkTotals says "ok" if the totals are the sums of their rows.
const checkTotals = `SELECT CASE
	WHEN (SELECT coalesce(sum(msat), 0) FROM spent) <> (SELECT coalesce(sum(amount + fee), 0) FROM purchases WHERE state = 2)
		THEN 'total spent is not the sum of the purchases'
	WHEN (SELECT coalesce(sum(msat), 0) FROM earned) <> (SELECT coalesce(sum(received), 0) FROM sales WHERE settled > 0)
		THEN 'total earned is not the sum of the sales'
	WHEN (SELECT coalesce(sum(count), 0) FROM sold) <> (SELECT count(*) FROM sales WHERE settled > 0)
		THEN 'segments sold are not as many as the sales'
	ELSE 'ok' END`

func migrate(db *sql.DB, version int) error {
	for v := version; v < len(migrations); v++ {
		step := fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
			migrations[v], applicationID, v+1)
		if _, err := db.Exec(step); err != nil {
			return fmt.Errorf("migration to format %d: %w", v+1, err)
		}
	}
	return nil
}
