package exchange

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// Memo is what invoices say. It is the same for all, since wallets keep it and
// custodians read it.
const Memo = "media"

// Salted is the scheme "salted": payment hash H = SHA256(A xor s) for the
// content key A and a salt s that only buyer and seller know. It has no state.
//
// It hides from the route what is bought, gives each sale a hash of its own,
// and needs nothing from the seller after the offer: the node settles the
// payment alone. A proof (see [Salted.Prove]) shows before the payment that its
// preimage leads to A. An offer without one is only the provider's word, signed
// as a [Promise].
type Salted struct{}

// An Invoicer makes invoices, as [lightning.Payee] says.
type Invoicer interface {
	Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error)
}

// A Salter is what a buyer's credential gives both sides: salts that nobody
// else can derive. The same arguments give the same salt.
type Salter interface {
	Salt(sealed htlcdash.Root, price lightning.Msat, counter int64) htlcdash.Salt
}

// A Till is where a provider's money arrives. All fields but Life are required.
type Till struct {
	Payee  Invoicer
	Secret Secret
	Key    htlcdash.ProviderKey // Secret's; signs offers
	Life   time.Duration        // of an offer; 0: [OfferLife]
}

// NewTill returns the till of the provider with a secret.
func NewTill(payee Invoicer, secret Secret, life time.Duration) Till {
	return Till{Payee: payee, Secret: secret, Key: secret.ProviderKey(), Life: cmp.Or(life, OfferLife)}
}

// Sell makes an offer, signed, for the content key of seg at price to the
// holder of a credential. The same credential, price and try get the same offer
// for about half its life, and then a new one: an offer in hand can be paid for at
// least half of t.Life. The error matches [ErrTerms] if the price is above the
// publisher's ceiling or not positive, else it is the node's.
func (Salted) Sell(ctx context.Context, t Till, buyer Salter, seg htlcdash.Segment, key htlcdash.Key, price lightning.Msat, try Try, now time.Time) (Offer, error) {
	if price <= 0 || price > seg.Price {
		return Offer{}, fmt.Errorf("price of %v, ceiling %v: %w", price, seg.Price, ErrTerms)
	}
	// Price and time are in the salt because a node keeps one invoice for each
	// hash, over one sum and for one time.
	counter := now.UnixNano()/int64(t.Life/2)*Tries + int64(try)
	salt := buyer.Salt(seg.Sealed, price, counter)
	inv, err := t.Payee.Invoice(ctx, salt.Preimage(key), lightning.Terms{
		Amount: price, Expiry: t.Life, Memo: Memo, Note: saltedNote(seg.Sealed, salt),
	})
	if err != nil {
		return Offer{}, fmt.Errorf("invoice: %w", err)
	}
	o := Offer{
		Sealed:  seg.Sealed,
		Price:   price,
		Hash:    inv.Hash,
		Invoice: inv.Bolt11,
		Salt:    salt,
		Counter: counter,
		Expires: inv.Created.Add(inv.Expiry).Truncate(time.Second).UTC(),
	}
	o.Signature, err = SignOffer(t.Key, seg.Title, seg.Seal, o)
	return o, err
}

// Resold is the offer that sold id to a buyer, as far as it can be derived
// again: without invoice, time and signature.
func (Salted) Resold(buyer Salter, id SaleID, key htlcdash.Key) (Offer, lightning.Preimage) {
	salt := buyer.Salt(id.Sealed, id.Price, id.Counter)
	p := salt.Preimage(key)
	return Offer{Sealed: id.Sealed, Price: id.Price, Hash: p.Hash(), Salt: salt, Counter: id.Counter}, p
}

// Check holds an offer of the provider p against the segment, before anything
// is paid, and returns the invoice to pay. The error matches [ErrRefused] if
// there is no offer, [ErrTerms] if the offer is not what the seal allows, is
// not signed by p, or is no longer good at now. Whether the payment will buy
// the key only a proof shows, see [Salted.Verify].
func (Salted) Check(o Offer, p htlcdash.ProviderID, seg htlcdash.Segment, now time.Time) (lightning.Invoice, error) {
	inv, err := o.check(seg.Seal, now)
	if err != nil {
		return lightning.Invoice{}, err
	}
	if err := VerifyOffer(p, seg.Title, seg.Seal, o, o.Signature); err != nil {
		return lightning.Invoice{}, fmt.Errorf("%w: %w", err, ErrTerms)
	}
	return inv, nil
}

func (o Offer) check(seal htlcdash.Seal, now time.Time) (lightning.Invoice, error) {
	if o.Error != "" {
		return lightning.Invoice{}, fmt.Errorf("%q: %w", o.Error, ErrRefused)
	}
	if o.Sealed != seal.Sealed {
		return lightning.Invoice{}, broken("for another segment")
	}
	if o.Price <= 0 || o.Price > seal.Price {
		return lightning.Invoice{}, broken("price of %v, ceiling %v", o.Price, seal.Price)
	}
	if o.Hash == lightning.Hash(seal.KeyHash) {
		return lightning.Invoice{}, broken("payment hash is not salted")
	}
	return o.invoice(now)
}

// invoice decodes the invoice of o and holds it against the rest of o.
func (o Offer) invoice(now time.Time) (lightning.Invoice, error) {
	inv, err := lightning.DecodeInvoice(o.Invoice)
	switch {
	case err != nil:
		return inv, fmt.Errorf("invoice: %w: %w", err, ErrTerms)
	case inv.Hash != o.Hash:
		return inv, broken("invoice has another payment hash")
	case inv.Amount != o.Price:
		return inv, broken("invoice over %v, price %v", inv.Amount, o.Price)
	case inv.FinalDelta > MaxLock:
		return inv, broken("payment may be held for %d blocks, at most %d", inv.FinalDelta, MaxLock)
	case inv.Expired(now) || !now.Before(o.Expires):
		return inv, ErrExpired
	}
	return inv, nil
}

// Key turns the preimage of a paid offer into the content key. The error
// matches [ErrCheated] if it is not the key of seal.
func (Salted) Key(p lightning.Preimage, salt htlcdash.Salt, seal htlcdash.Seal) (htlcdash.Key, error) {
	if p.IsZero() {
		return htlcdash.Key{}, fmt.Errorf("no preimage: %w", ErrCheated)
	}
	key := salt.Key(p)
	if !key.Opens(seal) {
		return htlcdash.Key{}, fmt.Errorf("segment %v: %w", seal.Sealed, ErrCheated)
	}
	return key, nil
}

func broken(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrTerms)...)
}
