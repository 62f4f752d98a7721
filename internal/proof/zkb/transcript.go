package zkb

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"htlcdash/internal/proof"
)

// Domains of all that is hashed (spec/07, section 4).
const (
	tapeDomain      = "htlcdash/zkb/tape/v1"
	viewDomain      = "htlcdash/zkb/view/v1"
	challengeDomain = "htlcdash/zkb/challenge/v1"
	tritsDomain     = "htlcdash/zkb/trits/v1"
)

// A party is one of three in one round.
type party struct {
	seed []byte
	tape []byte // input share, then a bit for each gate; see machine
	out  []byte // shares of the results
}

func (p party) input() []byte { return p.tape[:inputSize] }

// view is what p computed, a bit for each gate, the last byte filled with zeros.
func (p party) view(s shape) []byte { return p.tape[inputSize:][:s.viewSize()] }

// A binder hashes what belongs to one party, together with what says to which:
// salt, round and number. So no two parties of any two proofs share a tape or a
// commitment, and work spent on one proof is of no use against another.
type binder struct {
	salt [saltSize]byte
	h    hash.Hash
	buf  []byte
}

func newBinder(salt [saltSize]byte) *binder { return &binder{salt: salt, h: sha256.New()} }

func (b *binder) begin(domain string, round, number int, seed []byte) {
	b.buf = append(b.buf[:0], domain...)
	b.buf = append(b.buf, b.salt[:]...)
	b.buf = binary.BigEndian.AppendUint16(b.buf, uint16(round))
	b.buf = append(b.buf, byte(number))
	b.buf = append(b.buf, seed...)
	b.h.Reset()
	b.h.Write(b.buf)
}

func (b *binder) end() (sum [hashSize]byte) {
	b.buf = b.h.Sum(b.buf[:0])
	copy(sum[:], b.buf)
	return sum
}

// grow fills p's tape from its seed, by AES-256 in counter mode.
func (b *binder) grow(round, number int, p party) {
	b.begin(tapeDomain, round, number, p.seed)
	key := b.end()
	stream(p.tape, key)
}

// commit commits to all that p knows. Its seed, which is secret unless p is
// opened, hides the rest. Parties 0 and 1 have their input from the tape.
func (b *binder) commit(s shape, round, number int, p party) [hashSize]byte {
	b.begin(viewDomain, round, number, p.seed)
	if number == 2 {
		b.h.Write(p.input())
	}
	b.h.Write(p.view(s))
	return b.end()
}

// stream fills b with the stream of AES-256 in counter mode, from zero.
func stream(b []byte, key [32]byte) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("zkb: " + err.Error()) // the key has 32 bytes
	}
	clear(b)
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(b, b)
}

// shown is what all see of a party before the challenge.
type shown struct {
	commit [hashSize]byte
	out    []byte
}

// draw hashes all that the prover must have settled before it is asked: the
// statement and its system, the context, and what was shown of all rounds.
func draw(s system, st proof.Statement, salt [saltSize]byte, context []byte, rounds [][3]shown) (challenge [hashSize]byte) {
	b := append([]byte(challengeDomain), byte(len(s.name)))
	b = append(b, s.name...)
	b = append(b, shapeOf(st.Kind).header(s.rounds)...)
	b = st.Append(b)
	b = binary.BigEndian.AppendUint64(b, uint64(len(context)))
	b = append(b, context...)
	b = append(b, salt[:]...)
	h := sha256.New()
	h.Write(b)
	for _, parties := range rounds {
		for _, p := range parties {
			h.Write(p.commit[:])
			h.Write(p.out)
		}
	}
	h.Sum(challenge[:0])
	return challenge
}

// trits draws n numbers below 3 from a challenge. Of each byte of its hashes it
// takes two bits after another, the lowest first, and leaves out each 3.
func trits(challenge [hashSize]byte, n int) []int {
	out := make([]int, 0, n+4*hashSize)
	for counter := uint32(0); len(out) < n; counter++ {
		b := append([]byte(tritsDomain), challenge[:]...)
		for _, v := range sha256.Sum256(binary.BigEndian.AppendUint32(b, counter)) {
			for shift := 0; shift < 8; shift += 2 {
				if e := int(v >> shift & 3); e < 3 {
					out = append(out, e)
				}
			}
		}
	}
	return out[:n]
}
