// Package titletest makes small sealed titles for tests of other rooms. It
// needs no ffmpeg: the segments are noise.
package titletest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"htlcdash"
	"htlcdash/internal/publish"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// Options say what title to make. The zero value is a title of 5 segments of
// one second, in two rungs of video ("v0", "v1") and one of audio ("a0").
type Options struct {
	Segments  int // of each Representation; 0: 5
	Periods   int // 0: 1; of the later ones the Representations are called as IDs say
	IDs       func(id string, period int) string
	Reps      []Rep // nil: those of [Ladder]
	Group     publish.Grouping
	Providers []string
	Sources   []string
	Seed      byte // other seeds give other publishers and other bytes
}

// A Rep is one Representation to make.
type Rep struct {
	ID        string
	Kind      string             // "video" or "audio"
	Height    int                // of video, in pixels
	Bandwidth int64              // bit/s; 0: as its sizes say
	Sizes     []int              // bytes of the segments, over and over
	Quality   []htlcdash.Decibel // of the segments, over and over; nil: not measured
	Price     lightning.Msat
}

// Ladder is what a title has if its test does not care.
func Ladder() []Rep {
	return []Rep{
		{ID: "v0", Kind: "video", Height: 240, Sizes: []int{20_000, 16384, 33_000}, Price: 1_000},
		{ID: "v1", Kind: "video", Height: 480, Sizes: []int{70_000, 65536, 90_001}, Price: 3_000},
		{ID: "a0", Kind: "audio", Sizes: []int{8_000}, Price: 500},
	}
}

// A Title is a sealed title in a folder that goes with the test.
type Title struct {
	*title.Title
	Dir      string // the public folder
	KeysFile string
	Keys     *title.Keys
	Key      htlcdash.PublisherKey

	plain map[string][][]byte
}

// Plain returns a segment as a player gets it.
func (t *Title) Plain(rep string, index int) []byte { return t.plain[rep][index] }

// Make makes a title. The same options give the same bytes.
func Make(t testing.TB, o Options) *Title {
	t.Helper()
	if o.Segments == 0 {
		o.Segments = 5
	}
	if o.Reps == nil {
		o.Reps = Ladder()
	}
	dir := t.TempDir()
	made := &Title{Dir: filepath.Join(dir, "title"), Key: key(t, o.Seed), plain: map[string][][]byte{}}
	if o.IDs == nil {
		made.copyOf(t, o, dir)
	} else {
		made.make(t, o, dir)
	}
	var err error
	made.Title, err = title.OpenDir(made.Dir)
	check(t, err)
	made.Keys, err = title.LoadKeys(made.KeysFile)
	check(t, err)
	return made
}

// make writes the title into a folder.
func (t *Title) make(tb testing.TB, o Options, dir string) {
	tb.Helper()
	t.writeDASH(tb, o, filepath.Join(dir, "dash"))
	res, err := publish.Run(tb.Context(), publish.Options{
		Source:    filepath.Join(dir, "dash"),
		Out:       t.Dir,
		Key:       t.Key,
		Price:     o.policy(),
		Providers: o.Providers,
		Sources:   o.Sources,
		Group:     o.Group,
		Quality:   o.quality(),
	}, nil)
	check(tb, err)
	t.KeysFile = res.KeysFile
}

// Segments returns the segments of a Representation.
func (t *Title) Segments(tb testing.TB, rep string) []htlcdash.Segment {
	tb.Helper()
	segs, err := t.Title.Segments(context.Background(), rep)
	check(tb, err)
	return segs
}

// Sealed returns the sealed bytes of a segment.
func (t *Title) Sealed(tb testing.TB, seg htlcdash.Segment) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(t.Dir, filepath.FromSlash(htlcdash.SealedPath(seg.Sealed))))
	check(tb, err)
	return b
}

func key(t testing.TB, seed byte) htlcdash.PublisherKey {
	t.Helper()
	k, err := htlcdash.NewPublisherKey([32]byte{0: 1, 31: seed})
	check(t, err)
	return k
}

// policy gives each Representation a price for a second, which is a segment.
func (o Options) policy() publish.Policy {
	p := publish.Policy{Rungs: map[string]publish.Rung{}}
	for period := range max(o.Periods, 1) {
		for _, r := range o.Reps {
			p.Rungs[o.known(r.ID, period)] = publish.Rung{PerSecond: r.Price}
		}
	}
	return p
}

