package cache

import (
	"container/list"
	"math"

	"htlcdash"
)

// A Place says where in a title a blob belongs. Who cannot say leaves it zero,
// which is no place.
type Place struct {
	Title htlcdash.TitleID
	Track int // the row of segments in the title, from 0
	Index int // in the row, from 0
	Count int // segments in the row; 0: the place is not known
}

// known reports whether p can be learnt from. The bounds keep a wrong caller
// from making memory of a number.
func (p Place) known() bool {
	return p.Count > 0 && p.Count <= maxCount && p.Track >= 0 && p.Track < maxTracks && p.Index >= 0 && p.Index < p.Count
}

const (
	maxCount  = 1 << 17 // segments in a row: three days of two seconds
	maxTracks = 64      // rows of a title
	maxTitles = 1 << 16 // that are remembered
	maxKnown  = 1 << 22 // segments of all of these; 16 bytes each
	maxLive   = 64      // viewings of one title that are followed at a time
)

// An Audience learns from what is asked for what will be. Its clock is the
// number of requests, so an empty night ages nothing, and two of them that see
// the same requests say the same. It is not safe for concurrent use.
//
// It knows three things. How popular a title is: viewings begun, each counting
// half as much after a half-life. How viewings go, over all titles: which part
// of them reaches which part of a title, and where they are left. And who is in
// the middle of one now: a request for a segment that follows one just asked
// for is taken for the same viewer.
type Audience struct {
	tick     int64
	halfLife float64 // requests
	growth   float64 // of weight, by the request
	weight   float64 // of a request now; it grows, which is how older ones fade
	titles   map[htlcdash.TitleID]*title
	known    int        // segments of these
	sweepAt  int        // titles
	live     *list.List // of *viewing, who moved least recently in front
	ended    []*viewing // since a caller last looked
	gap      float64    // requests between two of one viewing, smoothed

	begun    float64            // viewings
	tracks   [maxTracks]float64 // viewings, by track, whole ones
	watching float64            // sum of tracks
	asked    [parts]float64     // how many viewings passed that part of a title
	watched  [parts]float64     // parts of a title that were watched on to the next segment
	left     [parts]float64     // viewings that ended there
	survival [parts + 1]float64 // minus the logarithm of who is still there
	surveyed int64              // when survival was made
}

// parts is how finely a title is divided when viewings of all are added up.
const parts = 32

// leastHalfLife is the half-life of a request's weight on an empty shelf. What
// is kept for long must be known for long, so shelves set a longer one.
const leastHalfLife = 20_000

// A title is what is known of one.
type title struct {
	id       htlcdash.TitleID
	viewings float64
	watched  float64 // sum of its tracks' viewings
	tracks   []*track
	live     []*viewing
}

// A track is a row of segments.
type track struct {
	viewings float64   // whole ones
	asked    []float64 // by index
	held     []*entry  // by index; of the shelf
}

// A viewing is somebody who watches.
type viewing struct {
	title   *title
	track   int
	at      int // the index asked for last
	count   int
	moved   int64
	element *list.Element
}

// NewAudience returns one that knows nothing.
func NewAudience() *Audience {
	a := &Audience{weight: 1, sweepAt: maxTitles, titles: make(map[htlcdash.TitleID]*title), live: list.New(), gap: firstGap}
	a.remember(leastHalfLife)
	return a
}

// firstGap is how many requests are thought to lie between two of one viewing
// until that is known.
const firstGap = 4

// remember sets the half-life.
func (a *Audience) remember(halfLife float64) {
	if halfLife != a.halfLife {
		a.halfLife, a.growth = halfLife, math.Exp2(1/halfLife)
	}
}

// Asked books a request for p, or for what has no place.
func (a *Audience) Asked(p Place) {
	a.tick++
	a.weight *= a.growth
	a.endIdle()
	if p = a.admit(p); !p.known() {
		return
	}
	t, row := a.row(p)
	part := p.Index * parts / p.Count
	v, again := a.follow(t, p)
	if v == nil {
		v = a.begin(t, p)
		t.viewings += a.weight
		a.begun += a.weight
	}
	if again {
		return
	}
	whole := a.weight / float64(p.Count)
	row.viewings += whole
	t.watched += whole
	a.tracks[p.Track] += whole
	a.watching += whole
	row.asked[p.Index] += a.weight
	a.asked[part] += whole * parts
	if p.Index == p.Count-1 {
		a.end(v)
	}
}

