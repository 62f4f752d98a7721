package exchange_test

import (
	"testing"

	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// A curious router sees hash, sum and invoice of each sale that it forwards, and
// may have bought the segment itself. It can neither tell what is bought, nor
// take a payment without forwarding it.
func TestCuriousRouter(t *testing.T) {
	node := newPayee(start)
	seen := map[lightning.Hash]bool{}
	for _, text := range []string{"watched", "also watched"} {
		seal, key := segment(t, text, 2500)
		bought := lightning.NewPreimage(key.Reveal())
		for buyer := range salter(50) {
			o, err := exchange.Salted{}.Sell(t.Context(), till(node), buyer, in(seal), key, 2500, 0, start)
			if err != nil {
				t.Fatal(err)
			}
			if seen[o.Hash] || o.Hash == lightning.Hash(seal.KeyHash) {
				t.Error("the payment hash was seen before, or stands in the seal list")
			}
			seen[o.Hash] = true
			if bought.Opens(o.Hash) {
				t.Error("who has the key can take the payment")
			}
			inv, err := lightning.DecodeInvoice(o.Invoice)
			if err != nil {
				t.Fatal(err)
			}
			inv.Hash, inv.Bolt11 = lightning.Hash{}, ""
			if first := lightning.NodeID(inv.Payee); inv.Memo != exchange.Memo || inv.Amount != 2500 || first == (lightning.NodeID{}) {
				t.Errorf("an invoice tells more than sum, hash and payee: %+v", inv)
			}
		}
	}
}
