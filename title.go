package htlcdash

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/chainhash"
)

// PublisherID is the x-only public key of a publisher (BIP 340).
type PublisherID [32]byte

func (p PublisherID) String() string { return hex.EncodeToString(p[:]) }

// MarshalText gives the hexadecimal form.
func (p PublisherID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (p *PublisherID) UnmarshalText(b []byte) error {
	return decodeHex(p[:], string(b), "publisher key")
}

// ParsePublisherID reads 64 hexadecimal digits.
func ParsePublisherID(s string) (p PublisherID, err error) {
	return p, decodeHex(p[:], s, "publisher key")
}

// IDOf returns the identity of the title whose MPD is mpd. The MPD names its
// publisher, its init segments by digest and its seal lists by root, so the id covers
// the whole title (spec/02-title.md).
func IDOf(mpd []byte) TitleID {
	return TitleID(*chainhash.TaggedHash([]byte("htlcdash/title/v1"), mpd))
}

// A PublisherKey signs titles and derives content keys. It never prints.
type PublisherKey struct{ k *btcec.PrivateKey }

// NewPublisherKey makes a key of 32 secret bytes.
func NewPublisherKey(b [32]byte) (PublisherKey, error) {
	var s btcec.ModNScalar
	if overflow := s.SetBytes(&b); overflow != 0 || s.IsZero() {
		return PublisherKey{}, fmt.Errorf("publisher key is not below the order of secp256k1: %w", ErrFormat)
	}
	k, _ := btcec.PrivKeyFromBytes(b[:])
	return PublisherKey{k}, nil
}

func (PublisherKey) String() string { return "publisher key" }

// ID is the public half.
func (p PublisherKey) ID() (id PublisherID) {
	copy(id[:], schnorr.SerializePubKey(p.k.PubKey()))
	return id
}

// SealSecret is what content keys are derived from: a secret of its own, so
// that one who learns it cannot sign.
func (p PublisherKey) SealSecret() []byte {
	s := mac(p.k.Serialize(), "htlcdash/seal-secret/v1")
	return s[:]
}

// A Signature is the publisher's BIP 340 signature over a [TitleID].
type Signature struct {
	Publisher PublisherID
	Bytes     [64]byte
}

// Sign signs id. The same key and id give the same signature.
func (p PublisherKey) Sign(id TitleID) (Signature, error) {
	sig, err := schnorr.Sign(p.k, id[:])
	if err != nil {
		return Signature{}, fmt.Errorf("sign title: %w", err)
	}
	s := Signature{Publisher: p.ID()}
	copy(s.Bytes[:], sig.Serialize())
	return s, nil
}

// Verify reports, by an error that matches [ErrSignature], that s is not a
// signature over id.
func (s Signature) Verify(id TitleID) error {
	pub, err := schnorr.ParsePubKey(s.Publisher[:])
	if err != nil {
		return fmt.Errorf("publisher key: %w", ErrSignature)
	}
	sig, err := schnorr.ParseSignature(s.Bytes[:])
	if err != nil || !sig.Verify(id[:], pub) {
		return fmt.Errorf("title %s by %s: %w", id, s.Publisher, ErrSignature)
	}
	return nil
}

// signatureHeader opens the text form of a signature.
const signatureHeader = "htlcdash-signature-v1"

// Encode gives the text form: one line with header, publisher and signature.
func (s Signature) Encode() []byte {
	return fmt.Appendf(nil, "%s %s %x\n", signatureHeader, s.Publisher, s.Bytes)
}

// ParseSignature reads what Encode gives, and nothing else: the error matches
// [ErrFormat].
func ParseSignature(b []byte) (s Signature, err error) {
	line := string(b[:min(len(b), 256)])
	f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(f) != 3 || f[0] != signatureHeader {
		return s, fmt.Errorf("title signature: want %q, a key and a signature on one line: %w", signatureHeader, ErrFormat)
	}
	if s.Publisher, err = ParsePublisherID(f[1]); err != nil {
		return s, err
	}
	if err := decodeHex(s.Bytes[:], f[2], "signature"); err != nil {
		return s, err
	}
	if !bytes.Equal(s.Encode(), b) {
		return s, fmt.Errorf("title signature: want lower case and one line end: %w", ErrFormat)
	}
	return s, nil
}
