package join_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"htlcdash/internal/join"
)

func TestSharedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g join.Group[string, int]
		gate := make(chan struct{})
		runs := 0
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				v, err := g.Do(t.Context(), "a", func(context.Context) (int, error) {
					runs++
					<-gate
					return 7, nil
				})
				if v != 7 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		if runs != 1 {
			t.Errorf("ran %d times", runs)
		}
	})
}

// The first caller's end does not end what a second still wants; the last
// one's does, and who comes after that is not served a cancelled result.
func TestLastCallerEndsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g join.Group[string, int]
		ended := false
		work := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			ended = true
			return 0, ctx.Err()
		}
		first, leaveFirst := context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, ctx := range []context.Context{first, second} {
			wg.Go(func() {
				if _, err := g.Do(ctx, "a", work); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		leaveFirst()
		synctest.Wait()
		if ended {
			t.Fatal("work ended with its first caller")
		}
		leaveSecond()
		synctest.Wait()
		if !ended {
			t.Fatal("work goes on for nobody")
		}
		if v, err := g.Do(t.Context(), "a", func(context.Context) (int, error) { return 3, nil }); v != 3 || err != nil {
			t.Errorf("after that: %d, %v", v, err)
		}
		wg.Wait()
	})
}
