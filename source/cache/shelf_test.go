package cache_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"htlcdash"
	"htlcdash/lightning"
	"htlcdash/source/cache"
)

const leaf = htlcdash.LeafSize

// blob n has a name of its own and is so many leaves long.
func blob(n, leaves int) (b htlcdash.Blob) {
	binary.BigEndian.PutUint64(b.Root[:], uint64(n))
	b.Length = int64(leaves) * leaf
	return b
}

// segment n of a title of 20.
func segment(title byte, n int) cache.Item {
	b := blob(int(title)*1000+n, 1)
	return cache.Item{Blob: b, Cost: 100, Place: cache.Place{Title: htlcdash.TitleID{title}, Index: n, Count: 20}}
}

// want asks for an item and offers it if it is not held.
func want(s *cache.Shelf, it cache.Item) (held bool) {
	if held = s.Ask(it); !held {
		s.Put(it)
	}
	return held
}

func holds(s *cache.Shelf, it cache.Item) bool {
	_, ok := s.Held(it.Blob)
	return ok
}

func TestShelfKeepsWhatSavesMost(t *testing.T) {
	for _, tt := range []struct {
		name      string
		kept      cache.Item
		keptTimes int
		lost      cache.Item
		lostTimes int
	}{
		{"the dearer", cache.Item{Blob: blob(1, 1), Cost: 900}, 1, cache.Item{Blob: blob(2, 1), Cost: 300}, 2},
		{"what is asked for more", cache.Item{Blob: blob(1, 1), Cost: 300}, 4, cache.Item{Blob: blob(2, 1), Cost: 900}, 1},
		{"the smaller of one price", cache.Item{Blob: blob(1, 1), Cost: 300}, 1, cache.Item{Blob: blob(2, 2), Cost: 300}, 1},
		{"what costs over what is free", cache.Item{Blob: blob(1, 1), Cost: 300}, 1, cache.Item{Blob: blob(2, 1)}, 50},
		{"of free ones what is asked for more", cache.Item{Blob: blob(1, 1)}, 3, cache.Item{Blob: blob(2, 1)}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, first := range []cache.Item{tt.kept, tt.lost} { // whoever comes first
				s := cache.New(2 * leaf)
				s.Put(first)
				for range tt.keptTimes {
					s.Ask(tt.kept)
				}
				for range tt.lostTimes {
					s.Ask(tt.lost)
				}
				s.Put(cache.Item{Blob: blob(3, 1), Cost: 1 << 40}) // leaves room for one leaf
				s.Ask(cache.Item{Blob: blob(3, 1)})
				s.Put(cache.Item{Blob: blob(3, 1), Cost: 1 << 40})
				s.Put(tt.lost)
				s.Put(tt.kept)
				s.Put(tt.lost)
				if !holds(s, tt.kept) || holds(s, tt.lost) {
					t.Errorf("first %x: holds the right one: %v, the wrong one: %v", first.Blob.Root[7], holds(s, tt.kept), holds(s, tt.lost))
				}
			}
		})
	}
}

// One who asks for many things once does not push out what is asked for again
// and again.
func TestShelfIsNotSwept(t *testing.T) {
	s := cache.New(10 * leaf)
	for range 3 {
		for n := range 10 {
			want(s, cache.Item{Blob: blob(n, 1), Cost: 100})
		}
	}
	for n := range 1000 {
		want(s, cache.Item{Blob: blob(100+n, 1), Cost: 100})
	}
	for n := range 10 {
		if !holds(s, cache.Item{Blob: blob(n, 1)}) {
			t.Errorf("blob %d was pushed out", n)
		}
	}
}

// What was popular long ago goes.
func TestShelfForgets(t *testing.T) {
	s := cache.New(10 * leaf)
	for range 20 {
		for n := range 10 {
			want(s, cache.Item{Blob: blob(n, 1), Cost: 100})
		}
	}
	for range 8 {
		for range 2_000 {
			for n := range 10 {
				want(s, cache.Item{Blob: blob(100+n, 1), Cost: 100})
			}
		}
	}
	for n := range 10 {
		if holds(s, cache.Item{Blob: blob(n, 1)}) || !holds(s, cache.Item{Blob: blob(100+n, 1)}) {
			t.Errorf("blob %d is still held, or the one in its place is not", n)
		}
	}
}

