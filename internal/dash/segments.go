package dash

import (
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"

	"htlcdash"
)

// segmentInfo is a SegmentTemplate, SegmentList or SegmentBase with what it
// inherits: the elements of one kind, the innermost first.
type segmentInfo struct {
	p     *parser
	kind  string // "" if the MPD only has a BaseURL
	chain []*etree.Element
}

func (p *parser) segmentInfo(levels []*etree.Element) (segmentInfo, error) {
	info := segmentInfo{p: p}
	for _, level := range levels {
		var here *etree.Element
		for _, kind := range []string{"SegmentTemplate", "SegmentList", "SegmentBase"} {
			e := p.first(level, kind)
			if e == nil || (info.kind != "" && info.kind != kind) {
				continue
			}
			if here != nil {
				return info, malformed("%s and %s stand side by side, keep one", here.Tag, kind)
			}
			here = e
		}
		if here != nil {
			info.kind = here.Tag
			info.chain = append(info.chain, here)
		}
	}
	return info, nil
}

func (i segmentInfo) attr(name string) (string, bool) {
	for _, e := range i.chain {
		if s, ok := attr(e, name); ok {
			return s, true
		}
	}
	return "", false
}

func (i segmentInfo) uint(name string, otherwise, limit uint64) (uint64, error) {
	for _, e := range i.chain {
		if _, ok := attr(e, name); ok {
			return uintAttr(e, name, otherwise, limit)
		}
	}
	return otherwise, nil
}

func (i segmentInfo) child(tag string) *etree.Element {
	for _, e := range i.chain {
		if c := i.p.first(e, tag); c != nil {
			return c
		}
	}
	return nil
}

// segments finds the segments of r, by whichever of the four ways.
func (p *parser) segments(r *Representation, at period, base string, levels []*etree.Element) error {
	info, err := p.segmentInfo(levels)
	if err != nil {
		return err
	}
	tl, err := info.timeline(at)
	if err != nil {
		return err
	}
	if r.Offset, err = tl.presentation(); err != nil {
		return err
	}
	switch info.kind {
	case "SegmentTemplate":
		err = p.template(r, info, tl, base)
	case "SegmentList":
		err = p.list(r, info, tl, base)
	default:
		err = p.single(r, info, tl, base)
	}
	if err == nil && len(r.Segments) == 0 && r.base == nil {
		err = malformed("it has no segments")
	}
	r.Segments = slices.Clip(r.Segments)
	return err
}

// template makes the segments of a SegmentTemplate.
func (p *parser) template(r *Representation, info segmentInfo, tl timeline, base string) error {
	if err := p.initialization(r, info, base); err != nil {
		return err
	}
	if _, ok := info.attr("index"); ok {
		return malformed("SegmentTemplate@index is not supported: number the segments with $Number$")
	}
	media, ok := info.attr("media")
	if !ok {
		return malformed("SegmentTemplate has no media")
	}
	series, err := newSeries(media, base, r)
	if err != nil {
		return err
	}
	if n, ok := tl.count(); ok && n <= htlcdash.MaxSegments {
		r.Segments = make([]MediaSegment, 0, n)
	}
	var buf []byte
	return tl.each(func(number, time uint64, s MediaSegment) error {
		if len(r.Segments) == 1 && !series.varies() {
			return malformed("SegmentTemplate@media %q has neither $Number$ nor $Time$", clip(media))
		}
		buf = series.append(buf[:0], number, time)
		if len(buf) > maxPath {
			return malformed("SegmentTemplate@media makes a path of more than %d bytes", maxPath)
		}
		s.Path = string(buf)
		return p.add(r, s)
	})
}

// list makes the segments of a SegmentList.
func (p *parser) list(r *Representation, info segmentInfo, tl timeline, base string) error {
	if err := p.initialization(r, info, base); err != nil {
		return err
	}
	urls, err := p.segmentURLs(info, base)
	if err != nil {
		return err
	}
	tl.exactly = uint64(len(urls))
	err = tl.each(func(_, _ uint64, s MediaSegment) error {
		if len(r.Segments) == len(urls) {
			return errEnough
		}
		s.Resource = urls[len(r.Segments)]
		return p.add(r, s)
	})
	if err == errEnough {
		err = nil
	}
	if err == nil && len(r.Segments) < len(urls) {
		err = malformed("SegmentList has %d SegmentURLs but times for %d", len(urls), len(r.Segments))
	}
	return err
}

