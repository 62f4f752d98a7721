package remux

import (
	"slices"
)

// A codec is what is done to the frames of one sample entry.
type codec struct {
	length int               // bytes of the length in front of each NAL unit; 0: these are not NAL units
	isAUD  func(b byte) bool // whether a NAL unit with this first byte is an access unit delimiter
	sets   []byte            // parameter sets, each behind its length of 4 bytes

	aac  []byte // AudioSpecificConfig of AAC
	adts []byte // ADTS header in front of each frame; empty: none
}

// inBand maps sample entries whose parameter sets stand in them only to those
// that have them in frames too (ISO/IEC 14496-15; Dolby Vision in ISOBMFF).
var inBand = map[string]string{
	"avc1": "avc3", "avc3": "avc3", "dva1": "dvav", "dvav": "dvav",
	"hvc1": "hev1", "hev1": "hev1", "dvh1": "dvhe", "dvhe": "dvhe",
}

// readCodec returns what is done to frames, and the sample entry for them.
func readCodec(e entry) (codec, entry, error) {
	switch e.kind {
	case "avc1", "avc3", "dva1", "dvav":
		return nalCodec(e, "avcC", 4, (*codec).readAVC)
	case "hvc1", "hev1", "dvh1", "dvhe":
		return nalCodec(e, "hvcC", 21, (*codec).readHEVC)
	case "mp4a":
		return codec{aac: audioSpecificConfig(e.body)}, e, nil
	}
	return codec{}, e, nil
}

const visualEntry = 78 // bytes of a VisualSampleEntry in front of its boxes

// nalCodec reads the configuration in the box of that name. Its byte lengthAt
// tells how long lengths are; ours are 4 bytes, whatever theirs.
func nalCodec(e entry, name string, lengthAt int, read func(*codec, *reader)) (c codec, out entry, err error) {
	if len(e.body) < visualEntry {
		return c, out, broken("sample entry %s is cut off", e.kind)
	}
	for box, err := range boxes(e.body[visualEntry:]) {
		if err != nil {
			return c, out, err
		}
		if box.Type != name {
			continue
		}
		r := reader{b: box.Body}
		r.skip(lengthAt)
		c.length = int(r.u8()&3) + 1
		if read(&c, &r); r.short {
			return c, out, broken("%s box is cut off", name)
		}
		out = entry{inBand[e.kind], slices.Clone(e.body)}
		out.body[visualEntry+box.Offset+box.Size-int64(len(box.Body))+int64(lengthAt)] |= 3
		return c, out, nil
	}
	return c, out, broken("no %s box", name)
}

// readAVC reads the parameter sets of an AVCDecoderConfigurationRecord
// (ISO/IEC 14496-15, 5.3.3).
func (c *codec) readAVC(r *reader) {
	c.isAUD = func(b byte) bool { return b&31 == 9 }
	for _, mask := range []byte{31, 255} { // of the count of SPS, and of PPS
		for range r.u8() & mask {
			c.readSet(r)
		}
	}
}

// readHEVC reads those of an HEVCDecoderConfigurationRecord (8.3.3).
func (c *codec) readHEVC(r *reader) {
	c.isAUD = func(b byte) bool { return b>>1&63 == 35 }
	for range r.u8() {
		r.skip(1)
		for range r.u16() {
			if c.readSet(r); r.short {
				return
			}
		}
	}
}

func (c *codec) readSet(r *reader) {
	set := r.take(int(r.u16()))
	c.sets = append(be.AppendUint32(c.sets, uint32(len(set))), set...)
}

// frame returns a frame as it is written. A player may begin, or go on with
// another entry's frames, where begin is set.
func (c *codec) frame(b []byte, begin bool) ([]byte, error) {
	switch {
	case len(c.adts) > 0:
		return c.withHeader(b)
	case c.length > 0 && c.length < 4:
		var err error
		if b, err = c.lengthen(b); err != nil {
			return nil, err
		}
	}
	if !begin || len(c.sets) == 0 {
		return b, nil
	}
	at := c.delimiter(b)
	return slices.Concat(b[:at], c.sets, b[at:]), nil
}

// delimiter returns the length of an access unit delimiter at the begin of a
// frame: nothing may stand in front of it.
func (c *codec) delimiter(b []byte) int {
	if len(b) < 5 || !c.isAUD(b[4]) {
		return 0
	}
	if n := be.Uint32(b); int64(n) <= int64(len(b)-4) {
		return 4 + int(n)
	}
	return 0
}

// lengthen gives NAL units lengths of 4 bytes.
func (c *codec) lengthen(b []byte) ([]byte, error) {
	most := 2*len(b) + maxMore
	out := make([]byte, 0, len(b)+64)
	for len(b) > 0 {
		if len(b) < c.length {
			return nil, broken("NAL unit is cut off")
		}
		n := 0
		for _, x := range b[:c.length] {
			n = n<<8 | int(x)
		}
		if b = b[c.length:]; n > len(b) {
			return nil, broken("NAL unit is cut off")
		}
		if out = append(be.AppendUint32(out, uint32(n)), b[:n]...); len(out) > most {
			return nil, broken("frame of more lengths than bytes")
		}
		b = b[n:]
	}
	return out, nil
}
