package replay

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"htlcdash/agent"
)

// A Bound says what can be had of a title under a Setup.
type Bound struct {
	// Upper is a utility that no policy exceeds.
	Upper float64
	// Feasible is what Plan gives, as [Run] says. Both are empty for titles of
	// several tracks.
	Feasible Result
	Plan     Plan
	// Price is the shadow price of money at Upper: utility for a millisatoshi.
	Price float64
}

// A Plan is a policy that knows all beforehand, for the first track.
type Plan struct {
	Rungs []int           // by segment
	Waits []time.Duration // by segment, before it is fetched; nil: none
}

// Decide implements [agent.Policy].
func (p Plan) Decide(s agent.State) agent.Decision {
	i := s.Next[s.Track]
	if s.Track != 0 || i >= len(p.Rungs) {
		return agent.Decision{}
	}
	d := agent.Decision{Rung: p.Rungs[i]}
	if i < len(p.Waits) {
		d.Wait = p.Waits[i]
	}
	return d
}

// Best returns what is possible for one who knows the network and the title
// beforehand. The error is that of [Run].
//
// Upper is a Lagrangian dual. For any price x >= 0 of money,
//
//	x*budget + max over all ways through the title of (utility - x*money)
//
// is not exceeded by a way that keeps to the budget; x is chosen for the least.
// The maximum is found by dynamic programming over labels: (time t of the last
// byte, waiting w so far, value v, keys in hand) after each segment and rung.
// Start and stalls count the same, and segment i of a film can begin w seconds
// after its place in the film, where w is the most that any segment up to i
// was late. To give up a download and to wait are never better than to ask for
// the right thing early, since bytes asked for later are never here sooner (a
// latency that falls is allowed for). So a label that is earlier, has waited
// less and is worth more makes another needless.
//
// Labels that are closer together than a grid are joined to one that is better
// than each: what is given away by that is in favour of Upper. These are the
// other relaxations: with Setup.Pay the buffer holds that much more, and titles
// of several tracks are bounded as if the network carried the first track
// alone, the keys of the others being paid for by use.
func Best(t *agent.Title, s Setup) (Bound, error) {
	if err := t.Check(); err != nil {
		return Bound{}, err
	}
	if s.Link == nil {
		return Bound{}, errors.New("replay: no link")
	}
	s = s.withDefaults()
	s.Each = nil
	first := newRun(t, Plan{}, s)
	if rest := first.floor.Rest(first.state); rest > s.Budget {
		return Bound{}, fmt.Errorf("%w: it costs %v at least, the budget is %v", ErrBudget, rest, s.Budget)
	}
	d := newDual(t, s, first.floor)
	d.solve()
	return d.bound(), nil
}

// A way is a rung for each segment of a track, and what it gives.
type way struct {
	rungs   []int
	utility float64 // waiting included
	spent   float64 // msat
}

// worth is the value of a way at a price of money.
func (w way) worth(price float64) float64 { return w.utility - price*w.spent }

// A dual minimises over the price of money.
type dual struct {
	title  *agent.Title
	setup  Setup
	floor  *agent.Floor
	tracks []*track
	budget float64

	ways   []way // that were found on the way, and can really be gone
	upper  float64
	price  float64 // of money, at upper
	result Result  // of the best way that keeps to the budget
	plan   Plan
}

func newDual(t *agent.Title, s Setup, f *agent.Floor) *dual {
	d := &dual{title: t, setup: s, floor: f, budget: float64(s.Budget), upper: math.Inf(1)}
	for k := range t.Tracks {
		d.tracks = append(d.tracks, newTrack(&t.Tracks[k], s))
	}
	d.result.Utility = math.Inf(-1)
	return d
}

func (d *dual) bound() Bound {
	if len(d.tracks) > 1 {
		return Bound{Upper: d.upper, Price: d.price}
	}
	return Bound{Upper: max(d.upper, d.result.Utility), Feasible: d.result, Plan: d.plan, Price: d.price}
}

// Grids of labels, from the first look to the last, and what is near enough:
// shares of the utility.
const (
	coarse    = 100 * time.Millisecond
	nearly    = 0.0003
	goodGap   = 0.002
	maxPrices = 14
)

// solve looks for the price at which the best way spends just the budget.
func (d *dual) solve() {
	price := d.free()
	var rich, poor *line // above the budget, and within it
	for range maxPrices {
		l := d.look(price, coarse)
		if l.spent <= d.budget {
			poor = &l
			if price == 0 {
				break
			}
		} else {
			rich = &l
		}
		switch {
		case rich == nil && l.spent < 0.8*d.budget:
			price = 0
		case rich == nil:
			price *= 0.8
		case poor == nil:
			price = price*1.25 + 1e-12
		default:
			next := (rich.utility - poor.utility) / (rich.spent - poor.spent)
			known := max(rich.at(next, d.budget), poor.at(next, d.budget))
			if d.upper-known <= nearly*math.Abs(d.upper) {
				d.refine()
				return
			}
			price = next
		}
	}
	d.refine()
}