// errEnough ends a walk.
var errEnough = malformed("enough")

func (p *parser) segmentURLs(info segmentInfo, base string) ([]Resource, error) {
	var out []Resource
	for _, e := range info.chain {
		for u := range p.all(e, "SegmentURL") {
			res, err := resource(u, "media", "mediaRange", base)
			if err != nil {
				return nil, err
			}
			if out = append(out, res); len(out) > htlcdash.MaxSegments {
				return nil, malformed("SegmentList has more than %d SegmentURLs", htlcdash.MaxSegments)
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return out, nil
}

// single reads a SegmentBase, or a bare BaseURL: a file with an index of its
// own, or one that is a single segment.
func (p *parser) single(r *Representation, info segmentInfo, tl timeline, base string) error {
	file, err := cleanPath(base)
	if err != nil {
		return malformed("no SegmentTemplate, SegmentList or BaseURL names its file")
	}
	if err := p.initialization(r, info, base); err != nil {
		return err
	}
	if text, ok := info.attr("indexRange"); ok {
		offset, length, ok := parseRange(text)
		if !ok || length > maxIndex {
			return malformed("SegmentBase@indexRange=%q: want first-last, of at most %d bytes", clip(text), maxIndex)
		}
		if r.Init.Path != "" && r.Init.Path != file {
			return malformed("SegmentBase/Initialization names another file than BaseURL: put both into one file")
		}
		r.Init = Resource{Path: file}
		r.base = &onDemand{index: Resource{file, offset, length}, timeline: tl}
		return nil
	}
	if info.child("RepresentationIndex") != nil || r.Init.Path == file {
		return malformed("SegmentBase has no indexRange: name the bytes of the sidx box by it")
	}
	if tl.at.open {
		return malformed("it is one file and the MPD tells no duration: add MPD@mediaPresentationDuration")
	}
	return p.add(r, MediaSegment{Resource{Path: file}, tl.at.start, tl.at.duration})
}

// maxIndex bounds an index: 65,535 references of 12 bytes, and some room.
const maxIndex = 1 << 20

// initialization reads SegmentTemplate@initialization or Initialization.
func (p *parser) initialization(r *Representation, info segmentInfo, base string) error {
	if text, ok := info.attr("initialization"); ok && info.kind == "SegmentTemplate" {
		s, err := newSeries(text, base, r)
		if err != nil {
			return err
		}
		if s.varies() {
			return malformed("SegmentTemplate@initialization %q has a $Number$ or $Time$", clip(text))
		}
		r.Init.Path = string(s.append(nil, 0, 0))
		return nil
	}
	e := info.child("Initialization")
	if e == nil {
		return nil
	}
	var err error
	r.Init, err = resource(e, "sourceURL", "range", base)
	return err
}

// resource reads an element that names a file, or bytes of it.
func resource(e *etree.Element, urlAttr, rangeAttr, base string) (res Resource, err error) {
	ref, _ := attr(e, urlAttr)
	if ref = strings.TrimSpace(ref); isAbsolute(ref) {
		base = ""
	}
	if res.Path, err = cleanPath(join(base, ref)); err != nil {
		return res, err
	}
	if text, ok := attr(e, rangeAttr); ok {
		if res.Offset, res.Length, ok = parseRange(text); !ok {
			return res, malformed("%s@%s=%q: want first-last", e.Tag, rangeAttr, clip(text))
		}
	}
	return res, nil
}

// A timeline is when segments play: evenly by @duration, or by SegmentTimeline.
type timeline struct {
	at        period
	timescale uint64
	offset    uint64  // presentationTimeOffset: media time at the begin of the Period
	duration  uint64  // of a segment, 0 if not told
	number    uint64  // of the first segment
	last      uint64  // number of the last segment, MaxUint64 if not told
	exactly   uint64  // segments of a SegmentList, 0 for a template
	entries   []entry // of SegmentTimeline, nil without one
}

func (i segmentInfo) timeline(at period) (tl timeline, err error) {
	tl = timeline{at: at}
	if list := i.child("SegmentTimeline"); list != nil {
		if tl.entries, err = i.p.entries(list); err != nil {
			return tl, err
		}
	}
	for _, x := range []struct {
		name             string
		to               *uint64
		otherwise, limit uint64
	}{
		{"timescale", &tl.timescale, 1, maxUint32},
		{"presentationTimeOffset", &tl.offset, 0, maxTicks},
		{"duration", &tl.duration, 0, maxNumber},
		{"startNumber", &tl.number, 1, maxNumber},
		{"endNumber", &tl.last, math.MaxUint64, maxNumber},
	} {
		if *x.to, err = i.uint(x.name, x.otherwise, x.limit); err != nil {
			return tl, err
		}
	}
	if tl.timescale == 0 {
		return tl, malformed("%s@timescale is 0", i.kind)
	}
	if _, ok := i.attr("duration"); ok && tl.duration == 0 {
		return tl, malformed("%s@duration is 0", i.kind)
	}
	return tl, nil
}

// presentation is what is added to media times for those in the presentation.
func (tl timeline) presentation() (time.Duration, error) {
	hi, lo := bits.Mul64(tl.offset, uint64(time.Second))
	if hi >= tl.timescale {
		return 0, malformed("presentationTimeOffset=\"%d\" is absurd", tl.offset)
	}
	n, _ := bits.Div64(hi, lo, tl.timescale)
	if n > math.MaxInt64/2 { // 146 years: clocks count from 1904 on
		return 0, malformed("presentationTimeOffset=\"%d\" is absurd", tl.offset)
	}
	return tl.at.start - time.Duration(n), nil
}

// count is the number of segments of a timeline of even segments.
func (tl timeline) count() (n uint64, ok bool) {
	if tl.entries != nil || tl.duration == 0 {
		return 0, false
	}
	if tl.exactly > 0 {
		return tl.exactly, true
	}
	n = math.MaxUint64
	if !tl.at.open {
		n = ceilDiv(toTicks(tl.at.duration, tl.timescale), tl.duration)
	}
	if tl.last != math.MaxUint64 {
		n = min(n, tl.last+1-min(tl.number, tl.last+1))
	}
	return n, n != math.MaxUint64
}

// each calls f with number, media time and times of each segment. The segment
// has no path yet.
func (tl timeline) each(f func(number, time uint64, s MediaSegment) error) error {
	if tl.entries != nil {
		return tl.walk(f)
	}
	if tl.duration == 0 {
		return tl.one(f)
	}
	n, ok := tl.count()
	if !ok {
		return malformed("nothing tells how many segments there are: add MPD@mediaPresentationDuration")
	}
	if n > htlcdash.MaxSegments {
		return malformed("%d segments, at most %d: make them longer, or split the title", n, htlcdash.MaxSegments)
	}
	for k := range n {
		time := tl.offset + k*tl.duration
		s, err := tl.segment(time, tl.duration)
		if err != nil {
			return err
		}
		if end := tl.at.start + tl.at.duration; !tl.at.open {
			s.Duration = max(0, min(s.Duration, end-s.Start))
		}
		if err := f(tl.number+k, time, s); err != nil {
			return err
		}
	}
	return nil
}

// one is a timeline without any times: one segment as long as its Period.
func (tl timeline) one(f func(number, time uint64, s MediaSegment) error) error {
	if tl.at.open {
		return malformed("neither @duration nor SegmentTimeline tells how long segments are")
	}
	return f(tl.number, tl.offset, MediaSegment{Start: tl.at.start, Duration: tl.at.duration})
}

// segment places ticks from time on.
func (tl timeline) segment(time, ticks uint64) (MediaSegment, error) {
	start, ok1 := tl.sinceStart(time)
	end, ok2 := tl.sinceStart(time + ticks)
	if !ok1 || !ok2 {
		return MediaSegment{}, malformed("a segment at %d/%d s is more than 10 years away", time, tl.timescale)
	}
	return MediaSegment{Start: tl.at.start + start, Duration: end - start}, nil
}

// sinceStart is the time from the begin of the Period to a media time.
func (tl timeline) sinceStart(media uint64) (time.Duration, bool) {
	if media < tl.offset {
		d, ok := toDuration(tl.offset-media, tl.timescale)
		return -d, ok
	}
	return toDuration(media-tl.offset, tl.timescale)
}

// walk goes through a SegmentTimeline.
func (tl timeline) walk(f func(number, time uint64, s MediaSegment) error) error {
	number, time, count := tl.number, uint64(0), 0
	for i, s := range tl.entries {
		if s.hasTime {
			if count > 0 && s.time <= time-tl.entries[i-1].duration {
				return malformed("SegmentTimeline goes back in time at t=%d", s.time)
			}
			time = s.time
		}
		if s.hasNumber {
			number = s.number
		}
		repeat, err := tl.repeats(i, time)
		if err != nil {
			return err
		}
		for range repeat {
			if number > tl.last {
				return nil
			}
			if count++; count > htlcdash.MaxSegments {
				return malformed("SegmentTimeline has more than %d segments: make them longer, or split the title", htlcdash.MaxSegments)
			}
			seg, err := tl.segment(time, s.duration)
			if err != nil {
				return err
			}
			if err := f(number, time, seg); err != nil {
				return err
			}
			number, time = number+1, time+s.duration
		}
	}
	return nil
}

// repeats is how many segments entry i, which begins at time, stands for: r+1,
// or for a negative r as many as fit in front of the next S@t or of the end of
// the Period.
func (tl timeline) repeats(i int, time uint64) (uint64, error) {
	s := tl.entries[i]
	if !s.toNext {
		return s.repeat + 1, nil
	}
	end := uint64(0)
	if i+1 < len(tl.entries) {
		end = tl.entries[i+1].time
	} else if !tl.at.open {
		end = tl.offset + toTicks(tl.at.duration, tl.timescale)
	}
	if end <= time {
		return 0, malformed("a negative S@r repeats to an end that nothing tells: add S@t to the next S, or MPD@mediaPresentationDuration")
	}
	return ceilDiv(end-time, s.duration), nil
}

// An entry is one S of a SegmentTimeline. S@k is ignored: it tells of parts of
// a segment, which matter to live players only; templates that address the
// parts ($SubNumber$) are refused.
type entry struct {
	time, number       uint64
	hasTime, hasNumber bool
	duration           uint64
	repeat             uint64
	toNext             bool // @r is negative
}

// entries reads a SegmentTimeline, once for all that inherit it.
func (p *parser) entries(list *etree.Element) ([]entry, error) {
	if out, ok := p.timelines[list]; ok {
		return out, nil
	}
	out := []entry{}
	for e := range p.all(list, "S") {
		s, err := readS(e)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	p.timelines[list] = out
	return out, nil
}

func readS(e *etree.Element) (s entry, err error) {
	for _, a := range e.Attr {
		if a.Space != "" {
			continue
		}
		ok := true
		switch a.Key {
		case "t":
			s.time, ok = parseUint(a.Value, maxTicks)
			s.hasTime = true
		case "n":
			s.number, ok = parseUint(a.Value, maxNumber)
			s.hasNumber = true
		case "d":
			s.duration, ok = parseUint(a.Value, maxNumber)
		case "r":
			if s.toNext = strings.HasPrefix(strings.TrimSpace(a.Value), "-"); !s.toNext {
				s.repeat, ok = parseUint(a.Value, htlcdash.MaxSegments)
			}
		}
		if !ok {
			return s, malformed("S@%s=%q: not a whole number, or too big", a.Key, clip(a.Value))
		}
	}
	if s.duration == 0 {
		return s, malformed("S@d is missing or 0")
	}
	return s, nil
}
