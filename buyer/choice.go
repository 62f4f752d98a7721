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
// contexts. Without it, a segment is taken to be needed within its own duration:
// who takes longer for each does not keep up.
func NeededBy(ctx context.Context, at time.Time) context.Context { return due.By(ctx, at) }

// WaitingCosts says what a second of waiting for what is asked for with ctx is worth
// to the viewer. The more, the dearer may be who is quick and sure. It buys nothing
// above the publisher's price, and counts from once to ten times that. Without it, it
// is three times.
func WaitingCosts(ctx context.Context, second lightning.Msat) context.Context {
	return due.Costs(ctx, second)
}

// Bounds of haste, as multiples of the publisher's price. To somebody with money
// enough a second is worth any sum, but who is dearer and no better shall not be
// paid.
const leastHaste, mostHaste = 1, 10

// What is needed, if nobody says, within the time of what it lasts, is needed in
// no less and no more than that.
const leastNeed, mostNeed = 500 * time.Millisecond, 4 * time.Second

// needOf is the market's view of so many segments like seg.
func needOf(ctx context.Context, seg htlcdash.Segment, count int) market.Need {
	n := market.Need{Ceiling: seg.Price, Segments: count, Deadline: min(max(seg.Duration, leastNeed), mostNeed)}
	if at, ok := due.Of(ctx); ok {
		n.Deadline = time.Until(at)
	}
	if second, ok := due.CostsOf(ctx); ok {
		n.Late = min(max(second, leastHaste*n.Ceiling), mostHaste*n.Ceiling)
		n.Worth = n.Late // after two seconds it matters no more how late it is
	}
	return n
}

// A bidder is a peer that may sell something.
type bidder struct {
	*peer
	market.Candidate
	probation bool
	reserve   bool // it is asked when all others have failed, not beside them
}

// bidders are the peers of t that may be paid, as candidates for seg.
func (b *Buyer) bidders(t *title, seg htlcdash.Segment) (all []bidder) {
	quoted := b.desk.asks(seg)
	for _, p := range t.peers {
		if !p.ok() || p.onlyCarries() {
			continue
		}
		c := market.Candidate{ID: p.id(), Group: p.group}
		c.Price, c.Quoted = quoted[p]
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
// holds a payment and lets it hang comes last. While nothing is known of
// anybody, the order is the viewer's.
func (b *Buyer) rank(t *title, seg htlcdash.Segment, need market.Need) []bidder {
	now := time.Now()
	all := b.bidders(t, seg)
	known := func(p bidder) bool { return b.market.Look(now, p.ID).Standing != market.Unknown }
	if slices.ContainsFunc(all, known) {
		ranked := make([]bidder, 0, len(all))
		for _, c := range b.market.Rank(now, candidatesOf(all), need) {
			p := all[c.Index]
			p.probation = c.Probation
			ranked = append(ranked, p)
		}
		all = append(ranked, b.leftOut(now, all, ranked)...)
	}
	slices.SortStableFunc(all, func(p, q bidder) int { return p.behind(t, now) - q.behind(t, now) })
	t.favour.set(all)
	return all
}

// leftOut are those whom the market would not ask, for a while. A film does not
// stop for that while one of them sells, unless it has cheated.
func (b *Buyer) leftOut(now time.Time, all, ranked []bidder) (out []bidder) {
	for _, p := range all {
		isIt := func(q bidder) bool { return q.peer == p.peer }
		if r, _ := b.market.Record(p.ID); slices.ContainsFunc(ranked, isIt) || r.Cheat && now.Before(r.Banned) {
			continue
		}
		p.probation, p.reserve = true, true
		out = append(out, p)
	}
	return out
}

// behind is greater for who is asked after others, however they rank: a newcomer
// that wants money to begin with, and who holds a payment.
func (p bidder) behind(t *title, now time.Time) int {
	switch {
	case p.reserve:
		return 3
	case p.holds(now):
		return 2
	case p.probation && p.purse.known().Credentials.Price > 0 && p.purse.live(t.berth()) == nil:
		return 1
	}
	return 0
}

// A favour is who sells a title at the moment: it is asked for offers ahead. All
// versions of a title share it.
type favour struct {
	mu    sync.Mutex
	first *peer // nil: nobody yet
}

// set takes the best of a ranking that is no newcomer on trial, or else the
// best.
func (f *favour) set(ranked []bidder) {
	if len(ranked) == 0 {
		return
	}
	first := max(0, slices.IndexFunc(ranked, func(p bidder) bool { return !p.probation }))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first = ranked[first].peer
}

// get returns the favourite, or nil.
func (f *favour) get() *peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first
}

// favourite returns whom to ask for offers of t ahead, or nil where that is to be
// chosen anew: nobody is, it has just failed, or t has others now.
func (b *Buyer) favourite(t *title, now time.Time) *peer {
	p := t.favour.get()
	if p == nil || !slices.Contains(t.peers, p) || !p.ok() || p.holds(now) {
		return nil
	}
	if r, _ := b.market.Record(p.id()); now.Before(r.Benched) || now.Before(r.Banned) {
		return nil
	}
	return p
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
				_ = b.askPeer(b.alive, p, t, mine, true) // it is logged
			}
		})
	}
}

