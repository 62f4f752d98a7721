package remux

import "bytes"

const audioEntry = 28 // bytes of an AudioSampleEntry in front of its boxes

// audioSpecificConfig returns that of AAC from its sample entry, or nothing
// where it is not AAC, or is not found.
func audioSpecificConfig(body []byte) []byte {
	if len(body) < audioEntry {
		return nil
	}
	esds, err := child(body[audioEntry:], "esds")
	if err != nil {
		return nil
	}
	r := &reader{b: esds}
	r.full()
	r = descriptor(r, 3) // ES_Descriptor (ISO/IEC 14496-1, 7.2.6.5)
	r.skip(2)
	flags := r.u8()
	if flags&0x80 != 0 {
		r.skip(2)
	}
	if flags&0x40 != 0 {
		r.skip(int(r.u8()))
	}
	if flags&0x20 != 0 {
		r.skip(2)
	}
	r = descriptor(r, 4) // DecoderConfigDescriptor
	if r.u8() != 0x40 {  // MPEG-4 Audio
		return nil
	}
	r.skip(12)
	r = descriptor(r, 5) // DecoderSpecificInfo
	if r.short {
		return nil
	}
	return r.b
}

// descriptor returns the body of a descriptor that must come next.
func descriptor(r *reader, tag byte) *reader {
	if r.u8() != tag {
		return &reader{short: true}
	}
	n := 0
	for range 4 {
		b := r.u8()
		if n = n<<7 | int(b&0x7f); b&0x80 == 0 {
			break
		}
	}
	return &reader{b: r.take(n), short: r.short}
}

// sameAAC makes one stream of AAC in several configurations, such as two
// sample rates: decoders take one at the start, and an ADTS header in front
// of each frame tells them when another holds.
func sameAAC(codecs []*codec) error {
	differ := false
	for _, c := range codecs[1:] {
		differ = differ || !bytes.Equal(c.aac, codecs[0].aac)
	}
	if !differ {
		return nil
	}
	for _, c := range codecs {
		if c.adts = adtsHeader(c.aac); c.adts == nil {
			return unsupported("its sound is AAC in several configurations, one of them (%x) too new, or not told", c.aac)
		}
	}
	return nil
}

// adtsHeader makes a header (ISO/IEC 13818-7, 6.2) for frames of a
// configuration (ISO/IEC 14496-3, 1.6.2.1), of length 0. It is nil for what
// the header cannot say. SBR and PS are found by decoders themselves.
func adtsHeader(config []byte) []byte {
	if len(config) < 2 {
		return nil
	}
	object, rate, channels := config[0]>>3, config[0]&7<<1|config[1]>>7, config[1]>>3&15
	if object == 5 || object == 29 {
		object = 2
	}
	if object < 1 || object > 4 || rate > 12 || channels < 1 || channels > 7 {
		return nil
	}
	return []byte{0xff, 0xf1, (object-1)<<6 | rate<<2 | channels>>2, channels & 3 << 6, 0, 0x1f, 0xfc}
}

// withHeader puts the ADTS header in front of a frame.
func (c *codec) withHeader(b []byte) ([]byte, error) {
	n := len(c.adts) + len(b)
	if n >= 1<<13 {
		return nil, broken("AAC frame of %d bytes", len(b))
	}
	out := append(make([]byte, 0, n), c.adts...)
	out[3] |= byte(n >> 11)
	out[4] = byte(n >> 3)
	out[5] |= byte(n << 5)
	return append(out, b...), nil
}
