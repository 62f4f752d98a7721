package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/title"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
	"htlcdash/source"
	"htlcdash/source/web"
)

// sales sells small segments of a made-up title, and has the same two nodes
// pay each other plainly, in turns.
func sales(ctx context.Context, s *stage, r *Report) (err error) {
	loads := []struct{ inFlight, count int }{{1, 40}, {10, 200}, {50, 500}, {200, 1000}}
	r.Rounds = s.rounds(3)
	total := 0
	for _, l := range loads {
		total += r.Rounds * l.count
	}
	s.Progress(fmt.Sprintf("publishing a title of %d segments", total))
	titles, err := s.made(ctx, "tiny", noise("v", total, 8_000))
	if err != nil {
		return err
	}
	sold, err := s.serve(ctx, titles)
	if err != nil {
		return err
	}
	c, err := s.customer(ctx, sold, "tiny")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	segs := c.segments["v"]
	for round := range r.Rounds {
		for _, l := range loads {
			s.Progress(fmt.Sprintf("round %d of %d: %d in flight", round+1, r.Rounds, l.inFlight))
			mine := segs[:l.count]
			segs = segs[l.count:]
			turns := []func() error{
				func() error {
					v, err := flow(ctx, mine, l.inFlight, c.prepare, c.buy)
					r.sample(fmt.Sprintf("sales, %d in flight", l.inFlight), v)
					return err
				},
				func() error {
					v, err := flow(ctx, make([]struct{}, l.count), l.inFlight, s.invoices, s.pay)
					r.sample(fmt.Sprintf("raw, %d in flight", l.inFlight), v)
					return err
				},
			}
			if round%2 == 1 {
				slices.Reverse(turns)
			}
			for _, turn := range turns {
				if err := errors.Join(s.quiet(ctx), turn()); err != nil {
					return err
				}
			}
		}
	}
	for _, l := range loads {
		of := fmt.Sprintf(", %d in flight", l.inFlight)
		r.beside("segments sold"+of, "/s", "sales"+of, "raw"+of, "raw payments", 0.9)
	}
	return nil
}

// batch is how many segments are prepared, and invoices made, in one go: what
// a provider takes in one request.
const batch = 64

// flow does items, width at once, and returns how many were done a second.
// They are prepared in batches a little ahead, as a player's segments are.
func flow[In, Out any](ctx context.Context, items []In, width int, prepare func(context.Context, []In) ([]Out, error), do func(context.Context, Out) error) (float64, error) {
	group, ctx := errgroup.WithContext(ctx)
	ready := make(chan Out, max(2*width, batch))
	began := time.Now()
	group.Go(func() error {
		defer close(ready)
		makers, ctx := errgroup.WithContext(ctx)
		makers.SetLimit(2)
		for b := range slices.Chunk(items, batch) {
			makers.Go(func() error {
				out, err := prepare(ctx, b)
				for _, o := range out {
					select {
					case ready <- o:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				return err
			})
		}
		return makers.Wait()
	})
	for range width {
		group.Go(func() error {
			for o := range ready {
				if err := do(ctx, o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(len(items)) / time.Since(began).Seconds(), err
}

// invoices makes as many of the provider's node as there are in list.
func (s *stage) invoices(ctx context.Context, list []struct{}) ([]lightning.Invoice, error) {
	out := make([]lightning.Invoice, len(list))
	group, ctx := errgroup.WithContext(ctx)
	for i := range out {
		group.Go(func() (err error) {
			out[i], err = s.invoice(ctx)
			return err
		})
	}
	return out, group.Wait()
}

func (s *stage) pay(ctx context.Context, inv lightning.Invoice) error {
	_, err := s.nodes[viewer].Pay(ctx, inv, 2*lightning.Sat)
	return err
}

// A customer buys in this process what a provider sells, without a player.
type customer struct {
	buyer    *buyer.Buyer
	title    *title.Title
	segments map[string][]htlcdash.Segment
	books    *ledger.Ledger
	node     *lnd.Node
}

const enough = 1_000_000 * lightning.Sat

// customer opens the title of a name and gives no thought to money.
func (s *stage) customer(ctx context.Context, sold *process, name string) (_ *customer, err error) {
	macaroon, err := s.macaroon(ctx, viewer, lnd.BuyingRights)
	if err != nil {
		return nil, err
	}
	at := s.network.Node(viewer)
	c := &customer{segments: map[string][]htlcdash.Segment{}}
	if c.node, err = lnd.New(lnd.Config{Addr: at.REST, TLSCertFile: at.CertFile, MacaroonFile: macaroon}); err != nil {
		return nil, err
	}
	if c.books, err = ledger.Open(filepath.Join(s.dir, "customer.db")); err != nil {
		return nil, err
	}
	bytes, err := web.New(sold.url, nil)
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
		Proofs: []proof.System{vole.Bits80},
	})
	if err != nil {
		return nil, err
	}
	p, err := buyer.NewProvider(sold.url, nil)
	if err != nil {
		return nil, err
	}
	if c.title, err = title.Open(ctx, p.Fetch(name)); err != nil {
		return nil, err
	}
	for _, rep := range c.title.Manifest.Representations() {
		if c.segments[rep.ID], err = c.title.Segments(ctx, rep.ID); err != nil {
			return nil, err
		}
	}
	return c, c.buyer.AddTitle(ctx, c.title.ID, c.title.Dearest(), []*buyer.Provider{p})
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
