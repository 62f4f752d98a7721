package replay

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// A Bound says what can be had of a title under a Setup.
type Bound struct {
	Upper    float64 // a utility that no policy exceeds
	Feasible Result  // what Plan gives, as [Run] says
	Plan     Plan
	Price    float64 // the shadow price of money at Upper: utility for a millisatoshi
}

// A Plan is a policy that knows all beforehand.
type Plan struct {
	Rungs [][]int           // by track and segment
	Waits [][]time.Duration // by track and segment, before it is fetched; nil: none
}

// Decide implements [agent.Policy].
func (p Plan) Decide(s agent.State) agent.Decision {
	d := agent.Decision{Rung: p.Rungs[s.Track][s.Next[s.Track]]}
	if p.Waits != nil {
		d.Wait = p.Waits[s.Track][s.Next[s.Track]]
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
// The maximum is found by dynamic programming over labels: (time of the last
// byte, waiting so far, value, rungs, keys in hand) after each segment. Which
// track comes next depends on nothing that is decided. Start and stalls count the
// same, and what is at a place of the film begins to play w after that place,
// where w is the most that any segment up to there was late. To wait, or to give
// up a download, is never better than to ask for the right thing early, since
// bytes that are asked for later are never here sooner (a latency that falls is
// allowed for). So a label that is earlier, has waited less and is worth more
// makes another needless.
//
// Labels that are closer together than a grid are joined to one that is better
// than each: what is given away by that is in favour of Upper. There are two more
// relaxations: where the film stood still for a key that was on its way (see
// Setup.Pay), room in the buffer may be had that much early; and beyond 64 rungs
// with keys for several segments, a key is paid for by use.
func Best(t *agent.Title, s Setup) (Bound, error) {
	if err := t.Check(); err != nil {
		return Bound{}, err
	}
	if err := s.check(); err != nil {
		return Bound{}, err
	}
	s = s.withDefaults()
	s.Each = nil
	first := newRun(t, nil, s)
	if rest := first.floor.Rest(first.state); rest > s.Budget {
		return Bound{}, fmt.Errorf("%w: it costs %v at least, the budget is %v", ErrBudget, rest, s.Budget)
	}
	d := newDual(t, s)
	if err := d.solve(); err != nil {
		return Bound{}, err
	}
	return d.bound()
}

// A way is a rung for each segment, and what it gives when money does not
// matter.
type way struct {
	rungs   [][]int // by track
	utility float64
	spent   float64 // msat
}

// worth is the value of a way at a price of money.
func (w way) worth(price float64) float64 { return w.utility - price*w.spent }

// A dual is minimised over the price of money.
type dual struct {
	title  *agent.Title
	setup  Setup
	course *course
	budget float64

	ways  []way // that were found, and can really be gone
	upper float64
	price float64 // of money, at upper

	result Result // of the best way that keeps to the budget
	plan   Plan
}

func newDual(t *agent.Title, s Setup) *dual {
	d := &dual{title: t, setup: s, course: newCourse(t, s), budget: float64(s.Budget), upper: math.Inf(1)}
	d.result.Utility = math.Inf(-1)
	return d
}

func (d *dual) bound() (Bound, error) {
	full, err := Run(d.title, d.plan, d.setup)
	if err != nil {
		return Bound{}, err
	}
	return Bound{Upper: max(d.upper, full.Utility), Feasible: full, Plan: d.plan, Price: d.price}, nil
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
func (d *dual) solve() error {
	price := d.freePrice()
	d.begin(price)
	if len(d.ways) == 0 {
		return fmt.Errorf("%w: no way through the title comes to an end", ErrTrace)
	}
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
	return nil
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
	c := d.course
	c.setPrice(price)
	c.setPerBit()
	d.learn(c.pass(grid, 5*grid, false, d.best(price).worth(price)).rungs)
	known := d.best(price)
	least := known.worth(price)
	least += nearly * math.Abs(least)
	found := c.pass(grid, grid, true, least)
	if found.value <= least {
		found = foundWay{least, known.rungs}
	}
	upper := found.value
	if price > 0 {
		upper += price * d.budget
	}
	if upper < d.upper {
		d.upper, d.price = upper, price
	}
	spent := c.spent(found.rungs)
	return line{price, found.value + price*spent, spent}
}

// begin finds some ways to start from: what players do, and a rough look.
func (d *dual) begin(price float64) {
	for _, name := range agent.Rules() {
		if p, err := agent.Rule(name, d.title, d.setup.Weights); err == nil {
			d.learn(d.play(p, agent.NoLimit).Rungs)
		}
	}
	d.course.setPrice(price)
	d.course.setPerBit()
	d.learn(d.course.pass(rough, 5*rough, false, d.best(price).worth(price)).rungs)
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

// learn replays a way, for what it really gives.
func (d *dual) learn(rungs [][]int) {
	if rungs == nil || slices.ContainsFunc(d.ways, func(w way) bool { return same(w.rungs, rungs) }) {
		return
	}
	if r := d.play(d.planOf(rungs), agent.NoLimit); r.Rungs != nil {
		d.ways = append(d.ways, way{rungs, r.Utility, float64(r.Spent)})
	}
}

func same(a, b [][]int) bool { return slices.EqualFunc(a, b, slices.Equal) }

func (d *dual) planOf(rungs [][]int) Plan { return Plan{rungs, d.course.waits(rungs)} }

// play is Run without its checks and sums. What cannot be played has no rungs.
func (d *dual) play(p agent.Policy, budget lightning.Msat) Result {
	s := d.setup
	s.Budget = budget
	r := newRun(d.title, p, s)
	if err := r.play(); err != nil {
		return Result{Utility: math.Inf(-1)}
	}
	r.result.value(d.title, s.Weights)
	return r.result
}

// freePrice is the best price as if there were no network, which is where the
// search begins.
func (d *dual) freePrice() float64 {
	spent := func(price float64) float64 {
		d.course.setPrice(price)
		return d.course.looseSpent()
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
		d.splice()
		if grid < coarse/20 || d.upper-d.result.Utility <= goodGap*math.Abs(d.upper) {
			return
		}
		d.look(d.price, grid)
	}
}

// splice replays ways that begin as one and end as another of the best that
// were found.
func (d *dual) splice() {
	low := make([][]int, len(d.title.Tracks))
	for k, t := range d.title.Tracks {
		low[k] = make([]int, len(t.Segments))
	}
	d.offer(low) // or what the budget makes of it
	slices.SortFunc(d.ways, func(a, b way) int { return cmp.Compare(b.worth(d.price), a.worth(d.price)) })
	near := d.ways[:min(len(d.ways), 3)]
	for _, a := range near {
		for _, b := range near {
			mixed := clone(a.rungs)
			d.offer(mixed)
			for _, t := range d.course.turns {
				if r := b.rungs[t.track][t.index]; mixed[t.track][t.index] != r {
					mixed[t.track][t.index] = r
					d.offer(mixed)
				}
			}
		}
	}
}

func clone(rungs [][]int) (out [][]int) {
	for _, r := range rungs {
		out = append(out, slices.Clone(r))
	}
	return out
}

// offer keeps a way, or what the budget makes of it, if it is the best so far.
func (d *dual) offer(rungs [][]int) {
	plan := d.planOf(rungs)
	r := d.play(plan, d.setup.Budget)
	if r.Rungs != nil && !same(r.Rungs, rungs) {
		plan = d.planOf(r.Rungs)
		r = d.play(plan, d.setup.Budget)
	}
	if r.Utility > d.result.Utility {
		plan.Rungs = clone(plan.Rungs)
		d.result, d.plan = r, plan
	}
}
