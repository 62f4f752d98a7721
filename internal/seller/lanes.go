package seller

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxWaiting bounds how many proofs of one guest wait for a processor, as a rule.
const maxWaiting = 16

// lanes share few workers among many guests: whoever waits is served in turn,
// one of each lane, so that a guest who asks for much delays each other one by
// one piece of work only. Guests who have paid for something have every second
// turn for themselves: who shows many credentials delays them no more than they
// do each other.
type lanes struct {
	most     int           // that wait in a lane; 0: maxWaiting
	kept     int           // workers that serve only who has paid
	patience time.Duration // that who waits has, as a rule; 0: any

	mu   sync.Mutex
	free int           // workers
	busy int           // workers
	took time.Duration // by a piece of work, of late; 0: not known
	next int           // whose turn it is: an index of turn
	turn [2][]*lane    // that have someone waiting, the next one first: of those who paid, and of others
}

// A lane is where the requests of one guest wait, the oldest first. Its zero
// value is empty. The lanes' mutex guards it.
type lane struct {
	waiting []chan struct{}
	paid    atomic.Bool // its guest has paid
}

// enter waits for a worker. The caller must call leave. The error matches
// errBusy if too many of the lane wait already; it is an errOverload if its turn would
// come too late.
func (q *lanes) enter(ctx context.Context, l *lane) (leave func(), err error) {
	ticket, err := q.queue(l)
	if err != nil {
		return nil, err
	}
	select {
	case <-ticket:
		if ctx.Err() == nil {
			return q.work(), nil
		}
		q.leave() // who asked went away meanwhile
		return nil, context.Cause(ctx)
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

// An errOverload means that there is more work than can be done in time. It matches
// errBusy.
type errOverload struct{ wait time.Duration } // until there is less

func (e errOverload) Error() string { return "too much work at the moment: ask again later" }

func (errOverload) Is(target error) bool { return target == errBusy }

// newest is the weight of the newest piece of work, as a share: 1/8.
const newest = 8

// work measures how long a piece of work takes. What it returns ends it.
func (q *lanes) work() (leave func()) {
	began := time.Now()
	return func() {
		took := time.Since(began)
		q.mu.Lock()
		if q.took == 0 {
			q.took = took
		}
		q.took += (took - q.took) / newest
		q.mu.Unlock()
		q.leave()
	}
}

// overload reports, without queueing, that one more of l would be refused.
func (q *lanes) overload(l *lane) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tooLate(l)
}

// tooLate refuses what would have to wait for longer than who asks does. It counts the
// turns that come before: one of each lane like l for each that waits in l, and as many
// of the other kind. So who asks for much is refused before who asks for little. It
// needs q.mu.
func (q *lanes) tooLate(l *lane) error {
	kind, workers := 1, q.free+q.busy-q.kept
	if l.paid.Load() {
		kind, workers = 0, q.free+q.busy
	}
	if q.patience == 0 || q.free > 0 && workers > q.busy {
		return nil
	}
	turns := (len(l.waiting) + 1) * max(len(q.turn[kind]), 1)
	turns += min(turns, len(q.turn[1-kind]))
	wait := q.took * time.Duration(turns) / time.Duration(max(workers, 1))
	if wait <= q.patience {
		return nil
	}
	return errOverload{wait}
}

// queue returns a ticket that is closed when its holder may work.
func (q *lanes) queue(l *lane) (chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(l.waiting) >= cmp.Or(q.most, maxWaiting) {
		return nil, errBusy
	}
	if err := q.tooLate(l); err != nil {
		return nil, err
	}
	ticket := make(chan struct{})
	if q.free > q.kept || q.free > 0 && l.paid.Load() {
		q.free, q.busy = q.free-1, q.busy+1
		close(ticket)
		return ticket, nil
	}
	if len(l.waiting) == 0 && !slices.Contains(q.turn[0], l) && !slices.Contains(q.turn[1], l) {
		q.line(l)
	}
	l.waiting = append(l.waiting, ticket)
	return ticket, nil
}

// leave hands the worker to the next lane in turn.
func (q *lanes) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free, q.busy = q.free+1, q.busy-1
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
		q.free, q.busy = q.free-1, q.busy+1
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
