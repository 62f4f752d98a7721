package town_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/internal/title/titletest"
	"htlcdash/internal/town"
	"htlcdash/lightning"
)

// A deal is one payment of a viewer to a shop, as both books are to have it.
type deal struct {
	buys, sells *ledger.Ledger
	purchase    ledger.Purchase
	payment     lightning.Payment
	key         htlcdash.Key
}

// The audit adds up where all is well, and says so where it is not.
func TestAudit(t *testing.T) {
	film := titletest.Make(t, titletest.Options{Segments: 2})
	segs := film.Segments(t, "v0")
	for name, c := range map[string]struct {
		book func(*testing.T, deal)
		want string // of the error; empty: none
		not  int    // got
	}{
		"all is well": {func(t *testing.T, d deal) { d.book(t, d.key, d.payment.Amount) }, "", 0},
		"no key":      {func(t *testing.T, d deal) { d.book(t, htlcdash.Key{}, d.payment.Amount) }, "lost", 1},
		"the shop's books lack it": {func(t *testing.T, d deal) {
			check(t, d.buys.Conclude(t.Context(), d.purchase.Hash, d.payment, d.key))
		}, "shops got", 0},
		"the outcome is not known": {func(*testing.T, deal) {}, "unsettled", 0},
	} {
		t.Run(name, func(t *testing.T) {
			place, err := town.New(town.Config{Folder: t.TempDir()})
			check(t, err)
			defer func() { check(t, place.Close()) }()
			shop, err := place.Settle("shop", town.Trade{Titles: film.Dir})
			check(t, err)
			viewer, err := place.Arrive("viewer", []*town.Shop{shop})
			check(t, err)
			buys, err := ledger.Open(filepath.Join(viewer.Folder, "viewer.db"))
			check(t, err)
			sells, err := ledger.Open(filepath.Join(shop.Folder, "provider.db"))
			check(t, err)
			inv, err := shop.Node.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: 700})
			check(t, err)
			key, err := film.Keys.Key(t.Context(), segs[0])
			check(t, err)
			d := deal{buys: buys, sells: sells, key: key, purchase: ledger.Purchase{
				Hash: inv.Hash, Title: film.ID, Representation: "v0", Sealed: segs[0].Sealed, KeyHash: segs[0].KeyHash,
				Provider: shop.URL, Payee: shop.Node.ID(), Amount: 700, Bolt11: inv.Bolt11, Created: time.Now(),
			}}
			check(t, buys.Intend(t.Context(), d.purchase))
			d.payment, err = viewer.Node.Pay(t.Context(), inv, 0)
			check(t, err)
			c.book(t, d)
			check(t, buys.Close())
			check(t, sells.Close())
			account, err := place.Audit(t.Context(), film.Title, film.Dir)
			if c.want == "" {
				check(t, err)
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			if account.NotGot != c.not {
				t.Errorf("%d paid and not got, want %d", account.NotGot, c.not)
			}
		})
	}
}

// book has both books tell of the payment.
func (d deal) book(t *testing.T, key htlcdash.Key, received lightning.Msat) {
	t.Helper()
	check(t, d.sells.Offered(t.Context(), []ledger.Sale{{
		Hash: d.purchase.Hash, Title: d.purchase.Title, Representation: "v0", Sealed: d.purchase.Sealed, Scheme: "salted", Amount: d.purchase.Amount, Created: time.Now(),
	}}))
	check(t, d.sells.Settle(t.Context(), ledger.FromNode, lightning.Receipt{Index: 1, Hash: d.purchase.Hash, Amount: received, At: time.Now()}))
	check(t, d.buys.Conclude(t.Context(), d.purchase.Hash, d.payment, key))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
