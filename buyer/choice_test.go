package buyer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// play buys segments as a player does: with offers ahead, and a second before
// they are due.
func (w *world) play(t testing.TB, b *buyer.Buyer, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if (i-from)%4 == 0 {
			b.Prepare(t.Context(), w.segs[i:min(i+8, to)])
		}
		data, err := b.Segment(buyer.NeededBy(t.Context(), time.Now().Add(time.Second)), w.segs[i])
		if err != nil || !bytes.Equal(data, w.plain[i]) {
			t.Fatalf("segment %d is %q, %v", i, data, err)
		}
	}
}

// sales are the keys that were bought from each provider from an index on. It
// fails the test if a key was paid twice.
func sales(t testing.TB, books *ledger.Ledger, from int) map[string]int {
	t.Helper()
	sold, seen := map[string]int{}, map[[32]byte]bool{}
	for p, err := range books.Purchases(context.Background(), ledger.Filter{Paid: true}) {
		must(t, err)
		if seen[p.KeyHash] {
			t.Errorf("the key of segment %d was paid twice", p.Index)
		}
		seen[p.KeyHash] = true
		if p.Index >= from {
			sold[p.Provider]++
		}
	}
	return sold
}

// standing is how a shop stands with the title of the world.
func (w *world) standing(t testing.TB, b *buyer.Buyer, s *shop) buyer.Standing {
	t.Helper()
	for _, v := range b.Standing(w.title) {
		if v.Provider == s.URL {
			return v
		}
	}
	t.Fatalf("%s has no standing", s.URL)
	return buyer.Standing{}
}

// eventually returns once cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 2000 {
		if cond() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal(what)
}

// Whoever asks least, of those who deliver, sells most of a film, also one who
// comes later.
func TestTheBestPriceWins(t *testing.T) {
	for _, c := range []struct {
		name string
		late bool
	}{{"there from the start", false}, {"comes in mid-film", true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 420)
			dear, cheap, conf := w.shop(t, "dear"), w.shop(t, "cheap"), w.config(t)
			cheap.percent.Store(50)
			shops := []*shop{dear, cheap}
			if c.late {
				shops = shops[:1]
			}
			b := w.open(t, conf, shops...)
			if first := b.Standing(w.title); first[0].State != "unknown" || first[0].Factor != 0 {
				t.Errorf("at first %+v", first)
			}
			w.play(t, b, 0, 20)
			must(t, b.AddTitle(t.Context(), w.title, price, []*buyer.Provider{dear.provider(t), cheap.provider(t)}))
			for i := 20; ; i += 40 {
				w.play(t, b, i, i+40)
				sold := sales(t, conf.Ledger, i)
				if sold[cheap.URL] > 3*sold[dear.URL] {
					break
				}
				if i == 380 {
					t.Fatalf("of the last 40 keys the cheap one sold %d, the dear one %d", sold[cheap.URL], sold[dear.URL])
				}
			}
			if v := w.standing(t, b, cheap); v.Factor != 0.5 || v.Paid != lightning.Msat(v.Sold)*price/2 || v.Latency <= 0 || v.Success < 0.5 {
				t.Errorf("the cheap one: %+v", v)
			}
			if v := w.standing(t, b, dear); v.Factor != 1 {
				t.Errorf("the dear one: %+v", v)
			}
			w.wantBooks(t, conf, b, b.Account(w.title).Spent)
		})
	}
}

// What can be asked of a second provider without a risk is, when the first is
// late; one is paid.
func TestLateProvidersAreHedged(t *testing.T) {
	for _, c := range []struct {
		name string
		hang string // path at which the first is late
	}{
		{"with credentials", "/v1/credentials"},
		{"with offers", "/v1/offers"},
		{"with a proof", "/v1/proofs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			late, quick, conf := w.proving(t, "late"), w.proving(t, "quick"), w.careful(t)
			inner := late.Config.Handler
			late.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == c.hang {
					_, _ = io.Copy(io.Discard, r.Body) // so that the server sees it when who asked has gone
					<-r.Context().Done()
					return
				}
				inner.ServeHTTP(rw, r)
			})
			b := w.open(t, conf, late, quick)
			begun := time.Now()
			ctx := buyer.NeededBy(t.Context(), begun.Add(time.Second))
			if _, err := b.Segment(ctx, w.segs[0]); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("took %v: the first was waited for to the end", took)
			}
			if sold := sales(t, conf.Ledger, 0); sold[quick.URL] != 1 || len(sold) != 1 {
				t.Errorf("sold %v", sold)
			}
			w.wantBooks(t, conf, b, price)
		})
	}
}

