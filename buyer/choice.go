package buyer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/agent/market"
	"htlcdash/internal/due"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// NeededBy says until when what is asked for with ctx is of full value: the
// segment is to be played then. As that draws near and a provider is late,
// others are asked beside it. It ends nothing: for that there are deadlines of
// contexts. Without it, and without a deadline, four seconds are assumed.
func NeededBy(ctx context.Context, at time.Time) context.Context { return due.By(ctx, at) }

// unsaid is how long we think that something may take, if nobody says.
const unsaid = 4 * time.Second

// needOf is the market's view of so many segments like seg.
func needOf(ctx context.Context, seg htlcdash.Segment, count int) market.Need {
	n := market.Need{Ceiling: seg.Price, Segments: count, Deadline: unsaid}
	if at, ok := due.Of(ctx); ok {
		n.Deadline = time.Until(at)
	} else if at, ok := ctx.Deadline(); ok {
		n.Deadline = time.Until(at)
	}
	return n
}

// A bidder is a peer that may sell something.
type bidder struct {
	*peer
	market.Candidate
	probation bool
	costs     bool // credentials of it cost money, so it is not asked beside others
}

// bidders are the peers of t that may be paid, as candidates for seg: with what
// they quoted, or else with what they asked for others.
func (b *Buyer) bidders(t *title, seg htlcdash.Segment) (all []bidder) {
	quoted := b.desk.asks(seg)
	for _, p := range t.peers {
		if !p.ok() {
			continue
		}
		c := market.Candidate{ID: p.id(), Group: p.group}
		if c.Price, c.Quoted = quoted[p]; !c.Quoted {
			c.Price = p.estimate(seg.Price)
		}
		all = append(all, bidder{peer: p, Candidate: c})
	}
	return all
}

func candidatesOf(all []bidder) []market.Candidate {
	cands := make([]market.Candidate, len(all))
	for i, p := range all {
		cands[i] = p.Candidate
	}
	return cands
}

// rank chooses: it orders the peers of t by what the market makes of them. Who
// has failed a moment ago, or holds a payment and lets it hang, comes last.
// While nothing is known of anybody, the order is the viewer's.
func (b *Buyer) rank(t *title, seg htlcdash.Segment, need market.Need) []bidder {
	now := time.Now()
	all := b.bidders(t, seg)
	known := func(p bidder) bool { return b.market.Look(now, p.ID).Standing != market.Unknown }
	if slices.ContainsFunc(all, known) {
		cands := candidatesOf(all)
		ranked := make([]bidder, 0, len(all))
		for _, c := range b.market.Rank(now, cands, need) {
			p := all[c.Index]
			p.probation = c.Probation
			ranked = append(ranked, p)
		}
		all = ranked
	}
	ready := make([]bidder, 0, len(all))
	var last []bidder
	for _, p := range all {
		if p.rests(now) {
			last = append(last, p)
		} else {
			ready = append(ready, p)
		}
	}
	all = append(ready, last...)
	t.favour.set(all)
	return all
}

// A favour is who sells a title at the moment: it is asked for offers ahead. All
// versions of a title share it.
type favour struct {
	mu    sync.Mutex
	first *peer     // nil: nobody yet
	again time.Time // when the prices of others are to be learnt anew
}

// set takes the best of a ranking that is no newcomer on trial, or else the
// best.
func (f *favour) set(ranked []bidder) {
	if len(ranked) == 0 {
		return
	}
	first := ranked[0]
	if i := slices.IndexFunc(ranked, func(p bidder) bool { return !p.probation }); i >= 0 && !ranked[i].rests(time.Now()) {
		first = ranked[i]
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first = first.peer
}

// get returns the favourite, if it can be asked now.
func (f *favour) get() *peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil || !f.first.ok() || f.first.rests(time.Now()) {
		return nil
	}
	return f.first
}

// hurry has the market asked again at once.
func (f *favour) hurry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.again = time.Time{}
}

// spares is for how many keys those are asked who are not the favourite: an
// offer costs its provider an invoice.
const spares = 4

