package exchange

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// SchemeKeyed is the name of the scheme [Keyed] on the wire.
const SchemeKeyed = "keyed"

// Domains of the scheme keyed, spec/10-keyed.md.
const (
	domainChunkKey    = "htlcdash/chunk-master/v1"
	domainChunkCipher = "htlcdash/chunk-cipher/v1"
	tagChunkOffer     = "htlcdash/chunk-offer/v1"
)

// Bounds of what can be sold by chunks.
const (
	MaxChunkLeaves = 256     // of one chunk: 4 MiB
	MaxChunks      = 1 << 17 // of one file

	// MaxFilePrice of a MiB: the price of a chunk does not overflow.
	MaxFilePrice lightning.Msat = 1 << 40

	// MinChunkPrice is what a chunk costs at least: nodes as they come forward
	// nothing less (BOLT 7, htlc_minimum_msat).
	MinChunkPrice = lightning.Sat
)

// A Cut is a file and how it is cut into chunks: aligned subtrees of Leaves
// leaves, the last of which may be shorter. A file of which only the BEP 52
// root is known can be sold that way.
type Cut struct {
	File   htlcdash.Blob
	Leaves int // of a chunk: a power of two
}

// Check reports, by an error that matches [htlcdash.ErrFormat], that c is no
// cut that can be sold. All other methods need a cut that can.
func (c Cut) Check() error {
	switch {
	case c.Leaves < 1 || c.Leaves > MaxChunkLeaves || bits.OnesCount(uint(c.Leaves)) != 1:
		return malformed("chunks of %d leaves, want a power of two up to %d", c.Leaves, MaxChunkLeaves)
	case c.File.Length < 1 || c.File.Length > int64(c.Leaves)*htlcdash.LeafSize*MaxChunks:
		return malformed("file of %d bytes in chunks of %d leaves", c.File.Length, c.Leaves)
	case c.Leaves > 1 && c.File.Length <= int64(c.Leaves)*htlcdash.LeafSize/2:
		// Its padded tree would be smaller than a chunk's.
		return malformed("chunks of %d leaves for a file of %d bytes: fewer will do", c.Leaves, c.File.Length)
	}
	return nil
}

// fitLeaves returns the greatest number of leaves of a chunk, up to most, in
// which a file of length bytes can be cut.
func fitLeaves(length int64, most int) int {
	n := 1
	for 2*n <= most && length > int64(n)*htlcdash.LeafSize {
		n *= 2
	}
	return n
}

// Chunks is how many chunks there are.
func (c Cut) Chunks() int {
	size := int64(c.Leaves) * htlcdash.LeafSize
	return int((c.File.Length + size - 1) / size)
}

// Span is where chunk i lies in the file.
func (c Cut) Span(i int) (offset, length int64) {
	size := int64(c.Leaves) * htlcdash.LeafSize
	offset = int64(i) * size
	return offset, min(size, c.File.Length-offset)
}

// Layer folds the hashes of all leaves of the file to the roots of its chunks.
func (c Cut) Layer(leaves []htlcdash.Root) []htlcdash.Root {
	layer := make([]htlcdash.Root, 0, c.Chunks())
	for len(leaves) > 0 {
		n := min(c.Leaves, len(leaves))
		layer = append(layer, htlcdash.FoldLayer(leaves[:n], 1, c.Leaves))
		leaves = leaves[n:]
	}
	return layer
}

// CheckLayer reports, by an error that matches [htlcdash.ErrCorrupt], that
// layer is not the roots of the file's chunks.
func (c Cut) CheckLayer(layer []htlcdash.Root) error {
	if len(layer) != c.Chunks() || htlcdash.FoldLayer(layer, c.Leaves, 1) != c.File.Root {
		return fmt.Errorf("%d chunk roots for %s: %w", len(layer), c.File.Root, htlcdash.ErrCorrupt)
	}
	return nil
}

// RootOf is the root of a chunk with these bytes.
func (c Cut) RootOf(plain []byte) htlcdash.Root { return c.rootOf(chainOf(plain)) }

// rootOf folds the leaf hashes among the chaining values of a chunk.
func (c Cut) rootOf(chain []Value) htlcdash.Root {
	var leaves []htlcdash.Root
	for j := range chain {
		if endsLeaf(j, len(chain)) {
			leaves = append(leaves, htlcdash.Root(chain[j]))
		}
	}
	return htlcdash.FoldLayer(leaves, 1, c.Leaves)
}

// ChunkPrice is what a chunk of length bytes costs at a price of a MiB: rounded
// up, and [MinChunkPrice] at least.
func ChunkPrice(perMiB lightning.Msat, length int64) lightning.Msat {
	return max((perMiB*lightning.Msat(length)+1<<20-1)>>20, MinChunkPrice)
}

// ChooseLeaves returns how many leaves the chunks of a file should have at a
// price of a MiB: 16, or as many as are worth [MinChunkPrice].
func ChooseLeaves(length int64, perMiB lightning.Msat) int {
	most := 16
	for most < MaxChunkLeaves && perMiB*lightning.Msat(most)*htlcdash.LeafSize < MinChunkPrice<<20 {
		most *= 2
	}
	return fitLeaves(length, most)
}

