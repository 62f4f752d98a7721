package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash/internal/devnet"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// cashier is the node that is paid here, by its own invoices and by a till's.
const cashier = "cashier"

// tills has one node paid by invoices that it makes itself and by those of a
// till beside it, in turns.
func tills(ctx context.Context, s *stage, r *Report) (err error) {
	loads := []struct{ inFlight, count int }{{1, 60}, {10, 300}, {50, 600}}
	r.Rounds = s.rounds(3)
	node, err := s.cashier(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	books, err := ledger.Open(filepath.Join(s.dir, "cashier.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, books.Close()) }()
	till, err := lnd.NewTill(ctx, node, [32]byte{1}, books)
	if err != nil {
		return err
	}
	open, shut := context.WithCancel(ctx)
	running := make(chan error, 1)
	go func() { running <- till.Run(open, fromNote) }()
	defer func() {
		shut()
		err = errors.Join(err, <-running)
	}()
	payees := []struct {
		name  string
		payee lightning.Payee
	}{{"till", till}, {"node", node}}
	if err := s.warm(ctx, till); err != nil {
		return err
	}
	for round := range r.Rounds {
		for _, l := range loads {
			s.Progress(fmt.Sprintf("round %d of %d: %d in flight", round+1, r.Rounds, l.inFlight))
			if round%2 == 1 {
				slices.Reverse(payees)
			}
			for _, p := range payees {
				if err := s.quiet(ctx); err != nil {
					return err
				}
				if err := s.takings(ctx, r, p.name, p.payee, l.inFlight, l.count); err != nil {
					return err
				}
			}
		}
	}
	for _, l := range loads {
		of := fmt.Sprintf(", %d in flight", l.inFlight)
		r.beside("payments to a till"+of, "/s", "till"+of, "node"+of, "invoices of the node", 0.9)
	}
	r.beside("invoices of a till", "/s", "till invoices", "node invoices", "invoices of the node", 1)
	return nil
}

// cashier adds a node that holds payments for a till, with a channel from the
// viewer.
func (s *stage) cashier(ctx context.Context) (*lnd.Node, error) {
	flags := make([]string, len(lnd.TillOptions))
	for i, o := range lnd.TillOptions {
		flags[i] = "--" + o
	}
	at, err := s.network.Add(ctx, devnet.NodeSpec{Name: cashier, Flags: flags})
	if err != nil {
		return nil, err
	}
	if _, err := s.network.Open(ctx, devnet.ChannelSpec{From: viewer, To: cashier, Capacity: 10 * million, Push: million}); err != nil {
		return nil, err
	}
	return lnd.New(lnd.Config{Addr: at.REST, TLSCertFile: at.CertFile, MacaroonFile: at.MacaroonFile, Log: s.Log})
}

// warm pays until the till takes it: the node does not say when it does.
func (s *stage) warm(ctx context.Context, till lightning.Payee) error {
	for {
		err := s.takings(ctx, newReport(Measurement{}), "", till, 1, 1)
		if err == nil || ctx.Err() != nil || !errors.Is(err, lightning.ErrFailed) && !errors.Is(err, lightning.ErrUnavailable) {
			return err
		}
	}
}

// takings makes invoices, and then pays them.
func (s *stage) takings(ctx context.Context, r *Report, name string, payee lightning.Payee, width, count int) error {
	invoices := make([]lightning.Invoice, count)
	began := time.Now()
	makers, making := errgroup.WithContext(ctx)
	makers.SetLimit(batch)
	for i := range invoices {
		makers.Go(func() (err error) {
			note := binary.BigEndian.AppendUint64(nil, uint64(sold.Add(1)))
			p, _ := fromNote(making, note, lightning.Hash{})
			invoices[i], err = payee.Invoice(making, p, lightning.Terms{Amount: 2 * lightning.Sat, Note: note})
			return err
		})
	}
	if err := makers.Wait(); err != nil {
		return err
	}
	r.sample(name+" invoices", float64(count)/time.Since(began).Seconds())
	ready := func(_ context.Context, list []lightning.Invoice) ([]lightning.Invoice, error) { return list, nil }
	v, err := flow(ctx, invoices, width, ready, s.pay)
	r.sample(fmt.Sprintf("%s, %d in flight", name, width), v)
	return err
}

// sold numbers what was sold, so that no two notes are the same.
var sold atomic.Uint64

// fromNote is a seller that derives preimages.
func fromNote(_ context.Context, note []byte, _ lightning.Hash) (lightning.Preimage, error) {
	return lightning.NewPreimage(sha256.Sum256(note)), nil
}
