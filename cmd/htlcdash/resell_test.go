package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/mirror"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
	"htlcdash/source"
)

// channel is what each who pays has towards who is paid.
const channel = 1_000_000 * lightning.Sat

// A quarter is several houses in one network: a publisher's shop, shops that
// resell, viewers. Each has its own folder, log and node.
type quarter struct {
	film    *titletest.Title
	network *sim.Network
}

func newQuarter(t *testing.T) *quarter {
	t.Helper()
	return &quarter{titletest.Make(t, titletest.Options{}), sim.New(sim.Config{})}
}

// house makes a street of which one end is used: provider and viewer are the
// same node. It pays over a channel to each of the others.
func (q *quarter) house(t *testing.T, name string, pays ...*street) *street {
	t.Helper()
	s := &street{title: q.film, network: q.network, folder: t.TempDir(), logged: &syncBuffer{}}
	s.provider = q.network.Node(name)
	s.viewer = s.provider
	for _, other := range pays {
		q.network.Connect(s.provider, other.provider, channel, 0)
	}
	s.log = slog.New(slog.NewJSONHandler(s.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return s
}

// resell opens a shop whose only titles are those of others, and waits until it
// sells so many.
func (s *street) resell(t *testing.T, titles int, upstream *street, args ...string) (stop func() error) {
	t.Helper()
	return s.resellAt(t, "127.0.0.1:0", titles, upstream, args...)
}

func (s *street) resellAt(t *testing.T, address string, titles int, upstream *street, args ...string) (stop func() error) {
	t.Helper()
	public, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	operator := door(t)
	s.shop = "http://" + public.Addr().String()
	s.page = "http://" + operator.Addr().String()
	c := s.parse(t, append([]string{"serve", "--titles-folder", filepath.Join(s.folder, "none"), "--upstream", upstream.shop}, args...)...)
	stop = s.open(t, func(ctx context.Context) error {
		return c.Serve.sell(ctx, public, operator, s.provider, s.provider.ID(), s.log)
	})
	s.awaitTitles(t, titles)
	return stop
}

// awaitTitles waits until the shop lists so many titles.
func (s *street) awaitTitles(t *testing.T, n int) {
	t.Helper()
	var list struct{ Titles []json.RawMessage }
	s.await(t, func() bool {
		list.Titles = nil
		resp, err := http.Get(s.shop + "/v1/titles")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(&list) == nil && len(list.Titles) == n
	})
}

func (s *street) await(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !what(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain; the log:\n%s", s.logged)
		}
	}
}

// asked counts the requests that a shop was sent for a path.
func (s *street) asked(path string) int {
	return strings.Count(s.logged.String(), `"path":"`+path+`"`)
}

// books sums up what a house has bought and sold.
func (s *street) books(t *testing.T, file string) (bought, sold int, spent, earned lightning.Msat) {
	t.Helper()
	books, err := ledger.OpenReader(filepath.Join(s.folder, file))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	for p, err := range books.Purchases(t.Context(), ledger.Filter{Paid: true}) {
		if err != nil {
			t.Fatal(err)
		}
		bought, spent = bought+1, spent+p.Amount+p.Fee
	}
	for sale, err := range books.Sales(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		sold, earned = sold+1, earned+sale.Received
	}
	return bought, sold, spent, earned
}

// settled waits until a shop has booked so many sales: its receipts come after
// the buyer's preimage.
func (s *street) settled(t *testing.T, n int) {
	t.Helper()
	s.network.Wait()
	s.await(t, func() bool {
		_, sold, _, _ := s.books(t, "provider.db")
		return sold >= n
	})
}

func (s *street) report(t *testing.T) (r struct {
	Earned   lightning.Msat `json:"earned_msat"`
	Upstream lightning.Msat `json:"upstream_msat"`
	AtRisk   lightning.Msat `json:"at_risk_msat"`
	Titles   []struct {
		Resold   bool
		Missing  int
		Upstream lightning.Msat `json:"upstream_msat"`
		Earned   lightning.Msat `json:"earned_msat"`
	}
},
) {
	t.Helper()
	resp, err := http.Get(s.page + "/api/provider")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(b)).Decode(&r)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return r
}

func (s *street) outbound(t *testing.T) lightning.Msat {
	t.Helper()
	balance, err := s.provider.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return balance.Outbound
}

