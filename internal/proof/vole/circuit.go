package vole

import (
	"math/bits"
	"sync"

	"htlcdash/internal/proof"
)

// A circuit is a statement as additions of words of 32 bits (spec/06, section
// 3). All else in SHA-256 is linear over bits and costs nothing. Words stand
// in one table: the witness (eight words of the message, then one sum for each
// addition whose sum is not public), room for the masks, the public words, and
// scratch.
type circuit struct {
	steps   []step
	witness int // words
	public  int // words
	scratch int // words
}

// maskWords hide the three coefficients that a prover names: 2 of 128 bits.
const maskWords = 8

// masks is the place of the masks, at a multiple of 128 bits.
func (c *circuit) masks() int { return (c.witness + 3) / 4 * 4 }

// committed counts the words that have tags: the witness, padding, the masks.
func (c *circuit) committed() int { return c.masks() + maskWords }

// words is the length of the table.
func (c *circuit) words() int { return c.committed() + c.public + c.scratch }

// A step first makes linear words, then states that
//
//	table[sum] = table[x] + ((table[l] xor (table[a] and table[b])) << shift)
//
// modulo 2^32. A sum below circuit.witness is committed to here.
type step struct {
	linear          []linear
	sum, x, l, a, b int
	shift           uint
}

// A linear word is the sum over bits of other words, turned or shifted to the
// right, and a constant.
type linear struct {
	to    int
	terms []term
	k     uint32
}

type term struct {
	from  int
	right int  // bit i is bit i+right of from
	cut   bool // bits from above are 0, else they wrap around
}

func (t term) of(table []uint32) uint32 {
	if t.cut {
		return table[t.from] >> t.right
	}
	return bits.RotateLeft32(table[t.from], -t.right)
}

// eval fills a table of which the message and the public words are given.
// There are no branches or indices that depend on what the table holds.
func (c *circuit) eval(table []uint32) {
	for i := range c.steps {
		s := &c.steps[i]
		s.prepare(table)
		if s.sum < c.witness {
			table[s.sum] = table[s.x] + s.quadratic(table)
		}
	}
}

func (s *step) prepare(table []uint32) {
	for i := range s.linear {
		l := &s.linear[i]
		v := l.k
		for _, t := range l.terms {
			v ^= t.of(table)
		}
		table[l.to] = v
	}
}

// quadratic is the second summand of s.
func (s *step) quadratic(table []uint32) uint32 {
	return (table[s.l] ^ table[s.a]&table[s.b]) << s.shift
}

// circuitOf returns the circuit of a kind, or nil.
func circuitOf(k proof.Kind) *circuit {
	switch k {
	case proof.Preimage:
		return preimageCircuit()
	case proof.Link:
		return linkCircuit()
	}
	return nil
}

// The public words of a preimage are its digest less the initial state.
var preimageCircuit = sync.OnceValue(func() *circuit {
	b := newBuilder()
	b.compress(b.message, b.publicWords(8))
	return b.finish()
})

// The public words of a link are hA less the initial state, the salt, and H
// less the initial state.
var linkCircuit = sync.OnceValue(func() *circuit {
	b := newBuilder()
	keyHash, salt, hash := b.publicWords(8), b.publicWords(8), b.publicWords(8)
	b.compress(b.message, keyHash)
	var salted [8]expr
	for i := range salted {
		salted[i] = b.keep(xor(b.message[i], salt[i]))
	}
	b.compress(salted, hash)
	return b.finish()
})

// publicWordsOf gives the values of the public words of s.
func publicWordsOf(s proof.Statement) []uint32 {
	if s.Kind == proof.Preimage {
		return appendDigest(nil, s.Hash)
	}
	w := appendDigest(nil, s.KeyHash)
	w = appendWords(w, s.Salt)
	return appendDigest(w, s.Hash)
}

// appendWords appends the eight words of b, big-endian as SHA-256 has them.
func appendWords(w []uint32, b [32]byte) []uint32 {
	for i := 0; i < 32; i += 4 {
		w = append(w, uint32(b[i])<<24|uint32(b[i+1])<<16|uint32(b[i+2])<<8|uint32(b[i+3]))
	}
	return w
}

// appendDigest appends the state from which the last additions of SHA-256 make
// the digest.
func appendDigest(w []uint32, digest [32]byte) []uint32 {
	w = appendWords(w, digest)
	for i, v := range initial {
		w[len(w)-8+i] -= v
	}
	return w
}