// A ChunkPromise is what a provider signs with a chunk: the preimage of Hash
// opens the sealed bytes under Commitment, and what comes out is chunk Index of
// the file. What was committed to names each cell, so that one bad cell shows
// that the promise was broken.
type ChunkPromise struct {
	Cut
	Index      int
	Commitment htlcdash.Root // "Qc": over the cells, see [Chunk]
	Hash       lightning.Hash
	Price      lightning.Msat
	Expires    time.Time // whole seconds
	Nonce      Nonce     // of the buyer who asked
}

// A Chunk is one chunk on its way to a buyer: what is promised, how to pay for
// it, and the sealed bytes, under a key of the buyer's own.
type Chunk struct {
	ChunkPromise
	Signature [64]byte
	Invoice   string  // BOLT 11; over Price and Hash
	Chain     []Value // of the plain bytes: the chaining value after each cell
	Sealed    []byte
}

// Keyed is the scheme "keyed", for content that no publisher has sealed. Each
// chunk is encrypted for one buyer under a fresh key K, and H = SHA256(K).
//
//	buyer                                   provider
//	  ChunkRequest{root, chunks, nonce} ->
//	                                     <- for each: promise, signature, invoice,
//	                                        chaining values, sealed bytes
//	  checks; pays all at once           ->
//	                                     <- K; checks each cell
//
// What the buyer checks before it pays: the chaining values lead to the file's
// root, everything leads to the commitment, and the provider signed that. What
// it cannot check: that the sealed bytes open to what has these chaining
// values. So the buyer risks what it pays for at a time; a provider that cheats
// has signed the proof of it. The scheme has no state.
type Keyed struct{}

// A ChunkSale is an offer whose bytes are not yet sealed.
type ChunkSale struct {
	ChunkPromise
	Invoice lightning.Invoice
	key     lightning.Preimage
}

// A Keyer is what a buyer's credential gives its provider: keys that are for
// this buyer alone, and that the buyer cannot derive. The same arguments give
// the same key.
type Keyer interface {
	ChunkKey(master [32]byte, file htlcdash.Root, index uint64, counter int64) htlcdash.Key
}

// Sell makes an offer for chunk index of cut at price to the holder of a
// credential, who asked with nonce. The same arguments get the same offer for
// about half its life. The error matches [ErrTerms] if the price is not
// positive, else it is the node's.
func (Keyed) Sell(ctx context.Context, t Till, buyer Keyer, cut Cut, index int, nonce Nonce, price lightning.Msat, now time.Time) (ChunkSale, error) {
	if price <= 0 || price > htlcdash.MaxPrice {
		return ChunkSale{}, fmt.Errorf("price of %v: %w", price, ErrTerms)
	}
	counter := now.UnixNano() / int64(t.Life/2)
	key := lightning.NewPreimage(buyer.ChunkKey(chunkMaster(t.Secret, cut, nonce, price), cut.File.Root, uint64(index), counter).Reveal())
	inv, err := t.Payee.Invoice(ctx, key, lightning.Terms{Amount: price, Expiry: t.Life, Memo: Memo, Note: keyedNote(key)})
	if err != nil {
		return ChunkSale{}, fmt.Errorf("invoice: %w", err)
	}
	return ChunkSale{
		ChunkPromise: ChunkPromise{
			Cut: cut, Index: index, Hash: inv.Hash, Price: price, Nonce: nonce,
			Expires: inv.Created.Add(inv.Expiry).Truncate(time.Second).UTC(),
		},
		Invoice: inv, key: key,
	}, nil
}

// chunkMaster is what the keys for one request are derived under. The whole cut
// is in it: the first chunk of 16 leaves and the first of one leaf have bytes in
// common, the second ones have not, and two plaintexts under one key would open
// each other. The price is in it because a node keeps one invoice for each
// hash, over one sum.
func chunkMaster(s Secret, cut Cut, nonce Nonce, price lightning.Msat) [32]byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(cut.File.Length))
	b = binary.BigEndian.AppendUint32(b, uint32(cut.Leaves))
	b = binary.BigEndian.AppendUint64(b, uint64(price))
	return s.mac(domainChunkKey, cut.File.Root[:], b, nonce[:])
}

// Seal encrypts the plain bytes of the chunk, whose root the file's layer says,
// and signs the promise. The error matches [htlcdash.ErrCorrupt] if they are
// not the chunk: a provider must not sign what it cannot keep.
func (s ChunkSale) Seal(signer htlcdash.ProviderKey, plain []byte, root htlcdash.Root) (Chunk, error) {
	c := Chunk{ChunkPromise: s.ChunkPromise, Invoice: s.Invoice.Bolt11, Chain: chainOf(plain)}
	if _, length := s.Span(s.Index); int64(len(plain)) != length || s.rootOf(c.Chain) != root {
		return Chunk{}, fmt.Errorf("chunk %d of %s: %w", s.Index, s.File.Root, htlcdash.ErrCorrupt)
	}
	c.Sealed = make([]byte, len(plain))
	s.stream(s.key, 0).XORKeyStream(c.Sealed, plain)
	err := c.Commit(signer)
	return c, err
}

