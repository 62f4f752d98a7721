package buyer_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

func TestBuyOnce(t *testing.T) {
	w := newWorld(t, 2)
	s, c := w.shop(t, "shop"), w.config(t)
	w.router.SetFees(sim.Fees{Base: 300})
	b := w.open(t, c, s)
	events := b.Watch(t.Context())
	w.buy(t, b, 0)
	paid := await(t, events, 0, "paid")
	if paid.Amount != price || paid.Fee != 300 || paid.Provider != s.URL || paid.Lost || paid.Took <= 0 || paid.Bytes <= 0 || paid.Offer <= 0 {
		t.Errorf("event %+v", paid)
	}
	w.wantBooks(t, c, b, price+300)
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, price+300)
	if a := b.Account(w.title); a.Fees != 300 || a.Lost != 0 || a.Risk != price {
		t.Errorf("account %+v", a)
	}
	b.Close()
	must(t, c.Ledger.Close())

	c = w.config(t)
	b = w.open(t, c) // no shop is needed for what is owned
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, price+300)
}

// What a lying or broken provider says costs nothing, and the next is asked.
func TestBadOffers(t *testing.T) {
	other := func(w *world, s *shop, amount lightning.Msat) lightning.Invoice {
		inv, err := s.node.Invoice(context.Background(), lightning.RandomPreimage(), lightning.Terms{Amount: amount})
		must(t, err)
		return inv
	}
	for _, c := range []struct {
		name  string
		want  error
		spoil func(w *world, s *shop)
	}{
		{"other segment", htlcdash.ErrFormat, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) { o.Sealed = htlcdash.Root{1} }
		}},
		{"price above the ceiling", buyer.ErrPrice, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) {
				inv := other(w, s, price+1)
				o.Price, o.Hash, o.Invoice = inv.Amount, inv.Hash, inv.Bolt11
			}
		}},
		{"invoice over more", buyer.ErrTerms, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) {
				inv := other(w, s, 2*price)
				o.Hash, o.Invoice = inv.Hash, inv.Bolt11
			}
		}},
		{"invoice over less", buyer.ErrTerms, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) {
				inv := other(w, s, price/2)
				o.Hash, o.Invoice = inv.Hash, inv.Bolt11
			}
		}},
		{"invoice for another hash", buyer.ErrTerms, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) { o.Invoice = other(w, s, price).Bolt11 }
		}},
		{"no invoice", buyer.ErrTerms, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) { o.Invoice = "lnbc1" }
		}},
		{"expired", buyer.ErrTerms, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) { o.Expires = time.Now().Add(-time.Minute) }
		}},
		{"expires at once", buyer.ErrTerms, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) { o.Expires = time.Now().Add(5 * time.Second) }
		}},
		{"refused", exchange.ErrRefused, func(w *world, s *shop) {
			s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) { o.Error = exchange.RefusedBusy }
		}},
		{"not JSON", htlcdash.ErrFormat, func(w *world, s *shop) {
			s.answer = func(w http.ResponseWriter, _ []byte) bool { _, err := w.Write([]byte("<html>")); return err == nil }
		}},
		{"endless", htlcdash.ErrFormat, func(w *world, s *shop) {
			s.answer = func(w http.ResponseWriter, _ []byte) bool {
				for range 1024 {
					if _, err := w.Write(make([]byte, 1024)); err != nil {
						break
					}
				}
				return true
			}
		}},
		{"longer than it is", nil, func(w *world, s *shop) {
			s.answer = func(w http.ResponseWriter, b []byte) bool {
				w.Header().Set("Content-Length", fmt.Sprint(len(b)+10))
				_, _ = w.Write(b)
				return true
			}
		}},
		{"shorter than it is", nil, func(w *world, s *shop) {
			s.answer = func(w http.ResponseWriter, b []byte) bool {
				w.Header().Set("Content-Length", fmt.Sprint(len(b)-10))
				_, _ = w.Write(b)
				return true
			}
		}},
		{"closes half way", nil, func(w *world, s *shop) {
			s.answer = func(w http.ResponseWriter, b []byte) bool {
				w.Header().Set("Content-Length", fmt.Sprint(len(b)))
				_, _ = w.Write(b[:len(b)/2])
				panic(http.ErrAbortHandler)
			}
		}},
		{"server error", exchange.ErrRefused, func(w *world, s *shop) {
			s.answer = func(w http.ResponseWriter, _ []byte) bool { w.WriteHeader(http.StatusInternalServerError); return true }
		}},
		{"moved elsewhere", exchange.ErrRefused, func(w *world, s *shop) {
			s.answer = func(w http.ResponseWriter, _ []byte) bool {
				w.Header().Set("Location", "http://127.0.0.1:1/v1/offers")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}
		}},
		{"too many requests", exchange.ErrRefused, func(w *world, s *shop) {
			s.answer = func(w http.ResponseWriter, _ []byte) bool { w.WriteHeader(http.StatusTooManyRequests); return true }
		}},
		{"gone", nil, func(w *world, s *shop) { s.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			bad, good := w.shop(t, "bad"), w.shop(t, "good")
			c.spoil(w, bad)
			conf := w.config(t)
			b := w.open(t, conf, bad)
			_, err := b.Segment(t.Context(), w.segs[0])
			if err == nil || !strings.Contains(err.Error(), bad.URL) {
				t.Errorf("got %v, want an error that names %s", err, bad.URL)
			}
			if c.want != nil {
				wantErr(t, err, c.want)
			}
			wantErr(t, err, buyer.ErrNoOffer)
			w.wantBooks(t, conf, b, 0)

			must(t, b.AddTitle(t.Context(), w.title, price, []*buyer.Provider{bad.provider(t), good.provider(t)}))
			w.buy(t, b, 0)
			w.wantBooks(t, conf, b, price)
		})
	}
}

