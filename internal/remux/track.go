package remux

import (
	"bytes"
	"slices"
	"time"
)

// A track is one track of what is written.
type track struct {
	kind            Kind
	id              uint32
	timescale       int64
	delay           int64 // the edit list: what is added to all times, in ticks, so that none is negative
	language        uint16
	width, height   uint32
	entries         []entry
	representations map[string]*representation
	queue           []fragment
	end             int64 // decoding time after the last sample
}

// A representation is where samples come from.
type representation struct {
	*header
	shift   int64   // added to times, in ticks of the track
	entries []int   // index in the track, by index in the header
	sets    []codec // by index in the header
}

func newTrack(t Track) (*track, error) {
	out := &track{kind: t.Kind, representations: map[string]*representation{}}
	for _, r := range t.Representations {
		h, err := readInit(r.Init, t.Kind)
		if err != nil {
			return nil, wrap(r.ID, err)
		}
		if out.timescale == 0 {
			out.timescale, out.language = h.timescale, h.language
		}
		if h.height > out.height {
			out.width, out.height = h.width, h.height
		}
		rep := &representation{header: h}
		rep.shift = rescale(h.shift, h.timescale, out.timescale) + rescale(int64(r.Offset), int64(time.Second), out.timescale)
		out.delay = max(out.delay, -rescale(h.shift, h.timescale, out.timescale))
		for _, e := range h.entries {
			c, made, err := readCodec(e)
			if err != nil {
				return nil, wrap(r.ID, err)
			}
			if len(out.entries) > 0 && made.kind != out.entries[0].kind {
				return nil, wrap(r.ID, unsupported("its codec is %s, others are %s", made.kind, out.entries[0].kind))
			}
			at := slices.IndexFunc(out.entries, func(x entry) bool { return bytes.Equal(x.body, made.body) })
			if at < 0 {
				at = len(out.entries)
				out.entries = append(out.entries, made)
			}
			rep.entries = append(rep.entries, at)
			rep.sets = append(rep.sets, c)
		}
		out.representations[r.ID] = rep
	}
	if len(out.representations) == 0 {
		return nil, unsupported("no Representations")
	}
	return out, nil
}

// chunk is how long a fragment is at least, of what comes as a longer segment.
const chunk = time.Second

// add puts samples into the queue.
func (t *track) add(r *representation, samples []sample) {
	var f *fragment
	for i, s := range samples {
		c := r.sets[s.entry]
		s.data = c.rewrite(s.data, i == 0 || s.flags&nonSync == 0)
		s.entry = r.entries[s.entry]
		s.dts = r.at(s.dts, t)
		s.pts = r.at(s.pts, t)
		s.duration = rescale(s.duration, r.timescale, t.timescale)
		if s.dts < t.end {
			if t.kind == Audio && t.end-s.dts > s.duration/2 {
				continue
			}
			s.dts = t.end
			if t.kind == Audio {
				s.pts = s.dts
			}
		}
		t.end = s.dts + 1
		if t.kind == Audio {
			t.end = s.dts + s.duration
		}
		if f == nil || s.entry != f.samples[0].entry || t.clock(s.dts-f.samples[0].dts) >= chunk {
			t.queue = append(t.queue, fragment{track: t})
			f = &t.queue[len(t.queue)-1]
		}
		f.samples = append(f.samples, s)
	}
}

// at converts a time of r.
func (r *representation) at(ticks int64, t *track) int64 {
	return rescale(ticks, r.timescale, t.timescale) + r.shift + t.delay
}

func (t *track) clock(ticks int64) time.Duration {
	return time.Duration(rescale(ticks, t.timescale, int64(time.Second)))
}

// lead is how much is held back.
func (t *track) lead() time.Duration {
	return t.clock(t.end - t.queue[0].samples[0].dts)
}
