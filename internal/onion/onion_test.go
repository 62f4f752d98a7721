package onion_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash/internal/onion"
	"htlcdash/lightning"
)

// vectors is bolt04/onion-test.json of github.com/lightning/bolts (CC BY 4.0).
type vectors struct {
	Generate struct {
		AssociatedData string `json:"associated_data"`
		Hops           []struct{ Payload string }
	}
	Onion  string
	Decode []string // the hops' private keys
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/bolt04-onion-test.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// lastFailure is what the last hop of the examples sends back for 0x2002
// (BOLT 4, "Returning Errors", test vector, node 4).
const lastFailure = "a5e6bd0c74cb347f10cce367f949098f2457d14c046fd8a22cb96efb30b0fdcda8cb9168b50f2fd45edd73c1b0c8b33002df376801ff58aaa94000bf8a86f92620f343baef38a580102395ae3abf9128d1047a0736ff9b83d456740ebbb4aeb3aa9737f18fb4afb4aa074fb26c4d702f42968888550a3bded8c05247e045b866baef0499f079fdaeef6538f31d44deafffdfd3afa2fb4ca9082b8f1c465371a9894dd8c243fb4847e004f5256b3e90e2edde4c9fb3082ddfe4d1e734cacd96ef0706bf63c9984e22dc98851bcccd1c3494351feb458c9c6af41c0044bea3c47552b1d992ae542b17a2d0bba1a096c78d169034ecb55b6e3a7263c26017f033031228833c1daefc0dedb8cf7c3e37c9c37ebfe42f3225c326e8bcfd338804c145b16e34e4"

// The onion of BOLT 4 opens layer by layer to the payloads that it was made of,
// and the failure that its last hop sends is the one of the text.
func TestVectors(t *testing.T) {
	v := readVectors(t)
	packet, hash := unhex(t, v.Onion), lightning.Hash(unhex(t, v.Generate.AssociatedData))
	for i, hop := range v.Generate.Hops {
		key, _ := btcec.PrivKeyFromBytes(unhex(t, v.Decode[i]))
		l, err := onion.Open(packet, key, hash)
		if err != nil {
			t.Fatalf("hop %d: %v", i, err)
		}
		want := unhex(t, hop.Payload)
		if n := len(want) - len(l.Said()); n < 1 || n > 3 || !bytes.Equal(l.Said(), want[n:]) {
			t.Errorf("hop %d: payload %x, want %x", i, l.Said(), want)
		}
		final, err := l.Final()
		if i < len(v.Generate.Hops)-1 {
			if !errors.Is(err, onion.ErrPayload) {
				t.Errorf("hop %d is not the last, got %v", i, err)
			}
			packet = l.Next(packet)
			continue
		}
		if err != nil || final.Amount != 10_000 || final.Total != 10_000 || final.Expiry != 1000 ||
			hex.EncodeToString(final.Secret[:]) != "24a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f61704" {
			t.Errorf("the last hop: got %+v, %v", final, err)
		}
		if got := hex.EncodeToString(l.Fail([]byte{0x20, 0x02})); got != lastFailure {
			t.Errorf("failure %s, want %s", got, lastFailure)
		}
	}
}

func privateKey(fill byte) *btcec.PrivateKey {
	key, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{fill}, 32))
	return key
}

var sample = onion.Final{Amount: 1234, Expiry: 500_000, Secret: [32]byte{9, 8, 7}, Total: 1234, Metadata: bytes.Repeat([]byte{5}, 300)}

