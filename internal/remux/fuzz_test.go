package remux_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
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
	// samples of n bytes from byte at on, counted from the moof
	run := func(at, n, count byte) []byte {
		b := []byte{0, 0, 2, 1, 0, 0, 0, count, 0, 0, 0, at}
		for range count {
			b = append(b, 0, 0, 0, n)
		}
		return box("trun", b...)
	}
	bytesOf := func(truns ...[]byte) []byte { // with an mdat of 9 bytes
		b := segment(truns...)
		return append(b[:len(b)-9], box("mdat", 1, 2, 3, 4, 5, 6, 7, 8, 9)...)
	}
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
		"bytes used twice":    bytesOf(run(88, 8, 1), run(92, 4, 1)),
		"bytes used again":    bytesOf(run(120, 4, 1), run(116, 4, 1), run(116, 2, 2)),
		"many boxes":          append(segment(box("trun", 0, 0, 0, 0, 0, 0, 0, 0)), bytes.Repeat(box("mdat"), 1<<16)...),
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

// Samples in any order are well, as long as each has its own bytes.
func TestSamplesOutOfOrder(t *testing.T) {
	traf := func(truns ...[]byte) []byte {
		return box("moof", box("traf", append(box("tfhd", 0, 2, 0, 0, 0, 0, 0, 1), bytes.Join(truns, nil)...)...)...)
	}
	run := func(at byte) []byte { return box("trun", 0, 0, 2, 1, 0, 0, 0, 1, 0, 0, 0, at, 0, 0, 0, 4) }
	size := byte(len(traf(run(0), run(0))))
	segment := append(traf(run(size+12), run(size+8)), box("mdat", 5, 6, 7, 8, 1, 2, 3, 4)...)
	var out bytes.Buffer
	w := newWriter(t, &out, ladder(t, "h264"), nil, []int{2})
	if err := w.Segment(0, "2", segment); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(out.Bytes(), []byte{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Error("the samples are not what they were")
	}
}

// A track that waits for another is held back, but not without end.
func TestHeldBack(t *testing.T) {
	rungs := ladder(t, "h264")
	var out counter
	w := newWriter(t, &out, rungs, []int{0}, []int{2})
	const size = 32 << 20
	mdat := append(be.AppendUint32(nil, 8+size), "mdat"...)
	mdat = append(mdat, make([]byte, size)...)
	sound := func(i int) []byte { // all of them play within the first second
		traf := append(box("tfhd", 0, 2, 0, 0, 0, 0, 0, 1), box("tfdt", 0, 0, 0, 0, 0, 0, 0, byte(i))...)
		head := func(at uint32) []byte {
			run := be.AppendUint32(be.AppendUint32([]byte{0, 0, 3, 1, 0, 0, 0, 1}, at), 1) // one sample, of one tick
			return box("moof", box("traf", append(traf, box("trun", be.AppendUint32(run, size)...)...)...)...)
		}
		return append(head(uint32(len(head(0))+8)), mdat...)
	}
	head := out
	for i := range 7 {
		if err := w.Segment(1, "2", sound(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Segment(1, "2", sound(7)); !errors.Is(err, remux.ErrUnsupported) || !strings.Contains(err.Error(), "without the other") {
		t.Errorf("error %v", err)
	}
	if out != head {
		t.Error("something was written already")
	}
	// The other track comes, and all goes on.
	if err := w.Segment(0, "0", rungs[0].segments[0]); err != nil {
		t.Fatal(err)
	}
	if err := w.Segment(1, "2", sound(7)); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if out < head+8*size {
		t.Errorf("%d bytes were written", out)
	}
}

// counter counts what is written.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// What Representations tell of themselves all goes to the head of the stream.
func TestManyForms(t *testing.T) {
	r := ladder(t, "h264")[0].representation("x")
	track := remux.Track{Kind: remux.Video}
	at := bytes.Index(r.Init, []byte("avc1")) + 4 + 32 // its width
	for i := range 300 {
		other := r
		other.ID, other.Init = fmt.Sprint(i), bytes.Clone(r.Init)
		be.PutUint16(other.Init[at-8:], uint16(i))
		track.Representations = append(track.Representations, other)
	}
	if _, err := remux.New(io.Discard, track); !errors.Is(err, remux.ErrUnsupported) || !strings.Contains(err.Error(), "forms") {
		t.Errorf("error %v", err)
	}
}
