package htlcdash

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"time"

	"htlcdash/lightning"
)

// A SealList is the seals of one Representation in presentation order.
type SealList []Seal

// The seal list on the wire, spec/01-seal.md: a header of 16 bytes, then
// records of 147 bytes, all integers big-endian.
const (
	sealListMagic   = "htlcseal"
	sealListVersion = 2
	sealListCipher  = 1 // AES-256-CTR
	sealListHeader  = 16
	sealRecord      = 32 + 32 + 32 + 33 + 4 + 4 + 8 + 2
)

// SealListLength is the length in bytes of a list of n seals.
func SealListLength(n int) int64 { return sealListHeader + int64(n)*sealRecord }

// Encode gives the wire form of l.
func (l SealList) Encode() []byte {
	b := append(make([]byte, 0, SealListLength(len(l))), listHeader(len(l))...)
	for _, s := range l {
		b = s.append(b)
	}
	return b
}

// listHeader is the header of a list of n seals.
func listHeader(n int) []byte {
	b := append(make([]byte, 0, sealListHeader), sealListMagic...)
	b = binary.BigEndian.AppendUint16(b, sealListVersion)
	b = binary.BigEndian.AppendUint16(b, sealListCipher)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// Encode gives the wire form of s, a record of the seal list.
func (s Seal) Encode() []byte { return s.append(make([]byte, 0, sealRecord)) }

func (s Seal) append(b []byte) []byte {
	b = append(b, s.Plain[:]...)
	b = append(b, s.Sealed[:]...)
	b = append(b, s.KeyHash[:]...)
	b = append(b, s.KeyPoint[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(s.Length))
	b = binary.BigEndian.AppendUint32(b, uint32(s.Duration.Milliseconds()))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Price))
	return binary.BigEndian.AppendUint16(b, uint16(s.Quality))
}

// ParseSealList reads what Encode gives, and nothing else: the error matches
// [ErrFormat].
func ParseSealList(b []byte) (SealList, error) {
	if len(b) < sealListHeader || !bytes.HasPrefix(b, []byte(sealListMagic)) {
		return nil, fmt.Errorf("seal list: no header: %w", ErrFormat)
	}
	version, cipher := binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b[10:])
	if version != sealListVersion || cipher != sealListCipher {
		return nil, fmt.Errorf("seal list: version %d, cipher %d: this program knows %d and %d: %w",
			version, cipher, sealListVersion, sealListCipher, ErrFormat)
	}
	n, err := countRecords(b)
	if err != nil {
		return nil, err
	}
	l := make(SealList, n)
	for i := range l {
		if l[i], err = ParseSeal(b[SealListLength(i):SealListLength(i+1)]); err != nil {
			return nil, fmt.Errorf("seal list: segment %d: %w", i, err)
		}
	}
	for g := range l.Groups() {
		if err := l.check(g); err != nil {
			return nil, fmt.Errorf("seal list: group of %d from segment %d: %w", g.Count, g.First, err)
		}
	}
	return l, nil
}

// A Group is consecutive segments of one Representation that one key opens. It
// is paid for once. The zero value is none.
type Group struct {
	First int // index of a segment
	Count int
}

// Groups gives the groups of l in order: each as many records as follow each
// other with one KeyHash, most of them a single one. A key that comes back
// later in the list makes another group, which costs nothing to those who have
// it.
func (l SealList) Groups() iter.Seq[Group] {
	return func(yield func(Group) bool) {
		for first, next := 0, 0; first < len(l); first = next {
			for next = first + 1; next < len(l) && l[next].KeyHash == l[first].KeyHash; {
				next++
			}
			if !yield(Group{first, next - first}) {
				return
			}
		}
	}
}

