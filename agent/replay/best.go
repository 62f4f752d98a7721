package replay

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
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
	d := newDual(t, s)
	d.solve()
	return d.bound(), nil
}

// A way is a rung for each segment of the first track, and what it gives when
// money does not matter.
type way struct {
	rungs   []int
	utility float64
	spent   float64 // msat
}

// worth is the value of a way at a price of money.
func (w way) worth(price float64) float64 { return w.utility - price*w.spent }

// A dual is minimised over the price of money.
type dual struct {
	title  *agent.Title
	setup  Setup
	tracks []*track
	budget float64

	ways  []way // that were found, and can really be gone
	upper float64
	price float64 // of money, at upper

	result Result // of the best way that keeps to the budget
	plan   Plan
}

func newDual(t *agent.Title, s Setup) *dual {
	d := &dual{title: t, setup: s, budget: float64(s.Budget), upper: math.Inf(1)}
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

// Grids of labels, and what is near enough, as a share of the utility.
const (
	rough     = 400 * time.Millisecond
	coarse    = 100 * time.Millisecond
	nearly    = 0.0003 // of a value to its bound
	goodGap   = 0.002  // of what can be had to the bound
	maxPrices = 14
)

// solve looks for the price at which the best way spends just the budget.
func (d *dual) solve() {
	price := d.freePrice()
	d.begin(price)
	var rich, poor *line // above the budget, and within it
	for range maxPrices {
		l := d.look(price, coarse)
		if l.spent <= d.budget {
			poor = &l
		} else {
			rich = &l
		}
		if price = d.step(rich, poor); price < 0 {
			break
		}
	}
	d.refine()
}

// A line is a lower bound of the dual, at every price: a way that is the best
// at one.
type line struct{ price, utility, spent float64 }

func (l *line) at(price, budget float64) float64 { return l.utility + price*(budget-l.spent) }

// step returns the price to look at next; it is negative when there is no need.
func (d *dual) step(rich, poor *line) float64 {
	switch {
	case rich == nil && poor.price == 0:
		return -1
	case rich == nil && poor.spent < 0.8*d.budget:
		return 0
	case rich == nil && poor.spent < 0.97*d.budget:
		return poor.price * 0.6
	case rich == nil:
		return poor.price * 0.85
	case poor == nil:
		return rich.price*1.25 + 1e-12
	}
	next := (rich.utility - poor.utility) / (rich.spent - poor.spent)
	if !(next > rich.price && next < poor.price) {
		next = (rich.price + poor.price) / 2
	}
	if d.upper-max(rich.at(next, d.budget), poor.at(next, d.budget)) <= nearly*math.Abs(d.upper) {
		return -1
	}
	return next
}

// look finds the value of the dual at a price.
func (d *dual) look(price float64, grid time.Duration) line {
	first := d.tracks[0]
	first.setPrice(price)
	first.setPerBit()
	d.learn(first.pass(grid, 5*grid, false, d.best(price).worth(price)).rungs)
	known := d.best(price)
	least := known.worth(price)
	least += nearly * math.Abs(least)
	found := first.pass(grid, grid, true, least)
	if found.value <= least {
		found = foundWay{least, known.rungs}
	}
	l := line{price: price, spent: first.spent(found.rungs)}
	for _, t := range d.tracks[1:] {
		t.setPrice(price)
		l.spent += t.freeSpent()
		found.value += t.loose.value[0][0]
	}
	l.utility = found.value + price*l.spent
	upper := found.value
	if price > 0 {
		upper += price * d.budget
	}
	if upper < d.upper {
		d.upper, d.price = upper, price
	}
	return l
}

// begin finds some ways to start from: what players do, and a rough look.
func (d *dual) begin(price float64) {
	alone := &agent.Title{Tracks: d.title.Tracks[:1]}
	for _, name := range agent.Rules() {
		if p, err := agent.Rule(name, alone, d.setup.Weights); err == nil {
			r, _ := d.play(alone, p, agent.NoLimit)
			d.learn(r.Rungs[0])
		}
	}
	first := d.tracks[0]
	first.setPrice(price)
	first.setPerBit()
	d.learn(first.pass(rough, 5*rough, false, d.best(price).worth(price)).rungs)
}

// best is the way that is worth most at a price.
func (d *dual) best(price float64) way {
	best := way{utility: math.Inf(-1)}
	for _, w := range d.ways {
		if best.rungs == nil || w.worth(price) > best.worth(price) {
			best = w
		}
	}
	return best
}

// learn replays a way of the first track, for what it really gives.
func (d *dual) learn(rungs []int) {
	if rungs == nil || slices.ContainsFunc(d.ways, func(w way) bool { return slices.Equal(w.rungs, rungs) }) {
		return
	}
	alone := &agent.Title{Tracks: d.title.Tracks[:1]}
	r, _ := d.play(alone, d.planOf(rungs), agent.NoLimit)
	d.ways = append(d.ways, way{rungs, r.Utility, float64(r.Spent)})
}

func (d *dual) planOf(rungs []int) Plan {
	return Plan{Rungs: rungs, Waits: d.tracks[0].waits(rungs)}
}

// play is Run without its checks. Where nothing can come of it, the utility is
// minus infinity.
func (d *dual) play(t *agent.Title, p agent.Policy, budget lightning.Msat) (Result, error) {
	s := d.setup
	s.Budget = budget
	r := newRun(t, p, s)
	for {
		k, ok := r.due()
		if !ok {
			return r.finish(), nil
		}
		if err := r.step(k); err != nil {
			return Result{Utility: math.Inf(-1), Rungs: make([][]int, len(t.Tracks))}, err
		}
	}
}

// freePrice is the best price as if there were no network, which is where the
// search begins.
func (d *dual) freePrice() float64 {
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

// refine seeks a way that uses the budget up, and looks again with finer grids
// while it is far from the bound.
func (d *dual) refine() {
	for grid := coarse / 4; ; grid /= 4 {
		if len(d.tracks) == 1 {
			d.splice()
		}
		if grid < coarse/20 || d.upper-d.result.Utility <= goodGap*math.Abs(d.upper) {
			return
		}
		d.look(d.price, grid)
	}
}

// splice replays ways that begin as one and end as another of the best that
// were found.
func (d *dual) splice() {
	d.offer(make([]int, len(d.tracks[0].stages))) // or what the budget makes of it
	slices.SortFunc(d.ways, func(a, b way) int { return cmp.Compare(b.worth(d.price), a.worth(d.price)) })
	near := d.ways[:min(len(d.ways), 3)]
	for _, a := range near {
		for _, b := range near {
			mixed := slices.Clone(a.rungs)
			d.offer(mixed)
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
	plan := d.planOf(rungs)
	r, err := d.play(d.title, plan, d.setup.Budget)
	if err == nil && !slices.Equal(r.Rungs[0], rungs) {
		plan = d.planOf(r.Rungs[0])
		r, err = d.play(d.title, plan, d.setup.Budget)
	}
	if err == nil && r.Utility > d.result.Utility {
		plan.Rungs = slices.Clone(plan.Rungs)
		d.result, d.plan = r, plan
	}
}
