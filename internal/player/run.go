package player

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"htlcdash/agent"
	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// A run is a title that is being played. Its fields belong to the goroutine that
// called Play, but for those that say otherwise.
type run struct {
	c       Config
	floor   *agent.Floor
	clock   *clock
	state   agent.State
	left    lightning.Msat // that is neither spent nor due
	money   Money
	owned   []map[key]bool // by track: keys that are paid for, or about to be
	inits   heads
	offered map[string]int // by Representation: up to here offers were asked for
	played  time.Duration  // of the media
	length  time.Duration
	shown   []int   // by track: segments that were put into the buffer
	bought  bool    // a key
	settled int     // parcels of which it is known what became of them
	rate    float64 // bit/s of the last download
	fatal   error   // that ends it
	closing bool    // nothing more is fetched
	result  Result
	moving  bool // the picture
	beat    *time.Ticker

	onWay [][]*parcel // by track: what is not in the buffer yet, in order
	lost  []*parcel   // of them, those whose key could not be had
	work  sync.WaitGroup
	keys  mailbox
	out   *outlet
}

type key struct{ rung, first int }

// A parcel is a segment from its decision until it is in the buffer.
type parcel struct {
	track, index, rung int
	rep                *dash.Representation
	segment            int // of rep
	media              time.Duration
	price              lightning.Msat // that its key costs; 0: it was owned, or is paid with another's
	asked, here        time.Duration
	took, pay          time.Duration // to fetch it, and from then to open it
	bytes              int64
	raw, data, init    []byte        // as fetched, and opened; and what a decoder needs before
	pending, opened    bool          // its key is on its way, or used
	fails              int           // times that its key could not be had
	since              time.Duration // when for the first time
	broke              bool          // for want of money
	fresh              bool          // it is not on its way yet
	thought            *agent.Thought
}

func newRun(c Config) *run {
	n := len(c.Menu.Tracks)
	r := &run{
		c: c, floor: agent.NewFloor(c.Menu.Title), offered: map[string]int{}, onWay: make([][]*parcel, n),
		clock: &clock{began: time.Now(), speed: c.Speed},
		state: agent.State{
			Next: make([]int, n), Last: make([]int, n), Buffer: make([]time.Duration, n), Most: c.Most,
			Prior: c.Memory.Prior(time.Now()) / c.Speed,
		},
	}
	r.keys.signal = make(chan struct{}, 1)
	for k := range n {
		r.state.Last[k] = -1
		r.owned = append(r.owned, map[key]bool{})
		r.result.Rungs = append(r.result.Rungs, nil)
		r.shown = append(r.shown, 0)
		r.length = max(r.length, lengthOf(c.Menu.Tracks[k]))
	}
	return r
}

// play is the whole of it.
func (r *run) play(ctx context.Context) (Result, error) {
	r.beat = time.NewTicker(250 * time.Millisecond)
	defer r.beat.Stop()
	r.out = newOutlet(r.c.Sink)
	r.clock.began = time.Now()
	r.emit(Event{What: Began})
	paying, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	err := r.fetchAll(ctx, paying)
	if ctx.Err() == nil && r.out.failed() == nil {
		err = errors.Join(err, r.playOut(ctx, err == nil))
	}
	if ctx.Err() != nil {
		err = ctx.Err()
		r.c.Stock.Stop()
	}
	r.settle(ctx, cancel)
	if last := r.out.close(ctx); !errors.Is(err, last) {
		err = errors.Join(err, last)
	}
	return r.finish(err), err
}

// grace is how long payments under way are waited for at the end.
const grace = 10 * time.Second

// settle waits for what is being paid, so that the account is right.
func (r *run) settle(ctx context.Context, cancel func()) {
	late := time.AfterFunc(grace, cancel)
	defer late.Stop()
	r.work.Wait()
	for _, o := range r.keys.take() {
		r.arrive(ctx, o)
	}
}

