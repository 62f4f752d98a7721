package stock_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/margin"
	"htlcdash/internal/stock"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/cache"
)

const price = 1000 * lightning.Msat(1) // the publisher's

// A wholesaler is a buyer whose upstream has all keys, at a price.
type wholesaler struct {
	books *ledger.Ledger
	cost  lightning.Msat
	fail  error
	gate  chan struct{} // nil: open
	asked atomic.Int64
	keys  map[[32]byte]htlcdash.Key

	entered func() // is called with each request; nil: nothing
}

func (w *wholesaler) Key(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error) {
	w.asked.Add(1)
	if w.entered != nil {
		w.entered()
	}
	if w.gate != nil {
		select {
		case <-w.gate:
		case <-ctx.Done():
			return htlcdash.Key{}, ctx.Err()
		}
	}
	if w.fail != nil {
		return htlcdash.Key{}, w.fail
	}
	return w.keys[seg.KeyHash], w.buy(ctx, seg)
}

func (w *wholesaler) buy(ctx context.Context, seg htlcdash.Segment) error {
	p := ledger.Purchase{Title: seg.Title, Representation: seg.Representation, Index: seg.Index, Sealed: seg.Sealed, KeyHash: seg.KeyHash, Amount: w.cost - 10, Created: time.Now()}
	_, _ = rand.Read(p.Hash[:])
	out := lightning.Payment{State: lightning.Paid, Amount: w.cost - 10, Fee: 10}
	return errors.Join(w.books.Intend(ctx, p), w.books.Conclude(ctx, p.Hash, out, w.keys[seg.KeyHash]))
}

// sold books that somebody bought the key of seg.
func (w *wholesaler) sold(ctx context.Context, seg htlcdash.Segment) error {
	sale := ledger.Sale{Title: seg.Title, Representation: seg.Representation, Index: seg.Index, Sealed: seg.Sealed, Scheme: exchange.SchemeSalted, Amount: 1, Created: time.Now()}
	_, _ = rand.Read(sale.Hash[:])
	return errors.Join(w.books.Offered(ctx, []ledger.Sale{sale}), w.books.Settle(ctx, ledger.FromNode, lightning.Receipt{Hash: sale.Hash, Amount: 1, At: time.Now()}))
}

type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// world is a stock over a wholesaler, with segments to buy.
func world(t *testing.T, c stock.Config) (*stock.Stock, *wholesaler, []htlcdash.Segment, *logs) {
	t.Helper()
	books, err := ledger.Open(filepath.Join(t.TempDir(), "provider.db"))
	must(t, err)
	t.Cleanup(func() { books.Close() })
	w := &wholesaler{books: books, cost: 800, keys: map[[32]byte]htlcdash.Key{}}
	var segs []htlcdash.Segment
	for i := range 20 {
		_, seal, key := htlcdash.SealSegment([]byte("secret"), fmt.Appendf(nil, "segment %d", i))
		seal.Price = price
		w.keys[seal.KeyHash] = key
		segs = append(segs, htlcdash.Segment{Title: htlcdash.TitleID{7}, Representation: "v1", Index: i, Seal: seal})
	}
	log := &logs{}
	c.Books, c.Buyer, c.Log = books, w, slog.New(slog.NewTextHandler(log, nil))
	if c.Margin == (margin.Policy{}) {
		c.Margin = margin.Policy{Factor: 1.1}
	}
	return open(t, c), w, segs, log
}

