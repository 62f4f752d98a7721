package exchange_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// keyer is a buyer's credential.
type keyer [64]byte

func (k keyer) ChunkKey(master [32]byte, file htlcdash.Root, index uint64, counter int64) htlcdash.Key {
	b := binary.BigEndian.AppendUint64(nil, index)
	b = binary.BigEndian.AppendUint64(b, uint64(counter))
	return htlcdash.NewKey([32]byte(hmacOf(master[:], []byte("htlcdash/chunk/v1"), k[:], file[:], b)))
}

// A stall sells one file by chunks.
type stall struct {
	node   *payee
	till   exchange.Till
	signer htlcdash.ProviderKey
	data   []byte
	cut    exchange.Cut
	layer  []htlcdash.Root
}

func newStall(t testing.TB, length, leaves int) *stall {
	t.Helper()
	data := make([]byte, length)
	src := rand.NewChaCha8([32]byte{byte(length), byte(leaves)})
	src.Read(data)
	node := newPayee(start)
	s := &stall{node: node, till: exchange.NewTill(node, exchange.NewSecret([32]byte{1, 2, 3}), 0), data: data, cut: exchange.Cut{
		File: htlcdash.Blob{Root: htlcdash.RootOf(data), Length: int64(length)}, Leaves: leaves,
	}}
	s.signer = s.till.Secret.ProviderKey()
	if err := s.cut.Check(); err != nil {
		t.Fatal(err)
	}
	hashes, _, err := htlcdash.HashLeaves(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	s.layer = s.cut.Layer(hashes)
	if err := s.cut.CheckLayer(s.layer); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stall) plain(i int) []byte {
	from, n := s.cut.Span(i)
	return s.data[from : from+n]
}

// sell is an honest sale of chunk i.
func (s *stall) sell(t testing.TB, i int, token byte) (exchange.Chunk, lightning.Preimage) {
	t.Helper()
	sale, err := exchange.Keyed{}.Sell(t.Context(), s.till, keyer{token}, s.cut, i, exchange.Nonce{9}, 77, start)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sale.Seal(s.signer, s.plain(i), s.layer[i])
	if err != nil {
		t.Fatal(err)
	}
	return c, s.node.last
}

func (s *stall) terms(i int) exchange.ChunkTerms {
	return exchange.ChunkTerms{
		Cut: s.cut, Index: i, Root: s.layer[i], Nonce: exchange.Nonce{9}, Provider: s.signer.ID(), Ceiling: 77,
	}
}

// Files with short last leaves and cells, and trees of all shapes.
func TestKeyedSellsChunks(t *testing.T) {
	const leaf, cell = htlcdash.LeafSize, exchange.CellSize
	for _, tt := range []struct{ length, leaves int }{
		{1, 1},
		{63, 1},
		{64, 1},
		{cell - 1, 1},
		{cell, 1},
		{cell + 1, 1},
		{leaf - 1, 1},
		{leaf, 1},
		{leaf + 1, 1},
		{leaf + 1, 2},
		{3 * leaf, 4},
		{5*leaf + 2*cell + 55, 2},
		{5*leaf + 2*cell + 56, 4},
		{5*leaf + 3*cell, 8},
		{33*leaf + 1, 16},
		{48 * leaf, 16},
	} {
		t.Run(fmt.Sprintf("%d bytes, chunks of %d leaves", tt.length, tt.leaves), func(t *testing.T) {
			s := newStall(t, tt.length, tt.leaves)
			for i := range s.cut.Chunks() {
				c, key := s.sell(t, i, 1)
				inv, err := exchange.Keyed{}.Check(c, s.terms(i), start)
				if err != nil || inv.Amount != 77 || inv.Memo != exchange.Memo {
					t.Fatalf("chunk %d: invoice over %v for %q, %v", i, inv.Amount, inv.Memo, err)
				}
				if bytes.Equal(c.Sealed, s.plain(i)) {
					t.Fatal("the bytes are not sealed")
				}
				plain, err := exchange.Keyed{}.Open(c, key)
				if err != nil || !bytes.Equal(plain, s.plain(i)) {
					t.Fatalf("chunk %d opens to something else, %v", i, err)
				}
				for j := range c.Chain {
					if err := c.Kept(key, c.Evidence(j)); err != nil {
						t.Errorf("honest cell %d: %v", j, err)
					}
				}
			}
		})
	}
}

func TestCut(t *testing.T) {
	const leaf = htlcdash.LeafSize
	for _, tt := range []struct {
		name   string
		length int64
		leaves int
		want   error
	}{
		{"one byte", 1, 1, nil},
		{"no bytes", 0, 1, htlcdash.ErrFormat},
		{"less than none", -1, 1, htlcdash.ErrFormat},
		{"no leaves", leaf, 0, htlcdash.ErrFormat},
		{"not a power of two", 9 * leaf, 3, htlcdash.ErrFormat},
		{"more than the most", 1 << 40, 512, htlcdash.ErrFormat},
		{"a chunk above the tree", leaf, 2, htlcdash.ErrFormat},
		{"a chunk as large as the tree", leaf + 1, 2, nil},
		{"as many chunks as there may be", leaf * exchange.MaxChunks, 1, nil},
		{"one more", leaf*exchange.MaxChunks + 1, 1, htlcdash.ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := exchange.Cut{File: htlcdash.Blob{Length: tt.length}, Leaves: tt.leaves}
			if err := c.Check(); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
	for _, tt := range []struct {
		length int64
		price  lightning.Msat
		want   int
	}{
		{1, 4 * lightning.Sat, 1},
		{leaf, 4 * lightning.Sat, 1},
		{leaf + 1, 4 * lightning.Sat, 2},
		{2*leaf + 1, 4 * lightning.Sat, 4},
		{1 << 30, 4 * lightning.Sat, 16},
		{1 << 30, 2 * lightning.Sat, 32},
		{1 << 30, 1, exchange.MaxChunkLeaves},
		{2 * leaf, 1, 2},
		{1 << 30, exchange.MaxFilePrice, 16},
	} {
		if got := exchange.ChooseLeaves(tt.length, tt.price); got != tt.want {
			t.Errorf("%d bytes at %v a MiB in chunks of %d leaves, want %d", tt.length, tt.price, got, tt.want)
		}
	}
}

func TestLayerMustLeadToTheRoot(t *testing.T) {
	s := newStall(t, 5*htlcdash.LeafSize, 2)
	flat := bytes.Join([][]byte{s.layer[0][:], s.layer[1][:], s.layer[2][:]}, nil)
	if _, err := exchange.ParseLayer(flat, s.cut); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(flat)
	bad[70] ^= 1
	for name, b := range map[string][]byte{"a changed bit": bad, "one too few": flat[:64], "one too many": append(flat, flat[:32]...), "half": flat[:80], "none": nil} {
		if _, err := exchange.ParseLayer(b, s.cut); !errors.Is(err, htlcdash.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChunkPriceRoundsUp(t *testing.T) {
	for _, tt := range []struct {
		perMiB lightning.Msat
		length int64
		want   lightning.Msat
	}{
		{1000, 1 << 20, 1000},
		{64_000, 16 << 10, 1000},
		{64_001, 16 << 10, 1001},
		{1000, 16 << 10, 1000},
		{1, 1, 1000},
		{1000, 1<<20 + 1, 1001},
		{exchange.MaxFilePrice, 4 << 20, 4 * exchange.MaxFilePrice},
	} {
		if got := exchange.ChunkPrice(tt.perMiB, tt.length); got != tt.want {
			t.Errorf("%d bytes at %v a MiB: %v, want %v", tt.length, tt.perMiB, got, tt.want)
		}
	}
}

// A key belongs to one buyer, one cut, one chunk, one request, one price, one
// epoch: two plaintexts under one key would open each other.
func TestChunkKeysAreFresh(t *testing.T) {
	s := newStall(t, 40*htlcdash.LeafSize, 2)
	other := s.cut
	other.Leaves = 4
	longer := s.cut
	longer.File.Length++
	seen := map[lightning.Hash]string{}
	for _, tt := range []struct {
		name  string
		token byte
		cut   exchange.Cut
		index int
		nonce byte
		price lightning.Msat
		after time.Duration
	}{
		{"as it is", 1, s.cut, 0, 1, 50, 0},
		{"another buyer", 2, s.cut, 0, 1, 50, 0},
		{"another cut", 1, other, 0, 1, 50, 0},
		{"another length", 1, longer, 0, 1, 50, 0},
		{"another chunk", 1, s.cut, 1, 1, 50, 0},
		{"another request", 1, s.cut, 0, 2, 50, 0},
		{"another price", 1, s.cut, 0, 1, 51, 0},
		{"another epoch", 1, s.cut, 0, 1, 50, exchange.OfferLife},
	} {
		sell := func() exchange.ChunkSale {
			sale, err := exchange.Keyed{}.Sell(t.Context(), s.till, keyer{tt.token}, tt.cut, tt.index, exchange.Nonce{tt.nonce}, tt.price, start.Add(tt.after))
			if err != nil {
				t.Fatal(err)
			}
			return sale
		}
		sale := sell()
		if before, ok := seen[sale.Hash]; ok {
			t.Errorf("%s: the key of %q", tt.name, before)
		}
		if sell().Hash != sale.Hash {
			t.Errorf("%s: asked again, another key", tt.name)
		}
		seen[sale.Hash] = tt.name
	}
	if _, err := (exchange.Keyed{}).Sell(t.Context(), s.till, keyer{}, s.cut, 0, exchange.Nonce{}, 0, start); !errors.Is(err, exchange.ErrTerms) {
		t.Errorf("sold for nothing: %v", err)
	}
}

// A provider whose file has changed must not sign what it cannot keep.
func TestSealRefusesAnotherFile(t *testing.T) {
	s := newStall(t, 5*htlcdash.LeafSize, 2)
	sale, err := exchange.Keyed{}.Sell(t.Context(), s.till, keyer{}, s.cut, 1, exchange.Nonce{9}, 77, start)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(s.plain(1))
	changed[20000] ^= 1
	for name, plain := range map[string][]byte{"changed": changed, "cut off": s.plain(1)[:20000], "another chunk": s.plain(0), "gone": nil} {
		if _, err := sale.Seal(s.signer, plain, s.layer[1]); !errors.Is(err, htlcdash.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyedCheckRefuses(t *testing.T) {
	s := newStall(t, 5*htlcdash.LeafSize+100, 2)
	other := newStall(t, 6*htlcdash.LeafSize, 2)
	mallory := exchange.NewSecret([32]byte{66}).ProviderKey()
	sign := func(c *exchange.Chunk) {
		sig, err := c.Sign(s.signer)
		if err != nil {
			t.Fatal(err)
		}
		c.Signature = sig
	}
	invoice := func(change func(*lightning.Invoice)) func(*exchange.Chunk, *exchange.ChunkTerms) {
		return func(c *exchange.Chunk, _ *exchange.ChunkTerms) {
			inv := lightning.Invoice{Hash: c.Hash, Amount: c.Price, Expiry: exchange.OfferLife, Created: start}
			change(&inv)
			inv, err := s.node.sign(inv)
			if err != nil {
				t.Fatal(err)
			}
			c.Invoice = inv.Bolt11
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(c *exchange.Chunk, want *exchange.ChunkTerms)
		after time.Duration
		want  error
	}{
		{"another chunk", func(_ *exchange.Chunk, w *exchange.ChunkTerms) { w.Index = 0 }, 0, exchange.ErrTerms},
		{"another cut", func(_ *exchange.Chunk, w *exchange.ChunkTerms) { w.Leaves = 4 }, 0, exchange.ErrTerms},
		{"another file", func(_ *exchange.Chunk, w *exchange.ChunkTerms) { w.Cut = other.cut }, 0, exchange.ErrTerms},
		{"an offer made to another", func(_ *exchange.Chunk, w *exchange.ChunkTerms) { w.Nonce[0]++ }, 0, exchange.ErrTerms},
		{"a price above the ceiling", func(_ *exchange.Chunk, w *exchange.ChunkTerms) { w.Ceiling = 76 }, 0, exchange.ErrTerms},
		{"an old offer", func(*exchange.Chunk, *exchange.ChunkTerms) {}, exchange.OfferLife, exchange.ErrTerms},
		{"no invoice", func(c *exchange.Chunk, _ *exchange.ChunkTerms) { c.Invoice = "lnbc1" }, 0, exchange.ErrTerms},
		{"invoice over more", invoice(func(i *lightning.Invoice) { i.Amount++ }), 0, exchange.ErrTerms},
		{"invoice over another hash", invoice(func(i *lightning.Invoice) { i.Hash[0]++ }), 0, exchange.ErrTerms},
		{"invoice that locks for long", invoice(func(i *lightning.Invoice) { i.FinalDelta = exchange.MaxLock + 1 }), 0, exchange.ErrTerms},
		{"invoice that is too old", invoice(func(i *lightning.Invoice) { i.Expiry = time.Second }), time.Second, exchange.ErrTerms},
		{"chaining values of another file", func(c *exchange.Chunk, _ *exchange.ChunkTerms) { c.Chain[3][0]++; sign(c) }, 0, htlcdash.ErrCorrupt},
		{"a chaining value inside of a leaf", func(c *exchange.Chunk, _ *exchange.ChunkTerms) { c.Chain[2][0]++; sign(c) }, 0, htlcdash.ErrCorrupt},
		{"other sealed bytes", func(c *exchange.Chunk, _ *exchange.ChunkTerms) { c.Sealed[5000]++ }, 0, htlcdash.ErrCorrupt},
		{"another commitment", func(c *exchange.Chunk, _ *exchange.ChunkTerms) { c.Commitment[0]++; sign(c) }, 0, htlcdash.ErrCorrupt},
		{"another provider", func(_ *exchange.Chunk, w *exchange.ChunkTerms) { w.Provider = mallory.ID() }, 0, htlcdash.ErrSignature},
		{"a changed promise", func(c *exchange.Chunk, _ *exchange.ChunkTerms) { c.Expires = c.Expires.Add(time.Hour) }, 0, htlcdash.ErrSignature},
		{"no signature", func(c *exchange.Chunk, _ *exchange.ChunkTerms) { c.Signature = [64]byte{} }, 0, htlcdash.ErrSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := s.sell(t, 1, 1)
			want := s.terms(1)
			tt.spoil(&c, &want)
			if _, err := (exchange.Keyed{}).Check(c, want, start.Add(tt.after)); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// Whatever byte a provider spoils before it commits, the buyer sees which cell
// it is, and the cell's evidence convicts.
func TestSpoiledCellsConvict(t *testing.T) {
	s := newStall(t, 5*htlcdash.LeafSize+2*exchange.CellSize+77, 2)
	for _, tt := range []struct {
		name     string
		chunk    int
		at, cell int // byte, and the cell that it is in
	}{
		{"first byte of a leaf", 0, 0, 0},
		{"inside of a leaf", 1, exchange.CellSize + 3, 1},
		{"last byte of a leaf", 0, htlcdash.LeafSize - 1, 3},
		{"first byte of the second leaf", 1, htlcdash.LeafSize, 4},
		{"last byte of a chunk", 1, 2*htlcdash.LeafSize - 1, 7},
		{"last cell of the file", 2, htlcdash.LeafSize + 2*exchange.CellSize + 76, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, key := s.sell(t, tt.chunk, 1)
			c.Sealed[tt.at] ^= 0x80
			if err := c.Commit(s.signer); err != nil {
				t.Fatal(err)
			}
			if _, err := (exchange.Keyed{}).Check(c, s.terms(tt.chunk), start); err != nil {
				t.Fatalf("the cheat is seen before it is paid: %v", err)
			}
			_, err := exchange.Keyed{}.Open(c, key)
			bad, ok := errors.AsType[*exchange.CellError](err)
			if !ok || !errors.Is(err, exchange.ErrCheated) || bad.Cell != tt.cell || bad.Chunk != tt.chunk {
				t.Fatalf("%v, want cell %d of chunk %d", err, tt.cell, tt.chunk)
			}
			if err := c.Kept(key, c.Evidence(bad.Cell)); !errors.Is(err, exchange.ErrCheated) {
				t.Errorf("the evidence says %v", err)
			}
			if err := c.Kept(key, c.Evidence((bad.Cell+1)%len(c.Chain))); err != nil {
				t.Errorf("the cell beside it: %v", err)
			}
		})
	}
}

// Nobody can make evidence against a provider that was honest.
func TestEvidenceCannotFrame(t *testing.T) {
	s := newStall(t, 7*htlcdash.LeafSize+100, 4)
	c, key := s.sell(t, 0, 1)
	others, othersKey := s.sell(t, 0, 2) // to another buyer
	second, secondKey := s.sell(t, 1, 1)
	for _, tt := range []struct {
		name   string
		key    lightning.Preimage
		change func(e *exchange.Evidence)
		want   error
	}{
		{"as it is", key, func(*exchange.Evidence) {}, nil},
		{"a key that was never released", lightning.NewPreimage([32]byte{1}), func(*exchange.Evidence) {}, exchange.ErrTerms},
		{"no key", lightning.Preimage{}, func(*exchange.Evidence) {}, exchange.ErrTerms},
		{"the key of another buyer", othersKey, func(*exchange.Evidence) {}, exchange.ErrTerms},
		{"the key of another chunk", secondKey, func(*exchange.Evidence) {}, exchange.ErrTerms},
		{"other sealed bytes", key, func(e *exchange.Evidence) { e.Sealed = append([]byte{e.Sealed[0] ^ 1}, e.Sealed[1:]...) }, exchange.ErrTerms},
		{"the cell of another buyer", key, func(e *exchange.Evidence) { *e = others.Evidence(e.Cell) }, exchange.ErrTerms},
		{"the cell of another chunk", key, func(e *exchange.Evidence) { *e = second.Evidence(e.Cell) }, exchange.ErrTerms},
		{"another place", key, func(e *exchange.Evidence) { e.Cell++ }, exchange.ErrTerms},
		{"the same bits of a path one tree up", key, func(e *exchange.Evidence) { e.Cell += 16 }, exchange.ErrTerms},
		{"no such cell", key, func(e *exchange.Evidence) { e.Cell = -1 }, exchange.ErrTerms},
		{"another value before", key, func(e *exchange.Evidence) { e.In[0]++ }, exchange.ErrTerms},
		{"another value after", key, func(e *exchange.Evidence) { e.Out[0]++ }, exchange.ErrTerms},
		{"a shorter cell", key, func(e *exchange.Evidence) { e.Sealed = e.Sealed[:len(e.Sealed)-1] }, exchange.ErrTerms},
		{"a shorter path", key, func(e *exchange.Evidence) { e.Path = e.Path[1:] }, exchange.ErrTerms},
		{"a longer path", key, func(e *exchange.Evidence) { e.Path = append(e.Path, htlcdash.Root{}) }, exchange.ErrTerms},
	} {
		for _, j := range []int{0, 5} {
			t.Run(fmt.Sprintf("%s, cell %d", tt.name, j), func(t *testing.T) {
				e := c.Evidence(j)
				tt.change(&e)
				if err := c.Kept(tt.key, e); !errors.Is(err, tt.want) {
					t.Errorf("%v, want %v", err, tt.want)
				}
			})
		}
	}
}

func TestOpenNeedsThePreimage(t *testing.T) {
	s := newStall(t, 100, 1)
	c, _ := s.sell(t, 0, 1)
	_, err := exchange.Keyed{}.Open(c, lightning.NewPreimage([32]byte{5}))
	if !errors.Is(err, exchange.ErrTerms) || errors.Is(err, exchange.ErrCheated) {
		t.Errorf("%v, want %v", err, exchange.ErrTerms)
	}
}

func TestChunkOnTheWire(t *testing.T) {
	s := newStall(t, 5*htlcdash.LeafSize+100, 2)
	first, _ := s.sell(t, 1, 1)
	second, _ := s.sell(t, 2, 1)
	stream := bytes.NewReader(append(first.Encode(), second.Encode()...))
	for i, want := range map[int]exchange.Chunk{1: first} {
		got, err := exchange.ReadChunk(stream, s.cut, i)
		if err != nil || !bytes.Equal(got.Encode(), want.Encode()) {
			t.Fatalf("chunk %d comes as another, %v", i, err)
		}
	}
	if got, err := exchange.ReadChunk(stream, s.cut, 2); err != nil || stream.Len() != 0 || got.Hash != second.Hash {
		t.Fatalf("%d bytes are left, %v", stream.Len(), err)
	}
	b := first.Encode()
	if _, err := exchange.ReadChunk(bytes.NewReader(b), s.cut, 0); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("another chunk than asked for: %v", err)
	}
	for name, b := range map[string][]byte{
		"cut off": b[:len(b)-1], "nothing": nil, "half a head": b[:100], "one byte more": append(bytes.Clone(b), 0),
		"no invoice": append(append(bytes.Clone(b[:exchange.ChunkPromiseBytes+64]), 0, 0), b[len(b)-1:]...),
	} {
		if _, err := exchange.ParseChunk(b); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChunkRequest(t *testing.T) {
	cut := exchange.Cut{File: htlcdash.Blob{Root: htlcdash.Root{1}, Length: 10 * htlcdash.LeafSize}, Leaves: 1}
	good := exchange.ChunkRequest{Cut: cut, Indices: []int{0, 3, 9}, Nonce: exchange.Nonce{1}}
	b, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := exchange.ParseChunkRequest(b); err != nil || fmt.Sprint(got) != fmt.Sprint(good) {
		t.Fatalf("%v, %v", got, err)
	}
	long := make([]int, exchange.MaxBatch+1)
	for name, change := range map[string]func(r *exchange.ChunkRequest){
		"no chunk":           func(r *exchange.ChunkRequest) { r.Indices = nil },
		"too many":           func(r *exchange.ChunkRequest) { r.Indices = long },
		"twice the same":     func(r *exchange.ChunkRequest) { r.Indices = []int{3, 3} },
		"descending":         func(r *exchange.ChunkRequest) { r.Indices = []int{3, 2} },
		"a chunk too far":    func(r *exchange.ChunkRequest) { r.Indices = []int{10} },
		"a chunk before all": func(r *exchange.ChunkRequest) { r.Indices = []int{-1} },
		"no nonce":           func(r *exchange.ChunkRequest) { r.Nonce = exchange.Nonce{} },
		"no such cut":        func(r *exchange.ChunkRequest) { r.Leaves = 3 },
	} {
		r := good
		change(&r)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := exchange.ParseChunkRequest(b); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := exchange.ParseChunkRequest(append(b, '{')); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("bytes behind it: %v", err)
	}
}

func FuzzParseChunk(f *testing.F) {
	s := newStall(f, 2*htlcdash.LeafSize-5, 1)
	for i := range 2 {
		c, _ := s.sell(f, i, 1)
		f.Add(c.Encode())
	}
	f.Add([]byte{0, 1, 0, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := exchange.ParseChunk(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		if !bytes.Equal(c.Encode(), b) {
			t.Error("read in one way, written in another")
		}
		_, _ = exchange.Keyed{}.Check(c, exchange.ChunkTerms{Cut: c.Cut, Index: c.Index, Nonce: c.Nonce, Ceiling: c.Price}, start)
	})
}

func FuzzParseChunkRequest(f *testing.F) {
	cut := exchange.Cut{File: htlcdash.Blob{Root: htlcdash.Root{1}, Length: 10 * htlcdash.LeafSize}, Leaves: 2}
	b, _ := json.Marshal(exchange.ChunkRequest{Cut: cut, Indices: []int{0, 3}, Nonce: exchange.Nonce{1}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := exchange.ParseChunkRequest(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := exchange.ParseChunkRequest(again); err != nil {
			t.Errorf("does not come back: %v", err)
		}
	})
}

func FuzzParseFileList(f *testing.F) {
	b, _ := json.Marshal(exchange.FileList{Files: []exchange.FileInfo{{Length: 5, Name: "a", Leaves: 1, Price: 7}}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := exchange.ParseFileList(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		for _, i := range l.Files {
			if i.Cut().Check() != nil || i.Price < 0 {
				t.Errorf("file that cannot be sold: %+v", i)
			}
		}
	})
}

func BenchmarkKeyed(b *testing.B) {
	for _, leaves := range []int{1, 16, 64} {
		s := newStall(b, leaves*htlcdash.LeafSize, leaves)
		sale, err := exchange.Keyed{}.Sell(b.Context(), s.till, keyer{1}, s.cut, 0, exchange.Nonce{9}, 77, start)
		if err != nil {
			b.Fatal(err)
		}
		key := s.node.last
		c, err := sale.Seal(s.signer, s.data, s.layer[0])
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, do func() error) {
			b.Run(fmt.Sprintf("%s/%d-leaves", name, leaves), func(b *testing.B) {
				b.SetBytes(int64(len(s.data)))
				b.ReportAllocs()
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("seal", func() error { _, err := sale.Seal(s.signer, s.data, s.layer[0]); return err })
		run("check", func() error { _, err := exchange.Keyed{}.Check(c, s.terms(0), start); return err })
		run("open", func() error { _, err := exchange.Keyed{}.Open(c, key); return err })
		run("evidence", func() error { return c.Kept(key, c.Evidence(1)) })
	}
}
