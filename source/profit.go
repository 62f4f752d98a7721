package source

import (
	"context"

	"htlcdash"
	"htlcdash/lightning"
	"htlcdash/source/cache"
)

// A Coster is a [Source] that is paid for what it gives. Others are free.
type Coster interface {
	Source
	// Cost is the most that b costs here now. It answers at once, from what is
	// known, and may be called at once from many goroutines.
	Cost(b htlcdash.Blob) lightning.Msat
}

// A Guide knows titles: where in one a blob belongs, and which blob is in a
// place. [Outline] is one. It answers at once, from what is known, and may be called at once from
// many goroutines.
type Guide interface {
	Place(b htlcdash.Blob) (cache.Place, bool)
	Blob(p cache.Place) (htlcdash.Blob, bool)
}

// Stats are what a [Library] did since it was made.
type Stats struct {
	Hits, Misses        int64          // blobs that were asked for: here or on their way, and not
	HitBytes, MissBytes int64          // of these
	Saved               lightning.Msat // what hits would have cost
	Spent               lightning.Msat // what sources took, for misses and ahead of time
	Evicted             int64          // blobs that left the disk for others that are worth more
	Refused             int64          // blobs that were not worth a place on the disk
	Held                int64          // bytes on the disk now
	Ahead               cache.Account  // how getting blobs ahead of time went
}

// Profit is what the library saved by keeping blobs, less what it lost on those
// that it got ahead and nobody wanted.
func (s Stats) Profit() lightning.Msat { return s.Saved - s.Ahead.Lost }

// Stats may be called at any time.
func (l *Library) Stats() Stats {
	l.mu.Lock()
	s := l.stats
	l.mu.Unlock()
	if d := l.disk; d != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		s.Evicted, s.Refused, s.Held, s.Ahead = d.evicted, d.refused, d.shelf.Bytes(), d.ahead.Account()
	}
	return s
}

// item says of b what is known before it is fetched.
func (l *Library) item(b htlcdash.Blob) cache.Item {
	it := cache.Item{Blob: b, Cost: l.dearest(b)}
	if l.o.Guide != nil {
		it.Place, _ = l.o.Guide.Place(b)
	}
	return it
}

// dearest is the most that any source takes for b.
func (l *Library) dearest(b htlcdash.Blob) (most lightning.Msat) {
	l.mu.Lock()
	sources := l.sources
	l.mu.Unlock()
	for _, s := range sources {
		most = max(most, costOf(s.Source, b))
	}
	return most
}

func costOf(s Source, b htlcdash.Blob) lightning.Msat {
	if c, ok := s.(Coster); ok {
		return max(0, c.Cost(b))
	}
	return 0
}

// book counts what was asked for.
func (l *Library) book(it cache.Item, hit bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !hit {
		l.stats.Misses++
		l.stats.MissBytes += it.Blob.Length
		return
	}
	l.stats.Hits++
	l.stats.HitBytes += it.Blob.Length
	l.stats.Saved += it.Cost
}

func (l *Library) bookSpent(cost lightning.Msat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Spent += cost
}

const (
	// fetchersAhead is how many blobs are fetched ahead at a time: whoever is
	// waited for needs the line more.
	fetchersAhead = 2
	// askedLately is how many requests may wait for what comes next of theirs to be
	// looked at. More are not looked at.
	askedLately = 64
)

// lookAhead has what follows a place looked at, unless those who do are busy.
func (l *Library) lookAhead(p cache.Place) {
	if l.asked == nil || p.Count == 0 {
		return
	}
	select {
	case l.asked <- p:
	default:
	}
}

// fetchAhead fetches what pays, until ctx is done.
func (l *Library) fetchAhead(ctx context.Context) {
	for {
		select {
		case p := <-l.asked:
			for _, c := range l.takeAhead(p) {
				l.fetchChoice(ctx, c)
			}
		case <-ctx.Done():
			return
		}
	}
}

// takeAhead decides what to fetch ahead, and books it.
func (l *Library) takeAhead(p cache.Place) []cache.Choice {
	d := l.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	choices := d.ahead.Next(p, func(p cache.Place) (cache.Price, bool) {
		b, known := l.o.Guide.Blob(p)
		it := cache.Item{Blob: b, Place: p, Cost: l.dearest(b)}
		if _, held := d.shelf.Held(b); held || !known || !d.shelf.Wants(it) {
			return cache.Price{}, false
		}
		return cache.Price{Cost: it.Cost, Gain: lightning.Msat(float64(l.o.Ready) * float64(b.Length) / (1 << 20))}, true
	})
	for _, c := range choices {
		d.ahead.Took(c)
	}
	return choices
}

func (l *Library) fetchChoice(ctx context.Context, c cache.Choice) {
	b, known := l.o.Guide.Blob(c.Place)
	if known {
		_, err := l.pending.Do(ctx, b, func(ctx context.Context) ([]byte, error) { return l.fetch(ctx, b, nil) })
		known = err == nil
	}
	if !known {
		l.disk.mu.Lock()
		defer l.disk.mu.Unlock()
		l.disk.ahead.Failed(c.Place)
	}
}