func open(t *testing.T, c stock.Config) *stock.Stock {
	t.Helper()
	s, err := stock.New(t.Context(), c)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantRefusal(t *testing.T, err error, want string) {
	t.Helper()
	if got, ok := errors.AsType[exchange.Refusal](err); !ok || string(got) != want || !errors.Is(err, exchange.ErrRefused) {
		t.Errorf("refused with %v, want %s", err, want)
	}
}

func wantRisk(t *testing.T, s *stock.Stock, want lightning.Msat) {
	t.Helper()
	if got := s.AtRisk(); got != want {
		t.Errorf("%v at risk, want %v", got, want)
	}
}

// Many viewers who ask for one key cause one purchase, and from then on it is on
// the shelf, also after a restart.
func TestOrder(t *testing.T) {
	c := stock.Config{Risk: 10_000}
	s, w, segs, _ := world(t, c)
	w.gate = make(chan struct{})
	if _, err := s.Key(t.Context(), segs[0]); !errors.Is(err, htlcdash.ErrNotFound) || s.Has(segs[0]) {
		t.Fatalf("a key from nowhere: %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	w.entered = leave // the first who asks goes away, and the purchase goes on
	if _, err := s.Order(gone, segs[0]); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantRisk(t, s, 909) // set aside: the most that fits under the publisher's price
	var work sync.WaitGroup
	for range 50 {
		work.Go(func() {
			if key, err := s.Order(t.Context(), segs[0]); err != nil || !key.Opens(segs[0].Seal) {
				t.Error(err)
			}
		})
	}
	close(w.gate)
	work.Wait()
	if w.asked.Load() != 1 {
		t.Errorf("%d purchases, want 1", w.asked.Load())
	}
	wantRisk(t, s, 800)
	if p, ok := s.Price(segs[0]); !ok || p != 880 {
		t.Errorf("price %v, %v; want 880 msat", p, ok)
	}
	if _, ok := s.Price(segs[1]); ok {
		t.Error("a price for what is not here")
	}

	c.Books, c.Buyer, c.Margin = w.books, w, margin.Policy{Factor: 1.1}
	s = open(t, c)
	wantRisk(t, s, 800)
	if key, err := s.Order(t.Context(), segs[0]); err != nil || !key.Opens(segs[0].Seal) || w.asked.Load() != 1 {
		t.Errorf("after a restart: %v, %d purchases", err, w.asked.Load())
	}
	s.Sold(segs[0])
	wantRisk(t, s, 0)
	must(t, w.sold(t.Context(), segs[0]))
	wantRisk(t, open(t, c), 0)
}

// Who asks and does not pay can make the provider buy so much, and no more.
func TestRiskIsBounded(t *testing.T) {
	s, w, segs, log := world(t, stock.Config{Risk: 3000})
	for i := range 3 {
		_, err := s.Order(t.Context(), segs[i])
		if i < 2 {
			must(t, err)
		}
	}
	for _, seg := range segs[3:] {
		_, err := s.Order(t.Context(), seg)
		wantRefusal(t, err, exchange.RefusedBusy)
	}
	if w.asked.Load() != 3 || log.count("nobody has bought") != 1 {
		t.Errorf("%d purchases, log:\n%s", w.asked.Load(), log.b.String())
	}
	s.Sold(segs[0])
	if _, err := s.Order(t.Context(), segs[3]); err != nil {
		t.Error("after a sale:", err)
	}
	wantRisk(t, s, 2400)
}

// A payment of which nobody knows yet what became of it stays at risk, also after a
// restart, until its key is here; and counts once then.
func TestPaymentsInDoubtAreAtRisk(t *testing.T) {
	c := stock.Config{Risk: 1700}
	s, w, segs, _ := world(t, c)
	p := ledger.Purchase{
		Hash: lightning.Hash{1}, Title: segs[0].Title, Representation: "v1", Sealed: segs[0].Sealed, KeyHash: segs[0].KeyHash,
		Amount: 790, MaxFee: 20, Created: time.Now(),
	}
	w.entered = sync.OnceFunc(func() { must(t, w.books.Intend(t.Context(), p)) })
	w.fail = lightning.ErrInFlight
	_, err := s.Order(t.Context(), segs[0])
	wantRefusal(t, err, exchange.RefusedUnavailable)
	wantRisk(t, s, 810)
	w.fail = nil
	_, err = s.Order(t.Context(), segs[1])
	wantRefusal(t, err, exchange.RefusedBusy)

	c.Books, c.Buyer, c.Margin = w.books, w, margin.Policy{Factor: 1.1}
	s = open(t, c)
	wantRisk(t, s, 810)
	must(t, w.books.Conclude(t.Context(), p.Hash, lightning.Payment{State: lightning.Paid, Amount: 790, Fee: 10}, w.keys[p.KeyHash]))
	if _, err := s.Key(t.Context(), segs[0]); err != nil {
		t.Error(err)
	}
	wantRisk(t, s, 800)
	s.Sold(segs[0])
	wantRisk(t, s, 0)
}

func TestInFlightIsBounded(t *testing.T) {
	s, w, segs, _ := world(t, stock.Config{Risk: 100_000, InFlight: 1900})
	w.gate = make(chan struct{})
	var work sync.WaitGroup
	for i := range 2 {
		work.Go(func() {
			if _, err := s.Order(t.Context(), segs[i]); err != nil {
				t.Error(err)
			}
		})
	}
	for s.AtRisk() < 2*909 {
		runtime.Gosched()
	}
	_, err := s.Order(t.Context(), segs[5])
	wantRefusal(t, err, exchange.RefusedBusy)
	close(w.gate)
	work.Wait()
	if w.asked.Load() != 2 {
		t.Errorf("%d purchases under way, want 2", w.asked.Load())
	}
}

// watched is a stock that looks ahead, and the row of segments that it knows.
func watched(t *testing.T, c stock.Config) (*stock.Stock, *wholesaler, []htlcdash.Segment) {
	t.Helper()
	titles := &source.Outline{}
	c.Guide, c.Margin = titles, margin.Policy{Factor: 1.5}
	s, w, segs, _ := world(t, c)
	w.cost = 600
	titles.Add(segs)
	return s, w, segs
}

// Who pays for a segment finds the next ones on the shelf; who only asks moves
// nothing.
func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, segs := watched(t, stock.Config{Risk: 100_000, Ahead: cache.Terms{Depth: 3, Risk: 100_000}})
		_, err := s.Order(t.Context(), segs[0])
		must(t, err)
		synctest.Wait()
		if n := w.asked.Load(); n != 1 {
			t.Errorf("%d purchases for one who has not paid, want 1", n)
		}
		for i, seg := range segs {
			if !s.Has(seg) {
				t.Errorf("segment %d is not on the shelf before it is asked for", i)
			}
			s.Sold(seg)
			synctest.Wait()
		}
		if n := w.asked.Load(); n != int64(len(segs)) {
			t.Errorf("%d purchases of %d keys", n, len(segs))
		}
		wantRisk(t, s, 0)
		if a := s.Account(); a.Used != int64(len(segs)-1) || a.Risked != 0 || a.Lost != 0 {
			t.Errorf("account %+v", a)
		}
	})
}

