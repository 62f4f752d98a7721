package seller_test

import (
	"testing"
	"time"

	"htlcdash/internal/exchange"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/seller"
)

// While nobody wants anything, parts of proofs are made; each proof takes one,
// and it is made again.
func TestProofsAreMadeAhead(t *testing.T) {
	stock := vole.Bits80.NewStock(proof.Link, 3)
	s := open(t, func(c *seller.Config) { c.Proofs = []proof.System{stock} })
	full := func() {
		t.Helper()
		for begun := time.Now(); stock.Len() < 3; time.Sleep(time.Millisecond) {
			if time.Since(begun) > time.Minute {
				t.Fatalf("%d of 3 pieces are in stock", stock.Len())
			}
		}
	}
	full()
	seg, guest := s.title.Segments(t, "v0")[0], s.guest(t)
	o := s.offers(t, guest, seg)[0]
	nonce := exchange.NewNonce()
	a := s.post(t, guest, "/v1/proofs", exchange.ProofRequest{
		Title: s.title.ID, System: "vole-80", Nonce: nonce, Sales: []exchange.SaleID{o.ID()},
	})
	if err := (exchange.Salted{}).Verify(vole.Bits80, s.info(t).Key, seg, o, nonce, a.body[4:]); err != nil {
		t.Error(err)
	}
	full()
}
