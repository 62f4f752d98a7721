package player

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"htlcdash"
	"htlcdash/agent"
	"htlcdash/buyer"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// A Buyer is what a player asks of the one who spends: [buyer.Buyer], which says
// what each method does.
type Buyer interface {
	Segment(ctx context.Context, seg htlcdash.Segment) ([]byte, error)
	Prepare(ctx context.Context, segs []htlcdash.Segment)
	Ready(ctx context.Context, seg htlcdash.Segment) error
	Download(ctx context.Context, seg htlcdash.Segment) error
	Account(id htlcdash.TitleID) buyer.Account
	Stop(id htlcdash.TitleID)
}

var _ Buyer = (*buyer.Buyer)(nil)

// Sealed is the stock of a sealed title: its keys are bought. The buyer must know
// the title, and its sealed bytes must come through Meter.
type Sealed struct {
	title   *title.Title
	buyer   Buyer
	meter   *Meter
	first   lightning.Msat // what could be spent when it was opened; [agent.NoLimit]
	spent   lightning.Msat // by then
	carried lightning.Msat // of spent: for sealed bytes
	fees    lightning.Msat

	perMiB lightning.Msat // of sealed bytes
	mu     sync.Mutex
	keys   map[[32]byte]lightning.Msat // that were opened: what carrying all that they open costs
}

var _ Stock = (*Sealed)(nil)

// NewSealed returns the stock of t. What is spent counts from now on. A MiB of its
// sealed bytes costs so much: what is still to be paid of what was begun counts as
// spent.
func NewSealed(t *title.Title, b Buyer, m *Meter, perMiB lightning.Msat) *Sealed {
	a := b.Account(t.ID)
	s := &Sealed{title: t, buyer: b, meter: m, first: agent.NoLimit, spent: a.Spent, fees: a.Fees, carried: a.Carriage, perMiB: perMiB, keys: map[[32]byte]lightning.Msat{}}
	if left, limited := a.Left(); limited {
		s.first = left
	}
	return s
}

// Init returns an initialization segment, checked.
func (s *Sealed) Init(ctx context.Context, rep *dash.Representation) ([]byte, error) {
	if rep.Init.Path == "" {
		return nil, nil
	}
	return s.title.Init(ctx, rep.ID)
}

func (s *Sealed) seal(ctx context.Context, rep *dash.Representation, index int) (htlcdash.Segment, error) {
	segs, err := s.title.Segments(ctx, rep.ID)
	if err != nil {
		return htlcdash.Segment{}, err
	}
	return segs[index], nil // title checked that there are as many as in the MPD
}

// Download fetches the sealed bytes to where the buyer finds them.
func (s *Sealed) Download(ctx context.Context, rep *dash.Representation, index int, came func(n int)) ([]byte, error) {
	seg, err := s.seal(ctx, rep, index)
	if err != nil {
		return nil, err
	}
	defer s.meter.count(seg.SealedBlob(), came)()
	return nil, s.buyer.Download(ctx, seg)
}

// Open buys the key, unless it is owned, and opens what was fetched.
func (s *Sealed) Open(ctx context.Context, rep *dash.Representation, index int, _ []byte) ([]byte, error) {
	seg, err := s.seal(ctx, rep, index)
	if err != nil {
		return nil, err
	}
	data, err := s.buyer.Segment(ctx, seg)
	if err == nil && s.perMiB > 0 {
		err = s.begin(ctx, seg)
	}
	switch {
	case errors.Is(err, buyer.ErrBudget):
		err = fmt.Errorf("%w: %w", ErrMoney, err)
	case errors.Is(err, buyer.ErrStopped), errors.Is(err, buyer.ErrClosed), errors.Is(err, lightning.ErrDenied):
		err = fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return data, err
}

// begin counts what carrying all that the key of seg opens costs.
func (s *Sealed) begin(ctx context.Context, seg htlcdash.Segment) error {
	segs, err := s.title.Segments(ctx, seg.Representation)
	if err != nil {
		return err
	}
	bytes := int64(0)
	from, to := seg.Opens()
	for _, other := range segs[from:to] {
		bytes += other.SealedBlob().Length
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[seg.KeyHash] = carriageOf(s.perMiB, bytes)
	return nil
}

// toCarry is what is still to be paid for sealed bytes of what was begun, where so
// much was.
func (s *Sealed) toCarry(paid lightning.Msat) lightning.Msat {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := -paid
	for _, cost := range s.keys {
		sum += cost
	}
	return max(sum, 0)
}

// Ready has an offer for the key proved, so that a payment is all that is left.
func (s *Sealed) Ready(ctx context.Context, rep *dash.Representation, index int) {
	if seg, err := s.seal(ctx, rep, index); err == nil {
		_ = s.buyer.Ready(ctx, seg)
	}
}

// Prepare asks for offers.
func (s *Sealed) Prepare(ctx context.Context, rep *dash.Representation, indexes []int) {
	var segs []htlcdash.Segment
	for _, i := range indexes {
		if seg, err := s.seal(ctx, rep, i); err == nil {
			segs = append(segs, seg)
		}
	}
	s.buyer.Prepare(ctx, segs)
}

// Money says what the buyer's account says.
func (s *Sealed) Money() Money {
	a := s.buyer.Account(s.title.ID)
	m := Money{Left: agent.NoLimit, Spent: a.Spent - s.spent, Fees: a.Fees - s.fees, Share: a.FeeShare(), Routed: true}
	if s.first != agent.NoLimit {
		m.Left = s.first - m.Spent - s.toCarry(a.Carriage-s.carried)
	}
	return m
}

// Stop keeps the buyer from new payments.
func (s *Sealed) Stop() { s.buyer.Stop(s.title.ID) }

// A Meter tells how much of what is being fetched is here. It stands before the
// sources of sealed bytes; its methods may be called at once.
type Meter struct {
	mu     sync.Mutex
	counts map[htlcdash.Blob]func(n int)
}

// source is what package source asks of a place for bytes.
type source interface {
	Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error)
}

// A metered source is one whose bytes are counted.
type metered struct {
	source
	meter *Meter
}

// Over returns s with its bytes counted.
func (m *Meter) Over(s source) interface {
	Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error)
} {
	return metered{s, m}
}

// count begins to tell came of the bytes of b, until the returned function is
// called.
func (m *Meter) count(b htlcdash.Blob, came func(n int)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts == nil {
		m.counts = map[htlcdash.Blob]func(n int){}
	}
	m.counts[b] = came
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.counts, b)
	}
}

func (m *Meter) came(b htlcdash.Blob, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if tell := m.counts[b]; tell != nil {
		tell(n)
	}
}

// Open implements source.Source.
func (s metered) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	r, err := s.source.Open(ctx, b)
	if err != nil {
		return nil, err
	}
	return counted{r, s.meter, b}, nil
}

// Cost passes on what source.Coster says, for who sees through it.
func (s metered) Cost(b htlcdash.Blob) lightning.Msat {
	if c, ok := s.source.(interface {
		Cost(b htlcdash.Blob) lightning.Msat
	}); ok {
		return c.Cost(b)
	}
	return 0
}

func (s metered) String() string { return fmt.Sprint(s.source) }

type counted struct {
	io.ReadCloser
	meter *Meter
	blob  htlcdash.Blob
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.meter.came(c.blob, n)
	return n, err
}
