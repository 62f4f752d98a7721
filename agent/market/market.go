// Package market decides which provider to ask, and pay, for the next key, from
// how each of them did before.
//
//	who offers: []Candidate  ->  Rank       ->  whom to ask first, second, ...
//	                             HedgeAfter ->  when to ask the second as well
//	how it went: Outcome     ->  Observe    ->  what is believed of a key
//	                             AskAgain   ->  whose prices to learn anew
//
// It is pure: time and randomness are handed in. It names providers by their
// keys; whether a key belongs to an address is the caller's business.
package market

import (
	"math/rand/v2"
	"sync"
	"time"

	"htlcdash/lightning"
)

// A Candidate is a provider that offers what is needed.
type Candidate struct {
	// ID is its public key, or what else it cannot change without losing its
	// reputation.
	ID string
	// Group is what one operator cannot have many of for nothing: the network
	// of its address, or its host name. Newcomers of a group share their
	// probation. Empty: it is alone.
	Group string
	// Price is what it asks. It is an advertisement, which is believed until
	// this provider has once asked for more, or, if Quoted, an offer that it
	// has signed. Zero and not Quoted: not known.
	Price  lightning.Msat
	Quoted bool
}

// A Need is what is to be bought.
type Need struct {
	// Deadline is how long from now it is of full value; not positive: it is
	// late already.
	Deadline time.Duration
	// Size is what must come, in bytes. Zero: not known.
	Size int64
	// Ceiling is the publisher's price, above which nothing is paid. Zero: none
	// is known.
	Ceiling lightning.Msat
	// Worth is what it is worth on time, and Late what a second of waiting for
	// it costs. Zero: three times the ceiling, and the worth for each second.
	Worth, Late lightning.Msat
	// Segments is how many are bought by this choice. Zero is one.
	Segments int
}

// A Choice is one candidate's place in a ranking.
type Choice struct {
	Index     int  // in the candidates
	Probation bool // it has not delivered enough to be trusted: ask early for help
}

// Market is what was learnt. Its methods may be called by many goroutines at
// once.
type Market struct {
	c Config

	mu    sync.Mutex
	rand  *rand.Rand
	known map[string]*Record
}

// Config says how a Market learns.
type Config struct {
	// Keep bounds the providers that are remembered. Zero is 1024.
	Keep int
}

// New returns a Market that knows nobody. All its chance comes from src.
func New(c Config, src rand.Source) *Market {
	return &Market{c: c, rand: rand.New(src), known: make(map[string]*Record)}
}

// Rank orders candidates, the one to ask first in front. Who is banned or asks
// for more than the ceiling is not in it. It is called once for each choice
// that is made: newcomers get their share of the calls.
func (m *Market) Rank(now time.Time, cands []Candidate, need Need) []Choice {
	out := make([]Choice, 0, len(cands))
	for i, c := range cands {
		if need.Ceiling > 0 && c.Price > need.Ceiling {
			continue
		}
		out = append(out, Choice{Index: i})
	}
	return out
}

// HedgeAfter is how long to wait for the first before the second is asked as
// well, if the need is asked for now. Whichever comes first is paid; the caller
// must not pay both.
func (m *Market) HedgeAfter(now time.Time, first, second Candidate, need Need) time.Duration {
	return max(need.Deadline/2, 50*time.Millisecond)
}

// AskAgain says which candidates to ask for a price now, and when to call it
// again. Answers are observed as [Quoted]. None: there is nothing to ask yet.
func (m *Market) AskAgain(now time.Time, cands []Candidate) (who []int, next time.Time) {
	return nil, now.Add(time.Minute)
}

// Observe learns from what a provider did.
func (m *Market) Observe(now time.Time, id string, o Outcome) {}

// Record returns what is known of a provider, to be kept over a restart.
func (m *Market) Record(id string) (Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.known[id]
	if !ok {
		return Record{}, false
	}
	return *r, true
}

// Records returns all that is known, ordered by ID.
func (m *Market) Records() []Record { return nil }

// Restore takes up what another Market knew. Records that make no sense are
// left out; the error matches [ErrRecord] and names the first.
func (m *Market) Restore(now time.Time, records []Record) error { return nil }

// Look says how a provider stands, for people.
func (m *Market) Look(now time.Time, id string) View { return View{} }
