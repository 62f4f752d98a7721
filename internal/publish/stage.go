package publish

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"htlcdash"
	"htlcdash/internal/title"
)

// A stage is the hidden folder beside OUT where a title grows. It is locked
// against other runs; what a killed run has left there is thrown away.
type stage struct {
	dir  string
	lock *os.File
}

func newStage(out string) (*stage, error) {
	dir := filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".publishing")
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, explain(err, out)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, explain(err, out)
	}
	if err := lockFile(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%w: wait for it to end, or publish to another folder than %s", ErrBusy, out)
	}
	s := &stage{dir, lock}
	if err := s.begin(); err != nil {
		s.close()
		return nil, explain(err, out)
	}
	return s, nil
}

func (s *stage) begin() error {
	for _, d := range []string{s.title(), s.media(), s.old()} {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	if err := os.Mkdir(s.media(), 0o777); err != nil {
		return err
	}
	return os.Mkdir(s.title(), 0o777)
}

func (s *stage) title() string { return filepath.Join(s.dir, "title") }
func (s *stage) media() string { return filepath.Join(s.dir, "media") }
func (s *stage) old() string   { return filepath.Join(s.dir, "old") }

// full reports, as an error, that the disk is full. Programs that write for us
// do not always say so.
func (s *stage) full() error {
	probe := filepath.Join(s.media(), "probe")
	defer os.Remove(probe)
	return os.WriteFile(probe, make([]byte, 64<<10), 0o666)
}

// close removes the folder and lets the next run in.
func (s *stage) close() {
	os.RemoveAll(s.dir)
	s.lock.Close()
}

// replaceable tells early whether a title may go to out at all.
func replaceable(out string, force bool) error {
	entries, err := os.ReadDir(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is a file, %w: choose another folder", out, ErrExists)
	case err != nil:
		return err
	case len(entries) == 0 || isTitle(out):
		return nil
	}
	return fmt.Errorf("%s is a folder and no title, %w: choose another folder, it is never replaced", out, ErrExists)
}

func isTitle(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, title.SignatureFile))
	return err == nil
}

// commit puts the staged title and its keys in place. It reports whether the
// same title, whole, was there already.
func (s *stage) commit(out string, keys map[htlcdash.Root]htlcdash.Key, force bool) (unchanged bool, err error) {
	if !isTitle(out) {
		if err := title.WriteKeys(KeysFile(out), keys); err != nil {
			return false, err
		}
		return false, s.place(out)
	}
	same, whole, err := s.compare(out)
	switch {
	case err != nil:
		return false, err
	case same && whole:
		return true, keepKeys(out, keys)
	case !same && !force:
		return false, fmt.Errorf("another title is %w in %s: publish to another folder, or force it", ErrExists, out)
	}
	return false, s.swap(out, keys)
}

// place renames the staged title to out, where nothing or an empty folder is.
func (s *stage) place(out string) error {
	if err := s.sync(); err != nil {
		return err
	}
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty folder
		return err
	}
	if err := os.Rename(s.title(), out); err != nil {
		return err
	}
	return syncDir(filepath.Dir(out))
}

// swap replaces the title at out. At each moment the key file opens the title
// that is there: it holds the keys of both until the end.
func (s *stage) swap(out string, keys map[htlcdash.Root]htlcdash.Key) error {
	both := keys
	if before, err := title.LoadKeys(KeysFile(out)); err == nil {
		both = before.With(keys)
	}
	if err := title.WriteKeys(KeysFile(out), both); err != nil {
		return err
	}
	if err := os.Rename(out, s.old()); err != nil {
		return err
	}
	if err := s.place(out); err != nil {
		return errors.Join(err, os.Rename(s.old(), out))
	}
	return title.WriteKeys(KeysFile(out), keys)
}

// keepKeys writes the keys of an unchanged title again if they are not there.
func keepKeys(out string, keys map[htlcdash.Root]htlcdash.Key) error {
	if k, err := title.LoadKeys(KeysFile(out)); err == nil && k.Holds(keys) {
		return nil
	}
	return title.WriteKeys(KeysFile(out), keys)
}

// compare holds the title at out against the staged one: whether its MPD and
// signature are the same, and whether all its files are there in full length.
func (s *stage) compare(out string) (same, whole bool, err error) {
	for _, name := range []string{title.MPDFile, title.SignatureFile} {
		a, err := os.ReadFile(filepath.Join(s.title(), name))
		if err != nil {
			return false, false, err
		}
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || !bytes.Equal(a, b) {
			return false, false, nil
		}
	}
	whole = true
	err = filepath.WalkDir(s.title(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(s.title(), path)
		if err != nil {
			return err
		}
		want, err := d.Info()
		if err != nil {
			return err
		}
		have, err := os.Lstat(filepath.Join(out, rel))
		whole = whole && err == nil && have.Size() == want.Size()
		return nil
	})
	return true, whole, err
}

// sync makes the staged title durable before the rename shows it.
func (s *stage) sync() error {
	f, err := os.Open(s.title())
	if err != nil {
		return err
	}
	defer f.Close()
	return syncFS(f)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// explain adds the next step to an error that a person can mend.
func explain(err error, out string) error {
	switch {
	case err == nil, errors.Is(err, ErrSource):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("the disk of %s is full: free some space, a title needs about twice its size while it is made: %w", out, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("cannot write to %s: choose a folder that you may write to: %w", filepath.Dir(out), err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot write to %s: make that folder first: %w", filepath.Dir(out), err)
	}
	return err
}
