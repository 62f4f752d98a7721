package buyer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"htlcdash/lightning"
)

// A peer is what we know of a provider: how it did, and what it could take
// from us now. All titles share it.
type peer struct {
	*Provider

	purse *purse
	stall time.Duration // of payments, after which it gives way to others

	mu       sync.Mutex
	banned   string         // why; empty: not
	underway int            // payments whose outcome is not known
	exposed  lightning.Msat // of them: what it could keep, since nothing proves that they buy keys
	moved    time.Time      // when underway last shrank, or began
	freed    chan struct{}  // closed when underway shrinks, and replaced
	latency  time.Duration  // of payments, smoothed
	proven   bool           // has sold a key in this run
	failures int            // in a row
	benched  time.Time      // until then it is asked last
}

func newPeer(p *Provider, stall time.Duration) *peer {
	return &peer{Provider: p, purse: newPurse(), stall: stall, freed: make(chan struct{}), latency: guess}
}

// guess is the latency of a provider that was never tried: one that is slower
// than that gives way to it.
const guess = 150 * time.Millisecond

// expose waits until one more payment may be under way to p, of which it could
// keep risk. Alone, any may. While p lets a payment hang no other is sent. The
// error matches [ErrExposure] if it takes longer than patience.
func (p *peer) expose(ctx context.Context, risk, limit lightning.Msat, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrExposure)
	defer cancel()
	for {
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

// proved ends the exposure to a payment.
func (p *peer) proved(risk lightning.Msat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underway--
	p.exposed -= risk
	p.moved = time.Now()
	close(p.freed)
	p.freed = make(chan struct{})
}

func (p *peer) sold(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency += (took - p.latency) / 4
	p.proven, p.failures, p.benched = true, 0, time.Time{}
}

// failed sends p to the bench, twice as long each time, up to a minute.
func (p *peer) failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures++
	p.benched = time.Now().Add(min(time.Second<<min(p.failures, 6), time.Minute))
}

func (p *peer) ban(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.banned = why
}

func (p *peer) ok() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.banned == ""
}

func (p *peer) isProven() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proven
}

// rank orders peers: those not on the bench first, the quickest first. One that
// holds a payment and lets it hang is as good as on the bench.
func rank(peers []*peer) []*peer {
	type standing struct {
		*peer
		benched bool
		latency time.Duration
	}
	now := time.Now()
	var all []standing
	for _, p := range peers {
		p.mu.Lock()
		if p.banned == "" {
			all = append(all, standing{p, now.Before(p.benched) || p.hangs(now), p.latency})
		}
		p.mu.Unlock()
	}
	slices.SortStableFunc(all, func(a, b standing) int {
		if a.benched != b.benched {
			if a.benched {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.latency, b.latency)
	})
	ranked := make([]*peer, len(all))
	for i, s := range all {
		ranked[i] = s.peer
	}
	return ranked
}
