package buyer_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
	"htlcdash/source"
	"htlcdash/source/web"
)

// A viewer buys one segment of a title: within limits, proved before it is paid,
// with bytes from anywhere. The segment comes from the title's signed seal list.
func ExampleBuyer_Segment() {
	buy := func(ctx context.Context, seg htlcdash.Segment) ([]byte, error) {
		node, err := lnd.New(lnd.Config{Addr: "https://127.0.0.1:8080", TLSCertFile: "tls.cert", MacaroonFile: "buy.macaroon"})
		if err != nil {
			return nil, err
		}
		books, err := ledger.Open(filepath.Join(os.TempDir(), "viewer.db"))
		if err != nil {
			return nil, err
		}
		defer books.Close()
		mirror, err := web.New("https://mirror.example", nil)
		if err != nil {
			return nil, err
		}
		bytes, err := source.NewLibrary(source.Options{Memory: 64 << 20}, mirror)
		if err != nil {
			return nil, err
		}
		b, err := buyer.New(buyer.Config{
			Ledger: books, Payer: node, Sealed: bytes,
			Limits: buyer.Limits{Segment: 10 * lightning.Sat, Title: 500 * lightning.Sat, Day: 2000 * lightning.Sat},
			Proofs: []string{"vole-80", "vole-128"},
		})
		if err != nil {
			return nil, err
		}
		defer b.Close()
		films, err := buyer.NewProvider("https://films.example", nil)
		if err != nil {
			return nil, err
		}
		if err := b.AddTitle(ctx, seg.Title, seg.Price, []*buyer.Provider{films}); err != nil {
			return nil, err
		}
		return b.Segment(ctx, seg)
	}
	_, err := buy(context.Background(), htlcdash.Segment{})
	fmt.Println("bought:", err == nil) // there is no node here
	// Output: bought: false
}
