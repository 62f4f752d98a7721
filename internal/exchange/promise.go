package exchange

import (
	"encoding/binary"
	"fmt"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// tagOffer names the kind of message that a signature over a [Promise] is for.
const tagOffer = "htlcdash/offer/v1"

// A Promise is what a provider signs with a salted offer: whoever pays Price
// over Hash learns, by Salt, the key with KeyHash. All of it is in the offer,
// the seal and the title, so that only the signature travels. Together with
// the preimage it lets anybody see whether the promise was kept.
type Promise struct {
	Title   htlcdash.TitleID
	Sealed  htlcdash.Root // "Q"
	KeyHash [32]byte      // "hA"
	Price   lightning.Msat
	Hash    lightning.Hash // "H"
	Salt    htlcdash.Salt
	Expires time.Time // whole seconds
	// Prover is set in an offer that is passed on: its provider does not know the
	// key, and promises no more than to pass on what it pays for. So it
	// accuses nobody.
	Prover htlcdash.ProviderID
}

// PromiseOf is what the offer o for a segment promises.
func PromiseOf(title htlcdash.TitleID, seal htlcdash.Seal, o Offer) Promise {
	return Promise{
		Title: title, Sealed: seal.Sealed, KeyHash: seal.KeyHash,
		Price: o.Price, Hash: o.Hash, Salt: o.Salt, Expires: o.Expires, Prover: o.Prover,
	}
}

// The promise on the wire, spec/05-exchange.md, all integers big-endian.
const (
	promiseVersion = 1
	promiseSalted  = 1 // the scheme
	promiseResold  = 2 // the same, passed on: the prover follows
	PromiseLength  = 2 + 2 + 32 + 32 + 32 + 8 + 32 + 32 + 8
)

// Encode gives the bytes that are signed.
func (p Promise) Encode() []byte {
	b := make([]byte, 0, PromiseLength)
	b = binary.BigEndian.AppendUint16(b, promiseVersion)
	scheme := uint16(promiseSalted)
	if p.resold() {
		scheme = promiseResold
	}
	b = binary.BigEndian.AppendUint16(b, scheme)
	b = append(b, p.Title[:]...)
	b = append(b, p.Sealed[:]...)
	b = append(b, p.KeyHash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Price))
	b = append(b, p.Hash[:]...)
	b = append(b, p.Salt[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Expires.Unix()))
	if p.resold() {
		b = append(b, p.Prover[:]...)
	}
	return b
}

func (p Promise) resold() bool { return p.Prover != (htlcdash.ProviderID{}) }

// ParsePromise reads what Encode gives of a promise that can be broken, and
// nothing else: the error matches [htlcdash.ErrFormat], also for one that is
// passed on.
func ParsePromise(b []byte) (p Promise, err error) {
	if len(b) != PromiseLength {
		return p, malformed("promise of %d bytes, want %d", len(b), PromiseLength)
	}
	if v, s := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]); v != promiseVersion || s != promiseSalted {
		return p, malformed("promise of version %d, scheme %d: this program knows %d and %d", v, s, promiseVersion, promiseSalted)
	}
	b = b[4:]
	b = b[copy(p.Title[:], b):]
	b = b[copy(p.Sealed[:], b):]
	b = b[copy(p.KeyHash[:], b):]
	price := binary.BigEndian.Uint64(b)
	b = b[8:]
	b = b[copy(p.Hash[:], b):]
	b = b[copy(p.Salt[:], b):]
	expires := binary.BigEndian.Uint64(b)
	if price == 0 || price > uint64(htlcdash.MaxPrice) {
		return p, malformed("promise for %d msat", price)
	}
	if expires == 0 || expires > maxExpires {
		return p, malformed("promise until %d", expires)
	}
	p.Price, p.Expires = lightning.Msat(price), time.Unix(int64(expires), 0).UTC()
	return p, nil
}

// Sign signs p for a provider.
func (p Promise) Sign(key htlcdash.ProviderKey) ([64]byte, error) {
	return key.Sign(tagOffer, p.Encode())
}

// Verify reports, by an error that matches [htlcdash.ErrSignature], that sig
// is not the provider's signature over p.
func (p Promise) Verify(provider htlcdash.ProviderID, sig [64]byte) error {
	return provider.Verify(tagOffer, p.Encode(), sig)
}

// Kept reports, by an error that matches [ErrCheated], that the preimage of a
// payment over p.Hash does not give the key. The error matches [ErrTerms] if
// it is no preimage of p.Hash at all, or if p is passed on: that shows nothing.
func (p Promise) Kept(preimage lightning.Preimage) error {
	if p.resold() {
		return broken("the key is promised by the prover %s, not by who signed", p.Prover)
	}
	if preimage.IsZero() || !preimage.Opens(p.Hash) {
		return fmt.Errorf("not the preimage of %s: %w", p.Hash, ErrTerms)
	}
	_, err := Salted{}.Key(preimage, p.Salt, htlcdash.Seal{Sealed: p.Sealed, KeyHash: p.KeyHash})
	return err
}

// SignOffer signs what o promises of the segment with seal in title.
func SignOffer(key htlcdash.ProviderKey, title htlcdash.TitleID, seal htlcdash.Seal, o Offer) ([64]byte, error) {
	return PromiseOf(title, seal, o).Sign(key)
}

// VerifyOffer reports, by an error that matches [htlcdash.ErrSignature], that
// sig is not the provider's signature over what o promises.
func VerifyOffer(provider htlcdash.ProviderID, title htlcdash.TitleID, seal htlcdash.Seal, o Offer, sig [64]byte) error {
	return PromiseOf(title, seal, o).Verify(provider, sig)
}
