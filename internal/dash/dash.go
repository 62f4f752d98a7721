// Package dash reads and rewrites DASH manifests (MPD, ISO/IEC 23009-1):
// which segments a title has and where they lie, what they cost (our extension,
// spec/03-mpd.md), and a copy of the MPD for a stock player.
//
// The XML tree is the truth and the types here are views on it, so what we do
// not know survives a rewrite. The package is pure: no files, no network, no
// clock. It handles static presentations only and knows nothing of what is in
// a segment, beyond the sidx box of the on-demand profile.
//
// An MPD comes from a stranger. Everything that it claims is bounded, and
// every error matches [htlcdash.ErrFormat] and says what would mend it.
package dash

import (
	"sync"
	"time"

	"github.com/beevik/etree"
)

// Bounds on what an MPD may claim. The count of segments of one Representation
// is bounded by htlcdash.MaxSegments.
const (
	MaxSize            = 8 << 20 // bytes of an MPD
	MaxRepresentations = 1000    // of one MPD, over all Periods
	MaxTotalSegments   = 1 << 20 // of one MPD, over all Representations
	maxTags            = 1 << 20 // "<" in an MPD, so twice its elements at most
	maxAttrs           = 1 << 20 // "=" in an MPD
	maxElementAttrs    = 128
	maxDepth           = 64
	maxPath            = 1024     // bytes of a path
	maxPathBytes       = 64 << 20 // of the paths of all segments
)

// A Manifest is a parsed MPD. Its methods may be called concurrently, but not
// while Resolve runs, which changes it.
type Manifest struct {
	tree     *tree
	reps     []*Representation
	duration time.Duration
	absolute string // the first absolute URL that was ignored, if any
	afar     string // the absolute BaseURL of the MPD itself, if it has no relative one
	apart    []string
	pay      titlePay

	mu    sync.Mutex
	index map[string][]place // by path, sorted by offset; nil until needed
}

// A Representation is one rung of one Period.
type Representation struct {
	// ID names the Representation within the title. It is Representation@id,
	// except where an earlier Period has used that id already: then it is
	// "<id>@<n>", where n counts the Periods from 1.
	ID          string
	ContentType string // "video", "audio", "text", "image"; or "" if the MPD does not tell
	Codecs      string
	MimeType    string
	Lang        string
	Period      int   // from 0
	Set         int   // its AdaptationSet within the Period, from 0
	Bandwidth   int64 // bit/s
	Width       int   // pixels, 0 if not told
	Height      int
	// Offset is what is added to times in its segments for the time in the
	// presentation: the begin of its Period, less the presentationTimeOffset.
	Offset time.Duration

	// Init is what a decoder needs before the first segment. Without a path
	// there is none.
	Init Resource
	// Segments are in presentation order. For the on-demand profile they are
	// nil until [Manifest.Resolve], and Init has no length until then.
	Segments []MediaSegment
	// Pay is what the title asks, nil without our extension.
	Pay *Pay

	element *etree.Element
	base    *onDemand // set for SegmentBase with an index
}

// A Resource is bytes of a file of the title.
type Resource struct {
	Path   string // relative to the MPD, percent-decoded and clean; never leaves the MPD's folder
	Offset int64  // bytes
	Length int64  // bytes; 0: the whole file
}

// A MediaSegment is one segment and when it plays.
type MediaSegment struct {
	Resource
	// Start counts from the begin of the presentation. It is before the begin
	// of the Period where a segment overlaps it.
	Start    time.Duration
	Duration time.Duration
}

// Representations returns all Representations in document order. The caller
// must not change them.
func (m *Manifest) Representations() []*Representation { return m.reps }

// Duration returns the length of the presentation.
func (m *Manifest) Duration() time.Duration { return m.duration }
