package player

import (
	"context"
	"sync"
	"time"

	"htlcdash/internal/dash"
)

// An outlet hands segments to a sink, in a goroutine of its own, since one at the
// other end of a pipe may take its time.
type outlet struct {
	sink Sink
	todo chan delivery
	done sync.WaitGroup

	mu  sync.Mutex
	err error // the first; nothing is handed over after it
}

type delivery struct {
	track      int
	rep        *dash.Representation
	index      int
	init, data []byte
}

// backlog is how many segments a slow sink may be behind before the player waits
// for it.
const backlog = 64

func newOutlet(s Sink) *outlet {
	o := &outlet{sink: s, todo: make(chan delivery, backlog)}
	o.done.Go(func() {
		for d := range o.todo {
			if o.failed() == nil && s != nil {
				o.fail(s.Segment(d.track, d.rep, d.index, d.init, d.data))
			}
		}
	})
	return o
}

// put waits where the sink is far behind.
func (o *outlet) put(ctx context.Context, p *parcel, init []byte) {
	select {
	case o.todo <- delivery{p.track, p.rep, p.segment, init, p.data}:
	case <-ctx.Done():
		o.fail(ctx.Err())
	}
}

func (o *outlet) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
}

func (o *outlet) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// close waits until all is handed over, and returns what went wrong. Once ctx is
// done it waits for a moment only: nobody may read at the other end any more.
func (o *outlet) close(ctx context.Context) error {
	close(o.todo)
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.done.Wait()
	}()
	select {
	case <-done:
		return o.failed()
	case <-ctx.Done():
	}
	o.fail(ctx.Err())
	select {
	case <-done:
	case <-time.After(lastWord):
	}
	return nil
}

// lastWord is how long a sink may take to end when nothing more comes.
const lastWord = time.Second
