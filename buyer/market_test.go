package buyer_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/seller"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
	"htlcdash/source"
	"htlcdash/source/web"
)

// A viewer finds a title at a real provider, buys all of it, and the books of
// both sides agree with their nodes.
func TestMarket(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	network := sim.New(sim.Config{})
	viewer, provider := network.Node("viewer"), network.Node("provider")
	network.Connect(viewer, provider, channel, 0)
	books, address := sell(t, made, provider)

	p, err := buyer.NewProvider(address, nil)
	must(t, err)
	info, err := p.Info(t.Context())
	must(t, err)
	if info.Node != provider.ID() || info.MaxBatch != exchange.MaxBatch {
		t.Errorf("provider says %+v", info)
	}
	list, err := p.Titles(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].ID != made.ID {
		t.Fatalf("titles %+v", list)
	}
	film, err := title.Open(t.Context(), p.Fetch(list[0].Name))
	must(t, err)

	shelf, err := web.New(address, nil)
	must(t, err)
	sealed, err := source.NewLibrary(source.Options{Memory: 1 << 20}, shelf)
	must(t, err)
	own, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	must(t, err)
	defer own.Close()
	b, err := buyer.New(buyer.Config{
		Ledger: own, Payer: viewer, Sealed: sealed,
		Limits: buyer.Limits{Segment: buyer.NoLimit, Title: 100 * lightning.Sat, Day: buyer.NoLimit},
		Proofs: []string{"vole-80"},
	})
	must(t, err)
	defer b.Close()
	must(t, b.AddTitle(t.Context(), film.ID, film.Dearest(), []*buyer.Provider{p}))

	var total lightning.Msat
	var wg sync.WaitGroup
	for _, rep := range []string{"v0", "v1", "a0"} {
		segs, err := film.Segments(t.Context(), rep)
		must(t, err)
		b.Prepare(t.Context(), segs)
		for i, seg := range segs {
			total += seg.Price
			wg.Go(func() {
				data, err := b.Segment(t.Context(), seg)
				if err != nil || !bytes.Equal(data, made.Plain(rep, i)) {
					t.Errorf("segment %d of %s: %v", i, rep, err)
				}
			})
		}
	}
	wg.Wait()
	network.Wait()
	balance, err := provider.Balance(t.Context())
	must(t, err)
	if a := b.Account(film.ID); a.Spent != total || balance.Outbound != total {
		t.Errorf("spent %v, the provider's node has %v, want %v", a.Spent, balance.Outbound, total)
	}
	wantEarned(t, books, total)
	must(t, own.Check(t.Context()))
}

// sell serves a title until the test ends.
func sell(t *testing.T, made *titletest.Title, node *sim.Node) (books *ledger.Ledger, address string) {
	t.Helper()
	books, err := ledger.Open(filepath.Join(t.TempDir(), "sales.db"))
	must(t, err)
	s, err := seller.New(t.Context(), seller.Config{
		Titles: []string{made.Dir}, Payee: node, Node: node.ID(), Books: books, Secret: exchange.NewSecret([32]byte{1}), Proofs: []proof.System{vole.Bits80},
	})
	must(t, err)
	public, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	operator, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, public, operator) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("seller: %v", err)
		}
		books.Close()
	})
	return books, "http://" + public.Addr().String()
}

// wantEarned waits for the provider's books, which follow its node.
func wantEarned(t *testing.T, books *ledger.Ledger, want lightning.Msat) {
	t.Helper()
	var got lightning.Msat
	for range 2000 {
		earned, err := books.Earned(t.Context(), time.Time{})
		must(t, err)
		got = 0
		for _, e := range earned {
			got += e.Amount
		}
		if got == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("the provider booked %v, want %v", got, want)
}

// BenchmarkPurchase buys prepared segments over a simulated network without
// latency: what is left is our own work and the disk's. The baseline pays the
// same number of invoices and keeps no books.
func BenchmarkPurchase(b *testing.B) {
	for _, inFlight := range []int{1, 10, 50, 200} {
		b.Run(fmt.Sprint(inFlight), func(b *testing.B) {
			w := newWorld(b, b.N)
			s, c := w.shop(b, "shop"), w.config(b)
			c.Exposure = buyer.NoLimit
			buy := w.open(b, c, s)
			buy.Prepare(b.Context(), w.segs)
			b.ResetTimer()
			each(inFlight, w.segs, func(seg htlcdash.Segment) {
				if _, err := buy.Segment(context.Background(), seg); err != nil {
					b.Error(err)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "purchases/s")
		})
		b.Run(fmt.Sprint(inFlight, "-raw"), func(b *testing.B) {
			w := newWorld(b, 0)
			s := w.shop(b, "shop")
			var invoices []lightning.Invoice
			for range b.N {
				inv, err := s.node.Invoice(b.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: price})
				must(b, err)
				invoices = append(invoices, inv)
			}
			b.ResetTimer()
			each(inFlight, invoices, func(inv lightning.Invoice) {
				if _, err := w.viewer.Pay(context.Background(), inv, 0); err != nil {
					b.Error(err)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "payments/s")
		})
	}
}

// each does all with so many at once.
func each[T any](workers int, all []T, do func(T)) {
	queue := make(chan T)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for v := range queue {
				do(v)
			}
		})
	}
	for _, v := range all {
		queue <- v
	}
	close(queue)
	wg.Wait()
}
