package torrent_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/bittorrent"
	"htlcdash/source/dir"
	"htlcdash/source/sourcetest"
	"htlcdash/source/torrent"
)

// BenchmarkSegment gets one segment of a megabyte after the other out of a swarm
// of one seeder, in any order, the first one with the metadata.
func BenchmarkSegment(b *testing.B) {
	const n = 200
	blobs := map[htlcdash.Blob][]byte{}
	for seed := range n {
		blob, data := sourcetest.Blob(byte(seed), 1<<20)
		blobs[blob] = data
	}
	f := makeFilm(b, blobs)
	at := seeder(b, f, "127.0.0.1")
	open := func() *torrent.Client {
		c := client(b, torrent.Options{Peers: []string{at}})
		must(b, c.Add(f.torrent))
		return c
	}
	get := func(c *torrent.Client, blob htlcdash.Blob) time.Duration {
		begun := time.Now()
		r, err := c.Open(b.Context(), blob)
		must(b, err)
		_, err = io.Copy(io.Discard, r)
		must(b, err)
		took := time.Since(begun)
		must(b, r.Close())
		return took
	}
	c := open()
	first := get(c, f.blobs[0])
	var took []time.Duration
	b.SetBytes(1 << 20)
	for i := 0; b.Loop(); i++ {
		took = append(took, get(c, f.blobs[i*7%n]))
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(first), "first-ms")
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*95/100]), "p95-ms")
}

// BenchmarkSeed10000 seeds ten Representations of a thousand segments of two
// pieces each, and reports the memory that they take.
func BenchmarkSeed10000(b *testing.B) {
	const reps, n = 10, 1000
	folder := b.TempDir()
	var torrents []torrent.Torrent
	var files [][]byte
	data := make([]byte, bittorrent.PieceLength+htlcdash.LeafSize)
	for rep := range reps {
		var blobs []htlcdash.Blob
		var made []bittorrent.File
		for i := range n {
			binary.BigEndian.PutUint64(data, uint64(rep*n+i))
			blob := htlcdash.Blob{Root: htlcdash.RootOf(data), Length: int64(len(data))}
			path := filepath.Join(folder, filepath.FromSlash(htlcdash.SealedPath(blob.Root)))
			must(b, os.MkdirAll(filepath.Dir(path), 0o755))
			must(b, os.WriteFile(path, data[:8], 0o644)) // the rest is a hole
			must(b, os.Truncate(path, blob.Length))
			made, blobs = append(made, bittorrent.Hash(blob.Root, data)), append(blobs, blob)
		}
		info := bittorrent.Info(made)
		torrents = append(torrents, torrent.Torrent{
			InfoHash: bittorrent.InfoHashOf(info), Blobs: func() ([]htlcdash.Blob, bool) { return blobs, true },
		})
		files = append(files, bittorrent.Torrent(info, made))
	}
	held, err := dir.New(folder)
	must(b, err)
	defer held.Close()
	before, rssBefore := memory(b)
	for b.Loop() {
		c, err := torrent.New(torrent.Options{Listen: "127.0.0.1:0"})
		must(b, err)
		begun := time.Now()
		for i, t := range torrents {
			must(b, c.Seed(t, files[i], held))
		}
		ready := time.Since(begun)
		after, rss := memory(b)
		b.ReportMetric(float64(after-before)/1e6, "heap-MB")
		b.ReportMetric(float64(rss-rssBefore)/1e6, "rss-MB")
		b.ReportMetric(float64(ready.Milliseconds()), "start-ms")

		// One who leeches a hundred of them.
		v := client(b, torrent.Options{Peers: []string{c.Addr().String()}})
		must(b, v.Add(torrents[0]))
		blobs, _ := torrents[0].Blobs()
		var took []time.Duration
		for i := range 100 {
			begun := time.Now()
			r, err := v.Open(b.Context(), blobs[i*7%n])
			must(b, err)
			_, err = io.Copy(io.Discard, r)
			must(b, err)
			took = append(took, time.Since(begun))
			must(b, r.Close())
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[50].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[95].Microseconds())/1000, "p95-ms")
		_, rss = memory(b)
		b.ReportMetric(float64(rss-rssBefore)/1e6, "rss-serving-MB")
		must(b, c.Close())
	}
}

// memory returns the bytes of the heap in use, and of the process, after
// cleaning up.
func memory(t testing.TB) (heap, rss int64) {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &rss); err == nil {
			break
		}
	}
	return int64(m.HeapAlloc), rss << 10
}
