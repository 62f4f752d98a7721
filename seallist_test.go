package htlcdash_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

func sealList(t testing.TB) htlcdash.SealList {
	t.Helper()
	l := htlcdash.SealList{}
	for i, n := range []int{1, 16384, 40_000} {
		_, s, _ := seal(t, n)
		s.Duration = time.Duration(i+1) * 1234 * time.Millisecond
		s.Price = lightning.Msat(i) * 21_001
		s.Quality = htlcdash.Decibel(1000 * i)
		l = append(l, s)
	}
	return l
}

func TestSealListRoundTrip(t *testing.T) {
	for name, want := range map[string]htlcdash.SealList{"none": {}, "three": sealList(t)} {
		t.Run(name, func(t *testing.T) {
			b := want.Encode()
			if int64(len(b)) != htlcdash.SealListLength(len(want)) {
				t.Errorf("%d bytes, SealListLength says %d", len(b), htlcdash.SealListLength(len(want)))
			}
			got, err := htlcdash.ParseSealList(b)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v became %+v: %v", want, got, err)
			}
		})
	}
}

// spoiledLists are what becomes of a list of at least one seal in bad hands.
var spoiledLists = map[string]func([]byte) []byte{
	"nothing":           func([]byte) []byte { return nil },
	"half a header":     func(b []byte) []byte { return b[:15] },
	"other magic":       func(b []byte) []byte { b[0] ^= 1; return b },
	"earlier version":   func(b []byte) []byte { b[9] = 1; return b },
	"later version":     func(b []byte) []byte { b[9] = 3; return b },
	"unknown cipher":    func(b []byte) []byte { b[11] = 2; return b },
	"cut off":           func(b []byte) []byte { return b[:len(b)-1] },
	"trailing byte":     func(b []byte) []byte { return append(b, 0) },
	"count too small":   func(b []byte) []byte { b[15]--; return b },
	"count too big":     func(b []byte) []byte { b[15]++; return b },
	"count of a liar":   put32(12, math.MaxUint32),
	"empty segment":     put32(firstSeal+129, 0),
	"giant segment":     put32(firstSeal+129, htlcdash.MaxSegmentLength+1),
	"price of a liar":   put32(firstSeal+137, math.MaxUint32),
	"point not a point": func(b []byte) []byte { b[firstSeal+96] = 4; return b },
}

const firstSeal = 16 // offset of the first record

func put32(at int, v uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
}

// group is a list of segments with these lengths, all under one key.
func group(t testing.TB, sizes ...int) (l htlcdash.SealList, sealed [][]byte, key htlcdash.Key) {
	t.Helper()
	var blobs []htlcdash.Blob
	for _, n := range sizes {
		blobs = append(blobs, htlcdash.Blob{Root: htlcdash.RootOf(pattern(n)), Length: int64(n)})
	}
	key = htlcdash.KeyOf(secret[:], blobs...)
	for _, n := range sizes {
		b, s := htlcdash.SealWith(nil, key, pattern(n))
		s.Duration, s.Price = 2*time.Second, 5_000
		l, sealed = append(l, s), append(sealed, b)
	}
	return l, sealed, key
}

func TestOneKeyOpensItsGroup(t *testing.T) {
	sizes := []int{20_000, 1, 16384, 20_001}
	l, sealed, key := group(t, sizes...)
	streams := map[string]bool{}
	for i, s := range l {
		if s.KeyHash != l[0].KeyHash || s.KeyPoint != l[0].KeyPoint {
			t.Errorf("segment %d has a key of its own", i)
		}
		padded := make([]byte, len(sealed[i]))
		copy(padded, pattern(sizes[i]))
		stream := make([]byte, 64)
		subtle.XORBytes(stream, sealed[i][:64], padded[:64])
		if streams[string(stream)] {
			t.Errorf("segment %d shares a key stream", i)
		}
		streams[string(stream)] = true
		plain, err := s.Open(key, sealed[i])
		if err != nil || !bytes.Equal(plain, pattern(sizes[i])) {
			t.Errorf("segment %d: %v", i, err)
		}
	}
	again, err := htlcdash.ParseSealList(l.Encode())
	if err != nil || !reflect.DeepEqual(again, l) {
		t.Errorf("%v", err)
	}
	if total, dearest := l.Sum(); total != 5_000 || dearest != 5_000 {
		t.Errorf("all keys cost %v, the dearest %v; want 5 sat", total, dearest)
	}
}

