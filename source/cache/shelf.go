// Package cache decides what is worth keeping, and what is worth fetching
// before somebody asks. It holds no bytes and moves no money: package source
// does as it says.
//
// A byte on a [Shelf] is worth what it saves: how often its blob will be asked
// for, times what getting that again would cost, by the byte. The least worth
// goes, and what is worth less than that does not come in. That is Greedy Dual
// Size Frequency with money for the cost (Cherkasova 1998), but for three
// things. Frequencies fade by half-lives instead of being raced by a rising
// floor. They are not those of one blob alone: an [Audience] knows that the
// segments of a title are watched one after another, so two viewings say
// something of all of them. And who is in the middle of a title now will be at
// the next segment soon (interval caching, Dan and Sitaram 1996).
//
// Keys are not kept here. A key is 32 bytes, costs money, and is never bought
// twice: it stays in the books for ever. What takes room is sealed bytes.
package cache

import (
	"container/heap"

	"htlcdash"
	"htlcdash/lightning"
)

// An Item is a blob that a shelf may hold.
type Item struct {
	Blob  htlcdash.Blob
	Cost  lightning.Msat // what getting it again costs; 0: nothing
	Place Place
}

// A Shelf decides which blobs to keep in a room of so many bytes. Two of them
// that are asked and offered the same hold the same. It is not safe for
// concurrent use.
type Shelf struct {
	bound    int64
	bytes    int64
	audience *Audience
	items    map[htlcdash.Blob]*entry
	order    byWorth
	absent   ghosts
}

// An entry is an item that is held.
type entry struct {
	Item
	asked  float64 // weighted; if it has no place, else the audience knows
	worth  float64 // at least; weighted
	index  int     // in Shelf.order
	unsure bool    // its cost is not known
}

// New returns an empty shelf of bound bytes; below 0 it has no bound.
func New(bound int64) *Shelf {
	return &Shelf{bound: bound, audience: NewAudience(), items: make(map[htlcdash.Blob]*entry)}
}

// Audience is what the shelf has learnt from what was asked for.
func (s *Shelf) Audience() *Audience { return s.audience }

// Bytes is the length of all that is held.
func (s *Shelf) Bytes() int64 { return s.bytes }

// Held returns what is known of b, if it is held.
func (s *Shelf) Held(b htlcdash.Blob) (Item, bool) {
	e, ok := s.items[b]
	if !ok {
		return Item{}, false
	}
	return e.Item, true
}

const (
	// memory is how many requests for each blob that is held a half-life has: what
	// is kept for long must be known for long.
	memory = 8
	// tooHeavy is the weight at which all weights are made small again.
	tooHeavy = 1e150
)

// Ask books that somebody asked for an item, held or not, and reports whether
// it is held. Its place is taken over if it was not known, and its cost if that
// was lost with an index.
func (s *Shelf) Ask(it Item) bool {
	if s.audience.weight > tooHeavy {
		s.scale(1 / s.audience.weight)
	}
	s.audience.remember(max(leastHalfLife, memory*float64(len(s.items))))
	it.Place = s.audience.admit(it.Place)
	s.audience.Asked(it.Place)
	for _, v := range s.audience.ended {
		s.weighAhead(v)
	}
	s.audience.ended = s.audience.ended[:0]
	e := s.items[it.Blob]
	if e == nil {
		if !it.Place.known() {
			s.absent.add(it.Blob, s.audience.weight)
		}
		return false
	}
	s.learn(e, it)
	if !e.Place.known() {
		e.asked += s.audience.weight
	}
	s.weigh(e)
	return true
}

// learn takes over what was not known of an entry.
func (s *Shelf) learn(e *entry, it Item) {
	if e.unsure && it.Cost > 0 {
		e.Cost, e.unsure = it.Cost, false
	}
	if !e.Place.known() && it.Place.known() {
		e.Place = it.Place
		s.setHeld(it.Place, e)
	}
}

// weighAhead weighs anew what somebody who is gone would have come to.
func (s *Shelf) weighAhead(v *viewing) {
	row := v.title.tracks[v.track]
	for _, e := range row.held[v.at+1:] {
		if e != nil {
			s.weigh(e)
		}
	}
}

func (s *Shelf) weigh(e *entry) {
	e.worth = s.worth(e)
	heap.Fix(&s.order, e.index)
}

// trifle is what it is worth, by the MiB, that a blob need not be fetched, beside
// what that would cost: time. So free blobs take the room that nobody else
// wants, and on a shelf of free blobs those stay that are asked for most.
const trifle lightning.Msat = 1

// worth is what a byte of an entry brings by the request, weighted.
func (s *Shelf) worth(e *entry) float64 {
	rate := s.audience.perRequest(e.asked / s.audience.weight)
	if e.Place.known() {
		rate = s.audience.Rate(e.Place) + s.audience.Soon(e.Place)
	}
	save := float64(e.Cost)/float64(max(e.Blob.Length, 1)) + float64(trifle)/(1<<20)
	return save * rate * s.audience.weight
}

