package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/config"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/seller"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A carriersStreet is a street with a second provider, which has a copy of the title
// without its keys, and is cheaper at carrying its bytes.
type carriersStreet struct {
	*street
	carrier     *sim.Node
	folder2     string
	originPage  string
	carrierPage string
}

func newCarriersStreet(t *testing.T) *carriersStreet {
	t.Helper()
	s := &carriersStreet{street: newStreet(t), folder2: t.TempDir()}
	s.carrier = s.network.Node("carrier")
	s.network.Connect(s.viewer, s.carrier, 1_000_000*lightning.Sat, 0)
	copied := filepath.Join(s.folder2, "titles", filepath.Base(s.title.Dir))
	if err := os.CopyFS(copied, os.DirFS(s.title.Dir)); err != nil {
		t.Fatal(err)
	}
	return s
}

// sellBoth opens the provider that has the keys and the carrier. Prices are of a MiB,
// and a step is so many bytes.
func (s *carriersStreet) sellBoth(t *testing.T, origin, carrier lightning.Msat, step int64) (stop func() error) {
	t.Helper()
	price := func(m lightning.Msat) []string {
		return []string{"--byte-price", fmt.Sprintf("%d msat", m), "--byte-step", fmt.Sprintf("%d B", step)}
	}
	public, operator := door(t), door(t)
	shop := "http://" + public.Addr().String()
	s.originPage = "http://" + operator.Addr().String()
	c := s.parse(t, append([]string{"serve"}, price(origin)...)...)
	stopOrigin := s.open(t, func(ctx context.Context) error {
		return c.Serve.sell(ctx, public, operator, s.provider, s.provider.ID(), s.log)
	})
	public2, operator2 := door(t), door(t)
	s.carrierPage = "http://" + operator2.Addr().String()
	file := filepath.Join(s.folder2, "htlcdash.toml")
	values := map[string]string{"titles.folder": filepath.Join(s.folder2, "titles")}
	if err := os.WriteFile(file, config.Sample(s.folder2, values), 0o600); err != nil {
		t.Fatal(err)
	}
	other := parseAt(t, file, append([]string{"serve"}, price(carrier)...)...)
	stopCarrier := s.open(t, func(ctx context.Context) error {
		return other.Serve.sell(ctx, public2, operator2, s.carrier, s.carrier.ID(), s.log)
	})
	s.shop = shop + ",http://" + public2.Addr().String()
	return func() error { return errorsOf(stopOrigin(), stopCarrier()) }
}

// parseAt gives the commands as a command line makes them with a file.
func parseAt(t *testing.T, file string, args ...string) *commands {
	t.Helper()
	var c commands
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append(args, "--config", file)); err != nil {
		t.Fatal(err)
	}
	return &c
}

func (s *carriersStreet) report(t *testing.T, page string) (r seller.Report) {
	t.Helper()
	resp, err := http.Get(page + "/api/provider")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// settle waits until the books of a provider have so much, and returns its report.
func (s *carriersStreet) settle(t *testing.T, page string, want lightning.Msat) (r seller.Report) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if r = s.report(t, page); r.Earned >= want {
			break
		}
	}
	return r
}

// split is what the viewer's page says of the title's money.
type split struct {
	Spent       lightning.Msat `json:"spent_msat"`
	Fees        lightning.Msat `json:"fees_msat"`
	Keys        lightning.Msat `json:"keys_msat"`
	Carriage    lightning.Msat `json:"carriage_msat"`
	Credentials lightning.Msat `json:"credentials_msat"`
	Lost        lightning.Msat `json:"lost_msat"`
	InFlight    int            `json:"in_flight"`

	BytesCheapest lightning.Msat `json:"bytes_cheapest_msat"` // of the whole film
	BytesDearest  lightning.Msat `json:"bytes_dearest_msat"`
}

func (s *carriersStreet) split(t *testing.T) (sum split) {
	t.Helper()
	var state struct{ Title split }
	code, b := s.get(t, "/api/state?title="+s.title.ID.String())
	if err := json.Unmarshal(b, &state); err != nil {
		t.Fatalf("%d %s: %v", code, b, err)
	}
	return state.Title
}

// stop keeps the viewer from paying, and waits until no payment is under way.
func (s *carriersStreet) stop(t *testing.T) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.player+"/api/stop", strings.NewReader(`{"title":"`+s.title.ID.String()+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Htlcdash", "1")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	soon(t, "no payment is under way", func() bool { return s.split(t).InFlight == 0 })
}