// admit returns p, or no place if there is no room to remember more.
func (a *Audience) admit(p Place) Place {
	if !p.known() {
		return Place{}
	}
	need := p.Count
	if t := a.titles[p.Title]; t != nil {
		if p.Track < len(t.tracks) {
			need -= len(t.tracks[p.Track].asked)
		}
	} else if len(a.titles) >= a.sweepAt {
		a.sweep()
	}
	if need > 0 && a.known+need > maxKnown {
		a.sweep()
		if a.known+p.Count > maxKnown {
			return Place{}
		}
	}
	return p
}

// row finds or makes what is known of a track, which must have been admitted.
func (a *Audience) row(p Place) (*title, *track) {
	t, ok := a.titles[p.Title]
	if !ok {
		t = &title{id: p.Title}
		a.titles[p.Title] = t
	}
	before := 0
	if p.Track < len(t.tracks) {
		before = len(t.tracks[p.Track].asked)
	}
	row := t.track(p.Track, p.Count)
	a.known += len(row.asked) - before
	return t, row
}

// sweep forgets titles that hardly anybody watched, until there is some room.
func (a *Audience) sweep() {
	for least := 0.01; least < 1e6 && (len(a.titles) > maxTitles*7/8 || a.known > maxKnown*7/8); least *= 2 {
		for id, t := range a.titles {
			if t.viewings < least*a.weight && len(t.live) == 0 && !t.holds() {
				for _, row := range t.tracks {
					a.known -= len(row.asked)
				}
				delete(a.titles, id)
			}
		}
	}
	a.sweepAt = max(maxTitles, len(a.titles)*9/8) // more only if more are held
}

func (t *title) holds() bool {
	for _, row := range t.tracks {
		for _, e := range row.held {
			if e != nil {
				return true
			}
		}
	}
	return false
}

// track finds or makes a row, and makes it as long as count.
func (t *title) track(i, count int) *track {
	for len(t.tracks) <= i {
		t.tracks = append(t.tracks, &track{})
	}
	row := t.tracks[i]
	if n := count - len(row.asked); n > 0 {
		row.asked = append(row.asked, make([]float64, n)...)
		row.held = append(row.held, make([]*entry, n)...)
	}
	return row
}

// follow finds the viewing that p goes on with: in the same track, or else in
// another, since players change rungs. It also says if p was asked for just
// now: players ask twice.
func (a *Audience) follow(t *title, p Place) (v *viewing, again bool) {
	for _, w := range t.live {
		switch {
		case w.at == p.Index && w.track == p.Track && a.tick-w.moved <= 2:
			return w, true
		case w.at == p.Index-1 && (v == nil || v.track != p.Track && w.track == p.Track):
			v = w
		}
	}
	if v == nil {
		return nil, false
	}
	a.watched[v.at*parts/v.count] += a.weight / float64(v.count)
	a.gap += (float64(a.tick-v.moved) - a.gap) / 64
	v.track, v.at, v.count, v.moved = p.Track, p.Index, p.Count, a.tick
	a.live.MoveToBack(v.element)
	return v, false
}

func (a *Audience) begin(t *title, p Place) *viewing {
	if len(t.live) >= maxLive {
		a.end(t.live[0])
	}
	v := &viewing{title: t, track: p.Track, at: p.Index, count: p.Count, moved: a.tick}
	v.element = a.live.PushBack(v)
	t.live = append(t.live, v)
	return v
}

func (a *Audience) end(v *viewing) {
	a.live.Remove(v.element)
	for i, w := range v.title.live {
		if w == v {
			v.title.live = append(v.title.live[:i], v.title.live[i+1:]...)
			break
		}
	}
	a.ended = append(a.ended, v)
}

// patience is how many of its usual gaps a viewing may be silent.
const patience = 8

