package vole

import (
	"crypto/sha256"
	"encoding/binary"
)

// Domains of SHA-256. Each challenge hashes the one before it and all that was
// sent in between.
const (
	domainShape  = "htlcdash/vole/v1/shape"
	domainFirst  = "htlcdash/vole/v1/first"
	domainSecond = "htlcdash/vole/v1/second"
	domainBind   = "htlcdash/vole/v1/bind"
	domainLast   = "htlcdash/vole/v1/end"
	domainKey    = "htlcdash/vole/v1/hash-key"
)

func hash(domain string, parts ...[]byte) (out [32]byte) {
	h := sha256.New()
	h.Write([]byte(domain))
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// hashKey draws the key of a universal hash from a challenge, n*32 bytes.
func hashKey(challenge [32]byte, n int) []byte {
	var out []byte
	for i := range n {
		k := hash(domainKey, challenge[:], []byte{byte(i)})
		out = append(out, k[:]...)
	}
	return out
}

// A voleHash is the universal hash of FAEST by which the columns are shown to
// be consistent: two inputs have one digest with a probability of at most
// 2^-144 + 2^-170 over the key (spec/06, section 5).
type voleHash struct {
	s []elem   // powers of s, descending to s^1
	t []uint64 // powers of t
	r [4]elem
}

func newVOLEHash(blocks int) voleHash {
	return voleHash{s: make([]elem, blocks), t: make([]uint64, 2*blocks)}
}

// draw draws the key.
func (h *voleHash) draw(kr kernel, challenge [32]byte) {
	key := hashKey(challenge, 3)
	for i := range h.r {
		h.r[i] = loadElem(key[16*i:])
	}
	s, p := loadElem(key[64:]), elem{1}
	for i := range h.s {
		p = kr.mul(p, s)
		h.s[i] = p
	}
	t, p := elem{binary.LittleEndian.Uint64(key[80:])}, elem{1}
	for i := range h.t {
		p = kr.mul(p, t)
		p = elem{reduce64(p[1], p[0])}
		h.t[i] = p[0]
	}
}

// sum is the digest of a column: blocks of 16 bytes, then the 18 bytes that
// mask it.
func (h *voleHash) sum(kr kernel, column []byte) (out [digestLen]byte) {
	h0, h1 := kr.digest(h, column)
	e1 := elem{h1}
	h2 := kr.mul(h.r[0], h0).add(kr.mul(h.r[1], e1))
	h3 := kr.mul(h.r[2], h0).add(kr.mul(h.r[3], e1))
	h2.appendTo(out[:0])
	binary.LittleEndian.PutUint16(out[16:], uint16(h3[0]))
	for i, m := range column[16*len(h.s):][:digestLen] {
		out[i] ^= m
	}
	return out
}

// drawWeights draws the coefficients by which all additions are checked at
// once: if one does not hold, their sum is 0 with a probability of at most
// 2^-128 + n^2 * 2^-192.
func drawWeights(kr kernel, challenge [32]byte, out []elem) {
	key := hashKey(challenge, 2)
	r0, r1 := loadElem(key), loadElem(key[16:])
	s, t := loadElem(key[32:]), elem{binary.LittleEndian.Uint64(key[48:])}
	for i := range out {
		r0, r1 = kr.mul(r0, s), kr.mul(r1, t)
		out[i] = r0.add(r1)
	}
}
