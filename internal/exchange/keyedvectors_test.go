package exchange_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

const keyedFile = "../../spec/vectors/keyed.json"

// keyedVectors is spec/vectors/keyed.json.
type keyedVectors struct {
	Comment  string                `json:"comment"`
	Secret   string                `json:"provider_secret"`
	Token    string                `json:"token_secret"`
	Provider htlcdash.ProviderID   `json:"provider"`
	Root     htlcdash.Root         `json:"root"`
	Length   int64                 `json:"length"`
	Leaves   int                   `json:"leaves"`
	Layer    []htlcdash.Root       `json:"layer"`
	Request  exchange.ChunkRequest `json:"request"`
	Price    lightning.Msat        `json:"mib_msat"`
	Counter  int64                 `json:"counter"`
	Chunks   []chunkVector         `json:"chunks"`
}

type chunkVector struct {
	Index      int            `json:"index"`
	Price      lightning.Msat `json:"price_msat"`
	Key        string         `json:"key"`
	CipherKey  string         `json:"cipher_key"`
	Hash       lightning.Hash `json:"hash"`
	Chain      []string       `json:"chain"`
	Sealed     string         `json:"sealed_sha256"`
	Commitment htlcdash.Root  `json:"commitment"`
	Promise    string         `json:"promise"`
	Signature  string         `json:"signature"`
	Cell       int            `json:"cell"`
	Path       []string       `json:"cell_path"`
}

// cellRoot is the commitment written anew from spec/10-keyed.md.
func cellRoot(row [][]byte) []byte {
	for len(row)&(len(row)-1) != 0 {
		row = append(row, make([]byte, 32))
	}
	for len(row) > 1 {
		var up [][]byte
		for i := 0; i < len(row); i += 2 {
			up = append(up, hashOf([]byte("htlcdash/node/v1"), row[i], row[i+1]))
		}
		row = up
	}
	return row[0]
}

func hashOf(parts ...[]byte) []byte {
	h := sha256.Sum256(bytes.Join(parts, nil))
	return h[:]
}

func TestKeyedVectorsAreCurrent(t *testing.T) {
	data := make([]byte, 3*htlcdash.LeafSize+5000)
	for i := range data {
		data[i] = byte(i * i >> 9)
	}
	secret, token := bytes.Repeat([]byte{0x11}, 32), keyer(bytes.Repeat([]byte{0x22}, 64))
	node := newPayee(start)
	s := &stall{
		node: node, till: exchange.NewTill(node, exchange.NewSecret([32]byte(secret)), 0), data: data,
		cut: exchange.Cut{File: htlcdash.Blob{Root: htlcdash.RootOf(data), Length: int64(len(data))}, Leaves: 2},
	}
	s.signer = s.till.Key
	leaves, _, err := htlcdash.HashLeaves(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	s.layer = s.cut.Layer(leaves)
	v := keyedVectors{
		Comment: "spec/10-keyed.md. Byte i of the file is the low 8 bits of i*i, shifted right by 9. Secrets, keys and bytes are hexadecimal. No node stands behind the invoices.",
		Secret:  hex.EncodeToString(secret), Token: hex.EncodeToString(token[:]), Provider: s.signer.ID(),
		Root: s.cut.File.Root, Length: s.cut.File.Length, Leaves: s.cut.Leaves, Layer: s.layer, Price: 64_001,
		Request: exchange.ChunkRequest{Cut: s.cut, Indices: []int{0, 1}, Nonce: exchange.Nonce{0x33}},
		Counter: start.UnixNano() / int64(exchange.OfferLife/2),
	}
	for i := range s.layer {
		v.Chunks = append(v.Chunks, chunkVectorOf(t, s, token, v, i))
	}
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(keyedFile, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(keyedFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the code makes now; if that is meant, change spec/10 and run: go test ./internal/exchange -run Vectors -update", keyedFile)
	}
}

// chunkVectorOf holds each step against what spec/10 says in other words.
func chunkVectorOf(t *testing.T, s *stall, token keyer, v keyedVectors, i int) chunkVector {
	t.Helper()
	_, length := s.cut.Span(i)
	price := exchange.ChunkPrice(v.Price, length)
	sale, err := exchange.Keyed{}.Sell(t.Context(), s.till, token, s.cut, i, v.Request.Nonce, price, start)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sale.Seal(s.signer, s.plain(i), s.layer[i])
	if err != nil {
		t.Fatal(err)
	}
	u64 := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	u32 := func(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
	root := s.cut.File.Root[:]
	secret, err := hex.DecodeString(v.Secret)
	if err != nil {
		t.Fatal(err)
	}
	master := hmacOf(secret, []byte("htlcdash/chunk-master/v1"), root, u64(uint64(v.Length)), u32(v.Leaves), u64(uint64(price)), v.Request.Nonce[:])
	key := hmacOf(master, []byte("htlcdash/chunk/v1"), token[:], root, u64(uint64(i)), u64(uint64(v.Counter)))
	if reveal := s.node.last.Reveal(); !bytes.Equal(key, reveal[:]) {
		t.Error("the key is not what spec/10 says")
	}
	cipherKey := hashOf([]byte("htlcdash/chunk-cipher/v1"), key, root, u64(uint64(v.Length)), u32(v.Leaves), u32(i))
	block, err := aes.NewCipher(cipherKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed := make([]byte, length)
	cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(sealed, s.plain(i))
	if !bytes.Equal(sealed, c.Sealed) {
		t.Error("the sealed bytes are not what spec/10 says")
	}
	out := chunkVector{
		Index: i, Price: price, Key: hex.EncodeToString(key), CipherKey: hex.EncodeToString(cipherKey), Hash: c.Hash,
		Sealed: hex.EncodeToString(hashOf(sealed)), Commitment: c.Commitment, Promise: hex.EncodeToString(c.ChunkPromise.Encode()),
		Signature: hex.EncodeToString(c.Signature[:]), Cell: len(c.Chain) - 1,
	}
	const iv = "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19" // FIPS 180-4, 5.3.3
	var cells [][]byte
	for j, value := range c.Chain {
		in, _ := hex.DecodeString(iv)
		if j%4 > 0 {
			in = c.Chain[j-1][:]
		}
		cells = append(cells, hashOf([]byte("htlcdash/cell/v1"), in, value[:], sealed[j*4096:min((j+1)*4096, len(sealed))]))
		out.Chain = append(out.Chain, hex.EncodeToString(value[:]))
	}
	if !bytes.Equal(cellRoot(cells), c.Commitment[:]) {
		t.Error("the commitment is not what spec/10 says")
	}
	for _, h := range c.Evidence(out.Cell).Path {
		out.Path = append(out.Path, h.String())
	}
	if c.Expires != start.Add(exchange.OfferLife).Truncate(time.Second) {
		t.Error("the promise expires at another time than its invoice")
	}
	return out
}
