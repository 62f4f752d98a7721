package remux

import (
	"cmp"
	"slices"
)

// Bounds on what a media segment may claim.
const (
	maxSamples = 1 << 18 // of a segment, over all its tracks
	maxBoxes   = 1 << 16 // of a segment, mdat and moof alike
	maxSeconds = 1 << 31 // of any time: clocks may count from 1970 on
)

// A sample is one frame.
type sample struct {
	data     []byte
	dts, pts int64 // ticks
	duration int64
	flags    uint32 // 8.8.3.1
	entry    int    // index of the sample entry
}

const nonSync = 1 << 16 // in flags

// Flags of tfhd (8.8.7) and trun (8.8.8).
const (
	tfhdBase, tfhdDescription, tfhdDuration, tfhdSize, tfhdFlags, tfhdMoof = 0x1, 0x2, 0x8, 0x10, 0x20, 0x20000
	trunOffset, trunFirst, trunDuration, trunSize, trunFlags, trunTime     = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
)

// A span is bytes of a segment.
type span struct{ from, to int64 }

// A segment is a media segment being read.
type segment struct {
	*header
	b       []byte
	mdats   []span
	used    []span // by the samples
	samples []sample
	any     bool  // there is a moof
	count   int64 // of samples, over all tracks
	next    int64 // decoding time after the last sample
	data    int64 // where the data of the traf before ends
}

// readSegment returns the samples of the track of h, in decoding order.
func (h *header) readSegment(b []byte) ([]sample, error) {
	s := &segment{header: h, b: b}
	n := 0
	for box, err := range boxes(b) {
		if err != nil {
			return nil, err
		}
		if n++; n > maxBoxes {
			return nil, broken("more than %d boxes", maxBoxes)
		}
		if box.Type == "mdat" {
			end := box.Offset + box.Size
			s.mdats = append(s.mdats, span{end - int64(len(box.Body)), end})
		}
	}
	for box, err := range boxes(b) {
		if err != nil {
			return nil, err
		}
		if box.Type == "moof" {
			s.any = true
			if err := s.moof(box.Body, box.Offset); err != nil {
				return nil, err
			}
		}
	}
	if !s.any {
		return nil, broken("no moof box")
	}
	return s.samples, s.overlap()
}

// overlap refuses samples that share bytes: what is written has each of them, so
// a small segment could become any size.
func (s *segment) overlap() error {
	before := func(a, b span) int { return cmp.Compare(a.from, b.from) }
	if !slices.IsSortedFunc(s.used, before) {
		slices.SortFunc(s.used, before)
	}
	for i := 1; i < len(s.used); i++ {
		if at := s.used[i].from; at < s.used[i-1].to {
			return broken("two samples have byte %d", at)
		}
	}
	return nil
}

func (s *segment) moof(b []byte, at int64) error {
	s.data = at
	for box, err := range boxes(b) {
		if err != nil {
			return err
		}
		if box.Type == "traf" {
			if err := s.traf(box.Body, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// traf reads a track fragment. at is where its moof begins.
func (s *segment) traf(b []byte, at int64) error {
	tfhd, err := child(b, "tfhd")
	if err != nil {
		return err
	}
	r := reader{b: tfhd}
	_, flags := r.full()
	track := r.u32()
	base := s.data
	if flags&tfhdMoof != 0 {
		base = at
	}
	if flags&tfhdBase != 0 {
		// It counts in a file that is not here. Those who write it, write
		// where the moof begins; if not, no mdat has the samples.
		r.u64()
		base = at
	}
	d := s.defaults
	for _, x := range []struct {
		flag uint32
		to   *uint32
	}{{tfhdDescription, &d.description}, {tfhdDuration, &d.duration}, {tfhdSize, &d.size}, {tfhdFlags, &d.flags}} {
		if flags&x.flag != 0 {
			*x.to = r.u32()
		}
	}
	if r.short {
		return broken("tfhd box is cut off")
	}
	mine := track == s.id
	if mine && (d.description == 0 || int(d.description) > len(s.entries)) {
		return broken("sample entry %d of %d", d.description, len(s.entries))
	}
	if err := s.readTfdt(b, mine); err != nil {
		return err
	}
	s.data = base
	for box, err := range boxes(b) {
		if err != nil {
			return err
		}
		if box.Type == "trun" {
			if err := s.trun(box.Body, base, d, mine); err != nil {
				return err
			}
		}
	}
	return nil
}

// readTfdt reads the decoding time of the first sample. Without it, samples
// follow those before.
func (s *segment) readTfdt(traf []byte, mine bool) error {
	tfdt, err := child(traf, "tfdt")
	if err != nil || !mine {
		return nil
	}
	r := reader{b: tfdt}
	version, _ := r.full()
	at := r.word(version)
	if r.short || version > 1 || at/uint64(s.timescale) > maxSeconds {
		return broken("tfdt box is cut off, or absurd")
	}
	s.next = int64(at)
	return nil
}

// trun reads a run of samples. Those of another track only move on where the
// next data is.
func (s *segment) trun(b []byte, base int64, d defaults, mine bool) error {
	r := reader{b: b}
	version, flags := r.full()
	n := r.u32()
	if flags&trunOffset != 0 {
		s.data = base + int64(int32(r.u32()))
	}
	first, hasFirst := uint32(0), flags&trunFirst != 0
	if hasFirst {
		first = r.u32()
	}
	if s.count += int64(n); s.count > maxSamples {
		return broken("more than %d samples", maxSamples)
	}
	for i := range n {
		x := sample{duration: int64(d.duration), flags: d.flags, entry: int(d.description) - 1}
		size := d.size
		if flags&trunDuration != 0 {
			x.duration = int64(r.u32())
		}
		if flags&trunSize != 0 {
			size = r.u32()
		}
		if flags&trunFlags != 0 {
			x.flags = r.u32()
		} else if i == 0 && hasFirst {
			x.flags = first
		}
		x.dts = s.next
		x.pts = x.dts
		if flags&trunTime != 0 {
			v := r.u32()
			if version == 0 {
				x.pts += int64(v)
			} else {
				x.pts += int64(int32(v))
			}
		}
		if r.short {
			return broken("trun box is cut off")
		}
		where := span{s.data, s.data + int64(size)}
		s.data = where.to
		if !mine {
			continue
		}
		if !s.holds(where) {
			return broken("sample at bytes %d to %d, where there is no data", where.from, where.to)
		}
		if size > 0 {
			s.used = append(s.used, where)
		}
		x.data = s.b[where.from:where.to]
		if s.next += x.duration; s.next/s.timescale > maxSeconds {
			return broken("absurd time %d", s.next)
		}
		s.samples = append(s.samples, x)
	}
	return nil
}

// holds tells whether an mdat box has these bytes.
func (s *segment) holds(where span) bool {
	i, found := slices.BinarySearchFunc(s.mdats, where.from, func(m span, at int64) int { return cmp.Compare(m.from, at) })
	if !found {
		i--
	}
	return i >= 0 && where.to <= s.mdats[i].to
}

// rescale converts ticks, rounded to the nearest. What goes in is bounded by
// maxSeconds, timescales by maxScale.
func rescale(t, from, to int64) int64 {
	if from == to {
		return t
	}
	whole, rest := t/from, t%from
	if rest < 0 {
		whole, rest = whole-1, rest+from
	}
	return whole*to + (rest*to+from/2)/from
}
