// Package sourcetest is the suite that every source passes, and sources that
// lie, for tests of those who ask them.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"htlcdash"
	"htlcdash/source"
)

// Blob makes n bytes that differ by seed, and their name.
func Blob(seed byte, n int) (htlcdash.Blob, []byte) {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return htlcdash.Blob{Root: htlcdash.RootOf(data), Length: int64(n)}, data
}

// Run holds a source to the contract of source.Source. open returns one that
// holds exactly the blobs.
func Run(t *testing.T, open func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source) {
	blobs := make(map[htlcdash.Blob][]byte)
	for seed, n := range []int{htlcdash.LeafSize, 3 * htlcdash.LeafSize, 1 << 20} {
		b, data := Blob(byte(seed), n)
		blobs[b] = data
	}
	absent, _ := Blob(100, htlcdash.LeafSize)

	t.Run("gives the bytes to the end", func(t *testing.T) {
		s := open(t, blobs)
		for b, data := range blobs {
			wantBytes(t, s, b, data)
		}
	})
	t.Run("says what it has not", func(t *testing.T) {
		if _, err := open(t, blobs).Open(t.Context(), absent); !errors.Is(err, htlcdash.ErrNotFound) {
			t.Errorf("got %v, want %v", err, htlcdash.ErrNotFound)
		}
	})
	t.Run("never passes off another length", func(t *testing.T) {
		s := open(t, blobs)
		for b, data := range blobs {
			wantOtherLength(t, s, htlcdash.Blob{Root: b.Root, Length: b.Length + htlcdash.LeafSize}, data)
		}
	})
	t.Run("tells what it has", func(t *testing.T) {
		s, ok := open(t, blobs).(source.Prober)
		if !ok {
			return // it need not
		}
		for b := range blobs {
			if err := s.Has(t.Context(), b); err != nil {
				t.Errorf("%d bytes: %v", b.Length, err)
			}
			if err := s.Has(t.Context(), htlcdash.Blob{Root: b.Root, Length: b.Length + htlcdash.LeafSize}); err == nil {
				t.Error("it says that it has another length")
			}
		}
		if err := s.Has(t.Context(), absent); !errors.Is(err, htlcdash.ErrNotFound) {
			t.Errorf("got %v, want %v", err, htlcdash.ErrNotFound)
		}
	})
	t.Run("serves many at once", func(t *testing.T) {
		s := open(t, blobs)
		var wg sync.WaitGroup
		for range 8 {
			for b, data := range blobs {
				wg.Go(func() { wantBytes(t, s, b, data) })
			}
		}
		wg.Wait()
	})
	t.Run("may be closed half way", func(t *testing.T) {
		s := open(t, blobs)
		for b, data := range blobs {
			rc, err := s.Open(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(rc, make([]byte, 10)); err != nil {
				t.Error(err)
			}
			if err := rc.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			wantBytes(t, s, b, data)
		}
	})
	t.Run("heeds its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for b := range blobs {
			rc, err := open(t, blobs).Open(ctx, b)
			if err == nil {
				rc.Close()
				t.Error("opened although the context had ended")
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want %v", err, context.Canceled)
			}
		}
	})
}

func wantBytes(t *testing.T, s source.Source, b htlcdash.Blob, want []byte) {
	t.Helper()
	rc, err := s.Open(t.Context(), b)
	if err != nil {
		t.Error(err)
		return
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	if err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that are not the %d asked for", b.Root, len(got), len(want))
	}
}

// wantOtherLength accepts an error, or the true bytes, whose length tells.
func wantOtherLength(t *testing.T, s source.Source, b htlcdash.Blob, data []byte) {
	t.Helper()
	rc, err := s.Open(t.Context(), b)
	if err != nil {
		return
	}
	defer rc.Close()
	if got, err := io.ReadAll(rc); err == nil && !bytes.Equal(got, data) {
		t.Errorf("%s: made-up bytes", b.Root)
	}
}

// A Memory is an honest source, which counts how often it was asked.
type Memory struct {
	mu    sync.Mutex
	blobs map[htlcdash.Blob][]byte
	opens int
}

// NewMemory returns a source of blobs.
func NewMemory(blobs map[htlcdash.Blob][]byte) *Memory { return &Memory{blobs: blobs} }

// Opens is how often Open was called.
func (m *Memory) Opens() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opens
}

// Open implements source.Source.
func (m *Memory) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opens++
	data, ok := m.blobs[b]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !ok:
		return nil, htlcdash.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// A Liar is a source that does what its function says with the true bytes.
type Liar struct {
	True map[htlcdash.Blob][]byte
	Lie  func(ctx context.Context, data []byte) (io.Reader, error)
}

// Open implements source.Source.
func (l Liar) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	r, err := l.Lie(ctx, bytes.Clone(l.True[b]))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}

// Lies are ways to fail, and the error that a library gives for each when no
// other source helps.
func Lies() []struct {
	Name string
	Lie  func(ctx context.Context, data []byte) (io.Reader, error)
	Want error
} {
	broken := errors.New("connection broke")
	return []struct {
		Name string
		Lie  func(ctx context.Context, data []byte) (io.Reader, error)
		Want error
	}{
		{"wrong bytes", func(_ context.Context, data []byte) (io.Reader, error) {
			data[len(data)/2] ^= 1
			return bytes.NewReader(data), nil
		}, htlcdash.ErrCorrupt},
		{"too short", func(_ context.Context, data []byte) (io.Reader, error) {
			return bytes.NewReader(data[1:]), nil
		}, htlcdash.ErrCorrupt},
		{"too long", func(_ context.Context, data []byte) (io.Reader, error) {
			return bytes.NewReader(append(data, 0)), nil
		}, htlcdash.ErrCorrupt},
		{"endless", func(_ context.Context, data []byte) (io.Reader, error) {
			return endless{}, nil
		}, htlcdash.ErrCorrupt},
		{"nothing", func(context.Context, []byte) (io.Reader, error) {
			return bytes.NewReader(nil), nil
		}, htlcdash.ErrCorrupt},
		{"cut", func(_ context.Context, data []byte) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(data[:len(data)/2]), failing{broken}), nil
		}, nil},
		{"refuses", func(context.Context, []byte) (io.Reader, error) { return nil, broken }, nil},
		{"stalls at once", func(ctx context.Context, _ []byte) (io.Reader, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, source.ErrStalled},
		{"stalls half way", func(ctx context.Context, data []byte) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(data[:len(data)/2]), stalling{ctx}), nil
		}, source.ErrStalled},
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type stalling struct{ ctx context.Context }

func (s stalling) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}