// quality is what was measured; nil if nothing was.
func (o Options) quality() (q map[string][]htlcdash.Decibel) {
	for period := range max(o.Periods, 1) {
		for _, r := range o.Reps {
			if r.Quality == nil {
				continue
			}
			if q == nil {
				q = map[string][]htlcdash.Decibel{}
			}
			for i := range o.Segments {
				q[o.known(r.ID, period)] = append(q[o.known(r.ID, period)], r.Quality[i%len(r.Quality)])
			}
		}
	}
	return q
}

// id is what a Representation is called in the MPD.
func (o Options) id(id string, period int) string {
	if period == 0 || o.IDs == nil {
		return id
	}
	return o.IDs(id, period)
}

// known is what it is called by those who read the MPD, where an id that an
// earlier Period has is made another.
func (o Options) known(id string, period int) string {
	named := o.id(id, period)
	for earlier := range period {
		if o.id(id, earlier) == named {
			return fmt.Sprintf("%s@%d", named, period+1)
		}
	}
	return named
}

func (t *Title) writeDASH(tb testing.TB, o Options, dir string) {
	tb.Helper()
	var mpd bytes.Buffer
	fmt.Fprintf(&mpd, `<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" mediaPresentationDuration="PT%dS" minBufferTime="PT2S">
`, o.Segments*max(o.Periods, 1))
	for period := range max(o.Periods, 1) {
		fmt.Fprintf(&mpd, "  <Period id=\"p%d\" start=\"PT%dS\">\n", period, period*o.Segments)
		folder := dir
		if period > 0 {
			folder = filepath.Join(dir, fmt.Sprintf("p%d", period))
			fmt.Fprintf(&mpd, "    <BaseURL>p%d/</BaseURL>\n", period)
		}
		for _, kind := range []string{"video", "audio"} {
			t.writeSet(tb, &mpd, o, kind, folder, period)
		}
		mpd.WriteString("  </Period>\n")
	}
	mpd.WriteString("</MPD>\n")
	check(tb, os.WriteFile(filepath.Join(dir, title.MPDFile), mpd.Bytes(), 0o666))
}

func (t *Title) writeSet(tb testing.TB, mpd *bytes.Buffer, o Options, kind, dir string, period int) {
	tb.Helper()
	open := false
	for _, r := range o.Reps {
		if r.Kind != kind {
			continue
		}
		if !open {
			fmt.Fprintf(mpd, "    <AdaptationSet contentType=%q mimeType=\"%s/mp4\" segmentAlignment=\"true\">\n", kind, kind)
			fmt.Fprintln(mpd, `      <SegmentTemplate timescale="1" duration="1" startNumber="1" initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number$.m4s"/>`)
			open = true
		}
		t.writeRep(tb, o, r, filepath.Join(dir, o.id(r.ID, period)), o.known(r.ID, period))
		shape := ""
		if r.Height > 0 {
			shape = fmt.Sprintf(" width=\"%d\" height=\"%d\"", r.Height*16/9, r.Height)
		}
		fmt.Fprintf(mpd, "      <Representation id=%q bandwidth=\"%d\" codecs=%q%s/>\n", o.id(r.ID, period), r.bandwidth(), codecs(kind), shape)
	}
	if open {
		mpd.WriteString("    </AdaptationSet>\n")
	}
}

func codecs(kind string) string {
	if kind == "audio" {
		return "mp4a.40.2"
	}
	return "avc1.640015"
}

func (r Rep) bandwidth() int64 {
	if r.Bandwidth > 0 {
		return r.Bandwidth
	}
	most := 0
	for _, n := range r.Sizes {
		most = max(most, n)
	}
	return int64(8 * most)
}

func (t *Title) writeRep(tb testing.TB, o Options, r Rep, dir, known string) {
	tb.Helper()
	check(tb, os.MkdirAll(dir, 0o777))
	check(tb, os.WriteFile(filepath.Join(dir, "init.mp4"), noise(o.Seed, known, 0, 700), 0o666))
	for i := range o.Segments {
		b := noise(o.Seed, known, i+1, r.Sizes[i%len(r.Sizes)])
		t.plain[known] = append(t.plain[known], b)
		check(tb, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.m4s", i+1)), b, 0o666))
	}
}

// noise is n bytes that look random and are always the same.
func noise(seed byte, rep string, index, n int) []byte {
	h := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte{seed}, rep...), uint64(index)))
	b := make([]byte, n)
	rand.NewChaCha8(h).Read(b)
	return b
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
