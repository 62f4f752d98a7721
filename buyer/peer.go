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
	exposed  lightning.Msat // sent, and not yet proved to have bought a key
	moved    time.Time      // when exposed last shrank, or began
	freed    chan struct{}  // closed when exposed shrinks, and replaced
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

// expose waits until amount more may be under way to p. Alone, any amount
// may. The error matches [ErrExposure] if it takes longer than patience.
func (p *peer) expose(ctx context.Context, amount, limit lightning.Msat, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrExposure)
	defer cancel()
	for {
		freed, ok := p.tryExpose(amount, limit)
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

func (p *peer) tryExpose(amount, limit lightning.Msat) (freed chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exposed > 0 && amount > limit-p.exposed {
		return p.freed, false
	}
	if p.exposed == 0 {
		p.moved = time.Now()
	}
	p.exposed += amount
	return nil, true
}

// proved ends the exposure to amount.
func (p *peer) proved(amount lightning.Msat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exposed -= amount
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
			all = append(all, standing{p, now.Before(p.benched) || p.exposed > 0 && now.Sub(p.moved) > p.stall, p.latency})
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