// A provider that offers a hash twice would be paid once for two keys.
func TestHashOfferedTwice(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	inv, err := s.node.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: price})
	must(t, err)
	bookHash(t, c, w, inv.Hash)
	s.spoil = func(_ htlcdash.Segment, o *exchange.Offer) { o.Hash, o.Invoice = inv.Hash, inv.Bolt11 }
	b := w.open(t, c, s)
	_, err = b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrTerms)
	w.wantBooks(t, c, b, 0)
}

// A provider that hangs is left, and asked last for a while.
func TestHangingProvider(t *testing.T) {
	w := newWorld(t, 2)
	hangs, good, c := w.shop(t, "hangs"), w.shop(t, "good"), w.config(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	hangs.patience = 100 * time.Millisecond
	hangs.answer = func(http.ResponseWriter, []byte) bool { <-release; return true }
	b := w.open(t, c, hangs, good)
	w.buy(t, b, 0)
	w.buy(t, b, 1)
	w.wantBooks(t, c, b, 2*price)
	// not at all, if it was slow to say who it is
	if n := hangs.requests.Load(); n > 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

// A payment has three outcomes, and two ways to be told of each.
func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault sim.Fault
		want  error
		spent lightning.Msat
	}{
		{"paid, and told so", sim.None, nil, price},
		{"paid, and not told so", sim.LoseAnswer, nil, price},
		{"failed, and told so", sim.Refuse, lightning.ErrFailed, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			s, conf := w.shop(t, "shop"), w.config(t)
			b := w.open(t, conf, s)
			w.viewer.Order(c.fault)
			_, err := b.Segment(t.Context(), w.segs[0])
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			w.wantBooks(t, conf, b, c.spent)
			w.buy(t, b, 0)
			w.wantBooks(t, conf, b, price)
		})
	}
}