// A key depends on all segments of its group, their lengths and their order,
// and a group of one has the key of its segment.
func TestKeyOf(t *testing.T) {
	a, b := htlcdash.Blob{Root: htlcdash.Root{1}, Length: 10}, htlcdash.Blob{Root: htlcdash.Root{2}, Length: 20}
	seen := map[[32]byte]string{}
	for name, blobs := range map[string][]htlcdash.Blob{
		"one": {a}, "two": {a, b}, "turned": {b, a}, "twice": {a, a}, "three": {a, b, b},
		"longer": {{Root: a.Root, Length: 11}, b}, "length swapped": {{Root: a.Root, Length: 20}, {Root: b.Root, Length: 10}},
	} {
		h := htlcdash.KeyOf(secret[:], blobs...).Hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%q and %q have one key", name, other)
		}
		seen[h] = name
	}
	_, s, _ := seal(t, 1000)
	if htlcdash.KeyOf(secret[:], htlcdash.Blob{Root: s.Plain, Length: s.Length}).Hash() != s.KeyHash {
		t.Error("a group of one has another key than its segment")
	}
}

// many is a list of n segments under one key, each of a length of time.
func many(n int, d time.Duration) htlcdash.SealList {
	l := manySeals(n)
	for i := range l {
		l[i].KeyHash, l[i].Duration = [32]byte{1}, d
	}
	return l
}

func TestGroupsOfAList(t *testing.T) {
	l := manySeals(9)
	for _, i := range []int{1, 2, 3, 6, 7} {
		l[i].KeyHash = [32]byte{9} // comes back after others
		l[i].Price = 7
	}
	l[4].Price = 4
	if _, err := htlcdash.ParseSealList(l.Encode()); err != nil {
		t.Fatal(err)
	}
	want := []htlcdash.Group{{First: 0, Count: 1}, {First: 1, Count: 3}, {First: 4, Count: 1}, {First: 5, Count: 1}, {First: 6, Count: 2}, {First: 8, Count: 1}}
	if got := slices.Collect(l.Groups()); !slices.Equal(got, want) {
		t.Errorf("groups %v, want %v", got, want)
	}
	if total, dearest := l.Sum(); total != 7+4+7 || dearest != 7 {
		t.Errorf("%v, the dearest %v", total, dearest)
	}
}

func TestBoundsOfAGroup(t *testing.T) {
	change := func(l htlcdash.SealList, f func(l htlcdash.SealList)) htlcdash.SealList { f(l); return l }
	for _, tt := range []struct {
		name string
		list htlcdash.SealList
		want error
	}{
		{"64 segments", many(64, 0), nil},
		{"65 segments", many(65, 0), htlcdash.ErrFormat},
		{"60 seconds", many(60, time.Second), nil},
		{"more than 60 seconds", many(60, 1001*time.Millisecond), htlcdash.ErrFormat},
		{"one of an hour", many(1, time.Hour), nil},
		{"the same again and again", change(many(1000, time.Minute), func(l htlcdash.SealList) {
			for i := range l {
				l[i] = l[0]
			}
		}), nil},
		{"two prices", change(many(3, 0), func(l htlcdash.SealList) { l[1].Price++ }), htlcdash.ErrFormat},
		{"two points", change(many(3, 0), func(l htlcdash.SealList) { l[2].KeyPoint[9]++ }), htlcdash.ErrFormat},
		{"one root, two lengths", change(many(3, 0), func(l htlcdash.SealList) { l[2] = l[0]; l[2].Length++ }), htlcdash.ErrFormat},
		{"one root, two sealed ones", change(many(3, 0), func(l htlcdash.SealList) { l[2] = l[0]; l[2].Sealed[0]++ }), htlcdash.ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := htlcdash.ParseSealList(tt.list.Encode()); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestSegmentsOfAKey(t *testing.T) {
	for _, tt := range []struct {
		seg      htlcdash.Segment
		from, to int
	}{
		{htlcdash.Segment{Index: 7}, 7, 8},
		{htlcdash.Segment{Index: 7, Group: htlcdash.Group{First: 7, Count: 1}}, 7, 8},
		{htlcdash.Segment{Index: 7, Group: htlcdash.Group{First: 4, Count: 5}}, 4, 9},
	} {
		if from, to := tt.seg.Opens(); from != tt.from || to != tt.to {
			t.Errorf("%+v opens %d to %d, want %d to %d", tt.seg, from, to, tt.from, tt.to)
		}
	}
}

func TestParseSealListRefuses(t *testing.T) {
	for name, spoil := range spoiledLists {
		t.Run(name, func(t *testing.T) {
			if _, err := htlcdash.ParseSealList(spoil(sealList(t).Encode())); !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want ErrFormat", err)
			}
		})
	}
}

// The sum of the dearest list there can be does not overflow.
func TestPricesCannotOverflow(t *testing.T) {
	l := htlcdash.SealList{{Length: 1, KeyPoint: [33]byte{2}, Price: htlcdash.MaxPrice}}
	if _, err := htlcdash.ParseSealList(l.Encode()); err != nil {
		t.Fatal(err)
	}
	var sum lightning.Msat
	for range htlcdash.MaxSegments {
		if sum += htlcdash.MaxPrice; sum < 0 {
			t.Fatal("the sum overflows")
		}
	}
}

func FuzzParseSealList(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(htlcdash.SealList{}.Encode())
	f.Add(sealList(f).Encode())
	l, _, _ := group(f, 10, 20, 30)
	f.Add(l.Encode())
	f.Add(many(5, time.Minute).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := htlcdash.ParseSealList(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want ErrFormat", err)
			}
			return
		}
		if !bytes.Equal(l.Encode(), b) {
			t.Error("two encodings of one list")
		}
		next, sum := 0, lightning.Msat(0)
		for g := range l.Groups() {
			if g.First != next || g.Count < 1 {
				t.Errorf("group %v after %d segments", g, next)
			}
			next, sum = g.First+g.Count, sum+l[g.First].Price
		}
		if total, dearest := l.Sum(); next != len(l) || total != sum || dearest > total {
			t.Errorf("%d of %d segments in groups; sum %v, want %v", next, len(l), total, sum)
		}
	})
}

