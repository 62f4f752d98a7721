package market

import (
	"math"
	"time"

	"htlcdash/lightning"
)

// A Kind is how a provider did. The zero Kind teaches nothing.
type Kind int

// Kinds of outcomes. The later ones end in a ban.
const (
	// Delivered: the key was bought and opens. It may have come too late; Took
	// says that.
	Delivered Kind = iota + 1
	// Late: it had not come after Took, and another one's was used, or none.
	Late
	// Quoted: it said a price, and was not asked for more.
	Quoted
	// Refused: it answered that it does not sell this.
	Refused
	// Silent: no connection, or no answer.
	Silent
	// Garbled: what came was not what was asked for, or not signed as it must
	// be. Nothing was paid.
	Garbled
	// Gouged: it asked for more than the ceiling, or than it had quoted.
	// Nothing was paid.
	Gouged
	// Hung: it holds a payment and neither takes it nor gives it back.
	Hung
	// Cheated: it took money, and the key does not open.
	Cheated
)

// An Outcome is what one provider did about one need.
type Outcome struct {
	Kind Kind
	// Took is how long it was waited for: offer, proof, payment and what bytes
	// come from it, but not what was ready before. Zero: not known.
	Took time.Duration
	// Price and Ceiling are of the offer. Zero: there was none.
	Price, Ceiling lightning.Msat
	// Size is that of the need, in bytes. Zero: not known.
	Size int64
	// Group is that of the candidate.
	Group string
	// Reason is kept with a ban, for people.
	Reason string
}

const (
	// memory and habit are what each new observation leaves of the older ones,
	// in the forecast and in the reputation.
	memory, habit = 0.98, 0.99
	// alarming is how much must speak for it that a provider has changed, as a
	// logarithm of odds: two failures of one that fails one time in fifty, or
	// one answer that is four standard deviations late.
	alarming = 6
	// remains is the weight that is left then.
	remains = 2
	// persistent is the failures in a row that end in a ban.
	persistent = 8
	// firstBench doubles with each failure in a row, up to lastBench.
	firstBench, lastBench = time.Second, time.Minute
	// longest bounds a ban.
	longest = 365 * 24 * time.Hour
	// atoned is the time after a ban in which half an offence is forgotten.
	atoned = 30 * 24 * time.Hour
	// settling is the time in which a new price becomes half usual.
	settling = 12 * time.Hour
)

