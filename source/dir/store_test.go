package dir_test

import (
	"os"
	"path/filepath"
	"testing"

	"htlcdash/source"
	"htlcdash/source/dir"
	"htlcdash/source/sourcetest"
)

func store(t *testing.T, folder string) *dir.Store {
	t.Helper()
	s, err := dir.NewStore(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	sourcetest.RunStore(t, func(t *testing.T) source.Store { return store(t, filepath.Join(t.TempDir(), "a", "b")) })
}

// A folder that others can write to must not lead us out of it.
func TestStoreStaysInItsFolder(t *testing.T) {
	folder, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(folder, "seals")); err != nil {
		t.Fatal(err)
	}
	if err := store(t, folder).Put(t.Context(), "seals/v.seals", []byte("x"), true); err == nil {
		t.Error("it wrote through a link")
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
		t.Errorf("%v lies outside, %v", entries, err)
	}
}

func TestStoreLeavesNoParts(t *testing.T) {
	folder := t.TempDir()
	s := store(t, folder)
	for _, replace := range []bool{false, false, true} {
		_ = s.Put(t.Context(), "manifest.mpd", []byte("x"), replace)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v, want one file", entries, err)
	}
}
