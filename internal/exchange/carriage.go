package exchange

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// SchemeCarriage is what bytes are sold by in a provider's books: sealed bytes that
// were carried are paid for after they came (spec/15-carriage.md).
const SchemeCarriage = "carriage"

// domainCarriage is what the preimages of payments for carriage are derived
// under, spec/15-carriage.md.
const domainCarriage = "htlcdash/carriage/v1"

// Bounds of carriage.
const (
	MaxCarriageBytes = 4 << 10 // of the JSON of a request or an answer
	MaxBytePrice     = 1000 * lightning.Sat
	mebibyte         = 1 << 20
	// mostSealed is the length of the longest sealed segment.
	mostSealed = (htlcdash.MaxSegmentLength + htlcdash.LeafSize - 1) / htlcdash.LeafSize * htlcdash.LeafSize
)

// Carriage is what a provider takes for sealed bytes, and how many it sends
// before it is paid. The zero value is a provider that takes nothing.
type Carriage struct {
	Price lightning.Msat `json:"price_msat_per_mib"`
	Step  int64          `json:"step"` // bytes on credit for one credential
}

// NewCarriage returns the terms at price for who carries blobs of at most so many
// bytes: with the shortest step, in whole MiB, in which two such blobs fit, so that one
// is on its way while the other is paid for, and by which every payment comes to a
// satoshi, since most nodes pass on no less.
func NewCarriage(price lightning.Msat, longest int64) Carriage {
	if price <= 0 {
		return Carriage{}
	}
	return Carriage{Price: price, Step: (2*longest + leastBytes(price) + mebibyte - 1) / mebibyte * mebibyte}
}

// leastBytes is what a satoshi pays for.
func leastBytes(price lightning.Msat) int64 {
	return int64((lightning.Sat*mebibyte + price - 1) / price)
}

// Least is how many bytes a payment of one satoshi is for.
func (c Carriage) Least() int64 { return leastBytes(c.Price) }

// Free reports whether bytes cost nothing.
func (c Carriage) Free() bool { return c.Price == 0 }

// Check reports terms that make no sense, or put more at risk than they must: a
// step is no longer than two of the longest blobs that may be, and what a satoshi pays for. The error
// matches [htlcdash.ErrFormat].
func (c Carriage) Check() error {
	switch {
	case c == Carriage{}:
		return nil
	case c.Price <= 0 || c.Price > MaxBytePrice:
		return malformed("sealed bytes at %d msat a MiB", int64(c.Price))
	case c.Step < htlcdash.LeafSize || c.Step > 2*mostSealed+c.Least()+mebibyte:
		return malformed("a step of %d bytes at %v a MiB", c.Step, c.Price)
	}
	return nil
}

// Cost is what n bytes cost, rounded up; 0 for none.
func (c Carriage) Cost(n int64) lightning.Msat {
	n = max(n, 0)
	whole, rest := n/mebibyte, n%mebibyte
	return lightning.Msat(whole)*c.Price + (lightning.Msat(rest)*c.Price+mebibyte-1)/mebibyte
}

// Within is how many of n bytes cost no more than m.
func (c Carriage) Within(n int64, m lightning.Msat) int64 {
	switch {
	case c.Cost(n) <= m:
		return max(n, 0)
	case m <= 0:
		return 0
	}
	whole, rest := m/c.Price, m%c.Price // m is less than what n cost
	return int64(whole)*mebibyte + int64(rest*mebibyte/c.Price)
}

// A CarriageRequest asks for an invoice for bytes that came, or shows that one was
// paid.
type CarriageRequest struct {
	// Number tells apart the payments of one credential: each is greater than all
	// before. The same number gets the same invoice.
	Number uint32
	// Bytes is the most that is to be paid for. The provider asks for what it has
	// sent, if that is less.
	Bytes int64
	// Preimage is that of the payment; zero: it was not paid yet.
	Preimage lightning.Preimage
}

type wireCarriageRequest struct {
	Number   uint32 `json:"number"`
	Bytes    int64  `json:"bytes"`
	Preimage string `json:"preimage,omitempty"`
}

// MarshalJSON gives the wire form, which holds the preimage.
func (r CarriageRequest) MarshalJSON() ([]byte, error) {
	w := wireCarriageRequest{Number: r.Number, Bytes: r.Bytes}
	if !r.Preimage.IsZero() {
		b := r.Preimage.Reveal()
		w.Preimage = hex.EncodeToString(b[:])
	}
	return json.Marshal(w)
}