// While a payment hangs its money is reserved and its segment is not bought
// again. What comes of it later is used.
func TestHangingPayment(t *testing.T) {
	for _, c := range []struct {
		name    string
		deliver bool
		state   string
	}{
		{"paid in the end", true, "paid"},
		{"failed in the end", false, "failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			s, conf := w.shop(t, "shop"), w.config(t)
			conf.Patience = time.Second
			b := w.open(t, conf, s)
			events := b.Watch(t.Context())
			w.viewer.Order(sim.Stall)
			for range 2 {
				_, err := b.Segment(t.Context(), w.segs[0])
				wantErr(t, err, lightning.ErrInFlight)
			}
			if a := b.Account(w.title); a.Reserved != price+lightning.Sat || a.InFlight != 1 || s.requests.Load() != 1 {
				t.Errorf("reserved %v, %d in flight, %d requests", a.Reserved, a.InFlight, s.requests.Load())
			}
			hash := await(t, events, 0, "unknown").Hash
			if !w.net.Release(hash, c.deliver) {
				t.Fatal("nothing to release")
			}
			await(t, events, 0, c.state)
			w.buy(t, b, 0)
			w.wantBooks(t, conf, b, price)
			if c.deliver && s.requests.Load() != 1 {
				t.Error("what was paid in the end was asked for again")
			}
		})
	}
}

// A provider that lets a payment hang gets one, and then gives way.
func TestProviderThatHoldsPayments(t *testing.T) {
	w := newWorld(t, 4)
	holds, good, conf := w.shop(t, "holds"), w.shop(t, "good"), w.config(t)
	conf.Patience = time.Second
	b := w.open(t, conf, holds, good)
	events := b.Watch(t.Context())
	w.viewer.Order(sim.Stall)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, lightning.ErrInFlight)
	held := await(t, events, 0, "unknown")
	if held.Provider != holds.URL {
		t.Fatalf("%s was paid first", held.Provider)
	}
	asked := holds.requests.Load()
	for i := 1; i < 4; i++ {
		w.buy(t, b, i)
		if p := await(t, events, i, "paid"); p.Provider != good.URL {
			t.Errorf("segment %d was bought from %s", i, p.Provider)
		}
	}
	if n := holds.requests.Load(); n != asked {
		t.Errorf("the one who holds a payment was asked for %d more offers", n-asked)
	}
	if a := b.Account(w.title); a.Reserved != price+lightning.Sat || a.Spent != 3*price || a.InFlight != 1 {
		t.Errorf("account %+v", a)
	}
	if !w.net.Release(held.Hash, false) {
		t.Fatal("nothing to release")
	}
	await(t, events, 0, "failed")
	w.wantBooks(t, conf, b, 3*price)
}

// A crash at any step, and what the next run makes of it.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		step  string
		spent lightning.Msat // once recovered, before anything new is bought
	}{
		{"before-intent", 0},
		{"intent", 0},
		{"out", price}, // the HTLC is on its way, and settles while nobody looks
		{"paid", price},
		{"key", price},
	} {
		t.Run(c.step, func(t *testing.T) {
			w := newWorld(t, 1)
			s, conf := w.shop(t, "shop"), w.config(t)
			crashed, end := make(chan struct{}), make(chan struct{})
			conf.Step = func(step string) {
				if step == c.step {
					// As with kill -9, nothing is written from here on.
					must(t, conf.Ledger.Close())
					close(crashed)
					<-end
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			b := w.open(t, conf, s)
			events := b.Watch(t.Context())
			t.Cleanup(func() { close(end) }) // before the buyer is closed
			if c.step == "out" {
				w.viewer.Order(sim.Stall)
			}
			go b.Segment(ctx, w.segs[0])
			if c.step == "out" {
				hash := await(t, events, 0, "paying").Hash
				waitStalled(t, w, hash)
				must(t, conf.Ledger.Close())
				w.net.Release(hash, true)
			} else {
				<-crashed
			}
			cancel()

			next := w.config(t)
			again := w.open(t, next, s)
			must(t, again.Recover(t.Context()))
			quiet(t, again, w.title)
			w.wantBooks(t, next, again, c.spent)
			if c.spent > 0 {
				_, err := next.Ledger.Key(t.Context(), w.segs[0].Seal)
				must(t, err)
			}
			w.buy(t, again, 0)
			w.wantBooks(t, next, again, price)
		})
	}
}

// A cheat gets one payment, and never another.
func TestCheat(t *testing.T) {
	w := newWorld(t, 2)
	cheat, honest, c := w.shop(t, "cheat"), w.shop(t, "honest"), w.config(t)
	cheat.key = func(htlcdash.Root) htlcdash.Key { return htlcdash.NewKey([32]byte{9}) }
	b := w.open(t, c, cheat)
	events := b.Watch(t.Context())
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrCheated)
	if p := await(t, events, 0, "paid"); !p.Lost {
		t.Errorf("event %+v, want one that says lost", p)
	}
	w.wantBooks(t, c, b, price)
	if a := b.Account(w.title); a.Lost != price {
		t.Errorf("lost %v, want %v", a.Lost, price)
	}
	_, err = b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrNoOffer)
	b.Close()
	must(t, c.Ledger.Close())

	c = w.config(t)
	b = w.open(t, c, cheat, honest)
	asked := cheat.requests.Load()
	w.buy(t, b, 0)
	w.buy(t, b, 1)
	if cheat.requests.Load() != asked {
		t.Error("a cheat was asked again after a restart")
	}
	if a := b.Account(w.title); a.Lost != price || a.Spent != 3*price {
		t.Errorf("account %+v", a)
	}
}

