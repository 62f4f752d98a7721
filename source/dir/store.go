package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"htlcdash"
	"htlcdash/source"
)

// A Store is a folder to which titles are copied, such as that of a web server.
// It implements source.Store.
type Store struct {
	root  *os.Root
	parts atomic.Int64 // numbers files in the making
}

// NewStore returns the store in folder, which is made if it is not there.
// Nothing outside of it is ever written, whatever links it holds.
func NewStore(folder string) (*Store, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("folder to publish to: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("folder to publish to: %w", err)
	}
	return &Store{root: root}, nil
}

func (s *Store) String() string { return s.root.Name() }

// Close lets go of the folder.
func (s *Store) Close() error { return s.root.Close() }

// Stat implements source.Store.
func (s *Store) Stat(ctx context.Context, file string) (source.Info, error) {
	if err := ctx.Err(); err != nil {
		return source.Info{}, err
	}
	info, err := s.root.Stat(filepath.FromSlash(file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return source.Info{}, fmt.Errorf("%s: %w", file, htlcdash.ErrNotFound)
	case err != nil:
		return source.Info{}, err
	case !info.Mode().IsRegular():
		return source.Info{}, fmt.Errorf("%s in %v is not a file", file, s)
	}
	return source.Info{Length: info.Size()}, nil
}

// Get implements source.Store.
func (s *Store) Get(ctx context.Context, file string, limit int64) ([]byte, error) {
	info, err := s.Stat(ctx, file)
	if err != nil {
		return nil, err
	}
	if info.Length > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d: %w", file, info.Length, limit, htlcdash.ErrCorrupt)
	}
	f, err := s.root.Open(filepath.FromSlash(file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// Put implements source.Store. The file appears when it is whole. It is not
// synced: who publishes reads back.
func (s *Store) Put(ctx context.Context, file string, data []byte, replace bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name := filepath.FromSlash(file)
	if err := s.root.MkdirAll(filepath.FromSlash(path.Dir(file)), 0o755); err != nil {
		return err
	}
	part := filepath.Join(filepath.Dir(name), ".part-"+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(s.parts.Add(1), 10))
	defer func() { _ = s.root.Remove(part) }() // gone already if it was renamed
	if err := s.root.WriteFile(part, data, 0o644); err != nil {
		return err
	}
	if replace {
		return s.root.Rename(part, name)
	}
	err := s.root.Link(part, name)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", file, source.ErrExists)
	}
	return err
}
