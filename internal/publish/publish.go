// Package publish turns a media file, or a ready DASH folder, into a sealed
// title: it encodes the rungs with ffmpeg, measures their quality, prices and
// seals every segment, extends the MPD and signs it. The formats are told in
// spec/01-seal.md and spec/02-title.md.
//
// A title appears whole or not at all: everything is written to a hidden folder
// beside the place where it goes, and renamed at the end. The same source, key
// and options give the same bytes, as long as ffmpeg is the same.
//
// It does not sell: see internal/seller.
package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// Errors that callers decide on.
var (
	// ErrExists means that something else is where the title should go.
	ErrExists = errors.New("already there")
	// ErrSource means that the source cannot be published as it is.
	ErrSource = errors.New("source")
	// ErrProgram means that ffmpeg or ffprobe is missing.
	ErrProgram = errors.New("missing program")
	// ErrBusy means that another process publishes to the same place.
	ErrBusy = errors.New("another process publishes there")
)

// Options say what to publish. Source, Out, Key and Price are required.
type Options struct {
	Source    string // media file, folder with an MPD, or MPD
	Out       string // folder of the title; the keys go to Out + ".keys"
	Key       htlcdash.PublisherKey
	Price     Policy
	Providers []string // first addresses where the title is sold
	Sources   []string // addresses below which its sealed bytes will lie, for anybody
	// Title is what people call it; empty: what the MPD says, or else the name
	// of the source made readable.
	Title string

	// Group says how many segments one key opens. The zero value: one.
	Group Grouping
	// SegmentSeconds is the length of a segment, 1 to 10; 0: 4. It is for
	// media files only.
	SegmentSeconds int
	// Reference is a media file to measure the quality of a ready DASH folder
	// against; empty: its quality is not measured.
	Reference string
	// SkipQuality leaves the quality of a media file's rungs unmeasured.
	SkipQuality bool
	// Quality is what was measured before, by Representation and segment; nil:
	// it is measured here.
	Quality map[string][]htlcdash.Decibel
	// Force replaces another title at Out. What is no title is never replaced.
	Force bool
	// FFmpeg and FFprobe are the programs; empty: found by their names.
	FFmpeg, FFprobe string
}

// Progress tells how far a publication is.
type Progress struct {
	Fraction float64 // of the whole work, 0 to 1, never less than before
	Text     string  // for people: "encoding 240p, 360p, 480p, 720p"
}

// A Result tells what was published.
type Result struct {
	ID              htlcdash.TitleID
	Publisher       htlcdash.PublisherID
	Dir             string // the title's folder
	KeysFile        string // the private file of content keys
	Unchanged       bool   // the same title was there already
	Representations []Summary
}

// A Summary is one Representation of a published title.
type Summary struct {
	ID       string
	Segments int
	Keys     int              // what is sold: fewer than segments, if these are grouped
	Bytes    int64            // of media, without padding
	Total    lightning.Msat   // price of all keys
	Dearest  lightning.Msat   // key
	Quality  htlcdash.Decibel // mean over the segments; 0: not measured
}

// PerKey is how many bytes a key opens in the mean.
func (s Summary) PerKey() int64 { return s.Bytes / int64(max(s.Keys, 1)) }

// ProofShare is what a proof of [ProofSize] for each key would add to the bytes
// of the segments, as a part of them.
func (s Summary) ProofShare() float64 {
	return ProofSize * float64(s.Keys) / float64(max(s.Bytes, 1))
}

// Run publishes a title. It calls progress, which may be nil, from one
// goroutine at a time.
//
// If it fails, or ctx is done, nothing is left at Out that was not there
// before. The error matches [ErrSource], [ErrExists], [ErrPolicy],
// [ErrProgram], [ErrBusy], or one of package os, and says what to do next.
// If the same title is there already, Run succeeds and changes nothing.
func Run(ctx context.Context, o Options, progress func(Progress)) (*Result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	src, err := locate(o.Source)
	if err != nil {
		return nil, err
	}
	if err := replaceable(o.Out, o.Force); err != nil {
		return nil, err
	}
	st, err := newStage(o.Out)
	if err != nil {
		return nil, err
	}
	defer st.close()
	w := &work{Options: o, stage: st, report: monotone(progress)}
	res, err := w.run(ctx, src)
	if ctx.Err() != nil && err != nil {
		return nil, fmt.Errorf("publish: %w", context.Cause(ctx))
	}
	return res, explain(err, o.Out)
}