func TestWrappedComesBack(t *testing.T) {
	node, session, hash := privateKey(1), privateKey(2), lightning.Hash{3}
	for _, want := range []onion.Final{sample, {Amount: 1, Expiry: 1, Total: 1}} {
		packet := onion.Wrap(want.Payload(), node.PubKey(), session, hash)
		if len(packet) != onion.Size {
			t.Fatalf("%d bytes", len(packet))
		}
		l, err := onion.Open(packet, node, hash)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := l.Final(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if n := len(l.Fail(onion.Incorrect(5, 7))); n != onion.FailureSize {
			t.Errorf("a failure of %d bytes, want %d", n, onion.FailureSize)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	node, hash := privateKey(1), lightning.Hash{3}
	good := onion.Wrap(sample.Payload(), node.PubKey(), privateKey(2), hash)
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for _, test := range []struct {
		name   string
		packet []byte
		key    *btcec.PrivateKey
		hash   lightning.Hash
		want   error
	}{
		{"another key", good, privateKey(4), hash, onion.ErrForeign},
		{"another hash", good, node, lightning.Hash{4}, onion.ErrForeign},
		{"too short", good[:onion.Size-1], node, hash, onion.ErrForeign},
		{"too long", append(bytes.Clone(good), 0), node, hash, onion.ErrForeign},
		{"empty", nil, node, hash, onion.ErrForeign},
		{"another version", change(0, 1), node, hash, onion.ErrForeign},
		{"no point", change(1, 5), node, hash, onion.ErrForeign},
		{"a bit of the route", change(100, good[100]^1), node, hash, onion.ErrForeign},
		{"a bit of the HMAC", change(onion.Size-1, good[onion.Size-1]^1), node, hash, onion.ErrForeign},
		{"no payload", onion.Wrap(nil, node.PubKey(), privateKey(2), hash), node, hash, onion.ErrPayload},
		{"a payload of one byte", onion.Wrap([]byte{1}, node.PubKey(), privateKey(2), hash), node, hash, onion.ErrPayload},
		{"a payload over the end", onion.Wrap(make([]byte, 1290), node.PubKey(), privateKey(2), hash), node, hash, onion.ErrPayload},
	} {
		l, err := onion.Open(test.packet, test.key, test.hash)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
		if test.want == onion.ErrPayload && len(l.Fail(nil)) != onion.FailureSize {
			t.Errorf("%s: it cannot be refused", test.name)
		}
	}
}

func TestPayloadRefuses(t *testing.T) {
	secret := make([]byte, 32)
	for _, test := range []struct {
		name    string
		payload []byte
	}{
		{"nothing", nil},
		{"cut off in a type", []byte{0xfd, 1}},
		{"cut off before a length", []byte{2}},
		{"cut off in a value", []byte{2, 2, 1}},
		{"a type too long", []byte{0xfd, 0, 2, 1, 1}},
		{"a length too long", []byte{2, 0xfd, 0, 1, 1}},
		{"a type twice", []byte{2, 1, 1, 2, 1, 1}},
		{"types out of order", []byte{4, 1, 1, 2, 1, 1}},
		{"a zero in front", []byte{2, 2, 0, 1}},
		{"an amount of nine bytes", append([]byte{2, 9}, 1, 0, 0, 0, 0, 0, 0, 0, 0)},
		{"an amount above all", append([]byte{2, 8}, 0xff, 0, 0, 0, 0, 0, 0, 0)},
		{"an expiry above all", append([]byte{2, 1, 1, 4, 5}, 1, 0, 0, 0, 0)},
		{"a short secret", append([]byte{2, 1, 1, 4, 1, 1, 8, 31}, secret[1:]...)},
		{"no secret", []byte{2, 1, 1, 4, 1, 1}},
		{"no amount", append([]byte{4, 1, 1, 8, 32}, secret...)},
		{"no expiry", append([]byte{2, 1, 1, 8, 32}, secret...)},
		{"an unknown even record", append(append([]byte{2, 1, 1, 4, 1, 1, 8, 32}, secret...), 18, 0)},
	} {
		if got, err := onion.ParsePayload(test.payload); err == nil {
			t.Errorf("%s: got %+v", test.name, got)
		}
	}
	odd := append(append([]byte{2, 1, 1, 4, 1, 1, 8, 32}, secret...), 17, 1, 5)
	if _, err := onion.ParsePayload(odd); err != nil {
		t.Errorf("an unknown odd record: %v", err)
	}
}

// FuzzPayload asks that whatever is read is what would be written again, but for
// records that are skipped.
func FuzzPayload(f *testing.F) {
	f.Add(sample.Payload())
	for _, hop := range readVectors(f).Generate.Hops {
		f.Add(unhex(f, hop.Payload)[1:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := onion.ParsePayload(b)
		if err != nil {
			return
		}
		again, err := onion.ParsePayload(got.Payload())
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("got %+v, again %+v, %v", got, again, err)
		}
	})
}

// FuzzOpen throws packets at a node. Those that open were made for it.
func FuzzOpen(f *testing.F) {
	node, hash := privateKey(1), lightning.Hash{3}
	f.Add(onion.Wrap(sample.Payload(), node.PubKey(), privateKey(2), hash))
	f.Add(make([]byte, onion.Size))
	f.Fuzz(func(t *testing.T, packet []byte) {
		l, err := onion.Open(packet, node, hash)
		if err == nil {
			_, _ = l.Final()
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	node, hash := privateKey(1), lightning.Hash{3}
	packet := onion.Wrap(sample.Payload(), node.PubKey(), privateKey(2), hash)
	for b.Loop() {
		if _, err := onion.Open(packet, node, hash); err != nil {
			b.Fatal(err)
		}
	}
}
