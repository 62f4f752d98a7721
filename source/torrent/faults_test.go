package torrent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/sourcetest"
	"htlcdash/source/torrent"
)

// someBlobs makes n blobs of a megabyte.
func someBlobs(n int) map[htlcdash.Blob][]byte {
	blobs := map[htlcdash.Blob][]byte{}
	for seed := range n {
		b, data := sourcetest.Blob(byte(seed), 1<<20)
		blobs[b] = data
	}
	return blobs
}

// poison overwrites what a film has on the disk.
func (f *film) poison(t *testing.T) {
	t.Helper()
	for b := range f.data {
		path := filepath.Join(f.folder, filepath.FromSlash(htlcdash.SealedPath(b.Root)))
		must(t, os.WriteFile(path, make([]byte, b.Length), 0o644))
	}
}

// library is one over sources as viewers have it.
func library(t *testing.T, sources ...source.Source) *source.Library {
	t.Helper()
	l, err := source.NewLibrary(source.Options{}, sources...)
	must(t, err)
	return l
}

// wantAll gets all of a film, which must be right.
func wantAll(t *testing.T, l *source.Library, f *film) {
	t.Helper()
	for b := range f.data {
		data, err := l.Get(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if !b.Is(data) {
			t.Errorf("%s: wrong bytes", b.Root)
		}
	}
}

// Who sends garbage is found out, and the rest of the swarm serves.
func TestPoisonedSwarm(t *testing.T) {
	f, g := makeFilm(t, someBlobs(6)), makeFilm(t, someBlobs(6))
	g.poison(t)
	c := client(t, torrent.Options{Peers: []string{seeder(t, g, "127.0.0.2"), seeder(t, g, "127.0.0.3"), seeder(t, f, "127.0.0.4")}})
	must(t, c.Add(f.torrent))
	wantAll(t, library(t, c), f)
}

// A swarm in which all send garbage gives nothing, and another source helps.
func TestNothingButPoison(t *testing.T) {
	f := makeFilm(t, someBlobs(2))
	at := seeder(t, f, "127.0.0.2")
	f.poison(t)
	c := client(t, torrent.Options{Peers: []string{at}, Patience: 500 * time.Millisecond})
	must(t, c.Add(f.torrent))
	for b := range f.data {
		if r, err := c.Open(t.Context(), b); !errors.Is(err, htlcdash.ErrNotFound) {
			t.Errorf("got %v, %v, want %v", r, err, htlcdash.ErrNotFound)
		}
	}
	wantAll(t, library(t, c, sourcetest.NewMemory(f.data)), f)
}

// A gate is a peer's address that lets bytes through until it is shut.
type gate struct {
	net.Listener
	to     string
	left   atomic.Int64 // bytes
	failed atomic.Bool
	shut   func(net.Conn) // what becomes of a connection then
}

func newGate(t *testing.T, to string, bytes int64, shut func(net.Conn)) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := &gate{Listener: l, to: to, shut: shut}
	g.left.Store(bytes)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				return
			}
			t.Cleanup(func() { in.Close(); out.Close() })
			go io.Copy(out, in)
			go g.pass(in, out)
		}
	}()
	return g
}

func (g *gate) pass(in, out net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		if err != nil {
			in.Close()
			return
		}
		if g.left.Add(-int64(n)) < 0 {
			g.shut(in)
			g.failed.Store(true)
			return
		}
		if _, err := in.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A peer that stops, or dies, in the middle costs a retry.
func TestFailingPeer(t *testing.T) {
	for name, shut := range map[string]func(net.Conn){
		"stalls": func(net.Conn) {},
		"dies":   func(c net.Conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := makeFilm(t, someBlobs(1))
			bad := newGate(t, seeder(t, f, "127.0.0.1"), 400<<10, shut)
			c := client(t, torrent.Options{Peers: []string{bad.Addr().String()}, Local: true})
			must(t, c.Add(f.torrent))
			wantAll(t, library(t, c, sourcetest.NewMemory(f.data)), f)

			if !bad.failed.Load() {
				t.Error("the peer did not fail")
			}

			// Another peer comes.
			good := f.torrent
			good.Peers = []string{seeder(t, f, "127.0.0.2")}
			must(t, c.Add(good))
			for b := range f.data {
				r, err := c.Open(t.Context(), b)
				must(t, err)
				data, err := io.ReadAll(r)
				must(t, errors.Join(err, r.Close()))
				if !b.Is(data) {
					t.Error("wrong bytes")
				}
			}
		})
	}
}

// Without anybody to ask, a source says so at once; with peers that are not
// there, soon, and then at once.
func TestLonelySwarm(t *testing.T) {
	f := makeFilm(t, someBlobs(1))
	nobody := client(t, torrent.Options{})
	must(t, nobody.Add(f.torrent))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	gone := l.Addr().String()
	must(t, l.Close())
	absent := client(t, torrent.Options{Peers: []string{gone}, Patience: 300 * time.Millisecond})
	must(t, absent.Add(f.torrent))
	for b := range f.data {
		for name, c := range map[string]*torrent.Client{"nobody": nobody, "absent": absent, "absent still": absent} {
			if _, err := c.Open(t.Context(), b); !errors.Is(err, htlcdash.ErrNotFound) {
				t.Errorf("%s: got %v, want %v", name, err, htlcdash.ErrNotFound)
			}
		}
	}
}

