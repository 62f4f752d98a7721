// Package nostr speaks the part of the Nostr protocol that carries signed notes
// between strangers: events, filters, a client, and a relay that a program can
// embed.
//
//	client                                relay
//	["EVENT", event]                  ->
//	                                  <-  ["OK", id, accepted, reason]
//	["REQ", subscription, filter...]  ->
//	                                  <-  ["EVENT", subscription, event] ...
//	                                  <-  ["EOSE", subscription]  and new ones, as they come
//	["CLOSE", subscription]           ->
//	                                  <-  ["CLOSED", subscription, reason], ["NOTICE", text]
//
// It follows NIP-01 (events, filters, messages), NIP-11 (what a relay says of
// itself) and NIP-40 (expiry). It knows nothing of what events are for: that is
// internal/directory (spec/13-directory.md).
//
// A signature shows who wrote an event, not that it is true. Relays may keep
// events back, and tell who asks for what.
package nostr

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"

	"htlcdash"
)

// Bounds of what is read. An event that exceeds one is malformed here, although
// NIP-01 has no bounds.
const (
	MaxEvent  = 16 << 10 // bytes of an event as JSON
	MaxTags   = 64       // of an event
	MaxValues = 16       // of a tag, its name included
	MaxKind   = 1<<16 - 1
)

// Errors that callers decide on. Malformed input matches [htlcdash.ErrFormat], a
// signature that does not verify [htlcdash.ErrSignature].
var (
	ErrRefused = errors.New("refused by the relay")
	ErrClosed  = errors.New("connection to the relay closed")
)

// A Key is the x-only public key of an author (BIP 340).
type Key [32]byte

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText gives 64 lower-case hexadecimal digits.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText gives, and nothing else.
func (k *Key) UnmarshalText(b []byte) error { return lowerHex(k[:], b, "key") }

// An ID is the SHA-256 of an event's canonical serialisation.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives 64 lower-case hexadecimal digits.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText gives, and nothing else.
func (id *ID) UnmarshalText(b []byte) error { return lowerHex(id[:], b, "id") }

// A Signature is a BIP 340 signature over an [ID].
type Signature [64]byte

// MarshalText gives 128 lower-case hexadecimal digits.
func (s Signature) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText reads what MarshalText gives, and nothing else.
func (s *Signature) UnmarshalText(b []byte) error { return lowerHex(s[:], b, "signature") }

func lowerHex(dst, src []byte, what string) error {
	if len(src) != 2*len(dst) || !bytes.Equal(src, bytes.ToLower(src)) {
		return fmt.Errorf("%s: want %d lower-case hexadecimal digits: %w", what, 2*len(dst), htlcdash.ErrFormat)
	}
	if _, err := hex.Decode(dst, src); err != nil {
		return fmt.Errorf("%s is not hexadecimal: %w", what, htlcdash.ErrFormat)
	}
	return nil
}

// A Tag is a name and its values.
type Tag []string

// An Event is a signed note. Events that come from [ParseEvent] or [Sign] are
// sound: bounded, and signed by PubKey. They are not changed after that.
type Event struct {
	ID        ID        `json:"id"`
	PubKey    Key       `json:"pubkey"`
	CreatedAt int64     `json:"created_at"` // Unix seconds
	Kind      int       `json:"kind"`
	Tags      []Tag     `json:"tags"`
	Content   string    `json:"content"`
	Sig       Signature `json:"sig"`
}

// Sign makes an event by key. Of e it takes time, kind, tags and content.
func Sign(e Event, key htlcdash.ProviderKey) (Event, error) {
	e.PubKey = Key(key.ID())
	if e.Tags == nil {
		e.Tags = []Tag{}
	}
	if err := e.check(); err != nil {
		return Event{}, err
	}
	id, sig, err := key.SignEvent(e.Serialise())
	if err != nil {
		return Event{}, err
	}
	e.ID, e.Sig = id, sig
	return e, nil
}

// ParseEvent reads an event and verifies it.
func ParseEvent(b []byte) (e Event, err error) {
	if len(b) > MaxEvent {
		return Event{}, fmt.Errorf("event of %d bytes, at most %d: %w", len(b), MaxEvent, htlcdash.ErrFormat)
	}
	if !utf8.Valid(b) {
		return Event{}, fmt.Errorf("event is not UTF-8: %w", htlcdash.ErrFormat)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("event: %w: %w", err, htlcdash.ErrFormat)
	}
	return e, e.verify()
}