// What is bought ahead of need is bounded by what it may lose, and leaves half of
// what may be at risk.
func TestAheadIsBounded(t *testing.T) {
	for name, c := range map[string]stock.Config{
		"by its own bound":    {Risk: 100_000, Ahead: cache.Terms{Depth: 10, Risk: 1400}},
		"by half of the risk": {Risk: 2800, Ahead: cache.Terms{Depth: 10, Risk: 100_000}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, w, segs := watched(t, c)
				s.Sold(segs[0])
				synctest.Wait()
				if n := w.asked.Load(); n != 2 {
					t.Errorf("%d purchases, want 2", n)
				}
				wantRisk(t, s, 1200)
			})
		})
	}
}

// What upstream does not have costs nothing, and is not booked.
func TestAheadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, segs := watched(t, stock.Config{Risk: 100_000, Ahead: cache.Terms{Depth: 3, Risk: 100_000}})
		w.fail = errors.New("nobody there")
		s.Sold(segs[0])
		synctest.Wait()
		if a := s.Account(); a != (cache.Account{}) || w.asked.Load() != 3 {
			t.Errorf("account %+v after %d requests", a, w.asked.Load())
		}
	})
}

// A key that nobody buys for a day is written off.
func TestWrittenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, segs, _ := world(t, stock.Config{Risk: 1000})
		_, err := s.Order(t.Context(), segs[0])
		must(t, err)
		_, err = s.Order(t.Context(), segs[1])
		wantRefusal(t, err, exchange.RefusedBusy)
		time.Sleep(25 * time.Hour)
		_, err = s.Order(t.Context(), segs[1])
		must(t, err)
		wantRisk(t, s, 800)
		if !s.Has(segs[0]) {
			t.Error("what is written off is not sold any more")
		}
	})
}

// Where the margin does not fit, nothing is bought; the operator reads it once,
// and upstream is left alone for a while.
func TestMarginDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w, segs, log := world(t, stock.Config{Risk: 10_000})
		w.fail = fmt.Errorf("asks 950: %w", buyer.ErrDear)
		for range 3 {
			for _, seg := range segs[:4] {
				_, err := s.Order(t.Context(), seg)
				wantRefusal(t, err, exchange.RefusedDear)
			}
		}
		if w.asked.Load() != 4 || log.count("not sold here") != 1 {
			t.Errorf("asked %d times, want 4; log:\n%s", w.asked.Load(), log.b.String())
		}
		wantRisk(t, s, 0)
		w.fail = nil
		time.Sleep(time.Minute)
		if _, err := s.Order(t.Context(), segs[0]); err != nil {
			t.Error("prices fell:", err)
		}
		w.fail = buyer.ErrBudget
		_, err := s.Order(t.Context(), segs[5])
		wantRefusal(t, err, exchange.RefusedBusy)
		w.fail = errors.New("connection refused")
		_, err = s.Order(t.Context(), segs[6])
		wantRefusal(t, err, exchange.RefusedUnavailable)
		if log.count("WARN") != 3 {
			t.Errorf("log:\n%s", log.b.String())
		}
	})
	s, w, segs, _ := world(t, stock.Config{Risk: 10_000, Margin: margin.Policy{Factor: 1, Add: price}})
	_, err := s.Order(t.Context(), segs[0])
	wantRefusal(t, err, exchange.RefusedDear)
	if w.asked.Load() != 0 {
		t.Error("upstream was asked for what cannot be sold")
	}
}

// A key that came by other ways than an order is on the shelf, too.
func TestBoughtOtherwise(t *testing.T) {
	s, w, segs, _ := world(t, stock.Config{})
	must(t, w.buy(t.Context(), segs[0]))
	must(t, w.buy(t.Context(), segs[1]))
	s.Sold(segs[1])
	if key, err := s.Key(t.Context(), segs[0]); err != nil || !key.Opens(segs[0].Seal) || !s.Has(segs[0]) {
		t.Errorf("key: %v", err)
	}
	if p, ok := s.Price(segs[0]); !ok || p != 880 {
		t.Errorf("price %v, %v", p, ok)
	}
	s.Close() // waits for what Sold began
	wantRisk(t, s, 800)
	if !s.Has(segs[1]) {
		t.Error("what was sold is not on the shelf")
	}
}

func TestNothingWithoutRisk(t *testing.T) {
	s, w, segs, _ := world(t, stock.Config{})
	_, err := s.Order(t.Context(), segs[0])
	wantRefusal(t, err, exchange.RefusedBusy)
	s.Close()
	if w.asked.Load() != 0 {
		t.Error("bought with nothing")
	}
}