// Observe learns from what a provider did.
func (m *Market) Observe(now time.Time, id string, o Outcome) {
	if id == "" || len(id) > MaxID || o.Kind < Delivered || o.Kind > Cheated {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(now, id, o.Group)
	m.price(now, e, o)
	if o.Kind == Quoted {
		return
	}
	b := m.of(now, id, o.Group, o.Size)
	newcomer := !b.trusted()
	saw, turn := m.read(e, b.expected(), o)
	if newcomer {
		m.fresh.add(now, saw)
		if o.Group != "" {
			m.crowd(now, o.Group, saw)
		}
	}
	e.age(now, m.c)
	e.Recent = e.Recent.faded(memory).with(saw)
	e.Past = e.Past.faded(habit).with(saw)
	m.watch(now, e, saw, turn)
	m.judge(now, e, o)
}

// entry is what is known of a provider, which may be nothing yet.
func (m *Market) entry(now time.Time, id, group string) *entry {
	e := m.known[id]
	if e == nil {
		e = &entry{Record: Record{ID: id, Seen: now}}
		m.known[id] = e
		m.forget(now)
	}
	if len(group) <= MaxID {
		e.Group = group
	}
	return e
}

// age lets what was seen lose weight by time.
func (e *entry) age(now time.Time, c Config) {
	past := now.Sub(e.Seen)
	e.Recent = e.Recent.faded(fade(past, c.Recent))
	e.Past = e.Past.faded(fade(past, c.Past))
	e.worse.since = e.worse.since.faded(fade(past, c.Recent))
	e.better.since = e.better.since.faded(fade(past, c.Recent))
	if past > 0 {
		e.Seen = now
	}
}

// odds are how much an outcome speaks for a change, as logarithms of odds:
// that the provider now serves half as often and two standard deviations later,
// or fails half as often and serves two standard deviations sooner.
type odds struct{ worse, better float64 }

// read is what an outcome says.
func (m *Market) read(e *entry, g guess, o Outcome) (saw Evidence, turn odds) {
	failed := odds{math.Log((1 - g.p/2) / (1 - g.p)), math.Log(0.5)}
	served := odds{math.Log(0.5), math.Log((1 + g.p) / 2 / g.p)}
	took := max(o.Took.Seconds(), 1e-3)
	z := (math.Log(took) - g.mean) / max(g.sd, 0.2)
	switch {
	case o.Kind == Delivered && o.Took <= 0:
		return Evidence{Yes: 1}, served
	case o.Kind == Delivered:
		saw = came(took/m.sizes.factor(o.Size), 1)
		m.all = m.all.faded(habit).with(saw)
		m.sizes.add(e, took, o.Size)
		return saw, odds{served.worse + 2*bound(z, 4) - 2, served.better + 2*bound(-z, 4) - 2}
	case o.Kind == Late:
		saw = unseen(took, g)
		saw.Mean -= math.Log(m.sizes.factor(o.Size))
		return saw, odds{saw.No*failed.worse + saw.Yes*max(2*bound(z, 4)-2, 0), 0}
	default:
		return failure, failed
	}
}

func bound(z, most float64) float64 { return min(max(z, -most), most) }

// watch is Page's test (1954), which forgets what was known of a provider when
// it has changed, as Liu, Lee and Shroff (2018) do: what it was in the past
// would otherwise count for too long.
func (m *Market) watch(now time.Time, e *entry, saw Evidence, turn odds) {
	worse, better := e.worse.add(turn.worse, saw), e.better.add(turn.better, saw)
	if e.Past.weight() < 3 || !worse && !better {
		return
	}
	e.Recent = e.better.since
	if worse {
		e.Recent = e.worse.since
		m.hurry(now)
	}
	e.Past = e.Past.atMost(remains)
	e.worse, e.better = suspicion{}, suspicion{}
}

// A suspicion is that a provider has changed.
type suspicion struct {
	odds  float64
	since Evidence // what was seen since it arose
}

// add reports whether it is as good as certain.
func (s *suspicion) add(odds float64, saw Evidence) bool {
	s.odds = max(s.odds+odds, 0)
	s.since = s.since.with(saw)
	if s.odds == 0 {
		s.since = Evidence{}
	}
	return s.odds >= alarming
}

// judge keeps count of failures, and sends to the bench or bans.
func (m *Market) judge(now time.Time, e *entry, o Outcome) {
	switch o.Kind {
	case Delivered:
		e.Failures, e.Benched = 0, time.Time{}
		m.served = e.ID
		return
	case Late:
		return
	}
	e.Failures++
	e.Benched = now.Add(min(firstBench<<min(e.Failures-1, 10), lastBench))
	if e.ID == m.served {
		m.hurry(now)
	}
	switch o.Kind {
	case Garbled, Gouged:
		e.ban(now, 10*time.Minute, o)
	case Hung:
		e.ban(now, time.Hour, o)
	case Cheated:
		e.ban(now, m.c.Cheat, o)
	default:
		if e.Failures >= persistent {
			e.ban(now, 10*time.Minute, o)
			e.Failures = 0
		}
	}
}

// ban keeps a provider away for a time that doubles with each offence. What it
// did before does not count when it comes back.
func (e *entry) ban(now time.Time, first time.Duration, o Outcome) {
	e.Offences *= fade(now.Sub(e.Banned), atoned)
	span := seconds(min(first.Seconds()*math.Exp2(min(e.Offences, 40)), longest.Seconds()))
	e.Offences = min(e.Offences+1, maxWeight)
	e.Recent, e.Past = Evidence{}, Evidence{No: 1}
	e.Cheat = o.Kind == Cheated || e.Cheat && now.Before(e.Banned)
	if end := now.Add(span); end.After(e.Banned) {
		e.Banned = end
	}
	e.Reason = o.Reason
	if len(e.Reason) > MaxReason {
		e.Reason = e.Reason[:MaxReason]
	}
}
