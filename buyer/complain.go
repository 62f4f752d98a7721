package buyer

import (
	"context"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/fraud"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// cheatedBy books that a key that was paid for opened nothing of worth, bans the
// provider, and accuses it before all.
func (b *Buyer) cheatedBy(ctx context.Context, p ledger.Purchase, c fraud.Complaint, cause error) {
	if err := b.c.Ledger.Lose(context.WithoutCancel(ctx), p.Hash); err != nil {
		b.c.Log.Error("loss not booked", "hash", p.Hash, "err", err)
	}
	b.till.change(p.Title, func(a *Account) { a.Lost += p.Amount + p.Fee })
	b.convict(&flight{Purchase: p}, cause)
	b.complain(p.Provider, c)
}

// saltedComplaint accuses the provider of a purchase of another key than it
// promised.
func saltedComplaint(p ledger.Purchase, preimage lightning.Preimage) fraud.Complaint {
	promise := exchange.PromiseOf(p.Title, htlcdash.Seal{Sealed: p.Sealed, KeyHash: p.KeyHash},
		exchange.Offer{Price: p.Amount, Hash: p.Hash, Salt: p.Salt, Expires: p.Expires})
	return fraud.Salted{Provider: p.Signer, Promise: promise, Signature: p.Signature, Preimage: preimage}
}

// accusePublisher is for a segment whose key opens its sealed bytes to
// something else.
func (b *Buyer) accusePublisher(ctx context.Context, seg htlcdash.Segment, key htlcdash.Key, sealed []byte) {
	if b.c.Signed == nil {
		return
	}
	c := fraud.Sealed{Representation: seg.Representation, Index: seg.Index, Seal: seg.Seal, Key: key, Bytes: sealed}
	var signature []byte
	var err error
	if c.MPD, signature, c.Path, err = b.c.Signed(ctx, seg); err == nil {
		c.Signature, err = htlcdash.ParseSignature(signature)
	}
	if err != nil {
		b.c.Log.Error("no complaint: what the publisher signed is not to be had", "title", seg.Title, "err", err)
		return
	}
	b.complain(c.Signature.Publisher.String(), c)
}

// complain hands a complaint over, and tells where it is. One that would prove
// nothing is not made: without a signature, for example.
func (b *Buyer) complain(about string, c fraud.Complaint) {
	if b.c.Complain == nil {
		return
	}
	if _, err := c.Judge(nil); err != nil {
		b.c.Log.Error("no complaint", "about", about, "err", err)
		return
	}
	name, err := b.c.Complain(c.Encode())
	if err != nil {
		b.c.Log.Error("complaint not kept", "about", about, "err", err)
		return
	}
	b.c.Log.Error("cheated: this file proves it to anybody (htlcdash verify-fraud)", "about", about, "complaint", name)
}
