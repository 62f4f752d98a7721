package stock

import (
	"errors"
	"sync"

	"htlcdash"
	"htlcdash/lightning"
	"htlcdash/source/cache"
)

// A watch follows who watches what, by what is paid for: who asks and does not
// pay moves nothing in it.
type watch struct {
	mu       sync.Mutex
	audience *cache.Audience
	ahead    *cache.Ahead
}

func (w *watch) open(terms cache.Terms) {
	w.audience = cache.NewAudience()
	w.ahead = cache.NewAhead(w.audience, terms)
}

// Account is how buying ahead went since the start.
func (s *Stock) Account() cache.Account {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	return s.watch.ahead.Account()
}

// lookAhead buys what follows seg, as far as it pays, without waiting for it.
func (s *Stock) lookAhead(seg htlcdash.Segment) {
	if s.c.Ahead.Depth == 0 {
		return
	}
	place, known := s.c.Guide.Place(seg.SealedBlob())
	if !known {
		return
	}
	choices := s.choose(place)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(choices) == 0 {
		return
	}
	s.work.Go(func() {
		for _, c := range choices {
			s.fetch(c)
		}
	})
}

// choose books that place was sold, and what is bought because of it.
func (s *Stock) choose(place cache.Place) []cache.Choice {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.audience.Asked(place)
	w.ahead.Asked(place)
	choices := w.ahead.Next(place, s.worth)
	for _, c := range choices {
		w.ahead.Took(c)
	}
	return choices
}

// worth is what a key costs at most, and what it then brings at least. What is
// here already is worth nothing more.
func (s *Stock) worth(p cache.Place) (cache.Price, bool) {
	seg, known := s.c.Guide.Segment(p)
	if !known || s.Has(seg) {
		return cache.Price{}, false
	}
	cost := s.c.Margin.Most(seg.Price)
	return cache.Price{Cost: cost, Gain: max(s.c.Margin.OnShelf(cost, seg.Price)-cost, lightning.Msat(1))}, cost > 0
}

// fetch buys a choice. As long as no more than half of what may be at risk is,
// so that the rest is left for what is asked for.
func (s *Stock) fetch(c cache.Choice) {
	seg, known := s.c.Guide.Segment(c.Place)
	if known {
		if _, err := s.Key(s.alive, seg); !errors.Is(err, htlcdash.ErrNotFound) {
			known = false // it is here by now, or the books do not say
		}
	}
	if known {
		o, err := s.order(seg, s.c.Risk/2, 1)
		if err == nil {
			<-o.done
			err = o.err
		}
		known = err == nil
	}
	if !known {
		s.watch.mu.Lock()
		defer s.watch.mu.Unlock()
		s.watch.ahead.Failed(c.Place)
	}
}
