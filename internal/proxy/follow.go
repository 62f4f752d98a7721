package proxy

import (
	"slices"
	"time"

	"htlcdash/buyer"
)

// rewatch is the pause before watching anew, after the buyer has dropped a
// watcher that lagged behind.
const rewatch = 100 * time.Millisecond

// follow books what the buyer buys and wakes those who watch.
func (p *Proxy) follow() {
	for p.ctx.Err() == nil {
		for b := range p.buyer.Watch(p.ctx) {
			p.book(b)
			p.changed()
		}
		select {
		case <-time.After(rewatch):
		case <-p.ctx.Done():
		}
	}
}

func (p *Proxy) book(b buyer.Purchase) {
	f, err := p.film(b.Title.String())
	if err != nil || b.State == "" {
		return // another proxy's title, or only the account changed
	}
	if rep := f.reps[b.Representation]; rep != nil && b.State == "paid" && b.Index < len(rep.Segments) {
		p.measure(f, piece{rep, b.Index}, b.Bytes)
		if err := f.learn(rep); err != nil {
			p.log.Warn("seals of what was bought", "title", f.name, "representation", rep.ID, "error", err)
		}
		f.mu.Lock()
		from, to := f.opens(piece{rep, b.Index})
		f.tally.buy(rep, from, to, b.Amount+b.Fee)
		if !b.Lost {
			f.own(piece{rep, b.Index})
		}
		f.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent = append(p.recent, b)
	if len(p.recent) > maxRecent {
		p.recent = append(p.recent[:0], p.recent[len(p.recent)-maxRecent:]...)
	}
	p.booked++
}

// measure takes what the buyer tells of a download.
func (p *Proxy) measure(f *film, at piece, took time.Duration) {
	if n, err := f.stock.length(p.ctx, at.rep, at.index); err == nil && f.measures(at) {
		p.gauge.add(n, took, p.clock())
	}
}

// recall learns from the books what earlier runs bought.
func (f *film) recall() {
	for b, err := range f.proxy.purchases(f.proxy.ctx, f.id, 0) {
		if err != nil {
			f.proxy.log.Warn("purchases of earlier runs", "title", f.name, "error", err)
			return
		}
		if rep := f.reps[b.Representation]; rep != nil && b.State == "paid" && !b.Lost {
			f.mu.Lock()
			f.own(piece{rep, b.Index})
			f.mu.Unlock()
		}
	}
	f.proxy.changed()
}

// bookmark says where the news stand; since gives those after it.
func (p *Proxy) bookmark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.booked
}

// since gives the news of a film after a bookmark, oldest first, as far as they
// are remembered, and a new bookmark. A purchase is in it each time that its
// state changed.
func (p *Proxy) since(mark int, f *film) (news []PurchaseReport, next int) {
	p.mu.Lock()
	next = p.booked
	recent := slices.Clone(p.recent[max(len(p.recent)-(next-mark), 0):])
	p.mu.Unlock()
	for _, b := range recent {
		if f != nil && b.Title == f.id {
			news = append(news, f.purchase(b))
		}
	}
	return news, next
}

// admit lets one more page watch; dismiss ends that.
func (p *Proxy) admit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers == maxWatchers {
		return false
	}
	p.watchers++
	return true
}

func (p *Proxy) dismiss() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers--
}