// The publisher is paid for keys, another for carrying bytes, and each for nothing
// else, to the msat; what was spent is shown by its parts.
func TestPublisherAndCarrierAreBothPaid(t *testing.T) {
	s := newCarriersStreet(t)
	const leaf = 16 << 10
	closeShops := s.sellBoth(t, 6400, 3200, 4*leaf)
	length := func(reps ...string) (n int64) {
		for _, rep := range reps {
			for _, seg := range s.title.Segments(t, rep) {
				n += seg.SealedBlob().Length
			}
		}
		return n
	}
	few, bytes := length("v0", "a0"), length("v1", "a0")
	all := exchange.Carriage{Price: 3200}.Cost(bytes)
	closeProxy := s.play(t, "--byte-price-max", "7 sat")
	if code, _ := s.get(t, "/t/"+s.title.ID.String()+"/manifest.mpd"); code != http.StatusOK {
		t.Fatal("no MPD", code)
	}
	s.watch(t, "v1")
	s.watch(t, "a0")
	s.stop(t)
	sum := s.split(t)
	if err := closeProxy(); err != nil {
		t.Error(err)
	}
	s.network.Wait()
	origin, carrier := s.settle(t, s.originPage, sum.Keys), s.settle(t, s.carrierPage, sum.Carriage)
	if err := closeShops(); err != nil {
		t.Error(err)
	}
	if want := (exchange.Carriage{Price: 3200}).Cost(few); sum.BytesDearest != all || sum.BytesCheapest != want || few == bytes {
		t.Errorf("the page says that the film's bytes cost %v to %v, want %v to %v", sum.BytesCheapest, sum.BytesDearest, want, all)
	}
	if sum.Keys == 0 || sum.Spent != sum.Keys+sum.Carriage || sum.Fees != 0 || sum.Lost != 0 || sum.Credentials != 0 {
		t.Errorf("the viewer's page says %+v", sum)
	}
	if owed := (exchange.Carriage{Price: 3200}).Cost(4 * leaf); sum.Carriage > all+5 || sum.Carriage < all-owed {
		t.Errorf("paid %v for bytes that cost %v", sum.Carriage, all)
	}
	if origin.Earned != sum.Keys || origin.Carriage != 0 || carrier.Earned != sum.Carriage || carrier.Carriage != sum.Carriage || carrier.Sales != 0 {
		t.Errorf("the origin earned %v, %v of it by bytes; the carrier %v, %v; the viewer spent %+v",
			origin.Earned, origin.Carriage, carrier.Earned, carrier.Carriage, sum)
	}
	for name, node := range map[string]*sim.Node{"origin": s.provider, "carrier": s.carrier} {
		balance, err := node.Balance(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]lightning.Msat{"origin": sum.Keys, "carrier": sum.Carriage}[name]; balance.Outbound != want {
			t.Errorf("the node of the %s has %v, want %v", name, balance.Outbound, want)
		}
	}
	if _, paid := s.sum(t, "bought", "amount_msat"); paid != sum.Spent {
		t.Errorf("exported purchases of %v, want %v", paid, sum.Spent)
	}
	for _, path := range []string{filepath.Join(s.folder, "viewer.db"), filepath.Join(s.folder, "provider.db"), filepath.Join(s.folder2, "provider.db")} {
		books, err := ledger.OpenReader(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := books.Check(t.Context()); err != nil {
			t.Error(err)
		}
		books.Close()
	}
	if err := s.network.Check(); err != nil {
		t.Error(err)
	}
}

// A budget of what the cheapest way costs with its carriage, and no msat more, plays
// to the last segment.
func TestTightBudgetWithPaidCarriage(t *testing.T) {
	s := newCarriersStreet(t)
	const price, step = 32_000, 4 * 16 << 10
	s.sellBoth(t, price, price, step)
	cheapest, _ := s.title.Manifest.PriceRange()
	var bytes int64
	payments := lightning.Msat(0)
	for _, rep := range []string{"v0", "a0"} {
		for _, seg := range s.title.Segments(t, rep) {
			bytes += seg.SealedBlob().Length
			payments++ // each may round up a msat
		}
	}
	budget := cheapest + exchange.Carriage{Price: price}.Cost(bytes) + payments
	s.play(t, "--byte-price-max", "32 sat", "--budget-title", fmt.Sprintf("%d msat", budget), "--max-fee", "0", "--max-fee-percent", "0")
	if code, _ := s.get(t, "/t/"+s.title.ID.String()+"/manifest.mpd?all=1"); code != http.StatusOK {
		t.Fatal("no MPD", code)
	}
	s.watch(t, "v0")
	s.watch(t, "a0")
	if sum := s.split(t); sum.Keys != cheapest || sum.Spent > budget || sum.Carriage == 0 {
		t.Errorf("spent %+v, want keys for %v and %v at most", sum, cheapest, budget)
	}
}

// The headless player plans with carriage: on a budget between the cheapest and the
// dearest way it plays to the end, at better than the lowest rung.
func TestPlayOnABudgetWithPaidCarriage(t *testing.T) {
	s := newCarriersStreet(t)
	const price, step = 32_000, 4 * 16 << 10
	s.sellBoth(t, price, price, step)
	cost := func(reps ...string) (sum lightning.Msat) {
		for _, rep := range reps {
			for _, seg := range s.title.Segments(t, rep) {
				sum += seg.Price + exchange.Carriage{Price: price}.Cost(seg.SealedBlob().Length) + 1
			}
		}
		return sum
	}
	low, high := cost("v0", "a0"), cost("v1", "a0")
	for _, budget := range []lightning.Msat{low, (low + high) / 2, high} {
		t.Run(budget.String(), func(t *testing.T) {
			folder := t.TempDir()
			file := filepath.Join(folder, "htlcdash.toml")
			values := map[string]string{"titles.folder": s.title.Dir, "proxy.providers": s.shop}
			if err := os.WriteFile(file, config.Sample(folder, values), 0o600); err != nil {
				t.Fatal(err)
			}
			c := parseAt(t, file, "play", filepath.Base(s.title.Dir), "--fast", "--budget", fmt.Sprintf("%d msat", budget),
				"--proxy-byte-price-max", "32 sat", "--proxy-max-fee", "0", "--proxy-max-fee-percent", "0")
			if err := c.Play.playSold(t.Context(), terminal{out: io.Discard, err: io.Discard}, s.viewer, s.log); err != nil {
				t.Fatal(err)
			}
			books, err := ledger.OpenReader(filepath.Join(folder, "viewer.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer books.Close()
			spent, _, err := books.Spent(t.Context(), nil, time.Time{})
			if err != nil || spent > budget || spent < low-cost("a0") {
				t.Errorf("spent %v of %v, %v", spent, budget, err)
			}
		})
	}
}

// A relay whose upstream takes money for sealed bytes pays for each once, and is paid
// for each by all who fetch it of the relay, with a margin. Where it asks too little
// for that it pays nothing, and says so.
func TestRelayPaysForCarriage(t *testing.T) {
	const step = 4 * 16 << 10
	q := newQuarter(t)
	origin := q.house(t, "origin")
	origin.sell(t, "--price-factor", "0.5", "--byte-price", "3200 msat", "--byte-step", fmt.Sprintf("%d B", step))
	relay := q.house(t, "relay", origin)
	relay.resell(t, 1, origin, "--byte-price", "6400 msat", "--byte-step", fmt.Sprintf("%d B", step), "--upstream-ahead", "0")
	var earned lightning.Msat
	for i, name := range []string{"first", "second"} {
		v := q.house(t, name, relay)
		v.shop = relay.shop
		stop := v.play(t, "--byte-price-max", "7 sat")
		v.watch(t, "v1")
		if err := stop(); err != nil {
			t.Error(err)
		}
		cost, _ := v.carriage(t, "viewer.db")
		if cost == 0 {
			t.Errorf("the %s viewer paid nothing for sealed bytes", name)
		}
		earned += cost
		relay.await(t, func() bool {
			_, got := relay.carriage(t, "provider.db")
			return got == earned
		})
		paid, _ := relay.carriage(t, "provider.db")
		all := exchange.Carriage{Price: 3200}
		var bytes int64
		for _, seg := range q.film.Segments(t, "v1") {
			bytes += seg.SealedBlob().Length
		}
		if paid == 0 || paid > all.Cost(bytes)+lightning.Msat(len(q.film.Segments(t, "v1"))) {
			t.Errorf("after viewer %d the relay has paid %v for bytes that cost %v", i+1, paid, all.Cost(bytes))
		}
		if earned*10 < paid*11 {
			t.Errorf("after viewer %d the relay has paid %v and earned %v", i+1, paid, earned)
		}
	}

	poor := q.house(t, "poor", origin)
	poor.resell(t, 1, origin, "--byte-price", "3300 msat", "--byte-step", fmt.Sprintf("%d B", step))
	v := q.house(t, "third", poor)
	v.shop = poor.shop
	v.play(t, "--byte-price-max", "7 sat")
	path := "/t/" + q.film.ID.String() + "/" + q.film.Manifest.Representations()[1].Segments[0].Path
	if code, _ := v.get(t, path); code == http.StatusOK {
		t.Error("sealed bytes that nobody pays for are had")
	}
	if n := strings.Count(poor.logged.String(), "sealed bytes are not bought upstream"); n != 1 {
		t.Errorf("the operator reads it %d times:\n%s", n, poor.logged)
	}
	if cost, _ := poor.carriage(t, "provider.db"); cost != 0 {
		t.Errorf("it paid %v", cost)
	}
	q.network.Wait()
	if err := q.network.Check(); err != nil {
		t.Error(err)
	}
}

// carriage is what a house has paid for sealed bytes, and earned by them.
func (s *street) carriage(t *testing.T, file string) (cost, earned lightning.Msat) {
	t.Helper()
	books, err := ledger.OpenReader(filepath.Join(s.folder, file))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	if cost, earned, err = books.CarriageSince(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	return cost, earned
}
