package vole

import (
	"encoding/binary"
	"math/bits"
)

// An elem is an element of GF(2^128), modulo x^128 + x^7 + x^2 + x + 1: bit i
// of word j is the coefficient of x^(64j+i). Its 16 bytes are little-endian.
type elem [2]uint64

// A word of 32 wires has one elem for each, bit 0 first.
type word [32]elem

func loadElem(b []byte) elem {
	return elem{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

func (a elem) appendTo(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, a[0]), a[1])
}

func (a elem) add(b elem) elem { return elem{a[0] ^ b[0], a[1] ^ b[1]} }

// when is a if bit 0 of bit is set, else 0, without a branch.
func (a elem) when(bit uint32) elem {
	m := -uint64(bit & 1)
	return elem{a[0] & m, a[1] & m}
}

// timesX is a*x.
func (a elem) timesX() elem {
	return elem{a[0]<<1 ^ a[1]>>63*0x87, a[1]<<1 | a[0]>>63}
}

// timesX8 is a*x^8.
func (a elem) timesX8() elem {
	over := a[1] >> 56
	return elem{a[0]<<8 ^ over ^ over<<1 ^ over<<2 ^ over<<7, a[1]<<8 | a[0]>>56}
}

// mul is a*b. It has neither branches nor tables, so its time is constant
// where that of an integer multiplication is.
func (a elem) mul(b elem) elem {
	r1, r0 := clmul(a[0], b[0])
	r3, r2 := clmul(a[1], b[1])
	m1, m0 := clmul(a[0]^a[1], b[0]^b[1])
	m0, m1 = m0^r0^r2, m1^r1^r3
	return reduce(r0, r1^m0, r2^m1, r3)
}

// reduce is the polynomial of degree below 256 with the coefficients r0 (low)
// to r3, modulo the field's.
func reduce(r0, r1, r2, r3 uint64) elem {
	r2 ^= r3>>63 ^ r3>>62 ^ r3>>57
	return elem{
		r0 ^ r2 ^ r2<<1 ^ r2<<2 ^ r2<<7,
		r1 ^ r3 ^ r3<<1 ^ r2>>63 ^ r3<<2 ^ r2>>62 ^ r3<<7 ^ r2>>57,
	}
}

// clmul is the carry-less product of a and b. Operands are cut into four parts
// with holes of three bits between the bits, so that the carries of an integer
// product fall into the holes (Pornin, BearSSL, ghash_ctmul64).
func clmul(a, b uint64) (hi, lo uint64) {
	lo = clmulLow(a, b)
	hi = bits.Reverse64(clmulLow(bits.Reverse64(a), bits.Reverse64(b))) >> 1
	return hi, lo
}

func clmulLow(a, b uint64) uint64 {
	const m0, m1, m2, m3 = 0x1111111111111111, 0x2222222222222222, 0x4444444444444444, 0x8888888888888888
	a0, a1, a2, a3 := a&m0, a&m1, a&m2, a&m3
	b0, b1, b2, b3 := b&m0, b&m1, b&m2, b&m3
	return (a0*b0^a1*b3^a2*b2^a3*b1)&m0 |
		(a0*b1^a1*b0^a2*b3^a3*b2)&m1 |
		(a0*b2^a1*b1^a2*b0^a3*b3)&m2 |
		(a0*b3^a1*b2^a2*b1^a3*b0)&m3
}

// reduce64 is an element of GF(2^64), modulo x^64 + x^4 + x^3 + x + 1.
func reduce64(hi, lo uint64) uint64 {
	hi ^= hi>>63 ^ hi>>61 ^ hi>>60
	return lo ^ hi ^ hi<<1 ^ hi<<3 ^ hi<<4
}
