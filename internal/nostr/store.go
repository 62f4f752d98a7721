package nostr

import (
	"cmp"
	"container/list"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// What a [StoreLimits] zero means.
const (
	defaultEvents = 20_000
	defaultBytes  = 32 << 20
	defaultPerKey = 2048
	placeShare    = 8 // of the events, for one place

	sweepEvery = time.Minute
	eventCost  = 512 // bytes of memory beside an event's own
)

// StoreLimits bound what a relay keeps.
type StoreLimits struct {
	Events   int // 0: 20,000
	Bytes    int // of memory, about; 0: 32 MiB
	PerKey   int // events of one author; 0: 2048
	PerPlace int // events that came from one place; 0: an eighth of Events
}

// ErrOlder means that a newer event stands at the same address.
var ErrOlder = errors.New("duplicate: this relay has a newer one")

var errKnown = errors.New("duplicate: this relay has it")

// A store keeps the newest event of each address. When it is full it forgets
// those of authors that nobody vouched for, and of these the oldest from the
// place that most came from: who floods pushes out himself. All methods may be
// called at once.
type store struct {
	limits StoreLimits

	mu        sync.Mutex
	byID      map[ID]*entry
	byAddress map[Address]*entry
	byD       map[string]map[*entry]bool
	authors   map[Key]author
	crowds    map[crowd]*list.List // of *entry, in the order in which they came
	places    map[Key]string       // where authors are that somebody vouched for
	bytes     int
	vouched   int // events of such authors
	swept     time.Time

	// Of events that had to go: they are not taken again, or two full relays
	// would send them to and fro for ever. Two generations.
	gone, goneBefore map[ID]bool
}

// A crowd is who competes for room among themselves.
type crowd struct {
	vouched bool
	place   string
}

type author map[*entry]bool

type entry struct {
	Event
	size  int
	place string // where it came from
	crowd crowd
	at    *list.Element // in its crowd
}

func newStore(l StoreLimits) *store {
	l.Events, l.Bytes, l.PerKey = cmp.Or(l.Events, defaultEvents), cmp.Or(l.Bytes, defaultBytes), cmp.Or(l.PerKey, defaultPerKey)
	l.PerPlace = cmp.Or(l.PerPlace, max(l.Events/placeShare, 1))
	return &store{
		limits: l, byID: map[ID]*entry{}, byAddress: map[Address]*entry{}, byD: map[string]map[*entry]bool{},
		authors: map[Key]author{}, places: map[Key]string{}, crowds: map[crowd]*list.List{}, gone: map[ID]bool{}, goneBefore: map[ID]bool{},
	}
}

// has reports whether id is here, or was and had to go.
func (s *store) has(id ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id] != nil || s.gone[id] || s.goneBefore[id]
}

// put stores a sound event of an addressable kind, which came from a place;
// empty: from here. The error says why it is not wanted. An event that is
// stored may push out others, or have to go at once.
func (s *store) put(e Event, place string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	if s.byID[e.ID] != nil || s.gone[e.ID] || s.goneBefore[e.ID] {
		return errKnown
	}
	if old := s.byAddress[e.Address()]; old != nil {
		if !e.Newer(old.Event) {
			return ErrOlder
		}
		s.remove(old)
	}
	a := s.authors[e.PubKey]
	if a == nil {
		a = author{}
		s.authors[e.PubKey] = a
	}
	n := &entry{Event: e, size: sizeOf(e), place: place}
	a[n] = true
	s.byID[e.ID], s.byAddress[e.Address()] = n, n
	d := e.Address().D
	if s.byD[d] == nil {
		s.byD[d] = map[*entry]bool{}
	}
	s.byD[d][n] = true
	s.bytes += n.size
	s.enter(n)
	s.makeRoom(n, a)
	return nil
}

func sizeOf(e Event) int {
	n := eventCost + len(e.Content)
	for _, t := range e.Tags {
		n += 24
		for _, v := range t {
			n += 16 + len(v)
		}
	}
	return n
}

// enter puts n into the crowd that it belongs to.
func (s *store) enter(n *entry) {
	n.crowd = crowd{false, n.place}
	if place, ok := s.places[n.PubKey]; ok {
		n.crowd = crowd{true, place}
		s.vouched++
	}
	if s.crowds[n.crowd] == nil {
		s.crowds[n.crowd] = list.New()
	}
	n.at = s.crowds[n.crowd].PushBack(n)
}

func (s *store) leave(n *entry) {
	c := s.crowds[n.crowd]
	if c.Remove(n.at); c.Len() == 0 {
		delete(s.crowds, n.crowd)
	}
	if n.crowd.vouched {
		s.vouched--
	}
}

func (s *store) remove(n *entry) {
	s.leave(n)
	s.bytes -= n.size
	delete(s.byID, n.ID)
	delete(s.byAddress, n.Address())
	d := n.Address().D
	if delete(s.byD[d], n); len(s.byD[d]) == 0 {
		delete(s.byD, d)
	}
	a := s.authors[n.PubKey]
	if delete(a, n); len(a) == 0 {
		delete(s.authors, n.PubKey)
	}
}

