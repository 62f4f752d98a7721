package exchange

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"htlcdash"
	"htlcdash/lightning"
)

// Bounds on messages of the scheme keyed.
const (
	MaxFiles          = 4096    // in one list
	MaxFileListBytes  = 4 << 20 // of the JSON of a list
	MaxFileName       = 255     // bytes
	ChunkPromiseBytes = 2 + 2 + 32 + 8 + 4 + 4 + 32 + 32 + 8 + 8 + 32
)

// The promise's scheme and version on the wire, spec/10-keyed.md.
const promiseKeyed = 2

// Encode gives the bytes that are signed.
func (p ChunkPromise) Encode() []byte {
	b := make([]byte, 0, ChunkPromiseBytes)
	b = binary.BigEndian.AppendUint16(b, promiseVersion)
	b = binary.BigEndian.AppendUint16(b, promiseKeyed)
	b = append(b, p.File.Root[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.File.Length))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Leaves))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Index))
	b = append(b, p.Commitment[:]...)
	b = append(b, p.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Price))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Expires.Unix()))
	return append(b, p.Nonce[:]...)
}

// ParseChunkPromise reads what Encode gives, and nothing else: the error
// matches [htlcdash.ErrFormat].
func ParseChunkPromise(b []byte) (p ChunkPromise, err error) {
	if len(b) != ChunkPromiseBytes {
		return p, malformed("chunk promise of %d bytes, want %d", len(b), ChunkPromiseBytes)
	}
	if v, s := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]); v != promiseVersion || s != promiseKeyed {
		return p, malformed("chunk promise of version %d, scheme %d: this program knows %d and %d", v, s, promiseVersion, promiseKeyed)
	}
	b = b[4:]
	b = b[copy(p.File.Root[:], b):]
	length, leaves, index := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	b = b[16:]
	b = b[copy(p.Commitment[:], b):]
	b = b[copy(p.Hash[:], b):]
	price, expires := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	copy(p.Nonce[:], b[16:])
	if length > 1<<62 || price == 0 || price > uint64(htlcdash.MaxPrice) || expires == 0 || expires > maxExpires {
		return ChunkPromise{}, malformed("chunk promise for %d bytes at %d msat until %d", length, price, expires)
	}
	p.File.Length, p.Leaves, p.Index = int64(length), int(leaves), int(index)
	p.Price, p.Expires = lightning.Msat(price), time.Unix(int64(expires), 0).UTC()
	if err := p.Check(); err != nil {
		return ChunkPromise{}, err
	}
	if p.Index >= p.Chunks() {
		return ChunkPromise{}, malformed("chunk %d of %d", p.Index, p.Chunks())
	}
	return p, nil
}

// Sign signs p for a provider.
func (p ChunkPromise) Sign(key htlcdash.ProviderKey) ([64]byte, error) {
	return key.Sign(tagChunkOffer, p.Encode())
}

// Verify reports, by an error that matches [htlcdash.ErrSignature], that sig
// is not the provider's signature over p.
func (p ChunkPromise) Verify(provider htlcdash.ProviderID, sig [64]byte) error {
	return provider.Verify(tagChunkOffer, p.Encode(), sig)
}

// Encode gives the wire form: the promise, its signature, the length of the
// invoice as 2 bytes, the invoice, the chaining values, the sealed bytes.
func (c Chunk) Encode() []byte {
	b := make([]byte, 0, ChunkPromiseBytes+64+2+len(c.Invoice)+32*len(c.Chain)+len(c.Sealed))
	b = append(b, c.ChunkPromise.Encode()...)
	b = append(b, c.Signature[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Invoice)))
	b = append(b, c.Invoice...)
	for _, v := range c.Chain {
		b = append(b, v[:]...)
	}
	return append(b, c.Sealed...)
}

// ReadChunk reads the next chunk of an answer, which is that with index index
// of cut, and reads nothing behind it. The error matches [htlcdash.ErrFormat]
// if it is not; else it is that of r.
func ReadChunk(r io.Reader, cut Cut, index int) (Chunk, error) {
	c, err := readChunkHead(r)
	if err == nil && (c.Cut != cut || c.Index != index) {
		return Chunk{}, malformed("chunk %d of %s, asked for %d of %s", c.Index, c.File.Root, index, cut.File.Root)
	}
	if err == nil {
		err = c.readBody(r)
	}
	if err != nil {
		return Chunk{}, fmt.Errorf("chunk %d: %w", index, err)
	}
	return c, nil
}

// ParseChunk reads what Encode gives, and nothing else: the error matches
// [htlcdash.ErrFormat].
func ParseChunk(b []byte) (Chunk, error) {
	r := bytes.NewReader(b)
	c, err := readChunkHead(r)
	if err == nil {
		if n := 32*int64(c.cells()) + c.length(); int64(r.Len()) != n {
			return Chunk{}, malformed("chunk: %d bytes behind its invoice, want %d", r.Len(), n)
		}
		err = c.readBody(r)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Chunk{}, malformed("chunk of %d bytes is cut off", len(b))
	}
	if err != nil {
		return Chunk{}, err
	}
	return c, nil
}

