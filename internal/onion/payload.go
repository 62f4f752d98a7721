package onion

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"htlcdash/lightning"
)

// The types of records, BOLT 4 "payload Format".
const (
	recordAmount   = 2
	recordExpiry   = 4
	recordPayment  = 8
	recordMetadata = 16
)

// A Final is what the payer tells the payee's node.
type Final struct {
	Amount   lightning.Msat // of this HTLC, at least
	Expiry   uint32         // block height, at least
	Secret   [32]byte       // of the invoice
	Total    lightning.Msat // of the payment, all its parts together
	Metadata []byte         // of the invoice; nil if there was none
}

// Final reads the layer of the last hop. The error matches [ErrPayload].
func (l *Layer) Final() (Final, error) {
	if !l.last {
		return Final{}, fmt.Errorf("not the last hop: %w", ErrPayload)
	}
	f, err := parse(l.payload)
	if err != nil {
		return Final{}, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	return f, nil
}

func parse(b []byte) (f Final, err error) {
	seen := map[uint64]bool{}
	err = records(b, func(kind uint64, value []byte) (err error) {
		seen[kind] = true
		switch kind {
		case recordAmount:
			f.Amount, err = amount(value)
		case recordExpiry:
			var n uint64
			if n, err = truncated(value); n > math.MaxUint32 {
				err = fmt.Errorf("expiry of %d", n)
			}
			f.Expiry = uint32(n)
		case recordPayment:
			if len(value) < len(f.Secret) {
				return fmt.Errorf("payment data of %d bytes", len(value))
			}
			f.Secret = [32]byte(value)
			f.Total, err = amount(value[len(f.Secret):])
		case recordMetadata:
			f.Metadata = value
		default:
			if kind%2 == 0 { // BOLT 1: it's ok to be odd
				err = fmt.Errorf("unknown record %d", kind)
			}
		}
		return err
	})
	for _, kind := range []uint64{recordAmount, recordExpiry, recordPayment} {
		if err == nil && !seen[kind] {
			err = fmt.Errorf("no record %d", kind)
		}
	}
	return f, err
}

// records calls see for each record of a stream (BOLT 1, "Type-Length-Value
// Format"): types grow, nothing follows the last one.
func records(b []byte, see func(kind uint64, value []byte) error) error {
	for last, first := uint64(0), true; len(b) > 0; first = false {
		kind, n, err := bigSize(b)
		if err != nil {
			return err
		}
		if b = b[n:]; !first && kind <= last {
			return fmt.Errorf("record %d behind %d", kind, last)
		}
		last = kind
		length, n, err := bigSize(b)
		if err != nil {
			return err
		}
		if b = b[n:]; length > uint64(len(b)) {
			return fmt.Errorf("record %d is longer than the payload", kind)
		}
		if err := see(kind, b[:length:length]); err != nil {
			return err
		}
		b = b[length:]
	}
	return nil
}

// bigSize reads a BOLT 1 BigSize, which must be the shortest of its value.
func bigSize(b []byte) (v uint64, n int, err error) {
	if len(b) == 0 {
		return 0, 0, errors.New("cut off in a number")
	}
	width := map[byte]int{0xfd: 2, 0xfe: 4, 0xff: 8}[b[0]]
	if width == 0 {
		return uint64(b[0]), 1, nil
	}
	if len(b) < 1+width {
		return 0, 0, errors.New("cut off in a number")
	}
	for _, c := range b[1 : 1+width] {
		v = v<<8 | uint64(c)
	}
	if v < map[int]uint64{2: 0xfd, 4: 1 << 16, 8: 1 << 32}[width] {
		return 0, 0, errors.New("a number is not the shortest of its value")
	}
	return v, 1 + width, nil
}

// truncated reads a number without zeros in front (BOLT 1, tu64).
func truncated(b []byte) (n uint64, err error) {
	if len(b) > 8 || len(b) > 0 && b[0] == 0 {
		return 0, fmt.Errorf("a number of %d bytes is not the shortest", len(b))
	}
	var full [8]byte
	copy(full[8-len(b):], b)
	return binary.BigEndian.Uint64(full[:]), nil
}

func amount(b []byte) (lightning.Msat, error) {
	n, err := truncated(b)
	if n > math.MaxInt64 {
		err = fmt.Errorf("amount of %d", n)
	}
	return lightning.Msat(n), err
}
