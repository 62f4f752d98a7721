package seller_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/seller"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/cache"
)

// A cupboard is a keyring and the sealed bytes of a title that others publish.
type cupboard struct {
	film *titletest.Title

	mu      sync.Mutex
	here    map[[32]byte]htlcdash.Key
	orders  int
	refuse  error // of orders; nil: it gets the key
	sold    []int // indexes of segments
	fetched map[htlcdash.Root]int
	empty   bool // no sealed bytes are to be had
}

func (c *cupboard) Key(_ context.Context, seg htlcdash.Segment) (htlcdash.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key, ok := c.here[seg.KeyHash]; ok {
		return key, nil
	}
	return htlcdash.Key{}, htlcdash.ErrNotFound
}

func (c *cupboard) Has(seg htlcdash.Segment) bool {
	_, err := c.Key(context.Background(), seg)
	return err == nil
}

func (c *cupboard) Order(ctx context.Context, seg htlcdash.Segment) (htlcdash.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orders++
	if c.refuse != nil {
		return htlcdash.Key{}, c.refuse
	}
	key, err := c.film.Keys.Key(ctx, seg)
	c.here[seg.KeyHash] = key
	return key, err
}

func (c *cupboard) Sold(seg htlcdash.Segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sold = append(c.sold, seg.Index)
}

func (c *cupboard) AtRisk() lightning.Msat { return 77 }

// cellar is the sealed bytes of a cupboard.
type cellar struct{ *cupboard }

func (c cellar) Has(context.Context, htlcdash.Blob) error { return nil }

func (c cellar) Stats() source.Stats {
	return source.Stats{Hits: 3, Misses: 1, Saved: 900, Spent: 300, Held: 1 << 20, Ahead: cache.Account{Lost: 200}}
}

// The operator sees what keeping others' sealed bytes is worth.
func TestCacheIsReported(t *testing.T) {
	s, _, _ := openReseller(t, nil)
	r, err := s.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (seller.CacheReport{Hits: 3, Misses: 1, Saved: 900, Spent: 300, Profit: 700, Held: 1 << 20}); r.Cache == nil || *r.Cache != want {
		t.Errorf("%+v, want %+v", r.Cache, want)
	}
}

func (c *cupboard) Get(_ context.Context, b htlcdash.Blob) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetched[b.Root]++
	if c.empty {
		return nil, fmt.Errorf("upstream: %w", os.ErrDeadlineExceeded)
	}
	return os.ReadFile(filepath.Join(c.film.Dir, filepath.FromSlash(htlcdash.SealedPath(b.Root))))
}

// price asks 400 msat less for what is here.
func (c *cupboard) price(seg htlcdash.Segment) lightning.Msat {
	if c.Has(seg) {
		return seg.Price - 400
	}
	return seg.Price
}

// mirrored copies what is free of the title into folder.
func mirrored(t *testing.T, film *titletest.Title, folder string) {
	t.Helper()
	to := filepath.Join(folder, "film-1")
	if err := os.CopyFS(to, os.DirFS(film.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(to, htlcdash.SealedFolder)); err != nil {
		t.Fatal(err)
	}
}

// openReseller opens a shop that publishes nothing itself.
func openReseller(t *testing.T, change func(*seller.Config)) (*shop, *cupboard, string) {
	t.Helper()
	film := titletest.Make(t, titletest.Options{Seed: 9})
	c := &cupboard{film: film, here: map[[32]byte]htlcdash.Key{}, fetched: map[htlcdash.Root]int{}}
	folder := filepath.Join(t.TempDir(), "mirror") // made later
	s := open(t, func(config *seller.Config) {
		config.Titles, config.Resold, config.Shelf, config.Sealed, config.Price = nil, folder, c, cellar{c}, c.price
		if change != nil {
			change(config)
		}
	})
	s.title = film
	mirrored(t, film, folder)
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, c, folder
}

func titleOf(t *testing.T, s *shop) seller.TitleReport {
	t.Helper()
	r, err := s.Report(t.Context())
	if err != nil || len(r.Titles) != 1 {
		t.Fatalf("%v, %d titles", err, len(r.Titles))
	}
	return r.Titles[0]
}

// A key that was bought is sold from then on as if it lay in a key file: at its
// price, with an own offer and an own proof.
func TestResold(t *testing.T) {
	s, c, _ := openReseller(t, nil)
	segs, guest := s.title.Segments(t, "v1"), s.guest(t)
	all := 0
	for _, rep := range s.title.Manifest.Representations() {
		all += len(s.title.Segments(t, rep.ID))
	}
	if r := titleOf(t, s); !r.Resold || r.Missing != all || r.Prepaid {
		t.Errorf("nothing was bought: %+v", r)
	}
	c.refuse = exchange.Refusal(exchange.RefusedDear)
	if o := s.offers(t, guest, segs[0])[0]; o.Error != exchange.RefusedDear {
		t.Errorf("offer %+v, want none", o)
	}
	c.refuse = nil
	offers := s.offers(t, guest, segs...)
	for i, o := range offers {
		if o.Price != segs[i].Price-400 {
			t.Errorf("segment %d is offered for %v", i, o.Price)
		}
		if err := s.prove(t, guest, segs[i], o); err != nil {
			t.Errorf("proof of segment %d: %v", i, err)
		}
		if got := s.buy(t, segs[i], o); !bytes.Equal(got, s.title.Plain("v1", i)) {
			t.Errorf("segment %d is another one", i)
		}
	}
	report := s.settled(t, int64(len(segs)))
	if r := report.Titles[0]; r.Missing != all-len(segs) || report.AtRisk != 77 {
		t.Errorf("%d keys are missing of %d, %v at risk", r.Missing, all, report.AtRisk)
	}
	s.offers(t, s.guest(t), segs...)
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.sold)
	if want := 1 + len(segs); c.orders != want || fmt.Sprint(c.sold) != "[0 1 2 3 4]" {
		t.Errorf("%d orders, want %d; sold %v", c.orders, want, c.sold)
	}
}

