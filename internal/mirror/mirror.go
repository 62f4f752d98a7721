// Package mirror keeps, in a folder, what is public of titles that others sell:
// MPD, signature, seal lists and init segments, laid out as a publisher's folder is
// (spec/02-title.md), without sealed bytes and without keys. All of it is what the
// publisher signed, whoever gave it. A seller loads it like any title.
//
// What it does not protect against: a publisher may sign many titles. Each is
// bounded, and so is the folder; what does not fit is left out, and said.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
)

// Bounds, in bytes, if nothing else is said.
const (
	MaxTitle  = 64 << 20 // of one title
	MaxFolder = 1 << 30  // of all
)

// ErrFull means that a title has more bytes than it may.
var ErrFull = errors.New("mirror: too large")

// A Mirror is a folder of copies of titles. It is not safe for concurrent use;
// who reads the folder finds each title whole, or not at all.
type Mirror struct {
	folder string
	most   int64
	bytes  int64
	titles map[htlcdash.TitleID]copied
}

type copied struct {
	dir   string
	bytes int64
}

// Open takes stock of a folder, which is made if it is not there. What a crash
// has spoilt is removed, to be fetched again. It may hold so many bytes; 0:
// [MaxFolder].
func Open(ctx context.Context, folder string, most int64) (*Mirror, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if most == 0 {
		most = MaxFolder
	}
	m := &Mirror{folder: folder, most: most, titles: map[htlcdash.TitleID]copied{}}
	for _, e := range entries {
		dir := filepath.Join(folder, e.Name())
		switch id, size, err := inspect(ctx, dir); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !ours(e.Name()):
		case err != nil || m.titles[id].dir != "" || !strings.HasSuffix(e.Name(), suffix(id)):
			if err := os.RemoveAll(dir); err != nil {
				return nil, fmt.Errorf("mirror: %w", err)
			}
		default:
			m.titles[id] = copied{dir, size}
			m.bytes += size
		}
	}
	return m, nil
}

// growing begins the name of a copy that is being made.
const growing = ".new-"

// ours reports whether a folder in the mirror was made by it: others are left
// alone.
func ours(name string) bool {
	i := strings.LastIndexByte(name, '-')
	return strings.HasPrefix(name, growing) || i > 0 && len(name)-i-1 == suffixDigits && strings.Trim(name[i+1:], "0123456789abcdef") == ""
}

// suffixDigits of a title's id end the name of its folder, so that two titles of
// one name are two folders. They are not what it is known by.
const suffixDigits = 12

func suffix(id htlcdash.TitleID) string { return "-" + id.String()[:suffixDigits] }

// inspect opens a copy and reads all of it.
func inspect(ctx context.Context, dir string) (id htlcdash.TitleID, size int64, err error) {
	t, err := title.OpenDir(dir)
	if err != nil {
		return id, 0, err
	}
	for _, rep := range t.Manifest.Representations() {
		if _, err := t.Segments(ctx, rep.ID); err != nil {
			return id, 0, err
		}
		if _, err := t.Init(ctx, rep.ID); err != nil && rep.Init.Path != "" {
			return id, 0, err
		}
	}
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return t.ID, size, err
}

// Has reports whether the title is in the mirror.
func (m *Mirror) Has(id htlcdash.TitleID) bool { return m.titles[id].dir != "" }

// Titles returns what is in the mirror, in no order.
func (m *Mirror) Titles() []htlcdash.TitleID { return slices.Collect(maps.Keys(m.titles)) }

