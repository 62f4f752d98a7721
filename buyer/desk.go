package buyer

import (
	"context"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// A quote is an offer that was checked against its seal. It is paid at most
// once.
type quote struct {
	peer           *peer
	exchange.Offer // by this name, so that its salt does not print
	inv            lightning.Invoice
	signer         htlcdash.ProviderID
	ceiling        lightning.Msat // the publisher's price; 0: not of a segment
	pass           *pass          // that it was made to
	took           time.Duration  // to ask for it
	waited         bool           // that was waited for: it was not asked for ahead
	proof          *proving       // nil: not asked for yet; guarded by Buyer.mu
	promise        []byte         // of a chunk: what was signed, and
	parcel         []byte         // what the key opens
	resale         *bounds        // of the payment, where another's is held for it; else nil
}

// A desk keeps quotes until they are used or too old, at most one of each peer
// for a key, and knows which are being asked for.
type desk struct {
	mu     sync.Mutex
	quotes map[ware]map[*peer]*quote
	asking map[errand]chan struct{} // closed when the answer is in
}

func newDesk() *desk {
	return &desk{quotes: make(map[ware]map[*peer]*quote), asking: make(map[errand]chan struct{})}
}

// A ware is a key as a title sells it: a quote for any of the segments that the
// key opens will do for the others, whose seals have the same ceiling.
type ware struct {
	title htlcdash.TitleID
	key   [32]byte // its hash
	price lightning.Msat
}

func wareOf(seg htlcdash.Segment) ware { return ware{seg.Title, seg.KeyHash, seg.Price} }

// An errand is to ask a peer for a ware.
type errand struct {
	ware
	peer *peer
}

// margin is the life that a quote needs, so that a payment does not arrive at
// an invoice that has expired.
const margin = 20 * time.Second

func (q *quote) usable(now time.Time) bool {
	then := now.Add(margin)
	return then.Before(q.Expires) && !q.inv.Expired(then) && q.peer.ok()
}

// take removes and returns a usable quote of p. If there is none it returns a
// channel to wait on, or leave to ask: then the caller must call asked.
func (d *desk) take(seg htlcdash.Segment, p *peer) (q *quote, wait chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := wareOf(seg)
	if q, ok := d.quotes[w][p]; ok {
		d.remove(w, p)
		if q.usable(time.Now()) {
			return q, nil
		}
	}
	if wait, ok := d.asking[errand{w, p}]; ok {
		return nil, wait
	}
	d.asking[errand{w, p}] = make(chan struct{})
	return nil, nil
}

// remove needs d.mu.
func (d *desk) remove(w ware, p *peer) {
	delete(d.quotes[w], p)
	if len(d.quotes[w]) == 0 {
		delete(d.quotes, w)
	}
}

// wanted returns those of segs for which p has given no usable quote and is not
// being asked, one for each key. The caller must call asked for them.
func (d *desk) wanted(segs []htlcdash.Segment, p *peer) (out []htlcdash.Segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, seg := range segs {
		w := wareOf(seg)
		q, ok := d.quotes[w][p]
		if _, busy := d.asking[errand{w, p}]; busy || (ok && q.usable(now)) {
			continue
		}
		d.asking[errand{w, p}] = make(chan struct{})
		out = append(out, seg)
	}
	return out
}

// look returns the usable quote of p for seg and leaves it where it is, or nil
// if there is none. It waits if one is being asked for.
func (d *desk) look(ctx context.Context, seg htlcdash.Segment, p *peer) (*quote, error) {
	w := wareOf(seg)
	for {
		d.mu.Lock()
		q, wait := d.quotes[w][p], d.asking[errand{w, p}]
		d.mu.Unlock()
		if q != nil && q.usable(time.Now()) {
			return q, nil
		}
		if wait == nil {
			return nil, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// asks returns what each peer that has quoted seg asks for it.
func (d *desk) asks(seg htlcdash.Segment) map[*peer]lightning.Msat {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	prices := make(map[*peer]lightning.Msat)
	for p, q := range d.quotes[wareOf(seg)] {
		if q.usable(now) {
			prices[p] = q.Price
		}
	}
	return prices
}

// lacking returns those of segs that none of some peers has quoted.
func (d *desk) lacking(segs []htlcdash.Segment, peers []*peer) (out []htlcdash.Segment) {
	for _, seg := range segs {
		quoted := d.asks(seg)
		if !slices.ContainsFunc(peers, func(p *peer) bool { _, ok := quoted[p]; return ok }) {
			out = append(out, seg)
		}
	}
	return out
}

// drop forgets q, unless somebody has taken it.
func (d *desk) drop(seg htlcdash.Segment, q *quote) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := wareOf(seg); d.quotes[w][q.peer] == q {
		d.remove(w, q.peer)
	}
}

func (d *desk) asked(segs []htlcdash.Segment, p *peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, seg := range segs {
		e := errand{wareOf(seg), p}
		close(d.asking[e])
		delete(d.asking, e)
	}
}

// put keeps a quote, and forgets those that are too old.
func (d *desk) put(seg htlcdash.Segment, q *quote) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for w, quotes := range d.quotes {
		for p, old := range quotes {
			if !old.usable(now) {
				d.remove(w, p)
			}
		}
	}
	w := wareOf(seg)
	if d.quotes[w] == nil {
		d.quotes[w] = make(map[*peer]*quote)
	}
	d.quotes[w][q.peer] = q
}
