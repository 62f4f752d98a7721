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
	"cmp"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"htlcdash/lightning"
)

// A Candidate is a provider that offers what is needed.
type Candidate struct {
	// ID is its public key, or what else it cannot change without losing its
	// reputation. At most [MaxID] bytes.
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
	// it costs; after twice Worth/Late it will not come any more. Zero: three
	// times the ceiling, and the worth for each second.
	Worth, Late lightning.Msat
	// Segments is how many are bought by this choice. Zero is one.
	Segments int
}

// A Choice is one candidate's place in a ranking.
type Choice struct {
	Index     int  // in the candidates
	Probation bool // it has not delivered enough to be trusted
}

// Config says how a Market learns.
type Config struct {
	// Keep bounds the providers that are remembered. Zero is 1024.
	Keep int
	// Recent is the time after which what was seen of a provider has lost half
	// its weight in the forecast. Zero is ten minutes.
	Recent time.Duration
	// Past is the same for its reputation. Zero is two weeks.
	Past time.Duration
	// Probation is the one in how many segments that a newcomer may serve while
	// trusted providers do well. Zero is 25.
	Probation int
	// Cheat is the ban for the first cheat, which doubles with each offence.
	// Zero is thirty days.
	Cheat time.Duration
}

func (c Config) complete() Config {
	return Config{
		Keep:      cmp.Or(c.Keep, 1024),
		Recent:    cmp.Or(c.Recent, 10*time.Minute),
		Past:      cmp.Or(c.Past, 14*24*time.Hour),
		Probation: cmp.Or(c.Probation, 25),
		Cheat:     cmp.Or(c.Cheat, 30*24*time.Hour),
	}
}

const (
	// asking is what a second request costs, as a share of the worth: the work
	// of a provider that is not paid for it, who will bear only so much.
	asking = 0.05
	// loyalty is what the provider that served last is preferred by, as a share
	// of the worth: another one costs a connection and a credential.
	loyalty = 0.03
	// throws is for how many choices one throw of the dice holds, in the mean.
	// Thrown for each choice they would make two providers of equal merit take
	// turns.
	throws = 20
	// proof is the deliveries that end a probation.
	proof = 2
	// spares is how many trusted providers a market needs, so that a second can
	// be asked when the first is silent: with fewer, newcomers have five times
	// their share.
	spares, hunger = 3, 5.0
	// tight is by how much rarer newcomers are where the deadline leaves no time
	// for another one.
	tight = 4
	// gouge is the multiple of the median price from which a provider is not
	// asked while others are there.
	gouge = 3
	// enough is the share of the worth that the best must bring before prices can
	// be called too high.
	enough = 0.3
	// tolerance is the rise over its usual price that a provider may make. What
	// is above is counted twice: a low price must not pay as a lure.
	tolerance = 1.25
)

// Market is what was learnt. Its methods may be called by many goroutines at
// once.
type Market struct {
	c Config

	mu       sync.Mutex
	rand     *rand.Rand
	known    map[string]*entry
	all      Evidence         // of deliveries by anyone: how long they take
	sizes    scaling          // how that depends on the size
	fresh    crowd            // of newcomers: how many are any good
	groups   map[string]crowd // the same by group
	choices  int
	credit   float64 // segments that newcomers may serve
	served   string  // who served last
	interval time.Duration
	ask      time.Time // when prices are to be learnt again
}

// New returns a Market that knows nobody. All its chance comes from src.
func New(c Config, src rand.Source) *Market {
	return &Market{
		c: c.complete(), rand: rand.New(src), known: make(map[string]*entry), groups: make(map[string]crowd),
		all:      Evidence{N: 1, Mean: math.Log(0.5), Square: 0.25}, // half a second, or twice or half of that
		interval: askEvery,
	}
}
