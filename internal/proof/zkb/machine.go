package zkb

import (
	"encoding/binary"

	"htlcdash/internal/proof"
)

// batch is how many rounds a machine plays at once: as many as a word of the
// processor has bits.
const batch = 64

// inputBits are those of a witness, 32 bytes.
const inputBits = 8 * inputSize

// A bit is one bit of a computation in all rounds of a batch, shared among three
// parties: bit t of x0 is what the first party holds of it in the t-th round. A
// verifier sees two parties; its x2 means nothing.
type bit struct{ x0, x1, x2 uint64 }

func (x bit) xor(y bit) bit { return bit{x.x0 ^ y.x0, x.x1 ^ y.x1, x.x2 ^ y.x2} }

// A machine plays a batch of rounds side by side. In a prover's machine the three
// parties are 0, 1 and 2. In a verifier's they are those that the challenge
// opens, e and e+1, in each round others.
//
// What it does depends on public things only, never on the bits of the witness:
// it neither branches on them nor looks anything up by them.
type machine struct {
	// tapes holds a tape for each party: its share of the input, then a bit for
	// each gate, random until the gate is computed and the party's share of the
	// gate's output from then on. In a verifier's machine, the third is the view
	// of party e+1, which it is given.
	tapes  [3][]uint64
	verify bool
	one    bit // the public 1: party 0 holds it
	at     int // place of the next gate on the tapes
}

// gatesPerHash is how many gates sha256 takes.
const gatesPerHash = 21045

// newMachine makes a machine for n gates.
func newMachine(n int) *machine {
	size := inputBits + (n+63)/64*64 // whole blocks, see transpose
	all := make([]uint64, 3*size)
	return &machine{tapes: [3][]uint64{all[:size], all[size : 2*size], all[2*size:]}}
}

// gate computes shares of x and y: z_i = x_i y_i + x_i+1 y_i + x_i y_i+1 + r_i + r_i+1.
// A verifier does that for party e, and is given the share of e+1.
func (m *machine) gate(x, y bit) (z bit) {
	r0, r1, r2 := &m.tapes[0][m.at], &m.tapes[1][m.at], &m.tapes[2][m.at]
	m.at++
	z.x0 = x.x0&(y.x0^y.x1) ^ x.x1&y.x0 ^ *r0 ^ *r1
	if m.verify {
		z.x1 = *r2
		*r0 = z.x0
		return z
	}
	z.x1 = x.x1&(y.x1^y.x2) ^ x.x2&y.x1 ^ *r1 ^ *r2
	z.x2 = x.x2&(y.x2^y.x0) ^ x.x0&y.x2 ^ *r2 ^ *r0
	*r0, *r1, *r2 = z.x0, z.x1, z.x2
	return z
}

// run computes the hashes that a statement is about, each 256 bits for each
// party, and clears the rest of the tapes.
func (m *machine) run(st proof.Statement) (outs [3][]uint64) {
	m.at = inputBits
	in := m.input()
	results := [][8]word{m.sha256(&in)}
	if st.Kind == proof.Link {
		for j := range in {
			in[j] = m.xor(in[j], constant(binary.BigEndian.Uint32(st.Salt[4*j:])))
		}
		results = append(results, m.sha256(&in))
	}
	for i := range outs {
		clear(m.tapes[i][m.at:])
		outs[i] = make([]uint64, len(results)*8*hashSize)
	}
	for n, result := range results {
		for j, word := range result {
			for i, b := range word.bits {
				at := 8*hashSize*n + place(j, i)
				outs[0][at], outs[1][at], outs[2][at] = b.x0, b.x1, b.x2
			}
		}
	}
	return outs
}

// place is where bit i of word j lies in a row of big-endian words, its bytes'
// least significant bits first.
func place(j, i int) int { return 8*(4*j+3-i/8) + i%8 }

