// Package dir is a source in a local folder: a publisher's output, a cache, a
// mounted disk. Files lie where htlcdash.SealedPath says.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"htlcdash"
)

// A Dir is a folder of sealed bytes. It implements source.Source.
type Dir struct {
	root   *os.Root
	folder *os.File // the same
}

// New returns the source in folder, which must exist. Nothing outside of it is
// ever opened, whatever links it holds.
func New(folder string) (*Dir, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("source folder: %w", err)
	}
	self, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("source folder: %w", err), root.Close())
	}
	return &Dir{root, self}, nil
}

func (d *Dir) String() string { return d.root.Name() }

// Close lets go of the folder. Files that are open stay so.
func (d *Dir) Close() error { return errors.Join(d.folder.Close(), d.root.Close()) }

// Open implements source.Source. A file of another length than b's is not b:
// the error matches htlcdash.ErrCorrupt.
func (d *Dir) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := d.File(b.Root)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != b.Length {
		err = fmt.Errorf("%s: %d bytes, want %d: %w", f.Name(), info.Size(), b.Length, htlcdash.ErrCorrupt)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Has implements source.Prober.
func (d *Dir) Has(ctx context.Context, b htlcdash.Blob) error {
	f, err := d.Open(ctx, b)
	if err != nil {
		return err
	}
	return f.Close()
}

// File returns the open file of the sealed bytes r, to be sent without passing
// through this program's memory, and closed by the caller. If there is no such
// file the error matches htlcdash.ErrNotFound.
func (d *Dir) File(r htlcdash.Root) (*os.File, error) {
	f, err := d.open(filepath.FromSlash(htlcdash.SealedPath(r)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", r, htlcdash.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("source folder: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file: %w", r, htlcdash.ErrNotFound)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