// ParseCarriageRequest reads the wire form, JSON and nothing after it. The error
// matches [htlcdash.ErrFormat], and quotes no preimage.
func ParseCarriageRequest(b []byte) (CarriageRequest, error) {
	var w wireCarriageRequest
	if len(b) > MaxCarriageBytes || json.Unmarshal(b, &w) != nil {
		return CarriageRequest{}, malformed("request for carriage of %d bytes", len(b))
	}
	if w.Number == 0 || w.Bytes < 0 || w.Bytes > 1<<40 {
		return CarriageRequest{}, malformed("carriage of %d bytes, number %d", w.Bytes, w.Number)
	}
	r := CarriageRequest{Number: w.Number, Bytes: w.Bytes}
	if w.Preimage == "" {
		return r, nil
	}
	var err error
	if r.Preimage, err = lightning.ParsePreimage(w.Preimage); err != nil {
		return CarriageRequest{}, malformed("preimage of carriage")
	}
	return r, nil
}

// A CarriageBill is the answer to a [CarriageRequest]: how many bytes were sent
// and are not paid for, and an invoice for Bytes of them unless that is 0.
type CarriageBill struct {
	Owed    int64 // below 0: paid ahead
	Bytes   int64 // that the invoice is for; 0: there is none
	Price   lightning.Msat
	Hash    lightning.Hash
	Invoice string // BOLT 11; over Price and Hash
	Expires time.Time
}

type wireCarriageBill struct {
	Owed    int64           `json:"owed_bytes"`
	Bytes   int64           `json:"bytes,omitempty"`
	Price   lightning.Msat  `json:"price_msat,omitempty"`
	Hash    *lightning.Hash `json:"hash,omitempty"`
	Invoice string          `json:"invoice,omitempty"`
	Expires int64           `json:"expires,omitempty"`
}

// MarshalJSON gives the wire form.
func (c CarriageBill) MarshalJSON() ([]byte, error) {
	w := wireCarriageBill{Owed: c.Owed}
	if c.Bytes > 0 {
		w = wireCarriageBill{c.Owed, c.Bytes, c.Price, &c.Hash, c.Invoice, c.Expires.Unix()}
	}
	return json.Marshal(w)
}

// ParseCarriageBill reads the wire form of the answer to r, and holds the invoice
// against the terms: the error matches [htlcdash.ErrFormat], or [ErrTerms] if the
// invoice is for more bytes than r allows, contradicts the bill, or is too old. A
// price below the terms is taken. The invoice is zero if there is none.
func ParseCarriageBill(b []byte, r CarriageRequest, terms Carriage, now time.Time) (CarriageBill, lightning.Invoice, error) {
	var w wireCarriageBill
	if err := unmarshal(b, MaxCarriageBytes, "bill for carriage", &w); err != nil {
		return CarriageBill{}, lightning.Invoice{}, err
	}
	bill := CarriageBill{Owed: w.Owed, Bytes: w.Bytes}
	if w.Bytes == 0 {
		return bill, lightning.Invoice{}, nil
	}
	if w.Hash == nil || w.Bytes < 0 || w.Price <= 0 || len(w.Invoice) > maxInvoiceBytes || w.Expires <= 0 || w.Expires > maxExpires {
		return CarriageBill{}, lightning.Invoice{}, malformed("bill for carriage")
	}
	bill.Price, bill.Hash, bill.Invoice, bill.Expires = w.Price, *w.Hash, w.Invoice, time.Unix(w.Expires, 0).UTC()
	if w.Bytes > r.Bytes || w.Price > terms.Cost(w.Bytes) {
		return bill, lightning.Invoice{}, broken("%v for carrying %d bytes, want at most %v for %d", w.Price, w.Bytes, terms.Cost(r.Bytes), r.Bytes)
	}
	inv, err := Offer{Price: bill.Price, Hash: bill.Hash, Invoice: bill.Invoice, Expires: bill.Expires}.invoice(now)
	return bill, inv, err
}

// CarriagePreimage is that of the payment with a number for n bytes, of an
// account: 32 random bytes, which no other one has.
func (s Secret) CarriagePreimage(account [32]byte, number uint32, n int64) lightning.Preimage {
	return s.carriagePreimage(account, carriageTail(number, n))
}

func (s Secret) carriagePreimage(account [32]byte, tail []byte) lightning.Preimage {
	return lightning.NewPreimage(s.mac(domainCarriage, account[:], tail))
}

func carriageTail(number uint32, n int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, number), uint64(n))
}

// SellCarriage makes the invoice of a bill: the payment with a number for n bytes,
// of an account. The till keeps nothing.
func (t Till) SellCarriage(ctx context.Context, account [32]byte, number uint32, n int64, price lightning.Msat) (CarriageBill, error) {
	inv, err := t.Payee.Invoice(ctx, t.Secret.CarriagePreimage(account, number, n), lightning.Terms{
		Amount: price, Expiry: t.Life, Memo: Memo, Note: carriageNote(account, number, n),
	})
	if err != nil {
		return CarriageBill{}, fmt.Errorf("invoice: %w", err)
	}
	return CarriageBill{
		Bytes: n, Price: inv.Amount, Hash: inv.Hash, Invoice: inv.Bolt11,
		Expires: inv.Created.Add(inv.Expiry).Truncate(time.Second).UTC(),
	}, nil
}
