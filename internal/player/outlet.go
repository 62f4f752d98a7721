package player

import (
	"context"
	"sync"
	"time"

	"htlcdash/internal/dash"
)

// An outlet hands segments to a sink, and closes it, in a goroutine of its own,
// since one at the other end of a pipe may take its time.
type outlet struct {
	sink Sink
	todo chan delivery
	done sync.WaitGroup

	mu    sync.Mutex
	err   error         // the first; nothing is handed over after it
	bytes int64         // of segments that wait
	less  chan struct{} // has one after bytes became less
}

type delivery struct {
	track      int
	rep        *dash.Representation
	index      int
	init, data []byte
}

// A slow sink may be that much behind before the player waits for it.
const (
	backlog      = 64       // segments
	backlogBytes = 64 << 20 // or one, if it has more
)

func newOutlet(s Sink) *outlet {
	o := &outlet{sink: s, todo: make(chan delivery, backlog), less: make(chan struct{}, 1)}
	o.done.Go(func() {
		for d := range o.todo {
			if o.failed() == nil && s != nil {
				o.fail(s.Segment(d.track, d.rep, d.index, d.init, d.data))
			}
			o.handed(len(d.init) + len(d.data))
		}
		if s != nil {
			o.fail(s.Close())
		}
	})
	return o
}

// put waits where the sink is far behind.
func (o *outlet) put(ctx context.Context, p *parcel) {
	for !o.room(len(p.init) + len(p.data)) {
		select {
		case <-o.less:
		case <-ctx.Done():
			o.fail(ctx.Err())
			return
		}
	}
	select {
	case o.todo <- delivery{p.track, p.rep, p.segment, p.init, p.data}:
	case <-ctx.Done():
		o.fail(ctx.Err())
	}
}

// room takes some, if there is.
func (o *outlet) room(n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes > 0 && o.bytes+int64(n) > backlogBytes {
		return false
	}
	o.bytes += int64(n)
	return true
}

// handed gives it back.
func (o *outlet) handed(n int) {
	o.mu.Lock()
	o.bytes -= int64(n)
	o.mu.Unlock()
	select {
	case o.less <- struct{}{}:
	default:
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

// close waits until all is handed over and the sink is closed, and returns what went
// wrong. Once ctx is done it waits for a moment only: nobody may read at the other
// end any more. The sink is closed then when it gives back what it has.
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
