package vole

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"htlcdash/internal/proof"
)

// A commitment is what a prover makes before it knows statement and witness. It
// is good for one proof: two would show the witness.
type commitment struct {
	sh      *shape
	desk    *desk    // with the tags of the committed words
	seeds   []byte   // the roots of the trees
	message []byte   // up to the digest of u
	digests []byte   // of the columns
	first   [32]byte // challenge
	u       []byte
}

// commit makes the trees and the VOLE.
func (sh *shape) commit(rand io.Reader) (*commitment, error) {
	random := make([]byte, saltLen+nodeLen*sh.trees)
	if _, err := io.ReadFull(rand, random); err != nil {
		return nil, fmt.Errorf("randomness for a proof: %w", err)
	}
	l := sh.loom()
	defer sh.looms.Put(l)
	c := &commitment{sh: sh, desk: sh.desk(), seeds: random[saltLen:]}
	l.tree.setSalt([saltLen]byte(random))
	for i := range sh.trees {
		l.tree.index = i
		l.tree.grow(sh.kernel, c.seeds[nodeLen*i:nodeLen*(i+1)])
		l.fold(sh.kernel, sh.depth, i, 0)
	}
	c.u = slices.Clone(l.sums[0])
	c.message = append(make([]byte, 0, sh.messageLen()), sh.header[:]...)
	c.message = append(c.message, random[:saltLen]...)
	for _, sum := range l.sums[1:] {
		subtle.XORBytes(sum, sum, c.u)
		c.message = append(c.message, sum[:sh.column]...)
	}
	c.first = sh.firstChallenge(l.roots, c.message)
	l.hash.draw(sh.kernel, c.first)
	digest := l.hash.sum(sh.kernel, c.u)
	c.message = append(c.message, digest[:]...)
	for _, column := range l.columns {
		digest := l.hash.sum(sh.kernel, column)
		c.digests = append(c.digests, digest[:]...)
	}
	sh.kernel.transpose(l.columns, c.desk.table[:sh.circuit.committed()])
	return c, nil
}

// An answer is a proof that lacks the last challenge and the answer to it.
type answer struct {
	*commitment
	bound [32]byte
}

// answer proves st by the commitment, which is then used up. That st holds of w
// is the caller's duty: else the proof is of nothing.
func (c *commitment) answer(st proof.Statement, w [32]byte, context []byte) answer {
	sh, d, cir := c.sh, c.desk, c.sh.circuit
	copy(d.bits, appendWords(nil, w))
	copy(d.bits[cir.committed():], publicWordsOf(st))
	cir.eval(d.bits)

	digest := c.message[len(c.message)-digestLen:]
	masked := c.message[len(c.message):][:4*cir.witness]
	for i, b := range d.bits[:cir.witness] {
		binary.LittleEndian.PutUint32(masked[4*i:], b)
	}
	subtle.XORBytes(masked, masked, c.u)
	second := secondChallenge(c.first, digest, c.digests, st, context, masked)
	drawWeights(sh.kernel, second, d.weight)
	a := d.prove(sh.kernel, cir, c.u)

	c.message = append(c.message, masked...)
	c.message = a[2].appendTo(a[1].appendTo(c.message))
	clear(d.bits)
	sh.desks.Put(d)
	c.desk, c.u = nil, nil
	return answer{c, bind(second, a)}
}

// prove appends the whole proof.
func (c *commitment) prove(dst []byte, st proof.Statement, w [32]byte, context []byte) []byte {
	a := c.answer(st, w, context)
	var counter [counterLen]byte
	last := lastChallenge(a.bound, counter[:])
	for n := uint32(1); !c.sh.rare(last); n++ {
		binary.LittleEndian.PutUint32(counter[:], n)
		last = lastChallenge(a.bound, counter[:])
	}
	dst = append(dst, a.message...)
	dst = a.open(dst, c.sh.hidden(last[:]))
	dst = append(dst, last[:]...)
	return append(dst, counter[:]...)
}

// open appends the answer to the last challenge.
func (a answer) open(dst []byte, h hiddenLeaves) []byte {
	sh := a.sh
	l := sh.loom()
	defer sh.looms.Put(l)
	l.tree.setSalt([saltLen]byte(a.message[headerLen:]))
	n := openingLen(sh.depth)
	dst = append(dst, make([]byte, sh.openingsLen())...)
	out := dst[len(dst)-sh.openingsLen():]
	for i, leaf := range h.leaf {
		l.tree.index = i
		l.tree.open(sh.kernel, a.seeds[nodeLen*i:nodeLen*(i+1)], leaf, out[n*i:n*(i+1)])
	}
	return dst
}
