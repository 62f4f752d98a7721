package source_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/cache"
	"htlcdash/source/sourcetest"
)

// A toll is a source that is paid.
type toll struct {
	*sourcetest.Memory
	price lightning.Msat
}

func (t toll) Cost(htlcdash.Blob) lightning.Msat { return t.price }

// A film is blobs in a row, and the guide to it.
type film struct {
	id    htlcdash.TitleID
	names []htlcdash.Blob
	data  map[htlcdash.Blob][]byte
}

func newFilm(id, segments byte) film {
	f := film{id: htlcdash.TitleID{id}, data: make(map[htlcdash.Blob][]byte)}
	for n := range segments {
		b, data := sourcetest.Blob(id*40+n, htlcdash.LeafSize)
		f.names, f.data[b] = append(f.names, b), data
	}
	return f
}

func (f film) Place(b htlcdash.Blob) (cache.Place, bool) {
	for i, name := range f.names {
		if name == b {
			return cache.Place{Title: f.id, Index: i, Count: len(f.names)}, true
		}
	}
	return cache.Place{}, false
}

func (f film) Blob(p cache.Place) (htlcdash.Blob, bool) {
	if p.Title != f.id || p.Track != 0 || p.Index >= len(f.names) {
		return htlcdash.Blob{}, false
	}
	return f.names[p.Index], true
}

func closed(t testing.TB, l *source.Library) {
	t.Helper()
	must(t, l.Close())
}

// A source that is paid is not asked for being quicker, as a free one is.
func TestHasteIsNotPaidFor(t *testing.T) {
	for _, tt := range []struct {
		name  string
		price lightning.Msat
		want  int // times that the quick one is asked
	}{{"free", 0, 2}, {"paid", 100, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFilm(1, 3)
				slow := paced{Memory: sourcetest.NewMemory(map[htlcdash.Blob][]byte{f.names[0]: f.data[f.names[0]], f.names[2]: f.data[f.names[2]]}), rate: 20 << 10}
				quick := toll{sourcetest.NewMemory(f.data), tt.price}
				l := library(t, source.Options{}, slow, quick)
				for n := range f.names {
					wantData(t, l, f.names[n], f.data[f.names[n]])
				}
				if n := quick.Opens(); n != tt.want {
					t.Errorf("the quick source was asked %d times, want %d", n, tt.want)
				}
			})
		})
	}
}

// On a full disk what was paid for stays, what is free goes, whoever was there
// first; and the books say what that saved. It is all known after a restart.
func TestShelfIsForWhatCosts(t *testing.T) {
	f := newFilm(1, 6)
	paid := map[htlcdash.Blob][]byte{f.names[0]: f.data[f.names[0]], f.names[1]: f.data[f.names[1]]}
	gratis := map[htlcdash.Blob][]byte{}
	for _, b := range f.names[2:] {
		gratis[b] = f.data[b]
	}
	free, dear := sourcetest.NewMemory(gratis), toll{sourcetest.NewMemory(paid), 700}
	o := source.Options{Folder: t.TempDir(), Disk: 2 * htlcdash.LeafSize}
	l := library(t, o, free, dear)
	get := func(n int) { wantData(t, l, f.names[n], f.data[f.names[n]]) }
	for range 3 {
		get(2)
		get(3)
	}
	get(0)
	get(1)
	for range 3 {
		get(2)
		get(3)
		get(4)
		get(0)
		get(1)
	}
	want := source.Stats{
		Hits: 4 + 6, Misses: 2 + 2 + 9, HitBytes: 10 * htlcdash.LeafSize, MissBytes: 13 * htlcdash.LeafSize,
		Saved: 6 * 700, Spent: 2 * 700, Evicted: 2, Refused: 9, Held: 2 * htlcdash.LeafSize,
	}
	// Hits of free blobs would have cost nothing.
	if got := l.Stats(); got != want || got.Profit() != 4200 {
		t.Errorf("got %+v,\nwant %+v", got, want)
	}
	closed(t, l)

	l = library(t, o, free, dear) // a restart: still nothing free comes in
	for range 5 {
		get(2)
	}
	get(0)
	get(1)
	if got := l.Stats(); got.Hits != 2 || got.Saved != 1400 || got.Evicted != 0 || got.Spent != 0 {
		t.Errorf("after a restart: %+v", got)
	}
	closed(t, l)

	// A torn index costs what was known of costs and requests, and no bytes.
	must(t, os.WriteFile(filepath.Join(o.Folder, "shelf.index"), []byte("torn"), 0o600))
	l = library(t, o, free, dear)
	get(0)
	get(1)
	if got := l.Stats(); got.Hits != 2 || got.Held != 2*htlcdash.LeafSize || got.Spent != 0 {
		t.Errorf("after a torn index: %+v", got)
	}
	closed(t, l)
}

