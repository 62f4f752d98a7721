package source

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"htlcdash"
	"htlcdash/internal/due"
	"htlcdash/lightning"
)

// A relay gets one blob from the first of several sources that gives it: the
// next is asked when one fails, or beside one that is late.
type relay struct {
	l       *Library
	b       htlcdash.Blob
	left    []*shelf // not asked yet
	costs   map[*shelf]lightning.Msat
	running map[*shelf]*reading
	done    chan *reading
	work    sync.WaitGroup
	errs    []error
	gave    Source // who gave the blob
}

// A reading is a blob on its way from one source.
type reading struct {
	shelf *shelf
	begun time.Time
	got   atomic.Int64 // bytes
	moved atomic.Int64 // when some came last, in nanoseconds after begun
	data  []byte       // when it is done
	err   error
}

const (
	// lookEvery is how often a relay looks how a source is getting on.
	lookEvery = 50 * time.Millisecond
	// soonest is the least wait before another source is asked: it costs the
	// line as much again.
	soonest = 250 * time.Millisecond
	// atOnce bounds the sources that are asked for one blob at a time.
	atOnce = 2
)

func (l *Library) relay(b htlcdash.Blob) *relay {
	order, costs := l.order(b)
	return &relay{l: l, b: b, left: order, costs: costs, running: make(map[*shelf]*reading), done: make(chan *reading, len(order))}
}

// run returns the blob. No source is being read when it returns.
func (r *relay) run(ctx context.Context) ([]byte, error) {
	runners, end := context.WithCancel(ctx)
	defer r.work.Wait()
	defer end()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for len(r.running) > 0 || r.start(runners, 0) {
		select {
		case d := <-r.done:
			delete(r.running, d.shelf)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if r.judge(d) {
				return d.data, nil
			}
		case now := <-tick.C:
			if r.late(ctx, now) {
				r.start(runners, r.l.helper(r.left, r.costs, r.purse()))
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if r.errs == nil {
		r.errs = []error{htlcdash.ErrNotFound}
	}
	return nil, fmt.Errorf("blob %s: %w", r.b.Root, errors.Join(r.errs...))
}

// purse is the most that a source may take that is asked beside others: nothing, if
// one of these takes money. So no more is spent on haste than one blob costs.
func (r *relay) purse() lightning.Msat {
	for s := range r.running {
		if r.costs[s] > 0 {
			return 0
		}
	}
	return math.MaxInt64
}

// start asks source i of those that are left, if there is one.
func (r *relay) start(ctx context.Context, i int) bool {
	if i < 0 || i >= len(r.left) {
		return false
	}
	d := &reading{shelf: r.left[i], begun: time.Now()}
	r.left = slices.Delete(r.left, i, i+1)
	r.running[d.shelf] = d
	r.work.Go(func() {
		d.data, d.err = r.l.read(ctx, d, r.b)
		r.done <- d
	})
	return true
}

// judge books how a source did, and reports whether it gave the blob.
func (r *relay) judge(d *reading) bool {
	r.l.judge(d.shelf, d.err)
	switch {
	case d.err == nil:
		r.gave = d.shelf.Source
		r.l.measure(d.shelf, r.b.Length, time.Since(d.begun))
		for _, slower := range r.running {
			if slower.begun.Before(d.begun) {
				r.fail(slower, fmt.Errorf("%v: %w: %d of %d bytes in %v, and %v was quicker", slower.shelf.Source, ErrStalled,
					slower.got.Load(), r.b.Length, time.Since(slower.begun).Round(time.Millisecond), d.shelf.Source))
			}
		}
		return true
	case !errors.Is(d.err, htlcdash.ErrNotFound):
		r.errs = append(r.errs, d.err)
		r.l.o.Log.Warn("source failed", "blob", r.b.Root, "err", d.err)
	}
	return false
}

func (r *relay) fail(d *reading, err error) {
	r.l.judge(d.shelf, err)
	r.l.measure(d.shelf, d.got.Load(), time.Since(d.begun))
	r.l.o.Log.Warn("source gives way", "blob", r.b.Root, "err", err)
}

// late reports whether another source is to be asked beside the one that is
// read: when nothing comes, when the blob will not be here in time, or when the
// other is known to be so much quicker that it overtakes.
func (r *relay) late(ctx context.Context, now time.Time) bool {
	if len(r.left) == 0 || len(r.running) >= atOnce {
		return false
	}
	var d *reading
	for _, d = range r.running {
	}
	at, said := due.Of(ctx)
	patience := r.l.o.Hedge
	if said {
		patience = min(patience, max(at.Sub(now)/2, soonest))
	}
	took, moved, got := now.Sub(d.begun), time.Duration(d.moved.Load()), d.got.Load()
	if took-moved >= patience {
		return true
	}
	if took < soonest || got == 0 {
		return false
	}
	rest := float64(moved) * float64(r.b.Length-got) / float64(got)
	other, known := r.l.estimate(r.left, r.b.Length)
	if said && now.Add(time.Duration(rest)).After(at) {
		return !known || float64(other) < rest
	}
	return known && rest > float64(r.l.o.Hedge) && 2*float64(other) < rest
}
