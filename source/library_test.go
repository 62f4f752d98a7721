package source_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/internal/due"
	"htlcdash/source"
	"htlcdash/source/sourcetest"
)

func library(t testing.TB, o source.Options, sources ...source.Source) *source.Library {
	t.Helper()
	l, err := source.NewLibrary(o, sources...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wantData(t testing.TB, l *source.Library, b htlcdash.Blob, want []byte) {
	t.Helper()
	got, err := l.Get(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes than asked for")
	}
}

// Whatever a source does, what comes out is right or an error, and the next
// source is asked.
func TestLyingSources(t *testing.T) {
	for _, c := range sourcetest.Lies() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, data := sourcetest.Blob(1, 5*htlcdash.LeafSize)
				blobs := map[htlcdash.Blob][]byte{b: data}
				liar := sourcetest.Liar{True: blobs, Lie: c.Lie}
				_, err := library(t, source.Options{}, liar).Get(t.Context(), b)
				if err == nil || (c.Want != nil && !errors.Is(err, c.Want)) || errors.Is(err, htlcdash.ErrNotFound) {
					t.Errorf("alone: got %v, want %v", err, c.Want)
				}
				wantData(t, library(t, source.Options{}, liar, sourcetest.NewMemory(blobs)), b, data)
			})
		})
	}
}

// A source gives bytes at a pace, after a wait.
type paced struct {
	*sourcetest.Memory
	wait time.Duration
	rate int // bytes a second
}

func (p paced) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	rc, err := p.Memory.Open(ctx, b)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(p.wait):
		return slowly{ctx, rc, p.rate}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type slowly struct {
	ctx context.Context
	io.ReadCloser
	rate int
}

func (s slowly) Read(p []byte) (int, error) {
	select {
	case <-time.After(50 * time.Millisecond):
		return s.ReadCloser.Read(p[:min(len(p), s.rate/20)])
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}

// A source that is late is not waited for, and one that is not is left alone:
// two at once cost the line twice.
func TestLateSources(t *testing.T) {
	const size = 32 * htlcdash.LeafSize // 512 KiB
	for _, c := range []struct {
		name          string
		first, second paced
		need          time.Duration // 0: not said
		met           bool          // the second was read before
		asked         int           // of the second
		within        time.Duration
	}{
		{"quick", paced{rate: size}, paced{rate: size}, 0, true, 0, 1200 * time.Millisecond},
		{"silent for a second", paced{wait: time.Minute, rate: size}, paced{rate: size}, 0, false, 1, 2200 * time.Millisecond},
		{"silent, and needed soon", paced{wait: time.Minute, rate: size}, paced{rate: size}, time.Second, false, 1, 1600 * time.Millisecond},
		{"slow, and the other is not known", paced{rate: size / 8}, paced{rate: size}, 0, false, 0, 9 * time.Second},
		{"slow, and the other is quick", paced{rate: size / 8}, paced{rate: size}, 0, true, 1, 1500 * time.Millisecond},
		{"slow, and the other not much quicker", paced{rate: size / 8}, paced{rate: size / 5}, 0, true, 0, 9 * time.Second},
		{"slow, and in time", paced{rate: size / 8}, paced{rate: size}, 10 * time.Second, false, 0, 9 * time.Second},
		{"slow, and too late", paced{rate: size / 8}, paced{rate: size}, 5 * time.Second, false, 1, 1500 * time.Millisecond},
		{"slow, and too late, and the other no better", paced{rate: size / 8}, paced{rate: size / 9}, 5 * time.Second, true, 0, 9 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, data := sourcetest.Blob(1, size)
				other, more := sourcetest.Blob(2, size)
				c.first.Memory = sourcetest.NewMemory(map[htlcdash.Blob][]byte{b: data})
				c.second.Memory = sourcetest.NewMemory(map[htlcdash.Blob][]byte{b: data, other: more})
				l := library(t, source.Options{MinRate: 1}, c.first, c.second)
				before := 0
				if c.met {
					wantData(t, l, other, more) // which the first has not
					before = 1
				}
				ctx, begun := t.Context(), time.Now()
				if c.need > 0 {
					ctx = due.By(ctx, begun.Add(c.need))
				}
				got, err := l.Get(ctx, b)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				if n := c.second.Opens() - before; n != c.asked {
					t.Errorf("the second was asked %d times, want %d", n, c.asked)
				}
				if took := time.Since(begun); took > c.within {
					t.Errorf("took %v, want at most %v", took, c.within)
				}
			})
		})
	}
}

