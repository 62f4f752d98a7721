package relay_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/relay"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// Where upstream certainly does not deliver, the viewer has its money back at once,
// and buys elsewhere. Nobody loses anything.
func TestUpstreamFails(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(t *testing.T, w *town, r *house)
	}{
		{"the payment to it fails", func(_ *testing.T, _ *town, r *house) { r.node.Order(sim.Refuse) }},
		{"its node is gone", func(_ *testing.T, w *town, _ *house) { w.origin.node.Down() }},
		{"its invoice was cancelled", func(t *testing.T, w *town, r *house) {
			must(t, w.origin.node.Cancel(t.Context(), r.openResales(t)[0].Hash))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTown(t)
			r := w.house(t, "relay", w.origin)
			other := w.house(t, "other") // another origin
			other.open(t)
			r.open(t)
			v := w.viewer(t, "viewer", r)
			must(t, v.Ready(t.Context(), w.film.Segments(t, "v0")[0]))
			c.fail(t, w, r)
			wantErr(t, v.try(t, "v0", 0), lightning.ErrFailed)
			eventually(t, "the resale has ended", func() bool { return len(r.openResales(t)) == 0 })
			w.origin.node.Up()
			v.wantSpent(t, 0)
			r.wantAccount(t, account{})

			must(t, v.AddTitle(t.Context(), w.film.ID, 3000, providers(t, []*house{other})))
			w.net.Connect(v.node, other.node, funds, 0)
			v.from = append(v.from, other)
			v.play(t, "v0", 0)
			v.wantSpent(t, price)
			r.wantAccount(t, account{})
		})
	}
}

// A provider that holds the relay's payment holds the viewer's. When the one times
// out, in the blocks that the relay allowed, the other is given back, before it
// would time out itself. No more is sent to who holds one.
func TestUpstreamHangs(t *testing.T) {
	for _, settles := range []bool{false, true} {
		w := newTown(t)
		r := w.house(t, "relay", w.origin)
		r.buying = func(c *buyer.Config) { c.Patience = time.Second } // so that it hangs soon
		r.node.Order(sim.Stall)
		r.open(t)
		v := w.viewerWith(t, "viewer", func(c *buyer.Config) { c.Patience = 2 * time.Minute }, r)
		other := w.viewer(t, "other", r)
		must(t, other.Ready(t.Context(), w.film.Segments(t, "v0")[1]))
		asked := make(chan error, 1)
		go func() { asked <- v.try(t, "v0", 0) }()
		h := awaitOut(t, r)
		eventually(t, "it counts as hanging", func() bool { return r.buyer.Standing(w.film.ID)[0].State == "hanging" })
		wantErr(t, other.try(t, "v0", 1), lightning.ErrFailed) // at once
		other.wantSpent(t, 0)

		// One block less than its lock: both are held.
		const timeout = blocks + lightning.Padding
		w.net.Mine(timeout - 1)
		if held, err := r.node.AwaitHeld(t.Context(), h); err != nil || held.Blocks < relay.Reserve {
			t.Fatalf("the viewer's payment is held for %d blocks, %v", held.Blocks, err)
		}
		if settles {
			w.net.Release(h, true)
			must(t, <-asked)
			v.wantSpent(t, price+margin)
			r.wantAccount(t, account{earned: price + margin, spent: price})
			continue
		}
		w.net.Mine(1)
		wantErr(t, <-asked, lightning.ErrFailed)
		v.wantSpent(t, 0)
		r.wantAccount(t, account{})
		w.origin.wantAccount(t, account{})
	}
}

// The relay's node is down when the viewer pays, and while upstream holds: nothing is
// given back that may have been paid for, and nothing is paid twice.
func TestRelaysNodeIsDown(t *testing.T) {
	w := newTown(t)
	r := w.house(t, "relay", w.origin)
	r.node.Order(sim.Stall)
	r.open(t)
	v := w.viewerWith(t, "viewer", func(c *buyer.Config) { c.Patience = 2 * time.Minute }, r)
	asked := make(chan error, 1)
	go func() { asked <- v.try(t, "v0", 0) }()
	h := awaitOut(t, r)
	r.node.Down()
	r.node.Up()
	w.net.Release(h, true)
	must(t, <-asked)
	v.wantSpent(t, price+margin)
	r.wantAccount(t, account{earned: price + margin, spent: price})
	w.origin.wantAccount(t, account{earned: price})
}

