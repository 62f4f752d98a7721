package buyer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/agent/market"
	"htlcdash/internal/ledger"
	"htlcdash/internal/reach"
	"htlcdash/lightning"
)

// A peer is what we know of a provider: how it did, and what it could take
// from us now. All titles share it.
type peer struct {
	*Provider

	purse *purse
	group string        // that it shares with others of one operator
	stall time.Duration // of payments, after which it gives way to others

	mu        sync.Mutex
	ban       ledger.Ban     // the last one for a cheat
	owes      lightning.Hash // of a payment that it got and told no key for; zero: none
	shunned   time.Time      // end of the last ban by the market that was told of
	underway  int            // payments whose outcome is not known
	exposed   lightning.Msat // of them: what it could keep, since nothing proves that they buy keys
	moved     time.Time      // when underway last shrank, or began
	freed     chan struct{}  // closed when underway shrinks, and replaced
	later     time.Time      // until when it asked to be left alone
	laters    int            // how often in a row it did
	proven    bool           // has sold a key in this run
	sales     int            // keys bought in this run
	paid      lightning.Msat // for them
	unsure    int64          // sealed bytes that it was paid for, or is, and that are not known to be sound
	longest   int64          // bytes of the longest blob that it was asked for and is paid for
	uncarried time.Time      // until then it is not asked for sealed bytes that cost money

	wide chan struct{} // holds a token while a blob longer than a step is fetched
}

func newPeer(p *Provider, stall time.Duration) *peer {
	return &peer{Provider: p, purse: newPurse(), group: reach.Group(p.base), stall: stall, freed: make(chan struct{}), wide: make(chan struct{}, 1)}
}

// id names p in the market.
func (p *peer) id() string { return marketName(p.URL(), p.purse.known().Key) }

// marketName is a provider's name in the market: its address, and the key that it
// shows there, if that is known. It cannot change either without losing its name.
// The key alone would not do: anybody can show it, and pass on what it signs, and
// then be late or silent in its name. Only a signature makes a key liable, see
// convict.
func marketName(url string, key htlcdash.ProviderID) string {
	if key == (htlcdash.ProviderID{}) {
		return atMost(url)
	}
	return key.String() + "@" + atMost(url)
}

// atMost stands for addresses that are too long for a name by what they hash to.
func atMost(url string) string {
	if len(url) > market.MaxID-1-len(htlcdash.ProviderID{}.String()) {
		return fmt.Sprintf("%x", sha256.Sum256([]byte(url)))
	}
	return url
}

// expose waits until one more payment may be under way to p, of which it could
// keep risk. Alone, any may. While p lets a payment hang no other is sent. The
// error matches [ErrExposure] if it takes longer than patience, and [ErrNoOffer]
// as soon as p is banned.
func (p *peer) expose(ctx context.Context, risk, limit lightning.Msat, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrExposure)
	defer cancel()
	for {
		if err := p.trusted(); err != nil {
			return err
		}
		freed, ok := p.tryExpose(risk, limit)
		if ok {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", p, context.Cause(ctx))
		}
	}
}

func (p *peer) tryExpose(risk, limit lightning.Msat) (freed chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exposed > 0 && risk > limit-p.exposed || p.hangs(time.Now()) {
		return p.freed, false
	}
	if p.underway == 0 {
		p.moved = time.Now()
	}
	p.underway++
	p.exposed += risk
	return nil, true
}

// hangs reports whether payments to p are under way and none has ended for
// long. It needs p.mu.
func (p *peer) hangs(now time.Time) bool { return p.underway > 0 && now.Sub(p.moved) > p.stall }

// adopt counts a payment to p that was ordered before p was known, or that seemed
// to have failed. It needs Buyer.mu.
func (p *peer) adopt(f *flight) {
	f.peer = p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underway++
	p.exposed += f.risk
}

// proved ends the exposure to a payment.
func (p *peer) proved(risk lightning.Msat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underway--
	p.exposed -= risk
	p.moved = time.Now()
	p.wake()
}

// wake wakes those who wait until they may pay. It needs p.mu.
func (p *peer) wake() {
	close(p.freed)
	p.freed = make(chan struct{})
}

func (p *peer) sold(price lightning.Msat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proven = true
	p.sales, p.paid = p.sales+1, p.paid+price
}

// holds reports whether p is asked only after others: it holds a payment and lets it
// hang, or has asked to be left alone for a while.
func (p *peer) holds(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hangs(now) || now.Before(p.later)
}

// mostLaters is how often in a row a provider may put us off. Many viewers at one
// address share what it grants that address; who never grants anything does not sell.
const mostLaters = 8

// putOff notes that p asks to be left alone, and reports whether that is no fault of
// its own.
func (p *peer) putOff(now time.Time, wait time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !now.Before(p.later) {
		p.laters++
	}
	p.later = now.Add(wait)
	return p.laters <= mostLaters
}

// answered ends that p puts us off.
func (p *peer) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.later, p.laters = time.Time{}, 0
}

func (p *peer) banish(b ledger.Ban) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ban = b
	p.wake() // who waits to pay it is not to
}

// shun notes a ban by the market, and reports whether it is new.
func (p *peer) shun(until time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := !p.shunned.Equal(until)
	p.shunned = until
	return fresh
}

// ok reports whether p may be paid: it has not cheated, or its ban is over.
func (p *peer) ok() bool { return p.trusted() == nil }

// trusted says why p is not to be paid. The error matches [ErrNoOffer].
func (p *peer) trusted() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.ban.Until) {
		return fmt.Errorf("%s is banned: %s: %w", p, p.ban.Reason, ErrNoOffer)
	}
	if p.owes != (lightning.Hash{}) {
		return fmt.Errorf("%s owes the key of payment %s: %w", p, p.owes, ErrNoOffer)
	}
	return nil
}

func (p *peer) banned(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.ban.Until)
}

// paidBack ends that p owes a key.
func (p *peer) paidBack(h lightning.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owes == h {
		p.owes = lightning.Hash{}
	}
}

// owe keeps p from being paid more, in this run: it has told no key for a payment
// that the wallet says it got.
func (p *peer) owe(h lightning.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owes = h
	p.wake()
}

// standing is what p itself knows of how it stands.
func (p *peer) standing(now time.Time) Standing {
	key := p.purse.known().Key
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Standing{Provider: p.URL(), Key: key, Sold: p.sales, Paid: p.paid}
	switch {
	case now.Before(p.ban.Until):
		s.State, s.Until, s.Why = "banned", p.ban.Until, p.ban.Reason
	case p.owes != (lightning.Hash{}):
		s.State, s.Why = "owing", "told no key of payment "+p.owes.String()
	case p.hangs(now):
		s.State = "hanging"
	}
	return s
}

func (p *peer) isProven() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proven
}
