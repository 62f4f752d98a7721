package lightning_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/bech32"

	"htlcdash/lightning"
)

const (
	vectorPayee = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"
	vectorHash  = "0001020304050607080900010203040506070809000102030405060708090102"
)

func TestDecodeInvoiceVectors(t *testing.T) {
	for _, v := range valid {
		t.Run(v.name, func(t *testing.T) {
			inv, err := lightning.DecodeInvoice(v.bolt11)
			if err != nil {
				t.Fatal(err)
			}
			if inv.Amount != v.amount || inv.Memo != v.memo || inv.Expiry != v.expiry {
				t.Errorf("got %v, %q, %v, want %v, %q, %v", inv.Amount, inv.Memo, inv.Expiry, v.amount, v.memo, v.expiry)
			}
			if inv.Bolt11 != strings.ToLower(v.bolt11) {
				t.Error("Bolt11 is not the invoice in lower case")
			}
			payee, hash, created := vectorPayee, vectorHash, int64(1496314658)
			switch {
			case strings.Contains(v.name, "within one week"):
				hash, created = "462264ede7e14047e9b249da94fefc47f41f7d02ee9b091815a5506bc8abf75f", 1572468703
			case strings.Contains(v.name, "highS"):
				payee = "02d0139ce7427d6dfffd26a326c18be754ef1e64672b42694ba5b23ef6e6e7803d"
			}
			if inv.Payee.String() != payee || inv.Hash.String() != hash || inv.Created.Unix() != created {
				t.Errorf("got payee %v, hash %v, time %v", inv.Payee, inv.Hash, inv.Created.Unix())
			}
			want := lightning.Mainnet
			if strings.Contains(v.name, "testnet") {
				want = lightning.Testnet
			}
			if inv.Network != want {
				t.Errorf("got network %v, want %v", inv.Network, want)
			}
		})
	}
}

func TestDecodeInvoiceInvalidVectors(t *testing.T) {
	for _, v := range invalid {
		t.Run(v.name, func(t *testing.T) {
			_, err := lightning.DecodeInvoice(v.bolt11)
			if !errors.Is(err, lightning.ErrInvoice) || !strings.Contains(err.Error(), v.why) {
				t.Fatalf("got %v, want one that says %q", err, v.why)
			}
			if strings.Contains(err.Error(), v.bolt11[len(v.bolt11)-20:]) {
				t.Error("the error quotes the invoice")
			}
		})
	}
}

func TestEncodeInvoiceComesBack(t *testing.T) {
	key, _ := btcec.PrivKeyFromBytes([]byte("a key for tests, worth nothing.."))
	for _, network := range []lightning.Network{lightning.Mainnet, lightning.Testnet, lightning.Signet, lightning.Regtest, lightning.Simnet} {
		for _, amount := range []lightning.Msat{0, 1, 9, 10, 99, 100, 1000, 12_345_678_901, 1e5, 1e8, 1e11, 21e17} {
			in := lightning.Invoice{
				Network: network, Amount: amount, Hash: sha256.Sum256([]byte(network)), Memo: "segment ½", FinalDelta: 40,
				Created: time.Unix(1_800_000_000, 0).UTC(), Expiry: 61 * time.Second,
			}
			made, err := lightning.EncodeInvoice(in, [32]byte{7}, key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := lightning.DecodeInvoice(made.Bolt11)
			if err != nil {
				t.Fatalf("%v %v: %v", network, amount, err)
			}
			if got != made {
				t.Errorf("got %+v, want %+v", got, made)
			}
		}
	}
}

func TestEncodeInvoiceRefuses(t *testing.T) {
	key, _ := btcec.PrivKeyFromBytes([]byte{1})
	for name, inv := range map[string]lightning.Invoice{
		"unknown network": {Network: "moon", Amount: 1},
		"too much money":  {Network: lightning.Simnet, Amount: 21e17 + 1},
		"negative amount": {Network: lightning.Simnet, Amount: -1},
		"held for ever":   {Network: lightning.Simnet, Amount: 1, FinalDelta: 1<<20 + 1},
		"long memo":       {Network: lightning.Simnet, Memo: strings.Repeat("x", 640)},
		"memo not UTF-8":  {Network: lightning.Simnet, Memo: "\xff"},
	} {
		if _, err := lightning.EncodeInvoice(inv, [32]byte{}, key); !errors.Is(err, lightning.ErrInvoice) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzDecodeInvoice asks that whatever decodes also survives being written
// again. The fuzzer works on the groups under the checksum, or it would never
// get past it.
func FuzzDecodeInvoice(f *testing.F) {
	for _, v := range valid {
		hrp, data, err := bech32.DecodeNoLimit(v.bolt11)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(hrp, data)
	}
	key, _ := btcec.PrivKeyFromBytes([]byte{1})
	f.Fuzz(func(t *testing.T, hrp string, data []byte) {
		for i := range data {
			data[i] &= 31
		}
		s, err := bech32.Encode(hrp, data)
		if err != nil {
			return
		}
		inv, err := lightning.DecodeInvoice(s)
		if err != nil {
			if !errors.Is(err, lightning.ErrInvoice) {
				t.Fatal(err)
			}
			return
		}
		made, err := lightning.EncodeInvoice(inv, [32]byte{}, key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := lightning.DecodeInvoice(made.Bolt11)
		if err != nil || got.Hash != inv.Hash || got.Amount != inv.Amount || got.Memo != inv.Memo {
			t.Fatalf("got %+v, %v, want %+v", got, err, inv)
		}
	})
}

func BenchmarkDecodeInvoice(b *testing.B) {
	for b.Loop() {
		if _, err := lightning.DecodeInvoice(valid[1].bolt11); err != nil {
			b.Fatal(err)
		}
	}
}
