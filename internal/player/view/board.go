package view

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"htlcdash/agent"
	"htlcdash/internal/player"
	"htlcdash/internal/words"
	"htlcdash/lightning"
)

// A board is what is known of a run, as far as it is shown.
type board struct {
	Config
	floor  *agent.Floor
	now    player.Event // the last one: how things stand
	began  bool
	tracks []*lane

	quality, rates      []float64 // of the segments of the first track, in decibel, and of their downloads, in Mbit/s
	took, pay           []time.Duration
	lowest, highest     float64 // quality in the title's first track
	start               time.Duration
	switches, abandoned int
	retries             int
	notes               []note
}

// A lane is a track.
type lane struct {
	kind   agent.Kind
	track  *agent.Track
	next   int // segment that is fetched next
	rung   int // of the one before; -1 at the beginning
	rungs  []string
	labels []string // of the rungs
}

// A note is something that happened.
type note struct {
	at   time.Duration // position of the picture
	tone tone
	text string
}

const (
	maxValues = 1 << 10 // kept of what is drawn over time
	maxNotes  = 8
	recent    = 20 // times that a median is of
)

func newBoard(c Config) *board {
	c.Most = cmp.Or(c.Most, 20*time.Second)
	c.Name = words.Line(c.Name)
	b := &board{Config: c, floor: agent.NewFloor(c.Title)}
	for i := range c.Title.Tracks {
		t := &c.Title.Tracks[i]
		l := &lane{kind: t.Kind, track: t, rung: -1}
		l.name(0)
		b.tracks = append(b.tracks, l)
	}
	b.lowest, b.highest = bounds(&c.Title.Tracks[0])
	return b
}

// bounds are the least and the best quality of a track.
func bounds(t *agent.Track) (low, high float64) {
	low, high = t.Segments[0].Rungs[0].Quality, t.Segments[0].Rungs[0].Quality
	for _, s := range t.Segments {
		for _, r := range s.Rungs {
			low, high = min(low, r.Quality), max(high, r.Quality)
		}
	}
	return low, high
}

func (b *board) add(e player.Event) {
	b.now = e
	if e.Kind != "" && e.Track < len(b.tracks) {
		b.aboutSegment(e, b.tracks[e.Track])
	}
	switch e.What {
	case player.Began:
		b.began = true
	case player.Start:
		b.start = e.At
	case player.Stall:
		b.note(bad, "the picture stands still")
	case player.Resume:
		b.note(good, "it moves again")
	case player.End:
		if e.Why != "" {
			b.note(bad, "ended: "+e.Why)
		}
	}
}

func (b *board) aboutSegment(e player.Event, l *lane) {
	switch e.What {
	case player.Fetched:
		if e.Track == 0 { // a second of sound is too small to measure a network by
			b.rates = keep(b.rates, e.Rate/1e6, maxValues)
		}
		b.took = keep(b.took, e.Took, recent)
		l.name(e.Index)
		l.next, l.rung = max(l.next, e.Index+1), e.Rung
	case player.Segment:
		if e.Price > 0 {
			b.pay = keep(b.pay, e.Pay, recent)
		}
		if e.Track == 0 {
			b.quality = keep(b.quality, e.Quality, maxValues)
		}
	case player.Switch:
		b.switches++
		l.name(e.Index)
		b.note(plain, fmt.Sprintf("%s: from %s to %s", heading(l.kind), l.label(l.rung), l.label(e.Rung)))
	case player.Abandoned:
		b.abandoned++
		b.note(notice, fmt.Sprintf("%s: gave up a slow download, takes %s", heading(l.kind), l.label(e.Rung)))
	case player.Retry:
		b.retries++
		b.note(notice, "tries again: "+e.Why)
	}
}

// keep appends a value and forgets the oldest.
func keep[T any](list []T, v T, most int) []T {
	if list = append(list, v); len(list) > most {
		list = slices.Delete(list, 0, len(list)-most)
	}
	return list
}

func (b *board) note(t tone, text string) {
	b.notes = keep(b.notes, note{b.now.Position, t, words.Line(text)}, maxNotes)
}

// name gives the rungs of a segment their names: the lines of a picture, else
// the bits of a second.
func (l *lane) name(segment int) {
	rungs := l.track.Segments[segment].Rungs
	if slices.EqualFunc(rungs, l.rungs, func(r agent.Rung, id string) bool { return r.ID == id }) {
		return
	}
	l.rungs, l.labels = nil, nil
	lines := map[int]int{}
	for _, r := range rungs {
		lines[r.Height]++
	}
	for i, r := range rungs {
		l.rungs = append(l.rungs, r.ID)
		bits := l.bits(segment, i)
		switch {
		case r.Height > 0 && lines[r.Height] == 1:
			l.labels = append(l.labels, fmt.Sprintf("%dp", r.Height))
		case r.Height > 0:
			l.labels = append(l.labels, fmt.Sprintf("%dp/%s", r.Height, bits))
		default:
			l.labels = append(l.labels, bits)
		}
	}
}

// bits is how many bits a second of a rung takes, over some segments.
func (l *lane) bits(from, rung int) string {
	var size int64
	var length time.Duration
	for _, s := range l.track.Segments[from:min(from+100, len(l.track.Segments))] {
		if rung < len(s.Rungs) {
			size += s.Rungs[rung].Size
			length += s.Duration
		}
	}
	if r := float64(size) * 8 / max(length.Seconds(), 1e-3); r < 999.5e3 {
		return fmt.Sprintf("%.0fk", r/1e3)
	} else if r < 9.95e6 {
		return fmt.Sprintf("%.1fM", r/1e6)
	} else {
		return fmt.Sprintf("%.0fM", r/1e6)
	}
}

func (l *lane) label(rung int) string {
	if rung < 0 || rung >= len(l.labels) {
		return "-"
	}
	return l.labels[rung]
}

// rest is what the rest of the title costs: in the rungs of now, and at least.
func (b *board) rest() (same, least lightning.Msat) {
	s := agent.State{}
	for _, l := range b.tracks {
		s.Next, s.Last = append(s.Next, l.next), append(s.Last, l.rung)
		last := l.rung
		for i := l.next; i < len(l.track.Segments); i++ {
			rung := min(max(l.rung, 0), len(l.track.Segments[i].Rungs)-1)
			same += l.track.Cost(i, rung, last)
			last = rung
		}
	}
	return same, b.floor.Rest(s)
}

func heading(k agent.Kind) string {
	return map[agent.Kind]string{agent.Video: "picture", agent.Audio: "sound"}[k]
}

// median of some times; 0 of none.
func median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

func mean(list []float64) (m float64) {
	for _, v := range list {
		m += v / float64(len(list))
	}
	return m
}
