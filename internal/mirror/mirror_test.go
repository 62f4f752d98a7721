package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/mirror"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
)

func open(t *testing.T, folder string, most int64) *mirror.Mirror {
	t.Helper()
	m, err := mirror.Open(t.Context(), folder, most)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func keep(t *testing.T, m *mirror.Mirror, name string, film *titletest.Title) {
	t.Helper()
	opened, err := title.OpenDir(film.Dir)
	if err == nil {
		_, err = m.Keep(t.Context(), name, opened)
	}
	if err != nil || !m.Has(film.ID) {
		t.Fatalf("not kept: %v", err)
	}
}

// files are all names and bytes in a folder.
func files(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(os.DirFS(folder), path)
		found[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// only returns the one folder in folder.
func only(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	return filepath.Join(folder, entries[0].Name())
}

// A copy is what the publisher signed, to the byte, without what is sold and what
// opens it.
func TestKeep(t *testing.T) {
	film, folder := titletest.Make(t, titletest.Options{}), filepath.Join(t.TempDir(), "mirror")
	m := open(t, folder, 0)
	keep(t, m, "film", film)
	if opened, err := title.OpenDir(film.Dir); err != nil {
		t.Fatal(err)
	} else if changed, err := m.Keep(t.Context(), "film", opened); changed || err != nil {
		t.Errorf("again: %v, %v", changed, err)
	}
	dir := only(t, folder)
	if base := filepath.Base(dir); !strings.HasPrefix(base, "film-"+film.ID.String()[:12]) {
		t.Errorf("folder %s", base)
	}
	want, got := files(t, film.Dir), files(t, dir)
	for path := range want {
		if strings.HasPrefix(path, htlcdash.SealedFolder) || strings.HasPrefix(path, "torrents/") { // the last are not signed, and follow from the rest
			delete(want, path)
		}
	}
	if len(want) < 6 || len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for path := range want {
		if got[path] != want[path] {
			t.Errorf("%s has other bytes", path)
		}
	}
	if m = open(t, folder, 0); !m.Has(film.ID) || len(m.Titles()) != 1 {
		t.Error("it is gone after a restart")
	}
	keep(t, m, "film", titletest.Make(t, titletest.Options{Seed: 2}))
	if changed, err := m.Retain(func(id htlcdash.TitleID) bool { return id != film.ID }); !changed || err != nil || m.Has(film.ID) {
		t.Errorf("retain: %v, %v", changed, err)
	}
	if only(t, folder) == dir {
		t.Error("the wrong title was removed")
	}
}

// What a crash or a disk has spoilt is removed; what is somebody else's stays.
func TestSpoilt(t *testing.T) {
	film, folder := titletest.Make(t, titletest.Options{}), t.TempDir()
	rep := film.Manifest.Representations()[0]
	for name, spoil := range map[string]func(dir string) error{
		"no MPD":   func(dir string) error { return os.Remove(filepath.Join(dir, title.MPDFile)) },
		"no list":  func(dir string) error { return os.Remove(filepath.Join(dir, filepath.FromSlash(rep.Pay.List))) },
		"cut list": func(dir string) error { return os.Truncate(filepath.Join(dir, filepath.FromSlash(rep.Pay.List)), 200) },
		"other init": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, filepath.FromSlash(rep.Init.Path)), []byte("x"), 0o644)
		},
		"half made": func(dir string) error { return os.Rename(dir, filepath.Join(folder, ".new-1")) },
		"renamed":   func(dir string) error { return os.Rename(dir, filepath.Join(folder, "film-000000000000")) },
	} {
		t.Run(name, func(t *testing.T) {
			m := open(t, folder, 0)
			keep(t, m, "film", film)
			if err := spoil(only(t, folder)); err != nil {
				t.Fatal(err)
			}
			if m = open(t, folder, 0); m.Has(film.ID) || len(files(t, folder)) > 0 {
				t.Errorf("it is kept: %v", m.Titles())
			}
		})
	}
	if err := os.WriteFile(filepath.Join(folder, "notes.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if open(t, folder, 0); len(files(t, folder)) != 1 {
		t.Error("a stranger's file was removed")
	}
}

func TestBounds(t *testing.T) {
	film, folder := titletest.Make(t, titletest.Options{}), t.TempDir()
	opened, err := title.OpenDir(film.Dir)
	if err != nil {
		t.Fatal(err)
	}
	small := open(t, folder, int64(len(film.MPD)+100))
	if changed, err := small.Keep(t.Context(), "film", opened); changed || !errors.Is(err, mirror.ErrFull) {
		t.Errorf("%v, %v; want %v", changed, err, mirror.ErrFull)
	}
	if len(files(t, folder)) != 0 {
		t.Error("something is left of it")
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	unread, err := title.Open(t.Context(), title.Dir(film.Dir))
	if err != nil {
		t.Fatal(err)
	}
	unread.Also(func(ctx context.Context, _ string, _, _ int64) ([]byte, error) { return nil, ctx.Err() })
	if changed, _ := open(t, folder, 0).Keep(gone, "film", unread); changed {
		t.Error("kept for somebody who has left")
	}
}

// Whatever an upstream calls a title, and whatever it gives for its files, the
// folder holds what the publisher signed, in a folder with a harmless name.
func TestHostileUpstream(t *testing.T) {
	film, folder := titletest.Make(t, titletest.Options{}), t.TempDir()
	good := title.Dir(film.Dir)
	liar, err := title.Open(t.Context(), func(ctx context.Context, path string, offset, limit int64) ([]byte, error) {
		b, err := good(ctx, path, offset, limit)
		if strings.HasPrefix(path, title.SealsDir) {
			b = bytes.Repeat([]byte{1}, len(b))
		}
		return b, err
	})
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, folder, 0)
	if changed, err := m.Keep(t.Context(), "film", liar); changed || !errors.Is(err, htlcdash.ErrCorrupt) {
		t.Errorf("%v, %v; want %v", changed, err, htlcdash.ErrCorrupt)
	}
	for name, want := range map[string]string{
		"../../etc/passwd":              "etc-passwd",
		".hidden":                       "hidden",
		"a film\nwith\x00noise":         "a-film-with-noise",
		"":                              "title",
		"...":                           "title",
		strings.Repeat("x", 99):         strings.Repeat("x", 40),
		"film-" + film.ID.String()[:12]: "film", // from another reseller
	} {
		keep(t, m, name, film)
		if got := filepath.Base(only(t, folder)); got != want+"-"+film.ID.String()[:12] {
			t.Errorf("%q is in %q", name, got)
		}
		if _, err := m.Retain(func(htlcdash.TitleID) bool { return false }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCarry(t *testing.T) {
	title, publisher := htlcdash.TitleID{1}, htlcdash.PublisherID{2}
	for name, c := range map[string]struct {
		list []string
		want bool
	}{
		"nothing":           {nil, false},
		"all":               {[]string{"all"}, true},
		"this title":        {[]string{title.String()}, true},
		"this publisher":    {[]string{htlcdash.TitleID{9}.String(), publisher.String()}, true},
		"another title":     {[]string{htlcdash.TitleID{3}.String()}, false},
		"another publisher": {[]string{htlcdash.PublisherID{4}.String()}, false},
	} {
		carry, err := mirror.ParseCarry(c.list)
		if err != nil || carry.Wants(title, publisher) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := mirror.ParseCarry([]string{"films"}); err == nil {
		t.Error("a word is an id")
	}
}
