package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
)

// A book is a DASH folder that is whole: every byte that its MPD names is
// there. Other files of the folder are ignored.
type book struct {
	root     *os.Root
	mpd      string
	manifest *dash.Manifest
	bytes    int64              // of all segments
	lengths  map[string][]int64 // of the segments, by Representation
}

// openBook reads the MPD, gives it a name for people, and looks for all that it
// names. The error matches
// [ErrSource]. The caller closes root.
func openBook(ctx context.Context, src source, name func(*dash.Manifest) string) (*book, error) {
	root, err := os.OpenRoot(src.dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	b := &book{root: root, mpd: src.mpd, lengths: map[string][]int64{}}
	if err := b.open(ctx, name); err != nil {
		root.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrSource, filepath.Join(src.dir, src.mpd), err)
	}
	return b, nil
}

func (b *book) open(ctx context.Context, name func(*dash.Manifest) string) error {
	mpd, err := b.read(dash.Resource{Path: b.mpd}, title.MaxMPD, nil)
	if err != nil {
		return err
	}
	if b.manifest, err = dash.Parse(mpd); err != nil {
		return err
	}
	if b.manifest, err = b.manifest.WithTitle(name(b.manifest)); err != nil {
		return err
	}
	if err := b.manifest.Publishable(); err != nil {
		return err
	}
	if err := b.manifest.Resolve(ctx, b.readRange); err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, rep := range b.manifest.Representations() {
		if err := b.count(rep, sizes); err != nil {
			return fmt.Errorf("representation %s: %w", rep.ID, err)
		}
	}
	return nil
}

func (b *book) readRange(_ context.Context, path string, offset, length int64) ([]byte, error) {
	return b.read(dash.Resource{Path: path, Offset: offset, Length: length}, title.MaxInit, nil)
}

// count adds up the segments of rep, and finds those that are missing, cut off,
// empty or too large.
func (b *book) count(rep *dash.Representation, sizes map[string]int64) error {
	if len(rep.Segments) == 0 {
		return errors.New("has no segments")
	}
	if rep.Init.Path != "" {
		if err := initPath(rep.Init.Path); err != nil {
			return err
		}
		if _, err := b.length(rep.Init, sizes, title.MaxInit); err != nil {
			return fmt.Errorf("init segment: %w", err)
		}
	}
	for i, seg := range rep.Segments {
		n, err := b.length(seg.Resource, sizes, htlcdash.MaxSegmentLength)
		if err != nil {
			return fmt.Errorf("segment %d of %d: %w", i+1, len(rep.Segments), err)
		}
		b.bytes += n
		b.lengths[rep.ID] = append(b.lengths[rep.ID], n)
	}
	return nil
}

// initPath refuses a path that a sealed title needs for itself.
func initPath(path string) error {
	first, _, _ := strings.Cut(path, "/")
	switch first {
	case title.MPDFile, title.SignatureFile, title.SealsDir, title.TorrentsDir, htlcdash.SealedFolder:
		return fmt.Errorf("init segment %s: a title uses %s itself: rename it", path, first)
	}
	return nil
}

// length returns how many bytes r names, all of which are there.
func (b *book) length(r dash.Resource, sizes map[string]int64, limit int64) (int64, error) {
	size, ok := sizes[r.Path]
	if !ok {
		info, err := b.root.Stat(filepath.FromSlash(r.Path))
		if errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("%s is missing: the MPD names it", r.Path)
		}
		if err != nil {
			return 0, err
		}
		size = info.Size()
		sizes[r.Path] = size
	}
	n := r.Length
	if n == 0 {
		n = size - r.Offset
	}
	switch {
	case r.Offset+n > size:
		return 0, fmt.Errorf("%s is cut off: it has %d bytes, the MPD names byte %d", r.Path, size, r.Offset+n-1)
	case n <= 0:
		return 0, fmt.Errorf("%s is empty", r.Path)
	case n > limit:
		return 0, fmt.Errorf("%s has %d bytes, more than %d: make shorter segments", r.Path, n, limit)
	}
	return n, nil
}

// read returns the bytes of r, at most limit, in the space of buf if that is
// large enough.
func (b *book) read(r dash.Resource, limit int64, buf []byte) ([]byte, error) {
	f, err := b.root.Open(filepath.FromSlash(r.Path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n := r.Length
	if n == 0 {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		n = info.Size() - r.Offset
	}
	if n < 0 || n > limit {
		return nil, fmt.Errorf("%s: %d bytes at %d: want at most %d", r.Path, n, r.Offset, limit)
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := f.ReadAt(buf, r.Offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%s: %w", r.Path, err)
	}
	return buf, nil
}
