package htlcdash_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash"
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
