// Package remux joins the segments of a DASH title into one stream that a stock
// player takes from a pipe:
//
//	ftyp moov  (moof mdat)  (moof mdat)  (moof mdat) ...
//	           video, rung 2  audio      video, rung 5
//
// It is fragmented MP4 (ISO/IEC 14496-12) with at most one track of each kind,
// written as segments come, without seeking. The frames are those of the
// publisher, to the bit; all boxes around them are made anew, because segments
// of different rungs and Periods number, time and describe them each in its own
// way.
//
// # Changing rungs in mid-stream
//
// By the standard, each fragment names the sample entry that its frames need.
// GStreamer obeys it. ffmpeg 5.1, and with it mpv and ffplay, reads the first
// entry only and shows garbage after a change. So all that a decoder must know
// is in the frames as well:
//
//   - H.264 and HEVC: the parameter sets stand in front of each frame that
//     decoding may begin with, and sample entries are renamed (avc1 to avc3,
//     hvc1 to hev1) to say that.
//   - AAC: if the rungs of a title differ in sample rate or channels, each
//     frame has an ADTS header. That is against the letter of the standard, but
//     all three read it, and without it they play noise. Where rungs are alike,
//     as nearly always, there is none.
//   - VP9, AV1, AC-3: frames tell all themselves.
//   - Opus, FLAC, ALAC: frames do not, so all rungs must have the same form.
//
// With that, ffmpeg, mpv and GStreamer change their resolution and lose no
// frame. Other forms were not better: Matroska has no way at all to change what
// it says of a track, and MPEG-TS cannot carry VP9 and FLAC.
//
// Where a rung is entered at a picture of an open GOP, decoders leave out the
// pictures that need the GOP before; publishers use closed ones for that reason.
//
// # Time
//
// Each frame is shown at its time in the presentation: that of its segment,
// less the edit list of its initialization segment (the delay of the encoder),
// plus [Representation.Offset]. One edit list for the whole stream takes back
// what would be negative. Decoding times only grow, also where rungs reorder
// frames differently or Periods overlap.
//
// What comes from strangers is bounded in time and memory, whatever it claims.
// Not handled: encryption, subtitles, WebM, files that are not fragmented.
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
// The Writer keeps data until it is written, 256 MiB of a track at most: what
// would make it more is refused with [ErrUnsupported]. What is refused leaves no
// trace: the next segment may come.
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
	if err := t.add(r, samples, len(data)); err != nil {
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
		f := first.next()
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
