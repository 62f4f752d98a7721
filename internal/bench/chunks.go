package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// A cutting is a segment that is sold as so many HTLCs.
type cutting struct{ htlcs, leaves, length int }

// cuttings are of 4 MiB, and of 6.25 MiB where that has too few leaves: a chunk
// is a power of two of leaves, and one at least.
var cuttings = []cutting{
	{1, 256, 4 << 20},
	{16, 16, 4 << 20},
	{100, 4, 400 * htlcdash.LeafSize},
	{400, 1, 400 * htlcdash.LeafSize},
}

// chunkPrice is a price of a MiB that no chunk is a whole number of msat at.
const chunkPrice lightning.Msat = 100_001

func (c cutting) String() string {
	if c.htlcs == 1 {
		return "1 HTLC"
	}
	return fmt.Sprintf("%d HTLCs", c.htlcs)
}

// chunks sells one segment as one HTLC or as hundreds, over one channel: all
// are locked in before the first is settled, and then all are settled at once.
func chunks(ctx context.Context, s *stage, r *Report) (err error) {
	r.Rounds = s.rounds(3)
	payer, err := s.eager()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, payer.Close()) }()
	for round := range r.Rounds {
		ways := slices.Clone(cuttings)
		if round%2 == 1 {
			slices.Reverse(ways)
		}
		for _, c := range ways {
			s.Progress(fmt.Sprintf("round %d of %d: %s", round+1, r.Rounds, c))
			if err := s.quiet(ctx); err != nil {
				return err
			}
			sale, err := s.stall(c, payer)
			if err == nil {
				err = sale.run(ctx, r)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
		}
	}
	for _, c := range cuttings {
		of := ", " + c.String()
		mib := float64(c.length) / (1 << 20)
		r.fact(figure(mib)+" MiB as "+c.String()+": pay, settle, open", "ms", r.median("locked"+of)+r.median("settled"+of)+r.median("opened"+of))
		for _, f := range []struct{ what, unit string }{
			{"locked", "ms"}, {"settled", "ms"}, {"opened", "ms"}, {"sealed", "ms"}, {"invoices", "ms"}, {"CPU of both nodes", "ms"}, {"added bytes", "%"}, {"rounding", "msat"},
		} {
			r.fact("  "+f.what, f.unit, r.median(f.what+of))
		}
	}
	r.note("locked: until all HTLCs are in the channel; settled: from then until the buyer has all keys; opened: decrypted and checked")
	r.note("sealed, invoices: before that, ahead of need")
	r.note("rounding: what the price of the segment grows by, at %v msat a MiB; at prices below %v a chunk, each chunk costs that", int64(chunkPrice), exchange.MinChunkPrice)
	r.note("added bytes are those of promises, invoices and chaining values; each HTLC takes some 1.5 kB more on the channel (BOLT 2, update_add_htlc)")
	return nil
}

// A stall sells one segment by chunks of which the node holds the payments.
type stall struct {
	*stage
	cutting
	exchange.Cut
	payer *lnd.Node
	data  []byte
	layer []htlcdash.Root
	till  exchange.Till

	mu   sync.Mutex
	keys []lightning.Preimage // of the hold invoices that were made
}

// eager is the viewer's node with as many payments in flight as a channel
// carries (BOLT 2), which is more than buyers let be.
func (s *stage) eager() (*lnd.Node, error) {
	n := s.network.Node(viewer)
	return lnd.New(lnd.Config{Addr: n.REST, TLSCertFile: n.CertFile, MacaroonFile: n.MacaroonFile, MaxInFlight: 483, Log: s.Log})
}

func (s *stage) stall(c cutting, payer *lnd.Node) (*stall, error) {
	st := &stall{stage: s, payer: payer, cutting: c, data: make([]byte, c.length)}
	var seed [32]byte
	copy(seed[:], c.String())
	rand.NewChaCha8(seed).Read(st.data)
	st.Cut = exchange.Cut{File: htlcdash.Blob{Root: htlcdash.RootOf(st.data), Length: int64(c.length)}, Leaves: c.leaves}
	leaves, _, err := htlcdash.HashLeaves(bytes.NewReader(st.data))
	if err != nil {
		return nil, err
	}
	st.layer = st.Layer(leaves)
	st.till = exchange.NewTill(st, exchange.NewSecret([32]byte{1}), 0)
	return st, errors.Join(st.Check(), st.CheckLayer(st.layer))
}

// Invoice makes an invoice whose payment the node holds.
func (s *stall) Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	inv, err := s.nodes[provider].HoldInvoice(ctx, p.Hash(), t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, p)
	return inv, err
}

