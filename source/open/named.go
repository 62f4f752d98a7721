package open

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/web"
)

// MaxNamed bounds the sources that titles name, of all titles together.
const MaxNamed = 64

// ErrMany means that titles name more sources than are asked.
var ErrMany = errors.New("titles name too many sources")

// Named are the sources that titles name for their own sealed bytes. They are
// words of strangers: a source is asked for bytes of titles that name it and for
// no others, and reaches public addresses only. Its methods may be called at
// once.
type Named struct {
	// Add is given each source once, when a title is the first to name it. It is
	// required.
	Add func(source.Source)
	// Private lets sources be in private networks: for tests, and for who trusts
	// all publishers of its titles.
	Private bool

	mu    sync.Mutex
	byURL map[string]*scoped
}

// Title makes known what a title names, and which blobs are its own; the same
// title again replaces what it named before. The error matches [ErrMany]; the
// sources before are used.
func (n *Named) Title(id htlcdash.TitleID, urls []string, holds func(htlcdash.Blob) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.byURL {
		s.forget(id)
	}
	for _, u := range urls {
		s := n.byURL[u]
		if s == nil {
			if len(n.byURL) >= MaxNamed {
				return fmt.Errorf("%w: more than %d", ErrMany, MaxNamed)
			}
			open := web.NewPublic
			if n.Private {
				open = func(base string) (*web.Web, error) { return web.New(base, nil) }
			}
			w, err := open(u)
			if err != nil {
				return err
			}
			s = &scoped{Web: w, titles: map[htlcdash.TitleID]func(htlcdash.Blob) bool{}}
			if n.byURL == nil {
				n.byURL = map[string]*scoped{}
			}
			n.byURL[u] = s
			n.Add(s)
		}
		s.know(id, holds)
	}
	return nil
}

// A scoped source is asked for blobs of some titles only.
type scoped struct {
	*web.Web
	mu     sync.Mutex
	titles map[htlcdash.TitleID]func(htlcdash.Blob) bool
}

func (s *scoped) know(id htlcdash.TitleID, holds func(htlcdash.Blob) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.titles[id] = holds
}

func (s *scoped) forget(id htlcdash.TitleID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.titles, id)
}

// admits reports whether b is of a title that names s.
func (s *scoped) admits(b htlcdash.Blob) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, holds := range s.titles {
		if holds(b) {
			return true
		}
	}
	return false
}

// Open implements source.Source.
func (s *scoped) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	if !s.admits(b) {
		return nil, htlcdash.ErrNotFound
	}
	return s.Web.Open(ctx, b)
}

// Has implements source.Prober.
func (s *scoped) Has(ctx context.Context, b htlcdash.Blob) error {
	if !s.admits(b) {
		return htlcdash.ErrNotFound
	}
	return s.Web.Has(ctx, b)
}
