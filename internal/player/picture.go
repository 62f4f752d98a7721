package player

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"htlcdash/agent"
)

const forever = 100 * 365 * 24 * time.Hour

// await lets time go by until a time, or until done is closed: keys arrive, the
// picture moves, or stands still.
func (r *run) await(ctx context.Context, until time.Duration, done <-chan struct{}) error {
	return r.awaitOr(ctx, until, done, func() bool { return false })
}

// awaitKey waits until something that is on its way is here, or lost.
func (r *run) awaitKey(ctx context.Context) error {
	before := r.settled
	return r.awaitOr(ctx, forever, nil, func() bool { return r.settled > before })
}

func (r *run) awaitOr(ctx context.Context, until time.Duration, done <-chan struct{}, enough func() bool) error {
	for {
		r.catchUp(ctx)
		if err := ctx.Err(); err != nil || r.state.Now >= until || enough() {
			return err
		}
		next := until
		if left, ok := r.lasts(); ok {
			next = min(next, r.state.Now+left+time.Millisecond) // to see the picture stop
		}
		alarm := time.NewTimer(r.clock.life(next - r.state.Now))
		select {
		case <-alarm.C:
		case <-r.keys.signal:
		case <-r.beat.C:
			r.emit(Event{What: Tick})
		case <-done:
			r.catchUp(ctx)
			return ctx.Err()
		case <-ctx.Done():
		}
		alarm.Stop()
	}
}

// pass lets a time go by that nothing but the picture fills.
func (r *run) pass(ctx context.Context, d time.Duration) error {
	if r.c.Fast && r.moving {
		r.clock.leap(d)
		d = 0
	}
	return r.await(ctx, r.state.Now+d, nil)
}

// An opened parcel is what became of it.
type opened struct {
	*parcel
	data []byte
	err  error
	at   time.Duration
}

// A mailbox takes what becomes of parcels from those who pay for them.
type mailbox struct {
	signal chan struct{} // has one while there may be something

	mu   sync.Mutex
	list []opened
}

func (m *mailbox) put(o opened) {
	m.mu.Lock()
	m.list = append(m.list, o)
	m.mu.Unlock()
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() (list []opened) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, m.list = m.list, nil
	slices.SortStableFunc(list, func(a, b opened) int { return cmp.Compare(a.at, b.at) })
	return list
}

// catchUp brings the state to the time that it is.
func (r *run) catchUp(ctx context.Context) {
	for _, o := range r.keys.take() {
		r.move(o.at - r.state.Now)
		r.arrive(ctx, o)
	}
	r.move(r.clock.now() - r.state.Now)
}

// arrive takes what became of a parcel: it can be played, or has to be had in
// another way.
func (r *run) arrive(ctx context.Context, o opened) {
	p := o.parcel
	r.settled++
	p.raw, p.pending = nil, false
	if o.err != nil {
		r.lose(p, o.err)
		return
	}
	p.data, p.opened, p.pay = o.data, true, o.at-p.here
	r.bought = r.bought || p.price > 0
	for list := r.onWay[p.track]; len(list) > 0 && list[0].opened; list = r.onWay[p.track] {
		r.onWay[p.track] = list[1:]
		r.show(ctx, list[0])
	}
}

// lose sees to it that a segment whose key could not be had is fetched again.
func (r *run) lose(p *parcel, err error) {
	if p.fails++; p.fails == 1 {
		p.since = r.state.Now
	}
	p.broke = errors.Is(err, ErrMoney) && p.price > 0 // else another segment pays for the key
	if errors.Is(err, ErrStopped) || !p.broke && r.state.Now-p.since >= r.c.GiveUp {
		r.fatal = cmp.Or(r.fatal, err)
	}
	r.retry(p, err)
	r.lost = append(r.lost, p)
}

// show puts a segment into the buffer, and starts the picture when all tracks have
// something.
func (r *run) show(ctx context.Context, p *parcel) {
	r.state.Buffer[p.track] += p.media
	r.shown[p.track]++
	r.emit(r.about(p, Segment))
	if p.rep != nil {
		r.out.put(ctx, p)
	}
	p.data, p.init = nil, nil
	if r.moving {
		return
	}
	for k := range r.state.Buffer {
		if r.state.Buffer[k] == 0 && !r.ended(k) {
			return
		}
	}
	r.moving = true
	if r.state.Playing {
		r.emit(Event{What: Resume})
		return
	}
	r.state.Playing = true
	r.result.Start = r.state.Now
	r.emit(Event{What: Start})
}

// ended reports whether a track has nothing more to give.
func (r *run) ended(k int) bool {
	if r.closing {
		return r.state.Buffer[k] == 0
	}
	return r.state.Next[k] == len(r.c.Menu.Tracks[k].Segments) && r.held(k) == 0
}

