package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/title"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
	"htlcdash/source"
	"htlcdash/source/web"
)

// A customer buys in this process what a provider sells, without a player.
type customer struct {
	buyer    *buyer.Buyer
	provider *buyer.Provider
	books    *ledger.Ledger
	node     *lnd.Node
	wire     *wire
}

const enough = 1_000_000 * lightning.Sat

// proved is how viewers buy; unproved is without proofs, from the same
// provider.
var (
	proved   = []string{vole.Bits80.Name()}
	unproved []string
)

// customer gives no thought to money. Its books are new.
func (s *stage) customer(ctx context.Context, sold *process, proofs []string) (_ *customer, err error) {
	macaroon, err := s.macaroon(ctx, viewer, lnd.BuyingRights)
	if err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp(s.dir, "customer-")
	if err != nil {
		return nil, err
	}
	at := s.network.Node(viewer)
	c := &customer{wire: newWire()}
	if c.node, err = lnd.New(lnd.Config{Addr: at.REST, TLSCertFile: at.CertFile, MacaroonFile: macaroon}); err != nil {
		return nil, err
	}
	if c.books, err = ledger.Open(filepath.Join(home, "customer.db")); err != nil {
		return nil, err
	}
	bytes, err := web.New(sold.url, c.wire.client)
	if err != nil {
		return nil, err
	}
	library, err := source.NewLibrary(source.Options{Memory: 64 << 20}, bytes)
	if err != nil {
		return nil, err
	}
	c.buyer, err = buyer.New(buyer.Config{
		Ledger: c.books, Payer: c.node, Sealed: library,
		Limits: buyer.Limits{Segment: enough, Title: enough, Day: enough}, Fee: buyer.Fee{Floor: 2 * lightning.Sat},
		Proofs: proofs, Unproved: len(proofs) == 0, Exposure: enough,
	})
	if err != nil {
		return nil, err
	}
	bytes.Authorization = func(ctx context.Context, path string) string {
		return c.buyer.Authorization(ctx, sold.url, path)
	}
	c.provider, err = buyer.NewProvider(sold.url, c.wire.client)
	return c, err
}

// An opened title is one that a customer can buy.
type opened struct {
	*title.Title
	segments map[string][]htlcdash.Segment // by Representation
}

// open opens the title of a name.
func (c *customer) open(ctx context.Context, name string) (opened, error) {
	t, err := title.Open(ctx, c.provider.Fetch(name))
	if err != nil {
		return opened{}, err
	}
	o := opened{t, map[string][]htlcdash.Segment{}}
	for _, rep := range t.Manifest.Representations() {
		if o.segments[rep.ID], err = t.Segments(ctx, rep.ID); err != nil {
			return o, err
		}
	}
	return o, c.buyer.AddTitle(ctx, t.ID, t.Dearest(), []*buyer.Provider{c.provider})
}

func (c *customer) close() error {
	c.buyer.Close()
	return errors.Join(c.books.Close(), c.node.Close())
}

func (c *customer) prepare(ctx context.Context, segs []htlcdash.Segment) ([]htlcdash.Segment, error) {
	c.buyer.Prepare(ctx, segs)
	return segs, nil
}

func (c *customer) buy(ctx context.Context, seg htlcdash.Segment) error {
	_, err := c.buyer.Segment(ctx, seg)
	return err
}

// A wire is a client for HTTP that counts bytes.
type wire struct {
	client *http.Client
	all    atomic.Int64 // both ways, with all headers

	mu     sync.Mutex
	bodies map[string]int64 // both ways, by path
}

func newWire() *wire {
	w := &wire{bodies: map[string]int64{}}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true
	t.MaxIdleConnsPerHost = 32
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		return countedConn{c, w}, err
	}
	w.client = &http.Client{Transport: countedBodies{t, w}}
	return w
}

// body is what bodies of requests to a path and of answers to them took.
func (w *wire) body(path string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bodies[path]
}

func (w *wire) count(path string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bodies[path] += n
}

type countedConn struct {
	net.Conn
	wire *wire
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.all.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wire.all.Add(int64(n))
	return n, err
}

type countedBodies struct {
	http.RoundTripper
	wire *wire
}

func (c countedBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if err == nil {
		c.wire.count(r.URL.Path, max(r.ContentLength, 0))
		resp.Body = countedBody{resp.Body, c.wire, r.URL.Path}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	wire *wire
	path string
}

func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.wire.count(b.path, int64(n))
	return n, err
}