// Who is at segment 5 will be at segment 6 soon: it is kept, though both were
// asked for as often, and let go once the viewer has gone.
func TestShelfKnowsWhoIsWatching(t *testing.T) {
	s := cache.New(20 * leaf)
	for range 20 {
		for _, title := range []byte{1, 2} {
			for n := range 10 {
				want(s, segment(title, n))
			}
		}
	}
	for n := range 6 {
		want(s, segment(1, n))
		s.Ask(cache.Item{Blob: blob(9999, 1)})
	}
	behind, ahead := s.Audience().Soon(segment(1, 3).Place), s.Audience().Soon(segment(1, 6).Place)
	if further := s.Audience().Soon(segment(1, 9).Place); behind != 0 || !(ahead > further) || !(further > 0) {
		t.Errorf("behind the viewer %g, next %g, later %g", behind, ahead, further)
	}
	for range 200 {
		s.Ask(cache.Item{Blob: blob(9999, 1)})
	}
	if soon := s.Audience().Soon(segment(1, 6).Place); soon != 0 {
		t.Errorf("the viewer has gone, and is still expected: %g", soon)
	}
}

// A title of which others watched much is known before each of its segments is.
func TestShelfKnowsTitles(t *testing.T) {
	s := cache.New(-1)
	for range 10 {
		for n := range 20 {
			if n != 7 {
				want(s, segment(1, n))
			}
		}
	}
	want(s, segment(2, 7))
	if popular, not := s.Audience().Rate(segment(1, 7).Place), s.Audience().Rate(segment(2, 7).Place); popular < 2*not {
		t.Errorf("of a popular title %g, of another %g", popular, not)
	}
}

// Whatever is asked and offered, what is held fits, and is what was said.
func TestShelfIsExact(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		const bound = 40 * leaf
		s, twin := cache.New(bound), cache.New(bound)
		held := map[htlcdash.Blob]bool{}
		for range 3000 {
			it := cache.Item{Blob: blob(r.IntN(300), 1), Cost: lightning.Msat(r.IntN(3) * 100)}
			it.Blob.Length = int64(1+it.Blob.Root[7]%50) * leaf
			if r.IntN(2) == 0 {
				it.Place = cache.Place{Title: htlcdash.TitleID{it.Blob.Root[7] % 9}, Track: int(it.Blob.Root[7] % 3), Index: int(it.Blob.Root[7]) % 30, Count: 30}
			}
			if got := s.Ask(it); got != held[it.Blob] || twin.Ask(it) != got {
				t.Fatal("other things are held than were said")
			}
			if r.IntN(10) == 0 {
				s.Drop(it.Blob)
				twin.Drop(it.Blob)
				delete(held, it.Blob)
			}
			wants := s.Wants(it)
			if twin.Wants(it) != wants {
				t.Fatal("two shelves that were asked the same differ")
			}
			in, gone := s.Put(it)
			if in2, gone2 := twin.Put(it); in != in2 || !slices.Equal(gone, gone2) {
				t.Fatal("two shelves that were asked the same differ")
			}
			if in != wants || !in && gone != nil {
				t.Fatalf("wants %v, in %v, gone %v", wants, in, gone)
			}
			for _, b := range gone {
				delete(held, b)
			}
			held[it.Blob] = in || held[it.Blob]
			sum := int64(0)
			for b, is := range held {
				if is {
					sum += b.Length
				}
			}
			if sum != s.Bytes() || sum > bound {
				t.Fatalf("holds %d bytes, says %d, bound %d", sum, s.Bytes(), bound)
			}
		}
		if !bytes.Equal(s.Index(), twin.Index()) {
			t.Fatal("two shelves that were asked the same know other things")
		}
	}
}

// filled is a shelf that has seen some of everything.
func filled() *cache.Shelf {
	s := cache.New(30 * leaf)
	r := rand.New(rand.NewPCG(1, 1))
	for range 400 {
		switch n := r.IntN(20); r.IntN(2) {
		case 0:
			want(s, segment(byte(1+r.IntN(4)), n))
		default:
			want(s, cache.Item{Blob: blob(n, 1), Cost: lightning.Msat(n * 10)})
		}
	}
	return s
}

func heldOf(s *cache.Shelf) (out []htlcdash.Blob) {
	for title := range byte(5) {
		for n := range 20 {
			if holds(s, segment(title, n)) {
				out = append(out, segment(title, n).Blob)
			}
		}
	}
	return out
}

