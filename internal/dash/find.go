package dash

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// A place is bytes of a file and what they are.
type place struct {
	offset, end int64
	rep         *Representation
	index       int // -1: init
}

// Find returns the Representation and the index of the segment that holds the
// byte at offset of the file at path; index -1 is its init segment or head.
// The path is percent-decoded and clean, like Resource.Path. Where several
// Representations share bytes, the first in document order is named.
func (m *Manifest) Find(path string, offset int64) (rep *Representation, index int, ok bool) {
	places := m.places()[path]
	i, found := slices.BinarySearchFunc(places, offset, func(p place, offset int64) int {
		return cmp.Compare(p.offset, offset)
	})
	if !found {
		i--
	}
	if i < 0 || offset >= places[i].end {
		return nil, 0, false
	}
	for i > 0 && places[i-1].offset == places[i].offset {
		i--
	}
	return places[i].rep, places[i].index, true
}

// places returns the index of all files, made when it is first needed.
func (m *Manifest) places() map[string][]place {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.index == nil {
		m.index = index(m.reps)
	}
	return m.index
}

func index(reps []*Representation) map[string][]place {
	n := 0
	for _, r := range reps {
		n += len(r.Segments) + 1
	}
	x := indexer{all: make([]place, 0, n), byPath: make(map[string][]place, n)}
	for _, r := range reps {
		if r.Init.Path != "" {
			x.add(r.Init, r, -1)
		}
		for i, s := range r.Segments {
			x.add(s.Resource, r, i)
		}
	}
	for _, places := range x.byPath {
		byOffset := func(a, b place) int { return cmp.Compare(a.offset, b.offset) }
		if !slices.IsSortedFunc(places, byOffset) {
			slices.SortStableFunc(places, byOffset)
		}
	}
	return x.byPath
}

// An indexer carves the many lists of one place out of one array.
type indexer struct {
	all    []place
	byPath map[string][]place
}

func (x *indexer) add(res Resource, r *Representation, i int) {
	p := place{res.Offset, res.Offset + res.Length, r, i}
	if res.Length == 0 {
		p.end = math.MaxInt64
	}
	if places, ok := x.byPath[res.Path]; ok {
		x.byPath[res.Path] = append(places, p)
		return
	}
	n := len(x.all)
	x.all = append(x.all, p)
	x.byPath[res.Path] = x.all[n : n+1 : n+1]
}

// Elsewhere says where the files lie that are named relative to nothing else
// (ISO/IEC 23009-1, 5.6): base is the absolute BaseURL of the MPD, "" if that has
// none or a relative one beside it; apart are those of its parts, in their order.
// All paths of m are as if neither was there. A title has none of them.
func (m *Manifest) Elsewhere() (base string, apart []string) { return m.afar, m.apart }

// Publishable reports why m cannot become a title, by an error that says what
// would mend it. It tells more after [Manifest.Resolve].
func (m *Manifest) Publishable() error {
	if m.absolute != "" {
		return malformed("BaseURL %q is absolute: remove it, the files of a title lie beside its MPD", clip(m.absolute))
	}
	places := m.places()
	for _, path := range slices.Sorted(maps.Keys(places)) {
		if err := reserved(path); err != nil {
			return err
		}
		if err := disjoint(path, places[path]); err != nil {
			return err
		}
	}
	return nil
}

// reserved refuses names that a title needs for itself, spec/02-title.md.
func reserved(path string) error {
	first, _, _ := strings.Cut(path, "/")
	switch first {
	case "seals", "sealed", "manifest.mpd", "manifest.mpd.sig":
		return malformed("file %q: a title keeps its own files under that name, rename it", path)
	}
	return nil
}

// disjoint refuses a file in which two things overlap without being the same,
// or whose head is not at its begin.
func disjoint(path string, places []place) error {
	for i, p := range places {
		if p.index < 0 && p.offset > 0 {
			return malformed("file %q: the init segment of Representation %q is not at its begin", path, p.rep.ID)
		}
		if i == 0 {
			continue
		}
		before := places[i-1]
		same := before.offset == p.offset && before.end == p.end && (before.index < 0) == (p.index < 0)
		if !same && p.offset < before.end {
			return malformed("file %q: %s and %s overlap: give each a file of its own", path, before, p)
		}
	}
	return nil
}

func (p place) String() string {
	if p.index < 0 {
		return "the init segment of Representation " + p.rep.ID
	}
	return "a segment of Representation " + p.rep.ID
}
