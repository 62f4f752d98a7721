// Package vole proves statements about preimages of SHA-256 by
// VOLE-in-the-head with QuickSilver's check, the machinery of the FAEST
// signature: AES and SHA-256 only, no set-up, proofs of some ten kilobytes in
// about a millisecond. The protocol is spec/06-proof.md.
//
//	prover                                                  verifier
//	tau trees of 2^k seeds, committed to; their streams
//	give u, and for each of the tau*k columns a v
//	     salt, trees, what makes all u one         ->
//	                                               <-       first: key of a hash
//	     digest of u, of each v; u xor witness     ->
//	                                               <-       second: weights of the constraints
//	     three coefficients of their weighed sum   ->
//	                                               <-       Delta: one leaf of each tree
//	     all seeds but those                       ->       q = v + u*Delta for each column, hence
//	                                                        the digests, the sum and its coefficients
//
// The verifier's part is a hash of all that came before ([System]), or the last
// message is its own ([Interactive]). What comes before the second challenge
// depends on neither statement nor witness and can be made ahead of need
// ([Stock]).
//
// The code that sees the witness has no branches and no indices that depend on
// it: words of 32 bits and elements of GF(2^128) go through a list of steps that
// is the same for all witnesses. That holds for AES, too, where the machine has
// instructions for it.
//
// It does not protect against a prover that can compute 2^80 hashes (of vole-80,
// in the time that its verifier waits), and it does not keep a proof from being
// shown around: who sees it is as convinced as its addressee.
package vole

import (
	"errors"
	"fmt"
	"io"

	"htlcdash/internal/proof"
)

// version is the first byte of each proof.
const version = 1

// The systems. Each try at the last challenge makes a forger believed with a
// probability of 3 * 2^-(trees*depth + grind), which is 2^-80.4 or 2^-128.4, and
// each try at an earlier one with at most 2^-128 + 2^-172 (spec/06, section 8). So
// 2^80 and 2^128 hashes are less than a forgery takes. The small one has the
// shortest proofs, the fast ones take the least time.
//
// 80 bits are enough only where the context holds a fresh nonce of the verifier
// and the verifier soon stops waiting: else a forger has years.
var (
	Bits80      = newSystem(1, "vole-80", parameters{trees: 9, depth: 8, grind: 10})
	Bits80Small = newSystem(2, "vole-80-small", parameters{trees: 7, depth: 10, grind: 12})
	Bits80Fast  = newSystem(3, "vole-80-fast", parameters{trees: 18, depth: 4, grind: 10})
	Bits128     = newSystem(4, "vole-128", parameters{trees: 15, depth: 8, grind: 10})
	Bits128Fast = newSystem(5, "vole-128-fast", parameters{trees: 30, depth: 4, grind: 10})
)

// Bits40 asks the verifier for the last challenge. A forger is believed with a
// probability of 3*2^-40 = 2^-38.4 for each attempt that the verifier sees fail.
var Bits40 = newInteractive(6, "vole-40i", parameters{trees: 5, depth: 8})

// ErrUsed means that a session was answered before. A second answer would show
// the witness.
var ErrUsed = errors.New("already answered: begin another session")

// A System makes proofs of one message. It is a [proof.System].
type System struct {
	name   string
	shapes func() shapes
}

func newSystem(id byte, name string, p parameters) *System {
	return &System{name, newShapes(id, name, p)}
}

// Name implements [proof.System].
func (s *System) Name() string { return s.name }

// Length implements [proof.System]. It is 0 for an unknown kind.
func (s *System) Length(k proof.Kind) int {
	sh := s.shapes()[k]
	if sh == nil {
		return 0
	}
	return sh.messageLen() + sh.openingsLen() + challengeLen + counterLen
}

// Prove implements [proof.System].
func (s *System) Prove(dst []byte, rand io.Reader, st proof.Statement, w [32]byte, context []byte) ([]byte, error) {
	sh := s.shapes()[st.Kind]
	if sh == nil || !st.Holds(w) {
		return nil, proof.ErrFalse
	}
	c, err := sh.commit(rand)
	if err != nil {
		return nil, err
	}
	return c.prove(dst, st, w, context), nil
}

// Verify implements [proof.System].
func (s *System) Verify(st proof.Statement, context, p []byte) error {
	sh, err := s.shapes().of(st)
	if err != nil {
		return err
	}
	if len(p) != s.Length(st.Kind) {
		return refused("%d bytes instead of %d", len(p), s.Length(st.Kind))
	}
	return sh.verify(st, context, p)
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", proof.ErrRefused, fmt.Sprintf(format, args...))
}
