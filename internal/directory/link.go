package directory

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"htlcdash/internal/nostr"
)

const (
	maxQueued   = 4096 // events that wait for a peer; more are sent when it is reached anew
	publishTime = 20 * time.Second
	shortWait   = time.Second // after a peer said that we are too fast
	longWait    = time.Minute
)

// A link exchanges announcements with one peer.
type link struct {
	h       *Host
	address string
	place   string // of what comes from there
	foreign bool   // a Nostr relay, not a provider: it gets only what is ours
	learnt  bool   // nobody configured it
	client  *nostr.Client
	ctx     context.Context // ends with stop
	stop    context.CancelFunc

	mu     sync.Mutex
	queue  map[nostr.Address]nostr.Event
	order  []nostr.Address
	wake   chan struct{} // holds one if there is something in the queue
	busy   bool          // one is being sent
	waiter []chan struct{}
}

func (h *Host) newLink(address, place string, via *http.Client) (*link, error) {
	client, err := nostr.NewClient(socketOf(address), nostr.ClientConfig{HTTP: via, Pause: h.c.Pause, Log: h.c.Log})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	return &link{
		h: h, address: address, place: place, foreign: !strings.HasPrefix(address, "http"), client: client, ctx: ctx, stop: stop,
		queue: map[nostr.Address]nostr.Event{}, wake: make(chan struct{}, 1),
	}, nil
}

// run exchanges until ctx is done or stop is called.
func (l *link) run(ctx context.Context) {
	defer context.AfterFunc(ctx, l.stop)()
	var work sync.WaitGroup
	work.Go(func() { l.client.Run(l.ctx) })
	work.Go(func() { l.pull(l.ctx) })
	work.Go(func() { l.send(l.ctx) })
	work.Wait()
}

// pull takes what the peer has. When that was all, the peer gets what it
// lacks.
func (l *link) pull(ctx context.Context) {
	has := map[nostr.ID]bool{}
	take := func(e nostr.Event) {
		if len(has) < 2*nostr.MaxAnswer {
			has[e.ID] = true
		}
		_, _ = l.h.relay.Add(e, l.place) // what is not wanted is nobody's fault
	}
	all := func() {
		for _, e := range l.due() {
			if !has[e.ID] {
				l.push(e)
			}
		}
		clear(has)
	}
	for ctx.Err() == nil {
		err := l.client.Subscribe(ctx, take, all, nostr.Filter{Kinds: []int{Kind}})
		if errors.Is(err, nostr.ErrRefused) {
			l.h.c.Log.Debug("peer refuses", "peer", l.address, "err", err)
		}
		wait(ctx, longWait)
	}
}

// due is what a peer is to have of us.
func (l *link) due() []nostr.Event {
	if !l.foreign {
		return l.h.relay.Query(nostr.MaxAnswer, nostr.Filter{Kinds: []int{Kind}})
	}
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	var out []nostr.Event
	for _, o := range l.h.own {
		out = append(out, o.event)
	}
	return out
}

// push queues an event for the peer, in place of an older one at its address.
func (l *link) push(e nostr.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := e.Address()
	old, waits := l.queue[at]
	switch {
	case waits && !e.Newer(old):
		return
	case !waits && len(l.order) >= maxQueued:
		return
	case !waits:
		l.order = append(l.order, at)
	}
	l.queue[at] = e
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// pop takes the next event out of the queue, if there is one.
func (l *link) pop() (e nostr.Event, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.order) == 0 {
		l.busy = false
		for _, w := range l.waiter {
			close(w)
		}
		l.waiter = nil
		return e, false
	}
	at := l.order[0]
	l.order = l.order[1:]
	e = l.queue[at]
	delete(l.queue, at)
	l.busy = true
	return e, true
}

// idle is closed when nothing waits for the peer.
func (l *link) idle() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan struct{})
	if len(l.order) == 0 && !l.busy {
		close(c)
	} else {
		l.waiter = append(l.waiter, c)
	}
	return c
}

// send sends what is queued, one event after the other.
func (l *link) send(ctx context.Context) {
	pause := shortWait
	for ctx.Err() == nil {
		e, ok := l.pop()
		if !ok {
			select {
			case <-l.wake:
			case <-ctx.Done():
			}
			continue
		}
		if e.Expired(time.Now()) {
			continue
		}
		publish, cancel := context.WithTimeout(ctx, publishTime)
		err := l.client.Publish(publish, e)
		cancel()
		refusal, refused := errors.AsType[*nostr.Refusal](err)
		switch {
		case err == nil:
			pause = shortWait
		case refused && !refusal.Later():
			level := slog.LevelDebug
			if e.PubKey == nostr.Key(l.h.c.Key.ID()) {
				level = slog.LevelWarn
			}
			l.h.c.Log.Log(ctx, level, "peer does not take an announcement", "peer", l.address, "err", err)
		default: // too fast, or there is no connection
			l.push(e)
			wait(ctx, pause)
			pause = min(2*pause, longWait)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Peers are the relays that this host exchanges announcements with.
func (h *Host) Peers() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.links))
}
