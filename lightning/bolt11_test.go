package lightning_test

import (
	"bytes"
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

// vector returns the example of BOLT 11 whose name holds text.
func vector(t *testing.T, text string) string {
	t.Helper()
	for _, v := range valid {
		if strings.Contains(v.name, text) {
			return v.bolt11
		}
	}
	t.Fatalf("no example named %q", text)
	return ""
}

// fieldOf returns the groups of the first field with a tag.
func fieldOf(t *testing.T, bolt11 string, tag byte) []byte {
	t.Helper()
	_, data, err := bech32.DecodeNoLimit(bolt11)
	if err != nil {
		t.Fatal(err)
	}
	for data = data[7 : len(data)-104]; len(data) > 3; {
		length := int(data[1])<<5 | int(data[2])
		if data[0] == tag {
			return data[3 : 3+length]
		}
		data = data[3+length:]
	}
	t.Fatalf("no field %d", tag)
	return nil
}

func nodeID(t *testing.T, s string) lightning.NodeID {
	t.Helper()
	id, err := lightning.ParseNodeID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What is written on demand is, bit by bit, what stands in the examples.
func TestEncodeInvoiceFields(t *testing.T) {
	const tagHint, tagFeatures, tagMetadata = 3, 5, 27
	key, _ := btcec.PrivKeyFromBytes([]byte("a key for tests, worth nothing.."))
	metadata, hinted := vector(t, "metadata 0x01fafaf0"), vector(t, "1RustyRX2oai4EYYDpQGWvEL62")
	in := lightning.Invoice{Network: lightning.Mainnet, Amount: 1, Created: time.Unix(1496314658, 0).UTC()}
	made, err := lightning.EncodeInvoice(in, [32]byte{7}, key,
		lightning.RouteHint(
			lightning.Hop{Node: nodeID(t, "029e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255"), Channel: 0x0102030405060708, BaseFee: 1, FeeRate: 20, Delta: 3},
			lightning.Hop{Node: nodeID(t, "039e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255"), Channel: 0x030405060708090a, BaseFee: 2, FeeRate: 30, Delta: 4},
		),
		lightning.Metadata([]byte{0x01, 0xfa, 0xfa, 0xf0}),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		name string
		text string
		tag  byte
	}{{"route hint", hinted, tagHint}, {"metadata", metadata, tagMetadata}, {"features", metadata, tagFeatures}} {
		if got, want := fieldOf(t, made.Bolt11, want.tag), fieldOf(t, want.text, want.tag); !bytes.Equal(got, want) {
			t.Errorf("got %v, the example has %v", got, want)
		}
	}
	plain, err := lightning.EncodeInvoice(in, [32]byte{7}, key)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fieldOf(t, plain.Bolt11, tagFeatures), fieldOf(t, hinted, tagFeatures); !bytes.Equal(got, want) {
		t.Errorf("features %v, the example has %v", got, want)
	}
	got, err := lightning.DecodeInvoice(made.Bolt11)
	if err != nil || got != made {
		t.Errorf("got %+v, %v, want %+v", got, err, made)
	}
}

func TestEncodeInvoiceRefusesFields(t *testing.T) {
	key, _ := btcec.PrivKeyFromBytes([]byte{1})
	in := lightning.Invoice{Network: lightning.Simnet, Amount: 1}
	var many []lightning.Field
	for range 16 {
		many = append(many, lightning.Metadata(make([]byte, 639)))
	}
	for name, with := range map[string][]lightning.Field{
		"no hops":       {lightning.RouteHint()},
		"many hops":     {lightning.RouteHint(make([]lightning.Hop, 13)...)},
		"no metadata":   {lightning.Metadata(nil)},
		"much metadata": {lightning.Metadata(make([]byte, 640))},
		"much of all":   many,
	} {
		if _, err := lightning.EncodeInvoice(in, [32]byte{}, key, with...); !errors.Is(err, lightning.ErrInvoice) {
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
