package proxy

import (
	"container/list"
	"context"
	"errors"
	"sync"

	"htlcdash"
)

var errClosed = errors.New("the proxy is closing")

// A place names one piece of media of one title. Index -1 is what a decoder
// needs before the first segment.
type place struct {
	title htlcdash.TitleID
	rep   string
	index int
}

// A shelf keeps the last opened segments in memory, up to a limit in bytes,
// and lets everyone who wants the same one wait for the same work. The work
// goes on when those who wait go away: it may have cost money already.
type shelf struct {
	limit int64
	run   func(func()) bool // starts a goroutine that somebody owns, or reports that it is too late

	mu    sync.Mutex
	size  int64 // bytes of finished items
	all   map[place]*item
	order *list.List // of finished items; the front was used last
}

type item struct {
	place place
	done  chan struct{} // closed when data or err is set
	data  []byte
	err   error
	at    *list.Element // nil while the work goes on
}

func newShelf(limit int64, run func(func()) bool) *shelf {
	return &shelf{limit: limit, run: run, all: map[place]*item{}, order: list.New()}
}

// fetch returns the item at p, and starts load if nobody has yet. A failure is
// told to all who wait for it and is not kept.
func (s *shelf) fetch(p place, load func() ([]byte, error)) *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.all[p]; ok {
		if i.at != nil {
			s.order.MoveToFront(i.at)
		}
		return i
	}
	i := &item{place: p, done: make(chan struct{})}
	s.all[p] = i
	started := s.run(func() {
		data, err := load()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.finish(i, data, err)
	})
	if !started {
		s.finish(i, nil, errClosed)
	}
	return i
}

// wait returns the bytes once they are there. If ctx is done first, only the
// wait ends.
func (i *item) wait(ctx context.Context) ([]byte, error) {
	select {
	case <-i.done:
		return i.data, i.err
	default:
	}
	select {
	case <-i.done:
		return i.data, i.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// isDone reports whether nobody has to wait for i any more.
func (i *item) isDone() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// has reports whether p is on the shelf or on its way there.
func (s *shelf) has(p place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[p] != nil
}

// finish puts an item on the shelf, or tells its failure. s.mu is held.
func (s *shelf) finish(i *item, data []byte, err error) {
	i.data, i.err = data, err
	close(i.done)
	if err != nil {
		delete(s.all, i.place)
		return
	}
	i.at = s.order.PushFront(i)
	s.size += int64(len(data))
	for s.size > s.limit && s.order.Len() > 1 {
		old := s.order.Remove(s.order.Back()).(*item)
		s.size -= int64(len(old.data))
		delete(s.all, old.place)
	}
}
