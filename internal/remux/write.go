package remux

import (
	"encoding/binary"
	"time"
)

// A fragment is samples of one track that are written together.
type fragment struct {
	track   *track
	samples []sample
	frees   int64 // bytes of memory, once it is written
}

// start is when its first sample is decoded.
func (f fragment) start() time.Duration { return f.track.duration(f.samples[0].dts - f.track.delay) }

var be = binary.BigEndian

// box appends a box with what body appends.
func box(b []byte, kind string, body func(b []byte) []byte) []byte {
	at := len(b)
	b = append(be.AppendUint32(b, 0), kind...)
	b = body(b)
	be.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// full appends a full box (4.2).
func full(b []byte, kind string, version uint8, flags uint32, body func(b []byte) []byte) []byte {
	return box(b, kind, func(b []byte) []byte { return body(be.AppendUint32(b, uint32(version)<<24|flags)) })
}

func words(b []byte, words ...uint32) []byte {
	for _, w := range words {
		b = be.AppendUint32(b, w)
	}
	return b
}

// movieScale is the timescale of the movie, in which nothing is timed.
const movieScale = 1000

var unity = []uint32{0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000}

// head is all in front of the first fragment.
func head(tracks []*track) []byte {
	b := box(nil, "ftyp", func(b []byte) []byte { return append(be.AppendUint32(append(b, "iso6"...), 0), "iso6mp41"...) })
	return box(b, "moov", func(b []byte) []byte {
		b = full(b, "mvhd", 0, 0, func(b []byte) []byte {
			b = words(b, 0, 0, movieScale, 0, 0x10000, 0x1000000, 0, 0)
			b = words(b, unity...)
			return words(b, 0, 0, 0, 0, 0, 0, uint32(len(tracks)+1))
		})
		for i, t := range tracks {
			t.id = uint32(i + 1)
			b = box(b, "trak", t.trak)
		}
		return box(b, "mvex", func(b []byte) []byte {
			for _, t := range tracks {
				b = full(b, "trex", 0, 0, func(b []byte) []byte { return words(b, t.id, 1, 0, 0, 0) })
			}
			return b
		})
	})
}

func (t *track) trak(b []byte) []byte {
	b = full(b, "tkhd", 0, 3, func(b []byte) []byte {
		volume := uint32(0)
		if t.kind == Audio {
			volume = 0x1000000
		}
		b = words(b, 0, 0, t.id, 0, 0, 0, 0, 0, volume)
		return words(append(b, t.look.matrix...), t.look.width, t.look.height)
	})
	if t.delay > 0 {
		b = box(b, "edts", func(b []byte) []byte {
			return full(b, "elst", 0, 0, func(b []byte) []byte { return words(b, 1, 0, uint32(t.delay), 0x10000) })
		})
	}
	return box(b, "mdia", t.mdia)
}

func (t *track) mdia(b []byte) []byte {
	handler, media := "vide", func(b []byte) []byte {
		return full(b, "vmhd", 0, 1, func(b []byte) []byte { return words(b, 0, 0) })
	}
	if t.kind == Audio {
		handler, media = "soun", func(b []byte) []byte {
			return full(b, "smhd", 0, 0, func(b []byte) []byte { return words(b, 0) })
		}
	}
	b = full(b, "mdhd", 0, 0, func(b []byte) []byte {
		return words(b, 0, 0, uint32(t.timescale), 0, uint32(t.look.language)<<16)
	})
	b = full(b, "hdlr", 0, 0, func(b []byte) []byte {
		return append(words(append(words(b, 0), handler...), 0, 0, 0), 0)
	})
	return box(b, "minf", func(b []byte) []byte {
		b = media(b)
		b = box(b, "dinf", func(b []byte) []byte {
			return full(b, "dref", 0, 0, func(b []byte) []byte {
				return full(words(b, 1), "url ", 0, 1, func(b []byte) []byte { return b })
			})
		})
		return box(b, "stbl", t.stbl)
	})
}

func (t *track) stbl(b []byte) []byte {
	b = full(b, "stsd", 0, 0, func(b []byte) []byte {
		b = words(b, uint32(len(t.entries)))
		for _, e := range t.entries {
			b = box(b, e.kind, func(b []byte) []byte { return append(b, e.body...) })
		}
		return b
	})
	for _, kind := range []string{"stts", "stsc", "stco"} {
		b = full(b, kind, 0, 0, func(b []byte) []byte { return words(b, 0) })
	}
	return full(b, "stsz", 0, 0, func(b []byte) []byte { return words(b, 0, 0) })
}

// encode makes the moof and mdat boxes of a fragment.
func (f fragment) encode(sequence uint32) []byte {
	first, n, size := f.samples[0], len(f.samples), 8
	for _, s := range f.samples {
		size += len(s.data)
	}
	b := make([]byte, 0, size+100+16*n)
	offset := 0
	b = box(b, "moof", func(b []byte) []byte {
		b = full(b, "mfhd", 0, 0, func(b []byte) []byte { return words(b, sequence) })
		return box(b, "traf", func(b []byte) []byte {
			b = full(b, "tfhd", 0, tfhdMoof|tfhdDescription, func(b []byte) []byte {
				return words(b, f.track.id, uint32(first.entry+1))
			})
			b = full(b, "tfdt", 1, 0, func(b []byte) []byte { return be.AppendUint64(b, uint64(first.dts)) })
			return full(b, "trun", 1, trunOffset|trunDuration|trunSize|trunFlags|trunTime, func(b []byte) []byte {
				b = words(b, uint32(n), 0)
				offset = len(b) - 4
				for i, s := range f.samples {
					duration := s.duration
					if i+1 < n {
						duration = f.samples[i+1].dts - s.dts
					}
					b = words(b, uint32(duration), uint32(len(s.data)), s.flags, uint32(s.pts-s.dts))
				}
				return b
			})
		})
	})
	be.PutUint32(b[offset:], uint32(len(b)+8))
	return box(b, "mdat", func(b []byte) []byte {
		for _, s := range f.samples {
			b = append(b, s.data...)
		}
		return b
	})
}
