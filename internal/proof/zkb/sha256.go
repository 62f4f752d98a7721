package zkb

import (
	"encoding/binary"
	"math/bits"
)

// A word is a word of SHA-256 in all rounds of a batch: either public and
// the same in each of them, or shared among the parties. What is computed from
// public words alone, or by and with one, needs no gate, so that the constants
// of SHA-256 and of the padding cost nothing where they meet each other.
type word struct {
	public bool
	value  uint32  // if public
	bits   [32]bit // else, the least significant first
}

func constant(v uint32) word { return word{public: true, value: v} }

// share makes a public word a shared one: one party holds it, the others hold 0.
func (m *machine) share(v uint32) (z word) {
	for i := range z.bits {
		if v>>i&1 == 1 {
			z.bits[i] = m.one
		}
	}
	return z
}

func (m *machine) xor(x, y word) word {
	if x.public && y.public {
		return constant(x.value ^ y.value)
	}
	if x.public {
		x = m.share(x.value)
	}
	if y.public {
		y = m.share(y.value)
	}
	for i := range x.bits {
		x.bits[i] = x.bits[i].xor(y.bits[i])
	}
	return x
}

func (m *machine) and(x, y word) (z word) {
	if x.public {
		x, y = y, x
	}
	switch {
	case x.public:
		return constant(x.value & y.value)
	case y.public:
		for i := range z.bits {
			if y.value>>i&1 == 1 {
				z.bits[i] = x.bits[i]
			}
		}
	default:
		for i := range z.bits {
			z.bits[i] = m.gate(x.bits[i], y.bits[i])
		}
	}
	return z
}

// add adds modulo 2^32. The carry of x + y + c is x + (x+y)(x+c) in bits: one
// gate for each bit but the last. Up to the lowest bit that is set in a public
// word there is no carry to compute.
func (m *machine) add(x, y *word) (z word) {
	if x.public {
		x, y = y, x
	}
	first := -1 // the lowest bit that is set in a public y
	if y.public {
		if x.public {
			return constant(x.value + y.value)
		}
		if y.value == 0 {
			return *x
		}
		first = bits.TrailingZeros32(y.value)
		shared := m.share(y.value)
		y = &shared
	}
	var carry bit
	for i := range z.bits {
		a, b := x.bits[i], y.bits[i]
		sum := a.xor(b)
		z.bits[i] = sum.xor(carry)
		switch {
		case i < first || i == 31:
		case i == first:
			carry = a
		default:
			carry = a.xor(m.gate(sum, a.xor(carry)))
		}
	}
	return z
}

// sum adds its operands from left to right, the public ones last.
func (m *machine) sum(words ...*word) word {
	z, public := constant(0), constant(0)
	for _, w := range words {
		if w.public {
			public.value += w.value
		} else {
			z = m.add(&z, w)
		}
	}
	return m.add(&z, &public)
}

// rotations is the xor of x rotated to the right by p, q and r bits. With
// shift, the last is not rotated but shifted.
func rotations(x *word, p, q, r int, shift bool) (z word) {
	if x.public {
		last := bits.RotateLeft32(x.value, -r)
		if shift {
			last = x.value >> r
		}
		return constant(bits.RotateLeft32(x.value, -p) ^ bits.RotateLeft32(x.value, -q) ^ last)
	}
	for i := range z.bits {
		z.bits[i] = x.bits[(i+p)&31].xor(x.bits[(i+q)&31])
		if !shift || i+r < 32 {
			z.bits[i] = z.bits[i].xor(x.bits[(i+r)&31])
		}
	}
	return z
}

// ch is FIPS 180-4's Ch(e, f, g): f where e is set, else g.
func (m *machine) ch(e, f, g *word) word { return m.xor(*g, m.and(*e, m.xor(*f, *g))) }

// maj is FIPS 180-4's Maj(a, b, c): b, unless a and c agree on something else.
func (m *machine) maj(a, b, c *word) word { return m.xor(*b, m.and(m.xor(*a, *b), m.xor(*b, *c))) }

// sha256 computes SHA-256 of a message of 32 bytes, as FIPS 180-4 has it, but
// without the addition of the initial state at the end: that is left to those
// who compare (see target).
func (m *machine) sha256(message *[8]word) [8]word {
	var w [64]word
	copy(w[:], message[:])
	for t := 8; t < 16; t++ {
		w[t] = constant(padding[t-8])
	}
	for t := 16; t < 64; t++ {
		s0 := rotations(&w[t-15], 7, 18, 3, true)
		s1 := rotations(&w[t-2], 17, 19, 10, true)
		w[t] = m.sum(&w[t-16], &s0, &w[t-7], &s1)
	}
	var s [8]word
	for i, v := range initial {
		s[i] = constant(v)
	}
	for t := range w {
		a, b, c, d, e, f, g, h := &s[0], &s[1], &s[2], &s[3], &s[4], &s[5], &s[6], &s[7]
		s1, ch, k := rotations(e, 6, 11, 25, false), m.ch(e, f, g), constant(roundConstants[t])
		t1 := m.sum(h, &s1, &ch, &k, &w[t])
		s0, maj := rotations(a, 2, 13, 22, false), m.maj(a, b, c)
		t2 := m.sum(&s0, &maj)
		s = [8]word{m.sum(&t1, &t2), *a, *b, *c, m.sum(d, &t1), *e, *f, *g}
	}
	return s
}

// target is what the parties' shares of sha256's result must add up to: the
// digest less the initial state, word by word.
func target(digest [32]byte) (out [32]byte) {
	for i, v := range initial {
		binary.BigEndian.PutUint32(out[4*i:], binary.BigEndian.Uint32(digest[4*i:])-v)
	}
	return out
}

// padding ends a message of 32 bytes: a bit, zeros, its length in bits.
var padding = [8]uint32{0: 1 << 31, 7: 256}

// initial is the initial state, H(0) of FIPS 180-4, section 5.3.3.
var initial = [8]uint32{
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}

// roundConstants are the K of FIPS 180-4, section 4.2.2.
var roundConstants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}