// After a cheat the next provider is asked in the same breath.
func TestCheatThenHonest(t *testing.T) {
	w := newWorld(t, 1)
	cheat, honest, c := w.shop(t, "cheat"), w.shop(t, "honest"), w.config(t)
	cheat.key = func(htlcdash.Root) htlcdash.Key { return htlcdash.NewKey([32]byte{9}) }
	honest.serves(func(_ http.ResponseWriter, r *http.Request) bool {
		for r.URL.Path == "/v1/offers" { // not before the cheat was paid, however late that is
			if paid, err := cheat.node.Balance(r.Context()); err != nil || paid.Outbound > 0 {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-r.Context().Done():
			}
		}
		return false
	})
	b := w.open(t, c, cheat, honest)
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, 2*price)
}

func TestJoined(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	w.viewer.Order(sim.Delay(20 * time.Millisecond))
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() { w.buy(t, b, 0) })
	}
	wg.Wait()
	w.wantBooks(t, c, b, price)
	if n := s.requests.Load(); n != 1 {
		t.Errorf("%d requests for offers, want 1", n)
	}
}

// Money under way outlives the caller who sent it.
func TestCallerLeaves(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	events := b.Watch(t.Context())
	w.viewer.Order(sim.Stall)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := b.Segment(ctx, w.segs[0]); done <- err }()
	hash := await(t, events, 0, "paying").Hash
	waitStalled(t, w, hash)
	cancel()
	wantErr(t, <-done, context.Canceled)
	w.net.Release(hash, true)
	await(t, events, 0, "paid")
	w.wantBooks(t, c, b, price)
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, price)
}

func TestPrepare(t *testing.T) {
	w := newWorld(t, 100)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	b.Prepare(t.Context(), w.segs)
	if n := s.requests.Load(); n != 2 || w.sealed.gets != 0 {
		t.Errorf("%d requests and %d blobs, want 2 and none", n, w.sealed.gets)
	}
	must(t, b.Download(t.Context(), w.segs[0]))
	if n := s.requests.Load(); n != 2 || w.sealed.gets != 1 {
		t.Errorf("%d requests and %d blobs after a download, want 2 and 1", n, w.sealed.gets)
	}
	w.wantBooks(t, c, b, 0)
	for i := range 3 {
		w.buy(t, b, i)
	}
	b.Prepare(t.Context(), w.segs)
	if n := s.requests.Load(); n != 2 {
		t.Errorf("%d requests after buying what was prepared, want 2", n)
	}
	w.wantBooks(t, c, b, 3*price)
}

