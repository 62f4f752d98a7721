package player

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"htlcdash/agent"
	"htlcdash/buyer"
	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// How a failure is met: by pauses that grow, and after a while by another rung.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 4 * time.Second
	sameAgain  = 2 // times that the same rung is tried again
)

// maxAbandoned bounds the downloads that are given up for one segment.
const maxAbandoned = 4

// past is how many downloads a policy is told of at least.
const past = 500

// fetch gets the bytes of a segment, or of another rung of it: because the policy
// changes its mind, or because it cannot be had.
func (r *run) fetch(ctx context.Context, p *parcel) error {
	p.asked = r.state.Now
	if p.rep == nil {
		return nil
	}
	began := r.state.Now
	for fails := 1; ; fails++ {
		r.noteSwitch(p)
		err := r.download(ctx, p)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrStopped) || errors.Is(err, ErrMoney) {
			return err
		}
		if r.state.Now-began >= r.c.GiveUp {
			return fmt.Errorf("segment %d of %s is not to be had: %w", p.segment, p.rep.ID, err)
		}
		r.retry(p, err)
		if err := r.pass(ctx, min(firstPause<<min(fails-1, 10), lastPause)); err != nil {
			return err
		}
		if n := len(r.c.Menu.Tracks[p.track].Segments[p.index].Rungs); fails >= sameAgain && p.fresh {
			r.count()
			if err := r.choose(p, (p.rung+n-1)%n); err != nil {
				return err
			}
		}
	}
}

func (r *run) retry(p *parcel, err error) {
	r.c.Log.Debug("tried again", "representation", p.rep.ID, "segment", p.segment, "err", err)
	e := r.about(p, Retry)
	e.Why = err.Error()
	r.emit(e)
}

// needed says in a context when p is to be played, if the picture moves: when
// what comes before it has been.
func (r *run) needed(ctx context.Context, p *parcel) context.Context {
	if !r.moving || r.c.Fast {
		return ctx
	}
	in := r.state.Buffer[p.track]
	for _, before := range r.onWay[p.track] {
		if before.index < p.index {
			in += before.media
		}
	}
	if who, ok := r.c.Policy.(hasty); ok && r.state.Left != agent.NoLimit {
		ctx = buyer.WaitingCosts(ctx, who.Haste(r.state))
	}
	return buyer.NeededBy(ctx, time.Now().Add(time.Duration(float64(in)/r.c.Speed)))
}

// A hasty policy says what a second of waiting less is worth.
type hasty interface {
	Haste(agent.State) lightning.Msat
}

// A transfer is a download under way.
type transfer struct {
	got        atomic.Int64
	stop       context.CancelFunc
	waste      context.CancelFunc // ends what was begun for its key
	done       chan struct{}      // closed when the rest is set
	data, init []byte
	err        error
}

// start begins to fetch, and what a decoder needs besides.
func (r *run) start(ctx context.Context, p *parcel) *transfer {
	ctx = r.needed(ctx, p)
	ahead, waste := context.WithCancel(ctx)
	ctx, stop := context.WithCancel(ctx)
	t := &transfer{stop: stop, waste: waste, done: make(chan struct{})}
	rep, index := p.rep, p.segment
	_, known := r.inits.get(rep.ID)
	r.work.Go(func() {
		defer waste()
		r.c.Stock.Ready(ahead, rep, index)
	})
	r.work.Go(func() {
		defer close(t.done)
		head := make(chan error, 1)
		go func() { head <- t.head(ctx, r.c.Stock, rep, known) }()
		t.data, t.err = r.c.Stock.Download(ctx, rep, index, func(n int) { t.got.Add(int64(n)) })
		if t.err != nil {
			stop()
		}
		if err := <-head; t.err == nil {
			t.err = err
		}
	})
	return t
}

// heads are the initialization segments that are kept, by Representation.
type heads struct {
	kept  map[string][]byte
	bytes int
}

// maxHeads is how many bytes of them are kept; what is forgotten is fetched again.
const maxHeads = 64 << 20

func (h *heads) get(rep string) (b []byte, ok bool) {
	b, ok = h.kept[rep]
	return b, ok
}

func (h *heads) put(rep string, b []byte) {
	if h.bytes += len(b); h.kept == nil || h.bytes > maxHeads {
		h.kept, h.bytes = map[string][]byte{}, len(b)
	}
	h.kept[rep] = b
}

func (t *transfer) head(ctx context.Context, s Stock, rep *dash.Representation, known bool) (err error) {
	if known {
		return nil
	}
	t.init, err = s.Init(ctx, rep)
	return err
}

// download fetches a segment once; several times, if the policy gives a download
// up for another rung.
func (r *run) download(ctx context.Context, p *parcel) error {
	watcher, _ := r.c.Policy.(agent.Abandoner)
	for abandoned := 0; ; abandoned++ {
		asked := r.state.Now
		t := r.start(ctx, p)
		rung, given, err := r.watch(ctx, watcher, t, p, abandoned)
		t.stop()
		<-t.done
		if err == nil && !given {
			err = t.err
		}
		if given || err != nil {
			t.waste()
			r.book(asked, t.got.Load())
			r.result.Wasted += t.got.Load()
		}
		if err != nil {
			return err
		}
		if !given {
			r.keep(p, t, asked)
			return nil
		}
		r.emit(r.about(p, Abandoned))
		r.count()
		if err := r.choose(p, rung); err != nil {
			return err
		}
		r.noteSwitch(p)
	}
}

// keep takes what was fetched.
func (r *run) keep(p *parcel, t *transfer, asked time.Duration) {
	if p.init, _ = r.inits.get(p.rep.ID); p.init == nil {
		p.init = t.init
		r.inits.put(p.rep.ID, t.init)
	}
	p.raw, p.bytes, p.took = t.data, t.got.Load(), r.state.Now-asked
	if p.bytes > 0 { // else it was in a cache, and says nothing of the network
		r.book(asked, p.bytes)
	}
}

// watch lets time go by until a download ends or is given up.
func (r *run) watch(ctx context.Context, w agent.Abandoner, t *transfer, p *parcel, before int) (rung int, given bool, err error) {
	since := r.state.Now
	if w == nil || before == maxAbandoned || !p.fresh {
		return 0, false, r.await(ctx, forever, t.done)
	}
	size := r.c.Menu.Tracks[p.track].Segments[p.index].Rungs[p.rung].Size
	for look := since + r.c.Look; ; look += r.c.Look {
		if err := r.await(ctx, look, t.done); err != nil {
			return 0, false, err
		}
		select {
		case <-t.done:
			return 0, false, nil
		default:
		}
		if rung, ok := w.Abandon(r.state, agent.Progress{Rung: p.rung, Since: since, Got: min(t.got.Load(), size)}); ok && rung != p.rung && r.valid(p, rung) {
			return rung, true, nil
		}
	}
}

func (r *run) valid(p *parcel, rung int) bool {
	return rung >= 0 && rung < len(r.c.Menu.Tracks[p.track].Segments[p.index].Rungs)
}

// book keeps what a download tells of the network.
func (r *run) book(asked time.Duration, size int64) {
	r.result.Bytes += size
	d := agent.Download{At: asked, Took: r.state.Now - asked, Size: size}
	r.rate = d.Rate()
	r.state.Past = append(r.state.Past, d)
	if len(r.state.Past) > 2*past {
		r.state.Past = append(r.state.Past[:0:0], r.state.Past[past:]...)
	}
}