// makeRoom keeps the bounds after n has come.
func (s *store) makeRoom(n *entry, a author) {
	if len(a) > s.limits.PerKey {
		s.evict(oldest(a))
	}
	if c := s.crowds[n.crowd]; c != nil && n.crowd.place != "" && c.Len() > s.limits.PerPlace {
		s.evict(c.Front().Value.(*entry))
	}
	for len(s.byID) > s.limits.Events || s.bytes > s.limits.Bytes {
		s.evict(s.crowded())
	}
}

func (s *store) evict(n *entry) {
	s.remove(n)
	if len(s.gone) >= s.limits.Events {
		s.gone, s.goneBefore = map[ID]bool{}, s.gone
	}
	s.gone[n.ID] = true
}

// oldest is the event of an author that was made first.
func oldest(a author) (first *entry) {
	for n := range a {
		if first == nil || first.Newer(n.Event) {
			first = n
		}
	}
	return first
}

// crowded is the event that has to go when there is no room: the one that came
// first of the largest crowd. Crowds that nobody vouched for go before others,
// unless those have three quarters of the room.
func (s *store) crowded() *entry {
	vouched := s.vouched == len(s.byID) || s.vouched > s.limits.Events*3/4
	var most *list.List
	for c, l := range s.crowds {
		if c.vouched == vouched && (most == nil || l.Len() > most.Len()) {
			most = l
		}
	}
	return most.Front().Value.(*entry)
}

// vouch says that an author is known to be at a place, or no more.
func (s *store) vouch(key Key, place string, vouched bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.places[key]; ok == vouched && was == place {
		return
	}
	delete(s.places, key)
	if vouched {
		s.forgetPlaces()
		s.places[key] = place
	}
	all := slices.SortedFunc(maps.Keys(s.authors[key]), func(x, y *entry) int { return -newestFirst(x, y) })
	for _, n := range all {
		s.leave(n)
		s.enter(n)
	}
	for _, n := range all {
		if c := s.crowds[n.crowd]; n.crowd.place != "" && c.Len() > s.limits.PerPlace {
			s.evict(c.Front().Value.(*entry))
		}
	}
}

// forgetPlaces makes room for one more place: of those without events.
func (s *store) forgetPlaces() {
	if len(s.places) < s.limits.Events {
		return
	}
	for k := range s.places {
		if s.authors[k] == nil {
			delete(s.places, k)
		}
	}
}

// sweep forgets what has expired, once a minute.
func (s *store) sweep(now time.Time) {
	if now.Sub(s.swept) < sweepEvery {
		return
	}
	s.swept = now
	for _, n := range s.byID {
		if n.Expired(now) {
			s.remove(n)
		}
	}
}

// query returns what one of filters wants, the newest first, each filter's limit
// kept, and at most limit events.
func (s *store) query(filters []Filter, limit int, now time.Time) []Event {
	return s.search(filters, limit, now, func(x, y *entry) int { return 0 })
}

// best is query, but with events of authors that somebody vouched for first.
func (s *store) best(filters []Filter, limit int, now time.Time) []Event {
	return s.search(filters, limit, now, func(x, y *entry) int {
		switch {
		case x.crowd.vouched == y.crowd.vouched:
			return 0
		case x.crowd.vouched:
			return -1
		}
		return 1
	})
}

func (s *store) search(filters []Filter, limit int, now time.Time, order func(x, y *entry) int) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	found := map[*entry]bool{}
	for _, f := range filters {
		hits := s.hits(f, now)
		slices.SortFunc(hits, func(x, y *entry) int { return cmp.Or(order(x, y), newestFirst(x, y)) })
		most := limit
		if f.Limit != 0 {
			most = min(max(f.Limit, 0), limit)
		}
		for _, n := range hits[:min(len(hits), most)] {
			found[n] = true
		}
	}
	all := make([]*entry, 0, len(found))
	for n := range found {
		all = append(all, n)
	}
	slices.SortFunc(all, func(x, y *entry) int { return cmp.Or(order(x, y), newestFirst(x, y)) })
	out := make([]Event, 0, min(len(all), limit))
	for _, n := range all[:min(len(all), limit)] {
		out = append(out, n.Event)
	}
	return out
}

func newestFirst(x, y *entry) int {
	return cmp.Or(cmp.Compare(y.CreatedAt, x.CreatedAt), slices.Compare(x.ID[:], y.ID[:]))
}

// hits looks only at what f can want. The caller holds mu.
func (s *store) hits(f Filter, now time.Time) (out []*entry) {
	take := func(n *entry) {
		if f.Matches(n.Event) && !n.Expired(now) {
			out = append(out, n)
		}
	}
	d, byD := f.Tags["d"]
	switch {
	case f.Limit < 0:
	case f.IDs != nil:
		for _, id := range unique(f.IDs) {
			if n := s.byID[id]; n != nil {
				take(n)
			}
		}
	case byD:
		for _, v := range unique(d) {
			for n := range s.byD[v] {
				take(n)
			}
		}
	case f.Authors != nil:
		for _, k := range unique(f.Authors) {
			for n := range s.authors[k] {
				take(n)
			}
		}
	default:
		for _, n := range s.byID {
			take(n)
		}
	}
	return out
}

func unique[T cmp.Ordered | ID | Key](in []T) []T {
	seen := map[T]bool{}
	return slices.DeleteFunc(slices.Clone(in), func(v T) bool {
		was := seen[v]
		seen[v] = true
		return was
	})
}

// size is how many events are here.
func (s *store) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}
