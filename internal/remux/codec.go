package remux

import (
	"encoding/binary"
	"slices"
)

// A codec is what is done to the samples of one sample entry.
type codec struct {
	sets   []byte // parameter sets with their lengths of 4 bytes, for the front of a frame that decoding may begin with
	length int    // bytes of a length in front of a NAL unit; 0: these are not NAL units
	aud    func(first byte) bool
}

const visualEntry = 78 // bytes of a VisualSampleEntry in front of its boxes

// readCodec returns what is done to samples, and the sample entry for them.
func readCodec(e entry) (c codec, out entry, err error) {
	switch e.kind {
	case "avc1", "avc3":
		return avc(e)
	case "hvc1", "hev1":
		return hevc(e)
	}
	return c, e, nil
}

// configuration returns the body of a box of a VisualSampleEntry.
func configuration(e entry, box string) ([]byte, error) {
	if len(e.body) < visualEntry {
		return nil, broken("sample entry %s is cut off", e.kind)
	}
	return child(e.body[visualEntry:], box)
}

// avc reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3).
func avc(e entry) (c codec, out entry, err error) {
	b, err := configuration(e, "avcC")
	if err != nil {
		return c, out, err
	}
	r := reader{b: b}
	r.skip(4)
	c.length = int(r.u8()&3) + 1
	for _, mask := range []byte{31, 255} { // of SPS, then of PPS
		for range r.u8() & mask {
			c.add(r.take(int(r.u16())))
		}
	}
	c.aud = func(b byte) bool { return b&31 == 9 }
	if r.short {
		return c, out, broken("avcC box is cut off")
	}
	return c, entry{"avc3", fourBytes(e.body, b, 4)}, nil
}

// hevc reads an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3).
func hevc(e entry) (c codec, out entry, err error) {
	b, err := configuration(e, "hvcC")
	if err != nil {
		return c, out, err
	}
	r := reader{b: b}
	r.skip(21)
	c.length = int(r.u8()&3) + 1
	for range r.u8() {
		r.skip(1)
		for range r.u16() {
			if c.add(r.take(int(r.u16()))); r.short {
				break
			}
		}
	}
	c.aud = func(b byte) bool { return b>>1&63 == 35 }
	if r.short {
		return c, out, broken("hvcC box is cut off")
	}
	return c, entry{"hev1", fourBytes(e.body, b, 21)}, nil
}

// fourBytes returns the sample entry with lengths of 4 bytes said at byte i
// of its configuration.
func fourBytes(body, config []byte, i int) []byte {
	at := cap(body) - cap(config) + i
	out := slices.Clone(body)
	out[at] |= 3
	return out
}

func (c *codec) add(set []byte) {
	c.sets = binary.BigEndian.AppendUint32(c.sets, uint32(len(set)))
	c.sets = append(c.sets, set...)
}

// rewrite puts parameter sets into a frame that decoding may begin with.
func (c codec) rewrite(b []byte, begin bool) []byte {
	if !begin || len(c.sets) == 0 {
		return b
	}
	return append(slices.Clone(c.sets), b...)
}
