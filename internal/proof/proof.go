// Package proof is the door to the zero-knowledge proofs by which a viewer
// knows, before it pays, that a preimage will open its segment.
//
//	provider: knows A             viewer: knows hA (publisher's seal), s, H (offer)
//	Prove(statement, A, context)  ->  Verify(statement, context, proof)
//
// A proof says nothing of A beyond the statement, has the same length whatever
// the segment, and holds for one context only. Two systems stand behind one
// interface: vole (VOLE-in-the-head with QuickSilver, small and quick, the
// default) and zkb (ZKB++, of the ZKBoo family, plain enough to be read in one
// sitting, the cross-check).
//
// It does not protect against a publisher that sealed something else than it
// signed (spec/01, section 3), nor against a provider that never settles.
package proof

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
)

// ErrRefused means that a proof does not show its statement: it is malformed,
// for another statement, context or system, or forged.
var ErrRefused = errors.New("proof does not verify")

// ErrFalse means that a prover's witness does not satisfy the statement.
// Nothing was proved.
var ErrFalse = errors.New("the statement is false")

// Kind says what a statement is about. The zero Kind is none.
type Kind uint8

// Kinds of statements.
const (
	Preimage Kind = iota + 1 // "I know w with SHA256(w) = Hash"
	Link                     // "I know w with SHA256(w) = KeyHash and SHA256(w xor Salt) = Hash"
)

// A Statement is what a proof shows of a witness of 32 bytes.
type Statement struct {
	Kind    Kind
	Hash    [32]byte
	KeyHash [32]byte // of a Link; else zero
	Salt    [32]byte // of a Link; else zero
}

// PreimageOf states knowledge of the preimage of hash.
func PreimageOf(hash [32]byte) Statement { return Statement{Kind: Preimage, Hash: hash} }

// LinkOf states knowledge of A with SHA256(A) = keyHash and
// SHA256(A xor salt) = hash: that the payment of a salted sale buys the key.
func LinkOf(keyHash, salt, hash [32]byte) Statement {
	return Statement{Kind: Link, Hash: hash, KeyHash: keyHash, Salt: salt}
}

// Holds reports whether w satisfies s.
func (s Statement) Holds(w [32]byte) bool {
	switch s.Kind {
	case Preimage:
		return sha256.Sum256(w[:]) == s.Hash && s.KeyHash == [32]byte{} && s.Salt == [32]byte{}
	case Link:
		salted := w
		subtle.XORBytes(salted[:], w[:], s.Salt[:])
		return sha256.Sum256(w[:]) == s.KeyHash && sha256.Sum256(salted[:]) == s.Hash
	}
	return false
}

// Append appends the one encoding of s, for transcripts: its kind, then Hash,
// KeyHash and Salt, 97 bytes in all.
func (s Statement) Append(b []byte) []byte {
	b = append(b, byte(s.Kind))
	b = append(b, s.Hash[:]...)
	b = append(b, s.KeyHash[:]...)
	return append(b, s.Salt[:]...)
}

// A System proves and verifies statements with one fixed set of parameters.
// All methods may be called at once.
type System interface {
	// Name is what the wire calls the system with its parameters, such as
	// "vole-80". It is bound by each proof.
	Name() string

	// Length is the length in bytes of each proof of a kind.
	Length(k Kind) int

	// Prove appends to dst a proof of s by w, good for context only. It draws
	// randomness from rand, which must be crypto/rand's outside of tests. The
	// error matches [ErrFalse] if w does not satisfy s. Time and memory
	// access do not depend on w.
	Prove(dst []byte, rand io.Reader, s Statement, w [32]byte, context []byte) ([]byte, error)

	// Verify returns nil if proof shows s in context. The error matches
	// [ErrRefused] else, whatever the bytes.
	Verify(s Statement, context, proof []byte) error
}
