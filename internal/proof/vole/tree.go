package vole

import (
	"crypto/sha256"
	"encoding/binary"
)

// A tree is the punctured pseudorandom function of Goldreich, Goldwasser and
// Micali. Each node is the key of a stream, AES-128 in counter mode. The first
// two blocks of the stream of an inner node are its children; node 1 is the
// root, node n has the children 2n and 2n+1, and the 2^k leaves are the nodes
// from 2^k on. The first two blocks of the stream of a leaf commit to it, and
// the rest goes into the VOLE (spec/06, section 4).
type tree struct {
	k     int
	index int // among the trees of the proof
	salt  [16]byte
	nodes []byte // 16 for each, node 0 unused
	com   []byte // comLen for each leaf

	// counters are the counter blocks of the VOLE's part of a stream, without
	// what the node adds.
	counters []byte
}

const (
	nodeLen  = 16
	comLen   = 2 * nodeLen
	maxDepth = 10 // of k
	slack    = 8  // nodes that a kernel may read or write beyond those that it is given
)

func newTree(k, stride int) tree {
	return tree{
		k:        k,
		nodes:    make([]byte, nodeLen*(2<<k+2*slack)),
		com:      make([]byte, comLen*(1<<k)),
		counters: make([]byte, stride),
	}
}

// setSalt makes t a tree of another proof.
func (t *tree) setSalt(salt [16]byte) {
	t.salt = salt
	clear(t.salt[12:])
	for i := 0; i < len(t.counters); i += 16 {
		copy(t.counters[i:], t.salt[:])
		binary.BigEndian.PutUint32(t.counters[i+12:], uint32(i+comLen)/16)
	}
}

func (t *tree) node(n int) []byte { return t.nodes[nodeLen*n : nodeLen*(n+1)] }

// tweak is what a node adds to the third word of its counter blocks, so that
// no two nodes of a proof, and by the salt no two proofs, share a block: a guess
// at a key can be right for one node only.
func (t *tree) tweak(node int) uint32 { return uint32(t.index)<<16 ^ uint32(node) }

// counter is the first counter block of a node. Its last four bytes count.
func (t *tree) counter(node int) [16]byte {
	b := t.salt
	binary.BigEndian.PutUint32(b[8:], binary.BigEndian.Uint32(b[8:])^t.tweak(node))
	return b
}

// grow makes all leaves from the root and commits to them.
func (t *tree) grow(kr kernel, root []byte) {
	copy(t.node(1), root)
	for level := range t.k {
		kr.firstBlocks(t, t.nodes[nodeLen*(2<<level):], 1<<level, 1<<level)
	}
	kr.firstBlocks(t, t.com, 1<<t.k, 1<<t.k)
}

// regrow makes all leaves but the hidden one, from the siblings along its path
// and its commitment. On the path are zeros, and below them nonsense.
func (t *tree) regrow(kr kernel, hidden int, opening []byte) {
	clear(t.node(1))
	for level := range t.k {
		kr.firstBlocks(t, t.nodes[nodeLen*(2<<level):], 1<<level, 1<<level)
		up := t.k - level - 1
		on := (1<<t.k + hidden) >> up
		clear(t.node(on))
		copy(t.node(on^1), opening[nodeLen*up:])
	}
	kr.firstBlocks(t, t.com, 1<<t.k, 1<<t.k)
	copy(t.com[comLen*hidden:], opening[nodeLen*t.k:])
}

// openingLen is the length of what shows all leaves of a tree but one.
func openingLen(k int) int { return nodeLen*k + comLen }

// open writes the siblings along the path of the hidden leaf, its own first, and
// its commitment. It makes nothing of the tree but the path.
func (t *tree) open(kr kernel, root []byte, hidden int, opening []byte) {
	copy(t.node(1), root)
	leaf := 1<<t.k + hidden
	for up := t.k - 1; up >= 0; up-- {
		on := leaf >> up
		kr.firstBlocks(t, t.nodes[nodeLen*(on&^1):], on/2, 1)
		copy(opening[nodeLen*up:], t.node(on^1))
	}
	var blocks [comLen * slack]byte
	kr.firstBlocks(t, blocks[:], leaf, 1)
	copy(opening[nodeLen*t.k:], blocks[:comLen])
}

// root commits to all leaves at once.
func (t *tree) root() [32]byte { return sha256.Sum256(t.com) }

// A share is what one tree adds to the VOLE: columns[b] is the sum of the
// streams of the leaves whose number has bit b set, sum that of all.
type share struct {
	columns [][]byte
	sum     []byte
	scratch []byte // 2k streams
}

// fold makes the share of the leaves. They are taken in the order number xor
// hidden: so the hidden leaf comes first, is in no column, and the columns are
// those of the prover plus, where hidden has a bit set, the sum.
func (t *tree) fold(kr kernel, sh *share, hidden int) {
	for _, c := range sh.columns {
		clear(c)
	}
	t.foldNode(kr, sh, hidden, t.k, 0, sh.sum)
}

// foldNode folds 2^height leaves, from number first on, into the columns and
// their sum into dst. It goes by fours: most of the work stays in the nearest
// cache.
func (t *tree) foldNode(kr kernel, sh *share, hidden, height, first int, dst []byte) {
	low, high := sh.columns[height-2], sh.columns[height-1]
	if height == 2 {
		var leaves [4]int
		for i := range leaves {
			leaves[i] = 1<<t.k + (first + i) ^ hidden
		}
		kr.expand4(t, leaves, dst, low, high)
		return
	}
	var parts [4][]byte
	for i := range parts {
		parts[i] = sh.scratch[(2*height-8+i)*len(dst):][:len(dst)]
		t.foldNode(kr, sh, hidden, height-2, first+i<<(height-2), parts[i])
	}
	kr.fold4(parts, dst, low, high)
}