// A relay buys each key once, and sells it from its own shelf from then on: to a
// second viewer without a word to upstream, to a third when upstream is gone, and
// after a restart. The books of all balance to the msat.
func TestResale(t *testing.T) {
	for _, mode := range []string{"pass", "shelf"} {
		t.Run(mode, func(t *testing.T) { testResale(t, "--upstream-mode", mode) })
	}
}

func testResale(t *testing.T, mode ...string) {
	q := newQuarter(t)
	origin := q.house(t, "origin")
	closeOrigin := origin.sell(t, "--price-factor", "0.8")
	relay := q.house(t, "relay", origin)
	closeRelay := relay.resell(t, 1, origin, mode...)

	viewers := []*street{}
	view := func(name string) *street {
		v := q.house(t, name, relay)
		v.shop = relay.shop
		viewers = append(viewers, v)
		return v
	}
	first := view("first")
	closeFirst := first.play(t)
	first.watch(t, "v1")
	first.watch(t, "a0")
	if err := closeFirst(); err != nil {
		t.Error(err)
	}
	bought, _, spent, _ := first.books(t, "viewer.db")
	if want := 2 * len(q.film.Segments(t, "v1")); bought < want {
		t.Fatalf("the first viewer bought %d keys, want %d at least", bought, want)
	}
	relay.settled(t, bought)
	if r := relay.report(t); !r.Titles[0].Resold || r.Earned != spent || r.Upstream == 0 || r.Upstream*11 > r.Earned*10 || r.Titles[0].Upstream != r.Upstream {
		t.Errorf("the operator reads %+v; the viewer paid %v", r, spent)
	}

	offers, credentials := origin.asked("/v1/offers"), origin.asked("/v1/credentials")
	second := view("second")
	closeSecond := second.play(t)
	second.watch(t, "v1")
	second.watch(t, "a0")
	if err := closeSecond(); err != nil {
		t.Error(err)
	}
	if now := origin.asked("/v1/offers"); now != offers || origin.asked("/v1/credentials") != credentials {
		t.Errorf("upstream was asked for %d more offers for the second viewer", now-offers)
	}

	if err := closeOrigin(); err != nil {
		t.Error(err)
	}
	if err := closeRelay(); err != nil {
		t.Error(err)
	}
	closeRelay = relay.resell(t, 1, origin, mode...) // upstream is gone, and the titles are not
	third := view("third")
	closeThird := third.play(t)
	third.watch(t, "v1")
	if code, _ := third.get(t, "/t/"+q.film.ID.String()+"/"+q.film.Manifest.Representations()[0].Segments[4].Path); code != http.StatusServiceUnavailable {
		t.Errorf("a key that nobody has: status %d", code)
	}
	if err := closeThird(); err != nil {
		t.Error(err)
	}

	paid, sales := lightning.Msat(0), 0
	for _, v := range viewers {
		n, _, spent, _ := v.books(t, "viewer.db")
		if left := v.outbound(t); left != channel-spent {
			t.Errorf("a viewer's node has %v, its books say %v", left, channel-spent)
		}
		paid, sales = paid+spent, sales+n
	}
	relay.settled(t, sales)
	keys, sold, cost, earned := relay.books(t, "provider.db")
	_, wholesale, _, received := origin.books(t, "provider.db")
	if sold != sales || earned != paid || keys != wholesale || cost != received {
		t.Errorf("viewers paid %v for %d keys, the relay sold %d for %v; it bought %d for %v, upstream sold %d for %v",
			paid, sales, sold, earned, keys, cost, wholesale, received)
	}
	if left := relay.outbound(t); left != channel-cost+earned {
		t.Errorf("the relay's node has %v, its books say %v", left, channel-cost+earned)
	}
	if err := errorsOf(closeRelay(), q.network.Check()); err != nil {
		t.Error(err)
	}
}