// verify checks e by NIP-01. The cheap parts come first.
func (e Event) verify() error {
	if err := e.check(); err != nil {
		return err
	}
	if e.ID != sha256.Sum256(e.Serialise()) {
		return fmt.Errorf("event %s: its id is that of another: %w", e.ID, htlcdash.ErrSignature)
	}
	pub, err := schnorr.ParsePubKey(e.PubKey[:])
	if err != nil {
		return fmt.Errorf("event %s: author's key: %w", e.ID, htlcdash.ErrSignature)
	}
	sig, err := schnorr.ParseSignature(e.Sig[:])
	if err != nil || !sig.Verify(e.ID[:], pub) {
		return fmt.Errorf("event %s by %s: %w", e.ID, e.PubKey, htlcdash.ErrSignature)
	}
	return nil
}

// check checks the form.
func (e Event) check() error {
	switch {
	case e.Kind < 0 || e.Kind > MaxKind:
		return fmt.Errorf("event of kind %d: %w", e.Kind, htlcdash.ErrFormat)
	case e.CreatedAt < 0:
		return fmt.Errorf("event made at %d: %w", e.CreatedAt, htlcdash.ErrFormat)
	case e.Tags == nil || len(e.Tags) > MaxTags:
		return fmt.Errorf("event with %d tags, at most %d: %w", len(e.Tags), MaxTags, htlcdash.ErrFormat)
	}
	for _, t := range e.Tags {
		if len(t) == 0 || len(t) > MaxValues {
			return fmt.Errorf("event with a tag of %d values, 1 to %d: %w", len(t), MaxValues, htlcdash.ErrFormat)
		}
		if i := slices.IndexFunc(t, unclear); i >= 0 {
			return errUnclear
		}
	}
	if unclear(e.Content) {
		return errUnclear
	}
	return nil
}

var errUnclear = fmt.Errorf("event with control characters: %w", htlcdash.ErrFormat)

// unclear reports whether s has characters that implementations serialise in
// two ways: NIP-01 says verbatim, and JSON says by their number. We have no use
// for any.
func unclear(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f':
		case c < ' ':
			return true
		}
	}
	return !utf8.ValidString(s)
}

// Serialise gives the canonical form, whose SHA-256 is the id (NIP-01).
func (e Event) Serialise() []byte {
	b := make([]byte, 0, 256+len(e.Content))
	b = append(b, `[0,"`...)
	b = hex.AppendEncode(b, e.PubKey[:])
	b = append(b, `",`...)
	b = strconv.AppendInt(b, e.CreatedAt, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(e.Kind), 10)
	b = append(b, ",["...)
	for i, t := range e.Tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		for j, v := range t {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendQuoted(b, v)
		}
		b = append(b, ']')
	}
	b = append(b, "],"...)
	b = appendQuoted(b, e.Content)
	return append(b, ']')
}

// appendQuoted escapes what NIP-01 says, and nothing else.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\n':
			b = append(b, `\n`...)
		case '"':
			b = append(b, `\"`...)
		case '\\':
			b = append(b, `\\`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// Value returns the first value of the first tag with a name.
func (e Event) Value(name string) (string, bool) {
	for _, t := range e.Tags {
		if t[0] == name && len(t) > 1 {
			return t[1], true
		}
	}
	return "", false
}

// Values returns the first value of each tag with a name.
func (e Event) Values(name string) (out []string) {
	for _, t := range e.Tags {
		if t[0] == name && len(t) > 1 {
			out = append(out, t[1])
		}
	}
	return out
}

// Time is when e was made, as its author says.
func (e Event) Time() time.Time { return time.Unix(e.CreatedAt, 0) }

// Expires is when e ends (NIP-40), and whether it does. A date that cannot be
// read is one that has passed.
func (e Event) Expires() (time.Time, bool) {
	s, ok := e.Value("expiration")
	if !ok {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil {
		return time.Unix(0, 0), true
	}
	return time.Unix(int64(n), 0), true
}

// Expired reports whether e has ended.
func (e Event) Expired(now time.Time) bool {
	end, ok := e.Expires()
	return ok && !now.Before(end)
}

// IsAddressable reports whether of all events by one author with one kind and
// one tag "d" only the newest counts (NIP-01).
func IsAddressable(kind int) bool { return kind >= 30000 && kind < 40000 }

// An Address is what an addressable event replaces others at.
type Address struct {
	Kind   int
	PubKey Key
	D      string
}

// Address is where e stands, for addressable kinds.
func (e Event) Address() Address {
	d, _ := e.Value("d")
	return Address{e.Kind, e.PubKey, d}
}

// Newer reports whether e replaces old at their address: the later one does, and
// of two from one second that with the lower id (NIP-01).
func (e Event) Newer(old Event) bool {
	if e.CreatedAt != old.CreatedAt {
		return e.CreatedAt > old.CreatedAt
	}
	return bytes.Compare(e.ID[:], old.ID[:]) < 0
}
