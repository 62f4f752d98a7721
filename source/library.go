package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/join"
	"htlcdash/lightning"
	"htlcdash/source/cache"
)

// ErrStalled means that a source stopped giving bytes.
var ErrStalled = errors.New("source stalled")

// Options tell a [Library] how to work. The zero value caches nothing.
type Options struct {
	Memory int64         // bytes of blobs kept in memory
	Folder string        // where blobs are kept across restarts; empty: nowhere
	Disk   int64         // bytes of blobs kept in Folder; 0: no bound. Those stay that save most (package cache)
	Stall  time.Duration // a source that gives nothing for so long is left; 0: 5 s
	// MinRate in bytes per second, after one Stall of grace, is the least that
	// a source must keep up, so that none can hold a fetch by a byte now and
	// then. 0: 32 KiB/s.
	MinRate int64
	// Hedge is the silence of a source, or the wait that remains, after which
	// the next one is asked beside it; sooner for what is needed soon
	// (buyer.NeededBy). Who comes first is used. 0: 1 s.
	Hedge time.Duration
	Log   *slog.Logger // of failing sources; nil: none

	// Guide says what belongs to which title, so that what is known of a title and
	// of who is watching it counts when the disk is full. nil: nobody knows.
	Guide Guide
	// Ahead says when a blob is fetched before somebody asks for it. It needs Guide
	// and Folder. The zero value is never.
	Ahead cache.Terms
	// Ready is what it is worth, by the MiB, that a blob which was fetched ahead is
	// there when it is asked for.
	Ready lightning.Msat
}

// A Library gets blobs from the first of its sources that gives the right
// bytes. One that is late is not waited for: the next is asked beside it. A
// source that fails, or loses such a race, is asked last for a while. Its methods
// may be called at once.
type Library struct {
	o      Options
	memory *memory
	disk   *disk            // nil: none
	asked  chan cache.Place // places whose followers may be fetched ahead; nil: none are
	work   sync.WaitGroup   // what goes on beside requests
	stop   context.CancelFunc

	pending join.Group[htlcdash.Blob, []byte]

	mu      sync.Mutex // not held while bytes flow
	sources []*shelf   // in the order given
	stats   Stats      // but for what the disk counts
}

// A shelf is a source and how it fared.
type shelf struct {
	Source
	failures int       // in a row; guarded by Library.mu
	benched  time.Time // until then it is asked last; guarded by Library.mu
	pace     float64   // bytes a second, smoothed; guarded by Library.mu
	paced    time.Time // when that was measured last; guarded by Library.mu
	helped   time.Time // when it was last asked beside another; guarded by Library.mu
}