// input is the shared input as words.
func (m *machine) input() (in [8]word) {
	for j := range in {
		for i := range in[j].bits {
			at := place(j, i)
			in[j].bits[i] = bit{m.tapes[0][at], m.tapes[1][at], m.tapes[2][at]}
		}
	}
	return in
}

// transpose transposes a block of 64 by 64 bits: bit j of word i becomes bit i
// of word j. Squares of 64, 32, ... 2 bits each swap the two quarters beside
// their diagonal. Three sizes at a time concern eight words only, which stay in
// registers: most of a proof's time would be spent here else.
func transpose(a *[64]uint64) {
	const m32, m16, m8 = 1<<32 - 1, 0x0000ffff0000ffff, 0x00ff00ff00ff00ff
	const m4, m2, m1 = 0x0f0f0f0f0f0f0f0f, 0x3333333333333333, 0x5555555555555555
	for i := range 8 {
		x0, x1, x2, x3, x4, x5, x6, x7 := a[i], a[i+8], a[i+16], a[i+24], a[i+32], a[i+40], a[i+48], a[i+56]
		x0, x4 = swap(x0, x4, 32, m32)
		x1, x5 = swap(x1, x5, 32, m32)
		x2, x6 = swap(x2, x6, 32, m32)
		x3, x7 = swap(x3, x7, 32, m32)
		x0, x2 = swap(x0, x2, 16, m16)
		x1, x3 = swap(x1, x3, 16, m16)
		x4, x6 = swap(x4, x6, 16, m16)
		x5, x7 = swap(x5, x7, 16, m16)
		a[i], a[i+8] = swap(x0, x1, 8, m8)
		a[i+16], a[i+24] = swap(x2, x3, 8, m8)
		a[i+32], a[i+40] = swap(x4, x5, 8, m8)
		a[i+48], a[i+56] = swap(x6, x7, 8, m8)
	}
	for i := 0; i < 64; i += 8 {
		a := (*[8]uint64)(a[i:])
		x0, x1, x2, x3, x4, x5, x6, x7 := a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
		x0, x4 = swap(x0, x4, 4, m4)
		x1, x5 = swap(x1, x5, 4, m4)
		x2, x6 = swap(x2, x6, 4, m4)
		x3, x7 = swap(x3, x7, 4, m4)
		x0, x2 = swap(x0, x2, 2, m2)
		x1, x3 = swap(x1, x3, 2, m2)
		x4, x6 = swap(x4, x6, 2, m2)
		x5, x7 = swap(x5, x7, 2, m2)
		a[0], a[1] = swap(x0, x1, 1, m1)
		a[2], a[3] = swap(x2, x3, 1, m1)
		a[4], a[5] = swap(x4, x5, 1, m1)
		a[6], a[7] = swap(x6, x7, 1, m1)
	}
}

// swap swaps the bits of x that lie width above those of mask with those of y
// that lie under mask.
func swap(x, y uint64, width int, mask uint64) (uint64, uint64) {
	d := (x>>width ^ y) & mask
	return x ^ d<<width, y ^ d
}

// toLanes turns rows of bytes, one for each round, into words, one for each
// bit. It wants whole blocks: rows of a multiple of 8 bytes.
func toLanes(lanes []uint64, rows [][]byte) {
	for at := 0; at < len(lanes); at += 64 {
		block := (*[64]uint64)(lanes[at:])
		for t, row := range rows {
			block[t&63] = binary.LittleEndian.Uint64(row[at/8:])
		}
		clear(block[len(rows):])
		transpose(block)
	}
}

// toRows undoes toLanes, and leaves nothing in the lanes.
func toRows(rows [][]byte, lanes []uint64) {
	for at := 0; at < len(lanes); at += 64 {
		block := (*[64]uint64)(lanes[at:])
		transpose(block)
		for t, row := range rows {
			binary.LittleEndian.PutUint64(row[at/8:], block[t&63])
		}
	}
}