// lasts is how long the picture moves with what is in hand. Without ok it stands
// still, or is over.
func (r *run) lasts() (d time.Duration, ok bool) {
	if !r.moving {
		return 0, false
	}
	for k, have := range r.state.Buffer {
		if !r.ended(k) && (!ok || have < d) {
			d, ok = have, true
		}
	}
	return d, ok
}

// move lets a time go by within which nothing arrives.
func (r *run) move(d time.Duration) {
	for d > 0 && r.moving {
		left, ok := r.lasts()
		if !ok { // the end
			break
		}
		if left == 0 {
			r.moving = false
			r.result.Stalls++
			r.emit(Event{What: Stall})
			break
		}
		step := min(left, d)
		for k := range r.state.Buffer {
			r.state.Buffer[k] = max(r.state.Buffer[k]-step, 0)
		}
		r.state.Now += step
		r.played += step
		d -= step
	}
	d = max(d, 0)
	r.state.Now += d
	if r.state.Playing && !r.moving {
		r.result.Stall += d
	}
}

// playOut lets the picture move to the end of what was fetched, which is not the
// whole title if that had to end early.
func (r *run) playOut(ctx context.Context, whole bool) error {
	for r.paying() {
		if err := r.awaitKey(ctx); err != nil {
			return err
		}
	}
	r.closing = !whole
	for left, ok := r.lasts(); ok && !r.broken(); left, ok = r.lasts() {
		if err := r.pass(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

// broken reports whether a track that is not whole has nothing more.
func (r *run) broken() bool {
	for k, t := range r.c.Menu.Tracks {
		if r.closing && r.shown[k] < len(t.Segments) && r.state.Buffer[k] == 0 {
			return true
		}
	}
	return false
}

// paying reports whether keys are on their way.
func (r *run) paying() bool {
	for _, list := range r.onWay {
		if slices.ContainsFunc(list, func(p *parcel) bool { return p.pending }) {
			return true
		}
	}
	return false
}

// finish adds up what was played.
func (r *run) finish(err error) Result {
	for k := range r.result.Rungs {
		r.result.Rungs[k] = r.result.Rungs[k][:r.shown[k]]
	}
	r.result.Score(r.c.Menu.Title, r.c.Weights)
	m := r.c.Stock.Money()
	r.result.Spent, r.result.Fees, r.result.Played = m.Spent, m.Fees, r.played
	r.result.Memory = r.learnt()
	end := Event{What: End, Result: &r.result}
	if err != nil {
		end.Why = err.Error()
	}
	r.emit(end)
	return r.result
}

// learnt is what is to be remembered of the network, by the clock outside.
func (r *run) learnt() agent.Memory {
	past := make([]agent.Download, 0, len(r.state.Past))
	for _, d := range r.state.Past {
		past = append(past, agent.Download{At: r.clock.life(d.At), Took: r.clock.life(d.Took), Size: d.Size})
	}
	return r.c.Memory.Learn(past, time.Now())
}

// about is an event of a parcel.
func (r *run) about(p *parcel, what What) Event {
	t := r.c.Menu.Tracks[p.track]
	rungs := t.Segments[p.index].Rungs
	g := rungs[p.rung]
	return Event{
		What: what, Kind: t.Kind, Track: p.track, Index: p.index, Rung: p.rung, Rungs: len(rungs), ID: g.ID, Height: g.Height,
		Quality: g.Quality, Media: p.media, Bytes: p.bytes, Price: p.price, Took: p.took, Pay: p.pay, Thought: p.thought,
	}
}

// noteSwitch tells that a track changes its rung.
func (r *run) noteSwitch(p *parcel) {
	if last := r.state.Last[p.track]; p.fresh && last >= 0 && last != p.rung {
		r.emit(r.about(p, Switch))
	}
}

// emit tells of an event, with how things stand.
func (r *run) emit(e Event) {
	if r.c.Event == nil {
		return
	}
	e.At, e.Moving, e.Stalled, e.Stalls, e.All, e.Rate = r.state.Now, r.moving, r.result.Stall, r.result.Stalls, r.result.Bytes, r.rate
	e.Position, e.Length = r.c.Menu.Start+r.played, r.length
	e.Buffers = slices.Clone(r.state.Buffer)
	m := r.c.Stock.Money()
	e.Left, e.Spent, e.Fees = m.Left, m.Spent, m.Fees
	r.c.Event(e)
}

func lengthOf(t agent.Track) (d time.Duration) {
	for _, s := range t.Segments {
		d += s.Duration
	}
	return d
}