// survey asks others than the favourite for offers, when the market says that
// their prices are to be learnt. It costs no money, holds up nobody, and what
// comes is at hand when the favourite is late.
func (b *Buyer) survey(t *title, segs []htlcdash.Segment) {
	who := b.toAsk(t, segs[0])
	segs = segs[:min(len(segs), spares)]
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	for _, p := range who {
		b.work.Go(func() {
			mine := b.desk.wanted(segs, p)
			defer b.desk.asked(mine, p)
			if len(mine) > 0 {
				_, _ = b.askPeer(b.alive, p, t, mine, true) // it is logged
			}
		})
	}
}

// toAsk says whose prices are to be learnt now.
func (b *Buyer) toAsk(t *title, seg htlcdash.Segment) (who []*peer) {
	now, all := time.Now(), b.bidders(t, seg)
	t.favour.mu.Lock()
	defer t.favour.mu.Unlock()
	if now.Before(t.favour.again) {
		return nil
	}
	chosen, next := b.market.AskAgain(now, candidatesOf(all))
	t.favour.again = next
	for _, i := range chosen {
		if p := all[i].peer; p != t.favour.first && !p.rests(now) {
			who = append(who, p)
		}
	}
	return who
}

// observe tells the market how p did, and bans it where the market does.
func (b *Buyer) observe(p *peer, o market.Outcome) {
	now := time.Now()
	o.Group = p.group
	b.market.Observe(now, p.id(), o)
	if r, ok := b.market.Record(p.id()); ok && now.Before(r.Banned) && p.ok() {
		b.ban(namesOf(p.URL(), p.purse.known().Key), r.Reason, r.Banned)
	}
}

// fault puts a failure down to p.
func (b *Buyer) fault(p *peer, t *title, o market.Outcome, err error) {
	p.failed()
	if t.favour != nil {
		t.favour.hurry()
	}
	o.Reason = err.Error()
	b.observe(p, o)
}

// faultOf says what kind of failure an error of a provider is.
func faultOf(err error) market.Kind {
	for _, k := range []struct {
		is   error
		kind market.Kind
	}{
		{ErrPrice, market.Gouged},
		{errLateProof, market.Silent},
		{ErrTerms, market.Garbled},
		{htlcdash.ErrFormat, market.Garbled},
		{exchange.ErrRefused, market.Refused},
		{htlcdash.ErrNotFound, market.Refused},
	} {
		if errors.Is(err, k.is) {
			return k.kind
		}
	}
	return market.Silent
}

// A Standing is how a provider stands with a title, for people.
type Standing struct {
	Provider string              `json:"provider"` // its URL
	Key      htlcdash.ProviderID `json:"key"`      // that signs its offers; zero: not known yet
	// State is "favourite", who is asked first; "trusted"; "on probation", or
	// "unknown", who must show what it can do; "resting" after a failure;
	// "hanging" while it lets a payment hang; or "banned".
	State   string         `json:"state"`
	Until   time.Time      `json:"until,omitzero"` // end of a rest or a ban
	Why     string         `json:"why,omitempty"`  // of a ban
	Factor  float64        `json:"factor"`         // what it asked last, times what the publisher asks; 0: not known
	Latency time.Duration  `json:"latency_ns"`     // median, of a key; 0: not known
	Success float64        `json:"success"`        // share of keys that it is believed to deliver in time
	Sold    int            `json:"sold"`           // keys, in this run, for all titles
	Paid    lightning.Msat `json:"paid_msat"`      // for them
}

// Standing tells how the providers of a title stand, in the order in which they
// were given. It is empty for a title that was not added.
func (b *Buyer) Standing(id htlcdash.TitleID) []Standing {
	t, err := b.title(id)
	if err != nil {
		return nil
	}
	now, first := time.Now(), t.favour.get()
	all := make([]Standing, 0, len(t.peers))
	for _, p := range t.peers {
		look := b.market.Look(now, p.id())
		s := p.standing(now)
		s.Latency, s.Success = look.Latency, look.Success
		switch {
		case s.State != "":
		case p == first:
			s.State = "favourite"
		default:
			s.State = string(look.Standing)
		}
		all = append(all, s)
	}
	return all
}