// An upstream and a viewer who are one: it sells a preimage that opens nothing, to a
// viewer who asks for no proof. The relay has its margin all the same, accuses
// nobody falsely, and honest viewers buy nothing of it.
func TestCollusionAgainstTheRelay(t *testing.T) {
	w := newTown(t)
	liar := w.house(t, "liar")
	liar.open(t)
	liar.tamper(t, liar.key(), func(_ htlcdash.Segment, o *exchange.Offer) {
		inv, err := liar.node.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: o.Price, Expiry: 10 * time.Minute})
		must(t, err)
		o.Hash, o.Invoice = inv.Hash, inv.Bolt11
	})
	r := w.house(t, "relay", liar)
	complaints := 0
	r.buying = func(c *buyer.Config) {
		c.Complain = func([]byte) (string, error) { complaints++; return "complaint", nil }
	}
	r.open(t)

	honest := w.viewer(t, "honest", r)
	wantErr(t, honest.try(t, "v0", 0), buyer.ErrUnproved)
	honest.wantSpent(t, 0)

	accused := 0
	one := w.viewerWith(t, "one", func(c *buyer.Config) {
		c.Proofs, c.Unproved = nil, true
		c.Complain = func([]byte) (string, error) { accused++; return "complaint", nil }
	}, r)
	wantErr(t, one.try(t, "v0", 0), buyer.ErrCheated)
	one.wantSpent(t, price+margin)
	r.wantAccount(t, account{earned: price + margin, spent: price})
	if accused != 0 {
		t.Error("the relay is accused of a key that it never promised")
	}
	eventually(t, "the liar is accused", func() bool { return complaints == 1 })
	wantErr(t, honest.try(t, "v0", 1), buyer.ErrNoOffer) // it is banned
	r.wantAccount(t, account{earned: price + margin, spent: price})
}

// In a chain the relay in the middle cannot know. It is asked last for a while, and not
// banned as a cheat.
func TestCollusionBehindARelay(t *testing.T) {
	w := newTown(t)
	liar := w.house(t, "liar")
	liar.open(t)
	liar.tamper(t, liar.key(), func(_ htlcdash.Segment, o *exchange.Offer) {
		inv, err := liar.node.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: o.Price, Expiry: 10 * time.Minute})
		must(t, err)
		o.Hash, o.Invoice = inv.Hash, inv.Bolt11
	})
	first := w.house(t, "first", liar)
	first.open(t)
	second := w.house(t, "second", first)
	complaints := 0
	second.buying = func(c *buyer.Config) {
		c.Complain = func([]byte) (string, error) { complaints++; return "complaint", nil }
	}
	second.open(t)
	one := w.viewerWith(t, "one", func(c *buyer.Config) { c.Proofs, c.Unproved = nil, true }, second)
	wantErr(t, one.try(t, "v0", 0), buyer.ErrCheated)
	second.wantAccount(t, account{earned: price + 2*margin, spent: price + margin})
	first.wantAccount(t, account{earned: price + margin, spent: price})
	if s := second.buyer.Standing(w.film.ID)[0]; s.State == "banned" || complaints != 0 {
		t.Errorf("the honest relay is %s, %d complaints", s.State, complaints)
	}
}

// Upstream asks more the next time: the next offer is dearer, or there is none. What
// was offered before holds.
func TestUpstreamAsksMore(t *testing.T) {
	w := newTown(t)
	r := w.house(t, "relay", w.origin)
	r.open(t)
	v := w.viewer(t, "viewer", r)
	segs := w.film.Segments(t, "v0")
	must(t, v.Ready(t.Context(), segs[0]))
	asks := 700 * lightning.Msat(1)
	w.origin.reprice(t, &asks)
	v.play(t, "v0", 0)
	v.wantSpent(t, price+margin)
	v.play(t, "v0", 1)
	v.wantSpent(t, price+margin+700+margin)
	asks = 950 // with the margin, more than the publisher asks
	wantErr(t, v.try(t, "v0", 2), buyer.ErrNoOffer)
	r.wantAccount(t, account{earned: price + 700 + 2*margin, spent: price + 700})
}

// Only so much is under way upstream at a time; what is beyond it is given back.
func TestFlightIsBounded(t *testing.T) {
	for name, bound := range map[string]func(*relay.Config){
		"money":        func(c *relay.Config) { c.MaxFlight = price + 20 },
		"per upstream": func(c *relay.Config) { c.PerUpstream = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t)
			r := w.house(t, "relay", w.origin)
			r.config = bound
			r.node.Order(sim.Stall)
			r.open(t)
			v := w.viewerWith(t, "viewer", func(c *buyer.Config) { c.Patience = 2 * time.Minute }, r)
			other := w.viewer(t, "other", r)
			asked := make(chan error, 1)
			go func() { asked <- v.try(t, "v0", 0) }()
			h := awaitOut(t, r)
			wantErr(t, other.try(t, "v0", 1), lightning.ErrFailed)
			w.net.Release(h, true)
			must(t, <-asked)
			r.wantAccount(t, account{earned: price + margin, spent: price})
			other.wantSpent(t, 0)
		})
	}
}

