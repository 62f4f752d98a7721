package seller_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash/internal/seller"
)

// When more is asked for than can be done in time, who asks for much is told so at
// once, and until when; who asks for little still has a turn.
func TestOverloadIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := seller.PatientLanes(1, 3*time.Second)
		var greedy, modest seller.Lane
		work := func(l *seller.Lane) error {
			leave, err := q.Enter(t.Context(), l)
			if err == nil {
				time.Sleep(time.Second)
				leave()
			}
			return err
		}
		if err := work(&greedy); err != nil { // now it is known how long one takes
			t.Fatal(err)
		}
		began := time.Now()
		errs := make(chan error, 16)
		for range 8 {
			go func() { errs <- work(&greedy) }()
			synctest.Wait()
		}
		refused := 0
		for len(errs) > 0 {
			err := <-errs
			wait, ok := seller.OverloadOf(err)
			if !ok || wait <= 3*time.Second || wait > 5*time.Second {
				t.Errorf("refused with %v", err)
			}
			refused++
		}
		if refused != 4 || time.Since(began) != 0 { // one works, and three wait
			t.Errorf("%d were refused, after %v", refused, time.Since(began))
		}
		if err := work(&modest); err != nil {
			t.Errorf("who asks for one is refused: %v", err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("who asks for one has waited for %v", took)
		}
		time.Sleep(time.Minute) // all have ended
	})
}

// Work for who has gone is not done.
func TestNoWorkForWhoHasGone(t *testing.T) {
	q := seller.NewLanes(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // both a worker and the end are there: neither is to win by chance
		if _, err := q.Enter(ctx, new(seller.Lane)); !errors.Is(err, context.Canceled) {
			t.Fatalf("it got a worker: %v", err)
		}
	}
	leave, err := q.Enter(t.Context(), new(seller.Lane))
	if err != nil {
		t.Fatal(err)
	}
	leave()
}