// A line is a lower bound of the dual: a way, that of the maximum at a price.
type line struct{ utility, spent float64 }

func (l line) at(price, budget float64) float64 { return l.utility + price*(budget-l.spent) }

// look finds the value of the dual at a price.
func (d *dual) look(price float64, grid time.Duration) line {
	first := d.tracks[0]
	first.setPrice(price)
	d.learn(first.pass(grid, 5*grid, false, d.known(price)).rungs)
	least := d.known(price)
	least += nearly * math.Abs(least)
	p := first.pass(grid, grid, true, least)
	d.learn(p.rungs)
	value, rungs := least, d.best(price)
	if p.value > least {
		value, rungs = p.value, p.rungs
	}
	best := line{value + price*first.spent(rungs), first.spent(rungs)}
	for _, t := range d.tracks[1:] {
		t.setPrice(price)
		spent := t.freeSpent()
		value += t.rest[0][0]
		best.spent += spent
		best.utility += t.rest[0][0] + price*spent
	}
	total := value
	if price > 0 {
		total += price * d.budget
	}
	if total < d.upper {
		d.upper, d.price = total, price
	}
	return best
}

// known is what the best way that was found is worth at a price.
func (d *dual) known(price float64) float64 {
	most := math.Inf(-1)
	for _, w := range d.ways {
		most = max(most, w.worth(price))
	}
	return most
}

func (d *dual) best(price float64) []int {
	for _, w := range d.ways {
		if w.worth(price) == d.known(price) {
			return w.rungs
		}
	}
	return nil
}

// learn replays a way of the first track, for what it really gives.
func (d *dual) learn(rungs []int) {
	if rungs == nil {
		return
	}
	for _, w := range d.ways {
		if slices.Equal(w.rungs, rungs) {
			return
		}
	}
	rich := d.setup
	rich.Budget = agent.NoLimit
	alone := d.title
	if len(d.tracks) > 1 {
		alone = &agent.Title{Tracks: d.title.Tracks[:1]}
	}
	r, _ := d.replay(alone, rungs, rich)
	d.ways = append(d.ways, way{rungs, r.Utility, float64(r.Spent)})
}

// replay plays a way through a title of one track.
func (d *dual) replay(t *agent.Title, rungs []int, s Setup) (Result, Plan) {
	plan := Plan{Rungs: rungs}
	if d.tracks[0].waits {
		plan.Waits = d.tracks[0].schedule(rungs)
	}
	r := newRun(t, plan, s)
	for {
		k, ok := r.due()
		if !ok {
			return r.finish(), plan
		}
		if r.step(k) != nil {
			return Result{Utility: math.Inf(-1)}, plan
		}
	}
}

