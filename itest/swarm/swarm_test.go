//go:build itest

// Package swarm_test holds our torrents and our client against libtorrent 2.
package swarm_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/bittorrent"
	"htlcdash/source/dir"
	"htlcdash/source/sourcetest"
	"htlcdash/source/torrent"
)

// A film is a Representation on the disk.
type film struct {
	folder  string
	file    string // the .torrent
	torrent torrent.Torrent
	blobs   []htlcdash.Blob
	data    map[htlcdash.Blob][]byte
	info    []byte
}

// makeFilm lays out segments of sizes that matter: below a piece, one piece,
// and several, the last of them whole or not.
func makeFilm(t *testing.T) *film {
	t.Helper()
	f := &film{folder: t.TempDir(), data: map[htlcdash.Blob][]byte{}}
	var files []bittorrent.File
	for seed, leaves := range []int{1, 3, 16, 17, 64, 66, 64, 80, 2} {
		b, data := sourcetest.Blob(byte(seed), leaves*htlcdash.LeafSize)
		path := filepath.Join(f.folder, filepath.FromSlash(htlcdash.SealedPath(b.Root)))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, data, 0o644))
		files = append(files, bittorrent.Hash(b.Root, data))
		f.blobs, f.data[b] = append(f.blobs, b), data
	}
	f.info = bittorrent.Info(files)
	f.file = filepath.Join(t.TempDir(), "film.torrent")
	must(t, os.WriteFile(f.file, bittorrent.Torrent(f.info, files), 0o644))
	f.torrent = torrent.Torrent{InfoHash: bittorrent.InfoHashOf(f.info), Blobs: func() ([]htlcdash.Blob, bool) { return f.blobs, true }}
	return f
}

// A libtorrent is a process that runs swarm.py.
type libtorrent struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

func startLibtorrent(t *testing.T) *libtorrent {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "swarm.py") // Debian's, for which Debian's libtorrent is built
	cmd.Stderr = &bytes.Buffer{}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // it may have been killed by the end of the test
		if t.Failed() {
			t.Logf("libtorrent says:\n%s", cmd.Stderr)
		}
	})
	return &libtorrent{t, in, bufio.NewReader(out)}
}

// ask returns the answer to one command.
func (l *libtorrent) ask(command ...string) string {
	l.t.Helper()
	_, err := fmt.Fprintln(l.in, strings.Join(command, " "))
	must(l.t, err)
	answer, err := l.out.ReadString('\n')
	if err != nil {
		l.t.Fatalf("libtorrent does not answer %q: %v", command, err)
	}
	return strings.TrimSpace(answer)
}

func client(t *testing.T, o torrent.Options) *torrent.Client {
	t.Helper()
	c, err := torrent.New(o)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSameTorrent makes a torrent of one folder with both.
func TestSameTorrent(t *testing.T) {
	f := makeFilm(t)
	l := startLibtorrent(t)
	want := fmt.Sprintf("%x %x", sha1.Sum(f.info), f.torrent.InfoHash)
	if got := l.ask("make", f.folder, filepath.Join(t.TempDir(), "other.torrent")); got != want {
		t.Errorf("libtorrent makes infohashes %s, we %s", got, want)
	}
	if got := l.ask("infohashes", f.file); got != want {
		t.Errorf("libtorrent reads infohashes %s, want %s", got, want)
	}
}

// TestLibtorrentFetchesFromUs fetches by the file, and by links. By the infohash of
// v2 alone it needs the piece layers of what has several pieces.
func TestLibtorrentFetchesFromUs(t *testing.T) {
	f := makeFilm(t)
	c := client(t, torrent.Options{Listen: "127.0.0.1:0"})
	files, err := dir.New(f.folder)
	must(t, err)
	t.Cleanup(func() { files.Close() })
	file, err := os.ReadFile(f.file)
	must(t, err)
	must(t, c.Seed(f.torrent, file, files))
	host, port, _ := strings.Cut(c.Addr().String(), ":")
	for name, what := range map[string]string{
		"file":   f.file,
		"magnet": bittorrent.Magnet(f.info),
		"v2":     fmt.Sprintf("magnet:?xt=urn:btmh:1220%x", f.torrent.InfoHash),
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if got := startLibtorrent(t).ask("fetch", what, folder, host, port); got != "done" {
				t.Fatal(got)
			}
			// What it has is a folder that can be served as it is.
			got, err := dir.New(folder)
			must(t, err)
			defer got.Close()
			for _, b := range f.blobs {
				r, err := got.Open(t.Context(), b)
				must(t, err)
				data, err := io.ReadAll(r)
				must(t, errors.Join(err, r.Close()))
				if !b.Is(data) {
					t.Errorf("%s: %d bytes that are not it", b.Root, len(data))
				}
			}
		})
	}
}

// TestWeFetchFromLibtorrent knows of the torrent what the MPD and the seal list
// say.
func TestWeFetchFromLibtorrent(t *testing.T) {
	f := makeFilm(t)
	port := startLibtorrent(t).ask("seed", f.file, f.folder)
	c := client(t, torrent.Options{Peers: []string{"127.0.0.1:" + port}})
	must(t, c.Add(f.torrent))
	for _, b := range f.blobs {
		r, err := c.Open(t.Context(), b)
		must(t, err)
		data, err := io.ReadAll(r)
		must(t, errors.Join(err, r.Close()))
		if !b.Is(data) {
			t.Errorf("%s: %d bytes that are not it", b.Root, len(data))
		}
	}
}
