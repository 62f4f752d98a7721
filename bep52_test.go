package htlcdash_test

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"testing/iotest"

	"htlcdash"
)

// reference is BEP 52's words turned into recursion: the leaves are padded with
// zero hashes to a power of two, a node hashes its two children.
func reference(data []byte) htlcdash.Root {
	leaves := 1
	for leaves*htlcdash.LeafSize < len(data) {
		leaves *= 2
	}
	var node func(first, n int) [32]byte
	node = func(first, n int) [32]byte {
		if n == 1 {
			from := first * htlcdash.LeafSize
			if from >= len(data) {
				return [32]byte{}
			}
			return sha256.Sum256(data[from:min(from+htlcdash.LeafSize, len(data))])
		}
		l, r := node(first, n/2), node(first+n/2, n/2)
		return sha256.Sum256(append(l[:], r[:]...))
	}
	return node(0, leaves)
}

// rootSizes stand on both sides of each edge of the tree.
var rootSizes = map[string]int{
	"one byte":                  1,
	"leaf less one":             htlcdash.LeafSize - 1,
	"leaf":                      htlcdash.LeafSize,
	"leaf and one":              htlcdash.LeafSize + 1,
	"two leaves":                2 * htlcdash.LeafSize,
	"two leaves and one":        2*htlcdash.LeafSize + 1,
	"three leaves":              3 * htlcdash.LeafSize,
	"four leaves":               4 * htlcdash.LeafSize,
	"five leaves, three padded": 4*htlcdash.LeafSize + 5,
	"one MiB":                   1 << 20,
	"one MiB and one":           1<<20 + 1,
}

func TestRootOfFollowsBEP52(t *testing.T) {
	for name, n := range rootSizes {
		t.Run(name, func(t *testing.T) {
			data := pattern(n)
			if got, want := htlcdash.RootOf(data), reference(data); got != want {
				t.Errorf("root of %d bytes is %s, want %s", n, got, want)
			}
		})
	}
}

func TestRootOfNothingIsZero(t *testing.T) {
	if r := htlcdash.RootOf(nil); r != (htlcdash.Root{}) {
		t.Errorf("root of nothing is %s", r)
	}
}

// The root alone does not bind the length: an inner node of 64 bytes is a leaf
// of 64 bytes as well. The length beside it does.
func TestBlobBindsTheLength(t *testing.T) {
	data := pattern(2 * htlcdash.LeafSize)
	l, r := sha256.Sum256(data[:htlcdash.LeafSize]), sha256.Sum256(data[htlcdash.LeafSize:])
	inner := append(l[:], r[:]...)
	blob := htlcdash.Blob{Root: htlcdash.RootOf(data), Length: int64(len(data))}
	if htlcdash.RootOf(inner) != blob.Root {
		t.Fatal("the example is wrong")
	}
	if blob.Is(inner) {
		t.Error("an inner node passes for the blob")
	}
	if !blob.Is(data) {
		t.Error("the blob is not itself")
	}
	data[len(data)-1] ^= 1
	if blob.Is(data) {
		t.Error("a changed byte passes")
	}
}

func BenchmarkRootOf(b *testing.B) {
	data := pattern(1 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		htlcdash.RootOf(data)
	}
}

// BenchmarkPlainSHA256 is the line that BenchmarkRootOf cannot pass.
func BenchmarkPlainSHA256(b *testing.B) {
	data := pattern(1 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sha256.Sum256(data)
	}
}

// The root is the same whichever row of the tree it is folded from.
func TestFoldLayer(t *testing.T) {
	for _, leaves := range []int{1, 2, 3, 5, 8, 13, 16, 17, 40} {
		data := make([]byte, leaves*htlcdash.LeafSize-5)
		for i := range data {
			data[i] = byte(i * i >> 7)
		}
		row, length, err := htlcdash.HashLeaves(iotest.HalfReader(bytes.NewReader(data)))
		if err != nil || length != int64(len(data)) {
			t.Fatalf("%d bytes, %v", length, err)
		}
		want := htlcdash.RootOf(data)
		for size := 1; size < 2*leaves; size *= 2 {
			var layer []htlcdash.Root
			for i := 0; i < len(row); i += size {
				layer = append(layer, htlcdash.FoldLayer(row[i:min(len(row), i+size)], 1, size))
			}
			if got := htlcdash.FoldLayer(layer, size, 1); got != want {
				t.Errorf("%d leaves, folded from nodes of %d: %v, want %v", leaves, size, got, want)
			}
		}
	}
	if got, want := htlcdash.FoldLayer(nil, 1, 2), htlcdash.FoldLayer(make([]htlcdash.Root, 2), 1, 1); got != want {
		t.Errorf("empty subtree: %v, want %v", got, want)
	}
}
