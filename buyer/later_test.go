package buyer_test

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"htlcdash/buyer"
	"htlcdash/internal/exchange"
)

// later has s put off whoever asks for offers.
func (s *shop) later(seconds int) (putOff *atomic.Bool) {
	putOff = new(atomic.Bool)
	putOff.Store(true)
	s.answer = func(w http.ResponseWriter, _ []byte) bool {
		if !putOff.Load() {
			return false
		}
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	return putOff
}

func stateOf(t *testing.T, b *buyer.Buyer, w *world, s *shop) string {
	t.Helper()
	for _, st := range b.Standing(w.title) {
		if st.Provider == s.URL {
			return st.State
		}
	}
	t.Fatalf("%s has no standing", s.URL)
	return ""
}

// Who asks us to wait, as many viewers at one address make it do, is not shunned for
// that, and sells again as soon as it will; but not for ever.
func TestPutOffIsNotRefused(t *testing.T) {
	w := newWorld(t, 2)
	s, c := w.shop(t, "busy"), w.config(t)
	putOff := s.later(0)
	b := w.open(t, c, s)
	for range 8 {
		_, err := b.Segment(t.Context(), w.segs[0])
		wantErr(t, err, exchange.ErrRefused)
	}
	if state := stateOf(t, b, w, s); state == "shunned" {
		t.Errorf("%d requests to wait, and it is %s", s.requests.Load(), state)
	}
	putOff.Store(false)
	w.buy(t, b, 0)
	putOff.Store(true)
	for range 20 {
		_, err := b.Segment(t.Context(), w.segs[1])
		wantErr(t, err, exchange.ErrRefused)
	}
	if state := stateOf(t, b, w, s); state != "shunned" {
		t.Errorf("it put us off %d times and is %q", s.requests.Load(), state)
	}
	w.wantBooks(t, c, b, price)
}

// Who asks us to wait is left alone while others sell.
func TestPutOffIsLeftAlone(t *testing.T) {
	w := newWorld(t, 6)
	busy, good, c := w.shop(t, "busy"), w.shop(t, "good"), w.config(t)
	busy.later(3600) // more than a minute is not granted
	b := w.open(t, c, busy, good)
	for i := range w.segs {
		w.buy(t, b, i)
	}
	if n := busy.requests.Load(); n > 1 {
		t.Errorf("asked %d times, want once", n)
	}
	w.wantBooks(t, c, b, 6*price)
}