// A reader ends with its context, and does not spoil the next one.
func TestImpatientReader(t *testing.T) {
	f := makeFilm(t, someBlobs(3))
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	must(t, err)
	t.Cleanup(func() { silent.Close() })
	c := client(t, torrent.Options{Peers: []string{silent.Addr().String()}, Patience: time.Hour, Local: true})
	must(t, c.Add(f.torrent))
	for b := range f.data {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := c.Open(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		cancel()
	}
	good := f.torrent
	good.Peers = []string{seeder(t, f, "127.0.0.2")}
	must(t, c.Add(good))
	wantAll(t, library(t, c), f)
}

// What is asked for at once is bounded by memory, and swarms by their number.
func TestBounds(t *testing.T) {
	f := makeFilm(t, someBlobs(3))
	c := client(t, torrent.Options{Peers: []string{seeder(t, f, "127.0.0.1")}, Memory: 2 << 20, MaxSwarms: 1, Local: true})
	must(t, c.Add(f.torrent))
	var open []io.ReadCloser
	for b := range f.data {
		r, err := c.Open(t.Context(), b)
		if len(open) == 2 {
			if !errors.Is(err, torrent.ErrBusy) {
				t.Errorf("a third segment: %v, want %v", err, torrent.ErrBusy)
			}
			continue
		}
		must(t, err)
		open = append(open, r)
	}
	b, data := sourcetest.Blob(50, htlcdash.LeafSize)
	g := makeFilm(t, map[htlcdash.Blob][]byte{b: data})
	g.torrent.Peers = []string{seeder(t, g, "127.0.0.2")}
	must(t, c.Add(g.torrent))
	if _, err := c.Open(t.Context(), b); !errors.Is(err, torrent.ErrBusy) {
		t.Errorf("a second swarm: %v, want %v", err, torrent.ErrBusy)
	}
	for _, r := range open {
		must(t, r.Close())
	}
	wantAll(t, library(t, c), g)
	wantAll(t, library(t, c), f)
}

// Metadata that is not of the signed segments is not believed, though it has the
// infohash that the publisher signed.
func TestMetadataOfOtherSegments(t *testing.T) {
	f := makeFilm(t, someBlobs(2))
	at := seeder(t, f, "127.0.0.1")
	b, _ := sourcetest.Blob(77, 1<<20)
	blobs := append(f.blobs[:1:1], b)
	c := client(t, torrent.Options{Peers: []string{at}})
	must(t, c.Add(torrent.Torrent{InfoHash: f.torrent.InfoHash, Blobs: func() ([]htlcdash.Blob, bool) { return blobs, true }}))
	if _, err := c.Open(t.Context(), b); !errors.Is(err, htlcdash.ErrCorrupt) {
		t.Errorf("got %v, want %v", err, htlcdash.ErrCorrupt)
	}
}

// Seed takes no other torrent than the one that the MPD names.
func TestSeedChecksTheTorrent(t *testing.T) {
	f, g := makeFilm(t, someBlobs(1)), makeFilm(t, someBlobs(2))
	c := client(t, torrent.Options{Listen: "127.0.0.1:0"})
	for name, file := range map[string][]byte{"other": g.file, "nothing": nil, "cut": f.file[:len(f.file)-1]} {
		err := c.Seed(f.torrent, file, nil)
		if !errors.Is(err, htlcdash.ErrCorrupt) && !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	wrong := f.torrent
	wrong.InfoHash[0] ^= 1
	if err := c.Seed(wrong, f.file, nil); !errors.Is(err, htlcdash.ErrCorrupt) {
		t.Errorf("another infohash: got %v", err)
	}
}

// Whom a stranger names is not knocked at in a local network.
func TestStrangersLeadNowhereLocal(t *testing.T) {
	f := makeFilm(t, someBlobs(1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	named := f.torrent
	named.Peers = []string{l.Addr().String()}
	c := client(t, torrent.Options{Patience: 300 * time.Millisecond})
	must(t, c.Add(named))
	if _, err := c.Open(t.Context(), f.blobs[0]); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("got %v, want %v", err, htlcdash.ErrNotFound)
	}
	ours, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer ours.Close()
	first, err := l.Accept() // they are accepted in the order in which they come
	must(t, err)
	defer first.Close()
	if first.RemoteAddr().String() != ours.LocalAddr().String() {
		t.Error("a stranger's word led to an address in a local network")
	}
}

func TestPeersAreChecked(t *testing.T) {
	for _, p := range []string{"", "host", ":80", "host:", "host:0"} {
		if _, err := torrent.New(torrent.Options{Peers: []string{p}}); err == nil {
			t.Errorf("peer %q was taken", p)
		}
	}
}

// A peer that asks for hashes, and reads nothing of what it is answered, holds up
// nobody else.
func TestPeerThatReadsNothing(t *testing.T) {
	f := makeFilm(t, someBlobs(2))
	address := seeder(t, f, "127.0.0.1")
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	must(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	hello := append([]byte("\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x04"), f.torrent.InfoHash[:20]...)
	_, err = conn.Write(append(hello, "-XX0000-012345678901"...))
	must(t, err)
	// BEP 52: root, base layer, index, length and proof layers of 4 pieces
	ask := binary.BigEndian.AppendUint32(nil, 49)
	ask = append(ask, 21)
	ask = append(ask, f.blobs[0].Root[:]...)
	for _, n := range []uint32{4, 0, 4, 0} {
		ask = binary.BigEndian.AppendUint32(ask, n)
	}
	many := bytes.Repeat(ask, 1000)
	flooding := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			if n == 500 { // answers of more than any buffer holds
				close(begun)
			}
			if _, err := conn.Write(many); err != nil {
				flooding <- err
				return
			}
		}
	}()
	select {
	case <-begun:
	case err := <-flooding: // it was hung up on: so much the better
		t.Logf("hung up on: %v", err)
	case <-time.After(10 * time.Second): // it is stuck itself
	}
	viewer := client(t, torrent.Options{Peers: []string{address}, Patience: time.Minute})
	must(t, viewer.Add(f.torrent))
	wantAll(t, library(t, viewer), f)
}
