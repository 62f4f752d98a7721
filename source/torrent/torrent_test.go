package torrent_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"htlcdash"
	"htlcdash/internal/bittorrent"
	"htlcdash/source"
	"htlcdash/source/dir"
	"htlcdash/source/sourcetest"
	"htlcdash/source/torrent"
)

// A film is a Representation on the disk.
type film struct {
	folder  string
	torrent torrent.Torrent
	file    []byte // the .torrent
	blobs   []htlcdash.Blob
	data    map[htlcdash.Blob][]byte
}

func makeFilm(t testing.TB, data map[htlcdash.Blob][]byte) *film {
	t.Helper()
	f := &film{folder: t.TempDir(), data: data, blobs: slices.Collect(maps.Keys(data))}
	var files []bittorrent.File
	for b, d := range data {
		path := filepath.Join(f.folder, filepath.FromSlash(htlcdash.SealedPath(b.Root)))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, d, 0o644))
		files = append(files, bittorrent.Hash(b.Root, d))
	}
	info := bittorrent.Info(files)
	f.torrent = torrent.Torrent{InfoHash: bittorrent.InfoHashOf(info), Blobs: f.known}
	f.file = bittorrent.Torrent(info, files)
	return f
}

func (f *film) known() ([]htlcdash.Blob, bool) { return f.blobs, true }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client starts one that ends with the test.
func client(t testing.TB, o torrent.Options) *torrent.Client {
	t.Helper()
	c, err := torrent.New(o)
	must(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// seeder seeds a film on an address of this machine, and says which.
func seeder(t testing.TB, f *film, host string) string {
	t.Helper()
	c := client(t, torrent.Options{Listen: host + ":0"})
	files, err := dir.New(f.folder)
	must(t, err)
	t.Cleanup(func() { files.Close() })
	must(t, c.Seed(f.torrent, f.file, files))
	return c.Addr().String()
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source {
		f := makeFilm(t, blobs)
		c := client(t, torrent.Options{Peers: []string{seeder(t, f, "127.0.0.1")}})
		must(t, c.Add(f.torrent))
		return c
	})
}
