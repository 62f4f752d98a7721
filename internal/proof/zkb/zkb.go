// Package zkb proves knowledge of a SHA-256 preimage by ZKB++, the successor of
// ZKBoo (Chase et al., "Post-Quantum Zero-Knowledge and Signatures from
// Symmetric-Key Primitives", CCS 2017; Giacomelli, Madsen, Orlandi, "ZKBoo",
// USENIX Security 2016). It is the plain one of the two proof systems: hashes,
// AES and a circuit, nothing else. spec/07 is its specification.
//
// The idea is a play of three parties in the prover's head. They hold the
// witness w as three shares that add up to it (addition is xor), and compute
// SHA-256 of it together. Each step of a party needs only what it holds itself
// and what its right neighbour holds:
//
//	        w  =  x0     +     x1     +     x2       x0, x1 are random
//	               |           |            |
//	            party 0 <-- party 1 <-- party 2 <-- (party 0)
//	            tape 0      tape 1      tape 2       random bits, grown from a seed
//	               |           |            |
//	SHA256(w)  =  y0     +     y1     +     y2
//
// An xor each party does alone. Of x AND y party i gets the share
//
//	z_i = x_i y_i + x_i+1 y_i + x_i y_i+1 + r_i + r_i+1
//
// where r_i is the next bit of its tape. The three shares add up to xy, since
// the nine products do and each r comes twice; and the masks make each share
// look random. All shares z_i of a party are its view.
//
// The prover commits to seed and view of all three. Then the verifier opens two
// neighbours e and e+1, computes all that party e did anew, and compares. It
// learns nothing: two of three shares are random. But who knows no w has
// cheated somewhere, in a step that one of the three choices of e shows; so it
// passes at most two times in three. After n repetitions that is (2/3)^n: 137
// make 80 bits, 219 make 128. All repetitions run at once, and e comes from a
// hash of all commitments (Fiat-Shamir), so nobody needs to ask. The code calls a
// repetition a round.
//
// What must not be forgotten is that the three output shares add up to the
// digest that was claimed, with the shares of the opened parties as the
// verifier computed them. A verifier that takes them from the prover accepts
// proofs of anything.
//
// The package does not protect a witness against one who reads this process's
// memory, and says nothing beyond the statement.
package zkb

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"htlcdash/internal/proof"
)

// system is ZKB++ with a number of rounds.
type system struct {
	name   string
	rounds int
}

// Bits80 returns zkb-80, sound up to 2^-80: for proofs that live as short as an
// offer.
func Bits80() proof.System { return system{"zkb-80", 137} }

// Bits128 returns zkb-128, sound up to 2^-128.
func Bits128() proof.System { return system{"zkb-128", 219} }

func (s system) Name() string { return s.name }

// Sizes of a proof's parts in bytes (spec/07, section 5).
const (
	headerSize = 8
	saltSize   = 32
	seedSize   = 16
	inputSize  = 32 // share of the witness
	hashSize   = sha256.Size
)

// shape is what the kind of a statement makes of a proof.
type shape struct {
	kind   proof.Kind
	hashes int // that are computed from the witness
}

// shapeOf returns the zero shape for what is no kind.
func shapeOf(k proof.Kind) shape {
	switch k {
	case proof.Preimage:
		return shape{k, 1}
	case proof.Link:
		return shape{k, 2}
	}
	return shape{}
}

// targets is what the parties' results must add up to, one for each hash.
func targets(st proof.Statement) []byte {
	hash := target(st.Hash)
	if st.Kind == proof.Preimage {
		return hash[:]
	}
	keyHash := target(st.KeyHash)
	return append(keyHash[:], hash[:]...)
}

func (s shape) gates() int     { return s.hashes * gatesPerHash }
func (s shape) viewSize() int  { return (s.gates() + 7) / 8 }
func (s shape) tapeSize() int  { return inputSize + (s.gates()+63)/64*8 } // in memory, see toLanes
func (s shape) outSize() int   { return s.hashes * hashSize }
func (s shape) roundSize() int { return 2*seedSize + inputSize + s.viewSize() + hashSize + s.outSize() }

// header is version, kind and rounds in eight bytes.
func (s shape) header(rounds int) []byte {
	b := append([]byte("hzkb"), version, byte(s.kind))
	return binary.BigEndian.AppendUint16(b, uint16(rounds))
}

const version = 1

func (s system) Length(k proof.Kind) int {
	shape := shapeOf(k)
	if shape.hashes == 0 {
		return 0
	}
	return headerSize + saltSize + hashSize + s.rounds*shape.roundSize()
}

// An opening is the part of a proof about one round: what the verifier needs to
// play the parties e and e+1, and what party e+2 has shown of itself. Its fields
// are parts of the proof's bytes.
type opening struct {
	seeds  [2][]byte // of parties e and e+1
	input  []byte    // share of party 2; zeros if that is party e+2
	view   []byte    // of party e+1
	commit []byte    // of party e+2
	out    []byte    // of party e+2
}

// opening finds round t in the bytes of all rounds.
func (s shape) opening(rounds []byte, t int) (o opening) {
	b := rounds[t*s.roundSize():]
	for _, f := range []struct {
		field *[]byte
		size  int
	}{
		{&o.seeds[0], seedSize},
		{&o.seeds[1], seedSize},
		{&o.input, inputSize},
		{&o.view, s.viewSize()},
		{&o.commit, hashSize},
		{&o.out, s.outSize()},
	} {
		*f.field, b = b[:f.size:f.size], b[f.size:]
	}
	return o
}

// Prove implements [proof.System]. It reads 64 bytes of rand. Its time and memory
// access do not depend on w; machine says why.
func (s system) Prove(dst []byte, rand io.Reader, st proof.Statement, w [32]byte, context []byte) ([]byte, error) {
	if !st.Holds(w) {
		return nil, proof.ErrFalse
	}
	var salt, root [32]byte
	for _, b := range [][]byte{salt[:], root[:]} {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("randomness for a proof: %w", err)
		}
	}
	p := s.commit(st, w, salt, root)
	return p.answer(dst, p.challenge(context)), nil
}

// Verify implements [proof.System].
func (s system) Verify(st proof.Statement, context, b []byte) error {
	shape := shapeOf(st.Kind)
	if shape.hashes == 0 || shape.kind == proof.Preimage && (st.KeyHash != [32]byte{} || st.Salt != [32]byte{}) {
		return fmt.Errorf("%w: there is no such statement", proof.ErrRefused)
	}
	if len(b) != s.Length(st.Kind) || !bytes.Equal(b[:headerSize], shape.header(s.rounds)) {
		return fmt.Errorf("%w: %w of this kind by %s", proof.ErrRefused, errForm, s.name)
	}
	b = b[headerSize:]
	salt, challenge, rounds := [saltSize]byte(b), [hashSize]byte(b[saltSize:]), b[saltSize+hashSize:]
	again, err := s.replay(st, salt, trits(challenge, s.rounds), rounds)
	if err != nil {
		return err
	}
	if draw(s, st, salt, context, again) != challenge {
		return fmt.Errorf("%w: %w", proof.ErrRefused, errChallenge)
	}
	return nil
}
