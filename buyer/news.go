package buyer

import (
	"context"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// A Purchase is one payment for one segment as a person may see it: without
// its secrets.
type Purchase struct {
	Hash           lightning.Hash   `json:"hash"`
	Title          htlcdash.TitleID `json:"title"`
	Representation string           `json:"rep"`
	Index          int              `json:"index"`
	Provider       string           `json:"provider"`
	Amount         lightning.Msat   `json:"amount_msat"`
	Fee            lightning.Msat   `json:"fee_msat"`
	State          string           `json:"state"`          // "paying", "paid", "failed", "unknown"
	Lost           bool             `json:"lost,omitempty"` // paid, and no key came
	At             time.Time        `json:"at"`
	Offer          time.Duration    `json:"offer_ns"` // asking for the offer; often ahead
	Bytes          time.Duration    `json:"bytes_ns"` // fetching the sealed bytes; 0 if paid beside
	Proof          string           `json:"proof"`    // how the key was proved before it was paid for; empty: it was not
	Proving        time.Duration    `json:"proof_ns"` // getting and verifying the proof; beside the bytes
	Took           time.Duration    `json:"took_ns"`  // from the reservation to the outcome
	Reason         string           `json:"reason,omitempty"`
}

func (f *flight) view(state string) Purchase {
	return Purchase{
		Hash: f.Hash, Title: f.Title, Representation: f.Representation, Index: f.Index, Provider: f.Provider,
		Amount: f.Amount, Fee: f.Fee, State: state, Lost: f.Lost, At: time.Now(),
		Offer: f.offer, Bytes: f.bytes, Proof: f.Proof, Proving: f.proving, Took: time.Since(f.began), Reason: f.Reason,
	}
}

// news tells watchers what happens.
type news struct {
	mu       sync.Mutex
	closed   bool
	watchers map[chan Purchase]bool
}

func newNews() *news { return &news{watchers: make(map[chan Purchase]bool)} }

// backlog is how many events a watcher may lag behind.
const backlog = 256

// Watch gives each purchase when it begins and when its outcome is known, and
// a Purchase with only a title when an account changed otherwise. The channel
// is closed when ctx ends, when the buyer is closed, and when its reader lags
// too far behind: then read the Account again, and watch anew.
func (b *Buyer) Watch(ctx context.Context) <-chan Purchase {
	c := make(chan Purchase, backlog)
	b.news.mu.Lock()
	defer b.news.mu.Unlock()
	if b.news.closed {
		close(c)
		return c
	}
	b.news.watchers[c] = true
	context.AfterFunc(ctx, func() { b.news.drop(c) })
	return c
}

func (n *news) drop(c chan Purchase) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watchers[c] {
		delete(n.watchers, c)
		close(c)
	}
}

func (n *news) tell(p Purchase) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.watchers {
		select {
		case c <- p:
		default:
			delete(n.watchers, c)
			close(c)
		}
	}
}

func (n *news) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for c := range n.watchers {
		close(c)
	}
	clear(n.watchers)
}
