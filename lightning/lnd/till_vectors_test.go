package lnd_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectorFile = "../../spec/vectors/till.json"

// tillVector is spec/vectors/till.json: what a till must derive again from its
// secret, or open invoices are worthless.
type tillVector struct {
	Comment  string         `json:"comment"`
	Secret   string         `json:"provider_secret"`
	Channel  uint64         `json:"channel,string"`
	Hash     lightning.Hash `json:"hash"`
	Amount   int64          `json:"amount_msat"`
	Expires  int64          `json:"expires"`
	Note     string         `json:"note"`
	Node     string         `json:"virtual_node"`
	Payment  string         `json:"payment_secret"`
	Metadata string         `json:"payment_metadata"`
}

// The derivations are written anew here from spec/09-till.md, so that the
// vectors do not only say that the code is as it is.
func TestTillVectors(t *testing.T) {
	secret, scid := bytes.Repeat([]byte{7}, 32), uint64(16_400_000)<<40|123_456<<16|7
	hash, note := lightning.Hash(sha256.Sum256([]byte("preimage"))), []byte("what the seller needs")
	mac := func(domain string, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write(append([]byte(domain), bytes.Join(parts, nil)...))
		return h.Sum(nil)
	}
	channel := binary.BigEndian.AppendUint64(nil, scid)
	key, _ := btcec.PrivKeyFromBytes(mac("htlcdash/till/key/v1", channel))
	plain := binary.BigEndian.AppendUint64(nil, 3000)
	plain = append(binary.BigEndian.AppendUint64(plain, 1_800_000_600), note...)
	block, err := aes.NewCipher(mac("htlcdash/till/note/v1", channel, hash[:]))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	v := tillVector{
		Comment: "spec/09-till.md",
		Secret:  hex.EncodeToString(secret), Channel: scid, Hash: hash, Amount: 3000, Expires: 1_800_000_600,
		Note:     hex.EncodeToString(note),
		Node:     hex.EncodeToString(key.PubKey().SerializeCompressed()),
		Payment:  hex.EncodeToString(mac("htlcdash/till/secret/v1", channel, hash[:])),
		Metadata: hex.EncodeToString(aead.Seal(nil, make([]byte, 12), plain, nil)),
	}
	node, payment, metadata := lnd.LooseTill([32]byte(secret)).Derived(scid, hash, 3000, 1_800_000_600, note)
	if node.String() != v.Node || hex.EncodeToString(payment[:]) != v.Payment || hex.EncodeToString(metadata) != v.Metadata {
		t.Errorf("the code derives %v, %x, %x; the text says %+v", node, payment, metadata, v)
	}
	want, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(vectorFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(vectorFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale, or %v: run go test -update", vectorFile, err)
	}
}
