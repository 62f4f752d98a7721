// Package remux joins the segments of a DASH title into one stream that a stock
// player takes from a pipe: fragmented MP4 (ISO/IEC 14496-12) with one track of
// video and one of audio, written as segments come, without seeking.
package remux

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors that callers decide on.
var (
	// ErrMedia: a segment or an initialization segment is not what it should be.
	ErrMedia = errors.New("broken media")
	// ErrUnsupported: the media is well, but cannot be put into one stream.
	ErrUnsupported = errors.New("media that cannot be joined")
)

// A Kind is what a track carries.
type Kind string

// Kinds of tracks.
const (
	Video Kind = "video"
	Audio Kind = "audio"
)

// A Track is what plays one after another: all Representations of all Periods
// whose segments may be handed in.
type Track struct {
	Kind            Kind
	Representations []Representation
}

// A Representation is what segments come from.
type Representation struct {
	ID   string
	Init []byte // its initialization segment
	// Offset is added to the times in its segments for the time in the
	// presentation: the begin of its Period, less the presentationTimeOffset.
	Offset time.Duration
}

// A Writer writes one stream. It is not safe for concurrent use.
type Writer struct {
	w        io.Writer
	tracks   []*track
	sequence uint32 // of the last fragment
	err      error  // of w: nothing is written after it
}

// New returns a Writer of a stream with the given tracks, and writes its head.
// Errors match [ErrMedia] or [ErrUnsupported], or are those of w.
func New(w io.Writer, tracks ...Track) (*Writer, error) {
	out := &Writer{w: w}
	for i, t := range tracks {
		made, err := newTrack(t)
		if err != nil {
			return nil, fmt.Errorf("track %d: %w", i, err)
		}
		out.tracks = append(out.tracks, made)
	}
	if len(tracks) == 0 {
		return nil, fmt.Errorf("%w: no tracks", ErrUnsupported)
	}
	return out, out.write(head(out.tracks))
}

// Segment adds a media segment of the Representation id to a track. Segments
// of one track come in the order of their times; which track comes first does
// not matter, since what is ahead of the other track is held back for a while.
// The Writer keeps data until it is written. What is refused with [ErrMedia]
// leaves no trace: the next segment may come.
func (w *Writer) Segment(track int, id string, data []byte) error {
	if w.err != nil {
		return w.err
	}
	t := w.tracks[track]
	r := t.representations[id]
	if r == nil {
		return fmt.Errorf("%w: no Representation %q", ErrUnsupported, id)
	}
	samples, err := r.readSegment(data)
	if err != nil {
		return fmt.Errorf("segment of %q: %w", id, err)
	}
	if err := t.add(r, samples); err != nil {
		return fmt.Errorf("segment of %q: %w", id, err)
	}
	return w.drain(maxLead)
}

// Close writes what was held back. It does not close what New was given.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	return w.drain(0)
}

// maxLead is how far one track may run ahead of another that has nothing yet
// before it is written in spite of that. Players stop reading when one track
// is far ahead, and wait for the other one that they cannot reach.
const maxLead = 10 * time.Second

// drain writes fragments in the order of their times, as long as no track that
// has nothing to write may still have an earlier one.
func (w *Writer) drain(lead time.Duration) error {
	for {
		var first *track
		waits := false
		for _, t := range w.tracks {
			switch {
			case len(t.queue) == 0:
				waits = true
			case first == nil || t.queue[0].start() < first.queue[0].start():
				first = t
			}
		}
		if first == nil || waits && first.lead() < lead {
			return nil
		}
		f := first.queue[0]
		first.queue = first.queue[1:]
		w.sequence++
		if err := w.write(f.encode(w.sequence)); err != nil {
			return err
		}
	}
}

func wrap(id string, err error) error { return fmt.Errorf("Representation %q: %w", id, err) }

func (w *Writer) write(b []byte) error {
	_, w.err = w.w.Write(b)
	return w.err
}