// check says whether a group keeps its bounds. The loss of who plays only one
// segment of it is bounded by them.
func (l SealList) check(g Group) error {
	if g.Count == 1 {
		return nil
	}
	first := l[g.First]
	distinct := map[Root]Seal{} // a repeated segment is sold once
	var length time.Duration
	for _, s := range l[g.First:][:g.Count] {
		if s.KeyPoint != first.KeyPoint || s.Price != first.Price {
			return fmt.Errorf("one key with two points or prices: %w", ErrFormat)
		}
		twin, again := distinct[s.Plain]
		if again && (twin.Sealed != s.Sealed || twin.Length != s.Length) {
			return fmt.Errorf("one key stream for two segments: %w", ErrFormat)
		}
		if !again {
			distinct[s.Plain] = s
			length += s.Duration
		}
		if len(distinct) > MaxGroup {
			return fmt.Errorf("one key for more than %d segments: %w", MaxGroup, ErrFormat)
		}
	}
	if len(distinct) > 1 && length > MaxGroupTime {
		return fmt.Errorf("one key for %v of media, more than %v: %w", length, MaxGroupTime, ErrFormat)
	}
	return nil
}

// Sum returns what all keys of l cost together, each group once, and the
// dearest. It cannot overflow if l was parsed.
func (l SealList) Sum() (total, dearest lightning.Msat) {
	for g := range l.Groups() {
		price := l[g.First].Price
		total += price
		dearest = max(dearest, price)
	}
	return total, dearest
}

// countRecords returns the count in the header of a list, if as many records
// follow it.
func countRecords(b []byte) (int, error) {
	if len(b) < sealListHeader {
		return 0, fmt.Errorf("seal list: no header: %w", ErrFormat)
	}
	n := binary.BigEndian.Uint32(b[12:])
	if n > MaxSegments || int64(len(b)) != SealListLength(int(n)) {
		return 0, fmt.Errorf("seal list: %d bytes for %d segments: %w", len(b), n, ErrFormat)
	}
	return int(n), nil
}

// ParseSeal reads what [Seal.Encode] gives, and nothing else: the error matches
// [ErrFormat].
func ParseSeal(b []byte) (s Seal, err error) {
	if len(b) != sealRecord {
		return s, fmt.Errorf("seal of %d bytes, want %d: %w", len(b), sealRecord, ErrFormat)
	}
	b = b[copy(s.Plain[:], b):]
	b = b[copy(s.Sealed[:], b):]
	b = b[copy(s.KeyHash[:], b):]
	b = b[copy(s.KeyPoint[:], b):]
	length, price := binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[8:])
	s.Length = int64(length)
	s.Duration = time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Millisecond
	s.Quality = Decibel(binary.BigEndian.Uint16(b[16:]))
	if length == 0 || length > MaxSegmentLength {
		return s, fmt.Errorf("length of %d bytes: %w", length, ErrFormat)
	}
	if price > uint64(MaxPrice) {
		return s, fmt.Errorf("price of %d msat: %w", price, ErrFormat)
	}
	s.Price = lightning.Msat(price)
	if s.KeyPoint[0] != 2 && s.KeyPoint[0] != 3 {
		return s, fmt.Errorf("key point is not compressed: %w", ErrFormat)
	}
	return s, nil
}

// A ListRoot commits to a seal list: it is what a publisher signs of one. Each
// record can be shown to be in it without the others, see [VerifySeal].
//
// It is the Merkle tree hash of RFC 9162, section 2.1, over entries that are
// the list's header, the index of a record as 32 bits, and the record. So it
// binds version, cipher and count, and where in the list a record stands. The
// domain is the header's magic; leaves and nodes are told apart by their first
// byte, other than in the tree of BEP 52.
type ListRoot [32]byte

func (r ListRoot) String() string { return hex.EncodeToString(r[:]) }

// MarshalText gives the hexadecimal form.
func (r ListRoot) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// First bytes of what is hashed, RFC 9162, section 2.1.1.
const (
	treeLeaf = 0
	treeNode = 1
)

// Root returns the root of l. Without seals it is that of an empty tree.
func (l SealList) Root() ListRoot {
	r, err := SealListRoot(l.Encode())
	if err != nil {
		panic("htlcdash: a seal list of more than MaxSegments: " + err.Error())
	}
	return r
}

