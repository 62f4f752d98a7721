package htlcdash

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/chainhash"
)

// ProviderID is the x-only public key of a provider (BIP 340): who stands by
// an offer, whatever address and whatever node it has today.
type ProviderID [32]byte

func (p ProviderID) String() string { return hex.EncodeToString(p[:]) }

// MarshalText gives the hexadecimal form.
func (p ProviderID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (p *ProviderID) UnmarshalText(b []byte) error { return decodeHex(p[:], string(b), "provider key") }

// Verify reports, by an error that matches [ErrSignature], that sig is not p's
// signature over message under tag.
func (p ProviderID) Verify(tag string, message []byte, sig [64]byte) error {
	pub, err := schnorr.ParsePubKey(p[:])
	if err != nil {
		return fmt.Errorf("provider key: %w", ErrSignature)
	}
	s, err := schnorr.ParseSignature(sig[:])
	if err != nil || !s.Verify(chainhash.TaggedHash([]byte(tag), message)[:], pub) {
		return fmt.Errorf("%s by provider %s: %w", tag, p, ErrSignature)
	}
	return nil
}

// A ProviderKey signs what a provider stands by. It never prints. The zero
// value holds no key.
type ProviderKey struct{ k *btcec.PrivateKey }

// NewProviderKey makes a key of 32 secret bytes. The error matches [ErrFormat]
// if they are not a number from 1 to the order of secp256k1.
func NewProviderKey(b [32]byte) (ProviderKey, error) {
	var s btcec.ModNScalar
	if overflow := s.SetBytes(&b); overflow != 0 || s.IsZero() {
		return ProviderKey{}, fmt.Errorf("provider key is not below the order of secp256k1: %w", ErrFormat)
	}
	k, _ := btcec.PrivKeyFromBytes(b[:])
	return ProviderKey{k}, nil
}

// IsZero reports whether p holds no key.
func (p ProviderKey) IsZero() bool { return p.k == nil }

func (ProviderKey) String() string { return "provider key" }

// LogValue keeps p out of logs.
func (p ProviderKey) LogValue() slog.Value { return slog.StringValue(p.String()) }

// ID is the public half.
func (p ProviderKey) ID() (id ProviderID) {
	copy(id[:], schnorr.SerializePubKey(p.k.PubKey()))
	return id
}

// Sign signs the tagged hash (BIP 340) of message. A tag names one kind of
// message and its version, so that a signature over one kind is never one over
// another. The same key, tag and message give the same signature.
func (p ProviderKey) Sign(tag string, message []byte) (out [64]byte, err error) {
	// Offers are signed by the thousand. FastSign leaves out a verification of
	// what was just signed, which guards only against faults of the hardware
	// and would cost twice the signature.
	sig, err := schnorr.Sign(p.k, chainhash.TaggedHash([]byte(tag), message)[:], schnorr.FastSign())
	if err != nil {
		return out, fmt.Errorf("sign %s: %w", tag, err)
	}
	copy(out[:], sig.Serialize())
	return out, nil
}

// SignEvent signs a Nostr event (NIP-01), given in its canonical serialisation,
// by which an event's id is its SHA-256: BIP 340 over the id, without a tag. An
// id is never a tagged hash, since what is hashed begins otherwise; so that this
// holds, the error matches [ErrFormat] if event does not begin as one by p does.
func (p ProviderKey) SignEvent(event []byte) (id [32]byte, sig [64]byte, err error) {
	if !bytes.HasPrefix(event, fmt.Appendf(nil, `[0,"%s",`, p.ID())) {
		return id, sig, fmt.Errorf("sign an event: it is none by this key: %w", ErrFormat)
	}
	id = sha256.Sum256(event)
	s, err := schnorr.Sign(p.k, id[:], schnorr.FastSign())
	if err != nil {
		return id, sig, fmt.Errorf("sign an event: %w", err)
	}
	copy(sig[:], s.Serialize())
	return id, sig, nil
}
