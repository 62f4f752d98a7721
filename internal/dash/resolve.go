package dash

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
)

// onDemand is a SegmentBase whose segments stand in an index.
type onDemand struct {
	index    Resource
	timeline timeline
}

// Resolve reads the index of each on-demand Representation by read, which
// returns exactly the bytes asked for. Thereafter such a Representation has
// its Segments, and its Init is the head of the file: all in front of the first
// segment. Where all is resolved, or nothing is on demand, it does nothing.
func (m *Manifest) Resolve(ctx context.Context, read func(ctx context.Context, path string, offset, length int64) ([]byte, error)) error {
	p := &parser{m: m}
	for _, r := range m.reps {
		p.count(r.Segments)
	}
	for _, r := range m.reps {
		if r.base == nil || r.Segments != nil {
			continue
		}
		at := r.base.index
		b, err := read(ctx, at.Path, at.Offset, at.Length)
		if err != nil {
			return fmt.Errorf("index of Representation %q: %w", r.ID, err)
		}
		if err := p.resolve(r, b); err != nil {
			r.Segments = nil
			return r.wrap(err)
		}
	}
	m.mu.Lock()
	m.index = nil
	m.mu.Unlock()
	return nil
}

// resolve makes the segments of r from its index range.
func (p *parser) resolve(r *Representation, b []byte) error {
	at := r.base.index
	if int64(len(b)) != at.Length {
		return malformed("its index has %d bytes, want %d", len(b), at.Length)
	}
	sidx, end, err := findSidx(b)
	if err != nil {
		return err
	}
	if sidx.First > maxNumber || sidx.Earliest > maxTicks {
		return malformed("its sidx box has absurd numbers")
	}
	head := at.Offset + end + int64(sidx.First)
	tl := r.base.timeline
	tl.offset, err = rescale(tl.offset, tl.timescale, uint64(sidx.Timescale))
	if err != nil {
		return err
	}
	tl.timescale = uint64(sidx.Timescale)
	offset, time := head, sidx.Earliest
	for _, ref := range sidx.References {
		if ref.Index {
			return malformed("its sidx refers to further indexes: package it with one flat sidx")
		}
		if ref.Size == 0 {
			return malformed("its sidx has a segment of 0 bytes")
		}
		s, err := tl.segment(time, uint64(ref.Duration))
		if err != nil {
			return err
		}
		s.Resource = Resource{at.Path, offset, int64(ref.Size)}
		if err := p.add(r, s); err != nil {
			return err
		}
		offset, time = offset+int64(ref.Size), time+uint64(ref.Duration)
	}
	if len(r.Segments) == 0 {
		return malformed("its sidx has no segments")
	}
	r.Segments = slices.Clip(r.Segments)
	r.Init = Resource{at.Path, 0, head}
	return r.Pay.fits(r)
}

// findSidx returns the one sidx box of b and where it ends.
func findSidx(b []byte) (s Sidx, end int64, err error) {
	for box, err := range Boxes(b) {
		if err != nil {
			return s, 0, malformed("its index range holds no boxes: %v", err)
		}
		if box.Type != "sidx" {
			continue
		}
		if end > 0 {
			return s, 0, malformed("its index range holds two sidx boxes: package it with one flat sidx")
		}
		if s, err = ParseSidx(box.Body); err != nil {
			return s, 0, err
		}
		end = box.Offset + box.Size
	}
	if end == 0 {
		return s, 0, malformed("its index range holds no sidx box; package it as fragmented MP4, not as WebM")
	}
	if s.Timescale == 0 {
		return s, 0, malformed("its sidx box has timescale 0")
	}
	return s, end, nil
}

// rescale converts ticks from one timescale to another.
func rescale(ticks, from, to uint64) (uint64, error) {
	hi, lo := bits.Mul64(ticks, to)
	if hi >= from {
		return 0, malformed("its presentationTimeOffset is absurd")
	}
	n, _ := bits.Div64(hi, lo, from)
	return min(n, maxTicks), nil
}

// count adds segments that were read before to the totals.
func (p *parser) count(segments []MediaSegment) {
	p.total += len(segments)
	for _, s := range segments {
		p.chars += len(s.Path)
	}
}
