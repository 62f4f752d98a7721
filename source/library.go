package source

import (
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
)

// ErrStalled means that a source stopped giving bytes.
var ErrStalled = errors.New("source stalled")

// Options tell a [Library] how to work. The zero value caches nothing.
type Options struct {
	Memory int64         // bytes of blobs kept in memory
	Folder string        // where blobs are kept across restarts; empty: nowhere
	Disk   int64         // bytes of blobs kept in Folder; 0: no bound
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
}

// A Library gets blobs from the first of its sources that gives the right
// bytes. One that is late is not waited for: the next is asked beside it. A
// source that fails, or loses such a race, is asked last for a while. Its methods
// may be called at once.
type Library struct {
	o      Options
	memory *memory
	disk   *disk // nil: none

	pending join.Group[htlcdash.Blob, []byte]

	mu      sync.Mutex // not held while bytes flow
	sources []*shelf   // in the order given
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
	l := &Library{o: o, memory: newMemory(o.Memory)}
	if o.Folder != "" {
		var err error
		if l.disk, err = openDisk(o.Folder, o.Disk); err != nil {
			return nil, err
		}
	}
	l.Add(sources...)
	return l, nil
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
	if data, ok := l.memory.get(b); ok {
		return data, nil
	}
	return l.pending.Do(ctx, b, func(ctx context.Context) ([]byte, error) { return l.fetch(ctx, b) })
}

// Has reports whether some source has b, without fetching it where sources can
// tell so: nil, an error that matches htlcdash.ErrNotFound if none has it, or
// what sources failed with. A source that lies is found out only by Get.
func (l *Library) Has(ctx context.Context, b htlcdash.Blob) error {
	if _, ok := l.memory.get(b); ok || l.disk != nil && l.disk.has(b) {
		return nil
	}
	var errs []error
	for _, s := range l.order() {
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

func (l *Library) fetch(ctx context.Context, b htlcdash.Blob) ([]byte, error) {
	if l.disk != nil {
		if data, ok := l.disk.get(b); ok {
			l.memory.put(b, data)
			return data, nil
		}
	}
	data, err := l.relay(b).run(ctx)
	if err == nil {
		l.keep(b, data)
	}
	return data, err
}

// keep caches data. A full disk costs the cache, not the film.
func (l *Library) keep(b htlcdash.Blob, data []byte) {
	l.memory.put(b, data)
	if l.disk == nil {
		return
	}
	if err := l.disk.put(b, data); err != nil {
		l.o.Log.Warn("blob not cached: make room on the disk or choose another folder", "folder", l.o.Folder, "err", err)
	}
}

// muchSlower is how many times as long as the quickest a source may take, before
// it is asked after others.
const muchSlower = 4

// order gives the sources in their order, those last that are much slower than
// others, or on the bench.
func (l *Library) order() []*shelf {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, best := time.Now(), 0.0
	for _, s := range l.sources {
		if !now.Before(s.benched) {
			best = max(best, s.rate(now))
		}
	}
	var good, slow, benched []*shelf
	for _, s := range l.sources {
		switch {
		case now.Before(s.benched):
			benched = append(benched, s)
		case s.rate(now) > 0 && s.rate(now)*muchSlower < best:
			slow = append(slow, s)
		default:
			good = append(good, s)
		}
	}
	return slices.Concat(good, slow, benched)
}

// helper says which of sources to ask beside one that is late: the quickest that
// is known, or else the one that was asked so least recently.
func (l *Library) helper(left []*shelf) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, best := time.Now(), 0
	for i, s := range left {
		b := left[best]
		switch {
		case now.Before(s.benched):
		case now.Before(b.benched), s.rate(now) > b.rate(now), s.rate(now) == b.rate(now) && s.helped.Before(b.helped):
			best = i
		}
	}
	left[best].helped = now
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
