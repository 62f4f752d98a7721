package seller_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/seller"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// unlimited lifts what protects a provider from strangers.
func unlimited(c *seller.Config) {
	c.OfferRate, c.OfferBurst, c.MaxOpenOffers, c.StrangerBytes = 1e9, 1e9, 1e9, -1
	c.Rations.OpenOffers, c.Rations.Answers = 1e9, 1e9
	c.Log = nil
}

// long is a title of 64 small segments.
func long(b *testing.B) (*shop, []htlcdash.Segment) {
	made := titletest.Make(b, titletest.Options{
		Segments: exchange.MaxBatch,
		Reps:     []titletest.Rep{{ID: "v0", Kind: "video", Height: 240, Sizes: []int{16 << 10}, Price: lightning.Sat}},
	})
	s := open(b, func(c *seller.Config) {
		unlimited(c)
		c.Titles = []string{made.Dir}
	})
	s.title = made
	return s, made.Segments(b, "v0")
}

// BenchmarkOffers is offers a second, to a new guest each time: issue and
// redeem a credential, parse, price, salt, invoice of the
// simulated node, fsync of the books, JSON. One op is one request.
func BenchmarkOffers(b *testing.B) {
	for _, batch := range []struct {
		name string
		n    int
	}{{"one", 1}, {"batch64", exchange.MaxBatch}} {
		b.Run(batch.name, func(b *testing.B) {
			s, segs := long(b)
			b.SetParallelism(4)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					for _, o := range s.offers(b, s.guest(b), segs[:batch.n]...) {
						if o.Error != "" {
							b.Error(o.Error)
						}
					}
				}
			})
			b.ReportMetric(float64(b.N*batch.n)/b.Elapsed().Seconds(), "offers/s")
		})
	}
}

// BenchmarkPaid is paid segments a second, 48 in flight, by offers in batches
// of 8 over HTTP, beside raw payments of the same two nodes: at least 0.9 of it
// is the aim. The simulated nodes pay without delay, so what is left is work of
// the processor, and raw payments are far faster here than with real nodes.
// One op is 8 payments.
func BenchmarkPaid(b *testing.B) {
	const batch, buyers = 8, 6
	eight := func(b *testing.B, pay func(i int) error) {
		var wg sync.WaitGroup
		for i := range batch {
			wg.Go(func() {
				if err := pay(i); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for _, bench := range []struct {
		name string
		op   func(b *testing.B, s *shop, segs []htlcdash.Segment)
	}{
		{"raw", func(b *testing.B, s *shop, _ []htlcdash.Segment) {
			eight(b, func(int) error {
				made, err := s.node.Invoice(b.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: lightning.Sat})
				if err != nil {
					return err
				}
				inv, err := lightning.DecodeInvoice(made.Bolt11) // as any payer does
				if err != nil {
					return err
				}
				_, err = s.viewer.Pay(b.Context(), inv, 0)
				return err
			})
		}},
		{"segments", func(b *testing.B, s *shop, segs []htlcdash.Segment) {
			key := s.info(b).Key
			offers := s.offers(b, s.guest(b), segs[:batch]...)
			eight(b, func(i int) error {
				inv, err := exchange.Salted{}.Check(offers[i], key, segs[i], time.Now())
				if err != nil {
					return err
				}
				paid, err := s.viewer.Pay(b.Context(), inv, 0)
				if err != nil {
					return err
				}
				_, err = exchange.Salted{}.Key(paid.Preimage, offers[i].Salt, segs[i].Seal)
				return err
			})
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s, segs := long(b)
			b.SetParallelism(buyers / 2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					bench.op(b, s, segs)
				}
			})
			b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "paid/s")
		})
	}
}

// BenchmarkSealed is sealed bytes over loopback, beside the standard library's
// file server with the same files.
func BenchmarkSealed(b *testing.B) {
	made := titletest.Make(b, titletest.Options{
		Reps: []titletest.Rep{{ID: "v0", Kind: "video", Height: 240, Sizes: []int{1 << 20}, Price: lightning.Sat}},
	})
	seg := made.Segments(b, "v0")[0]
	name := "/sealed/" + seg.Sealed.String()[:2] + "/" + seg.Sealed.String()
	run := func(url string) func(*testing.B) {
		return func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			b.SetBytes(htlcdash.SealedLength(seg.Length))
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := client.Get(url)
					if err != nil {
						b.Error(err)
						return
					}
					n, err := io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err != nil || n != htlcdash.SealedLength(seg.Length) {
						b.Errorf("%d bytes, %v", n, err)
						return
					}
				}
			})
		}
	}
	s := open(b, func(c *seller.Config) {
		unlimited(c)
		c.Titles = []string{made.Dir}
	})
	plain := httptest.NewServer(http.FileServer(http.Dir(made.Dir)))
	defer plain.Close()
	b.Run("fileserver", run(plain.URL+name))
	b.Run("seller", run(s.url+name))
}
