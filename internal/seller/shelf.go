package seller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"htlcdash"
	"htlcdash/internal/bittorrent"
	"htlcdash/internal/title"
	"htlcdash/source/dir"
)

// keysSuffix makes the name of a title's private key file of its folder's.
const keysSuffix = ".keys"

// A shelf is the titles on sale. It does not change: a reload makes another.
type shelf struct {
	byName map[string]*sealedTitle
	byID   map[htlcdash.TitleID]*sealedTitle
	sealed map[htlcdash.Root]*sealedTitle // a title that has the sealed bytes
	list   func() json.RawMessage         // of the titles, for strangers: made once
}

// A sealedTitle is one title on sale.
type sealedTitle struct {
	*title.Title
	name    string
	dir     string
	files   *dir.Dir
	keys    *title.Keys
	prepaid bool // sold to clients that know no seals
	resold  bool // others publish it: keys come from elsewhere
	keyless bool // no keys of it are here: its sealed bytes are carried for money

	free     map[string]freeFile                 // by path
	ranged   map[string]rangedFile               // by path
	lists    map[string][]htlcdash.Segment       // by Representation
	segments map[htlcdash.Root]*htlcdash.Segment // those in lists that can be sold, by sealed root
	missing  int                                 // segments without key, or sealed bytes here or elsewhere
	carried  bool                                // sealed bytes that are not here may be had elsewhere
	absent   []*htlcdash.Segment                 // those in segments whose sealed bytes are not here
	lost     atomic.Int64                        // of absent, that no source has
}

// anyKey reports whether keys may come from elsewhere than key files.
func (c Config) anyKey() bool { return c.Bought != nil || c.Relay != nil }

// A freeFile is a signed file that anybody may have.
type freeFile struct {
	etag, mime string
	content    func(context.Context) ([]byte, error)
}

// A rangedFile is what the manifest says of a file whose ranges are a head,
// which is free, and segments. Only the head lies on the disk.
type rangedFile struct {
	length     int64
	etag, mime string
}

// load opens the titles in the folders of c. A folder is a title, or holds titles. What
// is broken is left out, or stays as it was in old, and the error tells all of
// it. A resold title that is also one of the provider's own is only that.
func load(ctx context.Context, c Config, old *shelf) (*shelf, error) {
	s := &shelf{
		byName: map[string]*sealedTitle{},
		byID:   map[htlcdash.TitleID]*sealedTitle{},
		sealed: map[htlcdash.Root]*sealedTitle{},
	}
	s.list = sync.OnceValue(func() json.RawMessage { return listed(s, c) })
	var failures []error
	take := func(dirs []string, resold bool) {
		for _, d := range dirs {
			t, err := loadTitle(ctx, d, c)
			if err != nil && old != nil {
				t = old.byName[filepath.Base(d)]
			}
			if t != nil && !(resold && s.byID[t.ID] != nil) {
				failures = append(failures, s.add(t))
			}
			failures = append(failures, err)
		}
	}
	for _, folder := range c.Titles {
		dirs, err := titleDirs(folder)
		failures = append(failures, err)
		take(dirs, false)
	}
	if c.Resold != "" {
		dirs, err := titlesIn(c.Resold)
		if !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, err)
		}
		take(dirs, true)
	}
	return s, errors.Join(failures...)
}

// sells reports whether keys of any title are sold.
func (s *shelf) sells() bool {
	for _, t := range s.byName {
		if !t.keyless {
			return true
		}
	}
	return len(s.byName) == 0
}

// titleDirs returns folder if it is a title, else the titles in it.
func titleDirs(folder string) ([]string, error) {
	folder = filepath.Clean(folder)
	if isTitle(folder) {
		return []string{folder}, nil
	}
	dirs, err := titlesIn(folder)
	if err == nil && len(dirs) == 0 {
		err = fmt.Errorf("no title in %s: run \"htlcdash publish\" first: %w", folder, htlcdash.ErrNotFound)
	}
	return dirs, err
}

// titlesIn returns the titles in folder. What is being made begins with a dot.
func titlesIn(folder string) (dirs []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("titles: %w", err)
	}
	for _, e := range entries {
		if d := filepath.Join(folder, e.Name()); !strings.HasPrefix(e.Name(), ".") && isTitle(d) {
			dirs = append(dirs, d)
		}
	}
	return dirs, nil
}

func isTitle(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, title.MPDFile))
	return err == nil
}

func (s *shelf) add(t *sealedTitle) error {
	if other := s.byName[t.name]; other != nil {
		return fmt.Errorf("titles %s and %s have one name: rename a folder", other.dir, t.dir)
	}
	if other := s.byID[t.ID]; other != nil {
		return fmt.Errorf("%s and %s are the same title", other.dir, t.dir)
	}
	s.byName[t.name], s.byID[t.ID] = t, t
	for q := range t.segments {
		s.sealed[q] = t
	}
	return nil
}

// names returns the names of the titles in order.
func (s *shelf) names() []string { return slices.Sorted(maps.Keys(s.byName)) }