// toAsk says whose prices are to be learnt now.
func (b *Buyer) toAsk(t *title, seg htlcdash.Segment) (who []*peer) {
	now, all := time.Now(), b.bidders(t, seg)
	first := t.favour.get()
	chosen, _ := b.market.AskAgain(now, candidatesOf(all))
	for _, i := range chosen {
		if p := all[i].peer; p != first && !p.holds(now) {
			who = append(who, p)
		}
	}
	return who
}

// instant is what nobody can be quicker than: below it are the moods of machines,
// and no viewer minds them.
const instant = 50 * time.Millisecond

// observe tells the market how p did.
func (b *Buyer) observe(p *peer, o market.Outcome) {
	now := time.Now()
	o.Group = p.group
	if o.Took > 0 {
		o.Took = max(o.Took, instant)
	}
	b.market.Observe(now, p.id(), o)
	if r, ok := b.market.Record(p.id()); ok && now.Before(r.Banned) && p.shun(r.Banned) {
		b.c.Log.Warn("provider shunned", "provider", p.URL(), "until", r.Banned.Round(time.Second), "why", r.Reason)
		b.keepReputation(context.WithoutCancel(b.alive))
	}
}

// fault puts a failure down to p.
func (b *Buyer) fault(p *peer, took time.Duration, err error) {
	b.observe(p, market.Outcome{Kind: faultOf(err), Took: took, Reason: err.Error()})
}

// faultOf says what kind of failure an error of a provider is.
func faultOf(err error) market.Kind {
	for _, k := range []struct {
		is   error
		kind market.Kind
	}{
		{ErrPrice, market.Gouged},
		{errLateProof, market.Silent},
		{errNoSystem, market.Refused},
		{exchange.ErrExpired, market.Refused}, // or our clock is wrong
		{ErrTerms, market.Garbled},            // in what it has signed, or proved
		{htlcdash.ErrFormat, market.Silent},   // as of a web proxy in between
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
	// "unknown", who must show what it can do; "resting" after a failure, and
	// "hanging" while it lets a payment hang, when others are asked first;
	// "shunned", who is asked only if nobody else sells; "banned", who has
	// cheated and is not asked; or "owing", who has told no key for a payment
	// and is not asked in this run.
	State   string         `json:"state"`
	Until   time.Time      `json:"until,omitzero"` // end of that
	Why     string         `json:"why,omitempty"`
	Factor  float64        `json:"factor"`     // what it asked last, times what the publisher asks; 0: not known
	Latency time.Duration  `json:"latency_ns"` // median, of a key; 0: not known
	Success float64        `json:"success"`    // share of keys that it is believed to deliver in time
	Sold    int            `json:"sold"`       // keys, in this run, for all titles
	Paid    lightning.Msat `json:"paid_msat"`  // for them
}

// Standing tells how the providers of a title stand, in the order in which they
// were given. It is empty for a title that was not added.
func (b *Buyer) Standing(id htlcdash.TitleID) []Standing {
	t, err := b.title(id)
	if err != nil {
		return nil
	}
	now := time.Now()
	first := b.favourite(t, now)
	all := make([]Standing, 0, len(t.peers))
	for _, p := range t.peers {
		look := b.market.Look(now, p.id())
		r, _ := b.market.Record(p.id())
		s := p.standing(now)
		s.Latency, s.Success = look.Latency, look.Success
		if r.Ceiling > 0 {
			s.Factor = float64(r.Price) / float64(r.Ceiling)
		}
		switch {
		case s.State != "":
		case look.Standing == market.Banned:
			s.State, s.Until, s.Why = "shunned", look.Until, look.Reason
		case now.Before(r.Benched):
			s.State, s.Until = "resting", r.Benched
		case p == first:
			s.State = "favourite"
		default:
			s.State = string(look.Standing)
		}
		all = append(all, s)
	}
	return all
}