// Keep copies a title, unless it is here: what is not in t yet is fetched from
// where t comes from. The name is for people. It reports whether the folder has
// changed. The error matches [ErrFull], or is that of a fetch.
func (m *Mirror) Keep(ctx context.Context, name string, t *title.Title) (changed bool, err error) {
	if m.Has(t.ID) {
		return false, nil
	}
	temp, err := os.MkdirTemp(m.folder, growing)
	if err != nil {
		return false, fmt.Errorf("mirror: %w", err)
	}
	defer os.RemoveAll(temp) // fails after the rename, as it should
	w := &writer{dir: temp, left: min(MaxTitle, m.most-m.bytes)}
	if err := w.title(ctx, t); err != nil {
		return false, err
	}
	// It is read again as a seller will: what cannot be loaded is not put on sale.
	id, size, err := inspect(ctx, temp)
	if err == nil && id != t.ID {
		err = fmt.Errorf("the copy is title %s: %w", id, htlcdash.ErrCorrupt)
	}
	if err != nil {
		return false, fmt.Errorf("copy of title %s: %w", t.ID, err)
	}
	dir := filepath.Join(m.folder, cleaned(name, t.ID)+suffix(t.ID))
	if err := errors.Join(os.Chmod(temp, 0o755), os.Rename(temp, dir)); err != nil {
		return false, fmt.Errorf("mirror: %w", err)
	}
	m.titles[t.ID] = copied{dir, size}
	m.bytes += size
	return true, nil
}

// Retain removes the copies of all titles but those that keep wants. It reports
// whether the folder has changed.
func (m *Mirror) Retain(keep func(htlcdash.TitleID) bool) (changed bool, err error) {
	var errs []error
	for id, c := range m.titles {
		if keep(id) {
			continue
		}
		// First out of sight of who loads the folder, then away.
		gone := filepath.Join(m.folder, growing+id.String())
		if err := os.Rename(c.dir, gone); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, os.RemoveAll(gone))
		delete(m.titles, id)
		m.bytes -= c.bytes
		changed = true
	}
	return changed, errors.Join(errs...)
}

// maxName is how much of a provider's name for a title is taken.
const maxName = 40

// cleaned is the name that a stranger gave to a title as it may stand in a path
// and in a URL. Along a chain of resellers it stays the same.
func cleaned(name string, id htlcdash.TitleID) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, strings.TrimSuffix(name, suffix(id)))
	name = strings.Trim(name[:min(len(name), maxName)], "-")
	if name == "" {
		return "title"
	}
	return name
}

// A writer writes the files of a title, up to a number of bytes.
type writer struct {
	dir  string
	left int64
}

func (w *writer) title(ctx context.Context, t *title.Title) error {
	if err := w.write(title.MPDFile, 0, t.MPD); err != nil {
		return err
	}
	if err := w.write(title.SignatureFile, 0, t.Signature); err != nil {
		return err
	}
	for _, rep := range t.Manifest.Representations() {
		if err := w.representation(ctx, t, rep); err != nil {
			return fmt.Errorf("title %s: %w", t.ID, err)
		}
	}
	return nil
}

func (w *writer) representation(ctx context.Context, t *title.Title, rep *dash.Representation) error {
	if need := htlcdash.SealListLength(rep.Pay.Count); need > w.left { // before it is fetched
		return fmt.Errorf("seal list of %d bytes: %w", need, ErrFull)
	}
	segs, err := t.Segments(ctx, rep.ID)
	if err != nil {
		return err
	}
	list := make(htlcdash.SealList, len(segs))
	for i, s := range segs {
		list[i] = s.Seal
	}
	if err := w.write(rep.Pay.List, 0, list.Encode()); err != nil {
		return err
	}
	if rep.Init.Path == "" {
		return nil
	}
	init, err := t.Init(ctx, rep.ID)
	if err != nil {
		return err
	}
	return w.write(rep.Init.Path, rep.Init.Offset, init)
}

// write puts b into a file at an offset. The path is the publisher's, and never
// leads out of the title's folder.
func (w *writer) write(path string, offset int64, b []byte) error {
	if w.left -= int64(len(b)); w.left < 0 || offset > title.MaxInit {
		return fmt.Errorf("%s: %w", path, ErrFull)
	}
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	name := filepath.FromSlash(path)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	_, err = f.WriteAt(b, offset)
	return errors.Join(err, f.Close())
}
