package remux_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"htlcdash/internal/remux"
)

// FuzzStream holds that whatever is accepted comes out as media that we would
// accept again, frame by frame, and all else is refused by the right error.
func FuzzStream(f *testing.F) {
	rungs := ladder(f, "tiny")
	for i := range rungs {
		init, rest := cut(f, rungs[i].whole())
		f.Add(i < 2, init, bytes.Join(rest, nil))
	}
	both := play(f, rungs, []int{0}, []int{2})
	init, rest := cut(f, both)
	f.Add(true, init, bytes.Join(rest, nil))
	f.Add(false, init, bytes.Join(rest, nil))
	f.Fuzz(func(t *testing.T, isVideo bool, init, segment []byte) {
		kind := remux.Audio
		if isVideo {
			kind = remux.Video
		}
		once, err := through(kind, init, segment)
		if err != nil {
			if !errors.Is(err, remux.ErrMedia) && !errors.Is(err, remux.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		head, rest := cut(t, once)
		if len(rest) == 0 {
			return
		}
		twice, err := through(kind, head, bytes.Join(rest, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(pieces(t, twice)), len(rest); got < want {
			t.Fatalf("%d fragments, then %d", want, got)
		}
	})
}

// through makes a stream of one segment.
func through(kind remux.Kind, init, segment []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := remux.New(&out, remux.Track{Kind: kind, Representations: []remux.Representation{{ID: "x", Init: init}}})
	if err != nil {
		return nil, err
	}
	if err := w.Segment(0, "x", segment); err != nil {
		return nil, err
	}
	return out.Bytes(), w.Close()
}

// TestBounds refuses small segments that claim to be very large.
func TestBounds(t *testing.T) {
	rungs := ladder(t, "h264")
	segment := func(truns ...[]byte) []byte {
		traf := append(box("tfhd", 0, 2, 0, 0, 0, 0, 0, 1), bytes.Join(truns, nil)...)
		return append(box("moof", box("traf", traf...)...), box("mdat", 1)...)
	}
	many := box("trun", 0, 0, 0, 0, 0, 3, 0xff, 0xff)
	for name, b := range map[string][]byte{
		"count of samples":    segment(box("trun", 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)),
		"counts of samples":   segment(many, many),
		"count beyond bytes":  segment(box("trun", 0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 1)),
		"size of a sample":    segment(box("trun", 0, 0, 2, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff)),
		"data in front":       segment(box("trun", 0, 0, 2, 1, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 1)),
		"time":                segment(box("tfdt", 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)),
		"time of 69 years":    segment(box("tfdt", 1, 0, 0, 0, 0, 0, 0x1a, 0, 0, 0, 0, 0)),
		"box of 64 bits":      {0, 0, 0, 1, 'm', 'o', 'o', 'f', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"box beyond its moof": append(box("moof", 0, 0, 0, 99, 't', 'r', 'a', 'f'), box("mdat", make([]byte, 200)...)...),
		"sample entry":        append(box("moof", box("traf", box("tfhd", 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2)...)...), box("mdat", 1)...),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriter(t, io.Discard, rungs, []int{0}, nil)
			if err := w.Segment(0, "0", b); !errors.Is(err, remux.ErrMedia) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// box is a box of ISO BMFF.
func box(kind string, body ...byte) []byte {
	b := be.AppendUint32(nil, uint32(8+len(body)))
	return append(append(b, kind...), body...)
}
