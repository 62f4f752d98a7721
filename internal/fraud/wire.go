package fraud

import (
	"encoding/binary"
	"fmt"
	"strings"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// Encode implements [Complaint].
func (c Keyed) Encode() []byte {
	b := append(head(kindKeyed), c.Provider[:]...)
	b = append(b, c.Promise.Encode()...)
	b = append(b, c.Signature[:]...)
	key := c.Preimage.Reveal()
	b = append(b, key[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Evidence.Cell))
	b = append(b, c.Evidence.In[:]...)
	b = append(b, c.Evidence.Out[:]...)
	b = append(b, c.Evidence.Sealed...)
	for _, h := range c.Evidence.Path {
		b = append(b, h[:]...)
	}
	return b
}

// Encode implements [Complaint].
func (c Salted) Encode() []byte {
	b := append(head(kindSalted), c.Provider[:]...)
	b = append(b, c.Promise.Encode()...)
	b = append(b, c.Signature[:]...)
	p := c.Preimage.Reveal()
	return append(b, p[:]...)
}

// Encode implements [Complaint].
func (c Sealed) Encode() []byte {
	b := binary.BigEndian.AppendUint32(head(kindSealed), uint32(len(c.MPD)))
	b = append(b, c.MPD...)
	b = append(b, c.Signature.Publisher[:]...)
	b = append(b, c.Signature.Bytes[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Representation)))
	b = append(b, c.Representation...)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Index))
	b = append(b, c.Seal.Encode()...)
	b = append(b, byte(len(c.Path)))
	for _, h := range c.Path {
		b = append(b, h[:]...)
	}
	key := c.Key.Reveal()
	b = append(b, key[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Bytes)))
	return append(b, c.Bytes...)
}

// Parse reads what Encode gives, and nothing else: the error matches
// [htlcdash.ErrFormat]. It believes nothing: see [Complaint.Judge]. The
// complaint shares the bytes of b.
func Parse(b []byte) (Complaint, error) {
	if len(b) > MaxBytes {
		return nil, malformed("%d bytes, at most %d", len(b), MaxBytes)
	}
	if len(b) < envelope || !strings.HasPrefix(string(b[:envelope]), magic) {
		return nil, malformed("no complaint: it does not begin with %q", magic)
	}
	if v := binary.BigEndian.Uint16(b[len(magic):]); v != version {
		return nil, malformed("version %d: this program knows %d", v, version)
	}
	r := &reader{b: b[envelope:]}
	c, err := r.complaint(binary.BigEndian.Uint16(b[len(magic)+2:]))
	switch {
	case r.short:
		return nil, malformed("it is cut off")
	case err != nil:
		return nil, err
	case len(r.b) > 0:
		return nil, malformed("%d bytes behind its end", len(r.b))
	}
	return c, nil
}

// A reader takes fields off a complaint. Once it is short it gives zeros.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) complaint(kind uint16) (Complaint, error) {
	switch kind {
	case kindKeyed:
		return r.keyed()
	case kindSalted:
		return r.salted()
	case kindSealed:
		return r.sealed()
	}
	return nil, malformed("kind %d: this program knows %d to %d", kind, kindKeyed, kindSealed)
}

func (r *reader) keyed() (c Keyed, err error) {
	c.Provider = r.hash()
	promise := r.take(exchange.ChunkPromiseBytes)
	if r.short {
		return c, nil
	}
	if c.Promise, err = exchange.ParseChunkPromise(promise); err != nil {
		return c, err
	}
	c.Signature = r.signature()
	c.Preimage = lightning.NewPreimage(r.hash())
	c.Evidence.Cell = int(r.uint32())
	sealed, path, err := c.Promise.Sizes(c.Evidence.Cell)
	if err != nil {
		return c, err
	}
	c.Evidence.In, c.Evidence.Out = r.hash(), r.hash()
	c.Evidence.Sealed = r.take(sealed)
	for range path {
		c.Evidence.Path = append(c.Evidence.Path, r.hash())
	}
	return c, nil
}

func (r *reader) salted() (c Salted, err error) {
	c.Provider = r.hash()
	promise := r.take(exchange.PromiseLength)
	if r.short {
		return c, nil
	}
	if c.Promise, err = exchange.ParsePromise(promise); err != nil {
		return c, err
	}
	c.Signature = r.signature()
	c.Preimage = lightning.NewPreimage(r.hash())
	return c, nil
}

func (r *reader) sealed() (c Sealed, err error) {
	if c.MPD, err = r.sized(int64(r.uint32()), dash.MaxSize, "MPD"); err != nil {
		return c, err
	}
	c.Signature = htlcdash.Signature{Publisher: r.hash(), Bytes: r.signature()}
	id, err := r.sized(int64(r.uint16()), maxID, "id of a Representation")
	if err != nil {
		return c, err
	}
	c.Representation, c.Index = string(id), int(r.uint32())
	record := r.take(len(htlcdash.Seal{}.Encode()))
	if r.short {
		return c, nil
	}
	if c.Seal, err = htlcdash.ParseSeal(record); err != nil {
		return c, err
	}
	for range r.byte() {
		c.Path = append(c.Path, r.hash())
	}
	c.Key = htlcdash.NewKey(r.hash())
	n := int64(r.uint32())
	if want := htlcdash.SealedLength(c.Seal.Length); n != 0 && n != want {
		return c, malformed("%d sealed bytes, want %d or none", n, want)
	}
	if n > 0 {
		c.Bytes = r.take(int(n))
	}
	return c, nil
}

// sized takes n bytes unless that is more than limit.
func (r *reader) sized(n, limit int64, what string) ([]byte, error) {
	if n > limit {
		return nil, malformed("%s of %d bytes, at most %d", what, n, limit)
	}
	return r.take(int(n)), nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) hash() (h [32]byte) {
	copy(h[:], r.take(len(h)))
	return h
}

func (r *reader) signature() (s [64]byte) {
	copy(s[:], r.take(len(s)))
	return s
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("complaint: "+format+": %w", append(args, htlcdash.ErrFormat)...)
}