// NewLibrary returns a Library over sources, cheapest first.
func NewLibrary(o Options, sources ...Source) (*Library, error) {
	if o.Stall == 0 {
		o.Stall = 5 * time.Second
	}
	if o.MinRate == 0 {
		o.MinRate = 32 << 10
	}
	if o.Hedge == 0 {
		o.Hedge = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Library{o: o, memory: newMemory(o.Memory), stop: func() {}}
	l.Add(sources...)
	if o.Ahead.Depth > 0 && (o.Folder == "" || o.Guide == nil) {
		return nil, errors.New("nothing can be fetched ahead without a folder to keep it and a guide to titles")
	}
	if o.Folder == "" {
		return l, nil
	}
	var torn, err error
	if l.disk, torn, err = openDisk(o.Folder, o.Disk, o.Ahead); err != nil {
		return nil, err
	}
	if torn != nil {
		o.Log.Warn("cache keeps its bytes, but forgot what was asked for how often", "folder", o.Folder, "err", torn)
	}
	if o.Ahead.Depth > 0 {
		var ctx context.Context
		ctx, l.stop = context.WithCancel(context.Background())
		l.asked = make(chan cache.Place, askedLately)
		for range fetchersAhead {
			l.work.Go(func() { l.fetchAhead(ctx) })
		}
	}
	return l, nil
}

// Close ends what goes on beside requests and writes down what the cache has
// learnt, which is otherwise done every few minutes. The library is not to be
// used any more.
func (l *Library) Close() error {
	l.stop()
	l.work.Wait()
	if l.disk == nil {
		return nil
	}
	return l.disk.save()
}

// Add appends sources, to be asked after those that are there.
func (l *Library) Add(sources ...Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sources {
		l.sources = append(l.sources, &shelf{Source: s})
	}
}

// Get returns the bytes of b, checked. Others may hold the same slice: it must
// not be changed. If no source has b the error matches htlcdash.ErrNotFound; if
// some failed it matches what they failed with, such as htlcdash.ErrCorrupt or
// [ErrStalled].
//
// Callers who want the same blob share one fetch. It ends when the last of
// them has gone.
func (l *Library) Get(ctx context.Context, b htlcdash.Blob) ([]byte, error) {
	if b.Length < 0 || b.Length > htlcdash.SealedLength(htlcdash.MaxSegmentLength) {
		return nil, fmt.Errorf("blob %s of %d bytes: %w", b.Root, b.Length, htlcdash.ErrFormat)
	}
	it := l.item(b)
	if l.disk != nil {
		it = l.disk.ask(it)
	}
	data, here := l.memory.get(b)
	if !here {
		fetched := false
		var err error
		data, err = l.pending.Do(ctx, b, func(ctx context.Context) ([]byte, error) { return l.fetch(ctx, b, &fetched) })
		if err != nil {
			return nil, err
		}
		here = !fetched
	}
	l.book(it, here)
	l.lookAhead(it.Place)
	if l.disk != nil && l.disk.mustSave() {
		l.work.Go(l.save)
	}
	return data, nil
}

// Has reports whether some source has b, without fetching it where sources can
// tell so: nil, an error that matches htlcdash.ErrNotFound if none has it, or
// what sources failed with. A source that lies is found out only by Get.
func (l *Library) Has(ctx context.Context, b htlcdash.Blob) error {
	if _, ok := l.memory.get(b); ok || l.disk != nil && l.disk.has(b) {
		return nil
	}
	var errs []error
	order, _ := l.order(b)
	for _, s := range order {
		err := l.probe(ctx, s.Source, b)
		if err == nil {
			return nil
		}
		if !errors.Is(err, htlcdash.ErrNotFound) {
			errs = append(errs, fmt.Errorf("%v: %w", s.Source, err))
		}
	}
	if errs == nil {
		errs = []error{htlcdash.ErrNotFound}
	}
	return fmt.Errorf("blob %s: %w", b.Root, errors.Join(errs...))
}

func (l *Library) probe(ctx context.Context, s Source, b htlcdash.Blob) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.o.Stall, ErrStalled)
	defer cancel()
	if p, ok := s.(Prober); ok {
		return p.Has(ctx, b)
	}
	rc, err := s.Open(ctx, b)
	if err != nil {
		return err
	}
	return rc.Close()
}

func (l *Library) save() {
	if err := l.disk.save(); err != nil {
		l.o.Log.Warn("what the cache has learnt is not kept: make room on the disk or choose another folder", "folder", l.o.Folder, "err", err)
	}
}

// fetch gets b from the disk or, which it tells, from a source.
func (l *Library) fetch(ctx context.Context, b htlcdash.Blob, fetched *bool) ([]byte, error) {
	if l.disk != nil {
		if data, ok := l.disk.get(b); ok {
			l.memory.put(b, data)
			return data, nil
		}
	}
	if fetched != nil {
		*fetched = true
	}
	r := l.relay(b)
	data, err := r.run(ctx)
	if err == nil {
		it := l.item(b)
		it.Cost = costOf(r.gave, b)
		l.bookSpent(it.Cost)
		l.keep(it, data)
	}
	return data, err
}

// keep caches data. A full disk costs the cache, not the film.
func (l *Library) keep(it cache.Item, data []byte) {
	l.memory.put(it.Blob, data)
	if l.disk == nil {
		return
	}
	if err := l.disk.put(it, data); err != nil {
		l.o.Log.Warn("blob not cached: make room on the disk or choose another folder", "folder", l.o.Folder, "err", err)
	}
}

// muchSlower is how many times as long as the quickest a source may take, before
// it is asked after others.
const muchSlower = 4

