package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"htlcdash"
	"htlcdash/source"
)

// RunStore holds a store to the contract of source.Store. open returns one in
// which nothing lies.
func RunStore(t *testing.T, open func(t *testing.T) source.Store) {
	const file = "seals/720p.seals"
	first, second := []byte("what was first"), []byte("what came after it")
	put := func(t *testing.T, s source.Store, data []byte, replace bool) {
		t.Helper()
		if err := s.Put(t.Context(), file, data, replace); err != nil {
			t.Fatalf("put: %v", err)
		}
	}
	holds := func(t *testing.T, s source.Store, want []byte) {
		t.Helper()
		if got, err := s.Get(t.Context(), file, 1000); err != nil || !bytes.Equal(got, want) {
			t.Errorf("get: %q, %v, want %q", got, err, want)
		}
		if info, err := s.Stat(t.Context(), file); err != nil || info.Length != int64(len(want)) {
			t.Errorf("stat: %+v, %v, want %d bytes", info, err, len(want))
		}
	}

	t.Run("says what is not there", func(t *testing.T) {
		s := open(t)
		if _, err := s.Stat(t.Context(), file); !errors.Is(err, htlcdash.ErrNotFound) {
			t.Errorf("stat: %v, want %v", err, htlcdash.ErrNotFound)
		}
		if _, err := s.Get(t.Context(), file, 1000); !errors.Is(err, htlcdash.ErrNotFound) {
			t.Errorf("get: %v, want %v", err, htlcdash.ErrNotFound)
		}
	})
	t.Run("keeps what is there", func(t *testing.T) {
		s := open(t)
		put(t, s, first, false)
		holds(t, s, first)
		if err := s.Put(t.Context(), file, second, false); !errors.Is(err, source.ErrExists) {
			t.Errorf("put again: %v, want %v", err, source.ErrExists)
		}
		holds(t, s, first)
	})
	t.Run("replaces when told to", func(t *testing.T) {
		s := open(t)
		put(t, s, first, true)
		put(t, s, second, true)
		holds(t, s, second)
	})
	t.Run("bounds what it reads", func(t *testing.T) {
		s := open(t)
		put(t, s, first, false)
		if _, err := s.Get(t.Context(), file, int64(len(first)-1)); !errors.Is(err, htlcdash.ErrCorrupt) {
			t.Errorf("got %v, want %v", err, htlcdash.ErrCorrupt)
		}
	})
	t.Run("lets one of many writers win", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		var won atomic.Int64
		for i := range 8 {
			wg.Go(func() {
				err := s.Put(t.Context(), file, []byte{byte(i)}, false)
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, source.ErrExists) {
					t.Errorf("put: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d writers of 8 made the same file", won.Load())
		}
	})
	t.Run("takes many files at once", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				b, data := Blob(byte(i), htlcdash.LeafSize)
				path := htlcdash.SealedPath(b.Root)
				if err := s.Put(t.Context(), path, data, false); err != nil {
					t.Errorf("put: %v", err)
				}
				if got, err := s.Get(t.Context(), path, b.Length); err != nil || !b.Is(got) {
					t.Errorf("get: %d bytes, %v", len(got), err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("heeds its context", func(t *testing.T) {
		s := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for what, err := range map[string]error{
			"put":  s.Put(ctx, file, first, false),
			"stat": fault(s.Stat(ctx, file)),
			"get":  fault(s.Get(ctx, file, 1000)),
		} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v, want %v", what, err, context.Canceled)
			}
		}
	})
	t.Run("has a name", func(t *testing.T) {
		if _, ok := open(t).(fmt.Stringer); !ok {
			t.Error("errors could not say which store it is")
		}
	})
}

func fault[T any](_ T, err error) error { return err }
