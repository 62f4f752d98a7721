package seller_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/publish"
	"htlcdash/internal/seller"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// openGroups opens a shop whose title has 3 segments to a key, and 2 to the
// last.
func openGroups(t *testing.T) *shop {
	made := titletest.Make(t, titletest.Options{Group: publish.Grouping{Length: 3 * time.Second}})
	s := open(t, func(c *seller.Config) { c.Titles = []string{made.Dir} })
	s.title = made
	return s
}

// An offer for any segment of a group sells the key of all.
func TestOffersOfAGroup(t *testing.T) {
	s := openGroups(t)
	segs := s.title.Segments(t, "v1")
	offers := s.offers(t, s.guest(t), segs...)
	for i, price := range []lightning.Msat{9_000, 9_000, 9_000, 6_000, 6_000} {
		if offers[i].Price != price {
			t.Errorf("segment %d is offered for %v, want %v", i, offers[i].Price, price)
		}
	}
	inv, err := exchange.Salted{}.Check(offers[1], s.info(t).Key, segs[1], time.Now())
	if err != nil {
		t.Fatal(err)
	}
	paid, err := s.viewer.Pay(t.Context(), inv, 0)
	if err != nil {
		t.Fatal(err)
	}
	key, err := exchange.Salted{}.Key(paid.Preimage, offers[1].Salt, segs[1].Seal)
	if err != nil {
		t.Fatal(err)
	}
	for i, seg := range segs[:3] {
		plain, err := seg.Open(key, s.get(t, "/sealed/"+seg.Sealed.String()).body)
		if err != nil || !bytes.Equal(plain, s.title.Plain("v1", i)) {
			t.Errorf("segment %d: %v", i, err)
		}
	}
	if key.Opens(segs[3].Seal) {
		t.Error("the key opens the next group")
	}
	report := s.settled(t, 1)
	for _, r := range report.Titles[0].Representations {
		if r.ID == "v1" && (fmt.Sprint(r.Sold) != "[0 1 0 0 0]" || r.Price != 15_000 || r.Earned != 9_000) {
			t.Errorf("report of the rung: %+v", r)
		}
	}
}

// Plain bytes are those of one segment, and cost its share of the key.
func TestPlainBytesOfAGroup(t *testing.T) {
	s := openGroups(t)
	for i, price := range []lightning.Msat{3_000, 3_000, 3_000, 3_000, 3_000} {
		path := fmt.Sprintf("/t/title/v1/%d.m4s", i+1)
		a := s.get(t, path)
		p := a.problem(t)
		if want := []int{3, 3, 3, 2, 2}[i]; p.Offer == nil || p.Offer.Opens != want || p.Offer.Price != 3_000*lightning.Msat(want) {
			t.Errorf("segment %d: %s", i, a.body)
		}
		inv, err := lightning.DecodeInvoice(a.params()["invoice"])
		if err != nil || inv.Amount != price {
			t.Errorf("segment %d: invoice over %v, want %v: %v", i, inv.Amount, price, err)
		}
		if i > 0 {
			continue
		}
		paid := s.payL402(t, a)
		if a := s.get(t, path, "Authorization", paid); a.StatusCode != http.StatusOK || !bytes.Equal(a.body, s.title.Plain("v1", 0)) {
			t.Errorf("paid: %s", a.Status)
		}
		if a := s.get(t, "/t/title/v1/2.m4s", "Authorization", paid); a.StatusCode != http.StatusPaymentRequired {
			t.Errorf("paid for its neighbour: %s", a.Status)
		}
	}
}

// Shares are rounded up, so that all of them never cost less than the key.
func TestSharesAreRoundedUp(t *testing.T) {
	made := titletest.Make(t, titletest.Options{Group: publish.Grouping{Length: 3 * time.Second}})
	s := open(t, func(c *seller.Config) {
		c.Titles, c.Price = []string{made.Dir}, func(htlcdash.Segment) lightning.Msat { return 3_001 }
	})
	a := s.get(t, "/t/title/v1/1.m4s")
	inv, err := lightning.DecodeInvoice(a.params()["invoice"])
	if err != nil || inv.Amount != 2*lightning.Sat { // invoices are over whole satoshis
		t.Errorf("a third of 3001 msat: invoice over %v: %v", inv.Amount, err)
	}
}
