package htlcdash_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash"
	"htlcdash/lightning"
)

// pattern is n bytes that repeat every 251, so that no two leaves are alike.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func seal(t testing.TB, n int) (sealed []byte, s htlcdash.Seal, key htlcdash.Key) {
	t.Helper()
	return htlcdash.SealSegment(secret[:], pattern(n))
}

func TestSealThenOpen(t *testing.T) {
	for name, n := range rootSizes {
		t.Run(name, func(t *testing.T) {
			plain := pattern(n)
			sealed, s, key := htlcdash.SealSegment(secret[:], plain)
			if !bytes.Equal(plain, pattern(n)) {
				t.Error("sealing changed the segment")
			}
			if len(sealed)%htlcdash.LeafSize != 0 || !s.SealedBlob().Is(sealed) {
				t.Errorf("%d sealed bytes are not the blob %+v", len(sealed), s.SealedBlob())
			}
			if n > 16 && bytes.Contains(sealed, plain[:16]) {
				t.Error("the sealed bytes show the segment")
			}
			got, err := s.Open(key, sealed)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("opened %d of %d bytes: %v", len(got), n, err)
			}
		})
	}
}

func TestSealsAreDeterministic(t *testing.T) {
	a, sealA, _ := seal(t, 70_000)
	b, sealB, _ := seal(t, 70_000)
	if !bytes.Equal(a, b) || sealA != sealB {
		t.Error("the same segment was sealed in two ways")
	}
	_, other, _ := htlcdash.SealSegment([]byte("another secret"), pattern(70_000))
	if other.KeyHash == sealA.KeyHash || other.Sealed == sealA.Sealed {
		t.Error("two publishers share a content key")
	}
}

// A buffer that was used before leaves no trace, neither in the segment nor in
// the padding.
func TestSealToUsedBuffer(t *testing.T) {
	want, sealWant, _ := seal(t, 20_000)
	used := bytes.Repeat([]byte{0xaa}, 100_000)
	got, sealGot, _ := htlcdash.SealTo(used, secret[:], pattern(20_000))
	if !bytes.Equal(got, want) || sealGot != sealWant {
		t.Error("a used buffer changes the sealed bytes")
	}
	if &got[0] != &used[0] {
		t.Error("the buffer was not used")
	}
}

// A prefix has other bytes and thus another key: no keystream is used twice.
func TestNoTwoSegmentsShareAKey(t *testing.T) {
	seen := map[[32]byte]int{}
	for _, n := range []int{1, 2, 100, 16383, 16384, 16385} {
		_, s, _ := seal(t, n)
		if m, ok := seen[s.KeyHash]; ok {
			t.Errorf("segments of %d and %d bytes share a key", m, n)
		}
		seen[s.KeyHash] = n
	}
}

func TestKeyPointIsTheKeyOnTheCurve(t *testing.T) {
	_, s, key := seal(t, 1000)
	a := key.Reveal()
	var scalar btcec.ModNScalar
	if scalar.SetBytes(&a) != 0 {
		t.Fatal("the key is not below the order of the curve")
	}
	point, err := btcec.ParsePubKey(s.KeyPoint[:])
	if err != nil {
		t.Fatal(err)
	}
	private, public := btcec.PrivKeyFromBytes(a[:])
	if !public.IsEqual(point) || private.Key != scalar {
		t.Error("the key point is not a*G")
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]func(s *htlcdash.Seal, key *htlcdash.Key, sealed *[]byte){
		"another key": func(_ *htlcdash.Seal, key *htlcdash.Key, _ *[]byte) { *key = htlcdash.NewKey([32]byte{1}) },
		"no key":      func(_ *htlcdash.Seal, key *htlcdash.Key, _ *[]byte) { *key = htlcdash.Key{} },
		"a flipped bit": func(_ *htlcdash.Seal, _ *htlcdash.Key, sealed *[]byte) {
			(*sealed)[17] ^= 4
		},
		"cut off":  func(_ *htlcdash.Seal, _ *htlcdash.Key, sealed *[]byte) { *sealed = (*sealed)[:len(*sealed)-1] },
		"nothing":  func(_ *htlcdash.Seal, _ *htlcdash.Key, sealed *[]byte) { *sealed = nil },
		"too long": func(_ *htlcdash.Seal, _ *htlcdash.Key, sealed *[]byte) { *sealed = append(*sealed, 0) },
		"a publisher who sealed something else": func(s *htlcdash.Seal, _ *htlcdash.Key, _ *[]byte) {
			s.Plain[0] ^= 1
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			sealed, s, key := seal(t, 20_000)
			spoil(&s, &key, &sealed)
			if _, err := s.Open(key, sealed); !errors.Is(err, htlcdash.ErrCorrupt) {
				t.Errorf("%v, want ErrCorrupt", err)
			}
		})
	}
}

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
	"later version":     func(b []byte) []byte { b[9] = 2; return b },
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
	})
}

// BenchmarkSealSegment is seal and hash of one segment on one core, what
// publishing costs besides the encoder.
func BenchmarkSealSegment(b *testing.B) {
	plain := pattern(1 << 20)
	var buf []byte
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		buf, _, _ = htlcdash.SealTo(buf, secret[:], plain)
	}
}

func BenchmarkSealSegmentParallel(b *testing.B) {
	plain := pattern(1 << 20)
	b.SetBytes(int64(len(plain)))
	b.RunParallel(func(pb *testing.PB) {
		var buf []byte
		for pb.Next() {
			buf, _, _ = htlcdash.SealTo(buf, secret[:], plain)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	sealed, s, key := seal(b, 1<<20)
	again := make([]byte, len(sealed))
	b.SetBytes(int64(len(sealed)))
	for b.Loop() {
		copy(again, sealed)
		if _, err := s.Open(key, again); err != nil {
			b.Fatal(err)
		}
	}
}
