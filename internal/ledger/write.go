package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// A writer owns the one connection that writes. Writes that arrive while it
// waits for the disk go together into its next transaction: under load, many
// durable writes cost one fsync.
type writer struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // by text; of the writer's goroutine
	queue chan *change
	done  chan struct{} // closed when the goroutine has ended

	mu     sync.RWMutex // held for reading while a change is queued
	closed bool
}

// A change is one write: all of it happens, or nothing.
type change struct {
	ctx  context.Context
	do   func(*writer) error
	err  error
	done chan struct{}
}

// maxBatch bounds the changes in one transaction.
const maxBatch = 256

func newWriter(db *sql.DB) (*writer, error) {
	conn, err := db.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	w := &writer{
		db: db, conn: conn, stmts: make(map[string]*sql.Stmt),
		queue: make(chan *change, maxBatch), done: make(chan struct{}),
	}
	go w.run()
	return w, nil
}

// change makes one change, durable on return. ctx counts only until the change
// is begun, so that an error of ctx means that nothing was written.
func (l *Ledger) change(ctx context.Context, do func(*writer) error) error {
	if l.write == nil {
		return fmt.Errorf("%s: %w for writing", l.path, ErrClosed)
	}
	c := &change{ctx: ctx, do: do, done: make(chan struct{})}
	if err := l.write.send(c); err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	<-c.done
	if c.err == nil || errors.Is(c.err, ErrExists) || c.err == ctx.Err() {
		return c.err
	}
	return explain(l.path, c.err)
}

func (w *writer) send(c *change) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return ErrClosed
	}
	w.queue <- c // the writer drains the queue until it is closed
	return nil
}

func (w *writer) close() error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		return nil
	}
	close(w.queue) // nothing is sent once closed is seen
	<-w.done
	var errs []error
	for _, s := range w.stmts { // an open one would keep the file from being checkpointed
		errs = append(errs, s.Close())
	}
	clear(w.stmts)
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

func (w *writer) run() {
	defer close(w.done)
	for first := range w.queue {
		batch := []*change{first}
		for len(batch) < maxBatch && len(w.queue) > 0 {
			batch = append(batch, <-w.queue)
		}
		w.commit(batch)
		for _, c := range batch {
			close(c.done)
		}
	}
}

// commit runs each change in a savepoint of its own, so that one that fails
// takes no other with it.
func (w *writer) commit(batch []*change) {
	err := w.exec("BEGIN IMMEDIATE")
	if err == nil {
		for _, c := range batch {
			c.err = w.apply(c)
		}
		err = w.exec("COMMIT")
	}
	if err != nil {
		w.exec("ROLLBACK") //nolint:errcheck // the first error tells more
		for _, c := range batch {
			c.err = err
		}
	}
}

func (w *writer) apply(c *change) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if err := w.exec("SAVEPOINT change"); err != nil {
		return err
	}
	err := c.do(w)
	if err != nil {
		err = errors.Join(err, w.exec("ROLLBACK TO change"))
	}
	return errors.Join(err, w.exec("RELEASE change"))
}

func (w *writer) exec(query string, args ...any) error {
	_, err := w.count(query, args...)
	return err
}

// count runs query and returns how many rows it changed.
func (w *writer) count(query string, args ...any) (int64, error) {
	s, err := w.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (w *writer) row(query string, args ...any) *row {
	s, err := w.prepare(query)
	if err != nil {
		return &row{err: err}
	}
	return &row{row: s.QueryRow(args...)}
}

// row is a sql.Row that may carry an error of Prepare.
type row struct {
	row *sql.Row
	err error
}

func (r *row) Scan(dst ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.row.Scan(dst...)
}

func (w *writer) prepare(query string) (*sql.Stmt, error) {
	if s, ok := w.stmts[query]; ok {
		return s, nil
	}
	s, err := w.conn.PrepareContext(context.Background(), query)
	if err == nil {
		w.stmts[query] = s
	}
	return s, err
}
