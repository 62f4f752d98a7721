package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/title"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/torrent"
)

const (
	seeded     = 10_000    // segments
	seededRung = 2_500     // of each Representation
	seededSize = 32 << 10  // bytes of each
	fetched    = 200       // of them, from the swarm
	rowsOfOld  = 1_000_000 // sales in old books
	rowsAtOnce = 10_000

	seedMemory = 250  // MB
	oldStart   = 2000 // ms that old books may add to a start
)

// scale looks at a provider that has grown: how much memory it takes to seed ten
// thousand segments, and how long it takes to start with a million sales in its
// books, beside one that has sold nothing.
func scale(ctx context.Context, s *stage, r *Report) error {
	s.Progress(fmt.Sprintf("publishing a title of %d segments", seeded))
	var rungs []rung
	for i := range seeded / seededRung {
		rungs = append(rungs, noise(fmt.Sprintf("v%d", i), seededRung, seededSize))
	}
	titles, err := s.made(ctx, "large", rungs...)
	if err != nil {
		return err
	}
	if err := s.seeds(ctx, r, titles); err != nil {
		return err
	}
	return s.oldBooks(ctx, r, titles)
}

func (s *stage) seeds(ctx context.Context, r *Report, titles string) error {
	s.Progress("seeding it")
	alone, err := s.serve(ctx, titles)
	if err != nil {
		return err
	}
	idle, _, err := alone.memory()
	alone.stop()
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	began := time.Now()
	p, err := s.serve(ctx, titles, "--seed", address)
	if err != nil {
		return err
	}
	defer p.stop()
	took := time.Since(began)
	seeding, _, err := p.memory()
	if err != nil {
		return err
	}
	if err := takeFrom(ctx, filepath.Join(titles, "large"), address); err != nil {
		return err
	}
	_, peak, err := p.memory()
	if err != nil {
		return err
	}
	r.add(Row{What: fmt.Sprintf("provider of %d segments, seeding", seeded), Unit: "MB", Ours: round(seeding / 1e6), Baseline: round(idle / 1e6), Ratio: seeding / idle, Of: "not seeding"})
	r.atMost(fmt.Sprintf("  %d of them given to a swarm, peak", fetched), "MB", peak/1e6, seedMemory)
	r.fact("  from its start until it answers", "ms", ms(took))
	return nil
}

// takeFrom fetches segments of a title from a seeding peer.
func takeFrom(ctx context.Context, folder, peer string) error {
	t, err := title.OpenDir(folder)
	if err != nil {
		return err
	}
	swarms, err := torrent.New(torrent.Options{Peers: []string{peer}, Patience: time.Minute})
	if err != nil {
		return err
	}
	defer swarms.Close()
	library, err := source.NewLibrary(source.Options{Stall: time.Minute}, swarms)
	if err != nil {
		return err
	}
	if err := addTorrents(ctx, swarms, folder); err != nil {
		return err
	}
	for _, rep := range t.Manifest.Representations() {
		blobs, err := blobsOf(ctx, t, rep.ID)
		if err != nil {
			return err
		}
		for i := range fetched * seededRung / seeded {
			if _, err := library.Get(ctx, blobs[i*37%len(blobs)]); err != nil {
				return fmt.Errorf("from the swarm: %w", err)
			}
		}
	}
	return nil
}

// oldBooks starts a provider with books of its own, new and old, by turns.
func (s *stage) oldBooks(ctx context.Context, r *Report, titles string) error {
	s.Progress(fmt.Sprintf("writing books of %d sales", rowsOfOld))
	file := filepath.Join(s.dir, "old.db")
	if err := writeOld(ctx, file); err != nil {
		return err
	}
	r.Rounds = s.rounds(5)
	for round := range r.Rounds {
		s.Progress(fmt.Sprintf("round %d of %d: starting with old books and new ones", round+1, r.Rounds))
		fresh := filepath.Join(s.dir, fmt.Sprintf("fresh-%d.db", round))
		for name, books := range map[string]string{"new books, ms": fresh, "old books, ms": file} {
			began := time.Now()
			p, err := s.serve(ctx, titles, "--ledger", books)
			if err != nil {
				return err
			}
			r.sample(name, ms(time.Since(began)))
			p.stop()
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	now, before := r.median("old books, ms"), r.median("new books, ms")
	r.add(Row{What: fmt.Sprintf("start of a provider with %d sales in its books", rowsOfOld), Unit: "ms", Ours: now, Baseline: before, Ratio: now / before, Of: "none"})
	r.atMost("  what they add", "ms", now-before, oldStart)
	r.fact("  their file", "MB", round(float64(info.Size())/1e6))
	return nil
}

// writeOld makes books of settled sales of a title that is no longer sold.
func writeOld(ctx context.Context, file string) error {
	books, err := ledger.Open(file)
	if err != nil {
		return err
	}
	defer books.Close()
	first := time.Now().Add(-30 * 24 * time.Hour)
	for from := 0; from < rowsOfOld; from += rowsAtOnce {
		sales, receipts := make([]ledger.Sale, rowsAtOnce), make([]lightning.Receipt, rowsAtOnce)
		for i := range sales {
			n := from + i
			at := first.Add(time.Duration(n) * 2 * time.Second)
			var number [8]byte
			binary.BigEndian.PutUint64(number[:], uint64(n))
			hash := lightning.Hash(sha256.Sum256(number[:]))
			sales[i] = ledger.Sale{
				Hash: hash, Title: htlcdash.TitleID{1}, Representation: "v0", Index: n % 3600, Sealed: htlcdash.Root(hash),
				Scheme: exchange.SchemeSalted, Amount: 2 * lightning.Sat, Created: at,
			}
			receipts[i] = lightning.Receipt{Index: uint64(n + 1), Hash: hash, Amount: 2 * lightning.Sat, At: at}
		}
		if err := books.Offered(ctx, sales); err != nil {
			return err
		}
		if err := books.Settle(ctx, ledger.FromTill, receipts...); err != nil {
			return err
		}
	}
	return nil
}