func TestBudgets(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits buyer.Limits
		want   error
	}{
		{"zero", buyer.Limits{}, buyer.ErrBudget},
		{"segment too dear", buyer.Limits{Segment: price - 1, Title: buyer.NoLimit, Day: buyer.NoLimit}, buyer.ErrBudget},
		{"title too dear", buyer.Limits{Segment: buyer.NoLimit, Title: price - 1, Day: buyer.NoLimit}, buyer.ErrBudget},
		{"day too dear", buyer.Limits{Segment: buyer.NoLimit, Title: buyer.NoLimit, Day: price - 1}, buyer.ErrBudget},
		{"exact", buyer.Limits{Segment: price, Title: price, Day: price}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			s, conf := w.shop(t, "shop"), w.config(t)
			conf.Limits = c.limits
			b := w.open(t, conf, s)
			_, err := b.Segment(t.Context(), w.segs[0])
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want != nil {
				w.wantBooks(t, conf, b, 0)
			}
		})
	}
}

// A budget of what the segments and their routes cost, to the msat, buys them
// all, however many are bought at once: what is reserved for fees and not used
// comes back.
func TestBudgetLastsToTheEnd(t *testing.T) {
	for _, c := range []struct {
		name   string
		fee    lightning.Msat
		atOnce int
	}{
		{"no fees", 0, 1},
		{"fees as dear as allowed", lightning.Sat, 1},
		{"no fees, many at once", 0, 12},
		{"fees as dear as allowed, many at once", lightning.Sat, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 12)
			s, conf := w.shop(t, "shop"), w.config(t)
			w.router.SetFees(sim.Fees{Base: c.fee})
			conf.Exposure = buyer.NoLimit
			conf.Limits.Title = lightning.Msat(len(w.segs)) * (price + c.fee)
			b := w.open(t, conf, s)
			each(c.atOnce, w.segs, func(seg htlcdash.Segment) {
				if _, err := b.Segment(t.Context(), seg); err != nil {
					t.Error(err)
				}
			})
			w.wantBooks(t, conf, b, conf.Limits.Title)
		})
	}
}

// What a budget leaves for the route may be too little: then the budget is
// named, and nothing was paid.
func TestBudgetWithoutTheFee(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	w.router.SetFees(sim.Fees{Base: 300})
	c.Limits.Title = price + 299
	b := w.open(t, c, s)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrBudget, lightning.ErrFailed)
	w.wantBooks(t, c, b, 0)
	must(t, b.SetTitleBudget(t.Context(), w.title, price+300))
	w.buy(t, b, 0)
	w.wantBooks(t, c, b, price+300)
}

// However many buy at once, a budget is not exceeded by a msat, and it is used
// up as far as whole payments go.
func TestBudgetBoundsConcurrentPurchases(t *testing.T) {
	w := newWorld(t, 120)
	s, c := w.shop(t, "shop"), w.config(t)
	w.router.SetFees(sim.Fees{Base: 777})
	c.Exposure = buyer.NoLimit
	const budget = 333 * lightning.Sat
	b := w.open(t, c, s)
	must(t, b.SetTitleBudget(t.Context(), w.title, budget))
	b.Prepare(t.Context(), w.segs)
	var wg sync.WaitGroup
	for _, seg := range w.segs {
		wg.Go(func() {
			_, err := b.Segment(t.Context(), seg)
			if err != nil && !errors.Is(err, buyer.ErrBudget) {
				t.Error(err)
			}
			if a := b.Account(w.title); a.Spent+a.Reserved > budget {
				t.Errorf("spent %v and reserved %v of %v", a.Spent, a.Reserved, budget)
			}
		})
	}
	wg.Wait()
	left := w.left(t)
	if left > budget {
		t.Errorf("%v left the node, budget %v", left, budget)
	}
	for _, seg := range w.segs { // what was reserved for fees is free again
		_, err := b.Segment(t.Context(), seg)
		if err != nil {
			wantErr(t, err, buyer.ErrBudget)
		}
	}
	left = w.left(t)
	if left > budget || left+price+lightning.Sat <= budget {
		t.Errorf("%v left the node, budget %v", left, budget)
	}
	w.wantBooks(t, c, b, left)
	must(t, c.Ledger.Check(t.Context()))
}

