package htlcdash

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/bits"
)

// LeafSize is the size of a leaf of the Merkle tree in bytes, as in BEP 52.
const LeafSize = 16 << 10

// Root is the "pieces root" of BEP 52: the root of a binary SHA-256 tree over
// leaves of 16 KiB, padded to a power of two with zero hashes. It does not bind
// the length, so a [Blob] carries both.
type Root [32]byte

func (r Root) String() string { return hex.EncodeToString(r[:]) }

// MarshalText gives the hexadecimal form.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (r *Root) UnmarshalText(b []byte) error { return decodeHex(r[:], string(b), "root") }

// ParseRoot reads 64 hexadecimal digits.
func ParseRoot(s string) (r Root, err error) {
	return r, decodeHex(r[:], s, "root")
}

// SealedFolder is where sealed bytes lie in a title's folder, a cache, or a store.
const SealedFolder = "sealed"

// SealedPath is where the sealed bytes with root q lie below a folder or a URL,
// with slashes: "sealed/ab/ab12..." (spec/02-title.md).
func SealedPath(q Root) string {
	name := q.String()
	return SealedFolder + "/" + name[:2] + "/" + name
}

// RootOf returns the root of data. Empty data has the zero root.
func RootOf(data []byte) Root {
	if len(data) == 0 {
		return Root{}
	}
	layer := make([]Root, 0, (len(data)+LeafSize-1)/LeafSize)
	for len(data) > 0 {
		n := min(LeafSize, len(data))
		layer = append(layer, sha256.Sum256(data[:n]))
		data = data[n:]
	}
	return fold(layer)
}

// HashLeaves returns the hashes of the leaves of what r gives until io.EOF, and
// how many bytes that is. [FoldLayer] makes the root of them.
func HashLeaves(r io.Reader) (leaves []Root, length int64, err error) {
	buf := make([]byte, LeafSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			leaves, length = append(leaves, sha256.Sum256(buf[:n])), length+int64(n)
		}
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return leaves, length, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
}

// Is reports whether data is the blob b.
func (b Blob) Is(data []byte) bool {
	return int64(len(data)) == b.Length && RootOf(data) == b.Root
}

// FoldLayer returns the root of the tree over layer, a row of nodes each of
// which stands for leaves leaves, a power of two (BEP 52, "piece layers"). The
// row is padded to width nodes, or to the next power of two if that is more.
// An empty layer has the root of empty leaves.
func FoldLayer(layer []Root, leaves, width int) Root {
	var pad Root // of an empty subtree as high as a node
	for range bits.Len(uint(leaves)) - 1 {
		pad = parent(pad, pad)
	}
	for len(layer) > 1 || width > 1 {
		next := make([]Root, 0, (len(layer)+1)/2)
		for i := 0; i < len(layer); i += 2 {
			right := pad
			if i+1 < len(layer) {
				right = layer[i+1]
			}
			next = append(next, parent(layer[i], right))
		}
		layer, pad, width = next, parent(pad, pad), width/2
	}
	if len(layer) == 0 {
		return pad
	}
	return layer[0]
}

// fold pads layer with zero hashes to a power of two and folds it.
func fold(layer []Root) Root { return FoldLayer(layer, 1, 1) }

func parent(left, right Root) Root {
	var pair [64]byte
	copy(pair[:32], left[:])
	copy(pair[32:], right[:])
	return sha256.Sum256(pair[:])
}