func (o *Options) check() error {
	if o.SegmentSeconds == 0 {
		o.SegmentSeconds = 4
	}
	if o.SegmentSeconds < 1 || o.SegmentSeconds > 10 {
		return fmt.Errorf("segments of %d s: want 1 to 10", o.SegmentSeconds)
	}
	if o.Out == "" {
		return errors.New("no folder to publish to")
	}
	if o.Key == (htlcdash.PublisherKey{}) {
		return errors.New("no publisher key")
	}
	o.Out = filepath.Clean(o.Out)
	return errors.Join(o.Group.check(), o.Price.check())
}

// KeysFile names the private file of content keys for the title in dir.
func KeysFile(dir string) string { return filepath.Clean(dir) + ".keys" }

// work is one run.
type work struct {
	Options
	stage  *stage
	report func(fraction float64, text string)
}

// monotone turns steps into progress that never goes back.
func monotone(progress func(Progress)) func(float64, string) {
	var mu sync.Mutex
	var last Progress
	return func(fraction float64, text string) {
		mu.Lock()
		defer mu.Unlock()
		thousandths := math.Floor(fraction*1000) / 1000 // else a call for each segment
		p := Progress{min(max(thousandths, last.Fraction), 1), text}
		if progress != nil && p != last {
			progress(p)
		}
		last = p
	}
}

// Shares of the whole work that a media file's steps take, roughly.
const (
	probedAt   = 0.02
	encodedAt  = 0.8
	measuredAt = 0.95
)

func (w *work) run(ctx context.Context, src source) (*Result, error) {
	var ladder *ladder
	sealFrom := 0.0
	if src.media != "" {
		var err error
		if ladder, err = w.encode(ctx, src.media); err != nil {
			return nil, err
		}
		src = source{dir: w.stage.media(), mpd: title.MPDFile}
		sealFrom = measuredAt
	}
	b, err := openBook(ctx, src, w.name)
	if err != nil {
		return nil, err
	}
	defer b.root.Close()
	if err := w.Price.fits(b.manifest.Representations()); err != nil {
		return nil, err
	}
	quality, err := w.measure(ctx, b, ladder)
	if err != nil {
		return nil, err
	}
	pages, err := w.seal(ctx, b, quality, func(f float64) {
		w.report(sealFrom+(1-sealFrom)*f, "sealing segments")
	})
	if err != nil {
		return nil, err
	}
	return w.finish(ctx, b, pages)
}

// A source is a media file, or an MPD in a folder.
type source struct {
	media    string
	dir, mpd string
}

// name tells what people are to call what m describes.
func (w *work) name(m *dash.Manifest) string {
	return cmp.Or(w.Title, m.Title(), readable(w.Source))
}

// readable makes a name for people of a file's: "big-buck_bunny.mp4" gives "Big
// buck bunny".
func readable(source string) string {
	if path, err := filepath.Abs(source); err == nil {
		source = path
	}
	if strings.EqualFold(filepath.Ext(source), ".mpd") {
		source = filepath.Dir(source)
	}
	base := strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
	words := strings.FieldsFunc(base, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' })
	name := []rune(strings.Join(words, " "))
	if len(name) > 0 {
		name[0] = unicode.ToUpper(name[0])
	}
	return string(name)
}

// locate tells what path is.
func locate(path string) (source, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return source{}, fmt.Errorf("%w: %w", ErrSource, err)
	case info.IsDir():
		return locateMPD(path)
	case strings.EqualFold(filepath.Ext(path), ".mpd"):
		return source{dir: filepath.Dir(path), mpd: filepath.Base(path)}, nil
	case !info.Mode().IsRegular():
		return source{}, fmt.Errorf("%w: %s is no file and no folder", ErrSource, path)
	case info.Size() == 0:
		return source{}, fmt.Errorf("%w: %s is empty", ErrSource, path)
	}
	return source{media: path}, nil
}

func locateMPD(dir string) (source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return source{}, fmt.Errorf("%w: %w", ErrSource, err)
	}
	var mpds []string
	for _, e := range entries {
		if strings.EqualFold(filepath.Ext(e.Name()), ".mpd") {
			mpds = append(mpds, e.Name())
		}
	}
	switch len(mpds) {
	case 1:
		return source{dir: dir, mpd: mpds[0]}, nil
	case 0:
		return source{}, fmt.Errorf("%w: no MPD (*.mpd) in %s: give a media file, or a folder with one", ErrSource, dir)
	}
	return source{}, fmt.Errorf("%w: %d MPDs in %s: name one of them, such as %s", ErrSource, len(mpds), dir, filepath.Join(dir, mpds[0]))
}
