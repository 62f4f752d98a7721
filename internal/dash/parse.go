package dash

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/beevik/etree"

	"htlcdash"
)

// Parse reads an MPD. It keeps nothing of b.
func Parse(b []byte) (*Manifest, error) {
	t, err := readTree(b)
	if err != nil {
		return nil, err
	}
	p := &parser{
		tree:      t,
		m:         &Manifest{tree: t},
		names:     map[string]bool{},
		firsts:    map[child]*etree.Element{},
		timelines: map[*etree.Element][]entry{},
	}
	if err := p.presentation(); err != nil {
		return nil, err
	}
	return p.m, p.payments()
}

// A parser makes the views of a Manifest.
type parser struct {
	*tree
	m     *Manifest
	names map[string]bool // given so far
	total int             // segments so far
	chars int             // bytes of their paths so far

	// What many Representations inherit is read once, or an MPD of 8 MiB
	// takes a minute.
	firsts    map[child]*etree.Element
	timelines map[*etree.Element][]entry
}

// A child is a name to look for below an element.
type child struct {
	of  *etree.Element
	tag string
}

// first is tree.first, remembered.
func (p *parser) first(e *etree.Element, tag string) *etree.Element {
	key := child{e, tag}
	c, ok := p.firsts[key]
	if !ok {
		c = p.tree.first(e, tag)
		p.firsts[key] = c
	}
	return c
}

// A period is where one Period lies in the presentation.
type period struct {
	start    time.Duration
	duration time.Duration
	open     bool // the MPD does not tell the duration
}

func (p *parser) presentation() error {
	if kind, _ := attr(p.root, "type"); kind != "" && kind != "static" {
		return malformed("MPD@type is %q: only static presentations are read; publish a live one once it has ended", clip(kind))
	}
	var elements []*etree.Element
	for e := range p.all(p.root, "Period") {
		elements = append(elements, e)
	}
	if len(elements) == 0 || len(elements) > MaxRepresentations {
		return malformed("MPD has %d Periods, want 1 to %d", len(elements), MaxRepresentations)
	}
	periods, err := p.periods(elements)
	if err != nil {
		return err
	}
	base, err := p.baseURL(p.root, "")
	if err != nil {
		return err
	}
	for i, e := range elements {
		if err := p.period(i, e, periods[i], base); err != nil {
			return err
		}
	}
	if len(p.m.reps) == 0 {
		return malformed("MPD has no Representation")
	}
	return p.length(periods[len(periods)-1])
}

// periods places the Periods one behind the other (ISO/IEC 23009-1, 5.3.2.1).
func (p *parser) periods(elements []*etree.Element) ([]period, error) {
	out := make([]period, len(elements))
	for i, e := range elements {
		start, hasStart, err := durationAttr(e, "start")
		if err != nil {
			return nil, err
		}
		length, hasLength, err := durationAttr(e, "duration")
		if err != nil {
			return nil, err
		}
		if i > 0 {
			before := &out[i-1]
			switch {
			case hasStart && start < before.start:
				return nil, malformed("Period %d starts before the one in front of it", i+1)
			case hasStart && before.open:
				before.duration, before.open = start-before.start, false
			case !hasStart && before.open:
				return nil, malformed("Period %d has no start and the one in front of it no duration", i+1)
			case !hasStart:
				start = before.start + before.duration
			}
		}
		if start > maxSpan {
			return nil, malformed("Period %d starts after 10 years", i+1)
		}
		out[i] = period{start: start, duration: length, open: !hasLength}
	}
	return out, p.closeLast(&out[len(out)-1])
}

// closeLast ends the last Period with the presentation.
func (p *parser) closeLast(last *period) error {
	total, ok, err := durationAttr(p.root, "mediaPresentationDuration")
	if err != nil || !ok {
		return err
	}
	p.m.duration = total
	if !last.open {
		return nil
	}
	if total < last.start {
		return malformed("MPD@mediaPresentationDuration is before the start of the last Period")
	}
	last.duration, last.open = total-last.start, false
	return nil
}

// length sets the duration of a presentation that does not tell its own.
func (p *parser) length(last period) error {
	if p.m.duration > 0 {
		return nil
	}
	p.m.duration = last.start + last.duration
	for _, r := range p.m.reps {
		if n := len(r.Segments); n > 0 {
			p.m.duration = max(p.m.duration, r.Segments[n-1].Start+r.Segments[n-1].Duration)
		}
	}
	return nil
}

