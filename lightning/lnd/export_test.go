package lnd

import (
	"errors"
	"time"

	"htlcdash/lightning"
)

// Price opens what the guard reads out of a payment's request.
func Price(body []byte) (lightning.Msat, lightning.Hash, error) { return price(body) }

// Final opens what the guard reads out of a payment's response.
func Final(body []byte) (lightning.Payment, bool) { return final(body) }

// SetSure shortens the time after which the guard asks lnd about a payment
// whose outcome nobody saw.
func (n *Node) SetSure(d time.Duration) { n.sure = d }

// Tear makes the next write of a tally fail in the middle of its line.
func (t *FileTally) Tear() error {
	_, err := t.file.WriteString(`[{"account":"x","ha`)
	return errors.Join(err, t.file.Close())
}

// LooseTill makes invoices without a node.
func LooseTill(secret [32]byte) *Till {
	t := &Till{secret: &secret, network: lightning.Simnet}
	t.serving.Store(true)
	return t
}

// Derived opens what a till puts into an invoice.
func (t *Till) Derived(scid uint64, h lightning.Hash, amount lightning.Msat, expires int64, note []byte) (node lightning.NodeID, secret [32]byte, metadata []byte) {
	return lightning.NodeID(t.key(scid).PubKey().SerializeCompressed()), t.payment(scid, h),
		t.seal(scid, h, order{amount: amount, expires: expires, note: note})
}