func TestBudgetIsLiveAndDurable(t *testing.T) {
	w := newWorld(t, 4)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	w.buy(t, b, 0)
	must(t, b.SetTitleBudget(t.Context(), w.title, price))
	_, err := b.Segment(t.Context(), w.segs[1])
	wantErr(t, err, buyer.ErrBudget)
	must(t, b.SetTitleBudget(t.Context(), w.title, 3*price))
	w.buy(t, b, 1)
	must(t, b.SetTitleBudget(t.Context(), w.title, 2*price))
	b.Close()
	must(t, c.Ledger.Close())

	c = w.config(t)
	b = w.open(t, c, s)
	if a := b.Account(w.title); a.Budget != 2*price || a.Spent != 2*price {
		t.Errorf("account %+v", a)
	}
	_, err = b.Segment(t.Context(), w.segs[2])
	wantErr(t, err, buyer.ErrBudget)
	w.buy(t, b, 1) // what is owned costs nothing
}

func TestStop(t *testing.T) {
	w := newWorld(t, 2)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	b.Stop(w.title)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrStopped)
	if s.requests.Load() != 0 || w.sealed.gets != 0 {
		t.Error("a stopped buyer used the line")
	}
	b.Resume(w.title)
	w.buy(t, b, 0)
}

// Payments under way to one provider do not exceed the exposure, yet one may
// always go.
func TestExposure(t *testing.T) {
	for _, c := range []struct {
		name     string
		exposure lightning.Msat
		want     int // payments at once
	}{
		{"default", 0, 1},
		{"below one price", price / 2, 1},
		{"three", 3*price + price/2, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 12)
			s, conf := w.shop(t, "shop"), w.config(t)
			payer := &counting{Payer: w.viewer, want: c.want, full: make(chan struct{})}
			conf.Payer, conf.Exposure = payer, c.exposure
			b := w.open(t, conf, s)
			for range w.segs {
				w.viewer.Order(sim.Delay(5 * time.Millisecond))
			}
			var wg sync.WaitGroup
			for i := range w.segs {
				wg.Go(func() { w.buy(t, b, i) })
			}
			wg.Wait()
			if payer.most != c.want {
				t.Errorf("%d payments at once, want %d", payer.most, c.want)
			}
		})
	}
}

// counting counts the payments under way.
type counting struct {
	lightning.Payer
	want int           // the first payments wait until so many are under way; 0: they do not
	full chan struct{} // closed when they are

	mu        sync.Mutex
	now, most int
}

func (c *counting) Pay(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat) (lightning.Payment, error) {
	c.add(1)
	defer c.add(-1)
	if c.want > 0 {
		select {
		case <-c.full:
		case <-ctx.Done():
		}
	}
	return c.Payer.Pay(ctx, inv, maxFee)
}

func (c *counting) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now += n; c.now == c.want && c.most < c.want {
		close(c.full)
	}
	c.most = max(c.most, c.now)
}

