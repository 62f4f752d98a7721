package buyer_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash/buyer"
	"htlcdash/internal/exchange"
)

// Patience follows what is measured: a second where answers are quick, and more than
// the slowest where all are slow, so that nobody else is asked for nothing.
func TestPatienceFollowsAnswers(t *testing.T) {
	quick, slow := new(buyer.Pace), new(buyer.Pace)
	for i := range 50 {
		quick.Saw(time.Duration(20+i%10) * time.Millisecond)
		slow.Saw(time.Duration(5+i%3) * time.Second)
	}
	unknown := new(buyer.Pace)
	for _, c := range []struct {
		name        string
		own, all    *buyer.Pace
		least, most time.Duration
	}{
		{"nothing is known", unknown, unknown, 3 * time.Second, 4 * time.Second},
		{"all are quick", quick, quick, time.Second, 1200 * time.Millisecond},
		{"all are slow", slow, slow, 7 * time.Second, 15 * time.Second},
		{"a stranger where all are slow", unknown, slow, 7 * time.Second, 15 * time.Second},
		{"it was quick, and now all are slow", quick, slow, 7 * time.Second, 15 * time.Second},
	} {
		for range 20 { // it is drawn within bounds
			if got := buyer.PatienceWith(c.own, c.all); got < c.least || got > c.most {
				t.Errorf("%s: %v, want %v to %v", c.name, got, c.least, c.most)
			}
		}
	}
	before := quick.Patience()
	quick.Waited(time.Millisecond)
	if got := quick.Patience(); got != before {
		t.Errorf("to have waited for no time has changed it from %v to %v", before, got)
	}
	quick.Waited(10 * time.Second)
	if got := quick.Patience(); got < 5*time.Second {
		t.Errorf("to have waited for ten seconds in vain leaves it at %v", got)
	}
}

// However many are late, few are asked for a second time.
func TestSecondRequestsAreRationed(t *testing.T) {
	if got := buyer.SecondRequests(3); got != 3 {
		t.Errorf("of the first 3 late ones %d are hedged", got)
	}
	if got := buyer.SecondRequests(1000); got < 195 || got > 205 {
		t.Errorf("of 1000 late ones %d are hedged, want a fifth", got)
	}
}

// Who has too much to do and says until when is left alone until then, also where
// nobody else sells.
func TestOverloadIsHeeded(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "busy"), w.config(t)
	var first, again atomic.Int64
	s.answer = func(rw http.ResponseWriter, _ []byte) bool {
		now := time.Now().UnixNano()
		if !first.CompareAndSwap(0, now) {
			again.CompareAndSwap(0, now)
			return false
		}
		rw.Header().Set("Retry-After", "1")
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	b := w.open(t, c, s)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, exchange.ErrRefused)
	w.buy(t, b, 0)
	if gap := time.Duration(again.Load() - first.Load()); gap < time.Second {
		t.Errorf("asked again after %v, want a second at least", gap)
	}
	if state := stateOf(t, b, w, s); state == "shunned" {
		t.Error("it is shunned")
	}
	w.wantBooks(t, c, b, price)
}

// Segments that one key opens and that are wanted at once need one offer and one proof.
func TestOneProofForAKey(t *testing.T) {
	w := newGroups(t, 1, 8)
	s, c := w.proving(t, "shop"), w.careful(t)
	var proofs atomic.Int64
	s.lie = func(*exchange.ProofRequest, *exchange.Offer) { proofs.Add(1) }
	b := w.open(t, c, s)
	var work sync.WaitGroup
	for i := range w.segs {
		work.Go(func() { _ = b.Ready(t.Context(), w.segs[i]) })
		work.Go(func() { w.buy(t, b, i) })
	}
	work.Wait()
	if n := s.requests.Load(); n != 1 || proofs.Load() != 1 {
		t.Errorf("%d offers and %d proofs, want one of each", n, proofs.Load())
	}
	w.wantBooks(t, c, b, price)
}