// What was learnt is written now and then, too: a crash costs minutes of it.
func TestIndexIsWrittenNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(1, 1)
		o := source.Options{Folder: t.TempDir()}
		l := library(t, o, toll{sourcetest.NewMemory(f.data), 1})
		index := filepath.Join(o.Folder, "shelf.index")
		wantData(t, l, f.names[0], f.data[f.names[0]])
		synctest.Wait()
		if _, err := os.Stat(index); err == nil {
			t.Error("it is written with each request")
		}
		time.Sleep(10 * time.Minute)
		wantData(t, l, f.names[0], f.data[f.names[0]])
		synctest.Wait()
		if _, err := os.Stat(index); err != nil {
			t.Error(err)
		}
	})
}

// Once it is known how viewers go on, the next segments are here before they
// are asked for; who goes on elsewhere costs no more than was risked.
func TestFetchAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(1, 20)
		upstream := toll{sourcetest.NewMemory(f.data), 100}
		o := source.Options{
			Folder: t.TempDir(), Guide: f,
			Ahead: cache.Terms{Depth: 2, Risk: 250}, Ready: 64_000, // 1000 msat by the leaf
		}
		l := library(t, o, upstream)
		for n := range 6 {
			wantData(t, l, f.names[n], f.data[f.names[n]])
			synctest.Wait()
		}
		s := l.Stats()
		if s.Misses > 3 || s.Hits < 3 || s.Ahead.Used < 3 || s.Ahead.Got > s.Ahead.Used+2 {
			t.Errorf("a viewer who goes on: %+v", s)
		}
		if opens := int64(upstream.Opens()); s.Spent != 100*lightning.Msat(opens) || opens != s.Misses+s.Ahead.Got {
			t.Errorf("the source was asked %d times: %+v", opens, s)
		}
		if a := s.Ahead; a.Risked+a.Lost-a.Gained > 250 {
			t.Errorf("more at risk than allowed: %+v", a)
		}
		closed(t, l)
	})
}

// A choice that fails costs nothing, and nobody waits for it.
func TestFetchAheadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(1, 20)
		o := source.Options{Folder: t.TempDir(), Guide: f, Ahead: cache.Terms{Depth: 2, Risk: 250}, Ready: 64_000}
		only := map[htlcdash.Blob][]byte{f.names[0]: f.data[f.names[0]]}
		l := library(t, o, toll{sourcetest.NewMemory(only), 100})
		for range 5 {
			wantData(t, l, f.names[0], f.data[f.names[0]])
			synctest.Wait()
		}
		if s := l.Stats(); s.Spent != 100 || s.Ahead != (cache.Account{}) {
			t.Errorf("got %+v", s)
		}
		closed(t, l)
	})
}

func TestAheadNeedsAGuide(t *testing.T) {
	for _, o := range []source.Options{{Ahead: cache.Terms{Depth: 1}}, {Ahead: cache.Terms{Depth: 1}, Folder: t.TempDir()}, {Ahead: cache.Terms{Depth: 1}, Guide: film{}}} {
		if _, err := source.NewLibrary(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// Many at once on a small disk: the bytes are right, the disk is bounded, and
// the counts agree.
func TestCrowdOnASmallDisk(t *testing.T) {
	f := newFilm(1, 20)
	o := source.Options{
		Folder: t.TempDir(), Disk: 5 * htlcdash.LeafSize, Memory: 2 * htlcdash.LeafSize, Guide: f,
		Ahead: cache.Terms{Depth: 3, Risk: 10_000}, Ready: 64_000,
	}
	upstream := toll{sourcetest.NewMemory(f.data), 100}
	l := library(t, o, upstream)
	var wg sync.WaitGroup
	const viewers, rounds = 8, 10
	for v := range viewers {
		wg.Go(func() {
			for r := range rounds {
				for n := range f.names {
					if (n+r)%(v+1) == 0 {
						if data, err := l.Get(t.Context(), f.names[n]); err != nil || !bytes.Equal(data, f.data[f.names[n]]) {
							t.Errorf("segment %d: %v", n, err)
						}
					}
					_ = l.Stats()
				}
			}
		})
	}
	wg.Wait()
	closed(t, l)
	s := l.Stats()
	if s.Held > o.Disk || countBytes(t, filepath.Join(o.Folder, "sealed")) > o.Disk {
		t.Errorf("%d bytes held, %d on the disk, bound %d", s.Held, countBytes(t, filepath.Join(o.Folder, "sealed")), o.Disk)
	}
	// Fetches that were under way at the end were cut off.
	if opens := upstream.Opens(); s.Spent > 100*lightning.Msat(opens) || s.Spent < 100*lightning.Msat(opens-4) {
		t.Errorf("spent %v, the source was asked %d times", s.Spent, opens)
	}
}

func countBytes(t *testing.T, folder string) (n int64) {
	t.Helper()
	must(t, filepath.WalkDir(folder, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		n += info.Size()
		return err
	}))
	return n
}
