package exchange

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// NewNonce returns a fresh nonce from the system's generator.
func NewNonce() (n Nonce) {
	rand.Read(n[:]) // never fails, see crypto/rand
	return n
}

func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// MarshalText gives the hexadecimal form.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (n *Nonce) UnmarshalText(b []byte) error { return decodeHex(n[:], string(b), "nonce") }

// wireRequest is an [OfferRequest] as JSON.
type wireRequest struct {
	Title  htlcdash.TitleID `json:"title"`
	Scheme string           `json:"scheme"`
	Try    Try              `json:"try"`
	Sealed []htlcdash.Root  `json:"sealed"`
	Hops   uint8            `json:"hops,omitempty"`
}

// MarshalJSON gives the wire form.
func (r OfferRequest) MarshalJSON() ([]byte, error) { return json.Marshal(wireRequest(r)) }

// ParseOfferRequest reads the wire form, which must not be followed by
// anything. The error matches [htlcdash.ErrFormat]. Unknown members are
// ignored, so that later versions can say more.
func ParseOfferRequest(b []byte) (OfferRequest, error) {
	var w wireRequest
	if err := unmarshal(b, MaxRequestBytes, "offer request", &w); err != nil {
		return OfferRequest{}, err
	}
	if n := len(w.Sealed); n == 0 || n > MaxBatch {
		return OfferRequest{}, malformed("offer request for %d segments, want 1 to %d", n, MaxBatch)
	}
	if w.Title == (htlcdash.TitleID{}) {
		return OfferRequest{}, malformed("offer request without a title")
	}
	if w.Try >= Tries {
		return OfferRequest{}, malformed("offer request with try %d, at most %d", w.Try, Tries-1)
	}
	w.Hops = min(w.Hops, MaxHops)
	return OfferRequest(w), nil
}

// wireOffer is an [Offer] as JSON.
type wireOffer struct {
	Sealed  htlcdash.Root   `json:"sealed"`
	Price   int64           `json:"price_msat,omitempty"`
	Hash    *lightning.Hash `json:"hash,omitempty"`
	Invoice string          `json:"invoice,omitempty"`
	Salt    string          `json:"salt,omitempty"`
	Counter int64           `json:"counter,omitempty"`
	Expires int64           `json:"expires,omitempty"` // Unix seconds
	Prover  string          `json:"prover,omitempty"`
	Sig     string          `json:"signature,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// MarshalJSON gives the wire form, salt included.
func (o Offer) MarshalJSON() ([]byte, error) {
	if o.Error != "" {
		return json.Marshal(wireOffer{Sealed: o.Sealed, Error: o.Error})
	}
	prover := ""
	if o.Prover != (htlcdash.ProviderID{}) {
		prover = o.Prover.String()
	}
	return json.Marshal(wireOffer{
		Prover:  prover,
		Sealed:  o.Sealed,
		Price:   int64(o.Price),
		Hash:    &o.Hash,
		Invoice: o.Invoice,
		Salt:    hex.EncodeToString(o.Salt[:]),
		Counter: o.Counter,
		Expires: o.Expires.Unix(),
		Sig:     hex.EncodeToString(o.Signature[:]),
	})
}

// UnmarshalJSON reads the wire form. The error matches [htlcdash.ErrFormat]
// where the JSON itself is in order.
func (o *Offer) UnmarshalJSON(b []byte) error {
	var w wireOffer
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	if w.Error != "" {
		if len(w.Error) > 64 {
			return malformed("offer with an error of %d bytes", len(w.Error))
		}
		*o = Offer{Sealed: w.Sealed, Error: w.Error}
		return nil
	}
	switch {
	case w.Hash == nil:
		return malformed("offer without a hash")
	case w.Price <= 0:
		return malformed("offer with a price of %d msat", w.Price)
	case w.Invoice == "" || len(w.Invoice) > maxInvoiceBytes:
		return malformed("offer with an invoice of %d bytes", len(w.Invoice))
	case w.Expires <= 0 || w.Expires > maxExpires:
		return malformed("offer that expires at %d", w.Expires)
	}
	*o = Offer{
		Sealed:  w.Sealed,
		Price:   lightning.Msat(w.Price),
		Hash:    *w.Hash,
		Invoice: w.Invoice,
		Counter: w.Counter,
		Expires: time.Unix(w.Expires, 0).UTC(),
	}
	if w.Prover != "" {
		if err := decodeHex(o.Prover[:], w.Prover, "prover"); err != nil {
			return err
		}
		if o.Prover == (htlcdash.ProviderID{}) {
			return malformed("prover of zeros")
		}
	}
	if err := decodeHex(o.Signature[:], w.Sig, "signature"); err != nil {
		return err
	}
	return decodeHex(o.Salt[:], w.Salt, "salt")
}

// ParseOfferResponse reads the answer to req: offers for its segments, in its
// order, and nothing else. The error matches [htlcdash.ErrFormat].
func ParseOfferResponse(b []byte, req OfferRequest) (OfferResponse, error) {
	var r OfferResponse
	if err := unmarshal(b, MaxResponseBytes, "offers", &r); err != nil {
		return OfferResponse{}, err
	}
	if len(r.Offers) != len(req.Sealed) {
		return OfferResponse{}, malformed("%d offers for %d segments", len(r.Offers), len(req.Sealed))
	}
	for i, o := range r.Offers {
		if o.Sealed != req.Sealed[i] {
			return OfferResponse{}, malformed("offer %d is for another segment", i)
		}
	}
	return r, nil
}

func unmarshal(b []byte, limit int, what string, v any) error {
	if len(b) > limit {
		return malformed("%s of %d bytes, at most %d", what, len(b), limit)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w: %w", what, err, htlcdash.ErrFormat)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, htlcdash.ErrFormat)...)
}

func decodeHex(dst []byte, s, what string) error {
	if len(s) != 2*len(dst) {
		return malformed("%s has %d digits, want %d", what, len(s), 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return malformed("%s is not hexadecimal", what)
	}
	return nil
}