// Who loses a race is asked last for a while, and then first again.
func TestLosersGoToTheBench(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := make(map[htlcdash.Blob][]byte)
		var names []htlcdash.Blob
		for seed := range byte(3) {
			b, data := sourcetest.Blob(seed, htlcdash.LeafSize)
			blobs[b], names = data, append(names, b)
		}
		slow := paced{Memory: sourcetest.NewMemory(blobs), wait: 4 * time.Second, rate: 1 << 20}
		quick := paced{Memory: sourcetest.NewMemory(blobs), rate: 1 << 20}
		l := library(t, source.Options{}, slow, quick)
		for i, want := range []int{1, 1, 2} {
			if i == 2 {
				time.Sleep(time.Minute)
			}
			begun := time.Now()
			wantData(t, l, names[i], blobs[names[i]])
			if slow.Opens() != want {
				t.Errorf("after blob %d the slow source was asked %d times, want %d", i, slow.Opens(), want)
			}
			if took := time.Since(begun); took > 1500*time.Millisecond {
				t.Errorf("blob %d took %v", i, took)
			}
		}
	})
}

// A byte now and then is no progress.
func TestDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, data := sourcetest.Blob(1, 5*htlcdash.LeafSize)
		drip := sourcetest.Liar{True: map[htlcdash.Blob][]byte{b: data}, Lie: func(ctx context.Context, data []byte) (io.Reader, error) {
			return &dripping{ctx, data}, nil
		}}
		begun := time.Now()
		_, err := library(t, source.Options{Stall: time.Second, MinRate: htlcdash.LeafSize}, drip).Get(t.Context(), b)
		if !errors.Is(err, source.ErrStalled) {
			t.Errorf("got %v, want %v", err, source.ErrStalled)
		}
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("left after %v, want 6 s", took)
		}
	})
}

type dripping struct {
	ctx  context.Context
	data []byte
}

func (d *dripping) Read(p []byte) (int, error) {
	select {
	case <-time.After(900 * time.Millisecond):
		return copy(p, d.data[:1]), nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

// A source that stalled is asked last for a while, then first again.
func TestBench(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := make(map[htlcdash.Blob][]byte)
		var names []htlcdash.Blob
		for seed := range byte(3) {
			b, data := sourcetest.Blob(seed, htlcdash.LeafSize)
			blobs[b], names = data, append(names, b)
		}
		asked := 0
		bad := sourcetest.Liar{True: blobs, Lie: func(ctx context.Context, _ []byte) (io.Reader, error) {
			asked++
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		l := library(t, source.Options{}, bad, sourcetest.NewMemory(blobs))
		for i, want := range []int{1, 1, 2} {
			if i == 2 {
				time.Sleep(time.Minute)
			}
			wantData(t, l, names[i], blobs[names[i]])
			if asked != want {
				t.Errorf("after blob %d the failing source was asked %d times, want %d", i, asked, want)
			}
		}
	})
}

func TestNotFound(t *testing.T) {
	b, _ := sourcetest.Blob(1, htlcdash.LeafSize)
	for _, l := range []*source.Library{library(t, source.Options{}), library(t, source.Options{}, sourcetest.NewMemory(nil))} {
		if _, err := l.Get(t.Context(), b); !errors.Is(err, htlcdash.ErrNotFound) {
			t.Errorf("got %v, want %v", err, htlcdash.ErrNotFound)
		}
	}
	b.Length = 1 << 40
	if _, err := library(t, source.Options{}).Get(t.Context(), b); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("a terabyte: %v, want %v", err, htlcdash.ErrFormat)
	}
}

func TestJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, data := sourcetest.Blob(1, htlcdash.LeafSize)
		opens := 0
		slow := sourcetest.Liar{True: map[htlcdash.Blob][]byte{b: data}, Lie: func(_ context.Context, data []byte) (io.Reader, error) {
			opens++
			time.Sleep(time.Second)
			return bytes.NewReader(data), nil
		}}
		l := library(t, source.Options{}, slow)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { wantData(t, l, b, data) })
		}
		wg.Wait()
		if opens != 1 {
			t.Errorf("asked %d times, want once", opens)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	blobs := make(map[htlcdash.Blob][]byte)
	var names []htlcdash.Blob
	for seed := range byte(4) {
		b, data := sourcetest.Blob(seed, htlcdash.LeafSize)
		blobs[b], names = data, append(names, b)
	}
	m := sourcetest.NewMemory(blobs)
	l := library(t, source.Options{Memory: 2 * htlcdash.LeafSize}, m)
	for _, step := range []struct{ blob, opens int }{
		{0, 1}, {1, 2}, {0, 2}, {2, 3}, {0, 3}, {1, 4}, {3, 5}, {1, 5}, {0, 6},
	} {
		wantData(t, l, names[step.blob], blobs[names[step.blob]])
		if m.Opens() != step.opens {
			t.Errorf("after blob %d: asked %d times, want %d", step.blob, m.Opens(), step.opens)
		}
	}
}

