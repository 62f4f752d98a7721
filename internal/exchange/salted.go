package exchange

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// domainSalt is what salts are derived under, spec/05-exchange.md.
const domainSalt = "htlcdash/salt/v1"

// Memo is what invoices say. It is the same for all, since wallets keep it and
// custodians read it.
const Memo = "media"

// Salted is the scheme "salted": payment hash H = SHA256(A xor s) for the
// content key A and a salt s that only buyer and seller know. It has no state.
//
// It hides from the route what is bought, gives each sale a hash of its own,
// and needs nothing from the seller after the offer: the node settles the
// payment alone. It does not yet prove that the preimage of H leads to A, so
// the buyer risks the payment with each offer of a lying seller.
type Salted struct{}

// An Invoicer makes invoices, as [lightning.Payee] says.
type Invoicer interface {
	Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error)
}

// A Till is where a provider's money arrives. All fields but Life are required.
type Till struct {
	Payee  Invoicer
	Secret Secret
	Life   time.Duration // of an offer; 0: [OfferLife]
}

func (t Till) life() time.Duration {
	if t.Life == 0 {
		return OfferLife
	}
	return t.Life
}

// Sell makes an offer for the content key of seal at price. The same nonce and
// price get the same offer for about half its life, and then a new one: an
// offer in hand can be paid for at least half of t.Life. The error matches
// [ErrTerms] if the price is above the publisher's ceiling or not positive,
// else it is the node's.
func (Salted) Sell(ctx context.Context, t Till, seal htlcdash.Seal, key htlcdash.Key, nonce Nonce, price lightning.Msat, now time.Time) (Offer, error) {
	if price <= 0 || price > seal.Price {
		return Offer{}, fmt.Errorf("price of %v, ceiling %v: %w", price, seal.Price, ErrTerms)
	}
	salt := saltOf(t.Secret, nonce, seal.Sealed, price, now.UnixNano()/int64(t.life()/2))
	inv, err := t.Payee.Invoice(ctx, salt.Preimage(key), lightning.Terms{Amount: price, Expiry: t.life(), Memo: Memo})
	if err != nil {
		return Offer{}, fmt.Errorf("invoice: %w", err)
	}
	return Offer{
		Sealed:  seal.Sealed,
		Price:   price,
		Hash:    inv.Hash,
		Invoice: inv.Bolt11,
		Salt:    salt,
		Expires: inv.Created.Add(inv.Expiry).Truncate(time.Second).UTC(),
	}, nil
}

// saltOf derives the salt of a sale. Price and epoch are in it because a node
// keeps one invoice for each hash, over one sum and for one time.
func saltOf(s Secret, nonce Nonce, sealed htlcdash.Root, price lightning.Msat, epoch int64) htlcdash.Salt {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(price))
	binary.BigEndian.PutUint64(b[8:], uint64(epoch))
	return s.mac(domainSalt, nonce[:], sealed[:], b[:])
}

// Check holds an offer against the seal, before anything is paid, and returns
// the invoice to pay and the salt to remember. The error matches [ErrRefused]
// if there is no offer, [ErrTerms] if the offer is not what the seal allows or
// is no longer good at now.
func (Salted) Check(o Offer, seal htlcdash.Seal, now time.Time) (lightning.Invoice, htlcdash.Salt, error) {
	inv, err := o.check(seal, now)
	if err != nil {
		return lightning.Invoice{}, htlcdash.Salt{}, err
	}
	return inv, o.Salt, nil
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
	case o.Hash == lightning.Hash(seal.KeyHash):
		return inv, broken("payment hash is not salted")
	case inv.Expired(now) || !now.Before(o.Expires):
		return inv, broken("expired")
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
