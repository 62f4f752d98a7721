package dash

import (
	"encoding/binary"
	"iter"
)

// A Box is one box of a file of ISO base media (ISO/IEC 14496-12, 4.2).
type Box struct {
	Type   string // four characters
	Offset int64  // bytes from the begin of what was walked
	Size   int64  // bytes, header included
	Body   []byte // what is there of the body: the last box may be cut off
}

// Boxes walks the boxes of b, one level. A box that is cut off by the end of b
// is given and ends the walk; a header that is cut off or lies is an error.
func Boxes(b []byte) iter.Seq2[Box, error] {
	return func(yield func(Box, error) bool) {
		for offset := int64(0); offset < int64(len(b)); {
			box, err := readBox(b, offset)
			if !yield(box, err) || err != nil {
				return
			}
			offset += box.Size
		}
	}
}

func readBox(b []byte, offset int64) (Box, error) {
	rest := b[offset:]
	if len(rest) < 8 {
		return Box{}, malformed("box header at byte %d is cut off", offset)
	}
	box := Box{Type: string(rest[4:8]), Offset: offset, Size: int64(binary.BigEndian.Uint32(rest))}
	header := int64(8)
	switch box.Size {
	case 0: // to the end of the file
		box.Size = int64(len(rest))
	case 1:
		if len(rest) < 16 {
			return Box{}, malformed("box header at byte %d is cut off", offset)
		}
		size := binary.BigEndian.Uint64(rest[8:])
		if size > maxNumber {
			return Box{}, malformed("box %q at byte %d has %d bytes", box.Type, offset, size)
		}
		header, box.Size = 16, int64(size)
	}
	if box.Size < header {
		return Box{}, malformed("box %q at byte %d has %d bytes, less than its header", box.Type, offset, box.Size)
	}
	box.Body = rest[header:min(box.Size, int64(len(rest)))]
	return box, nil
}

// A Sidx is a segment index (ISO/IEC 14496-12, 8.16.3).
type Sidx struct {
	Timescale  uint32
	Earliest   uint64 // media time of the first segment
	First      uint64 // bytes from the end of the box to the first segment
	References []Reference
}

// A Reference is one entry of a segment index.
type Reference struct {
	Index    bool // it refers to a further index, not to media
	Size     uint32
	Duration uint32 // in the timescale
}

// ParseSidx reads the body of a sidx box.
func ParseSidx(body []byte) (s Sidx, err error) {
	if len(body) < 4 {
		return s, errSidx
	}
	version, b := body[0], body[4:]
	if version > 1 {
		return s, malformed("sidx of version %d", version)
	}
	width := 4 + 4*int(version)
	if len(b) < 8+2*width+4 {
		return s, errSidx
	}
	s.Timescale = binary.BigEndian.Uint32(b[4:])
	b = b[8:]
	s.Earliest, s.First = uintOf(b[:width]), uintOf(b[width:2*width])
	n := int(binary.BigEndian.Uint16(b[2*width+2:]))
	b = b[2*width+4:]
	if len(b) != 12*n {
		return s, errSidx
	}
	s.References = make([]Reference, n)
	for i := range s.References {
		size := binary.BigEndian.Uint32(b[12*i:])
		s.References[i] = Reference{Index: size>>31 == 1, Size: size &^ (1 << 31), Duration: binary.BigEndian.Uint32(b[12*i+4:])}
	}
	return s, nil
}

var errSidx = malformed("sidx box is cut off, or longer than its references")

// uintOf reads 4 or 8 bytes.
func uintOf(b []byte) uint64 {
	if len(b) == 4 {
		return uint64(binary.BigEndian.Uint32(b))
	}
	return binary.BigEndian.Uint64(b)
}