// order gives the sources by what they take for b, which it tells, the cheapest
// first; those of one price in their order, but the ones that are much slower than
// others after these: money is not spent on haste that nobody asked for. Last are
// those on the bench.
func (l *Library) order(b htlcdash.Blob) ([]*shelf, map[*shelf]lightning.Msat) {
	l.mu.Lock()
	sources := l.sources
	l.mu.Unlock()
	costs := make(map[*shelf]lightning.Msat, len(sources))
	for _, s := range sources {
		costs[s] = costOf(s.Source, b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	best := func(atMost lightning.Msat) (rate float64) {
		for _, s := range sources {
			if costs[s] <= atMost && !now.Before(s.benched) {
				rate = max(rate, s.rate(now))
			}
		}
		return rate
	}
	var good, slow, benched []*shelf
	for _, s := range sources {
		switch {
		case now.Before(s.benched):
			benched = append(benched, s)
		case s.rate(now) > 0 && s.rate(now)*muchSlower < best(costs[s]):
			slow = append(slow, s)
		default:
			good = append(good, s)
		}
	}
	order := slices.Concat(good, slow)
	slices.SortStableFunc(order, func(a, b *shelf) int { return cmp.Compare(costs[a], costs[b]) })
	return slices.Concat(order, benched), costs
}

// helper says which of sources to ask beside one that is late: of the cheapest, the
// quickest that is known, or else the one that was asked so least recently. It is
// -1 if all cost more than atMost.
func (l *Library) helper(left []*shelf, costs map[*shelf]lightning.Msat, atMost lightning.Msat) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, best := time.Now(), -1
	better := func(s, b *shelf) bool {
		switch {
		case now.Before(s.benched) != now.Before(b.benched):
			return now.Before(b.benched)
		case costs[s] != costs[b]:
			return costs[s] < costs[b]
		case s.rate(now) != b.rate(now):
			return s.rate(now) > b.rate(now)
		}
		return s.helped.Before(b.helped)
	}
	for i, s := range left {
		if costs[s] <= atMost && (best < 0 || better(s, left[best])) {
			best = i
		}
	}
	if best >= 0 {
		left[best].helped = now
	}
	return best
}

// judge sends a source that failed to the bench, twice as long each time, up
// to a minute. Not to have a blob is no failure.
func (l *Library) judge(s *shelf, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		s.failures, s.benched = 0, time.Time{}
	}
	if err == nil || errors.Is(err, htlcdash.ErrNotFound) {
		return
	}
	s.failures++
	s.benched = time.Now().Add(min(time.Second<<min(s.failures, 6), time.Minute))
}

// measure books how fast a source gave bytes.
func (l *Library) measure(s *shelf, n int64, took time.Duration) {
	rate := float64(max(n, 1)) / max(took.Seconds(), 1e-3) // nothing at all is known to be slow, too
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if s.rate(now) > 0 && rate*muchSlower > s.pace { // else it has broken down
		rate = s.pace + (rate-s.pace)/4
	}
	s.pace, s.paced = rate, now
}

// paceLife is how long a measured pace counts: then a slow source is tried anew.
const paceLife = time.Minute

// rate is bytes a second, or 0 if it is not known. It needs Library.mu.
func (s *shelf) rate(now time.Time) float64 {
	if now.Sub(s.paced) >= paceLife {
		return 0
	}
	return s.pace
}

// estimate is how long the quickest of sources may take for n bytes, if any was
// read before.
func (l *Library) estimate(sources []*shelf, n int64) (took time.Duration, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, best := time.Now(), 0.0
	for _, s := range sources {
		if !now.Before(s.benched) {
			best = max(best, s.rate(now))
		}
	}
	if best == 0 {
		return 0, false
	}
	return time.Duration(float64(n) / best * float64(time.Second)), true
}

// read gets b from one source and checks it.
func (l *Library) read(ctx context.Context, r *reading, b htlcdash.Blob) ([]byte, error) {
	s := r.shelf.Source
	patience := l.o.Stall + time.Duration(float64(b.Length)/float64(l.o.MinRate)*float64(time.Second))
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w: below %d bytes per second", ErrStalled, l.o.MinRate))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	alarm := time.AfterFunc(l.o.Stall, func() { stop(fmt.Errorf("%w: nothing for %v", ErrStalled, l.o.Stall)) })
	defer alarm.Stop()

	data, err := readAll(ctx, s, b, func(n int) {
		alarm.Reset(l.o.Stall)
		r.got.Add(int64(n))
		r.moved.Store(int64(time.Since(r.begun)))
	})
	if err == nil {
		return data, nil
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrStalled) {
		return nil, fmt.Errorf("%v: %w", s, cause)
	}
	return nil, fmt.Errorf("%v: %w", s, err)
}

func readAll(ctx context.Context, s Source, b htlcdash.Blob, progress func(n int)) ([]byte, error) {
	rc, err := s.Open(ctx, b)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	// One byte more than b has, to see whether the source has more.
	data := make([]byte, b.Length+1)
	n := 0
	for n < len(data) && err == nil {
		var m int
		m, err = rc.Read(data[n:])
		n += m
		if m > 0 {
			progress(m)
		}
	}
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("after %d of %d bytes: %w", n, b.Length, err)
	}
	if data = data[:n]; !b.Is(data) {
		return nil, fmt.Errorf("%d bytes, want %d: %w", n, b.Length, htlcdash.ErrCorrupt)
	}
	return data, nil
}
