package credential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudflare/circl/oprf"
)

// domainIssuer separates the issuer's keys from all else that is derived from
// a provider's secret.
const domainIssuer = "htlcdash/issuer/v1"

// An Epoch is the number of a time during which one key issues tokens, counted
// from 1970 in lengths that the provider chooses.
type Epoch uint32

// An IssuerKey is the private key of one epoch. It is derived, so that nothing
// is stored. It never prints, and may be used at once from many goroutines.
// The zero value holds no key.
type IssuerKey struct {
	_ [0]func()
	b *issuerKey
}

type issuerKey struct {
	epoch  Epoch
	public PublicKey
	id     KeyID
	server oprf.VerifiableServer
}

// NewIssuerKey derives the key of an epoch from a provider's secret
// (DeriveKeyPair, RFC 9497, 3.2.1). The error is for a chance of less than
// 2^-252.
func NewIssuerKey(secret [32]byte, e Epoch) (IssuerKey, error) {
	seed := mac(secret[:], domainIssuer)
	key, err := oprf.DeriveKey(suite, oprf.VerifiableMode, seed[:], binary.BigEndian.AppendUint32([]byte(domainIssuer), uint32(e)))
	if err != nil {
		return IssuerKey{}, fmt.Errorf("issuer key: %w", err)
	}
	return newIssuerKey(key, e)
}

func newIssuerKey(key *oprf.PrivateKey, e Epoch) (IssuerKey, error) {
	// Public keeps what it computes in the key, so the first call is made
	// before the key is shared.
	public, err := key.Public().MarshalBinary()
	if err != nil {
		return IssuerKey{}, fmt.Errorf("issuer key: %w", err)
	}
	k := &issuerKey{epoch: e, public: PublicKey(public), server: oprf.NewVerifiableServer(suite, key)}
	k.id = k.public.ID()
	return IssuerKey{b: k}, nil
}

// Epoch returns the epoch in which k issues.
func (k IssuerKey) Epoch() Epoch { return k.b.epoch }

// Public returns what clients check the proof against.
func (k IssuerKey) Public() PublicKey { return k.b.public }

// ID names the public key.
func (k IssuerKey) ID() KeyID { return k.b.id }

func (IssuerKey) String() string { return "issuer key" }

// LogValue keeps k out of logs.
func (k IssuerKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Issue answers a request for 1 to [MaxBatch] tokens with the evaluated
// elements and one proof for all that they were made with k. It learns nothing
// of the tokens. The error matches htlcdash.ErrFormat, or [ErrKey] if the
// request is for another key.
func (k IssuerKey) Issue(request []byte) (response []byte, err error) {
	truncated, elements, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	if truncated != k.b.id[31] {
		return nil, fmt.Errorf("token request: %w", ErrKey)
	}
	e, err := k.b.server.Evaluate(&oprf.EvaluationRequest{Elements: elements})
	if err != nil {
		return nil, fmt.Errorf("token request: %w", err)
	}
	return appendResponse(e)
}

// Redeem returns the secret of t. It is the true one only if t is a token of k
// that was issued, which is not known before [Presented.Verify] says so.
func (k IssuerKey) Redeem(t Token) Shared {
	out, err := k.b.server.FullEvaluate(t.input())
	if err != nil {
		panic("credential: " + err.Error()) // the encoding of an element that we made
	}
	return newShared(out)
}

// A Keyring holds the keys of a provider: that of the current epoch, which
// issues, and that of the one before, whose tokens are still good. So a token
// is good for between one and two lengths of an epoch. It may be used at once
// from many goroutines.
type Keyring struct {
	secret *[32]byte
	length time.Duration

	mu   sync.Mutex
	made map[Epoch]IssuerKey // at most two; what has been derived need not be again
}

// NewKeyring returns the keys that are derived from secret. Epochs are whole
// seconds long.
func NewKeyring(secret [32]byte, length time.Duration) (*Keyring, error) {
	if length < time.Second || length%time.Second != 0 {
		return nil, errors.New("credential: an epoch must be a whole number of seconds, at least 1")
	}
	return &Keyring{secret: &secret, length: length, made: make(map[Epoch]IssuerKey)}, nil
}

func (*Keyring) String() string { return "issuer keys" }

// LogValue keeps the keys out of logs.
func (r *Keyring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Current returns the key that issues at now.
func (r *Keyring) Current(now time.Time) (IssuerKey, error) { return r.key(r.epoch(now)) }

// Find returns the key with an id if its tokens are good at now. The error
// matches [ErrKey] if there is none.
func (r *Keyring) Find(id KeyID, now time.Time) (IssuerKey, error) {
	for _, e := range r.good(now) {
		k, err := r.key(e)
		if err != nil || k.ID() == id {
			return k, err
		}
	}
	return IssuerKey{}, fmt.Errorf("key %s: %w", id, ErrKey)
}

// A PublishedKey is what a provider tells of a key.
type PublishedKey struct {
	Key     PublicKey
	Issues  time.Time // no tokens are issued from this time on
	Expires time.Time // its tokens are no more good from this time on
}

// Published returns the keys whose tokens are good at now, that which issues
// first.
func (r *Keyring) Published(now time.Time) (keys []PublishedKey, err error) {
	for _, e := range r.good(now) {
		k, err := r.key(e)
		if err != nil {
			return nil, err
		}
		keys = append(keys, PublishedKey{Key: k.Public(), Issues: r.start(e + 1), Expires: r.start(e + 2)})
	}
	return keys, nil
}

// Expired returns the id of the key whose tokens ceased to be good last: what is
// known of them can be forgotten. The error matches [ErrKey] in the first two
// epochs of all.
func (r *Keyring) Expired(now time.Time) (KeyID, error) {
	e := r.epoch(now)
	if e < 2 {
		return KeyID{}, ErrKey
	}
	k, err := NewIssuerKey(*r.secret, e-2)
	if err != nil {
		return KeyID{}, err
	}
	return k.ID(), nil
}

func (r *Keyring) epoch(now time.Time) Epoch {
	return Epoch(max(now.Unix(), 0) / int64(r.length/time.Second))
}

func (r *Keyring) start(e Epoch) time.Time {
	return time.Unix(int64(e)*int64(r.length/time.Second), 0).UTC()
}

// good lists the epochs whose tokens are good, the current one first.
func (r *Keyring) good(now time.Time) []Epoch {
	e := r.epoch(now)
	if e == 0 {
		return []Epoch{e}
	}
	return []Epoch{e, e - 1}
}

func (r *Keyring) key(e Epoch) (IssuerKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ok := r.made[e]; ok {
		return k, nil
	}
	k, err := NewIssuerKey(*r.secret, e)
	if err != nil {
		return k, err
	}
	for old := range r.made {
		if old+1 < e || old > e+1 {
			delete(r.made, old)
		}
	}
	r.made[e] = k
	return k, nil
}
