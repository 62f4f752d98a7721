package remux

import (
	"bytes"
	"math"
	"slices"
	"time"
)

// A track is one track of what is written.
type track struct {
	kind            Kind
	id              uint32
	timescale       int64
	delay           int64   // of all times, in ticks, so that none is negative; the edit list takes it back
	look            *header // its language, size and matrix hold
	entries         []entry
	described       int // bytes of the entries
	representations map[string]*representation
	queue           []fragment // not yet written
	held            int64      // bytes of memory that the queue takes
	end             int64      // before it nothing more can be decoded, in ticks
}

// A representation is where samples come from.
type representation struct {
	*header
	shift  int64    // of times, in ticks of the track
	codecs []*codec // by index of the header's entry
	index  []int    // in the track's entries, likewise
}

// chunk is how long fragments are, of what comes as longer segments.
const chunk = time.Second

func newTrack(t Track) (*track, error) {
	out := &track{kind: t.Kind, representations: map[string]*representation{}}
	for _, r := range t.Representations {
		h, err := readInit(r.Init, t.Kind)
		if err != nil {
			return nil, wrap(r.ID, err)
		}
		out.timescale = max(out.timescale, h.timescale)
		if out.look == nil || h.height > out.look.height {
			out.look = h
		}
		out.representations[r.ID] = &representation{header: h}
	}
	var codecs []*codec
	for _, r := range t.Representations {
		rep := out.representations[r.ID]
		edit := rescale(rep.edit, rep.timescale, out.timescale)
		rep.shift = edit + rescale(int64(r.Offset), int64(time.Second), out.timescale)
		out.delay = max(out.delay, -edit)
		for _, e := range rep.entries {
			if err := out.addEntry(rep, e); err != nil {
				return nil, wrap(r.ID, err)
			}
		}
		codecs = append(codecs, rep.codecs...)
	}
	switch {
	case codecs == nil:
		return nil, unsupported("no Representations")
	case out.delay > math.MaxInt32:
		return nil, broken("edit list of %d ticks", out.delay)
	}
	return out, sameAAC(codecs)
}

func (t *track) addEntry(r *representation, e entry) error {
	c, e, err := readCodec(e)
	if err != nil {
		return err
	}
	if len(t.entries) > 0 && !t.entries[0].goesWith(e) {
		return unsupported("its codec or channels (%s) differ from others' (%s)", e.kind, t.entries[0].kind)
	}
	at := slices.IndexFunc(t.entries, func(x entry) bool { return bytes.Equal(x.body, e.body) })
	if at < 0 {
		at = len(t.entries)
		t.entries = append(t.entries, e)
		t.described += len(e.body)
	}
	if len(t.entries) > maxForms || t.described > maxDescribed {
		return unsupported("its Representations have more than %d forms, or more than %d MiB to tell of them: take fewer", maxForms, maxDescribed>>20)
	}
	r.codecs, r.index = append(r.codecs, &c), append(r.index, at)
	return nil
}

// goesWith tells whether a decoder that was set up for e may get frames of x.
func (e entry) goesWith(x entry) bool {
	switch {
	case e.kind != x.kind:
		return false
	case e.kind == "Opus" || e.kind == "fLaC" || e.kind == "alac": // frames do not tell their form
		return len(e.body) >= audioEntry && len(x.body) >= audioEntry && bytes.Equal(e.body[16:audioEntry], x.body[16:audioEntry])
	}
	return true
}

// maxMore is how many bytes a segment may grow by, beyond its own size.
const maxMore = 1 << 20

// Bounds on what all Representations of a track need at the head of the stream.
const (
	maxForms     = 256      // sample entries that differ
	maxDescribed = 16 << 20 // bytes of them
)

// maxHeld is how many bytes of memory a track may take before it is written.
const maxHeld = 256 << 20

// perSample is what one takes besides its bytes: itself, and at worst a fragment.
const perSample = 192

