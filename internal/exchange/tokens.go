package exchange

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"htlcdash/lightning"
)

// domainTokenSale is what the preimages of sold tokens are derived under,
// spec/08-credential.md.
const domainTokenSale = "htlcdash/token-sale/v1"

// SchemePreimage is the authentication scheme by which who has paid for tokens
// shows the preimage: "Preimage", a blank, and 64 hexadecimal digits.
const SchemePreimage = "Preimage"

// A TokenOffer is what a batch of anonymous tokens costs at a provider that
// sells them, for one request to the byte.
type TokenOffer struct {
	Price   lightning.Msat
	Hash    lightning.Hash
	Invoice string // BOLT 11; over Price and Hash
	Expires time.Time
}

// SellTokens makes an offer for the answer to a request for tokens. The same
// request gets the same offer for about half its life. The till keeps nothing.
func (t Till) SellTokens(ctx context.Context, request []byte, price lightning.Msat, now time.Time) (TokenOffer, error) {
	digest, epoch := sha256.Sum256(request), now.UnixNano()/int64(t.Life/2)
	inv, err := t.Payee.Invoice(ctx, t.Secret.tokenPreimage(digest, epoch), lightning.Terms{
		Amount: price, Expiry: t.Life, Memo: Memo, Note: tokensNote(digest, epoch),
	})
	if err != nil {
		return TokenOffer{}, fmt.Errorf("invoice: %w", err)
	}
	return TokenOffer{inv.Amount, inv.Hash, inv.Bolt11, inv.Created.Add(inv.Expiry).Truncate(time.Second).UTC()}, nil
}

// TokensPaid returns nil if the value of an Authorization header shows that the
// answer to request was paid for, not longer ago than [Grace] after the
// invoice expired. It may be shown again: the answer is the same. The error
// matches [ErrNoCredential], [ErrMalformed] or [ErrForged].
func (t Till) TokensPaid(request []byte, authorization string, now time.Time) error {
	scheme, digits, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, SchemePreimage) {
		return ErrNoCredential
	}
	p, err := lightning.ParsePreimage(digits)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrMalformed)
	}
	digest, half := sha256.Sum256(request), int64(t.Life/2)
	for epoch := now.UnixNano() / half; epoch >= (now.UnixNano()-int64(t.Life+Grace))/half-1; epoch-- {
		if p.Opens(t.Secret.tokenPreimage(digest, epoch).Hash()) {
			return nil
		}
	}
	return ErrForged
}

func (s Secret) tokenPreimage(digest [32]byte, epoch int64) lightning.Preimage {
	return lightning.NewPreimage(s.mac(domainTokenSale, digest[:], binary.BigEndian.AppendUint64(nil, uint64(epoch))))
}

// wireTokenOffer is a [TokenOffer] as JSON.
type wireTokenOffer struct {
	Price   int64           `json:"price_msat"`
	Hash    *lightning.Hash `json:"hash"`
	Invoice string          `json:"invoice"`
	Expires int64           `json:"expires"`
}

// MarshalJSON gives the wire form.
func (o TokenOffer) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireTokenOffer{int64(o.Price), &o.Hash, o.Invoice, o.Expires.Unix()})
}

// ParseTokenOffer reads the wire form and holds the invoice against it, as
// [Salted.Check] does: the error matches [htlcdash.ErrFormat], or [ErrTerms]
// if the offer is over more than ceiling, contradicts itself, or is too old.
func ParseTokenOffer(b []byte, ceiling lightning.Msat, now time.Time) (TokenOffer, lightning.Invoice, error) {
	var w wireTokenOffer
	if err := unmarshal(b, MaxRequestBytes, "offer of tokens", &w); err != nil {
		return TokenOffer{}, lightning.Invoice{}, err
	}
	if w.Hash == nil || w.Price <= 0 || len(w.Invoice) > maxInvoiceBytes || w.Expires <= 0 || w.Expires > math.MaxInt32*int64(4) {
		return TokenOffer{}, lightning.Invoice{}, malformed("offer of tokens")
	}
	o := TokenOffer{lightning.Msat(w.Price), *w.Hash, w.Invoice, time.Unix(w.Expires, 0).UTC()}
	if o.Price > ceiling {
		return o, lightning.Invoice{}, broken("tokens for %v, you allow %v", o.Price, ceiling)
	}
	inv, err := Offer{Price: o.Price, Hash: o.Hash, Invoice: o.Invoice, Expires: o.Expires}.invoice(now)
	return o, inv, err
}
