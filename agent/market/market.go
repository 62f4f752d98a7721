// Package market decides which provider to ask, and pay, for the next key, from
// how each of them did before.
//
//	who offers: []Candidate  ->  Rank       ->  whom to ask first, second, ...
//	                             HedgeAfter ->  when to ask the second as well
//	how it went: Outcome     ->  Observe    ->  what is believed of a key
//	                             AskAgain   ->  whose prices to learn anew
//
// It is pure: time and randomness are handed in. It names providers by their
// keys; whether a key belongs to an address is the caller's business. What it
// learns is this buyer's own experience. It asks nobody for an opinion, and
// tells none.
//
// # The model
//
// A need is worth something on time, each second of waiting costs something,
// and after a while it is lost. Of each provider two things are believed: the
// chance that it serves (a beta distribution) and how long it takes if it does
// (log-normal). Price, deadline and size come with each need, so that one who
// is cheap and slow is asked while the buffer is full, and one who is quick and
// dear when it is not.
//
//   - Evidence loses weight with each new observation and with time, as in
//     discounted UCB (Garivier and Moulines, ALT 2011). It has two lives: minutes
//     for the forecast, weeks for the reputation, which counts where the forecast
//     is thin. Where both are thin, others stand in: all newcomers, or those of
//     the same network.
//   - Whom to ask is drawn by the chance that it is the best: discounted Thompson
//     sampling (Raj and Kalyani, 2017). Who served last is preferred a little.
//   - Page's test (1954) watches for a provider that has turned, to the worse or
//     to the better, and forgets what it was, as in CUSUM-UCB (Liu, Lee and
//     Shroff, AAAI 2018). Discounting alone takes too long.
//   - The second request is deferred until most answers of the first should be
//     in (Dean and Barroso, The tail at scale, CACM 2013); when exactly, is where
//     the gain in value exceeds its cost. The ranking counts on that help.
//   - An answer that was not waited for is no failure: it is split into "never"
//     and "later" by what was believed before (Dempster, Laird and Rubin, 1977).
//   - Keys cost nothing. So newcomers share a part of the segments that grows
//     when they prove good and shrinks when they do not, their prices do not
//     count as cheap, and those of one network are tried one at a time.
//   - A price is what was asked, not what was advertised; a sudden rise counts
//     twice; a multiple of the median is not asked while others do well.
//   - Bans end, and double. Only who took money stays away when nobody else is
//     there. Slowness is never a reason for a ban.
//
// # What it does not protect against
//
//   - A provider that is honest until its one large fraud: bound what is paid
//     before a key is seen.
//   - Operators with many networks: each is tried once in a while, and a flood
//     makes honest newcomers wait longer.
//   - Providers that agree on a high price: the publisher's ceiling is the bound.
//   - One that is bad to this buyer only, or that learns from its requests what
//     it watches.
//   - A change shorter than the gaps between requests.
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
	// trusted providers do well: up to five times as many if newcomers were good
	// or trusted ones are few, down to a fifth if they were not. Zero is 25.
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

// The figures below were set in the markets of package bazaar. The results move
// by a few in a hundred if they are halved or doubled: it is the rules that
// count.
const (
	// asking is what a second request costs, as a share of the worth: the work
	// of a provider that is not paid for it, who will bear only so much.
	asking = 0.02
	// loyalty is what the provider that served last is preferred by, as a share
	// of the worth: another one costs a connection and a credential, and two of
	// equal merit would take turns.
	loyalty = 0.03
	// proof is the deliveries that end a probation.
	proof = 2
	// spares is how many trusted providers a market needs, so that a second can
	// be asked when the first is silent. With fewer, newcomers are wanted: they
	// may have hunger times their share, which is the most they ever have.
	spares, hunger = 3, 5.0
	// tight is by how much rarer newcomers are where the deadline leaves no time
	// for another one.
	tight = 2
	// gouge is the multiple of the median price from which a provider is not
	// asked while others do well, which is to bring enough, as a share of the
	// worth.
	gouge, enough = 3, 0.3
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
	credit   float64          // segments that newcomers may serve
	served   string           // who served last
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