func (p *parser) period(i int, e *etree.Element, at period, base string) error {
	base, err := p.baseURL(e, base)
	if err != nil {
		return err
	}
	count := 0
	for set := range p.all(e, "AdaptationSet") {
		n := count
		count++
		setBase, err := p.baseURL(set, base)
		if err != nil {
			return err
		}
		for rep := range p.all(set, "Representation") {
			repBase, err := p.baseURL(rep, setBase)
			if err != nil {
				return err
			}
			if err := p.representation(i, n, at, repBase, rep, set, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// baseURL resolves the first relative BaseURL of e against base. Others are
// alternatives; absolute ones lead away from the folder and are left out, as
// ForPlayer leaves them out. Where there is nothing else, Elsewhere tells of them.
func (p *parser) baseURL(e *etree.Element, base string) (string, error) {
	absolute := ""
	for b := range p.all(e, "BaseURL") {
		ref := strings.TrimSpace(b.Text())
		if isAbsolute(ref) {
			absolute = cmp.Or(absolute, ref)
			p.m.absolute = cmp.Or(p.m.absolute, ref)
			continue
		}
		if len(ref) > maxPath {
			return "", malformed("BaseURL %q has more than %d bytes", clip(ref), maxPath)
		}
		return join(base, ref), nil
	}
	switch {
	case absolute == "":
	case e == p.root:
		p.m.afar = absolute
	case !slices.Contains(p.m.apart[max(0, len(p.m.apart)-8):], absolute):
		p.m.apart = append(p.m.apart, absolute)
	}
	return base, nil
}

// representation reads the Representation rep, which inherits from set, the
// nth of Period n.
func (p *parser) representation(n, nth int, at period, base string, rep, set, per *etree.Element) error {
	id, err := p.name(rep, n)
	if err != nil {
		return err
	}
	if len(p.m.reps) == MaxRepresentations {
		return malformed("MPD has more than %d Representations", MaxRepresentations)
	}
	inherited := func(name string) string {
		if s, ok := attr(rep, name); ok {
			return s
		}
		s, _ := attr(set, name)
		return s
	}
	r := &Representation{
		ID:       id,
		Codecs:   inherited("codecs"),
		MimeType: inherited("mimeType"),
		Lang:     inherited("lang"),
		Period:   n,
		Set:      nth,
		element:  rep,
	}
	r.ContentType = contentType(inherited("contentType"), r.MimeType, r.Codecs)
	if err := r.readNumbers(inherited); err != nil {
		return r.wrap(err)
	}
	if err := p.segments(r, at, base, []*etree.Element{rep, set, per}); err != nil {
		return r.wrap(err)
	}
	p.m.reps = append(p.m.reps, r)
	return nil
}

const maxUint32 = 1<<32 - 1

func (r *Representation) readNumbers(attr func(string) string) error {
	var width, height, bandwidth uint64
	for _, x := range []struct {
		name string
		to   *uint64
	}{{"bandwidth", &bandwidth}, {"width", &width}, {"height", &height}} {
		text := attr(x.name)
		if text == "" {
			continue
		}
		var ok bool
		if *x.to, ok = parseUint(text, maxUint32); !ok {
			return malformed("%s=%q: want a whole number up to %d", x.name, clip(text), uint64(maxUint32))
		}
	}
	if bandwidth == 0 {
		return malformed("bandwidth is missing or 0")
	}
	r.Bandwidth, r.Width, r.Height = int64(bandwidth), int(width), int(height)
	return nil
}

// wrap says in which Representation err is.
func (r *Representation) wrap(err error) error {
	return malformed("Representation %q: %v", r.ID, err)
}

// name gives a Representation its name in the title: its id, with the number
// of the Period where an earlier one has that id.
func (p *parser) name(rep *etree.Element, n int) (string, error) {
	id, _ := attr(rep, "id")
	if id == "" || len(id) > maxID || !utf8.ValidString(id) || strings.ContainsFunc(id, notInID) {
		return "", malformed("Representation@id %q: want 1 to %d printable characters without white space", clip(id), maxID)
	}
	name := id
	if p.names[name] && n > 0 {
		name = id + "@" + strconv.Itoa(n+1)
	}
	if p.names[name] {
		return "", malformed("Representation@id %q stands twice in one Period, or is taken as a name in another: give each its own", clip(id))
	}
	p.names[name] = true
	return name, nil
}

const maxID = 256

func notInID(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// contentType is what the MPD says, or else what the media type implies.
func contentType(said, mime, codecs string) string {
	switch said {
	case "video", "audio", "text", "image":
		return said
	}
	kind, sub, _ := strings.Cut(mime, "/")
	switch {
	case kind == "video" || kind == "audio" || kind == "text" || kind == "image":
		return kind
	case strings.HasPrefix(sub, "ttml") || strings.HasPrefix(codecs, "stpp") || strings.HasPrefix(codecs, "wvtt"):
		return "text"
	}
	return ""
}

// add appends a segment to r.
func (p *parser) add(r *Representation, s MediaSegment) error {
	if len(r.Segments) == htlcdash.MaxSegments {
		return malformed("more than %d segments: make them longer, or split the title", htlcdash.MaxSegments)
	}
	if p.total++; p.total > MaxTotalSegments {
		return malformed("the MPD has more than %d segments in all: make them longer, or split the title", MaxTotalSegments)
	}
	if p.chars += len(s.Path); p.chars > maxPathBytes {
		return malformed("the paths of all segments have more than %d bytes: shorten them", maxPathBytes)
	}
	r.Segments = append(r.Segments, s)
	return nil
}