// ChunkKey makes this the only buyer.
func (s *stall) ChunkKey(master [32]byte, _ htlcdash.Root, index uint64, _ int64) htlcdash.Key {
	master[0] ^= byte(index)
	master[1] ^= byte(index >> 8)
	return htlcdash.NewKey(master)
}

// run sells the segment once.
func (s *stall) run(ctx context.Context, r *Report) error {
	of := ", " + s.String()
	clock := time.Now()
	lap := func(what string) {
		r.sample(what+of, float64(time.Since(clock).Microseconds())/1000)
		clock = time.Now()
	}
	sales, err := s.sell(ctx)
	if err != nil {
		return err
	}
	lap("invoices")
	offers, err := s.wrap(sales, r)
	if err != nil {
		return err
	}
	lap("sealed")
	before, err := s.nodesTime()
	if err != nil {
		return err
	}
	clock = time.Now()
	paid := make([]lightning.Preimage, len(offers))
	group, ctx := errgroup.WithContext(ctx)
	for i, o := range offers {
		group.Go(func() error {
			out, err := s.payer.Pay(ctx, o.inv, 0)
			paid[i] = out.Preimage
			return err
		})
	}
	group.Go(func() error {
		if err := s.lockedIn(ctx, len(offers)); err != nil {
			return err
		}
		lap("locked")
		return s.settle(ctx)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	lap("settled")
	for i, o := range offers {
		from, n := s.Span(i)
		plain, err := exchange.Keyed{}.Open(o.Chunk, paid[i])
		if err != nil || !bytes.Equal(plain, s.data[from:from+n]) {
			return fmt.Errorf("chunk %d is another one: %w", i, err)
		}
	}
	lap("opened")
	after, err := s.nodesTime()
	r.sample("CPU of both nodes"+of, 1000*(after-before))
	return err
}

func (s *stall) sell(ctx context.Context) ([]exchange.ChunkSale, error) {
	sales := make([]exchange.ChunkSale, s.Chunks())
	nonce, now := exchange.NewNonce(), time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(batch)
	for i := range sales {
		group.Go(func() (err error) {
			_, n := s.Span(i)
			sales[i], err = exchange.Keyed{}.Sell(ctx, s.till, s, s.Cut, i, nonce, exchange.ChunkPrice(chunkPrice, n), now)
			return err
		})
	}
	return sales, group.Wait()
}

// An inhand is a chunk as the buyer has it before it pays.
type inhand struct {
	exchange.Chunk
	inv lightning.Invoice
}

// wrap seals all chunks and has the buyer check them.
func (s *stall) wrap(sales []exchange.ChunkSale, r *Report) ([]inhand, error) {
	offers := make([]inhand, len(sales))
	var sum lightning.Msat
	bytes := 0
	for i, sale := range sales {
		from, n := s.Span(i)
		c, err := sale.Seal(s.till.Key, s.data[from:from+n], s.layer[i])
		if err != nil {
			return nil, err
		}
		wire := c.Encode()
		if c, err = exchange.ParseChunk(wire); err != nil {
			return nil, err
		}
		inv, err := exchange.Keyed{}.Check(c, exchange.ChunkTerms{
			Cut: s.Cut, Index: i, Root: s.layer[i], Nonce: c.Nonce, Provider: s.till.Key.ID(), Ceiling: c.Price,
		}, time.Now())
		if err != nil {
			return nil, err
		}
		offers[i] = inhand{c, inv}
		sum += c.Price
		bytes += len(wire)
	}
	of := ", " + s.String()
	r.sample("added bytes"+of, 100*float64(bytes-s.length)/float64(s.length))
	r.sample("rounding"+of, float64(sum)-float64(chunkPrice)*float64(s.length)/(1<<20))
	return offers, nil
}

// lockedIn waits until n HTLCs are in the provider's channels.
func (s *stall) lockedIn(ctx context.Context, n int) error {
	for {
		channels, err := s.nodes[provider].Channels(ctx)
		if err != nil {
			return err
		}
		in := 0
		for _, c := range channels {
			in += c.InFlight
		}
		if in >= n {
			return nil
		}
		s.Progress(fmt.Sprintf("%d of %d HTLCs are locked in", in, n))
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle takes all payments at once. One that is in the channel may not have
// come to its invoice yet: then the node is asked again, for a minute.
func (s *stall) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(batch)
	for _, p := range s.keys {
		group.Go(func() error {
			for {
				err := s.nodes[provider].Settle(ctx, p)
				if err == nil {
					return nil
				}
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
					return err
				}
			}
		})
	}
	return group.Wait()
}

// nodesTime is the CPU time that the buyer's and the provider's nodes took, in
// seconds.
func (s *stall) nodesTime() (sum float64, err error) {
	for _, name := range []string{viewer, provider} {
		t, err := cpuOf(s.network.Node(name).PID)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}
