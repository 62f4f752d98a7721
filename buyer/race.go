package buyer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/agent/market"
)

// A race is the way to a quote that can be paid: it has an offer and a proof.
// Bidders are asked one after another, the next one as soon as one fails, or
// beside it when it is late (hedging). Nothing is paid in a race, so it may cost
// a second provider's time but no money. Who comes first is paid by the one
// goroutine that runs the race, and nobody else before the outcome is known.
type race struct {
	b    *Buyer
	t    *title
	seg  htlcdash.Segment
	ctx  context.Context // of the runners; kept because they outlive single calls
	end  context.CancelFunc
	work sync.WaitGroup

	left    []bidder // not started, the best first
	running map[*peer]runner
	came    chan finish
	errs    []error
	latest  *peer     // that was started
	late    time.Time // when it is late: another one is worth its trouble
	hung    time.Time // when it seems to hang
}

// A runner is a bidder that was asked.
type runner struct {
	bidder
	since  time.Time
	beside bool // another, which was late
}

type finish struct {
	runner
	quote *quote
	err   error
}

// atOnce bounds the runners: the second is asked when the first is late, and the
// third, since two may be hanging, when both are.
const atOnce = 3

func (b *Buyer) race(ctx context.Context, t *title, seg htlcdash.Segment) *race {
	order := b.choose(ctx, t, seg)
	t.favour.forget(wareOf(seg)) // who comes again has failed, and chooses anew
	b.ration.first()
	r := &race{b: b, t: t, seg: seg, left: order, running: make(map[*peer]runner), came: make(chan finish, len(order)+1)}
	r.ctx, r.end = context.WithCancel(ctx)
	return r
}

// next returns the next quote that can be paid. The error matches [ErrNoOffer]
// when no bidder is left, or is ctx's.
func (r *race) next(ctx context.Context) (*quote, error) {
	for {
		if len(r.running) == 0 && !r.start() {
			return nil, fmt.Errorf("no provider sells segment %d of %s: %w", r.seg.Index, r.seg.Representation,
				errors.Join(append([]error{ErrNoOffer}, r.errs...)...))
		}
		help, stop := r.help()
		select {
		case f := <-r.came:
			stop()
			if q := r.judge(f); q != nil {
				return q, nil
			}
		case <-help:
			if time.Now().Before(r.hung) && !r.b.ration.second() {
				r.late = r.hung // too many are late: another one would be, too
				continue
			}
			r.b.c.Log.Info("provider is late, asking another beside it", "provider", r.latest.URL(), "segment", r.seg.Index, "representation", r.seg.Representation)
			r.start()
		case <-ctx.Done():
			stop()
			return nil, ctx.Err()
		}
	}
}

// start sends the next bidder on its way, if there is one.
func (r *race) start() bool {
	if len(r.left) == 0 {
		return false
	}
	run := runner{r.left[0], time.Now(), len(r.running) > 0}
	r.left = r.left[1:]
	r.running[run.peer] = run
	r.latest = run.peer
	if len(r.left) > 0 {
		r.late = run.since.Add(r.b.market.HedgeAfter(run.since, run.Candidate, r.left[0].Candidate, needOf(r.ctx, r.seg, 1)))
		r.hung = run.since.Add(r.b.patienceWith(run.peer))
	}
	r.work.Go(func() {
		q, err := r.b.bid(r.ctx, r.t, r.seg, run.peer, run.beside)
		r.came <- finish{run, q, err}
	})
	return true
}

// help says when the latest runner is late. It never does where nobody could
// help.
func (r *race) help() (late <-chan time.Time, stop func() bool) {
	if len(r.left) == 0 || r.left[0].reserve || len(r.running) >= atOnce {
		return nil, func() bool { return true }
	}
	timer := time.NewTimer(time.Until(r.late))
	return timer.C, timer.Stop
}

// judge takes a runner out of the race, with the quote that it brought.
func (r *race) judge(f finish) *quote {
	delete(r.running, f.peer)
	switch {
	case f.err == nil:
		r.outrun(f.runner)
		return f.quote
	case errors.Is(f.err, errTokensCost): // it may turn out to be the only one
		f.reserve = true
		r.left = append(r.left, f.bidder)
	default:
		r.errs = append(r.errs, f.err)
	}
	if f.peer == r.latest {
		r.late = time.Now() // those who still run were late before
	}
	return nil
}

// outrun tells the market of those who were asked before the winner and did not
// come.
func (r *race) outrun(winner runner) {
	for p, run := range r.running {
		if run.since.Before(winner.since) {
			took := time.Since(run.since)
			p.pace.waited(took)
			r.b.pace.waited(took)
			r.b.c.Log.Info("provider gives way to a quicker one", "provider", p.URL(), "waited", took, "to", winner.URL())
			r.b.observe(p, market.Outcome{Kind: market.Late, Took: took, Ceiling: r.seg.Price})
		}
	}
}

// close ends the race, and keeps what was quoted and not used.
func (r *race) close() {
	r.end()
	r.work.Wait()
	for {
		select {
		case f := <-r.came:
			if f.quote != nil {
				r.b.desk.put(r.seg, f.quote)
			}
		default:
			return
		}
	}
}

// bid gets a quote of p for seg that is proved. Beside another's it buys no
// credentials.
func (b *Buyer) bid(ctx context.Context, t *title, seg htlcdash.Segment, p *peer, beside bool) (*quote, error) {
	if err := p.rest(ctx); err != nil {
		return nil, err
	}
	for renewed := false; ; renewed = true {
		q, err := b.quote(ctx, t, seg, p, beside)
		if err != nil {
			return nil, err
		}
		err = b.prove(t, seg, q).wait(ctx)
		if err == nil {
			return q, nil
		}
		if ctx.Err() != nil {
			b.desk.put(seg, q) // not used
			return nil, ctx.Err()
		}
		if renewed || !errors.Is(err, errOldPass) {
			return nil, err
		} // else the next offer is under a new credential
	}
}