// Strangers see what a resold title is, and get no plain bytes of it.
func TestResoldToStrangers(t *testing.T) {
	s, c, _ := openReseller(t, nil)
	a := s.get(t, "/t/film-1/"+s.title.Manifest.Representations()[0].Segments[0].Path)
	if a.StatusCode != http.StatusPaymentRequired || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%s, %q", a.Status, a.Header.Get("WWW-Authenticate"))
	}
	q := s.title.Segments(t, "v0")[0]
	path := "/sealed/" + q.Sealed.String()
	if a := s.do(t, http.MethodHead, path, ""); a.StatusCode != 200 || a.ContentLength != q.SealedBlob().Length || len(c.fetched) != 0 {
		t.Errorf("HEAD: %s, %d bytes, fetched %v", a.Status, a.ContentLength, c.fetched)
	}
	if a := s.get(t, path, "Range", "bytes=16384-16393"); a.StatusCode != http.StatusPartialContent || !bytes.Equal(a.body, s.title.Sealed(t, q)[16384:16394]) {
		t.Errorf("range: %s, %d bytes", a.Status, len(a.body))
	}
	c.empty = true
	if a := s.get(t, path); a.StatusCode != http.StatusNotFound || a.Header.Get("Cache-Control") != "no-store" || strings.Contains(string(a.body), "upstream") {
		t.Errorf("no sealed bytes: %s: %s", a.Status, a.body)
	}
	if c.orders != 0 {
		t.Errorf("%d keys were bought for strangers", c.orders)
	}
}

// Who asks for offers and never pays makes the provider buy so many keys.
func TestRationOfOrders(t *testing.T) {
	s, c, _ := openReseller(t, func(c *seller.Config) { c.Rations.Orders = 3 })
	segs, guest := s.title.Segments(t, "v1"), s.guest(t)
	var bought []exchange.Offer
	for _, o := range s.offers(t, guest, segs...) {
		if o.Error == "" {
			bought = append(bought, o)
		} else if o.Error != exchange.RefusedBusy {
			t.Errorf("refused with %q", o.Error)
		}
	}
	if len(bought) != 3 || c.orders != 3 {
		t.Fatalf("%d offers, %d orders, want 3", len(bought), c.orders)
	}
	if o := s.offers(t, s.guest(t), segs[0])[0]; o.Error != "" {
		t.Errorf("another guest: %s", o.Error)
	}
	for _, seg := range segs {
		if seg.Sealed == bought[0].Sealed {
			s.buy(t, seg, bought[0])
		}
	}
	s.settled(t, 1)
	for i, o := range s.offers(t, guest, segs...) {
		if o.Error != "" {
			t.Errorf("segment %d after a payment: %s", i, o.Error)
		}
	}
}

// What others publish may come and go, and is never sold in the place of an own
// title.
func TestResoldFolder(t *testing.T) {
	s, c, folder := openReseller(t, nil)
	own := func(config *seller.Config) {
		config.Titles, config.Resold, config.Shelf, config.Sealed = []string{s.title.Dir}, folder, c, cellar{c}
	}
	s.stop()
	s.serve(t, own)
	if r := titleOf(t, s); r.Resold || r.Missing != 0 || r.Name == "film-1" {
		t.Errorf("the own title is sold as %+v", r)
	}
	s.stop()
	s.serve(t, func(config *seller.Config) { own(config); config.Titles = nil })
	if err := os.Rename(filepath.Join(folder, "film-1"), filepath.Join(folder, ".film-1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if r, err := s.Report(t.Context()); err != nil || len(r.Titles) != 0 {
		t.Errorf("a title that is gone: %v, %+v", err, r.Titles)
	}
}