// A payment that hangs is not hedged, however near the deadline: its outcome is
// not known, and a second one might pay twice.
func TestPaymentsAreNotHedged(t *testing.T) {
	w := newWorld(t, 2)
	holds, good, conf := w.shop(t, "holds"), w.shop(t, "good"), w.config(t)
	conf.Patience = time.Second
	b := w.open(t, conf, holds, good)
	events := b.Watch(t.Context())
	w.viewer.Order(sim.Stall)
	_, err := b.Segment(buyer.NeededBy(t.Context(), time.Now()), w.segs[0])
	wantErr(t, err, lightning.ErrInFlight)
	held := await(t, events, 0, "unknown")
	if held.Provider == good.URL { // whoever was chosen first
		holds, good = good, holds
	}
	if sold := sales(t, conf.Ledger, 0); len(sold) != 0 {
		t.Errorf("sold %v", sold)
	}
	if v := w.standing(t, b, holds); v.State != "hanging" {
		t.Errorf("the one who holds it: %+v", v)
	}
	_, err = b.Segment(buyer.NeededBy(t.Context(), time.Now()), w.segs[0])
	wantErr(t, err, lightning.ErrInFlight)
	w.buy(t, b, 1)
	if sold := sales(t, conf.Ledger, 0); sold[good.URL] != 1 || len(sold) != 1 {
		t.Errorf("sold %v", sold)
	}
	// It is told of once the node has known of it for too long.
	eventually(t, "a payment hangs, and nobody is shunned for it", func() bool {
		books, err := conf.Ledger.Reputation(t.Context())
		must(t, err)
		return len(books) > 0 && strings.Contains(string(books[0].Record)+string(books[len(books)-1].Record), "holds a payment")
	})
	w.net.Release(held.Hash, false)
	await(t, events, 0, "failed")
	if v := w.standing(t, b, holds); v.State != "shunned" || !v.Until.After(time.Now()) {
		t.Errorf("when it has let go: %+v", v)
	}
	w.buy(t, b, 0)
	w.wantBooks(t, conf, b, 2*price)
}

// Who asks more than the publisher is shunned: asked when nobody else sells, and
// paid if it asks less again.
func TestGougersAreShunned(t *testing.T) {
	w := newWorld(t, 12)
	gouger, fair, conf := w.shop(t, "gouger"), w.shop(t, "fair"), w.config(t)
	b := w.open(t, conf, gouger)
	w.play(t, b, 0, 4)
	must(t, b.AddTitle(t.Context(), w.title, price, []*buyer.Provider{gouger.provider(t), fair.provider(t)}))
	gouger.percent.Store(101)
	b.Prepare(t.Context(), w.segs[4:8])
	if v := w.standing(t, b, gouger); v.State != "shunned" || !strings.Contains(v.Why, "above the ceiling") || !v.Until.After(time.Now()) {
		t.Errorf("the gouger: %+v", v)
	}
	asked := gouger.requests.Load()
	w.play(t, b, 4, 11)
	if n := gouger.requests.Load(); n != asked {
		t.Errorf("while it is shunned it was asked %d times", n-asked)
	}
	fair.Close()
	gouger.percent.Store(100)
	w.buy(t, b, 11)
	w.wantBooks(t, conf, b, 12*price)
}

// Who dies in mid-film is replaced, whatever it has offered.
func TestProviderDies(t *testing.T) {
	w := newWorld(t, 40)
	dies, lives, conf := w.proving(t, "dies"), w.proving(t, "lives"), w.careful(t)
	b := w.open(t, conf, dies, lives)
	w.play(t, b, 0, 10)
	b.Prepare(t.Context(), w.segs[10:18])
	dies.CloseClientConnections()
	dies.Close()
	w.play(t, b, 10, 40)
	if sold := sales(t, conf.Ledger, 10); sold[lives.URL] != 30 {
		t.Errorf("sold %v", sold)
	}
	w.wantBooks(t, conf, b, 40*price)
}

// How providers fared is known after a restart: then the first choice is who did
// well, not whom the viewer names first.
func TestReputationIsKept(t *testing.T) {
	w := newWorld(t, 30)
	silent, quick, conf := w.shop(t, "silent"), w.shop(t, "quick"), w.config(t)
	silent.slow.Store(int64(time.Hour)) // whatever the load, it is later than the other
	b := w.open(t, conf, silent, quick)
	w.play(t, b, 0, 20)
	before := w.standing(t, b, quick)
	b.Close()
	must(t, conf.Ledger.Close())

	silent.slow.Store(0)
	conf = w.config(t)
	b = w.open(t, conf, silent, quick)
	eventually(t, "the key of a provider is never asked for", func() bool { return w.standing(t, b, quick).Key != htlcdash.ProviderID{} })
	after := w.standing(t, b, quick)
	if after.State != "trusted" || after.Latency > 2*before.Latency || after.Factor != 1 || after.Success < before.Success-0.1 || after.Sold != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	b.Prepare(t.Context(), w.segs[20:22])
	if v := w.standing(t, b, quick); v.State != "favourite" {
		t.Errorf("the quick one is not asked first: %+v", v)
	}
}

