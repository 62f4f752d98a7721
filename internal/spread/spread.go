// Package spread copies a published title to a store, from where anybody may
// serve or fetch it: a bucket, a Gaia hub, a folder.
//
// What is copied is what the title itself names, and nothing else that lies in
// its folder; the private file of keys is never read. What is there already
// stays, so a copy that was broken off goes on where it stood, and one that is
// whole costs a question for each file. The MPD comes last: who finds it finds
// the whole title.
package spread

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" // what stores tell of a file, not for security
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"htlcdash"
	"htlcdash/internal/title"
	"htlcdash/source"
)

// ErrOther means that another title lies where this one should go.
var ErrOther = errors.New("another title is there")

// Options say how to copy. The zero value is fine.
type Options struct {
	Workers int  // files at once; 0: 8
	Replace bool // write every file anew, also over another title
	Sample  int  // files that are read back at the end, beside the MPD and its signature; 0: 16
	// Pause before a file is tried again, twice as long each time; 0: half a
	// second.
	Pause time.Duration
	// Progress is told from one goroutine at a time; nil: nobody is.
	Progress func(Progress)
}

// tries bounds how often one file is sent.
const tries = 4

// Progress tells how far a copy is.
type Progress struct {
	Files, AllFiles int
	Bytes, AllBytes int64
}

// A Result tells what was done.
type Result struct {
	ID      htlcdash.TitleID
	Sent    int   // files
	Kept    int   // files that were there already
	Bytes   int64 // of files that were sent
	Checked int   // files that were read back
}

// Run copies the title in the folder dir to a store. It can be run again after
// any error, and does then only what is left.
//
// The error matches [ErrOther] unless that is to be replaced,
// htlcdash.ErrCorrupt if a file of the folder, or one that was read back, is not
// what the publisher signed, or is that of the store.
func Run(ctx context.Context, dir string, to source.Store, o Options) (Result, error) {
	o.Workers, o.Sample, o.Pause = cmp.Or(o.Workers, 8), cmp.Or(o.Sample, 16), cmp.Or(o.Pause, time.Second/2)
	t, err := title.OpenDir(dir)
	if err != nil {
		return Result{}, err
	}
	folder, err := os.OpenRoot(dir)
	if err != nil {
		return Result{}, err
	}
	defer folder.Close()
	c := &copying{Options: o, folder: folder, to: to, result: Result{ID: t.ID}}
	if err := c.list(ctx, t); err != nil {
		return c.result, err
	}
	if err := c.vacant(ctx, t); err != nil {
		return c.result, err
	}
	if err := c.send(ctx, c.files); err != nil {
		return c.result, err
	}
	for _, f := range []file{{path: title.SignatureFile, length: int64(len(t.Signature))}, {path: title.MPDFile, length: int64(len(t.MPD))}} {
		if err := c.send(ctx, []file{f}); err != nil {
			return c.result, err
		}
		c.first = append(c.first, f)
	}
	return c.result, c.readBack(ctx)
}

// A file is one of the title's.
type file struct {
	path   string
	length int64
	blob   htlcdash.Blob // of sealed bytes; else the zero Blob
}

type copying struct {
	Options
	folder *os.Root
	to     source.Store
	files  []file // all but those of first, by path
	first  []file // the MPD and its signature

	mu     sync.Mutex
	done   Progress // guarded by mu
	result Result   // guarded by mu while files are sent
}

// list finds what the title consists of.
func (c *copying) list(ctx context.Context, t *title.Title) error {
	all := map[string]file{}
	for _, rep := range t.Manifest.Representations() {
		segs, err := t.Segments(ctx, rep.ID)
		if err != nil {
			return err
		}
		for _, s := range segs {
			b := s.SealedBlob()
			all[htlcdash.SealedPath(b.Root)] = file{htlcdash.SealedPath(b.Root), b.Length, b}
		}
		plain := []string{rep.Pay.List}
		if rep.Init.Path != "" {
			plain = append(plain, rep.Init.Path)
		}
		if rep.Pay.InfoHash != [32]byte{} {
			plain = append(plain, title.TorrentFile(rep.Pay))
		}
		for _, path := range plain {
			info, err := c.folder.Stat(filepath.FromSlash(path))
			if err != nil {
				return fmt.Errorf("title: %w", err)
			}
			all[path] = file{path: path, length: info.Size()}
		}
	}
	for _, f := range all {
		c.files = append(c.files, f)
		c.done.AllBytes += f.length
	}
	slices.SortFunc(c.files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	c.done.AllFiles = len(c.files) + 2
	c.done.AllBytes += int64(len(t.MPD) + len(t.Signature))
	return nil
}

// vacant makes sure, before anything is written, that no other title is there.
func (c *copying) vacant(ctx context.Context, t *title.Title) error {
	if c.Replace {
		return nil
	}
	var there []byte
	err := c.again(ctx, func() (err error) {
		there, err = c.to.Get(ctx, title.MPDFile, title.MaxMPD)
		return err
	})
	switch {
	case errors.Is(err, htlcdash.ErrNotFound):
		return nil
	case err != nil && !errors.Is(err, htlcdash.ErrCorrupt):
		return fmt.Errorf("%v: %w", c.to, err)
	case err != nil || !bytes.Equal(there, t.MPD):
		return fmt.Errorf("%v: %w: choose another place, or replace it by --force", c.to, ErrOther)
	}
	return nil
}

// send copies files, several at once. The first that fails ends it.
func (c *copying) send(ctx context.Context, files []file) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.Workers)
	for _, f := range files {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			sent := false
			err := c.again(ctx, func() (err error) {
				sent, err = c.put(ctx, f)
				return err
			})
			if err != nil {
				return fmt.Errorf("%v: %s: %w", c.to, f.path, err)
			}
			c.count(f, sent)
			return nil
		})
	}
	return group.Wait()
}