// fetchAll gets one segment after the other.
func (r *run) fetchAll(ctx, paying context.Context) error {
	for {
		if err := r.await(ctx, r.state.Now, nil); err != nil {
			return err
		}
		if err := cmp.Or(r.fatal, r.out.failed()); err != nil {
			return err
		}
		p, err := r.next(ctx)
		if err != nil {
			return err
		}
		if p == nil {
			if len(r.lost) > 0 {
				continue
			}
			if !r.paying() {
				return nil
			}
			if err := r.awaitKey(ctx); err != nil {
				return err
			}
			continue
		}
		if err := r.fetch(ctx, p); err != nil {
			return err
		}
		r.pay(paying, p)
		r.prepare(ctx, p)
	}
}

// next is what is fetched now: what was lost, else a segment of the track that
// has the least in hand or on its way. It is nil if there is nothing, or not yet.
func (r *run) next(ctx context.Context) (*parcel, error) {
	if len(r.lost) > 0 {
		p := r.lost[0]
		r.lost = r.lost[1:]
		return p, r.reconsider(ctx, p)
	}
	k, ok := r.due()
	if !ok {
		return nil, nil
	}
	media := r.c.Menu.Tracks[k].Segments[r.state.Next[k]].Duration
	if err := r.waitForRoom(ctx, k, media); err != nil || len(r.lost) > 0 {
		return nil, err
	}
	return r.decide(ctx, k)
}

// due returns the track whose next segment is wanted first.
func (r *run) due() (track int, ok bool) {
	least := time.Duration(0)
	for k, t := range r.c.Menu.Tracks {
		if r.state.Next[k] == len(t.Segments) {
			continue
		}
		if have := r.held(k); !ok || have < least {
			track, least, ok = k, have, true
		}
	}
	return track, ok
}

// held is what a track has in hand, and on its way.
func (r *run) held(k int) time.Duration {
	have := r.state.Buffer[k]
	for _, p := range r.onWay[k] {
		have += p.media
	}
	return have
}

// How much may be here and wait for its keys, or for those of segments before it,
// while more is fetched. A buffer is a time, and how long a segment plays is the
// publisher's word.
const (
	maxWaiting = 256 << 20 // bytes
	maxPaying  = 128       // segments
)

// full reports whether that much waits.
func (r *run) full() bool {
	var bytes int64
	paying := 0
	for _, list := range r.onWay {
		for _, p := range list {
			bytes += max(p.bytes, int64(len(p.data))) + int64(len(p.init))
			if p.pending {
				paying++
			}
		}
	}
	return paying > 0 && (bytes > maxWaiting || paying >= maxPaying)
}

