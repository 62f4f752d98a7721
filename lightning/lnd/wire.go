package lnd

import (
	"encoding/binary"
	"errors"
)

// errWire means that bytes are no protobuf message.
var errWire = errors.New("not a protobuf message")

// wireFields calls see for each field of a protobuf message: number holds a
// varint or fixed value, data the bytes of a length-delimited one. It is all
// of protobuf that the guard needs: two flat messages and the id of a macaroon.
func wireFields(b []byte, see func(field int, number uint64, data []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return errWire
		}
		b = b[n:]
		var number uint64
		var data []byte
		switch tag & 7 {
		case 0: // varint
			if number, n = binary.Uvarint(b); n <= 0 {
				return errWire
			}
		case 1: // 64 bits
			if n = 8; len(b) < n {
				return errWire
			}
			number = binary.LittleEndian.Uint64(b)
		case 2: // length-delimited
			length, head := binary.Uvarint(b)
			if head <= 0 || length > uint64(len(b)-head) {
				return errWire
			}
			n = head + int(length)
			data = b[head:n]
		case 5: // 32 bits
			if n = 4; len(b) < n {
				return errWire
			}
			number = uint64(binary.LittleEndian.Uint32(b))
		default:
			return errWire
		}
		b = b[n:]
		if err := see(int(tag>>3), number, data); err != nil {
			return err
		}
	}
	return nil
}
