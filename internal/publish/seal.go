package publish

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash"
	"htlcdash/internal/bittorrent"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
)

// A page is one Representation of a title in the making.
type page struct {
	rep  *dash.Representation
	list htlcdash.SealList
	keys []htlcdash.Key // beside list

	torrent []bittorrent.File // beside list
}

// seal seals all segments into the stage, over all cores, and prices their
// keys. It holds two buffers for each core, whatever the length of the title.
func (w *work) seal(ctx context.Context, b *book, quality map[string][]htlcdash.Decibel, done func(float64)) ([]page, error) {
	reps := b.manifest.Representations()
	pages := make([]page, len(reps))
	for i, rep := range reps {
		n := len(rep.Segments)
		pages[i] = page{rep, make(htlcdash.SealList, n), make([]htlcdash.Key, n), make([]bittorrent.File, n)}
	}
	type job struct {
		page  int
		group htlcdash.Group
	}
	jobs := make(chan job)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(jobs)
		for p, rep := range reps {
			for _, g := range w.Group.split(rep, b.lengths[rep.ID]) {
				select {
				case jobs <- job{p, g}:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	var sealed atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			s := sealer{b: b, dir: w.stage.title(), secret: w.Key.SealSecret()}
			for j := range jobs {
				p := &pages[j.page]
				key, err := s.key(p.rep, j.group)
				if err != nil {
					return err
				}
				for i := j.group.First; i < j.group.First+j.group.Count; i++ {
					if p.list[i], p.keys[i], err = s.segment(p.rep, i, key); err != nil {
						return err
					}
					p.torrent[i] = bittorrent.Hash(p.list[i].Sealed, s.sealed)
					if q := quality[p.rep.ID]; q != nil {
						p.list[i].Quality = q[i]
					}
					done(float64(sealed.Add(p.list[i].Length)) / float64(b.bytes))
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, p := range pages {
		if err := w.Price.set(p.rep, p.list); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// A sealer belongs to one goroutine and reuses its buffers.
type sealer struct {
	b             *book
	dir           string
	secret        []byte
	plain, sealed []byte
}

// key returns the key of a group, or none for a single segment, which gets its
// own in the pass that seals it. The segments are read twice, because only the
// whole group gives the key, and a minute of media need not fit in memory.
func (s *sealer) key(rep *dash.Representation, g htlcdash.Group) (key htlcdash.Key, err error) {
	if g.Count == 1 {
		return key, nil
	}
	blobs := make([]htlcdash.Blob, g.Count)
	for i := range blobs {
		if err := s.read(rep, g.First+i); err != nil {
			return key, err
		}
		blobs[i] = htlcdash.Blob{Root: htlcdash.RootOf(s.plain), Length: int64(len(s.plain))}
	}
	return htlcdash.KeyOf(s.secret, blobs...), nil
}

// segment seals one segment under a key, or under its own if that is none.
func (s *sealer) segment(rep *dash.Representation, index int, key htlcdash.Key) (htlcdash.Seal, htlcdash.Key, error) {
	var seal htlcdash.Seal
	if err := s.read(rep, index); err != nil {
		return seal, key, err
	}
	if key.IsZero() {
		s.sealed, seal, key = htlcdash.SealTo(s.sealed, s.secret, s.plain)
	} else {
		s.sealed, seal = htlcdash.SealWith(s.sealed, key, s.plain)
	}
	seal.Duration = rep.Segments[index].Duration.Round(time.Millisecond)
	return seal, key, s.write(seal.Sealed)
}

func (s *sealer) read(rep *dash.Representation, index int) (err error) {
	if s.plain, err = s.b.read(rep.Segments[index].Resource, htlcdash.MaxSegmentLength, s.plain); err != nil {
		return fmt.Errorf("representation %s, segment %d: %w: %w", rep.ID, index+1, ErrSource, err)
	}
	return nil
}

// write puts the sealed bytes where their name says. Two equal segments are one
// file, which another goroutine may be writing.
func (s *sealer) write(q htlcdash.Root) error {
	file := filepath.Join(s.dir, filepath.FromSlash(htlcdash.SealedPath(q)))
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(s.sealed)
	return errors.Join(err, f.Close())
}

// finish writes what is signed, reads the whole as a viewer would, and puts it
// in place.
func (w *work) finish(ctx context.Context, b *book, pages []page) (*Result, error) {
	pays := map[string]dash.Pay{}
	keys := map[htlcdash.Root]htlcdash.Key{}
	names := map[string]bool{}
	for _, p := range pages {
		pay, err := w.write(b, p, names)
		if err != nil {
			return nil, err
		}
		pays[p.rep.ID] = pay
		for i, seal := range p.list {
			keys[seal.Sealed] = p.keys[i]
		}
	}
	if err := w.sign(b, pays); err != nil {
		return nil, err
	}
	t, err := proofread(ctx, w.stage.title())
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	unchanged, err := w.stage.commit(w.Out, keys, w.Force)
	if err != nil {
		return nil, err
	}
	res := &Result{ID: t.ID, Publisher: t.Publisher, Dir: w.Out, KeysFile: KeysFile(w.Out), Unchanged: unchanged}
	for _, p := range pages {
		res.Representations = append(res.Representations, p.summary())
	}
	w.report(1, "published")
	return res, nil
}

// write stages the seal list, the torrent and the init segment of p.
func (w *work) write(b *book, p page, names map[string]bool) (dash.Pay, error) {
	pay := dash.Pay{
		List:     title.SealsDir + "/" + listName(p.rep.ID, names),
		ListRoot: p.list.Root(),
		Count:    len(p.list),
		Runs:     runs(p.list),
	}
	pay.Total, pay.Max = p.list.Sum()
	if err := w.put(pay.List, p.list.Encode(), 0); err != nil {
		return pay, err
	}
	// The torrent of too many segments would be too large for its users.
	if info := bittorrent.Info(p.torrent); info != nil {
		pay.InfoHash = bittorrent.InfoHashOf(info)
		if err := w.put(title.TorrentFile(&pay), bittorrent.Torrent(info, p.torrent), 0); err != nil {
			return pay, err
		}
	}
	if p.rep.Init.Path == "" {
		return pay, nil
	}
	init, err := b.read(p.rep.Init, title.MaxInit, nil)
	if err != nil {
		return pay, fmt.Errorf("%w: %w", ErrSource, err)
	}
	pay.InitDigest = sha256.Sum256(init)
	return pay, w.put(p.rep.Init.Path, init, p.rep.Init.Offset)
}

// put writes data at offset of a file of the staged title. Heads of several
// Representations may lie in one file.
func (w *work) put(path string, data []byte, offset int64) error {
	file := filepath.Join(w.stage.title(), filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, offset)
	return errors.Join(err, f.Close())
}

func (w *work) sign(b *book, pays map[string]dash.Pay) error {
	mpd, err := b.manifest.Extend(w.Key.ID(), dash.Places{Providers: w.Providers, Sources: w.Sources}, pays)
	if err != nil {
		return err
	}
	if len(mpd) > title.MaxMPD {
		return fmt.Errorf("%w: the MPD would have %d bytes, more than %d", ErrSource, len(mpd), title.MaxMPD)
	}
	sig, err := w.Key.Sign(htlcdash.IDOf(mpd))
	if err != nil {
		return err
	}
	if err := w.put(title.MPDFile, mpd, 0); err != nil {
		return err
	}
	return w.put(title.SignatureFile, sig.Encode(), 0)
}

// proofread opens the staged title with all checks that viewers make.
func proofread(ctx context.Context, dir string) (*title.Title, error) {
	t, err := title.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the title does not read back: %w", err)
	}
	for _, rep := range t.Manifest.Representations() {
		_, err := t.Segments(ctx, rep.ID)
		if err == nil && rep.Init.Path != "" {
			_, err = t.Init(ctx, rep.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("the title does not read back: %w", err)
		}
	}
	return t, nil
}

// listName makes a file name of a Representation's id. It is one that any file
// system can hold, and no two are the same even if case is ignored.
func listName(id string, taken map[string]bool) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, id)
	clean = cmp.Or(clean[:min(len(clean), 64)], "_")
	name := clean
	for n := 2; taken[strings.ToLower(name)]; n++ {
		name = fmt.Sprintf("%s.%d", clean, n)
	}
	taken[strings.ToLower(name)] = true
	return name + ".seals"
}

// runs gives the prices of l as the MPD shows them, or nil if they change too
// often for that.
func runs(l htlcdash.SealList) (r []dash.PriceRun) {
	for g := range l.Groups() {
		price := l[g.First].Price
		if n := len(r); n > 0 && r[n-1].Price == price && r[n-1].Opens == g.Count {
			r[n-1].Count++
			continue
		}
		if len(r) == dash.MaxRuns {
			return nil
		}
		r = append(r, dash.PriceRun{Count: 1, Opens: g.Count, Price: price})
	}
	return r
}

func (p page) summary() Summary {
	s := Summary{ID: p.rep.ID, Segments: len(p.list)}
	for range p.list.Groups() {
		s.Keys++
	}
	var quality int
	for _, seal := range p.list {
		s.Bytes += seal.Length
		quality += int(seal.Quality)
	}
	s.Total, s.Dearest = p.list.Sum()
	s.Quality = htlcdash.Decibel(quality / len(p.list))
	return s
}