// free minimises over the price as if there were no network, which is where
// the search begins.
func (d *dual) free() float64 {
	spent := func(price float64) (sum float64) {
		for _, t := range d.tracks {
			t.setPrice(price)
			sum += t.freeSpent()
		}
		return sum
	}
	if spent(0) <= d.budget {
		return 0
	}
	low, high := 0.0, 1e-6
	for spent(high) > d.budget && high < 1e12 {
		low, high = high, high*4
	}
	for range 40 {
		if mid := (low + high) / 2; spent(mid) > d.budget {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// refine looks again, at the best price, with finer grids, and seeks a way that
// uses the budget up.
func (d *dual) refine() {
	if len(d.tracks) == 1 {
		d.splice()
	}
	for grid := coarse / 4; grid >= coarse/32; grid /= 4 {
		if len(d.tracks) == 1 && d.upper-d.result.Utility <= goodGap*math.Abs(d.upper) {
			return
		}
		d.look(d.price, grid)
	}
}

// splice replays ways that begin as one and end as another of those that were
// found, and keeps the best that the budget allows.
func (d *dual) splice() {
	d.offer(make([]int, len(d.tracks[0].stages))) // which can be paid, perhaps with dearer rungs here and there
	for _, w := range d.ways {
		d.offer(w.rungs)
	}
	slices.SortFunc(d.ways, func(a, b way) int { return cmp.Compare(b.worth(d.price), a.worth(d.price)) })
	near := d.ways[:min(len(d.ways), 3)]
	for _, a := range near {
		for _, b := range near {
			mixed := slices.Clone(a.rungs)
			for i := range mixed {
				if mixed[i] != b.rungs[i] {
					mixed[i] = b.rungs[i]
					d.offer(mixed)
				}
			}
		}
	}
}

// offer keeps a way, or what the budget makes of it, if it is the best so far.
func (d *dual) offer(rungs []int) {
	r, plan := d.replay(d.title, rungs, d.setup)
	if len(r.Rungs) > 0 && !slices.Equal(r.Rungs[0], rungs) {
		r, plan = d.replay(d.title, r.Rungs[0], d.setup)
	}
	if r.Utility > d.result.Utility {
		plan.Rungs = slices.Clone(plan.Rungs)
		d.result, d.plan = r, plan
	}
}

// A track is one that is bought at a price of money.
type track struct {
	link    *Link
	most    time.Duration
	pay     time.Duration
	stall   float64 // weight of a second
	waits   bool    // to wait may bring bytes sooner
	price   float64
	stages  []stage
	rest    [][]float64 // by segment and rung before: the most that the rest is worth without a network
	choices [][]int     // of rest
}

// A stage is a segment.
type stage struct {
	place time.Duration // in the film
	room  time.Duration // of the film must have been played before this is asked for; negative: nothing
	keep  uint64        // rungs whose key opens the segment before, too
	rungs []choice
}

// A choice is a rung of a segment.
type choice struct {
	size    int64
	gain    float64   // weighted quality
	price   float64   // of the key
	dear    float64   // the same, if bought where its group costs most
	share   float64   // of the price, for one segment of the group
	refund  float64   // shares of this segment and those after it, of a group that began before
	changes []float64 // by rung before: the weighted change
}

func newTrack(t *agent.Track, s Setup) *track {
	out := &track{link: s.Link, most: s.Most, pay: s.Pay, stall: s.Weights.Stall}
	for _, p := range s.Link.steps {
		out.waits = out.waits || p.Latency != s.Link.steps[0].Latency
	}
	weight, place := s.Weights.Of(t.Kind), time.Duration(0)
	for i, seg := range t.Segments {
		st := stage{place: place, room: place + seg.Duration - max(s.Most, seg.Duration)}
		place += seg.Duration
		for r, g := range seg.Rungs {
			c := choice{size: g.Size, gain: weight * g.Quality, price: float64(g.Price)}
			if i > 0 {
				for _, before := range t.Segments[i-1].Rungs {
					c.changes = append(c.changes, weight*s.Weights.Switch*math.Abs(g.Quality-before.Quality))
				}
				if together(t, i-1, r) {
					st.keep |= 1 << r
				}
			}
			st.rungs = append(st.rungs, c)
		}
		out.stages = append(out.stages, st)
	}
	out.group(t)
	return out
}

// together tells whether one key opens a rung of a segment and the next one.
func together(t *agent.Track, i, r int) bool {
	return i+1 < len(t.Segments) && r < len(t.Segments[i].Rungs) && r < len(t.Segments[i+1].Rungs) &&
		t.Segments[i].Rungs[r].First == t.Segments[i+1].Rungs[r].First
}

// group sets what a segment's share of its group's key is.
func (t *track) group(of *agent.Track) {
	for i := range t.stages {
		for r := range t.stages[i].rungs {
			if t.stages[i].keep&(1<<r) != 0 {
				continue
			}
			end, least, most := i, math.Inf(1), 0.0
			for {
				least = min(least, t.stages[end].rungs[r].price)
				most = max(most, t.stages[end].rungs[r].price)
				end++
				if !together(of, end-1, r) {
					break
				}
			}
			share := least / float64(end-i)
			for k := i; k < end; k++ {
				c := &t.stages[k].rungs[r]
				c.share, c.dear = share, most
				if k > i {
					c.refund = share * float64(end-k)
				}
			}
		}
	}
}

// setPrice works out what the rest is worth from each segment on.
func (t *track) setPrice(price float64) {
	t.price = price
	n := len(t.stages)
	if t.rest == nil {
		t.rest, t.choices = make([][]float64, n+1), make([][]int, n)
		for i := range n {
			before := 1
			if i > 0 {
				before = len(t.stages[i-1].rungs)
			}
			t.rest[i], t.choices[i] = make([]float64, before), make([]int, before)
		}
		t.rest[n] = make([]float64, len(t.stages[n-1].rungs))
	}
	for i := n - 1; i >= 0; i-- {
		for last := range t.rest[i] {
			most, at := math.Inf(-1), 0
			for r := range t.stages[i].rungs {
				c := &t.stages[i].rungs[r]
				v := c.gain - price*c.share + t.rest[i+1][r]
				if i > 0 {
					v -= c.changes[last]
				}
				if v > most {
					most, at = v, r
				}
			}
			t.rest[i][last], t.choices[i][last] = most, at
		}
	}
}

// freeSpent is what the best way without a network pays, by shares.
func (t *track) freeSpent() (sum float64) {
	last := 0
	for i := range t.stages {
		last = t.choices[i][last]
		sum += t.stages[i].rungs[last].share
	}
	return sum
}

// spent is what a way pays.
func (t *track) spent(rungs []int) (sum float64) {
	mask := uint64(0)
	for i, r := range rungs {
		mask &= t.stages[i].keep
		if mask&(1<<r) == 0 {
			sum += t.stages[i].rungs[r].price
		}
		mask |= 1 << r
	}
	return sum
}

// schedule is how long a way should wait before each segment, for the first
// byte to be here first.
func (t *track) schedule(rungs []int) []time.Duration {
	waits := make([]time.Duration, len(rungs))
	var at label
	for i, r := range rungs {
		free := t.free(i, at)
		ask, first := t.link.soonest(free)
		waits[i] = ask - free
		at = t.next(i, at, t.link.position(first), r)
	}
	return waits
}
