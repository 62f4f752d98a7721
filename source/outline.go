package source

import (
	"slices"
	"sync"

	"htlcdash"
	"htlcdash/source/cache"
)

// An Outline is a [Guide] that is told of titles. The zero value knows none.
// Its methods may be called at once.
type Outline struct {
	mu     sync.RWMutex
	places map[htlcdash.Blob]cache.Place
	titles map[htlcdash.TitleID]*outlined
}

// outlined is what an outline knows of a title: its Representations, in the
// order in which they were told.
type outlined struct {
	ids    []string
	tracks [][]htlcdash.Segment
}

// Add tells of the segments of one Representation, all of them, in order, as
// its seal list has them. What is known already stays. The slice is kept, and not
// to be changed.
func (o *Outline) Add(segments []htlcdash.Segment) {
	if len(segments) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.titles == nil {
		o.places, o.titles = make(map[htlcdash.Blob]cache.Place), make(map[htlcdash.TitleID]*outlined)
	}
	first := segments[0]
	t := o.titles[first.Title]
	if t == nil {
		t = &outlined{}
		o.titles[first.Title] = t
	}
	if slices.Contains(t.ids, first.Representation) {
		return
	}
	for i, s := range segments {
		b := s.SealedBlob()
		if _, twice := o.places[b]; !twice { // a segment may stand in two titles
			o.places[b] = cache.Place{Title: first.Title, Track: len(t.tracks), Index: i, Count: len(segments)}
		}
	}
	t.ids, t.tracks = append(t.ids, first.Representation), append(t.tracks, segments)
}

// Retain forgets the titles that keep does not name.
func (o *Outline) Retain(keep func(htlcdash.TitleID) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, t := range o.titles {
		if keep(id) {
			continue
		}
		delete(o.titles, id)
		for _, track := range t.tracks {
			for _, s := range track {
				if o.places[s.SealedBlob()].Title == id {
					delete(o.places, s.SealedBlob())
				}
			}
		}
	}
}

// Place implements [Guide].
func (o *Outline) Place(b htlcdash.Blob) (cache.Place, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	p, ok := o.places[b]
	return p, ok
}

// Blob implements [Guide].
func (o *Outline) Blob(p cache.Place) (htlcdash.Blob, bool) {
	s, ok := o.Segment(p)
	return s.SealedBlob(), ok
}

// Segment is what is in a place.
func (o *Outline) Segment(p cache.Place) (htlcdash.Segment, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	t := o.titles[p.Title]
	if t == nil || p.Track < 0 || p.Track >= len(t.tracks) || p.Index < 0 || p.Index >= len(t.tracks[p.Track]) {
		return htlcdash.Segment{}, false
	}
	return t.tracks[p.Track][p.Index], true
}