func (c *copying) count(f file, sent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sent {
		c.result.Sent++
		c.result.Bytes += f.length
	} else {
		c.result.Kept++
	}
	c.done.Files++
	c.done.Bytes += f.length
	if c.Progress != nil {
		c.Progress(c.done)
	}
}

// again does something until it succeeds, it is sure not to, or it was tried
// often enough.
func (c *copying) again(ctx context.Context, do func() error) error {
	pause := c.Pause
	for try := 1; ; try++ {
		err := do()
		hopeless := errors.Is(err, htlcdash.ErrNotFound) || errors.Is(err, htlcdash.ErrCorrupt) || errors.Is(err, source.ErrRefused)
		if err == nil || hopeless || try == tries || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// put brings one file there, unless it is there already. It never takes a file's
// name for its content where more is known: length, and MD5 where the store
// tells it.
func (c *copying) put(ctx context.Context, f file) (sent bool, err error) {
	if c.Replace {
		data, err := c.read(f)
		if err != nil {
			return false, err
		}
		return true, c.to.Put(ctx, f.path, data, true)
	}
	for replace := false; ; {
		there, err := c.to.Stat(ctx, f.path)
		if err != nil && !errors.Is(err, htlcdash.ErrNotFound) {
			return false, err
		}
		if err == nil {
			same, err := c.same(ctx, f, there)
			if same || err != nil {
				return false, err
			}
			replace = true // cut off, or of another publication: the MPD is not there yet, or is ours
		}
		data, err := c.read(f)
		if err != nil {
			return false, err
		}
		if err = c.to.Put(ctx, f.path, data, replace); !errors.Is(err, source.ErrExists) || replace {
			return err == nil, err
		}
	}
}

// same reports whether what lies there is f. Of sealed bytes whose sum the store
// does not tell only the length is looked at, since nobody plays them without
// a check; all else is compared.
func (c *copying) same(ctx context.Context, f file, there source.Info) (bool, error) {
	if there.Length != f.length || there.MD5 == "" && f.blob != (htlcdash.Blob{}) {
		return there.Length == f.length, nil
	}
	data, err := c.read(f)
	if err != nil {
		return false, err
	}
	if sum := md5.Sum(data); there.MD5 == hex.EncodeToString(sum[:]) {
		return true, nil
	}
	got, err := c.to.Get(ctx, f.path, f.length) // not every store means MD5 by it
	return err == nil && bytes.Equal(got, data), err
}

// read returns a file of the title as it lies here.
func (c *copying) read(f file) ([]byte, error) {
	r, err := c.folder.Open(filepath.FromSlash(f.path))
	if err != nil {
		return nil, fmt.Errorf("here: %w: publish the film again", errors.Join(err, source.ErrRefused))
	}
	defer r.Close()
	data := make([]byte, f.length)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("here: %w: publish the film again", errors.Join(err, htlcdash.ErrCorrupt))
	}
	if f.blob != (htlcdash.Blob{}) && !f.blob.Is(data) {
		return nil, fmt.Errorf("here: %w: publish the film again", htlcdash.ErrCorrupt)
	}
	return data, nil
}

// readBack reads the MPD, its signature and a sample of the rest as a stranger
// would.
func (c *copying) readBack(ctx context.Context) error {
	sample := slices.Clone(c.files)
	rand.Shuffle(len(sample), func(i, j int) { sample[i], sample[j] = sample[j], sample[i] })
	for _, f := range append(c.first, sample[:min(len(sample), c.Sample)]...) {
		want, err := c.read(f)
		if err != nil {
			return err
		}
		var got []byte
		err = c.again(ctx, func() (err error) {
			if got, err = c.to.Get(ctx, f.path, f.length); errors.Is(err, htlcdash.ErrNotFound) {
				err = errors.New("it is not there, though it was written") // not yet, where a cache stands before it
			}
			return err
		})
		if err == nil && !bytes.Equal(got, want) {
			err = htlcdash.ErrCorrupt
		}
		if err != nil {
			return fmt.Errorf("%v: read back %s: %w: see whether others write there, then copy again with --force", c.to, f.path, err)
		}
		c.result.Checked++
	}
	return nil
}