// Who watches finds the second segment and what follows on the shelf of a relay
// before it is asked for there; what was bought ahead is bounded, and a title that
// nobody watches costs nothing.
func TestAheadOfViewers(t *testing.T) {
	for _, mode := range []string{"pass", "shelf"} {
		t.Run(mode, func(t *testing.T) {
			q := newQuarter(t)
			origin := q.house(t, "origin")
			origin.sell(t, "--price-factor", "0.5")
			relay := q.house(t, "relay", origin)
			relay.resell(t, 1, origin, "--upstream-mode", mode, "--upstream-factor", "1.5", "--upstream-ahead", "1000 sat")
			viewer := q.house(t, "viewer", relay)
			viewer.shop = relay.shop
			viewer.play(t, "--ahead", "0s")
			rep := q.film.Manifest.Representations()[0]
			bought := func() int {
				n, _, _, _ := relay.books(t, "provider.db")
				return n
			}
			for i, seg := range rep.Segments {
				if i > 0 {
					relay.await(t, func() bool { return bought() > i })
				}
				code, got := viewer.get(t, "/t/"+q.film.ID.String()+"/"+seg.Path)
				if code != http.StatusOK || !bytes.Equal(got, q.film.Plain(rep.ID, i)) {
					t.Fatalf("segment %d: status %d", i, code)
				}
				relay.settled(t, i+1)
			}
			keys := map[[32]byte]bool{}
			for _, seg := range q.film.Segments(t, rep.ID) {
				keys[seg.KeyHash] = true
			}
			if n := bought(); n != len(keys) {
				t.Errorf("%d keys bought, want the %d of what was watched", n, len(keys))
			}
			if r := relay.report(t); r.AtRisk != 0 {
				t.Errorf("%v at risk after all was sold", r.AtRisk)
			}
		})
	}
}

// A chain of three: each asks a tenth more than it paid, and none loses a msat.
func TestChain(t *testing.T) {
	for name, modes := range map[string][]string{
		"pass":  {"pass", "pass", "pass"},
		"shelf": {"shelf", "shelf", "shelf"},
		"mixed": {"pass", "shelf", "pass"},
	} {
		t.Run(name, func(t *testing.T) { testChain(t, modes) })
	}
}

func testChain(t *testing.T, modes []string) {
	q := newQuarter(t)
	origin := q.house(t, "origin")
	origin.sell(t, "--price-factor", "0.6")
	houses := []*street{origin}
	for i, name := range []string{"near", "middle", "far"} {
		last := houses[i]
		h := q.house(t, name, last)
		h.resell(t, 1, last, "--upstream-mode", modes[i])
		houses = append(houses, h)
	}
	last := houses[3]
	viewer := q.house(t, "viewer", last)
	viewer.shop = last.shop
	stop := viewer.play(t)
	viewer.watch(t, "v1")
	if err := stop(); err != nil {
		t.Error(err)
	}
	n, _, paid, _ := viewer.books(t, "viewer.db")
	for i := 3; i >= 0; i-- {
		houses[i].settled(t, n)
		bought, sold, spent, earned := houses[i].books(t, "provider.db")
		if sold != n || earned != paid || bought != n && i > 0 {
			t.Errorf("house %d sold %d keys for %v and bought %d; its customer bought %d for %v", i, sold, earned, bought, n, paid)
		}
		if left, want := houses[i].outbound(t), earned-spent; left != want && left != channel+want {
			t.Errorf("house %d has %v, its books say %v", i, left, want)
		}
		if i > 0 && earned*10 < spent*11 {
			t.Errorf("house %d paid %v and got %v", i, spent, earned)
		}
		n, paid = bought, spent
	}
	if err := q.network.Check(); err != nil {
		t.Error(err)
	}
}

// Where upstream asks so much that nothing is left, nothing is bought, and both
// sides are told why: the operator once.
func TestNoMargin(t *testing.T) {
	for _, mode := range []string{"pass", "shelf"} {
		t.Run(mode, func(t *testing.T) { testNoMargin(t, "--upstream-mode", mode) })
	}
}

func testNoMargin(t *testing.T, mode ...string) {
	q := newQuarter(t)
	origin := q.house(t, "origin")
	closeOrigin := origin.sell(t, "--price-factor", "0.95")
	relay := q.house(t, "relay", origin)
	relay.resell(t, 1, origin, mode...)
	viewer := q.house(t, "viewer", relay)
	viewer.shop = relay.shop
	viewer.play(t)
	path := "/t/" + q.film.ID.String() + "/" + q.film.Manifest.Representations()[1].Segments[0].Path
	for range 3 {
		if code, _ := viewer.get(t, path); code != http.StatusServiceUnavailable {
			t.Fatalf("status %d", code)
		}
	}
	if bought, _, _, _ := relay.books(t, "provider.db"); bought != 0 {
		t.Errorf("the relay bought %d keys", bought)
	}
	if n := strings.Count(relay.logged.String(), "not sold here: upstream asks so much"); n != 1 {
		t.Errorf("the operator reads it %d times:\n%s", n, relay.logged)
	}
	if !strings.Contains(viewer.logged.String(), "not-sold-here") {
		t.Errorf("the viewer does not read why:\n%s", viewer.logged)
	}

	// Upstream comes down with its prices.
	address := strings.TrimPrefix(origin.shop, "http://")
	if err := closeOrigin(); err != nil {
		t.Error(err)
	}
	origin.sellAt(t, address, "--price-factor", "0.5")
	viewer.await(t, func() bool {
		code, _ := viewer.get(t, path)
		return code == http.StatusOK
	})
}

