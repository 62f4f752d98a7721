// Package exchange holds the schemes by which a content key changes hands for
// a payment: both halves of each, and the messages between them. It does no
// I/O but for the payee's node, and reads no clock: callers hand in the time.
//
//	viewer, with a credential             provider
//	  OfferRequest{title, Q...}        ->
//	                                   <- OfferResponse{price, hash, invoice, salt...}, signed
//	  ProofRequest{title, nonce, ...}  ->
//	                                   <- a proof that the preimage of hash gives the key
//	  pays the invoice over Lightning  ->  (the node settles it alone)
//	                                   <- preimage; key = preimage xor salt
//
// That is [Salted], the scheme of our own viewers: with a proof nothing is at
// risk, without one the price of one payment. [Keyed] sells content that no
// publisher has sealed, by chunks. [Prepaid] is for foreign clients:
// L402 and the HTTP scheme "Payment", both of which pay first and trust the
// provider to deliver.
//
// The formats are told in spec/05-exchange.md.
package exchange

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// Names of the schemes on the wire.
const (
	SchemeSalted  = "salted"
	SchemePrepaid = "prepaid"
)

// Bounds on messages.
const (
	MaxBatch         = 64        // segments in one [OfferRequest]
	MaxRequestBytes  = 8 << 10   // of the JSON of an [OfferRequest]
	MaxResponseBytes = 256 << 10 // of the JSON of an [OfferResponse]
	maxInvoiceBytes  = 2 << 10   // of one BOLT 11 invoice
	maxExpires       = 1 << 33   // Unix seconds: in the year 2242
)

// MaxLock is for how many blocks a provider's node may hold a payment before it
// takes it or gives it back: two days. Nodes ask for 18 to 144.
const MaxLock = 288

// OfferLife is how long an offer can be paid if the provider says nothing else.
const OfferLife = 10 * time.Minute

// Errors that callers decide on.
var (
	// ErrTerms means that an offer does not say what the seal says: another
	// segment, a price above the ceiling, an invoice over another sum or hash,
	// or one that is too old. Nothing was paid.
	ErrTerms = errors.New("offer breaks the terms")
	// ErrExpired means that it is too old, by our clock. It matches [ErrTerms].
	ErrExpired = fmt.Errorf("expired: %w", ErrTerms)
	// ErrRefused means that the provider has no offer for the segment now. The
	// text says why, as one of the Refused constants.
	ErrRefused = errors.New("provider makes no offer")
	// ErrCheated means that a paid preimage does not lead to the segment's key.
	ErrCheated = errors.New("payment did not buy the key")
	// ErrNoCredential means that a request carries no proof of payment of a
	// scheme that we know.
	ErrNoCredential = errors.New("no proof of payment")
	// ErrMalformed means that a proof of payment cannot be read.
	ErrMalformed = errors.New("malformed proof of payment")
	// ErrForged means that a proof of payment was not issued here, or was
	// never paid.
	ErrForged = errors.New("proof of payment does not verify")
	// ErrStale means that a proof of payment was good, but for another segment
	// or another time.
	ErrStale = errors.New("proof of payment does not open this segment now")
)

// Why a provider makes no offer for a segment: [Offer].Error on the wire.
const (
	RefusedUnknown     = "unknown"       // no such segment in the title, or not sold here
	RefusedFree        = "free"          // costs nothing: get it at its media path
	RefusedBusy        = "busy"          // too many open offers: ask again later
	RefusedUnavailable = "unavailable"   // the provider's node does not answer, or nobody upstream does
	RefusedDear        = "not-sold-here" // upstream asks so much that nothing is left for who resells
)

// A Refusal is one of the Refused constants as an error. It matches [ErrRefused].
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Unwrap makes a Refusal match [ErrRefused].
func (Refusal) Unwrap() error { return ErrRefused }

// A Nonce is fresh randomness of the buyer, used once.
type Nonce [32]byte

// An OfferRequest asks for one offer for each of at most [MaxBatch] segments of
// a title, named by the roots of their sealed bytes. The same credential and try
// get the same offers for as long as they live, so asking again is free for both
// sides. Another try gets others: a payment hash that failed is not paid again.
type OfferRequest struct {
	Title  htlcdash.TitleID
	Scheme string
	Try    Try
	Sealed []htlcdash.Root
	Hops   uint8 // how many resellers have handed the question on; a viewer's is 0
}

// A Try tells apart the offers for one segment to one buyer. It is below
// [Tries].
type Try uint32

// Tries is how many offers for a segment a buyer can have while they live.
const Tries = 1 << 24

// NewTry returns a try by chance.
func NewTry() Try { return Try(mrand.Uint32N(Tries)) }

// An Offer is what one segment costs at one provider, now. Either Error is set
// and says why there is none, or all the rest is.
type Offer struct {
	Sealed  htlcdash.Root // the segment
	Price   lightning.Msat
	Hash    lightning.Hash
	Invoice string // BOLT 11; over Price and Hash
	Salt    htlcdash.Salt
	Counter int64     // names the offer to its provider, see [SaleID]
	Expires time.Time // whole seconds
	// Prover is whose proof shows that the payment buys the key, where that is not
	// the provider that makes the offer: it passes on another's (spec/14). Zero:
	// it is.
	Prover htlcdash.ProviderID
	// Signature is the provider's over the offer's [Promise].
	Signature [64]byte
	Error     string
}

// An OfferResponse has one offer for each segment of the request, in its order.
type OfferResponse struct {
	Offers []Offer `json:"offers"`
}

// A Secret is what a provider derives salts and credentials from. Whoever has
// it can forge credentials, so it never prints. The zero value holds none.
type Secret struct {
	_ [0]func()
	b **[32]byte // two pointers, as in htlcdash.Key
}

// NewSecret returns the secret made of b.
func NewSecret(b [32]byte) Secret {
	p := &b
	return Secret{b: &p}
}

// IsZero reports whether s holds no secret.
func (s Secret) IsZero() bool { return s.b == nil }

func (Secret) String() string { return "provider secret" }

// LogValue keeps s out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// mac is HMAC-SHA256 with a domain in front. All parts but the last must have
// a fixed length.
func (s Secret) mac(domain string, parts ...[]byte) (out [32]byte) {
	h := hmac.New(sha256.New, (*s.b)[:])
	h.Write([]byte(domain))
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}
