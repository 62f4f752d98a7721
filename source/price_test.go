package source_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/sourcetest"
)

// A slowToll is a source that is paid, and late.
type slowToll struct {
	toll
	late  time.Duration
	opens *atomic.Int64
}

func (s slowToll) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	s.opens.Add(1)
	select {
	case <-time.After(s.late):
		return s.toll.Open(ctx, b)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Free sources are asked first, then by price, whatever order they are given in.
func TestTheCheapestIsAskedFirst(t *testing.T) {
	b, data := sourcetest.Blob(1, htlcdash.LeafSize)
	full, empty := map[htlcdash.Blob][]byte{b: data}, map[htlcdash.Blob][]byte{}
	for name, has := range map[string]int{"free": 0, "cheap": 1, "dear": 2} {
		var asked [3]*sourcetest.Memory
		for i := range asked {
			asked[i] = sourcetest.NewMemory(empty)
			if i == has {
				asked[i] = sourcetest.NewMemory(full)
			}
		}
		l, err := source.NewLibrary(source.Options{}, toll{asked[2], 20}, asked[0], toll{asked[1], 10})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Get(t.Context(), b); err != nil {
			t.Fatal(name, err)
		}
		for i, m := range asked {
			if want := i <= has; (m.Opens() > 0) != want {
				t.Errorf("only the %s one has it: number %d was asked %d times", name, i, m.Opens())
			}
		}
	}
}

// Beside one that takes money and is late, only free ones are asked.
func TestHasteIsNotPaidTwice(t *testing.T) {
	for _, free := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b, data := sourcetest.Blob(1, htlcdash.LeafSize)
			var first, second atomic.Int64
			has := map[htlcdash.Blob][]byte{b: data}
			price := lightning.Msat(20)
			if free {
				price = 0
			}
			l, err := source.NewLibrary(source.Options{},
				slowToll{toll{sourcetest.NewMemory(has), 10}, 4 * time.Second, &first},
				slowToll{toll{sourcetest.NewMemory(map[htlcdash.Blob][]byte{}), price}, 0, &second})
			if err != nil {
				t.Fatal(err)
			}
			if free { // it is asked first, and has nothing
				second.Add(-1)
			}
			if _, err := l.Get(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if first.Load() != 1 || second.Load() != 0 {
				t.Errorf("free %v: the late one was asked %d times, the other %d times beside it", free, first.Load(), second.Load())
			}
		})
	}
}