func TestFolder(t *testing.T) {
	blobs := make(map[htlcdash.Blob][]byte)
	var names []htlcdash.Blob
	for seed := range byte(3) {
		b, data := sourcetest.Blob(seed, htlcdash.LeafSize)
		blobs[b], names = data, append(names, b)
	}
	m := sourcetest.NewMemory(blobs)
	folder := t.TempDir()
	o := source.Options{Folder: folder, Disk: 2 * htlcdash.LeafSize}
	l := library(t, o, m)
	wantData(t, l, names[0], blobs[names[0]])
	wantData(t, l, names[1], blobs[names[1]])
	left := filepath.Join(folder, "sealed", "part-1")
	must(t, os.WriteFile(left, []byte("half"), 0o600))

	l = library(t, o, m) // a restart
	wantData(t, l, names[0], blobs[names[0]])
	wantData(t, l, names[1], blobs[names[1]])
	if m.Opens() != 2 {
		t.Errorf("asked %d times, want 2: the folder was forgotten", m.Opens())
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a half written file is still there: %v", err)
	}

	rotten := filepath.Join(folder, filepath.FromSlash(htlcdash.SealedPath(names[1].Root)))
	must(t, os.WriteFile(rotten, make([]byte, htlcdash.LeafSize), 0o600))
	wantData(t, l, names[1], blobs[names[1]])
	if m.Opens() != 3 {
		t.Errorf("asked %d times, want 3: rotten bytes were served", m.Opens())
	}

	wantData(t, l, names[2], blobs[names[2]])
	if n := countFiles(t, folder); n != 2 {
		t.Errorf("%d files, want 2", n)
	}
	l = library(t, source.Options{Folder: folder, Disk: htlcdash.LeafSize}, m) // with a smaller bound
	if n := countFiles(t, folder); n != 1 {
		t.Errorf("%d files after a restart with a smaller bound, want 1", n)
	}
	wantData(t, l, names[2], blobs[names[2]])
}

// A cache that cannot be written costs the cache only.
func TestFolderIsFull(t *testing.T) {
	b, data := sourcetest.Blob(1, htlcdash.LeafSize)
	folder := t.TempDir()
	l := library(t, source.Options{Folder: folder}, sourcetest.NewMemory(map[htlcdash.Blob][]byte{b: data}))
	must(t, os.RemoveAll(filepath.Join(folder, "sealed")))
	must(t, os.WriteFile(filepath.Join(folder, "sealed"), nil, 0o600))
	wantData(t, l, b, data)
	wantData(t, l, b, data)
}

func countFiles(t *testing.T, folder string) (n int) {
	t.Helper()
	must(t, filepath.WalkDir(folder, func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkGet(b *testing.B) {
	blob, data := sourcetest.Blob(1, 1<<20)
	m := sourcetest.NewMemory(map[htlcdash.Blob][]byte{blob: data})
	for _, c := range []struct {
		name string
		o    source.Options
	}{{"verified", source.Options{}}, {"cached", source.Options{Memory: 2 << 20}}, {"folder", source.Options{Folder: b.TempDir()}}} {
		b.Run(c.name, func(b *testing.B) {
			l := library(b, c.o, m)
			b.SetBytes(blob.Length)
			for b.Loop() {
				wantData(b, l, blob, data)
			}
		})
	}
}