// A ban for a cheat ends, and the next is twice as long.
func TestBansEnd(t *testing.T) {
	const year = 365 * 24 * time.Hour
	w := newWorld(t, 3)
	cheat, honest, conf := w.shop(t, "cheat"), w.shop(t, "honest"), w.config(t)
	cheat.key = func(htlcdash.Root) htlcdash.Key { return htlcdash.NewKey([32]byte{9}) }
	b := w.open(t, conf, cheat)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, buyer.ErrCheated)
	wantBan := func(times int, life time.Duration) []ledger.Ban {
		t.Helper()
		bans, err := conf.Ledger.Bans(t.Context())
		must(t, err)
		if len(bans) != 2 || bans[0].Times != times || bans[1].Times != times || bans[0].Until.Sub(bans[0].At).Round(time.Second) != life {
			t.Errorf("bans %+v, want the address and the key, %d times, for %v", bans, times, life)
		}
		return bans
	}
	bans := wantBan(1, year)
	if v := w.standing(t, b, cheat); v.State != "banned" || !v.Until.After(time.Now().Add(year-time.Hour)) || v.Why == "" {
		t.Errorf("the cheat: %+v", v)
	}
	b.Close()

	for _, ban := range bans { // a year later
		ban.At, ban.Until = ban.At.Add(-year-time.Hour), time.Now().Add(-time.Hour)
		must(t, conf.Ledger.Ban(t.Context(), ban))
	}
	_, err = conf.Ledger.Forgive(t.Context(), cheat.URL)
	must(t, err)
	b = w.open(t, conf, cheat, honest)
	w.buy(t, b, 0) // and it cheats again
	wantBan(2, 2*year)
	w.buy(t, b, 1)
	w.buy(t, b, 2)
	w.wantBooks(t, conf, b, 5*price)
}

// Credentials that cost money are bought where they are needed: not to learn a
// price, nor to be quick.
func TestNoCredentialsAreBoughtBeside(t *testing.T) {
	w := newWorld(t, 12)
	free, sells, conf := w.shop(t, "free"), w.shop(t, "sells"), w.config(t)
	sells.price, conf.TokenPrice = lightning.Sat, lightning.Sat
	b := w.open(t, conf, free, sells)
	eventually(t, "the one who sells credentials is never met", func() bool { return w.standing(t, b, sells).Key != htlcdash.ProviderID{} })
	free.slow.Store(int64(50 * time.Millisecond))
	b.Prepare(t.Context(), w.segs[:8])
	_, err := b.Segment(buyer.NeededBy(t.Context(), time.Now()), w.segs[0])
	must(t, err)
	w.wantBooks(t, conf, b, price)
	free.Close()
	w.buy(t, b, 11) // for which nobody has offered
	w.wantBooks(t, conf, b, 2*price+lightning.Sat)
}

// A market of all kinds of providers: the film plays to its end, each key is paid
// once, nobody is paid who does not deliver.
func TestMarketOfStrangers(t *testing.T) {
	w := newWorld(t, 120)
	conf := w.careful(t)
	honest, drifts := w.proving(t, "honest"), w.proving(t, "drifts")
	liar, silent, gouger := w.proving(t, "liar"), w.proving(t, "silent"), w.proving(t, "gouger")
	liar.lie = func(r *exchange.ProofRequest, _ *exchange.Offer) { r.Nonce = exchange.Nonce{1} }
	liar.percent.Store(10) // it lures
	silent.slow.Store(int64(time.Minute))
	gouger.percent.Store(300)
	bad := []*shop{liar, silent, gouger}
	for i := range 4 { // keys are free
		s := w.shop(t, fmt.Sprint("sybil ", i))
		s.percent.Store(1)
		bad = append(bad, s)
	}
	b := w.open(t, conf, append(append([]*shop{}, bad...), drifts, honest)...)
	w.play(t, b, 0, 60)
	drifts.slow.Store(int64(3 * time.Second)) // whatever the load, it is later than the other
	honest.percent.Store(90)
	w.play(t, b, 60, 120)
	sold := sales(t, conf.Ledger, 0)
	for _, s := range bad {
		if sold[s.URL] != 0 {
			t.Errorf("%s, which never delivers, sold %d", s.node, sold[s.URL])
		}
	}
	late := sales(t, conf.Ledger, 90)
	if late[honest.URL] <= late[drifts.URL] {
		t.Errorf("of the last 30 keys the honest one sold %d, the one that has become slow and dearer %d", late[honest.URL], late[drifts.URL])
	}
	w.wantBooks(t, conf, b, b.Account(w.title).Spent)
}
