package proxy

import (
	"iter"
	"time"

	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// Ahead bounds what is bought before a player asks. Stock players overspend by
// themselves; this is what we add. Nothing is bought ahead for a player that
// has stopped asking.
type Ahead struct {
	Segments int            // of each media type; 0: two; negative: none
	Time     time.Duration  // of media, beyond what was asked for; 0: twelve seconds
	Money    lightning.Msat // of one title, bought and not asked for yet; 0: no limit but the budget
}

func (a Ahead) withDefaults() Ahead {
	if a.Segments == 0 {
		a.Segments = 2
	}
	if a.Time == 0 {
		a.Time = 12 * time.Second
	}
	return a
}

// maxLanes bounds what strangers' session ids can make us remember.
const maxLanes = 64

// A lane is one player's walk through one track.
type lane struct {
	rep    *dash.Representation
	index  int
	asked  time.Time
	steady bool // the last two requests were of one Representation
	mended bool // it was given other rungs than it asked for
}

// A track is a set of Representations of which a player plays one at a time.
type track struct {
	period  int
	content string
	lang    string
}

func trackOf(rep *dash.Representation) track { return track{rep.Period, rep.ContentType, rep.Lang} }

type laneKey struct {
	session string // CMCD sid; empty for a player that says nothing
	track   track
}

// A piece is one segment of a film; index -1 is a head.
type piece struct {
	rep   *dash.Representation
	index int
}

// asked books that a player asked for a segment, and returns the segments that
// may be bought ahead now, and those for which offers are to be asked. f.mu is
// held.
//
// A player has to show that it means to go on: by naming its next object, or
// by asking for one segment after another, or by taking the start that was laid
// out for it. ffmpeg and mpv ask for one segment of every Representation when
// they open a title, and play one of them. On a slow network nothing is bought
// ahead, see quick.
func (f *film) asked(p piece, said dash.CMCD, next *piece, money budget) (plan, offers []piece) {
	now := time.Now()
	key := laneKey{said.SessionID, trackOf(p.rep)}
	l, known := f.lanes[key]
	if !known {
		f.forgetLanes(now)
		l = &lane{}
		f.lanes[key] = l
	}
	laidOut, started := f.started[p.rep.ID]
	if known && (p.index < l.index || p.index > l.index+1) {
		f.jumps(p)
	}
	goesOn := next != nil || known && p.index == l.index+1 || started && p.index == laidOut
	l.steady = l.rep == p.rep
	l.rep, l.index, l.asked = p.rep, p.index, now
	f.settleAhead(p)
	if !goesOn {
		return nil, nil
	}
	offers = f.coming(p.rep, p.index+1)
	if !f.quick() {
		return nil, offers
	}
	if f.ours && f.policy != nil {
		l.steady = true // it follows the agent
		return f.plan(p, f.wanted(p, money), f.howMany(l, said), money), offers
	}
	from := piece{p.rep, p.index + 1}
	if next != nil && trackOf(next.rep) == trackOf(p.rep) && next.index > p.index {
		from = *next
	}
	return f.plan(p, f.onwards(from), f.howMany(l, said), money), offers
}

// jumps books that a player goes on elsewhere in the film. f.mu is held.
func (f *film) jumps(p piece) {
	delete(f.levels, p.rep.ContentType)
	if f.paid {
		f.thinkSoon() // there may be more that is owned
	}
}

// howMany segments are bought ahead of a player: few if it may change to
// another quality or has plenty in hand, more if it runs short and the network
// is known to be quick. f.mu is held.
func (f *film) howMany(l *lane, said dash.CMCD) int {
	count := max(f.proxy.ahead.Segments, 0)
	switch {
	case !l.steady || said.BufferKnown && said.Buffer >= comfortable:
		return min(count, 1)
	case (said.Starved || said.BufferKnown && said.Buffer < short) && f.proxy.gauge.rate() > 0:
		return 2 * count
	}
	return count
}

// offersAhead is for how many segments offers are asked in one request. An
// offer costs the provider an invoice, so it is not the whole film.
const offersAhead = 8

// coming returns the segments of rep from an index on for which offers are to
// be asked now: none while half of those that were asked for are left. f.mu is
// held.
func (f *film) coming(rep *dash.Representation, from int) (pieces []piece) {
	left := f.offered[rep.ID] - from
	if left > offersAhead/2 && left <= offersAhead {
		return nil
	}
	if left < 0 || left > offersAhead { // the player has jumped
		left = 0
	}
	end := min(from+offersAhead, len(rep.Segments))
	for i := from + left; i < end; i++ {
		pieces = append(pieces, piece{rep, i})
	}
	f.offered[rep.ID] = end
	return pieces
}

// Buffers of a player.
const (
	comfortable = 8 * time.Second // one segment ahead is plenty
	short       = 4 * time.Second
)

// onwards are the pieces from one on.
func (f *film) onwards(from piece) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		for i := from.index; i < len(from.rep.Segments) && yield(piece{from.rep, i}); i++ {
		}
	}
}