// A title that nobody upstream sells any more is withdrawn, and one that is not
// to be carried never comes.
func TestWithdrawn(t *testing.T) {
	q := newQuarter(t)
	origin := q.house(t, "origin")
	closeOrigin := origin.sell(t)
	other := q.house(t, "other", origin)
	other.resell(t, 0, origin, "--upstream-carry", strings.Repeat("0", 64))
	relay := q.house(t, "relay", origin)
	closeRelay := relay.resell(t, 1, origin, "--upstream-carry", q.film.Publisher.String())
	address := strings.TrimPrefix(origin.shop, "http://")
	if err := closeOrigin(); err != nil {
		t.Error(err)
	}
	origin.title = titletest.Make(t, titletest.Options{Seed: 7})
	origin.sellAt(t, address)
	if err := closeRelay(); err != nil { // it looks at once when it begins
		t.Error(err)
	}
	relay.resell(t, 0, origin, "--upstream-carry", q.film.Publisher.String())
	if !strings.Contains(relay.logged.String(), "title withdrawn") {
		t.Error("the log does not say so")
	}
}

// lister is a shop that lists titles, of which none can be opened.
func lister(t *testing.T, ids ...htlcdash.TitleID) (shop *httptest.Server, list func(...htlcdash.TitleID)) {
	t.Helper()
	var shown atomic.Pointer[[]map[string]any]
	list = func(ids ...htlcdash.TitleID) {
		titles := []map[string]any{}
		for _, id := range ids {
			titles = append(titles, map[string]any{"id": id, "publisher": htlcdash.PublisherID{1}, "name": id.String()})
		}
		shown.Store(&titles)
	}
	list(ids...)
	shop = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/titles" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"titles": *shown.Load()})
	}))
	t.Cleanup(shop.Close)
	return shop, list
}

// A title is gone once no provider upstream lists it. One that is silent keeps what it
// listed when it answered last, and no more; all of a list counts, also what cannot be
// opened now.
func TestWhatIsGone(t *testing.T) {
	a, b, c, nobodys := htlcdash.TitleID{1}, htlcdash.TitleID{2}, htlcdash.TitleID{3}, htlcdash.TitleID{4}
	first, list := lister(t, a, b)
	second, _ := lister(t, c)
	m := marketOf(t, first.URL, second.URL)
	want := func(when string, gone ...htlcdash.TitleID) {
		t.Helper()
		for _, id := range []htlcdash.TitleID{a, b, c, nobodys} {
			if m.gone(id) != slices.Contains(gone, id) {
				t.Errorf("%s: that title %v is gone is %v", when, id[0], m.gone(id))
			}
		}
	}
	want("before anybody has answered")
	for _, p := range m.providers {
		m.kept[p] = maxKept // so that the first of each list is the last that is looked at
	}
	m.refresh(t.Context())
	want("when all have answered", nobodys)
	second.Close()
	list(b)
	m.refresh(t.Context())
	want("when one is silent", a, nobodys)
}

