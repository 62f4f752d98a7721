// Package htlcdash holds the nouns of the project and how they look on the
// wire: the Merkle root that names bytes (BEP 52), the seal of a segment, the
// seal list of a Representation, and the signature over a title.
//
// It does no I/O, keeps no state, and reads no clock. The formats are told in
// spec/01-seal.md and spec/02-title.md.
package htlcdash

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"htlcdash/lightning"
)

// Errors that callers decide on.
var (
	// ErrNotFound means that something is not to be had here; another place
	// may have it.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt means that bytes are not what their name says.
	ErrCorrupt = errors.New("bytes do not match their root")
	// ErrFormat means that foreign bytes do not follow the specification.
	ErrFormat = errors.New("malformed")
	// ErrSignature means that a title is not signed by its publisher.
	ErrSignature = errors.New("signature does not verify")
)

// A Blob names immutable bytes: by their root and, since leaves and nodes of
// the tree share one hash function, by their length beside it.
type Blob struct {
	Root   Root
	Length int64 // bytes
}

// TitleID names a title: the tagged hash of its MPD, byte for byte.
type TitleID [32]byte

func (id TitleID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives the hexadecimal form.
func (id TitleID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (id *TitleID) UnmarshalText(b []byte) error { return decodeHex(id[:], string(b), "title id") }

// ParseTitleID reads 64 hexadecimal digits.
func ParseTitleID(s string) (id TitleID, err error) {
	return id, decodeHex(id[:], s, "title id")
}

// A Segment is one sealed piece of media and where it stands in its title.
type Segment struct {
	Title          TitleID
	Representation string // Representation@id in the MPD
	Index          int    // from 0, in presentation order
	Group          Group  // what its key opens; zero: this segment alone
	Seal
}

// Opens returns the segments [from, to) of the Representation that the key of s
// opens, s among them.
func (s Segment) Opens() (from, to int) {
	if s.Group.Count < 1 {
		return s.Index, s.Index + 1
	}
	return s.Group.First, s.Group.First + s.Group.Count
}

// Key is the content key "A" of a segment, or of a group: what is sold. It never prints
// itself and never compares with ==. The zero value holds no key.
type Key struct {
	_ [0]func()
	// Two pointers: fmt prints what one points to, where the Key stands in an
	// unexported field and the verb is for text.
	b **[32]byte
}

// NewKey returns the key made of b.
func NewKey(b [32]byte) Key {
	p := &b
	return Key{b: &p}
}

// Reveal returns the secret bytes. The name is loud on purpose: grep for it.
// It panics if k holds no key.
func (k Key) Reveal() [32]byte { return **k.b }

// IsZero reports whether k holds no key.
func (k Key) IsZero() bool { return k.b == nil }

// Hash returns hA, the SHA-256 of the key, which the seal carries.
func (k Key) Hash() [32]byte { return sha256.Sum256((*k.b)[:]) }

// Opens reports whether k is the key of s.
func (k Key) Opens(s Seal) bool {
	if k.b == nil {
		return false
	}
	h := k.Hash()
	return subtle.ConstantTimeCompare(h[:], s.KeyHash[:]) == 1
}

func (k Key) String() string {
	if k.b == nil {
		return "no key"
	}
	return "content key"
}

// LogValue keeps k out of logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Salt hides what is bought from the route and makes each payment hash fresh.
// Only buyer and seller know it. It is no secret worth money, but it links a
// payment to a segment, so it does not print either.
type Salt [32]byte

func (Salt) String() string { return "salt" }

// LogValue keeps s out of logs.
func (s Salt) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Preimage returns A xor s, whose SHA-256 is the payment hash of a salted sale
// (spec/05-exchange.md).
func (s Salt) Preimage(k Key) lightning.Preimage { return lightning.NewPreimage(xor(**k.b, s)) }

// Key turns the preimage that a payment revealed back into the content key.
func (s Salt) Key(p lightning.Preimage) Key { return NewKey(xor(p.Reveal(), s)) }

func xor(a, b [32]byte) [32]byte {
	subtle.XORBytes(a[:], a[:], b[:])
	return a
}

// mac is HMAC-SHA256 with a domain in front. Every derivation of the project
// from a secret goes through one like it.
func mac(secret []byte, domain string, parts ...[]byte) (out [32]byte) {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(domain))
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

func decodeHex(dst []byte, s, what string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%s has %d digits, want %d: %w", what, len(s), 2*len(dst), ErrFormat)
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("%s is not hexadecimal: %w", what, ErrFormat)
	}
	return nil
}
