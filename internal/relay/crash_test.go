package relay_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/ledger"
	"htlcdash/internal/relay"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A crash stops a relay at a step, as kill -9 does: nothing is written from there
// on.
type crash struct {
	at      string
	h       *house
	once    sync.Once
	crashed chan struct{} // closed when it has
	end     chan struct{} // closed when its goroutines may go on
}

func crashAt(t *testing.T, h *house, step string) *crash {
	c := &crash{at: step, h: h, crashed: make(chan struct{}), end: make(chan struct{})}
	h.config = func(rc *relay.Config) { rc.Step = c.step }
	h.buying = func(bc *buyer.Config) { bc.Step = c.step }
	return c
}

func (c *crash) step(step string) {
	select {
	case <-c.crashed: // others of the same program stop at their next step
		<-c.end
		return
	default:
	}
	if step == c.at {
		c.now()
		<-c.end
	}
}

func (c *crash) now() {
	c.once.Do(func() {
		c.h.face.Store(nil)
		c.h.books.Close()
		close(c.crashed)
	})
}

// TestCrash kills the relay at each step of a resale. Then it is opened again: the
// viewer gets its segment, and whatever was paid is paid once on either side.
func TestCrash(t *testing.T) {
	for _, step := range []string{
		"invoice",       // the node has the hold invoice, the books do not
		"offered",       // the books have it, the viewer does not
		"held",          // the viewer has paid
		"before-intent", // the relay is about to pay, and the books do not say so
		"intent",        // the books say so, the node does not
		"out",           // the payment to upstream is on its way, and settles while nobody looks
		"paid",          // it was settled, and the books do not say so
		"key",           // the key is in the books
		"bought",        // the relay is about to take the viewer's payment
		"taken",         // it has, and the books do not say so
	} {
		t.Run(step, func(t *testing.T) {
			w := newTown(t)
			r := w.house(t, "relay", w.origin)
			c := crashAt(t, r, step)
			if step == "out" {
				r.node.Order(sim.Stall)
			}
			r.open(t)
			v := w.viewerWith(t, "viewer", func(c *buyer.Config) { c.Patience = time.Minute }, r)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			seg := w.film.Segments(t, "v0")[0]
			asked := make(chan error, 1)
			go func() {
				_, err := v.Segment(ctx, seg)
				asked <- err
			}()
			if step == "out" {
				h := awaitOut(t, r)
				c.now()
				w.net.Release(h, true)
			}
			<-c.crashed
			w.net.Wait()
			if step == "invoice" || step == "offered" {
				cancel() // it would wait for an answer that never comes
				<-asked
			}
			reopen(t, c)
			if step == "invoice" || step == "offered" {
				v.play(t, "v0", 0)
			} else {
				must(t, <-asked)
			}
			v.play(t, "v0", 0) // and it is owned
			v.wantSpent(t, price+margin)
			r.wantAccount(t, account{earned: price + margin, spent: price})
			w.origin.wantAccount(t, account{earned: price})
			left := 0
			if step == "offered" {
				left = 1 // which nobody will pay
			}
			eventually(t, "the resales have ended", func() bool { return len(r.openResales(t)) == left })
			// The next viewer is sold the same key.
			w.viewer(t, "next", r).play(t, "v0", 0)
			w.origin.wantAccount(t, account{earned: price})
		})
	}
}

// reopen opens a house that has crashed. What is left of the crashed program stands
// still until the test ends.
func reopen(t *testing.T, c *crash) {
	t.Helper()
	t.Cleanup(func() { close(c.end) }) // before the house is closed, so that its goroutines end
	c.h.config, c.h.buying = nil, nil
	c.h.open(t)
}

// awaitOut waits for a payment of the relay that hangs on its way.
func awaitOut(t *testing.T, h *house) (out lightning.Hash) {
	t.Helper()
	eventually(t, "a payment of "+h.name+" is out", func() bool {
		for p, err := range h.books.Purchases(t.Context(), ledger.Filter{Unsettled: true}) {
			must(t, err)
			if known, err := h.node.Lookup(t.Context(), p.Hash); err == nil && known.State == lightning.Unknown {
				out = p.Hash
				return true
			}
		}
		return false
	})
	h.net.Wait()
	return out
}