// Nothing is paid before the sealed bytes are in hand, unless that is allowed
// and the provider has proved itself.
func TestBytesFirst(t *testing.T) {
	for _, beside := range []bool{false, true} {
		t.Run(fmt.Sprintf("beside=%v", beside), func(t *testing.T) {
			w := newWorld(t, 2)
			s, c := w.shop(t, "shop"), w.config(t)
			c.PayBeside = beside
			payer := &counting{Payer: w.viewer}
			c.Payer = payer
			b := w.open(t, c, s)
			events := b.Watch(t.Context())
			for i := range w.segs {
				open := w.sealed.hold()
				done := make(chan struct{})
				go func() { defer close(done); w.buy(t, b, i) }()
				if beside && i == 1 {
					await(t, events, i, "paid")
				} else {
					// The offer is there, and nothing is paid.
					b.Prepare(canceled(t), w.segs[i:i+1])
					select {
					case p := <-events:
						t.Errorf("before the bytes: %+v", p)
					case <-time.After(50 * time.Millisecond):
					}
				}
				open()
				<-done
				if !beside || i == 0 {
					await(t, events, i, "paid")
				}
			}
			w.wantBooks(t, c, b, 2*price)
		})
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// Missing bytes cost nothing.
func TestNoBytesNoMoney(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	clear(w.sealed.blobs)
	b := w.open(t, c, s)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, htlcdash.ErrNotFound)
	w.wantBooks(t, c, b, 0)
}

// Books that take no outcome do not keep a viewer from what was paid for, and
// the next run learns it from the node.
func TestOutcomeNotBooked(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	c.Step = func(step string) {
		if step == "paid" {
			must(t, c.Ledger.Close())
		}
	}
	b := w.open(t, c, s)
	w.buy(t, b, 0)
	b.Close()

	c = w.config(t)
	b = w.open(t, c)
	must(t, b.Recover(t.Context()))
	quiet(t, b, w.title)
	w.wantBooks(t, c, b, price)
	w.buy(t, b, 0)
}

// Books that take no intent keep the money at home.
func TestIntentNotBooked(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	c.Step = func(step string) {
		if step == "before-intent" {
			must(t, c.Ledger.Close())
		}
	}
	b := w.open(t, c, s)
	if _, err := b.Segment(t.Context(), w.segs[0]); err == nil {
		t.Error("bought without books")
	}
	if left := w.left(t); left != 0 {
		t.Errorf("%v left the node", left)
	}
}

// A node that is down when the program starts holds up nothing but the
// payments that it must tell of.
func TestRecoverWaitsForTheNode(t *testing.T) {
	w := newWorld(t, 2)
	s, c := w.shop(t, "shop"), w.config(t)
	b := w.open(t, c, s)
	events := b.Watch(t.Context())
	w.viewer.Order(sim.Stall)
	go b.Segment(t.Context(), w.segs[0])
	hash := await(t, events, 0, "paying").Hash
	waitStalled(t, w, hash)
	b.Close()
	must(t, c.Ledger.Close())

	w.viewer.Down()
	c = w.config(t)
	c.Patience = 50 * time.Millisecond
	b = w.open(t, c, s)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantErr(t, b.Recover(ctx), context.DeadlineExceeded)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, lightning.ErrInFlight)
	if a := b.Account(w.title); a.Reserved != price+lightning.Sat {
		t.Errorf("reserved %v", a.Reserved)
	}
	w.viewer.Up()
	w.net.Release(hash, true)
	must(t, b.Recover(t.Context()))
	quiet(t, b, w.title)
	w.wantBooks(t, c, b, price)
}

// A payment that the node does not know may still be on its way to it: within
// the grace its money stays reserved and its segment is not bought again.
func TestGrace(t *testing.T) {
	w := newWorld(t, 1)
	s, c := w.shop(t, "shop"), w.config(t)
	crashed, end := make(chan struct{}), make(chan struct{})
	c.Step = func(step string) {
		if step == "intent" {
			must(t, c.Ledger.Close())
			close(crashed)
			<-end
		}
	}
	b := w.open(t, c, s)
	t.Cleanup(func() { close(end) })
	go b.Segment(t.Context(), w.segs[0])
	<-crashed

	c = w.config(t)
	c.Grace, c.Patience = time.Hour, 50*time.Millisecond
	b = w.open(t, c, s)
	must(t, b.Recover(t.Context()))
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, lightning.ErrInFlight)
	if a := b.Account(w.title); a.InFlight != 1 || a.Reserved != price+lightning.Sat {
		t.Errorf("account %+v", a)
	}
	if s.requests.Load() != 1 {
		t.Error("the segment was asked for again")
	}
}

// A watcher that does not read is let go, and holds up nobody.
func TestSlowWatcher(t *testing.T) {
	w := newWorld(t, 0)
	b := w.open(t, w.config(t))
	events := b.Watch(t.Context())
	for range 1000 {
		b.Stop(w.title)
	}
	n := 0
	for range events {
		n++
	}
	if n == 0 || n >= 1000 {
		t.Errorf("%d events, want some, then the end", n)
	}
}

