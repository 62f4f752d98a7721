package vole

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
)

// A seed is a node of a tree and the key of its stream: AES-128 in counter mode.
type seed [16]byte

// A tree is the punctured pseudorandom function of Goldreich, Goldwasser and
// Micali: the first two blocks of a node's stream are its children, node 1 is
// the root, node n has the children 2n and 2n+1, and the 2^k leaves are the
// nodes from 2^k on. The first two blocks of a leaf's stream commit to it, the
// rest is its share of the VOLE (spec/06, section 4).
type tree struct {
	index int // among the trees of the proof
	k     int
	salt  [16]byte
	nodes []seed // 2^(k+1), node 0 unused
	com   []byte // 32 bytes a leaf
}

// counter is the initial counter block of a node: no two nodes of a proof, and
// by the salt no two proofs, share one, so that a guess at a key can be right
// for one node only. Its last four bytes count.
func (t *tree) counter(node int) (b [16]byte) {
	b = t.salt
	binary.BigEndian.PutUint32(b[8:], binary.BigEndian.Uint32(b[8:])^uint32(t.index)<<16^uint32(node))
	clear(b[12:])
	return b
}

// grow makes all leaves from the root, or, if hidden is at least 0, all but the
// leaf hidden from the siblings along its path, the leaf's own first. What is
// on the path is 0, and what grows from it without meaning.
func (t *tree) grow(kr kernel, hidden int, path []byte) {
	if hidden >= 0 {
		t.nodes[1] = seed{}
	}
	for level := range t.k {
		kr.double(t, 1<<level)
		if hidden >= 0 {
			on := (1<<t.k + hidden) >> (t.k - level - 1)
			t.nodes[on] = seed{}
			copy(t.nodes[on^1][:], path[16*(t.k-level-1):])
		}
	}
	kr.commit(t)
}

// open appends what shows all leaves but the hidden one: the siblings along its
// path and its commitment.
func (t *tree) open(dst []byte, hidden int) []byte {
	for n := 1<<t.k + hidden; n > 1; n /= 2 {
		dst = append(dst, t.nodes[n^1][:]...)
	}
	return append(dst, t.com[32*hidden:32*hidden+32]...)
}

// A share is what one tree adds to the VOLE: columns[b] is the sum of the
// streams of the leaves whose number has bit b set, sum that of all.
type share struct {
	columns [][]byte
	sum     []byte
	scratch []byte // 2k streams
}

// fold makes the share from the leaves. They are taken in the order number xor
// hidden, so that the hidden leaf comes first and is in no column, and so that
// columns are those that the prover has, plus sum where hidden has a bit set.
func (t *tree) fold(kr kernel, sh *share, hidden int) {
	for _, c := range sh.columns {
		clear(c)
	}
	t.foldNode(kr, sh, hidden, t.k, 0, sh.sum)
}

// foldNode folds the 2^height leaves from number first on into the columns and
// their sum into dst. It goes by fours, since then most of the work stays in
// the nearest cache.
func (t *tree) foldNode(kr kernel, sh *share, hidden, height, first int, dst []byte) {
	low, high := sh.columns[height-2], sh.columns[height-1]
	if height == 2 {
		var leaves [4]int
		for i := range leaves {
			leaves[i] = 1<<t.k + (first + i) ^ hidden
		}
		kr.expand4(t, &leaves, dst, low, high)
		return
	}
	var parts [4][]byte
	for i := range parts {
		parts[i] = sh.scratch[(2*height-8+i)*len(dst):][:len(dst)]
		t.foldNode(kr, sh, hidden, height-2, first+i<<(height-2), parts[i])
	}
	kr.fold4(&parts, dst, low, high)
}

// A kernel is the part of the work that has a faster twin in assembly. Both
// give the same bytes.
type kernel interface {
	// double makes the children of the width nodes from node width on.
	double(t *tree, width int)

	// commit makes the commitments to all leaves.
	commit(t *tree)

	// expand4 sets sum to the sum of the streams of four leaves, and adds those
	// of the second and the fourth to low, of the third and the fourth to high.
	expand4(t *tree, leaves *[4]int, sum, low, high []byte)

	// fold4 does the same with streams that were expanded before.
	fold4(parts *[4][]byte, sum, low, high []byte)
}

// portable is the kernel in Go alone.
type portable struct{}

func (t *tree) stream(node int) cipher.Stream {
	b, err := aes.NewCipher(t.nodes[node][:])
	if err != nil {
		panic("vole: " + err.Error())
	}
	iv := t.counter(node)
	return cipher.NewCTR(b, iv[:])
}

func (portable) double(t *tree, width int) {
	for n := width; n < 2*width; n++ {
		var two [32]byte
		t.stream(n).XORKeyStream(two[:], two[:])
		copy(t.nodes[2*n][:], two[:16])
		copy(t.nodes[2*n+1][:], two[16:])
	}
}

func (portable) commit(t *tree) {
	clear(t.com)
	for i := range 1 << t.k {
		c := t.com[32*i:][:32]
		t.stream(1<<t.k+i).XORKeyStream(c, c)
	}
}

func (portable) expand4(t *tree, leaves *[4]int, sum, low, high []byte) {
	clear(sum)
	x := make([]byte, 32+len(sum))
	for i, leaf := range leaves {
		clear(x)
		t.stream(leaf).XORKeyStream(x, x)
		subtle.XORBytes(sum, sum, x[32:])
		if i&1 != 0 {
			subtle.XORBytes(low, low, x[32:])
		}
		if i&2 != 0 {
			subtle.XORBytes(high, high, x[32:])
		}
	}
}

func (portable) fold4(parts *[4][]byte, sum, low, high []byte) {
	subtle.XORBytes(sum, parts[0], parts[1])
	subtle.XORBytes(sum, sum, parts[2])
	subtle.XORBytes(sum, sum, parts[3])
	for _, i := range []int{1, 3} {
		subtle.XORBytes(low, low, parts[i])
	}
	for _, i := range []int{2, 3} {
		subtle.XORBytes(high, high, parts[i])
	}
}

// root commits to all leaves at once.
func (t *tree) root() [32]byte { return sha256.Sum256(t.com) }
