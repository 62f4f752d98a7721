package player

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"htlcdash/internal/dash"
	"htlcdash/internal/remux"
)

// A Stream is a sink that joins all tracks to one stream that stock players take.
type Stream struct {
	w      *remux.Writer
	broken int // segments that were left out
}

var _ Sink = (*Stream)(nil)

// Bounds on what a stream fetches before it begins.
const (
	headsAtOnce = 8         // requests
	maxStream   = 128 << 20 // bytes of all heads
)

// NewStream returns a sink that writes to w, which stays open. It fetches what a
// decoder needs of all Representations of the menu: 128 MiB at most.
func NewStream(ctx context.Context, w io.Writer, m Menu, s Stock) (*Stream, error) {
	tracks := make([]remux.Track, len(m.Tracks))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(headsAtOnce)
	var bytes atomic.Int64
	for k := range m.Tracks {
		reps := m.representations(k)
		tracks[k] = remux.Track{Kind: remux.Kind(m.Tracks[k].Kind), Representations: make([]remux.Representation, len(reps))}
		for i, rep := range reps {
			work.Go(func() error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				init, err := s.Init(ctx, rep)
				tracks[k].Representations[i] = remux.Representation{ID: rep.ID, Init: init, Offset: rep.Offset}
				if err == nil && bytes.Add(int64(len(init))) > maxStream {
					err = fmt.Errorf("%w: the heads of its Representations have more than %d MiB", remux.ErrUnsupported, maxStream>>20)
				}
				if err != nil {
					return fmt.Errorf("representation %s: %w", rep.ID, err)
				}
				return nil
			})
		}
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	joined, err := remux.New(w, tracks...)
	if err != nil {
		return nil, err
	}
	return &Stream{w: joined}, nil
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

// Close implements [Sink]: it writes what was held back, and says if something was
// left out.
func (s *Stream) Close() error {
	err := s.w.Close()
	if s.broken > 0 {
		err = errors.Join(err, fmt.Errorf("%d segments were left out of the stream: %w", s.broken, remux.ErrMedia))
	}
	return err
}
