package nostr

import "time"

// What tests see of the inside.
type (
	Store   = store
	Message = message
)

var (
	NewStore     = newStore
	ParseMessage = parseMessage
	PlaceOf      = placeOf
	ErrKnown     = errKnown
)

func (s *store) Put(e Event, place string, now time.Time) error { return s.put(e, place, now) }

func (s *store) Find(limit int, now time.Time, f ...Filter) []Event { return s.query(f, limit, now) }

func (s *store) Best(limit int, now time.Time, f ...Filter) []Event { return s.best(f, limit, now) }

func (s *store) Vouch(k Key, place string, vouched bool) { s.vouch(k, place, vouched) }

func (s *store) Len() int { return s.size() }

// Sound checks that all indexes of s agree.
func (s *store) Sound() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	inCrowds, inD, inAuthors, bytes, vouched := 0, 0, 0, 0, 0
	for c, l := range s.crowds {
		inCrowds += l.Len()
		if c.vouched {
			vouched += l.Len()
		}
	}
	for _, m := range s.byD {
		inD += len(m)
	}
	for _, m := range s.authors {
		inAuthors += len(m)
	}
	for _, n := range s.byID {
		bytes += n.size
	}
	n := len(s.byID)
	return n == len(s.byAddress) && n == inCrowds && n == inD && n == inAuthors && bytes == s.bytes && vouched == s.vouched &&
		n <= s.limits.Events && bytes <= s.limits.Bytes
}