// manySeals is a list of n seals that differ.
func manySeals(n int) htlcdash.SealList {
	l := make(htlcdash.SealList, n)
	for i := range l {
		l[i] = htlcdash.Seal{Plain: htlcdash.Root{byte(i), byte(i >> 8)}, KeyHash: [32]byte{31: byte(i)}, KeyPoint: [33]byte{2}, Length: 1}
	}
	return l
}

// treeHash is the definition in RFC 9162, section 2.1.1, word for word.
func treeHash(entries [][]byte) [32]byte {
	switch n := len(entries); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, entries[0]...))
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1)
		left, right := treeHash(entries[:k]), treeHash(entries[k:])
		return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
	}
}

func TestListRootIsThatOfRFC9162(t *testing.T) {
	for n := range 70 {
		l := manySeals(n)
		b := l.Encode()
		var entries [][]byte
		for i, s := range l {
			entries = append(entries, slices.Concat(b[:16], binary.BigEndian.AppendUint32(nil, uint32(i)), s.Encode()))
		}
		if got, want := l.Root(), treeHash(entries); got != want {
			t.Errorf("root of %d seals is %s, want %x", n, got, want)
		}
	}
}

func TestEachSealIsUnderTheRoot(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 300} {
		l := manySeals(n)
		root := l.Root()
		for i, s := range l {
			path := l.Path(i)
			if err := htlcdash.VerifySeal(root, n, i, s, path); err != nil {
				t.Errorf("%d of %d: %v", i, n, err)
			}
			if len(path) > bits.Len(uint(n-1)) {
				t.Errorf("%d of %d: a path of %d hashes", i, n, len(path))
			}
		}
	}
}