// marketOf is a market of these providers, with books of its own.
func marketOf(t *testing.T, providers ...string) *market {
	t.Helper()
	books, err := ledger.Open(filepath.Join(t.TempDir(), "books.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { books.Close() })
	m, err := newMarket(config.ProxyProviders{Providers: providers}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.found.close)
	m.buyer, err = buyer.New(buyer.Config{Ledger: books, Payer: sim.New(sim.Config{}).Node("node"), Sealed: nothing{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.buyer.Close() })
	return m
}

// All that is fetched of one provider's new titles, at one refresh, has one deadline: it
// cannot hold up others for longer by having more of them.
func TestProvidersShareTheTime(t *testing.T) {
	shop, _ := lister(t)
	m := marketOf(t, shop.URL)
	m.take(false, func(source.Source) {})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ends []time.Time
	m.show = func(ctx context.Context, _ found) error {
		end, _ := ctx.Deadline()
		ends = append(ends, end)
		if len(ends) == 2 {
			cancel() // as if the time were over
			return ctx.Err()
		}
		return nil
	}
	var titles []found
	for seed := range byte(3) {
		film := titletest.Make(t, titletest.Options{Seed: 20 + seed})
		titles = append(titles, found{m.providers[0], buyer.TitleInfo{ID: film.ID, Name: "film"}, film.Title})
	}
	met, blame := m.meetAll(ctx, titles)
	if len(ends) != 2 || ends[0].IsZero() || ends[0] != ends[1] || len(met) != 1 || blame == nil {
		t.Errorf("shown until %v, %d met, %v", ends, len(met), blame)
	}
}

// A title that cannot be copied is not fetched again at each refresh.
func TestCopyThatFails(t *testing.T) {
	film := titletest.Make(t, titletest.Options{})
	fetched := 0
	shown, err := title.Open(t.Context(), func(_ context.Context, path string, offset, limit int64) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(film.Dir, filepath.FromSlash(path)))
		if strings.HasSuffix(path, ".seals") || err != nil {
			fetched++
			return nil, htlcdash.ErrNotFound // a list that is not there
		}
		return b[min(offset, int64(len(b))):min(offset+limit, int64(len(b)))], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	copies, err := mirror.Open(t.Context(), t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &reseller{mirror: copies, failed: map[copyOf]notCopied{}}
	it := found{at: new(buyer.Provider), info: buyer.TitleInfo{ID: film.ID, Name: "film"}, open: shown}
	for range 5 {
		if err := r.copyTitle(t.Context(), it); !errors.Is(err, htlcdash.ErrNotFound) {
			t.Fatalf("copied: %v", err)
		}
	}
	other := found{at: new(buyer.Provider), info: it.info, open: film.Title}
	if err := r.copyTitle(t.Context(), other); err != nil || !copies.Has(film.ID) {
		t.Errorf("of a provider that has it whole: %v", err)
	}
	if len(r.failed) != 1 || fetched == 0 || fetched > 2 {
		t.Errorf("%d failures are known, after %d requests", len(r.failed), fetched)
	}
}

type nothing struct{}

func (nothing) Get(context.Context, htlcdash.Blob) ([]byte, error) { return nil, htlcdash.ErrNotFound }

// Two who buy from each other what neither has ask in a circle: it ends, and
// nothing is paid.
func TestCircle(t *testing.T) {
	for _, mode := range []string{"pass", "shelf"} {
		t.Run(mode, func(t *testing.T) {
			q := newQuarter(t)
			origin := q.house(t, "origin")
			closeOrigin := origin.sell(t, "--price-factor", "0.5")
			free := door(t)
			other := q.house(t, "other")
			other.shop = "http://" + free.Addr().String()
			free.Close()
			one := q.house(t, "one", origin, other)
			one.resell(t, 1, origin, "--upstream", other.shop, "--upstream-mode", mode)
			q.network.Connect(other.provider, one.provider, channel, 0)
			other.resellAt(t, strings.TrimPrefix(other.shop, "http://"), 1, one, "--upstream-mode", mode)
			seen := other.asked("/v1/titles")
			one.await(t, func() bool { // it looks again soon, since nobody was there
				return other.asked("/v1/titles") > seen
			})
			if err := closeOrigin(); err != nil {
				t.Error(err)
			}
			viewer := q.house(t, "viewer", other)
			viewer.shop = other.shop
			viewer.play(t)
			begun := time.Now()
			code, _ := viewer.get(t, "/t/"+q.film.ID.String()+"/"+q.film.Manifest.Representations()[1].Segments[0].Path)
			t.Logf("%d after %v; %d and %d requests for offers", code, time.Since(begun), one.asked("/v1/offers"), other.asked("/v1/offers"))
			if n := one.asked("/v1/offers") + other.asked("/v1/offers"); n > 60 { // a few for each try of the viewer
				t.Errorf("they asked each other %d times", n)
			}
			for _, h := range []*street{one, other} {
				if bought, sold, _, _ := h.books(t, "provider.db"); bought+sold > 0 {
					t.Errorf("%d bought, %d sold", bought, sold)
				}
			}
		})
	}
}