// endIdle ends viewings that did not go on.
func (a *Audience) endIdle() {
	for front := a.live.Front(); front != nil; front = a.live.Front() {
		v := front.Value.(*viewing)
		if float64(a.tick-v.moved) <= patience*a.gap {
			return
		}
		a.left[v.at*parts/v.count] += a.weight
		a.end(v)
	}
}

// stays is the part of viewings at index i of count that get to index j.
func (a *Audience) stays(i, j, count int) float64 {
	if a.surveyed == 0 || a.tick-a.surveyed >= 256 {
		a.survey()
	}
	return math.Exp(a.lost(i, count) - a.lost(j, count))
}

func (a *Audience) survey() {
	a.surveyed = a.tick
	for i := range parts {
		// As if one viewing in two were left over a whole title, until more is known.
		rate := (a.left[i]/a.weight + 0.7/parts) / (a.watched[i]/a.weight + 1.0/parts)
		a.survival[i+1] = a.survival[i] + rate/parts
	}
}

// lost reads survival at an index.
func (a *Audience) lost(i, count int) float64 {
	x := float64(i) / float64(count) * parts
	k := min(int(x), parts-1)
	return a.survival[k] + (x-float64(k))*(a.survival[k+1]-a.survival[k])
}

// trust is how many requests for a segment count as much as what is known of
// its title.
const trust = 4

// Rate is how often p is asked for, per request for anything. It knows nobody
// who is watching now.
func (a *Audience) Rate(p Place) float64 {
	t := a.titles[p.Title]
	if t == nil || !p.known() || p.Track >= len(t.tracks) || p.Index >= len(t.tracks[p.Track].asked) {
		return 0
	}
	row := t.tracks[p.Track]
	own := row.asked[p.Index] / a.weight
	guess := t.viewings / a.weight * a.share(t, p.Track) * a.reach(p)
	return a.perRequest(guess * (trust + own) / (trust + guess))
}

// perRequest makes a rate of a count that fades.
func (a *Audience) perRequest(count float64) float64 { return count * math.Ln2 / a.halfLife }

// share is the part of a title's viewings that a track has.
func (a *Audience) share(t *title, i int) float64 {
	const trust = 3 // viewings
	usual := a.tracks[i] / a.watching
	return (t.tracks[i].viewings/a.weight + trust*usual) / (t.watched/a.weight + trust)
}

// reach is the part of viewings that pass a place.
func (a *Audience) reach(p Place) float64 {
	const trust = 8 // viewings
	return (a.asked[p.Index*parts/p.Count]/a.weight + trust*0.5) / (a.begun/a.weight + trust)
}

// Soon is a rate, too: that at which p, held from now on, pays back its room
// while the nearest viewer behind it comes up to it. It is 0 if nobody is.
func (a *Audience) Soon(p Place) (rate float64) {
	t := a.titles[p.Title]
	if t == nil || !p.known() {
		return 0
	}
	for _, v := range t.live {
		if v.track == p.Track && v.at < p.Index {
			steps := float64(p.Index - v.at)
			rate = max(rate, a.stays(v.at, p.Index, p.Count)/(steps*a.gap))
		}
	}
	return rate
}

// Chance is the probability that who has just asked for p goes on to the
// segment that is steps further.
func (a *Audience) Chance(p Place, steps int) float64 {
	if !p.known() || steps < 0 || p.Index+steps >= p.Count {
		return 0
	}
	return a.stays(p.Index, p.Index+steps, p.Count)
}

// scale multiplies all weights, before they are too great for a number.
func (a *Audience) scale(by float64) {
	a.weight *= by
	a.begun *= by
	a.watching *= by
	for _, list := range [][]float64{a.tracks[:], a.asked[:], a.watched[:], a.left[:]} {
		scale(list, by)
	}
	for _, t := range a.titles {
		t.viewings *= by
		t.watched *= by
		for _, row := range t.tracks {
			row.viewings *= by
			scale(row.asked, by)
		}
	}
}

func scale(list []float64, by float64) {
	for i := range list {
		list[i] *= by
	}
}
