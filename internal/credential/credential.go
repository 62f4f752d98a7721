// Package credential is the anonymous credential of spec/08-credential.md: a
// secret that a client shares with a provider and that is no identity. It is a
// Privacy Pass token (RFC 9576, RFC 9578, type 5) of the VOPRF
// ristretto255-SHA512 (RFC 9497), issued in batches and unlinkable when it is
// shown.
//
//	client                               provider
//	  Blind: blinded elements       ->
//	                                <-   Issue: evaluated elements, one proof
//	  Finish: checks the proof, unblinds
//	  ...                                (any time later, from anywhere)
//	  Authorization: token, MAC     ->   Admit: computes the same secret, checks the MAC
//
// The output of the VOPRF is known to both sides then and never sent: it keys
// the MAC, the salts of sales, and whatever else the two must agree on.
//
// What it does not protect against: a provider that publishes another key to
// each client links all they do (spec/08 says what helps), and so do addresses,
// times and habits. Who shows one credential twice links the two times. It
// does not know which tokens were shown before: that is the ledger's.
//
// The package does no I/O and reads no clock.
package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"htlcdash"
	"htlcdash/lightning"
)

// What is derived from the shared secret, each under a domain of its own.
const (
	domainSalt  = "htlcdash/salt/v2"
	domainChunk = "htlcdash/chunk/v1"
	domainMAC   = "htlcdash/credential-mac/v1"
)

// Errors that callers decide on. Bytes that do not follow the specification
// are htlcdash.ErrFormat.
var (
	// ErrIssuer means that a response was not made with the published key:
	// whoever made it could tell its tokens from those of others.
	ErrIssuer = errors.New("tokens were not made with the published key")
	// ErrKey means that a request or a token is for a key that is not in use,
	// or no more.
	ErrKey = errors.New("key is not in use: get the provider's keys anew")
	// ErrForged means that who shows a token does not have its secret, or that
	// the request is not the one that was authorized.
	ErrForged = errors.New("authorization does not verify")
	// ErrStale means that an authorization was made for another time.
	ErrStale = errors.New("authorization is not for this time: set the clock")
)

// A Token is the public part of a credential. The provider sees it for the
// first time when it is shown, and its nonce was never seen at issue.
type Token struct {
	Nonce [32]byte
	KeyID KeyID
}

// A Shared is the secret that belongs to a token, known to who holds the
// credential and to who has the issuer's key: the output of the VOPRF. It
// never prints and is never sent. The zero value holds none.
type Shared struct {
	_ [0]func()
	// Two pointers, because fmt follows one where a verb does not fit, as %s
	// does not fit an array in an unexported field.
	b **[sharedBytes]byte
}

// IsZero reports whether s holds no secret.
func (s Shared) IsZero() bool { return s.b == nil }

func (Shared) String() string { return "token secret" }

// LogValue keeps s out of logs.
func (s Shared) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Salt is the salt of a sale of the segment q at price. The counter makes it
// fresh where one is wanted; the same counter gives the same payment hash.
// Both sides derive it. It panics if s holds no secret.
func (s Shared) Salt(q htlcdash.Root, price lightning.Msat, counter int64) htlcdash.Salt {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(price))
	binary.BigEndian.PutUint64(b[8:], uint64(counter))
	return mac(s.key(), domainSalt, q[:], b[:])
}

// ChunkKey is the key under which a provider encrypts one chunk of the file r
// for the holder of s alone (the scheme "keyed"). It is derived under the
// provider's master secret, because the holder of s must buy it. The same
// arguments give the same key: no other plaintext may ever be encrypted under
// it. It panics if s holds no secret.
func (s Shared) ChunkKey(master [32]byte, r htlcdash.Root, index uint64, counter int64) htlcdash.Key {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], index)
	binary.BigEndian.PutUint64(b[8:], uint64(counter))
	return htlcdash.NewKey(mac(master[:], domainChunk, s.key(), r[:], b[:]))
}

// A Credential is a token and its secret: what a client keeps. It is good for
// as long as its key.
type Credential struct {
	Token
	Shared Shared
}

func (c Credential) String() string { return "credential of key " + c.KeyID.String() }

// LogValue keeps the nonce out of logs as well, which would link them to those
// of the provider.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Reveal gives the bytes that [ParseCredential] reads: the Token of RFC 9577,
// secret included. It panics if c holds no secret.
func (c Credential) Reveal() []byte { return append(c.input(), c.Shared.key()...) }

// ParseCredential reads what [Credential.Reveal] gave. The error matches
// htlcdash.ErrFormat.
func ParseCredential(b []byte) (Credential, error) {
	if len(b) != inputBytes+sharedBytes {
		return Credential{}, malformed("credential of %d bytes, want %d", len(b), inputBytes+sharedBytes)
	}
	t, err := parseInput(b[:inputBytes])
	if err != nil {
		return Credential{}, err
	}
	return Credential{Token: t, Shared: newShared(b[inputBytes:])}, nil
}

func newShared(b []byte) Shared {
	out := new([sharedBytes]byte(b))
	return Shared{b: &out}
}

func (s Shared) key() []byte { return (*s.b)[:] }

// A PublicKey is one epoch's key of a provider, an element of ristretto255. It
// is what all its clients must see alike. The zero value is no key.
type PublicKey [elementBytes]byte

// ParsePublicKey reads 64 hexadecimal digits. The error matches
// htlcdash.ErrFormat.
func ParsePublicKey(s string) (k PublicKey, err error) { return k, k.UnmarshalText([]byte(s)) }

func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// MarshalText gives the hexadecimal form.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the hexadecimal form and checks that it is a key.
func (k *PublicKey) UnmarshalText(b []byte) error {
	var raw PublicKey
	if err := decodeHex(raw[:], b, "public key"); err != nil {
		return err
	}
	if _, err := raw.decode(); err != nil {
		return err
	}
	*k = raw
	return nil
}

// ID names the key, RFC 9578 "token_key_id".
func (k PublicKey) ID() KeyID { return sha256.Sum256(k[:]) }

// A KeyID is the SHA-256 of a public key.
type KeyID [32]byte

func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives the hexadecimal form.
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (id *KeyID) UnmarshalText(b []byte) error { return decodeHex(id[:], b, "key id") }

// mac is HMAC-SHA256 with a domain in front. All parts but the last have a
// fixed length.
func mac(secret []byte, domain string, parts ...[]byte) (out [32]byte) {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(domain))
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

func decodeHex(dst, text []byte, what string) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return malformed("%s of %d digits, want %d", what, len(text), hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return malformed("%s is not hexadecimal", what)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, htlcdash.ErrFormat)...)
}