func loadTitle(ctx context.Context, folder string, c Config) (*sealedTitle, error) {
	t := &sealedTitle{
		name:     filepath.Base(folder),
		dir:      folder,
		free:     map[string]freeFile{},
		ranged:   map[string]rangedFile{},
		lists:    map[string][]htlcdash.Segment{},
		segments: map[htlcdash.Root]*htlcdash.Segment{},
	}
	var err error
	if t.Title, err = title.OpenDir(folder); err != nil {
		return nil, err
	}
	t.keys, err = title.LoadKeys(folder + keysSuffix)
	if c.anyKey() && errors.Is(err, htlcdash.ErrNotFound) {
		t.resold = true
		t.keys, err = new(title.Keys), nil
	}
	if errors.Is(err, htlcdash.ErrNotFound) && c.BytePrice > 0 {
		t.keys, t.keyless, err = new(title.Keys), true, nil
	}
	if err != nil {
		return nil, err
	}
	t.prepaid = c.Prepaid != nil && !t.resold && !t.keyless && c.Prepaid(t.name)
	if t.files, err = dir.New(folder); err != nil {
		return nil, err
	}
	t.carried = c.Elsewhere != nil && c.Elsewhere(t.Title) && c.Sealed != nil || t.resold && c.Sealed != nil
	t.free[title.MPDFile] = inMemory(t.MPD, "application/dash+xml")
	t.free[title.SignatureFile] = inMemory(t.Signature, "text/plain; charset=utf-8")
	for rep := range t.representations() {
		if err := t.loadRepresentation(ctx, rep, c.anyKey()); err != nil {
			return nil, fmt.Errorf("title in %s: %w", folder, err)
		}
	}
	return t, nil
}

// A rung is what the shelf takes from a Representation of the manifest.
type rung struct {
	id, mime, list, init     string
	torrent                  string // file; empty: none
	listRoot                 htlcdash.ListRoot
	initDigest, infoHash     [32]byte
	listLength, rangedLength int64
	rangedPath               string // set if its segments are ranges of one file
}

func (t *sealedTitle) representations() iter.Seq[rung] {
	return func(yield func(rung) bool) {
		for _, rep := range t.Manifest.Representations() {
			r := rung{
				id: rep.ID, mime: rep.MimeType, list: rep.Pay.List, init: rep.Init.Path,
				listRoot: rep.Pay.ListRoot, initDigest: rep.Pay.InitDigest,
				infoHash: rep.Pay.InfoHash, listLength: htlcdash.SealListLength(rep.Pay.Count),
			}
			if r.infoHash != [32]byte{} {
				r.torrent = title.TorrentFile(rep.Pay)
			}
			for _, m := range rep.Segments {
				if m.Length > 0 {
					r.rangedPath, r.rangedLength = m.Path, max(r.rangedLength, m.Offset+m.Length)
				}
			}
			if !yield(r) {
				return
			}
		}
	}
}

// loadRepresentation takes the files and segments of a Representation on the
// shelf, without the segments whose key is not to be had, or whose sealed bytes are
// neither here nor, perhaps, elsewhere.
func (t *sealedTitle) loadRepresentation(ctx context.Context, r rung, anyKey bool) error {
	segs, err := t.Segments(ctx, r.id)
	if err != nil {
		return err
	}
	t.lists[r.id] = segs
	for i := range segs {
		_, err := t.keys.Key(ctx, segs[i])
		if t.keyless {
			err = nil
		}
		here := t.has(segs[i])
		if err != nil || !here && !t.carried {
			t.missing++
		}
		if err != nil && !anyKey || !here && !t.carried {
			continue
		}
		t.segments[segs[i].Sealed] = &segs[i]
		if !here && !t.resold {
			t.absent = append(t.absent, &segs[i])
		}
	}
	t.free[r.list] = freeFile{etagOf(r.listRoot), "application/octet-stream", func(ctx context.Context) ([]byte, error) {
		return title.Dir(t.dir)(ctx, r.list, 0, r.listLength)
	}}
	if r.torrent != "" {
		t.free[r.torrent] = freeFile{etagOf(r.infoHash), "application/x-bittorrent", func(ctx context.Context) ([]byte, error) {
			return title.Dir(t.dir)(ctx, r.torrent, 0, bittorrent.MaxFile)
		}}
	}
	switch {
	case r.rangedPath != "":
		f := t.ranged[r.rangedPath]
		t.ranged[r.rangedPath] = rangedFile{max(f.length, r.rangedLength), etagOf(r.listRoot), r.mime}
	case r.init != "":
		t.free[r.init] = freeFile{etagOf(r.initDigest), r.mime, func(ctx context.Context) ([]byte, error) {
			return t.Init(ctx, r.id)
		}}
	}
	return nil
}

// has reports whether the sealed bytes of seg lie in the title's folder.
func (t *sealedTitle) has(seg htlcdash.Segment) bool {
	info, err := os.Stat(filepath.Join(t.dir, filepath.FromSlash(htlcdash.SealedPath(seg.Sealed))))
	return err == nil && info.Size() == htlcdash.SealedLength(seg.Length)
}

// segment returns a segment of a Representation. The error matches
// [htlcdash.ErrNotFound] if it is not on sale here.
func (t *sealedTitle) segment(rep string, index int) (htlcdash.Segment, error) {
	segs := t.lists[rep]
	if index < 0 || index >= len(segs) {
		return htlcdash.Segment{}, fmt.Errorf("segment %d of %q: %w", index, rep, htlcdash.ErrNotFound)
	}
	if _, ok := t.segments[segs[index].Sealed]; !ok {
		return htlcdash.Segment{}, fmt.Errorf("segment %d of %q is not on sale here: %w", index, rep, htlcdash.ErrNotFound)
	}
	return segs[index], nil
}

func inMemory(b []byte, mime string) freeFile {
	return freeFile{etagOf(sha256.Sum256(b)), mime, func(context.Context) ([]byte, error) { return b, nil }}
}

func etagOf(digest [32]byte) string { return `"` + hex.EncodeToString(digest[:]) + `"` }
