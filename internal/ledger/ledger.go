// Package ledger keeps the books of a buyer or a seller in one SQLite file:
// what was meant, then what happened, and the keys that were bought.
//
// A write has reached the disk when its method returns: the file is in WAL mode
// with synchronous=FULL, and concurrent writes share one fsync. One process
// owns a file at a time, because budgets are held in memory; [OpenReader] lets
// others look. Amounts are integers in millisatoshi, times are whole
// milliseconds.
//
// The file holds content keys, so it is created with mode 0600 and the package
// never prints what is secret. It does not know what a budget is, nor what a
// payment should cost: that is buyer.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"htlcdash/internal/lock"
)

// Errors that callers decide on. Not found is htlcdash.ErrNotFound.
var (
	// ErrLocked means that another process owns the file.
	ErrLocked = errors.New("ledger: in use by another process")
	// ErrNewer means that a newer version of the program wrote the file.
	ErrNewer = errors.New("ledger: written by a newer version")
	// ErrDamaged means that the file is not a whole ledger.
	ErrDamaged = errors.New("ledger: damaged")
	// ErrExists means that a payment with this hash is already in the books.
	ErrExists = errors.New("ledger: payment hash already booked")
	// ErrClosed means that the ledger was closed.
	ErrClosed = errors.New("ledger: closed")
)

// A Ledger is an open file. All methods may be called at once.
type Ledger struct {
	path  string
	read  *sql.DB
	write *writer  // nil for a reader
	lock  *os.File // nil for a reader
}

// Open opens the ledger at path for this process alone, and creates it and its
// folder if they do not exist. Errors match [ErrLocked], [ErrNewer] or
// [ErrDamaged] and say what to do.
func Open(path string) (*Ledger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w: choose another place or make the folder writable", err)
	}
	held, err := lock.File(path + ".lock")
	if errors.Is(err, lock.ErrHeld) {
		return nil, fmt.Errorf("%s: %w: stop the other program, or give this one a ledger of its own", path, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &Ledger{path: path, lock: held}
	if err := l.open(); err != nil {
		l.Close()
		return nil, explain(path, err)
	}
	return l, nil
}

// OpenReader opens the ledger at path only for looking, also while another
// process owns it. Methods that write return [ErrClosed].
func OpenReader(path string) (*Ledger, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("ledger: %w: nothing was bought or sold here yet, or the path is wrong", err)
	}
	l := &Ledger{path: path}
	if err := l.openRead(); err != nil {
		l.Close()
		return nil, explain(path, err)
	}
	var version int
	if err := l.read.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		l.Close()
		return nil, explain(path, err)
	}
	if err := known(version, false); err != nil {
		l.Close()
		return nil, explain(path, err)
	}
	return l, nil
}

func (l *Ledger) open() error {
	// SQLite gives -wal and -shm the mode of the file itself.
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", l.dsn("rwc", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if err := prepareFile(db, l.path); err != nil {
		db.Close()
		return err
	}
	if l.write, err = newWriter(db); err != nil {
		db.Close()
		return err
	}
	return l.openRead()
}

func (l *Ledger) openRead() (err error) {
	l.read, err = sql.Open("sqlite", l.dsn("rw", "query_only(1)"))
	if err == nil {
		l.read.SetMaxOpenConns(4)
		l.read.SetMaxIdleConns(4) // each connection reads the schema first
	}
	return err
}

// dsn escapes the path, so that a folder named "50%?" works.
func (l *Ledger) dsn(mode string, pragmas ...string) string {
	abs, err := filepath.Abs(l.path)
	if err != nil {
		abs = l.path
	}
	q := url.Values{"mode": {mode}, "_pragma": append([]string{"busy_timeout(5000)"}, pragmas...)}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: q.Encode()}).String()
}

// Close finishes the writes that were begun and closes the file.
func (l *Ledger) Close() error {
	var errs []error
	if l.read != nil {
		errs = append(errs, l.read.Close())
	}
	if l.write != nil {
		errs = append(errs, l.write.close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}

// prepareFile checks the file and brings it to the current version.
func prepareFile(db *sql.DB, path string) error {
	var app, version int
	if err := db.QueryRow("PRAGMA application_id").Scan(&app); err != nil {
		return err
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if err := known(version, true); err != nil {
		return err
	}
	if version > 0 && app != applicationID {
		return fmt.Errorf("%w: another program's database", ErrDamaged)
	}
	if err := quickCheck(db, path); err != nil {
		return err
	}
	return migrate(db, version)
}

func known(version int, fresh bool) error {
	switch {
	case version > len(migrations):
		return fmt.Errorf("%w: format %d, this program knows %d", ErrNewer, version, len(migrations))
	case version == 0 && !fresh:
		return fmt.Errorf("%w: no tables", ErrDamaged)
	}
	return nil
}

// quickCheckBytes is the size up to which Open reads the whole file through
// SQLite's quick check, some 100 ms. A larger ledger opens as fast as a small
// one and is read whole by [Ledger.Check].
const quickCheckBytes = 32 << 20

func quickCheck(db *sql.DB, path string) error {
	if info, err := os.Stat(path); err != nil || info.Size() > quickCheckBytes {
		return err
	}
	return check(context.Background(), db, "PRAGMA quick_check(1)")
}

// Check reads the whole file: pages, indexes, and the totals against the rows
// they stand for. The error matches [ErrDamaged].
func (l *Ledger) Check(ctx context.Context) error {
	err := check(ctx, l.read, "PRAGMA integrity_check(1)")
	if err == nil {
		err = check(ctx, l.read, checkTotals)
	}
	return explain(l.path, err)
}

func check(ctx context.Context, db *sql.DB, query string) error {
	var verdict string
	if err := db.QueryRowContext(ctx, query).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, verdict)
	}
	return nil
}

// explain adds what to do to an error that a person must mend.
func explain(path string, err error) error {
	code := 0
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		code = e.Code() & 0xff // the rest is the extended code
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNewer):
		return fmt.Errorf("%s: %w: use the newer program, or another file", path, err)
	case errors.Is(err, ErrDamaged), code == sqlite3.SQLITE_CORRUPT, code == sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s: %w: %w: restore a backup, or move the file (with -wal and -shm) aside and start a new one; "+
			"sqlite3's .recover saves what is left, bought keys included", path, ErrDamaged, err)
	case code == sqlite3.SQLITE_BUSY, code == sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%s: %w: %w: stop the other program", path, ErrLocked, err)
	case code == sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s: ledger: %w: free some space on the disk", path, err)
	}
	return fmt.Errorf("%s: ledger: %w", path, err)
}