func TestIndexComesBack(t *testing.T) {
	s := filled()
	index, there := s.Index(), heldOf(s)
	back := cache.New(30 * leaf)
	gone, err := back.Restore(index, there)
	if err != nil || gone != nil || back.Bytes() != s.Bytes() {
		t.Fatalf("%v gone, %d bytes of %d: %v", gone, back.Bytes(), s.Bytes(), err)
	}
	for _, b := range there {
		was, _ := s.Held(b)
		if is, _ := back.Held(b); is != was {
			t.Errorf("was %+v, is %+v", was, is)
		}
	}
	p := segment(2, 3).Place
	if was, is := s.Audience().Rate(p), back.Audience().Rate(p); is < 0.999*was || is > 1.001*was {
		t.Errorf("a rate was %g, is %g", was, is)
	}
	// A smaller room: the least worth goes.
	small := cache.New(10 * leaf)
	gone, err = small.Restore(index, there)
	if err != nil || small.Bytes() != 10*leaf || len(gone) != len(there)-10 {
		t.Errorf("%d gone of %d, %d bytes: %v", len(gone), len(there), small.Bytes(), err)
	}
}

// An index of which anything is missing or wrong costs what was known, and no
// bytes.
func TestTornIndex(t *testing.T) {
	s := filled()
	index, there := s.Index(), heldOf(s)
	for name, torn := range map[string][]byte{
		"half":             index[:len(index)/2],
		"a bit":            append(slices.Clone(index[:500]), append([]byte{index[500] ^ 1}, index[501:]...)...),
		"more":             append(slices.Clone(index), 0),
		"another's":        []byte("SQLite format 3\x00 and then some more than thirty-two bytes"),
		"not even a magic": {1},
	} {
		back := cache.New(30 * leaf)
		gone, err := back.Restore(torn, there)
		if !errors.Is(err, htlcdash.ErrFormat) || gone != nil || back.Bytes() != s.Bytes() {
			t.Errorf("%s: %d gone, %d bytes of %d: %v", name, len(gone), back.Bytes(), s.Bytes(), err)
		}
	}
}

// Weights grow with each request, and are made small in time.
func TestShelfLastsForEver(t *testing.T) {
	s, twin := filled(), filled()
	cache.Age(s)
	for n := range 2000 {
		it := segment(byte(1+n%3), n%20)
		if want(s, it) != want(twin, it) {
			t.Fatalf("request %d: an old shelf holds other things", n)
		}
	}
	if w := cache.Weight(s); !(w < 1e10) {
		t.Errorf("a weight is still %g", w)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(filled().Index())
	f.Add(cache.New(0).Index())
	f.Fuzz(func(t *testing.T, index []byte) {
		index = cache.Sum(index)
		s := cache.New(-1)
		if _, err := s.Restore(index, []htlcdash.Blob{blob(1, 1)}); err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Error(err)
			}
			return
		}
		want(s, segment(1, 1))
		back := cache.New(-1)
		if _, err := back.Restore(s.Index(), nil); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}

// Whatever places a guide names, what is remembered is bounded.
func TestAudienceIsBounded(t *testing.T) {
	s := cache.New(leaf)
	for n := range cache.MaxTitles + 5_000 {
		var id htlcdash.TitleID
		binary.BigEndian.PutUint32(id[:], uint32(n))
		s.Ask(cache.Item{Blob: blob(n, 1), Place: cache.Place{Title: id, Count: 2}})
	}
	if n := cache.Titles(s); n > cache.MaxTitles {
		t.Errorf("%d titles are remembered, want %d at most", n, cache.MaxTitles)
	}
	for n := range 100 {
		p := cache.Place{Title: htlcdash.TitleID{0xff, byte(n)}, Count: 1 << 17}
		s.Ask(cache.Item{Blob: blob(n, 1), Place: p})
	}
	if n := cache.Known(s); n > cache.MaxKnown {
		t.Errorf("%d segments are remembered, want %d at most", n, cache.MaxKnown)
	}
	for range 100 {
		want(s, segment(1, 0)) // and one that matters is
		want(s, segment(1, 1))
	}
	if s.Audience().Rate(segment(1, 1).Place) == 0 {
		t.Error("a title that is watched is not known")
	}
	for _, p := range []cache.Place{
		{Track: -1, Count: 2},
		{Track: 1 << 40, Count: 2},
		{Index: -1, Count: 2},
		{Index: 2, Count: 2},
		{Count: 1 << 40},
		{Count: -1},
	} {
		s.Ask(cache.Item{Blob: blob(1, 1), Place: p})
		s.Put(cache.Item{Blob: blob(1, 1), Place: p})
		s.Drop(blob(1, 1))
		if s.Audience().Rate(p) != 0 || s.Audience().Soon(p) != 0 || s.Audience().Chance(p, 1) != 0 {
			t.Errorf("%+v is taken for a place", p)
		}
	}
}
