package vole_test

import (
	"crypto/sha256"
	"math/bits"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

// The circuit says of each message and digest what crypto/sha256 says.
func TestCircuitIsSHA256(t *testing.T) {
	messages := [][32]byte{{}, {31: 1}, {0: 0x80}}
	for i := range messages[0] {
		messages[0][i] = 0xff
	}
	for range 60 {
		messages = append(messages, random())
	}
	for _, w := range messages {
		salt := random()
		for _, st := range []proof.Statement{proof.PreimageOf(sha256.Sum256(w[:])), linkOf(w, salt)} {
			if !vole.Check(st, w) {
				t.Fatalf("%x does not satisfy its own statement of kind %d", w, st.Kind)
			}
			for bit := range 3 * 256 {
				fields := []*[32]byte{&st.Hash, &st.KeyHash, &st.Salt}
				if bit%97 != int(w[0])%97 || st.Kind == proof.Preimage && bit >= 256 {
					continue
				}
				fields[bit/256][bit%256/8] ^= 1 << (bit % 8)
				if vole.Check(st, w) {
					t.Fatalf("%x satisfies the statement with bit %d flipped", w, bit)
				}
				fields[bit/256][bit%256/8] ^= 1 << (bit % 8)
			}
		}
	}
}

// The size of a proof follows from these: 12,544 bits for a compression, where a
// circuit of AND gates has 21,044 and more.
func TestCircuitSize(t *testing.T) {
	for kind, want := range map[proof.Kind][2]int{proof.Preimage: {392, 400}, proof.Link: {784, 800}} {
		committed, checked := vole.Sums(kind)
		if got := [2]int{committed, checked}; got != want {
			t.Errorf("kind %d: %d sums committed to and checked instead of %d", kind, got, want)
		}
	}
}

// The constraints hold for one sum, and for none that differs in any bit.
func TestConstraintsAreAddition(t *testing.T) {
	for kr := range vole.Kernels() {
		for i := range 20 {
			r := random()
			word := func(n int) uint32 {
				return uint32(r[4*n]) | uint32(r[4*n+1])<<8 | uint32(r[4*n+2])<<16 | uint32(r[4*n+3])<<24
			}
			x, l, a, b, shift := word(0), word(1), word(2), word(3), uint(i%2)
			if i%5 == 0 {
				x = ^uint32(0) // long carries
			}
			s := x + (l^a&b)<<shift
			if got := vole.Addition(kr, s, x, l, a, b, shift); got != [2]uint64{} {
				t.Fatalf("kernel %d: a right sum gives %x", kr, got)
			}
			for _, wrong := range []uint32{s ^ 1, s ^ 1<<31, s ^ 1<<16, s ^ 3<<15, s ^ word(4), s + 1, s - 1, bits.Reverse32(s), 0} {
				if got := vole.Addition(kr, wrong, x, l, a, b, shift); wrong != s && got == [2]uint64{} {
					t.Fatalf("kernel %d: %x passes for the sum %x", kr, wrong, s)
				}
			}
			for bit := range 32 {
				if got := vole.Addition(kr, s^1<<bit, x, l, a, b, shift); got == [2]uint64{} {
					t.Fatalf("kernel %d: bit %d of a sum may be flipped", kr, bit)
				}
			}
		}
	}
}
