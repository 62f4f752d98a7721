package remux

import (
	"encoding/binary"
	"fmt"
	"iter"

	"htlcdash/internal/dash"
)

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMedia, fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// boxes walks whole boxes, one level.
func boxes(b []byte) iter.Seq2[dash.Box, error] {
	return func(yield func(dash.Box, error) bool) {
		for box, err := range dash.Boxes(b) {
			switch {
			case err != nil:
				err = broken("%v", err)
			case box.Size > int64(len(b))-box.Offset:
				err = broken("box %q at byte %d is cut off", box.Type, box.Offset)
			}
			if !yield(box, err) || err != nil {
				return
			}
		}
	}
}

// child returns the body of the first box of the first type in b, in that the
// first of the second type, and so on.
func child(b []byte, types ...string) ([]byte, error) {
	for _, want := range types {
		found := false
		for box, err := range boxes(b) {
			if err != nil {
				return nil, err
			}
			if found = box.Type == want; found {
				b = box.Body
				break
			}
		}
		if !found {
			return nil, broken("no %s box", want)
		}
	}
	return b, nil
}

// A reader reads numbers, and remembers whether there were enough bytes.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.b) {
		r.short = true
		return make([]byte, min(n, 8))
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) skip(n int)  { r.take(n) }

// full reads the head of a full box (4.2).
func (r *reader) full() (version uint8, flags uint32) {
	v := r.u32()
	return uint8(v >> 24), v & 0xffffff
}

// word reads 4 bytes, or 8 in version 1.
func (r *reader) word(version uint8) uint64 {
	if version == 0 {
		return uint64(r.u32())
	}
	return r.u64()
}