// TestCrashAndTheHoldIsGone: the relay comes back when the viewer's payment has timed
// out. It pays nobody for it; what it had paid before leaves it the key.
func TestCrashAndTheHoldIsGone(t *testing.T) {
	for _, c := range []struct {
		step  string
		spent lightning.Msat
		state ledger.ResaleState
	}{
		{"held", 0, ledger.ResaleCancelled},
		{"out", price, ledger.ResaleLost},
		{"bought", price, ledger.ResaleLost},
	} {
		t.Run(c.step, func(t *testing.T) {
			w := newTown(t)
			r := w.house(t, "relay", w.origin)
			crash := crashAt(t, r, c.step)
			if c.step == "out" {
				r.node.Order(sim.Stall)
			}
			r.open(t)
			v := w.viewer(t, "viewer", r)
			asked := make(chan error, 1)
			go func() { asked <- v.try(t, "v0", 0) }()
			if c.step == "out" {
				h := awaitOut(t, r)
				crash.now()
				w.net.Release(h, true)
			}
			<-crash.crashed
			w.net.Mine(blocks + 2*lightning.Padding + relay.Route + relay.Reserve - lightning.Release)
			wantErr(t, <-asked, lightning.ErrFailed)
			open := openOf(t, r)
			reopen(t, crash)
			eventually(t, "the resale has ended", func() bool { return len(r.openResales(t)) == 0 })
			ended, err := r.books.Resale(t.Context(), open[0].Guest, open[0].Counter)
			must(t, err)
			if ended.State != c.state {
				t.Errorf("it is %v: %s", ended.State, ended.Reason)
			}
			v.wantSpent(t, 0)
			r.wantAccount(t, account{spent: c.spent})
			v.play(t, "v0", 0)
			w.origin.wantAccount(t, account{earned: price}) // once, in any case
		})
	}
}

// openOf reads what is open in the books of a house that has crashed.
func openOf(t *testing.T, h *house) []ledger.Resale {
	t.Helper()
	books, err := ledger.OpenReader(filepath.Join(h.dir, "ledger.db"))
	must(t, err)
	defer books.Close()
	open, err := books.OpenResales(t.Context())
	must(t, err)
	return open
}

// Offers outlive a restart of the relay: they are proved and paid as before.
func TestOffersOutliveARestart(t *testing.T) {
	w := newTown(t)
	r := w.house(t, "relay", w.origin)
	r.open(t)
	v := w.viewer(t, "viewer", r)
	segs := w.film.Segments(t, "v0")
	must(t, v.Ready(t.Context(), segs[0])) // offer and proof
	v.Prepare(t.Context(), segs[1:2])      // an offer
	r.closed()
	r.open(t)
	if n := len(r.openResales(t)); n != 2 {
		t.Fatalf("%d resales are open, want 2", n)
	}
	v.play(t, "v0", 0)
	v.play(t, "v0", 1)
	r.wantAccount(t, account{earned: 2 * (price + margin), spent: 2 * price})
	if n := len(r.openResales(t)); n != 0 {
		t.Errorf("%d resales are open; the viewer took others", n)
	}
}

// A forgetful buyer reads no quotes of earlier runs, for some times.
type forgetful struct {
	relay.Buyer
	err   error
	times atomic.Int64
}

func (f *forgetful) ResaleOf(ctx context.Context, record []byte) (*buyer.Resale, error) {
	if f.times.Add(-1) >= 0 {
		return nil, f.err
	}
	return f.Buyer.ResaleOf(ctx, record)
}

// A quote of an earlier run that is not read, at first or at all, makes no difference
// to what was paid for it.
func TestQuoteThatIsNotRead(t *testing.T) {
	const everyTime = 1 << 60
	for name, c := range map[string]struct {
		step  string
		err   error
		times int64
		want  account
	}{
		"paid, and not at first":     {"bought", errors.New("the disk is busy"), 2, account{earned: price + margin, spent: price}},
		"paid, and never":            {"bought", htlcdash.ErrFormat, everyTime, account{earned: price + margin, spent: price}},
		"not paid, and not at first": {"held", errors.New("the disk is busy"), 2, account{earned: price + margin, spent: price}},
		"not paid, and never":        {"held", htlcdash.ErrFormat, everyTime, account{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t)
			r := w.house(t, "relay", w.origin)
			crash := crashAt(t, r, c.step)
			r.open(t)
			v := w.viewerWith(t, "viewer", func(c *buyer.Config) { c.Patience = time.Minute }, r)
			asked := make(chan error, 1)
			go func() { asked <- v.try(t, "v0", 0) }()
			<-crash.crashed
			w.net.Wait()
			t.Cleanup(func() { close(crash.end) })
			r.buying = nil
			r.config = func(rc *relay.Config) {
				f := &forgetful{Buyer: rc.Buyer, err: c.err}
				f.times.Store(c.times)
				rc.Buyer = f
			}
			r.open(t)
			if err := <-asked; c.want.earned > 0 {
				must(t, err)
			} else {
				wantErr(t, err, lightning.ErrFailed)
			}
			r.wantAccount(t, c.want)
			v.wantSpent(t, c.want.earned)
			eventually(t, "the resale has ended", func() bool { return len(r.openResales(t)) == 0 })
		})
	}
}