func readChunkHead(r io.Reader) (c Chunk, err error) {
	var head [ChunkPromiseBytes + 64 + 2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return c, err
	}
	if c.ChunkPromise, err = ParseChunkPromise(head[:ChunkPromiseBytes]); err != nil {
		return Chunk{}, err
	}
	copy(c.Signature[:], head[ChunkPromiseBytes:])
	n := binary.BigEndian.Uint16(head[ChunkPromiseBytes+64:])
	if n == 0 || n > maxInvoiceBytes {
		return Chunk{}, malformed("chunk with an invoice of %d bytes", n)
	}
	invoice := make([]byte, n)
	_, err = io.ReadFull(r, invoice)
	c.Invoice = string(invoice)
	return c, err
}

func (c *Chunk) readBody(r io.Reader) error {
	c.Chain, c.Sealed = make([]Value, c.cells()), make([]byte, c.length())
	for j := range c.Chain {
		if _, err := io.ReadFull(r, c.Chain[j][:]); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(r, c.Sealed)
	return err
}

func (p ChunkPromise) length() int64 {
	_, n := p.Span(p.Index)
	return n
}

// A ChunkRequest asks for at most [MaxBatch] chunks of a file, each of which is
// answered by a [Chunk]. Its nonce is fresh.
type ChunkRequest struct {
	Cut
	Indices []int // ascending
	Nonce   Nonce
}

type wireChunkRequest struct {
	Root   htlcdash.Root `json:"root"`
	Length int64         `json:"length"`
	Leaves int           `json:"leaves"`
	Chunks []int         `json:"chunks"`
	Nonce  Nonce         `json:"nonce"`
}

// MarshalJSON gives the wire form.
func (r ChunkRequest) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireChunkRequest{r.File.Root, r.File.Length, r.Leaves, r.Indices, r.Nonce})
}

// ParseChunkRequest reads the wire form, which must not be followed by
// anything. The error matches [htlcdash.ErrFormat].
func ParseChunkRequest(b []byte) (ChunkRequest, error) {
	var w wireChunkRequest
	if err := unmarshal(b, MaxRequestBytes, "chunk request", &w); err != nil {
		return ChunkRequest{}, err
	}
	r := ChunkRequest{Cut{htlcdash.Blob{Root: w.Root, Length: w.Length}, w.Leaves}, w.Chunks, w.Nonce}
	if err := r.Check(); err != nil {
		return ChunkRequest{}, err
	}
	if n := len(r.Indices); n == 0 || n > MaxBatch {
		return ChunkRequest{}, malformed("request for %d chunks, want 1 to %d", n, MaxBatch)
	}
	if r.Nonce == (Nonce{}) {
		return ChunkRequest{}, malformed("chunk request without a nonce")
	}
	last := -1
	for _, i := range r.Indices {
		if i <= last || i >= r.Chunks() {
			return ChunkRequest{}, malformed("chunk %d after chunk %d of %d", i, last, r.Chunks())
		}
		last = i
	}
	return r, nil
}

// A FileInfo is what a provider says of a file that it sells. All of it is a
// claim, until the layer has led to the root.
type FileInfo struct {
	Root   htlcdash.Root  `json:"root"`
	Length int64          `json:"length"`
	Name   string         `json:"name"`   // for people
	Leaves int            `json:"leaves"` // of a chunk
	Price  lightning.Msat `json:"mib_msat"`
}

// Cut is the file as it is sold.
func (f FileInfo) Cut() Cut { return Cut{htlcdash.Blob{Root: f.Root, Length: f.Length}, f.Leaves} }

// A FileList is what a provider sells by the chunk, and who signs for it.
type FileList struct {
	Provider htlcdash.ProviderID `json:"provider"`
	Files    []FileInfo          `json:"files"`
}

// ParseFileList reads the wire form. The error matches [htlcdash.ErrFormat].
func ParseFileList(b []byte) (l FileList, err error) {
	if err := unmarshal(b, MaxFileListBytes, "list of files", &l); err != nil {
		return FileList{}, err
	}
	if len(l.Files) > MaxFiles {
		return FileList{}, malformed("list of %d files, at most %d", len(l.Files), MaxFiles)
	}
	for _, f := range l.Files {
		if err := f.Cut().Check(); err != nil {
			return FileList{}, err
		}
		if f.Price < 0 || f.Price > MaxFilePrice || len(f.Name) > MaxFileName || !utf8.ValidString(f.Name) {
			return FileList{}, malformed("file %s at %d msat a MiB with a name of %d bytes", f.Root, int64(f.Price), len(f.Name))
		}
	}
	return l, nil
}

// ParseLayer reads the roots of a file's chunks, one after the other, and holds
// them against the file's root. The error matches [htlcdash.ErrCorrupt].
func ParseLayer(b []byte, cut Cut) ([]htlcdash.Root, error) {
	if len(b) != 32*cut.Chunks() {
		return nil, fmt.Errorf("%d bytes of chunk roots, want %d: %w", len(b), 32*cut.Chunks(), htlcdash.ErrCorrupt)
	}
	layer := make([]htlcdash.Root, cut.Chunks())
	for i := range layer {
		copy(layer[i][:], b[32*i:])
	}
	return layer, cut.CheckLayer(layer)
}