func TestVerifySealRefuses(t *testing.T) {
	l := manySeals(13)
	type claim struct {
		root         htlcdash.ListRoot
		count, index int
		seal         htlcdash.Seal
		path         [][32]byte
	}
	for _, tt := range []struct {
		name  string
		spoil func(c *claim)
		want  error
	}{
		{"another root", func(c *claim) { c.root[0] ^= 1 }, htlcdash.ErrCorrupt},
		{"another price", func(c *claim) { c.seal.Price++ }, htlcdash.ErrCorrupt},
		{"another key", func(c *claim) { c.seal.KeyHash[0] ^= 1 }, htlcdash.ErrCorrupt},
		{"another quality", func(c *claim) { c.seal.Quality++ }, htlcdash.ErrCorrupt},
		{"the seal beside it", func(c *claim) { c.seal = l[c.index^1] }, htlcdash.ErrCorrupt},
		{"another index", func(c *claim) { c.index ^= 1 }, htlcdash.ErrCorrupt},
		{"one count less", func(c *claim) { c.count-- }, htlcdash.ErrCorrupt},
		{"a count of the same shape", func(c *claim) { c.count++ }, htlcdash.ErrCorrupt},
		{"a path too short", func(c *claim) { c.path = c.path[:len(c.path)-1] }, htlcdash.ErrCorrupt},
		{"a path too long", func(c *claim) { c.path = append(c.path, [32]byte{}) }, htlcdash.ErrCorrupt},
		{"no path", func(c *claim) { c.path = nil }, htlcdash.ErrCorrupt},
		{"a path turned around", func(c *claim) { slices.Reverse(c.path) }, htlcdash.ErrCorrupt},
		{"a spoiled path", func(c *claim) { c.path[1][5] ^= 1 }, htlcdash.ErrCorrupt},
		{"index below", func(c *claim) { c.index = -1 }, htlcdash.ErrFormat},
		{"index behind", func(c *claim) { c.index = c.count }, htlcdash.ErrFormat},
		{"no count", func(c *claim) { c.count = 0 }, htlcdash.ErrFormat},
		{"count of a liar", func(c *claim) { c.count = htlcdash.MaxSegments + 1 }, htlcdash.ErrFormat},
		{"a length that wraps", func(c *claim) { c.seal.Length += 1 << 32 }, htlcdash.ErrFormat},
		{"a duration below a millisecond", func(c *claim) { c.seal.Duration++ }, htlcdash.ErrFormat},
		{"a negative price", func(c *claim) { c.seal.Price = -1 }, htlcdash.ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := claim{l.Root(), len(l), 4, l[4], l.Path(4)}
			if err := htlcdash.VerifySeal(c.root, c.count, c.index, c.seal, c.path); err != nil {
				t.Fatal(err)
			}
			tt.spoil(&c)
			if err := htlcdash.VerifySeal(c.root, c.count, c.index, c.seal, c.path); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// The list must be whole, but what its records say is not looked at: the root
// is held against the signed one before anything is parsed.
func TestSealListRootOfForeignBytes(t *testing.T) {
	good := manySeals(3)
	b := good.Encode()
	if r, err := htlcdash.SealListRoot(b); err != nil || r != good.Root() {
		t.Errorf("%s, %v", r, err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "cut off": b[:len(b)-1], "longer": append(slices.Clone(b), 0), "half a header": b[:15]} {
		if _, err := htlcdash.SealListRoot(b); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
	for at := range b {
		spoiled := slices.Clone(b)
		spoiled[at] ^= 1
		if r, err := htlcdash.SealListRoot(spoiled); err == nil && r == good.Root() {
			t.Errorf("byte %d is not under the root", at)
		}
	}
}

func FuzzVerifySeal(f *testing.F) {
	l := manySeals(6)
	root := l.Root()
	flat := func(path [][32]byte) (b []byte) {
		for _, h := range path {
			b = append(b, h[:]...)
		}
		return b
	}
	for i, s := range l {
		f.Add(i, s.Encode(), flat(l.Path(i)))
	}
	f.Add(5, l[4].Encode(), []byte(nil))
	f.Fuzz(func(t *testing.T, index int, record, hashes []byte) {
		s, err := htlcdash.ParseSeal(record)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want ErrFormat", err)
			}
			return
		}
		if !bytes.Equal(s.Encode(), record) {
			t.Error("two encodings of one seal")
		}
		var path [][32]byte
		for ; len(hashes) >= 32; hashes = hashes[32:] {
			path = append(path, [32]byte(hashes))
		}
		if htlcdash.VerifySeal(root, len(l), index, s, path) == nil && s != l[index] {
			t.Error("a seal that is not in the list is under its root")
		}
	})
}

// A viewer does it once for each Representation that it opens: 131,072 records
// are 72 hours.
func BenchmarkListRoot(b *testing.B) {
	for _, n := range []int{1 << 11, 1 << 17} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			wire := manySeals(n).Encode()
			b.SetBytes(int64(len(wire)))
			for b.Loop() {
				if _, err := htlcdash.SealListRoot(wire); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
