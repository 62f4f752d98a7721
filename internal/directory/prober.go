package directory

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"htlcdash"
	"htlcdash/internal/join"
	"htlcdash/internal/reach"
)

// How addresses are asked for their keys.
const (
	probeTime   = 3 * time.Second
	probeKept   = 10 * time.Minute // an answer
	failureKept = time.Minute      // that there was none
	maxProbes   = 4096             // that are remembered
	maxAsked    = 3                // addresses of one announcement

	// An address in a stranger's announcement may be a victim's: its network is
	// asked 32 times at once, then every ten seconds.
	groupBurst = 32
	groupPause = 10 * time.Second
)

var errOften = errors.New("its network was asked often enough")

// A prober asks addresses for their keys, each now and then.
type prober struct {
	keyAt   func(ctx context.Context, address string) (htlcdash.ProviderID, error)
	local   bool // local addresses are asked, too
	pending join.Group[string, htlcdash.ProviderID]

	mu     sync.Mutex
	known  map[string]probe
	groups map[string]*rate.Limiter
}

type probe struct {
	key  htlcdash.ProviderID
	err  error
	ends time.Time
}

func newProber(keyAt func(context.Context, string) (htlcdash.ProviderID, error), local bool) *prober {
	return &prober{keyAt: keyAt, local: local, known: map[string]probe{}, groups: map[string]*rate.Limiter{}}
}

// at returns the first of a's addresses that has a's key, and its group.
func (p *prober) at(ctx context.Context, a Announcement) (address, group string, err error) {
	for _, address := range a.Addresses[:min(len(a.Addresses), maxAsked)] {
		u, e := ParseAddress(address)
		if e == nil {
			group = reach.Group(u)
			e = p.has(ctx, u, address, group, a.Provider)
		}
		if e == nil {
			return address, group, nil
		}
		err = errors.Join(err, e)
	}
	return "", "", err
}

// has checks that a provider is at an address.
func (p *prober) has(ctx context.Context, u *url.URL, address, group string, provider htlcdash.ProviderID) error {
	if !p.local && reach.IsLocal(u.Hostname()) {
		return fmt.Errorf("%s: %w", address, reach.ErrLocal)
	}
	key, err := p.key(ctx, address, group)
	if err == nil && key != provider {
		err = fmt.Errorf("%s is not of provider %s: %w", address, provider, htlcdash.ErrSignature)
	}
	return err
}

func (p *prober) key(ctx context.Context, address, group string) (htlcdash.ProviderID, error) {
	if known, ok := p.recall(address); ok {
		return known.key, known.err
	}
	return p.pending.Do(ctx, address, func(ctx context.Context) (htlcdash.ProviderID, error) {
		if !p.allow(group) {
			return htlcdash.ProviderID{}, fmt.Errorf("%s: %w", address, errOften)
		}
		ask, cancel := context.WithTimeout(ctx, probeTime)
		defer cancel()
		key, err := p.keyAt(ask, address)
		if ctx.Err() == nil {
			p.keep(address, probe{key: key, err: err})
		}
		return key, err
	})
}

func (p *prober) recall(address string) (probe, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.known[address]
	return known, ok && time.Now().Before(known.ends)
}

func (p *prober) keep(address string, a probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	a.ends = now.Add(probeKept)
	if a.err != nil {
		a.ends = now.Add(failureKept)
	}
	if len(p.known) >= maxProbes {
		for k, old := range p.known {
			if !now.Before(old.ends) {
				delete(p.known, k)
			}
		}
	}
	if len(p.known) >= maxProbes {
		clear(p.known)
	}
	p.known[address] = a
}

func (p *prober) allow(group string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.groups[group]
	if l == nil {
		if len(p.groups) >= maxProbes {
			clear(p.groups)
		}
		l = rate.NewLimiter(rate.Every(groupPause), groupBurst)
		p.groups[group] = l
	}
	return l.Allow()
}
