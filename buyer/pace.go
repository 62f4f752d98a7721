package buyer

import (
	"math/rand/v2"
	"sync"
	"time"
)

// A pace is how soon answers come, of one provider or of all: a mean and a mean
// deviation that new answers move, as TCP has them for its timeout (RFC 6298). Who
// has not answered within the mean and four deviations most likely hangs; whoever is
// asked instead sooner, when all are slow, only makes all slower.
type pace struct {
	mu           sync.Mutex
	mean, spread time.Duration
	known        bool
}

// Weights of the newest answer, as shares: 1/8 and 1/4.
const (
	meanShift   = 8
	spreadShift = 4
	deviations  = 4
)

// saw learns of an answer that took so long.
func (p *pace) saw(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known {
		p.mean, p.spread, p.known = took, took/2, true
		return
	}
	p.spread += ((took - p.mean).Abs() - p.spread) / spreadShift
	p.mean += (took - p.mean) / meanShift
}

// waited learns that no answer has come for so long. Less than is usual says nothing.
func (p *pace) waited(long time.Duration) {
	p.mu.Lock()
	usual := p.mean
	p.mu.Unlock()
	if long > usual {
		p.saw(long)
	}
}

// patience is how long to wait for an answer; 0: nothing is known.
func (p *pace) patience() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mean + deviations*p.spread
}

// How long a provider is waited for before another is asked beside it, for want of a
// better reason: within these bounds, and the first while nothing is known.
const (
	firstPatience = 3 * time.Second
	leastPatience = time.Second
	mostPatience  = answerTimeout
)

// answerTimeout bounds the wait for one answer of a provider: longer than an honest
// one takes, since it gives up by then itself. Meanwhile others are asked, see
// patienceWith; what comes late is used all the same.
const answerTimeout = 20 * time.Second

// patienceWith is how long p is waited for before another is asked beside it: as long as
// its own answers take and those of all, whichever is longer. If all are slow,
// another would be, too. It is never twice the same, so that many viewers of one
// provider that hangs do not turn to the next one all at once.
func (b *Buyer) patienceWith(p *peer) time.Duration {
	long := max(p.pace.patience(), b.pace.patience())
	if long == 0 {
		long = firstPatience
	}
	long = min(max(long, leastPatience), mostPatience)
	return long + rand.N(long/8)
}

// A ration bounds second requests for what was asked for already: each first request
// brings a share of one. While few are late, there is always one left; if all are, the
// work that we make grows by that share and no more. Its mutex guards it.
type ration struct {
	mu   sync.Mutex
	left float64
}

const (
	secondShare = 0.2 // second requests, of the first ones
	secondBurst = 3   // that may come at once
)

func newRation() *ration { return &ration{left: secondBurst} }

// first books a first request.
func (r *ration) first() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = min(r.left+secondShare, secondBurst)
}

// second reports whether there may be a second request now, and books it.
func (r *ration) second() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}