// Commit commits to the cells of c as they are and signs that. It is the last
// step of [ChunkSale.Seal]; whoever takes it alone, as tests of cheats do, signs
// what it may not be able to keep.
func (c *Chunk) Commit(signer htlcdash.ProviderKey) (err error) {
	c.Commitment = c.commit().root()
	c.Signature, err = c.Sign(signer)
	return err
}

// stream is the keystream of the chunk from cell j on: AES-256 in counter mode.
// The key belongs to one chunk for one buyer, so the counter begins at zero.
func (p ChunkPromise) stream(key lightning.Preimage, j int) cipher.Stream {
	k := key.Reveal()
	h := sha256.New()
	h.Write([]byte(domainChunkCipher))
	h.Write(k[:])
	h.Write(p.File.Root[:])
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(p.File.Length))
	binary.BigEndian.PutUint32(b[8:], uint32(p.Leaves))
	binary.BigEndian.PutUint32(b[12:], uint32(p.Index))
	h.Write(b[:])
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		panic("exchange: " + err.Error()) // 32 bytes are always a key
	}
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(j)*(CellSize/aes.BlockSize))
	return cipher.NewCTR(block, counter[:])
}

// cells is how many cells the chunk has.
func (p ChunkPromise) cells() int {
	_, length := p.Span(p.Index)
	return int((length + CellSize - 1) / CellSize)
}

// cell is where cell j lies in the chunk.
func (p ChunkPromise) cell(j int) (from, to int64) {
	_, length := p.Span(p.Index)
	from = int64(j) * CellSize
	return from, min(from+CellSize, length)
}

// ChunkTerms is what a buyer asked for and accepts.
type ChunkTerms struct {
	Cut
	Index    int
	Root     htlcdash.Root // of the chunk, out of the file's layer
	Nonce    Nonce
	Provider htlcdash.ProviderID
	Ceiling  lightning.Msat // the most that the chunk may cost
}

// Check holds a chunk against what was asked for, before anything is paid, and
// returns the invoice to pay. The error matches [ErrTerms] if it is another
// chunk or costs too much, [htlcdash.ErrCorrupt] if its chaining values do not
// lead to the file, and [htlcdash.ErrSignature] if the provider did not sign
// what it sent. Nothing is owed then.
func (Keyed) Check(c Chunk, want ChunkTerms, now time.Time) (lightning.Invoice, error) {
	switch {
	case c.Cut != want.Cut || c.Index != want.Index:
		return lightning.Invoice{}, broken("for another chunk")
	case c.Nonce != want.Nonce:
		return lightning.Invoice{}, broken("for another request")
	case c.Price > want.Ceiling:
		return lightning.Invoice{}, broken("price of %v, ceiling %v", c.Price, want.Ceiling)
	}
	inv, err := Offer{Price: c.Price, Hash: c.Hash, Invoice: c.Invoice, Expires: c.Expires}.invoice(now)
	if err != nil {
		return inv, err
	}
	if c.rootOf(c.Chain) != want.Root {
		return inv, fmt.Errorf("chaining values of chunk %d: %w", c.Index, htlcdash.ErrCorrupt)
	}
	if c.commit().root() != c.Commitment {
		return inv, fmt.Errorf("sealed bytes of chunk %d: %w", c.Index, htlcdash.ErrCorrupt)
	}
	return inv, c.Verify(want.Provider, c.Signature)
}

// A CellError says which cell of a chunk that was paid for is not what was
// promised. It matches [ErrCheated].
type CellError struct{ Chunk, Cell int }

func (e *CellError) Error() string {
	return fmt.Sprintf("cell %d of chunk %d: %v", e.Cell, e.Chunk, ErrCheated)
}

func (*CellError) Unwrap() error { return ErrCheated }

// Open returns the plain bytes of a chunk that was checked and paid for. The
// error is a [*CellError] if they are not the file's: then the provider cheated
// and [Chunk.Evidence] of the cell shows it to anybody. It matches [ErrTerms]
// if key is not the preimage of c.Hash, which shows nothing.
func (Keyed) Open(c Chunk, key lightning.Preimage) ([]byte, error) {
	if !key.Opens(c.Hash) {
		return nil, fmt.Errorf("not the preimage of %s: %w", c.Hash, ErrTerms)
	}
	plain := make([]byte, len(c.Sealed))
	c.stream(key, 0).XORKeyStream(plain, c.Sealed)
	in := initial
	for j, promised := range c.Chain {
		from, to := c.cell(j)
		if next(in, j, len(c.Chain), plain[from:to]) != promised {
			return nil, &CellError{c.Index, j}
		}
		if in = promised; endsLeaf(j, len(c.Chain)) {
			in = initial
		}
	}
	return plain, nil
}
