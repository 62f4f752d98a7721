package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/agent"
)

// A gauge tells how fast media comes over the network, payments left out. Zero
// until something was measured.
type gauge struct {
	mu         sync.Mutex
	perMegabit time.Duration    // mean, the newest counting most
	downloads  []agent.Download // oldest first, at most gaugeMemory
	memory     agent.Memory     // of earlier runs. Not changed after New
	prior      float64          // bit/s that it tells; 0: nothing. Not changed after New
}

const (
	gaugeLeast  = 16 << 10         // bytes: of less, the delay says nothing of the rate
	gaugeBrief  = time.Millisecond // what took less came from a cache
	gaugeWeight = 0.4              // of the newest sample
	gaugeMemory = 100              // downloads
)

// add books a download that ends now, at a time of the proxy's clock.
func (g *gauge) add(bytes int64, took, now time.Duration) {
	if bytes < gaugeLeast || took < gaugeBrief {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.downloads) == gaugeMemory {
		g.downloads = append(g.downloads[:0], g.downloads[1:]...)
	}
	g.downloads = append(g.downloads, agent.Download{At: now - took, Took: took, Size: bytes})
	sample := float64(took) * 1e6 / float64(8*bytes)
	if g.perMegabit > 0 {
		sample = gaugeWeight*sample + (1-gaugeWeight)*float64(g.perMegabit)
	}
	g.perMegabit = max(time.Duration(sample), 1)
}

// rate is in bit/s; 0: not known.
func (g *gauge) rate() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.perMegabit == 0 {
		return 0
	}
	return int64(1e6 * float64(time.Second) / float64(g.perMegabit))
}

// past are the last downloads.
func (g *gauge) past() []agent.Download {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.downloads)
}

// memorySetting is what is remembered of the network.
const memorySetting = "network/memory"

// Recall returns what earlier runs remembered of the network; without an error
// nothing, if there is nothing.
func Recall(ctx context.Context, from Settings) (m agent.Memory, err error) {
	text, err := from.Setting(ctx, memorySetting)
	if errors.Is(err, htlcdash.ErrNotFound) {
		return m, nil
	}
	if err == nil {
		m, err = agent.ParseMemory(text)
	}
	if err != nil {
		return m, fmt.Errorf("what is remembered of the network: %w", err)
	}
	return m, nil
}

// Keep keeps what is to be remembered, if there is something.
func Keep(ctx context.Context, in Settings, m agent.Memory) error {
	if m.Rate == 0 {
		return nil
	}
	return in.Set(ctx, memorySetting, m.String())
}

// recall takes what earlier runs measured, for the first decisions of this one.
func (p *Proxy) recall() {
	if p.settings == nil {
		return
	}
	m, err := Recall(p.ctx, p.settings)
	if err != nil {
		p.log.Warn("begins without it", "error", err)
	}
	p.gauge.memory, p.gauge.prior = m, m.Prior(time.Now())
}

// keep keeps what was measured for the next run.
func (p *Proxy) keep() error {
	if p.settings == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return Keep(ctx, p.settings, p.gauge.memory.Learn(p.gauge.past(), time.Now()))
}

// headroom is how much faster than the best rung the network must be for us to
// run ahead of a player, in percent.
const headroom = 150

// quick reports whether the network is so fast that buying ahead does no harm.
// A player measures the network by how fast we answer. What was bought ahead is
// answered at once, so on a slow network the player would take it for a fast
// one, and ask for more than can come. On such a network the bytes, not the
// payment, are what it waits for, and there is little to gain. f.mu is held.
func (f *film) quick() bool {
	rate := f.proxy.gauge.rate()
	return rate == 0 || rate*100 >= f.best()*headroom
}

// best is the bandwidth of the best rung that the budget carries. f.mu is held.
func (f *film) best() int64 {
	if f.top > 0 {
		return f.top
	}
	return f.main()[len(f.main())-1].Bandwidth
}

// measures reports whether pieces of p's kind tell the rate: small ones, such
// as sound beside a picture, tell the delay.
func (f *film) measures(p piece) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return p.index >= 0 && p.rep.ContentType == f.main()[0].ContentType
}

// download fetches the sealed bytes of p, which costs nothing, and measures the
// network by it.
func (f *film) download(p piece) {
	n, err := f.stock.length(f.proxy.ctx, p.rep, p.index)
	if err != nil {
		return
	}
	began := time.Now()
	if f.stock.download(f.proxy.ctx, p.rep, p.index) == nil && f.measures(p) {
		f.proxy.gauge.add(n, time.Since(began), f.proxy.clock())
	}
}
