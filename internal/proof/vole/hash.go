package vole

import (
	"crypto/sha256"
	"encoding/binary"
)

// Domains of SHA-256. Each challenge hashes the one before it and all that was
// sent in between.
const (
	domainShape = "htlcdash/vole/v1/shape"
	domainVOLE  = "htlcdash/vole/v1/challenge-vole"
	domainZK    = "htlcdash/vole/v1/challenge-zk"
	domainBind  = "htlcdash/vole/v1/bind"
	domainOpen  = "htlcdash/vole/v1/open"
	domainKey   = "htlcdash/vole/v1/hash-key"
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

const digestLen = 18 // bytes of a consistency digest: 128 + 16 bits

// A voleHash is the universal hash of FAEST by which the columns are shown to
// be consistent: two inputs have one digest with a probability of at most
// 2^-144 + 2^-170 over the key (spec/06, section 5).
type voleHash struct {
	s []elem   // powers of s, descending to s^1
	t []uint64 // powers of t
	r [4]elem
}

func newVOLEHash(challenge [32]byte, blocks int) *voleHash {
	key := hashKey(challenge, 3)
	h := &voleHash{s: make([]elem, blocks), t: make([]uint64, 2*blocks)}
	for i := range h.r {
		h.r[i] = loadElem(key[16*i:])
	}
	powers(h.s, loadElem(key[64:]))
	t, p := binary.LittleEndian.Uint64(key[80:]), uint64(1)
	for i := range h.t {
		p = mul64(p, t)
		h.t[i] = p
	}
	return h
}

// powers fills p with s, s^2, s^3...
func powers(p []elem, s elem) {
	x := elem{1}
	for i := range p {
		x = x.mul(s)
		p[i] = x
	}
}

// sum is the digest of a column: blocks of 16 bytes, then the 18 bytes that
// mask it.
func (h *voleHash) sum(column []byte) (out [digestLen]byte) {
	var h0 elem
	var h1 uint64
	for i, s := range h.s {
		b := loadElem(column[16*i:])
		h0 = h0.add(s.mul(b))
		h1 ^= mul64(h.t[2*i], b[0]) ^ mul64(h.t[2*i+1], b[1])
	}
	e1 := elem{h1}
	h2 := h.r[0].mul(h0).add(h.r[1].mul(e1))
	h3 := h.r[2].mul(h0).add(h.r[3].mul(e1))
	h2.appendTo(out[:0])
	binary.LittleEndian.PutUint16(out[16:], uint16(h3[0]))
	for i, m := range column[16*len(h.s):][:digestLen] {
		out[i] ^= m
	}
	return out
}

// weights draws the coefficients by which the additions are checked together:
// a combination of any that do not hold is 0 with a probability of at most
// 2^-128 + n^2*2^-192.
func weights(challenge [32]byte, n int) []elem {
	key := hashKey(challenge, 2)
	s, t := loadElem(key[32:]), elem{binary.LittleEndian.Uint64(key[48:])}
	r0, r1 := loadElem(key), loadElem(key[16:])
	out := make([]elem, n)
	for i := range out {
		r0, r1 = r0.mul(s), r1.mul(t)
		out[i] = r0.add(r1)
	}
	return out
}
