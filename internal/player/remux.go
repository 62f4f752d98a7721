package player

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"htlcdash/internal/dash"
	"htlcdash/internal/remux"
)

// A Stream is a sink that joins all tracks to one stream that stock players take.
type Stream struct {
	w      *remux.Writer
	broken int // segments that were left out
}

var _ Sink = (*Stream)(nil)

// NewStream returns a sink that writes to w, which stays open. It fetches what a
// decoder needs of all Representations of the menu.
func NewStream(ctx context.Context, w io.Writer, m Menu, s Stock) (*Stream, error) {
	tracks := make([]remux.Track, len(m.Tracks))
	var work sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for k := range m.Tracks {
		reps := m.representations(k)
		tracks[k] = remux.Track{Kind: remux.Kind(m.Tracks[k].Kind), Representations: make([]remux.Representation, len(reps))}
		for i, rep := range reps {
			work.Go(func() {
				init, err := s.Init(ctx, rep)
				tracks[k].Representations[i] = remux.Representation{ID: rep.ID, Init: init, Offset: rep.Offset}
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, fmt.Errorf("representation %s: %w", rep.ID, err))
				}
			})
		}
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	joined, err := remux.New(w, tracks...)
	return &Stream{w: joined}, err
}

// Segment implements [Sink]. A segment that is broken is left out, as players do.
func (s *Stream) Segment(track int, rep *dash.Representation, _ int, _, data []byte) error {
	err := s.w.Segment(track, rep.ID, data)
	if errors.Is(err, remux.ErrMedia) {
		s.broken++
		return nil
	}
	return err
}

// Close writes what was held back, and says if something was left out.
func (s *Stream) Close() error {
	err := s.w.Close()
	if s.broken > 0 {
		err = errors.Join(err, fmt.Errorf("%d segments were left out of the stream: %w", s.broken, remux.ErrMedia))
	}
	return err
}
