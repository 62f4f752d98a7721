package seller

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// maxWaiting bounds how many proofs of one guest wait for a processor, as a rule.
const maxWaiting = 16

// lanes share few workers among many guests: whoever waits is served in turn,
// one of each lane, so that a guest who asks for much delays each other one by
// one piece of work only. Guests who have paid for something have every second
// turn for themselves: who shows many credentials delays them no more than they
// do each other.
type lanes struct {
	most int // that wait in a lane; 0: maxWaiting
	kept int // workers that serve only who has paid

	mu   sync.Mutex
	free int        // workers
	next int        // whose turn it is: an index of turn
	turn [2][]*lane // that have someone waiting, the next one first: of those who paid, and of others
}

// A lane is where the requests of one guest wait, the oldest first. Its zero
// value is empty. The lanes' mutex guards it.
type lane struct {
	waiting []chan struct{}
	paid    atomic.Bool // its guest has paid
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

// idle reports whether nobody works and nobody waits.
func (q *lanes) idle(workers int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.free == workers
}

// queue returns a ticket that is closed when its holder may work, or nil.
func (q *lanes) queue(l *lane) chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(l.waiting) >= cmp.Or(q.most, maxWaiting) {
		return nil
	}
	ticket := make(chan struct{})
	if q.free > q.kept || q.free > 0 && l.paid.Load() {
		q.free--
		close(ticket)
		return ticket
	}
	if len(l.waiting) == 0 && !slices.Contains(q.turn[0], l) && !slices.Contains(q.turn[1], l) {
		q.line(l)
	}
	l.waiting = append(l.waiting, ticket)
	return ticket
}

// leave hands the worker to the next lane in turn.
func (q *lanes) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free++
	for len(q.turn[0]) > 0 || len(q.turn[1]) > 0 && q.free > q.kept {
		q.next = 1 - q.next
		if len(q.turn[q.next]) == 0 || q.next == 1 && q.free <= q.kept {
			continue
		}
		l := q.turn[q.next][0]
		q.turn[q.next] = q.turn[q.next][1:]
		if len(l.waiting) == 0 {
			continue // they went away
		}
		ticket := l.waiting[0]
		l.waiting = l.waiting[1:]
		if len(l.waiting) > 0 {
			q.line(l)
		}
		q.free--
		close(ticket)
		return
	}
}

// line puts l last among its like.
func (q *lanes) line(l *lane) {
	i := 1
	if l.paid.Load() {
		i = 0
	}
	q.turn[i] = append(q.turn[i], l)
}
