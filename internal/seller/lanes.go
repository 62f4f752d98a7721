package seller

import (
	"context"
	"slices"
	"sync"
)

// maxWaiting bounds how many proofs of one guest wait for a processor.
const maxWaiting = 16

// lanes share few workers among many guests: whoever waits is served in turn,
// one of each lane, so that a guest who asks for much delays each other one by
// one proof only.
type lanes struct {
	mu   sync.Mutex
	free int     // workers
	turn []*lane // that have someone waiting, the next one first
}

// A lane is where the requests of one guest wait, the oldest first. Its zero
// value is empty. The lanes' mutex guards it.
type lane struct {
	waiting []chan struct{}
}

// enter waits for a worker. The caller must call leave. The error matches
// errBusy if too many of the lane wait already.
func (q *lanes) enter(ctx context.Context, l *lane) (leave func(), err error) {
	ticket := q.queue(l)
	if ticket == nil {
		return nil, errBusy
	}
	select {
	case <-ticket:
		return q.leave, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	i := slices.Index(l.waiting, ticket)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	q.mu.Unlock()
	if i < 0 { // it was called while the client went away
		q.leave()
	}
	return nil, context.Cause(ctx)
}

// queue returns a ticket that is closed when its holder may work, or nil.
func (q *lanes) queue(l *lane) chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(l.waiting) >= maxWaiting {
		return nil
	}
	ticket := make(chan struct{})
	if q.free > 0 {
		q.free--
		close(ticket)
		return ticket
	}
	if len(l.waiting) == 0 && !slices.Contains(q.turn, l) {
		q.turn = append(q.turn, l)
	}
	l.waiting = append(l.waiting, ticket)
	return ticket
}

// leave hands the worker to the next lane in turn.
func (q *lanes) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.turn) > 0 {
		l := q.turn[0]
		q.turn = q.turn[1:]
		if len(l.waiting) == 0 {
			continue // they went away
		}
		ticket := l.waiting[0]
		l.waiting = l.waiting[1:]
		if len(l.waiting) > 0 {
			q.turn = append(q.turn, l)
		}
		close(ticket)
		return
	}
	q.free++
}