// What a provider says it sells is bounded before it fills the memory.
func TestListOfTitles(t *testing.T) {
	entry := `{"id":"` + strings.Repeat("ab", 32) + `","name":"film"}`
	list := func(entries string) string { return `{"titles":[` + entries + `]}` }
	many := func(n int, entry string) string { return list(strings.TrimSuffix(strings.Repeat(entry+",", n), ",")) }
	for _, c := range []struct {
		name, body string
		count      int
		why        string
	}{
		{"one", list(entry), 1, ""},
		{"none", `{"titles":null}`, 0, ""},
		{"as many as may be", many(4096, `{"name":"a"}`), 4096, ""},
		{"one more", many(4097, `{"name":"a"}`), 0, "more than 4096 titles"},
		{"a million", many(300_000, `{"name":"a"}`), 0, "more than 4096 titles"},
		{"endless", strings.Repeat(" ", 5<<20), 0, "above 4194304 bytes"},
		{"no list", `{"titles":{}}`, 0, "no list of titles"},
		{"cut off", list(entry)[:40], 0, "unexpected end"},
		{"not JSON", "<html>", 0, "invalid character"},
		{"a name that leads away", list(`{"name":".."}`), 0, "no name"},
		{"a name with a path", list(`{"name":"a/b"}`), 0, "no name"},
		{"no name", list(`{}`), 0, "no name"},
		{"a long name", list(`{"name":"` + strings.Repeat("x", 256) + `"}`), 0, "no name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, c.body) }))
			defer s.Close()
			p, err := buyer.NewProvider(s.URL, nil)
			must(t, err)
			titles, err := p.Titles(t.Context())
			if c.why == "" {
				must(t, err)
			} else if wantErr(t, err, htlcdash.ErrFormat); err != nil && !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %v, want one that says %q", err, c.why)
			}
			if c.why == "" && len(titles) != c.count {
				t.Errorf("%d titles, want %d", len(titles), c.count)
			}
		})
	}
}

// A provider's answers do not unpack into more than they are.
func TestCompressedAnswers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); got != "" {
			t.Errorf("asked for encoding %q", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte(`{"titles":[]}`))
		_ = z.Close()
	}))
	defer s.Close()
	p, err := buyer.NewProvider(s.URL, nil)
	must(t, err)
	_, err = p.Titles(t.Context())
	wantErr(t, err, htlcdash.ErrFormat)
}

func TestNewProvider(t *testing.T) {
	for _, address := range []string{"", "provider.example", "ftp://provider.example", "http://", "http://a/?q=1"} {
		if _, err := buyer.NewProvider(address, nil); err == nil {
			t.Errorf("%q was accepted", address)
		}
	}
}

func TestProviderFetch(t *testing.T) {
	file := []byte("0123456789")
	ranged := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/t/50% off?/a/init.mp4" {
			http.NotFound(w, r)
			return
		}
		if !ranged {
			_, _ = w.Write(file)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(file)))
	}))
	defer server.Close()
	p, err := buyer.NewProvider(server.URL+"/", nil)
	must(t, err)
	fetch := p.Fetch("50% off?")
	for _, ranged = range []bool{true, false} {
		for _, c := range []struct {
			offset, limit int64
			want          string
		}{{0, 4, "0123"}, {4, 100, "456789"}, {10, 1, ""}, {50, 1, ""}} {
			got, err := fetch(t.Context(), "a/init.mp4", c.offset, c.limit)
			if err != nil || string(got) != c.want {
				t.Errorf("ranged %v, from %d: %q, %v, want %q", ranged, c.offset, got, err, c.want)
			}
		}
	}
	_, err = fetch(t.Context(), "a/none", 0, 1)
	wantErr(t, err, htlcdash.ErrNotFound)
	_, err = fetch(t.Context(), "../../v1/provider", 0, 1)
	wantErr(t, err, htlcdash.ErrFormat)
}

func FuzzTitles(f *testing.F) {
	for _, s := range []string{`[]`, `null`, `[{"name":"a"}]`, `[{"id":"` + strings.Repeat("ab", 32) + `","name":"film","min_msat":1,"max_msat":"2 sat"}]`, `[{"name":".."}]`, `{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		titles, err := buyer.ParseTitles(b)
		if err != nil {
			return
		}
		for _, title := range titles {
			if n := title.Name; n == "" || len(n) > 255 || n == "." || n == ".." || strings.Contains(n, "/") {
				t.Errorf("name %q", n)
			}
		}
	})
}
