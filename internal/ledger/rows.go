package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"time"
)

// where turns f into conditions. open is the condition for rows without
// outcome.
func (f Filter) where(open string) (where []string, args []any) {
	if f.Title != nil {
		where, args = append(where, "title = ?"), append(args, f.Title[:])
	}
	if !f.Since.IsZero() {
		where, args = append(where, "created >= ?"), append(args, f.Since.UnixMilli())
	}
	if f.Unsettled {
		where = append(where, open)
	}
	return where, args
}

// scan gives the rows that f chooses one by one.
func scan[T any](ctx context.Context, l *Ledger, query string, where []string, args []any, f Filter, read func(*sql.Rows) (T, error)) iter.Seq2[T, error] {
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += " ORDER BY id"
	if f.Newest {
		query += " DESC"
	}
	if f.Limit > 0 {
		query += fmt.Sprintf(" LIMIT %d", f.Limit)
	}
	return each(ctx, l, query, args, read)
}

// each runs a query and gives its rows one by one.
func each[T any](ctx context.Context, l *Ledger, query string, args []any, read func(*sql.Rows) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		rows, err := l.read.QueryContext(ctx, query, args...)
		if err != nil {
			yield(zero, explain(l.path, err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			v, err := read(rows)
			if err != nil {
				yield(zero, explain(l.path, err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(zero, explain(l.path, err))
		}
	}
}

// blob scans a BLOB of exactly 32 or 33 bytes into an array of that length.
func blob[T ~[32]byte | ~[33]byte | ~[64]byte](dst *T) sql.Scanner { return array[T]{dst} }

type array[T ~[32]byte | ~[33]byte | ~[64]byte] struct{ dst *T }

func (a array[T]) Scan(src any) error {
	got, _ := src.([]byte)
	if len(got) != len(*a.dst) {
		return fmt.Errorf("%w: a column holds %d bytes, want %d", ErrDamaged, len(got), len(*a.dst))
	}
	reflect.Copy(reflect.ValueOf(a.dst).Elem(), reflect.ValueOf(got))
	return nil
}

func fromMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// toUnix is t in whole seconds; the zero time is 0.
func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