// Wants reports whether [Shelf.Put] would take it.
func (s *Shelf) Wants(it Item) bool {
	it.Place = s.audience.admit(it.Place)
	if s.items[it.Blob] != nil {
		return true
	}
	_, ok := s.room(s.entry(it))
	return ok
}

// Put offers an item. It reports whether it is held now, and returns what had
// to go for it, or nothing if it is not in.
func (s *Shelf) Put(it Item) (in bool, gone []htlcdash.Blob) {
	it.Place = s.audience.admit(it.Place)
	if e := s.items[it.Blob]; e != nil {
		s.learn(e, it)
		s.weigh(e)
		return true, nil
	}
	e := s.entry(it)
	out, ok := s.room(e)
	if !ok {
		return false, nil
	}
	for _, o := range out {
		s.remove(o)
		gone = append(gone, o.Blob)
		if !o.Place.known() {
			s.absent.set(o.Blob, o.asked)
		}
	}
	s.add(e)
	return true, gone
}

// Drop forgets that a blob is held.
func (s *Shelf) Drop(b htlcdash.Blob) {
	if e := s.items[b]; e != nil {
		s.remove(e)
	}
}

func (s *Shelf) entry(it Item) *entry {
	e := &entry{Item: it, asked: s.absent.get(it.Blob)}
	e.worth = s.worth(e)
	return e
}

// room finds whom e may push out. Each of them is worth less by the byte.
func (s *Shelf) room(e *entry) (out []*entry, ok bool) {
	need := s.bytes + e.Blob.Length - s.bound
	if s.bound < 0 || need <= 0 {
		return nil, true
	}
	if e.Blob.Length > s.bound {
		return nil, false
	}
	for ok = true; need > 0 && ok; {
		least := s.least()
		if ok = least.worth < e.worth; ok {
			heap.Pop(&s.order)
			out = append(out, least)
			need -= least.Blob.Length
		}
	}
	for _, o := range out {
		heap.Push(&s.order, o)
	}
	return out, ok
}

// least finds who is worth least. Requests only ever add worth, but for viewers
// who go, of whom weighAhead takes care; so what is in order bounds worth from
// below, and who seems to be least is looked at again.
func (s *Shelf) least() *entry {
	for {
		e := s.order[0]
		before := e.worth
		e.worth = s.worth(e)
		if e.worth <= before*(1+1e-9) {
			return e
		}
		heap.Fix(&s.order, 0)
	}
}

func (s *Shelf) add(e *entry) {
	s.items[e.Blob] = e
	s.bytes += e.Blob.Length
	s.setHeld(e.Place, e)
	heap.Push(&s.order, e)
}

func (s *Shelf) remove(e *entry) {
	delete(s.items, e.Blob)
	s.bytes -= e.Blob.Length
	s.setHeld(e.Place, nil)
	heap.Remove(&s.order, e.index)
}

func (s *Shelf) setHeld(p Place, e *entry) {
	if p.known() {
		_, row := s.audience.row(p)
		row.held[p.Index] = e
	}
}

// scale multiplies all weights.
func (s *Shelf) scale(by float64) {
	s.audience.scale(by)
	for _, e := range s.order {
		e.asked *= by
		e.worth *= by
	}
	s.absent.scale(by)
}

// byWorth is a heap, the least worth first.
type byWorth []*entry

func (h byWorth) Len() int           { return len(h) }
func (h byWorth) Less(i, j int) bool { return h[i].worth < h[j].worth }

func (h byWorth) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *byWorth) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *byWorth) Pop() any {
	n := len(*h) - 1
	e := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return e
}

// ghosts remember how often blobs were asked for that have no place and are not
// held. They are exact, for as long as they last: when the young are many, the
// old are forgotten.
type ghosts struct{ young, old map[htlcdash.Blob]float64 }

const maxGhosts = 1 << 17 // in a generation; some 10 MB

func (g *ghosts) get(b htlcdash.Blob) float64 {
	if n, ok := g.young[b]; ok {
		return n
	}
	return g.old[b]
}

func (g *ghosts) add(b htlcdash.Blob, n float64) { g.set(b, g.get(b)+n) }

func (g *ghosts) set(b htlcdash.Blob, n float64) {
	if g.young == nil || len(g.young) >= maxGhosts {
		g.old, g.young = g.young, make(map[htlcdash.Blob]float64)
	}
	g.young[b] = n
}

func (g *ghosts) scale(by float64) {
	for _, m := range []map[htlcdash.Blob]float64{g.young, g.old} {
		for b, n := range m {
			m[b] = n * by
		}
	}
}