// SealListRoot is [SealList.Root] of the list whose wire form is b, whatever
// stands in its records. The error matches [ErrFormat] if b is not a header
// and as many records as that says.
func SealListRoot(b []byte) (ListRoot, error) {
	layer, err := leavesOf(b)
	if err != nil {
		return ListRoot{}, err
	}
	if len(layer) == 0 {
		return sha256.Sum256(nil), nil
	}
	for len(layer) > 1 {
		layer = nextLayer(layer)
	}
	return layer[0], nil
}

// Path returns what shows that l[i] is record i of l to one who knows only the
// root: one hash for each layer of the tree where the way up has a sibling, at
// most 17.
func (l SealList) Path(i int) [][32]byte {
	layer, err := leavesOf(l.Encode())
	if err != nil || i < 0 || i >= len(l) {
		panic(fmt.Sprintf("htlcdash: no path of record %d of %d", i, len(l)))
	}
	var path [][32]byte
	for ; len(layer) > 1; i /= 2 {
		if sibling := i ^ 1; sibling < len(layer) {
			path = append(path, layer[sibling])
		}
		layer = nextLayer(layer)
	}
	return path
}

// VerifySeal reports, by an error that matches [ErrCorrupt], that s is not
// record index of the list of count seals with that root. The path is what
// [SealList.Path] gives, no longer and no shorter. A seal that no list can hold
// is refused with [ErrFormat].
func VerifySeal(root ListRoot, count, index int, s Seal, path [][32]byte) error {
	record := s.Encode()
	if again, err := ParseSeal(record); err != nil || again != s {
		return fmt.Errorf("seal: not in the bounds of its record: %w", ErrFormat)
	}
	if count < 1 || count > MaxSegments || index < 0 || index >= count {
		return fmt.Errorf("seal %d of %d: %w", index, count, ErrFormat)
	}
	node := leafOf(listHeader(count), index, record)
	for i, width := index, count; width > 1; i, width = i/2, (width+1)/2 {
		sibling := i ^ 1
		if sibling >= width {
			continue // the last of an odd row moves up as it is
		}
		if len(path) == 0 {
			return fmt.Errorf("seal %d of %d: its path is too short: %w", index, count, ErrCorrupt)
		}
		if sibling > i {
			node = nodeOf(node, path[0])
		} else {
			node = nodeOf(path[0], node)
		}
		path = path[1:]
	}
	if len(path) > 0 || node != root {
		return fmt.Errorf("seal %d of %d is not under the root %s: %w", index, count, root, ErrCorrupt)
	}
	return nil
}

// leavesOf returns the lowest layer of the tree over the list b.
func leavesOf(b []byte) ([][32]byte, error) {
	n, err := countRecords(b)
	if err != nil {
		return nil, err
	}
	layer := make([][32]byte, n)
	for i := range layer {
		layer[i] = leafOf(b[:sealListHeader], i, b[SealListLength(i):SealListLength(i+1)])
	}
	return layer, nil
}

func leafOf(header []byte, index int, record []byte) [32]byte {
	var entry [1 + sealListHeader + 4 + sealRecord]byte
	b := append(append(entry[:0], treeLeaf), header...)
	b = binary.BigEndian.AppendUint32(b, uint32(index))
	return sha256.Sum256(append(b, record...))
}

func nodeOf(left, right [32]byte) [32]byte {
	var pair [65]byte
	pair[0] = treeNode
	copy(pair[1:], left[:])
	copy(pair[33:], right[:])
	return sha256.Sum256(pair[:])
}

// nextLayer folds a layer in place. The tree of RFC 9162 splits at the largest
// power of two, which is to pair from the left and to leave an odd one over.
func nextLayer(layer [][32]byte) [][32]byte {
	n := len(layer)
	for i := range n / 2 {
		layer[i] = nodeOf(layer[2*i], layer[2*i+1])
	}
	if n%2 == 1 {
		layer[n/2] = layer[n-1]
	}
	return layer[:(n+1)/2]
}
