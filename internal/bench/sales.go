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
	"htlcdash/lightning"
)

// viewersFlight is how many payments of one viewer are under way at most. What is
// sold beyond is sold to more viewers: titles, each with a credential of its own.
const viewersFlight = 10

// provedAhead is for how many segments proofs are asked ahead, beside payments
// under way: as offers, they are ready when a payment may begin.
const provedAhead = 5

// A level is a number of payments in flight, and how many sales to measure it by.
type level struct{ inFlight, count int }

// sales sells small segments of made-up titles, proved and unproved, and has the
// same two nodes pay each other plainly, in turns.
func sales(ctx context.Context, s *stage, r *Report) (err error) {
	levels := []level{{1, 40}, {10, 200}, {50, 500}, {200, 1000}}
	r.Rounds = s.rounds(3)
	titles, err := s.tiny(ctx, levels, r.Rounds)
	if err != nil {
		return err
	}
	sold, err := s.serve(ctx, filepath.Dir(titles[0]))
	if err != nil {
		return err
	}
	var shoppers []*shopper
	for _, proofs := range [][]string{proved, unproved} {
		b, err := s.shopper(ctx, sold, proofs, titles)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.close()) }()
		shoppers = append(shoppers, b)
	}
	for round := range r.Rounds {
		for _, l := range levels {
			s.Progress(fmt.Sprintf("round %d of %d: %d in flight", round+1, r.Rounds, l.inFlight))
			turns := []func() (string, float64, error){
				func() (string, float64, error) {
					v, err := shoppers[0].shop(ctx, l)
					return "proved", v, err
				},
				func() (string, float64, error) {
					v, err := shoppers[1].shop(ctx, l)
					return "unproved", v, err
				},
				func() (string, float64, error) {
					v, err := flow(ctx, make([]struct{}, l.count), l.inFlight, s.invoices, s.pay)
					return "raw", v, err
				},
			}
			for i := range turns { // each goes first now and then
				if err := s.quiet(ctx); err != nil {
					return err
				}
				name, v, err := turns[(i+round)%len(turns)]()
				if err != nil {
					return fmt.Errorf("%s, %d in flight: %w", name, l.inFlight, err)
				}
				r.sample(fmt.Sprintf("%s, %d in flight", name, l.inFlight), v)
			}
		}
	}
	for _, l := range levels {
		of := fmt.Sprintf(", %d in flight", l.inFlight)
		r.beside("segments sold"+of+", proved by "+proved[0], "/s", "proved"+of, "raw"+of, "raw payments", 0.9)
		r.beside("  unproved", "/s", "unproved"+of, "raw"+of, "raw payments", 0.9)
	}
	return nil
}

// viewers is for how many titles l is sold.
func (l level) viewers() int { return max(1, l.inFlight/viewersFlight) }

// tiny publishes a title for each viewer, with as many segments as will be
// bought of it, and returns their folders, which lie in one.
func (s *stage) tiny(ctx context.Context, levels []level, rounds int) (folders []string, err error) {
	var counts []int // of segments, by title
	for _, l := range levels {
		n := l.viewers()
		counts = append(counts, make([]int, max(0, n-len(counts)))...)
		for i := range n {
			counts[i] += rounds * ((l.count + n - 1) / n)
		}
	}
	s.Progress(fmt.Sprintf("publishing %d titles", len(counts)))
	for i, n := range counts {
		name := fmt.Sprintf("tiny%02d", i)
		titles, err := s.madeInto(ctx, "tiny", name, noise(name, n, 8_000))
		if err != nil {
			return nil, err
		}
		folders = append(folders, filepath.Join(titles, name))
	}
	return folders, nil
}

// A shopper is a customer who takes segments of many titles by turns, each once.
type shopper struct {
	*customer
	left [][]htlcdash.Segment // of each title
}

func (s *stage) shopper(ctx context.Context, sold *process, proofs []string, titles []string) (*shopper, error) {
	c, err := s.customer(ctx, sold, proofs)
	if err != nil {
		return nil, err
	}
	b := &shopper{customer: c}
	for _, folder := range titles {
		t, err := c.open(ctx, filepath.Base(folder))
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		b.left = append(b.left, t.segments[filepath.Base(folder)])
	}
	return b, nil
}

// shop buys what l asks for, and returns how much was bought a second.
func (b *shopper) shop(ctx context.Context, l level) (float64, error) {
	var segs []htlcdash.Segment
	for i := range l.count {
		t := &b.left[i%l.viewers()]
		segs, *t = append(segs, (*t)[0]), (*t)[1:]
	}
	paying := make(chan struct{}, l.inFlight)
	return flow(ctx, segs, l.inFlight+min(l.inFlight, provedAhead), b.prepare, func(ctx context.Context, seg htlcdash.Segment) error {
		_ = b.buyer.Ready(ctx, seg) // what fails is asked for again
		paying <- struct{}{}
		defer func() { <-paying }()
		return b.buy(ctx, seg)
	})
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