// plan returns up to count pieces of those that a player will ask for, after
// the one that it asks for now, which may be bought ahead. f.mu is held.
func (f *film) plan(asked piece, later iter.Seq[piece], count int, money budget) (plan []piece) {
	limit := f.proxy.ahead
	now := asked.rep.Segments[asked.index]
	end := now.Start + now.Duration + limit.Time
	mayBuy := f.carried(asked, money)
	for p := range later {
		if s := p.rep.Segments[p.index]; count == 0 || s.Start+s.Duration > end || !mayBuy(p) {
			break
		}
		count--
		if f.proxy.shelf.has(f.place(p)) {
			continue
		}
		price := f.more(p, asked)
		if limit.Money > 0 && f.aheadMoney()+price > limit.Money {
			break
		}
		f.ahead[p] = price
		plan = append(plan, p)
	}
	return plan
}

// settleAhead forgets what is no longer ahead of a player that now asks for p:
// p itself, and what it has passed, jumped away from, or asked in another
// quality. f.mu is held.
func (f *film) settleAhead(p piece) {
	reach := p.index + 2*max(f.proxy.ahead.Segments, 1)
	for a := range f.ahead {
		if trackOf(a.rep) == trackOf(p.rep) && (a.index <= p.index || a.index > reach) {
			delete(f.ahead, a)
		}
	}
}

// more is what buying p ahead adds to what is spent for a player that asks for
// another piece: nothing if that has the same key, or one that is bought ahead
// already. f.mu is held.
func (f *film) more(p, asked piece) lightning.Msat {
	if f.sameKey(p, asked) {
		return 0
	}
	for a := range f.ahead {
		if f.sameKey(p, a) {
			return 0
		}
	}
	return f.price(p)
}

// aheadMoney is what was started before a player asked. f.mu is held.
func (f *film) aheadMoney() (sum lightning.Msat) {
	for _, m := range f.ahead {
		sum += m
	}
	return sum
}

// restOfGroups is what was paid for the segments that come after those that
// players asked for last, with the same keys. It does not count as bought
// ahead: it is not our doing. f.mu is held.
func (f *film) restOfGroups() (sum lightning.Msat) {
	for _, p := range f.now {
		_, to := f.opens(p)
		for i := p.index + 1; i < to; i++ {
			sum += f.tally.idle(piece{p.rep, i})
		}
	}
	return sum
}

// forgetLanes makes room for one more lane. f.mu is held.
func (f *film) forgetLanes(now time.Time) {
	var oldest laneKey
	when := now
	for key, l := range f.lanes {
		if l.asked.Before(when) {
			oldest, when = key, l.asked
		}
	}
	if len(f.lanes) >= maxLanes {
		delete(f.lanes, oldest)
	}
}
