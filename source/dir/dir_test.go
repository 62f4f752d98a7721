package dir_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/dir"
	"htlcdash/source/sourcetest"
)

func place(t *testing.T, folder string, r htlcdash.Root) string {
	t.Helper()
	path := filepath.Join(folder, filepath.FromSlash(htlcdash.SealedPath(r)))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, folder string) *dir.Dir {
	t.Helper()
	d, err := dir.New(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestSuite(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source {
		folder := t.TempDir()
		for b, data := range blobs {
			if err := os.WriteFile(place(t, folder, b.Root), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return open(t, folder)
	})
}

func TestWhatIsNoFile(t *testing.T) {
	b, data := sourcetest.Blob(1, htlcdash.LeafSize)
	for _, c := range []struct {
		name string
		put  func(t *testing.T, path string) error
		want error // nil: any
	}{
		{"nothing", func(*testing.T, string) error { return nil }, htlcdash.ErrNotFound},
		{"folder", func(_ *testing.T, path string) error { return os.Mkdir(path, 0o755) }, htlcdash.ErrNotFound},
		{"cut off", func(_ *testing.T, path string) error { return os.WriteFile(path, data[:10], 0o600) }, htlcdash.ErrCorrupt},
		{"link that leads out", func(t *testing.T, path string) error {
			secret := filepath.Join(t.TempDir(), "secret")
			return errors.Join(os.WriteFile(secret, data, 0o600), os.Symlink(secret, path))
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			if err := c.put(t, place(t, folder, b.Root)); err != nil {
				t.Fatal(err)
			}
			_, err := open(t, folder).Open(t.Context(), b)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	if _, err := dir.New(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v, want %v", err, os.ErrNotExist)
	}
}

// Who still reads while the folder is let go of gets an error, or the bytes.
func TestCloseMeanwhile(t *testing.T) {
	for range 20 {
		folder := t.TempDir()
		b, data := sourcetest.Blob(1, htlcdash.LeafSize)
		file := filepath.Join(folder, filepath.FromSlash(htlcdash.SealedPath(b.Root)))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := dir.New(folder)
		if err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				for range 50 {
					f, err := d.File(b.Root)
					if err != nil {
						return
					}
					f.Close()
				}
			})
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		work.Wait()
		if f, err := d.File(b.Root); err == nil {
			f.Close()
			t.Error("read a folder that was closed")
		}
	}
}
