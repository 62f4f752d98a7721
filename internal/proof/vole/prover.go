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
	second := c.mask(st, w, context)
	drawWeights(c.sh.kernel, second, c.desk.weight)
	return c.finish(second, c.desk.prove(c.sh.kernel, c.sh.circuit, c.u))
}

// mask evaluates the circuit, adds the masked witness to the message, and draws
// the second challenge.
func (c *commitment) mask(st proof.Statement, w [32]byte, context []byte) [32]byte {
	cir, bits := c.sh.circuit, c.desk.bits
	copy(bits, appendWords(nil, w))
	copy(bits[cir.committed():], publicWordsOf(st))
	cir.eval(bits)
	n := len(c.message)
	for _, b := range bits[:cir.witness] {
		c.message = binary.LittleEndian.AppendUint32(c.message, b)
	}
	masked := c.message[n:]
	subtle.XORBytes(masked, masked, c.u)
	return secondChallenge(c.first, c.message[n-digestLen:n], c.digests, st, context, masked)
}

// finish adds the coefficients to the message. The secrets that are left are the
// seeds.
func (c *commitment) finish(second [32]byte, a [3]elem) answer {
	c.message = a[2].appendTo(a[1].appendTo(c.message))
	clear(c.desk.bits)
	c.sh.desks.Put(c.desk)
	c.desk, c.u = nil, nil
	return answer{c, bind(second, a)}
}

// prove appends the whole proof.
func (c *commitment) prove(dst []byte, st proof.Statement, w [32]byte, context []byte) []byte {
	return c.answer(st, w, context).complete(dst)
}

// complete appends the message, and the answer to the challenge that it leads
// to.
func (a answer) complete(dst []byte) []byte {
	last, counter := a.sh.grind(a.bound)
	dst = append(dst, a.message...)
	dst = a.open(dst, a.sh.hidden(last[:]))
	dst = append(dst, last[:]...)
	return append(dst, counter[:]...)
}

// grind looks for a rare challenge. There is one: that all of 2^24 counters fail
// has a probability of e^-4096 or less.
func (sh *shape) grind(bound [32]byte) (last [challengeLen]byte, counter [counterLen]byte) {
	for n := range 1 << (8 * counterLen) {
		counter = [counterLen]byte{byte(n), byte(n >> 8), byte(n >> 16)}
		if last = lastChallenge(bound, counter); sh.rare(last) {
			return last, counter
		}
	}
	panic("vole: no challenge is rare")
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