// A viewer who never pays costs nothing but offers, and one who pays twice is refused
// by the node.
func TestViewerPaysNeverOrTwice(t *testing.T) {
	w := newTown(t)
	r := w.house(t, "relay", w.origin)
	r.open(t)
	lazy := w.viewer(t, "lazy", r)
	lazy.Prepare(t.Context(), w.film.Segments(t, "v0"))
	if n := len(r.openResales(t)); n != 5 {
		t.Errorf("%d are open, want 5", n)
	}
	r.wantAccount(t, account{})
	w.origin.wantAccount(t, account{})

	v := w.viewer(t, "viewer", r)
	v.play(t, "v0", 0)
	var inv lightning.Invoice
	for p, err := range v.books.Purchases(t.Context(), ledger.Filter{Paid: true}) {
		must(t, err)
		inv, err = lightning.DecodeInvoice(p.Bolt11)
		must(t, err)
	}
	thief := w.net.Node("thief")
	w.net.Connect(thief, r.node, funds, 0)
	_, err := thief.Pay(t.Context(), inv, 0)
	wantErr(t, err, lightning.ErrFailed)
	r.wantAccount(t, account{earned: price + margin, spent: price})
}

// A relay against its viewer: whatever it changes, nothing is paid.
func TestHostileRelay(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   error
		change func(w *town, r *house, seg htlcdash.Segment, o *exchange.Offer)
	}{
		{"names itself as the prover", buyer.ErrUnproved, func(_ *town, r *house, _ htlcdash.Segment, o *exchange.Offer) { o.Prover = r.key().ID() }},
		{"hides the prover", buyer.ErrUnproved, func(_ *town, _ *house, _ htlcdash.Segment, o *exchange.Offer) { o.Prover = htlcdash.ProviderID{} }},
		{"another salt", buyer.ErrUnproved, func(_ *town, _ *house, _ htlcdash.Segment, o *exchange.Offer) { o.Salt[0]++ }},
		{"a hash of its own", buyer.ErrUnproved, func(_ *town, r *house, _ htlcdash.Segment, o *exchange.Offer) {
			inv, _ := r.node.Invoice(context.Background(), lightning.RandomPreimage(), lightning.Terms{Amount: o.Price})
			o.Hash, o.Invoice = inv.Hash, inv.Bolt11
		}},
		{"more than the publisher asks", buyer.ErrPrice, func(_ *town, r *house, seg htlcdash.Segment, o *exchange.Offer) {
			inv, _ := r.node.HoldInvoice(context.Background(), lightning.RandomPreimage().Hash(), lightning.Terms{Amount: seg.Price + 1})
			o.Price, o.Hash, o.Invoice = inv.Amount, inv.Hash, inv.Bolt11
		}},
		{"holds for weeks", buyer.ErrTerms, func(_ *town, r *house, _ htlcdash.Segment, o *exchange.Offer) {
			inv, _ := r.node.HoldInvoice(context.Background(), lightning.RandomPreimage().Hash(), lightning.Terms{Amount: o.Price, FinalDelta: exchange.MaxLock + 1})
			o.Hash, o.Invoice = inv.Hash, inv.Bolt11
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTown(t)
			r := w.house(t, "relay", w.origin)
			r.open(t)
			r.tamper(t, r.key(), func(seg htlcdash.Segment, o *exchange.Offer) { c.change(w, r, seg, o) })
			v := w.viewer(t, "viewer", r)
			wantErr(t, v.try(t, "v0", 0), c.want)
			v.wantSpent(t, 0)
			r.wantAccount(t, account{})
		})
	}
}

// Proofs that upstream spoils, cuts or does not give are no proofs: nothing is paid on
// either side.
func TestUpstreamsProofs(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"a bit is off": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":          func(b []byte) []byte { return b[:len(b)/2] },
		"none":         func([]byte) []byte { return nil },
		"too long":     func(b []byte) []byte { return append(b, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTown(t)
			honest := *w.origin.face.Load()
			var face http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/v1/proofs" {
					honest.ServeHTTP(rw, req)
					return
				}
				rec := httptest.NewRecorder()
				honest.ServeHTTP(rec, req)
				rw.WriteHeader(rec.Code)
				_, _ = rw.Write(spoil(rec.Body.Bytes()))
			})
			w.origin.face.Store(&face)
			r := w.house(t, "relay", w.origin)
			r.open(t)
			v := w.viewer(t, "viewer", r)
			wantErr(t, v.try(t, "v0", 0), buyer.ErrUnproved)
			v.wantSpent(t, 0)
			r.wantAccount(t, account{})
		})
	}
}