// add puts the samples of a segment of that size into the queue, or none of them.
func (t *track) add(r *representation, samples []sample, size int) error {
	if t.repeats(r, samples) {
		return broken("it plays before the end of what came already")
	}
	cost := int64(size) + perSample*int64(len(samples))
	ready, end, more := samples[:0], t.end, maxMore
	for i, came := range samples {
		s, ok, err := t.place(r, came, i == 0, end)
		if err != nil {
			return err
		}
		if more += 2*len(came.data) - len(s.data); more < 0 {
			return broken("its parameter sets outweigh its frames")
		}
		if len(s.data) != len(came.data) { // it is a copy
			cost += int64(len(s.data))
		}
		if !ok {
			continue
		}
		if ready = append(ready, s); t.kind == Audio {
			end = s.dts + s.duration
		} else {
			end = s.dts + 1
		}
	}
	if len(ready) == 0 {
		return nil
	}
	if t.held+cost > maxHeld {
		return unsupported("more than %d MiB of one track would wait for another one, which has nothing at that time: take it without the other, or in a lower quality", maxHeld>>20)
	}
	t.end = end
	t.held += cost
	t.enqueue(ready)
	t.queue[len(t.queue)-1].frees = cost
	return nil
}

// next takes the first fragment out of the queue.
func (t *track) next() fragment {
	f := t.queue[0]
	t.queue[0] = fragment{} // its bytes are not kept by what is behind it
	t.queue = t.queue[1:]
	t.held -= f.frees
	return f
}

// repeats tells whether most of a segment lies before the end of the track.
// Less than that is what segments at the border of two Periods may have in
// common, or the delay of an encoder.
func (t *track) repeats(r *representation, samples []sample) bool {
	if len(samples) == 0 {
		return false
	}
	first, last := samples[0], samples[len(samples)-1]
	from, to := r.move(t, first.dts), r.move(t, last.dts+last.duration)
	return t.end-from > max((to-from)/2, t.timescale/10)
}

// move converts a time of r to one of t.
func (r *representation) move(t *track, ticks int64) int64 {
	return rescale(ticks, r.timescale, t.timescale) + r.shift + t.delay
}

// place makes a sample of r one of t, behind end. Segments of two Periods may
// overlap, and encoders put more sound than there is into the last one: such
// sound is left out (false). Pictures are kept, for others may need them.
func (t *track) place(r *representation, s sample, first bool, end int64) (out sample, ok bool, err error) {
	data, err := r.codecs[s.entry].frame(s.data, first || s.flags&nonSync == 0)
	if err != nil {
		return s, false, err
	}
	out = sample{data, r.move(t, s.dts), r.move(t, s.pts), rescale(s.duration, r.timescale, t.timescale), s.flags, r.index[s.entry]}
	if over := end - out.dts; over > 0 {
		if t.kind == Audio && over > out.duration/2 {
			return out, false, nil
		}
		if out.dts = end; t.kind == Audio {
			out.pts = max(out.pts, out.dts)
		}
	}
	if d := out.pts - out.dts; d != int64(int32(d)) || out.duration > math.MaxInt32 {
		return out, false, broken("absurd times: decoded at %d, shown at %d for %d", out.dts, out.pts, out.duration)
	}
	return out, true, nil
}

// enqueue makes fragments of samples.
func (t *track) enqueue(samples []sample) {
	from := 0
	for i, s := range samples {
		first := samples[from]
		if s.entry != first.entry || t.duration(s.dts-first.dts) >= chunk {
			t.queue = append(t.queue, fragment{track: t, samples: samples[from:i]})
			from = i
		}
	}
	t.queue = append(t.queue, fragment{track: t, samples: samples[from:]})
}

func (t *track) duration(ticks int64) time.Duration {
	return time.Duration(rescale(ticks, t.timescale, int64(time.Second)))
}

// lead is how much is held back.
func (t *track) lead() time.Duration { return t.duration(t.end - t.queue[0].samples[0].dts) }
