// Package replay plays a title over a recorded network with any policy of
// package agent, and says how good that was beside what would have been
// possible.
//
// [Run] is the simulator: one link, one download at a time, a buffer, a budget,
// no clock. It is exact: a download takes the latency of the link and then its
// bytes at the recorded rates. [Best] gives what no policy can exceed on the
// same link with the same money.
package replay

import (
	"errors"
	"fmt"
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// ErrBudget means that the money does not carry even the cheapest way to the
// end of the title.
var ErrBudget = errors.New("replay: the budget does not reach the end of the title")

// ErrSetup means that a title cannot be played like that.
var ErrSetup = errors.New("replay: not a setup")

// Setup is how a title is played.
type Setup struct {
	Link    *Link          // required
	Budget  lightning.Msat // [agent.NoLimit] if there is none
	Most    time.Duration  // that a buffer may hold; 0: 20 s
	Pay     time.Duration  // from the last byte of a segment until its key is here; the next download goes on meanwhile
	Weights agent.Weights  // zero: [agent.Standard]
	// Look is how often a download under way is looked at by a policy that may
	// abandon it. 0: 250 ms.
	Look time.Duration
	// Each is told of every segment when it is here. nil: nobody is.
	Each func(Step)
}

func (s Setup) check() error {
	if s.Link == nil {
		return fmt.Errorf("%w: no link", ErrSetup)
	}
	if s.Most < 0 || s.Pay < 0 || s.Look < 0 || max(s.Most, s.Pay) > Never {
		return fmt.Errorf("%w: times out of range", ErrSetup)
	}
	return nil
}

func (s Setup) withDefaults() Setup {
	if s.Most == 0 {
		s.Most = 20 * time.Second
	}
	if s.Look == 0 {
		s.Look = 250 * time.Millisecond
	}
	if s.Weights.Stall == 0 && s.Weights.Switch == 0 {
		s.Weights = agent.Standard
	}
	return s
}

// A Step is one segment that was fetched.
type Step struct {
	Track, Index, Rung int
	Asked, Here        time.Duration // since the beginning
	Buffer             time.Duration // of its track, with it
	Paid               lightning.Msat
	Stall              time.Duration // while it was fetched
	Abandoned          int           // downloads that were given up for it
}

// A Result is what a viewer got, and for how much.
type Result struct {
	Utility  float64        // by the weights
	Quality  float64        // mean of the segments of the first track, decibel
	Changes  float64        // sum of its changes, decibel
	Switches int            // changes of its rung
	Start    time.Duration  // from asking to the first picture
	Stall    time.Duration  // after that
	Stalls   int            // times that it stood still
	Length   time.Duration  // of the media
	Spent    lightning.Msat // all keys
	Unplayed lightning.Msat // paid for and not played yet when a viewer stops: the mean over all moments of the session
	QoE      float64        // of Pensieve, linear, by segment of the first track: Mbit/s, less their changes, less 4.3 for a second of waiting
	Bytes    int64          // all downloads, abandoned ones too
	Wasted   int64          // of them, of abandoned ones
	Rungs    [][]int        // by track: what was played
}

// Run plays a title to its end. The error matches [agent.ErrTitle], [ErrSetup],
// [ErrBudget] if the money cannot reach the end, or [ErrTrace] if a segment
// takes as long as [Never].
func Run(t *agent.Title, p agent.Policy, s Setup) (Result, error) {
	if err := t.Check(); err != nil {
		return Result{}, err
	}
	if err := s.check(); err != nil {
		return Result{}, err
	}
	r := newRun(t, p, s.withDefaults())
	if rest := r.floor.Rest(r.state); rest > s.Budget {
		return Result{}, fmt.Errorf("%w: it costs %v at least, the budget is %v", ErrBudget, rest, s.Budget)
	}
	if err := r.play(); err != nil {
		return Result{}, err
	}
	return r.finish(), nil
}

// A run is a title that is being played.
type run struct {
	title  *agent.Title
	policy agent.Policy
	setup  Setup
	floor  *agent.Floor
	state  agent.State
	owned  []map[key]bool // by track: keys
	result Result
	moving bool         // the picture moves
	bought [][]purchase // by track and segment

	here []arrival // keys that are on their way, in order of arrival
}

type key struct{ rung, first int }

// An arrival is a segment whose bytes are here and whose key is not yet.
type arrival struct {
	at    time.Duration
	track int
	media time.Duration
}

// A purchase is a segment whose bytes are here.
type purchase struct {
	at   time.Duration
	paid lightning.Msat // for its key, unless that was in hand
}

func newRun(t *agent.Title, p agent.Policy, s Setup) *run {
	n := len(t.Tracks)
	r := &run{title: t, policy: p, setup: s, floor: agent.NewFloor(t), state: agent.State{
		Next: make([]int, n), Last: make([]int, n), Buffer: make([]time.Duration, n), Coming: make([]time.Duration, n), Most: s.Most, Left: s.Budget,
	}}
	for k := range n {
		r.state.Last[k] = -1
		r.owned = append(r.owned, map[key]bool{})
		r.result.Rungs = append(r.result.Rungs, nil)
		r.bought = append(r.bought, nil)
	}
	return r
}

// play goes on until all keys are here.
func (r *run) play() error {
	for {
		k, ok := r.due()
		if !ok {
			break
		}
		if err := r.step(k); err != nil {
			return err
		}
	}
	for len(r.here) > 0 {
		r.pass(r.here[0].at - r.state.Now)
	}
	return nil
}

// due returns the track whose next segment is wanted first: the one that has
// the least in hand or on its way.
func (r *run) due() (track int, ok bool) {
	least := time.Duration(0)
	for k, t := range r.title.Tracks {
		if r.state.Next[k] == len(t.Segments) {
			continue
		}
		if have := r.held(k); !ok || have < least {
			track, least, ok = k, have, true
		}
	}
	return track, ok
}

// held is what a track has in hand, keys on their way included.
func (r *run) held(k int) time.Duration {
	have := r.state.Buffer[k]
	for _, a := range r.here {
		if a.track == k {
			have += a.media
		}
	}
	return have
}

// seen is the state as the policy may know it now.
func (r *run) seen() agent.State {
	for k := range r.state.Coming {
		r.state.Coming[k] = r.held(k) - r.state.Buffer[k]
	}
	return r.state
}

// step decides, fetches and pays one segment of a track.
func (r *run) step(k int) error {
	r.state.Track = k
	i := r.state.Next[k]
	seg := r.title.Tracks[k].Segments[i]
	r.waitForRoom(k, seg.Duration)
	d := r.policy.Decide(r.seen())
	if d.Rung < 0 || d.Rung >= len(seg.Rungs) {
		return fmt.Errorf("replay: the policy wants rung %d of %d", d.Rung, len(seg.Rungs))
	}
	if d.Wait > 0 {
		r.pass(min(d.Wait, r.state.Most))
	}
	stall := r.result.Stall
	asked := r.state.Now
	rung, _ := r.floor.Affordable(r.state, d.Rung)
	rung, abandoned := r.fetch(k, rung)
	if r.state.Now-asked >= Never || r.state.Now > 4*Never {
		return fmt.Errorf("%w: segment %d of track %d does not come", ErrTrace, i, k)
	}
	paid := r.pay(k, rung)
	r.bought[k] = append(r.bought[k], purchase{r.state.Now, paid})
	r.here = append(r.here, arrival{r.state.Now + r.setup.Pay, k, seg.Duration})
	r.arrive()
	r.state.Next[k], r.state.Last[k] = i+1, rung
	r.result.Rungs[k] = append(r.result.Rungs[k], rung)
	if r.setup.Each != nil {
		r.setup.Each(Step{
			Track: k, Index: i, Rung: rung, Asked: asked, Here: r.state.Now, Buffer: r.held(k),
			Paid: paid, Stall: r.result.Stall - stall, Abandoned: abandoned,
		})
	}
	return nil
}

// waitForRoom lets the picture move until the buffer takes one more segment.
// One that is longer than the buffer is fetched when that is empty.
func (r *run) waitForRoom(k int, media time.Duration) {
	for {
		over := r.held(k) + media - max(r.state.Most, media)
		if over <= 0 {
			return
		}
		if !r.moving { // nothing plays yet: keys are on their way
			r.pass(r.here[0].at - r.state.Now)
			continue
		}
		r.pass(over)
	}
}

// fetch downloads a rung, or another one that the policy changes to on the
// way, and returns it.
func (r *run) fetch(k, rung int) (got, abandoned int) {
	i := r.state.Next[k]
	watcher, _ := r.policy.(agent.Abandoner)
	for {
		size := r.title.Tracks[k].Segments[i].Rungs[rung].Size
		asked := r.state.Now
		end := r.setup.Link.Arrival(asked, size)
		other, given := r.watch(watcher, agent.Progress{Rung: rung, Since: asked}, size, end, abandoned)
		if given {
			came := r.setup.Link.Received(asked, r.state.Now)
			r.book(asked, min(came, size))
			r.result.Wasted += min(came, size)
			abandoned++
			rung, _ = r.floor.Affordable(r.state, other)
			continue
		}
		r.pass(end - r.state.Now)
		r.book(asked, size)
		return rung, abandoned
	}
}

// maxAbandoned bounds the downloads that are given up for one segment.
const maxAbandoned = 4

// watch shows a download to the policy until it ends or is given up.
func (r *run) watch(w agent.Abandoner, p agent.Progress, size int64, end time.Duration, before int) (rung int, given bool) {
	if w == nil || before == maxAbandoned {
		return 0, false
	}
	for r.state.Now+r.setup.Look < end {
		r.pass(r.setup.Look)
		p.Got = min(r.setup.Link.Received(p.Since, r.state.Now), size)
		if rung, ok := w.Abandon(r.seen(), p); ok && rung != p.Rung {
			return rung, true
		}
	}
	return 0, false
}

// past is how many downloads a policy is told of.
const past = 100

func (r *run) book(asked time.Duration, size int64) {
	r.result.Bytes += size
	r.state.Past = append(r.state.Past, agent.Download{At: asked, Took: r.state.Now - asked, Size: size})
	if len(r.state.Past) > 2*past {
		r.state.Past = append(r.state.Past[:0:0], r.state.Past[past:]...)
	}
}

func (r *run) pay(k, rung int) lightning.Msat {
	g := r.title.Tracks[k].Segments[r.state.Next[k]].Rungs[rung]
	if r.owned[k][key{rung, g.First}] {
		return 0
	}
	r.owned[k][key{rung, g.First}] = true
	if r.state.Left != agent.NoLimit {
		r.state.Left -= g.Price
	}
	r.result.Spent += g.Price
	return g.Price
}

// pass lets time go by: keys arrive, the picture moves, or stands still.
func (r *run) pass(d time.Duration) {
	for d > 0 {
		step := d
		if len(r.here) > 0 {
			step = min(step, r.here[0].at-r.state.Now)
		}
		r.move(step)
		d -= step
		r.arrive()
	}
}

// arrive puts into the buffers what is here, and starts the picture when all
// tracks have something.
func (r *run) arrive() {
	for len(r.here) > 0 && r.here[0].at <= r.state.Now {
		r.state.Buffer[r.here[0].track] += r.here[0].media
		r.here = r.here[1:]
	}
	if r.moving {
		return
	}
	for k := range r.title.Tracks {
		if r.state.Buffer[k] == 0 && !r.ended(k) {
			return
		}
	}
	if !r.state.Playing {
		r.result.Start = r.state.Now
	}
	r.moving, r.state.Playing = true, true
}

func (r *run) ended(k int) bool {
	return r.state.Next[k] == len(r.title.Tracks[k].Segments) && r.held(k) == 0
}

// move is pass within which nothing arrives.
func (r *run) move(d time.Duration) {
	for r.moving && d > 0 {
		step := d
		for k, left := range r.state.Buffer {
			if !r.ended(k) {
				step = min(step, left)
			}
		}
		if step == 0 {
			r.moving = false
			r.result.Stalls++
			break
		}
		for k, left := range r.state.Buffer { // a track that ends here holds up no other
			r.state.Buffer[k] = max(left-step, 0)
		}
		r.state.Now += step
		d -= step
	}
	r.state.Now += d
	if r.state.Playing {
		r.result.Stall += d
	}
}
