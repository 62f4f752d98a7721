package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// A receipt is what a provider signed and the preimage that was paid for: it
// shows anybody what was promised, and that it was paid.
type receipt struct {
	Scheme    string              `json:"scheme"`
	At        time.Time           `json:"paid_at"`
	Provider  string              `json:"provider"` // its address then
	Key       htlcdash.ProviderID `json:"key"`
	Promise   string              `json:"promise"` // as it was signed, hexadecimal
	Signature string              `json:"signature"`
	Preimage  string              `json:"preimage"`
	Kept      bool                `json:"kept"` // it gave what was promised
}

// exportReceipts writes a line of JSON for each payment whose promise is known.
func (c ledgerExport) exportReceipts(ctx context.Context, books *ledger.Ledger, f ledger.Filter) error {
	if c.Out == "" {
		return usageError{errors.New("receipts hold preimages, which are worth money: name a new file with --out, and keep it as you keep keys")}
	}
	out, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.Paid = true
	return errors.Join(writeReceipts(ctx, out, books, f), out.Sync(), out.Close())
}

func writeReceipts(ctx context.Context, out io.Writer, books *ledger.Ledger, f ledger.Filter) error {
	lines := json.NewEncoder(out)
	for p, err := range books.Purchases(ctx, f) {
		if err != nil {
			return err
		}
		if p.Signer == (htlcdash.ProviderID{}) {
			continue // nothing was signed
		}
		preimage, err := preimageOf(ctx, books, p)
		if errors.Is(err, htlcdash.ErrNotFound) {
			continue // none came
		}
		if err != nil {
			return err
		}
		scheme, promise := promiseOf(p)
		secret := preimage.Reveal()
		err = lines.Encode(receipt{
			Scheme: scheme, At: p.Settled.UTC(), Provider: p.Provider, Key: p.Signer, Promise: hex.EncodeToString(promise),
			Signature: hex.EncodeToString(p.Signature[:]), Preimage: hex.EncodeToString(secret[:]), Kept: !p.Lost,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// promiseOf is what the provider signed.
func promiseOf(p ledger.Purchase) (scheme string, promise []byte) {
	if len(p.Promise) > 0 {
		return exchange.SchemeKeyed, p.Promise
	}
	o := exchange.Offer{Price: p.Amount, Hash: p.Hash, Salt: p.Salt, Expires: p.Expires, Prover: p.Prover}
	return exchange.SchemeSalted, exchange.PromiseOf(p.Title, htlcdash.Seal{Sealed: p.Sealed, KeyHash: p.KeyHash}, o).Encode()
}

// preimageOf is what the payment revealed: the books hold it, or the key that
// it gave.
func preimageOf(ctx context.Context, books *ledger.Ledger, p ledger.Purchase) (lightning.Preimage, error) {
	if !p.Preimage.IsZero() {
		return p.Preimage, nil
	}
	key, err := books.Key(ctx, htlcdash.Seal{Sealed: p.Sealed, KeyHash: p.KeyHash})
	if err != nil {
		return lightning.Preimage{}, err
	}
	preimage := p.Salt.Preimage(key)
	if !preimage.Opens(p.Hash) { // the provider told the key in another way
		return lightning.Preimage{}, fmt.Errorf("preimage of %s: %w", p.Hash, htlcdash.ErrNotFound)
	}
	return preimage, nil
}