// waitForRoom lets the picture move until the buffer takes one more segment. One
// that is longer than the buffer is fetched when that is empty. It ends early
// where something was lost.
func (r *run) waitForRoom(ctx context.Context, k int, media time.Duration) error {
	for len(r.lost) == 0 {
		if r.full() {
			if err := r.awaitKey(ctx); err != nil {
				return err
			}
			continue
		}
		over := r.held(k) + media - max(r.state.Most, media)
		if over <= 0 {
			return nil
		}
		var err error
		switch {
		case r.paying() && (!r.moving || r.c.Fast):
			err = r.awaitKey(ctx)
		case !r.moving:
			return nil
		default:
			err = r.pass(ctx, over)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// decide asks the policy what to fetch of a track.
func (r *run) decide(ctx context.Context, k int) (*parcel, error) {
	i := r.state.Next[k]
	seg := r.c.Menu.Tracks[k].Segments[i]
	p := &parcel{track: k, index: i, media: seg.Duration, fresh: true}
	r.state.Track = k
	r.count()
	wanted := 0
	if seg.Rungs[0].ID != "" { // else it is a gap
		d := r.c.Policy.Decide(r.state)
		r.think(p)
		if d.Rung < 0 || d.Rung >= len(seg.Rungs) {
			return nil, fmt.Errorf("player: the policy wants rung %d of %d", d.Rung, len(seg.Rungs))
		}
		if d.Wait > 0 {
			if err := r.pass(ctx, min(d.Wait, r.state.Most)); err != nil {
				return nil, err
			}
			r.count()
		}
		wanted = d.Rung
	}
	return p, r.afford(ctx, p, wanted)
}

// afford is choose, which says that the money is out only once no key is on its
// way: one that is paid and not used yet counts twice.
func (r *run) afford(ctx context.Context, p *parcel, wanted int) error {
	for {
		err := r.choose(p, wanted)
		if err == nil || !r.paying() {
			return err
		}
		if err := r.awaitKey(ctx); err != nil {
			return err
		}
		r.count()
	}
}

// An explainer is a policy that says why.
type explainer interface {
	Explain(agent.State) agent.Thought
}

// think asks a policy why, if somebody wants to know.
func (r *run) think(p *parcel) {
	if why, ok := r.c.Policy.(explainer); ok && r.c.Event != nil {
		thought := why.Explain(r.state)
		p.thought = &thought
	}
}

// choose settles on the best rung, no better than wanted, that leaves enough for
// the rest; where none does, on one that can be paid at all.
func (r *run) choose(p *parcel, wanted int) error {
	track := &r.c.Menu.Tracks[p.track]
	p.rung, _ = r.floor.Affordable(r.state, wanted)
	cost := func(rung int) lightning.Msat { return track.Cost(p.index, rung, r.state.Last[p.track]) }
	if cost(p.rung) > r.left {
		for rung := range track.Segments[p.index].Rungs {
			if cost(rung) < cost(p.rung) {
				p.rung = rung
			}
		}
	}
	if cost(p.rung) > r.left {
		return r.poor(p)
	}
	r.assign(p, p.rung)
	return nil
}

// assign says what is fetched for a segment.
func (r *run) assign(p *parcel, rung int) {
	p.rung = rung
	at := r.c.Menu.pieces[p.track][p.index][rung]
	p.rep, p.segment = at.rep, at.index
}

// poor is the end of the money: before a segment, or in front of what the rest
// costs.
func (r *run) poor(p *parcel) error {
	e := &MoneyError{At: r.c.Menu.Start, Rest: r.floor.Rest(r.state), Left: r.left}
	segments := r.c.Menu.Tracks[p.track].Segments
	for _, s := range segments[:p.index] {
		e.At += s.Duration
	}
	if p.index < r.state.Next[p.track] { // it is not in the rest
		least := segments[p.index].Rungs[0].Price
		for _, g := range segments[p.index].Rungs {
			least = min(least, g.Price)
		}
		e.Rest += least
	}
	e.Rest = whole(e.Rest, r.money.Share)
	return e
}

// routeShare is what routes are taken to take on top of a price until a key was
// bought and it is known.
const routeShare = 0.05

// count looks how the money stands. What is about to be paid counts as spent. For
// the policy routes are taken to go on to cost what they did; what is left in truth
// is used to its end.
func (r *run) count() {
	r.money = r.c.Stock.Money()
	r.left, r.state.Left = r.money.Left, r.money.Left
	if r.left == agent.NoLimit {
		return
	}
	share := r.money.Share
	if !r.bought && r.money.Routed {
		share = max(share, routeShare)
	}
	due := lightning.Msat(0)
	for _, list := range r.onWay {
		for _, p := range list {
			if !p.opened {
				due += p.price
			}
		}
	}
	r.left = max(r.left-due, 0)
	r.state.Left = max(lightning.Msat(float64(r.money.Left)/(1+share))-due, 0)
}

// pay has a segment opened, while the next one is fetched.
func (r *run) pay(ctx context.Context, p *parcel) {
	k := p.track
	if p.fresh {
		p.fresh = false
		r.onWay[k] = append(r.onWay[k], p)
		r.state.Next[k] = p.index + 1
		r.result.Rungs[k] = append(r.result.Rungs[k], p.rung)
	}
	r.result.Rungs[k][p.index] = p.rung
	if r.state.Next[k] == p.index+1 {
		r.state.Last[k] = p.rung
	}
	if own := r.keyOf(p); !r.owned[k][own] {
		r.owned[k][own] = true
		p.price = r.c.Menu.Tracks[k].Segments[p.index].Rungs[p.rung].Price
	}
	p.here, p.pending = r.state.Now, true
	r.emit(r.about(p, Fetched))
	if p.rep == nil {
		r.keys.put(opened{parcel: p, at: p.here})
		return
	}
	ctx = r.needed(ctx, p)
	r.work.Go(func() {
		data, err := r.c.Stock.Open(ctx, p.rep, p.segment, p.raw)
		r.keys.put(opened{p, data, err, r.clock.now()})
	})
}

// prepare asks for offers for what may follow. It asks anew when half of what it
// asked for is used.
func (r *run) prepare(ctx context.Context, p *parcel) {
	if p.rep == nil {
		return
	}
	end := min(p.segment+1+r.c.Ahead, len(p.rep.Segments))
	from := max(p.segment+1, r.offered[p.rep.ID])
	if end-from < (r.c.Ahead+1)/2 {
		return
	}
	r.offered[p.rep.ID] = end
	var indexes []int
	for i := from; i < end; i++ {
		indexes = append(indexes, i)
	}
	rep := p.rep // p may change its mind
	r.work.Go(func() { r.c.Stock.Prepare(ctx, rep, indexes) })
}

// reconsider decides about a segment whose key could not be had: the same again
// after a pause, and then another rung; a cheaper one, where it was the money.
func (r *run) reconsider(ctx context.Context, p *parcel) error {
	if !p.broke {
		pause := min(firstPause<<min(p.fails-1, 10), lastPause)
		if err := r.pass(ctx, pause); err != nil {
			return err
		}
	}
	r.count()
	rungs := r.c.Menu.Tracks[p.track].Segments[p.index].Rungs
	rung, left := p.rung, r.left
	if left != agent.NoLimit {
		left += p.price // which is kept for it
	}
	switch {
	case p.broke:
		if rung = cheaper(rungs, p.rung, left); rung < 0 {
			return r.poor(p)
		}
	case p.fails > sameAgain:
		rung = other(rungs, p.rung, left-r.floor.Rest(r.state))
	}
	if rung != p.rung {
		r.release(p)
	}
	r.assign(p, rung)
	return nil
}

// release undoes that a key is due for a segment which is had in another way. What
// else the key opens and is on its way takes it over.
func (r *run) release(p *parcel) {
	own := r.keyOf(p)
	if p.price == 0 {
		return
	}
	for _, q := range r.onWay[p.track] {
		if q != p && !q.opened && r.keyOf(q) == own {
			q.price, p.price = p.price, 0
			return
		}
	}
	delete(r.owned[p.track], own)
	p.price = 0
}

func (r *run) keyOf(p *parcel) key {
	return key{p.rung, r.c.Menu.Tracks[p.track].Segments[p.index].Rungs[p.rung].First}
}

// other returns the next lower rung that can be paid, where the lowest is followed
// by the best; the same if there is none.
func other(rungs []agent.Rung, than int, left lightning.Msat) int {
	n := len(rungs)
	for i := 1; i < n; i++ {
		if rung := (than + n - i) % n; rungs[rung].Price <= left {
			return rung
		}
	}
	return than
}

// cheaper returns the dearest rung that costs less than one and can be paid, -1 if
// there is none.
func cheaper(rungs []agent.Rung, than int, left lightning.Msat) int {
	best := -1
	for i, g := range rungs {
		if g.Price < rungs[than].Price && g.Price <= left && (best < 0 || g.Price > rungs[best].Price) {
			best = i
		}
	}
	return best
}
