// Package bazaar simulates markets of honest and other providers, to see how a
// rule for choosing among them does. It is for tests, for the documentation, and
// for whoever has a better rule: a rule is a [Chooser].
//
// One segment falls due every four seconds, and two seconds later it is late. On
// time it is worth 300 msat. Each second of waiting costs 300 more, and after
// two of them nothing comes any more. Keys cost 60 to 200 msat, but not all
// providers are what they seem; see [Scenarios].
//
// The buyer is as real ones are: it does not learn how long somebody would have
// taken whom it did not wait for, and it pays only the one whose answer it uses.
package bazaar

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"htlcdash/agent/market"
	"htlcdash/lightning"
)

// A Chooser chooses among providers, and learns. [market.Market] is one.
type Chooser interface {
	Rank(now time.Time, cands []market.Candidate, need market.Need) []market.Choice
	HedgeAfter(now time.Time, first, second market.Candidate, need market.Need) time.Duration
	Observe(now time.Time, id string, o market.Outcome)
}

// A Policy makes a Chooser for one run.
type Policy struct {
	Name string
	New  func(seed uint64) Chooser
}

const (
	every    = 4 * time.Second
	deadline = 2.0 // seconds
	giveUp   = 4.0
	worth    = 300.0
	late     = 300.0 // per second
	ceiling  = 300
	refusal  = 0.1 // seconds until a bad offer is seen to be one
)

// A Result is how a policy did. Money is in msat.
type Result struct {
	Utility  float64   // per segment: worth, less waiting, less money
	Regret   float64   // per segment: what always asking the best would have brought more, asking no second one
	Worst    float64   // utility per segment of the worst hundred in a row
	Stalled  float64   // share of segments that were late
	Paid     float64   // per segment
	P95      float64   // seconds until the segment was there, of 95 in 100
	Second   float64   // second requests per segment
	Switches float64   // share of segments served by another provider than the one before
	Useless  float64   // share of requests that went to those who never deliver
	Curve    []float64 // utility per segment, for each fiftieth part of the run
	First    []string  // who was asked first, by segment
}

// Simulate runs a policy through a scenario of a number of segments.
func Simulate(s Scenario, p Policy, segments int, seed uint64) Result {
	r := &run{
		seed:    seed,
		chooser: p.New(seed),
		sellers: s.sellers(rand.New(rand.NewPCG(seed, 2)), segments),
		total:   segments,
	}
	for i, s := range r.sellers {
		s.number = i
	}
	for r.t = range segments {
		r.segment()
	}
	return r.result()
}

// Mean is the mean of several runs, but for Worst, which is the worst.
func Mean(results []Result) (m Result) {
	n := float64(len(results))
	m.Worst = math.Inf(1)
	for _, r := range results {
		m.Utility += r.Utility / n
		m.Regret += r.Regret / n
		m.Stalled += r.Stalled / n
		m.Paid += r.Paid / n
		m.P95 += r.P95 / n
		m.Second += r.Second / n
		m.Switches += r.Switches / n
		m.Useless += r.Useless / n
		m.Worst = min(m.Worst, r.Worst)
		if m.Curve == nil {
			m.Curve = make([]float64, len(r.Curve))
		}
		for i, u := range r.Curve {
			m.Curve[i] += u / n
		}
	}
	return m
}

type run struct {
	seed    uint64
	chance  rand.PCG
	chooser Chooser
	sellers []*seller
	total   int
	t       int // segment that is due

	result_  Result
	utility  []float64
	took     []float64
	last     *seller
	requests int
	useless  int
	best     float64
}

func (r *run) now() time.Time { return time.Unix(0, 0).Add(time.Duration(r.t) * every) }

// an answer is what comes of asking a seller.
type answer struct {
	*seller
	asked float64 // seconds after the segment fell due
	kind  market.Kind
	took  float64
	price float64
}

func (a answer) ends() float64 { return a.asked + a.took }

func (r *run) ask(s *seller, at float64) answer {
	r.requests++
	if s.useless {
		r.useless++
	}
	a := answer{seller: s, asked: at}
	// The same seller does the same at the same segment, whoever asks: policies
	// are compared under the same luck.
	r.chance.Seed(r.seed, uint64(s.number)<<32|uint64(r.t))
	a.kind, a.took, a.price = s.act(r.t, rand.New(&r.chance))
	if a.price > ceiling {
		a.kind, a.took = market.Gouged, refusal
	}
	return a
}

// segment buys one. It asks one provider after the other: the next when the one
// before has failed, or when the chooser wants to wait no longer; no more than
// two at a time.
func (r *run) segment() {
	var cands []market.Candidate
	var here []*seller
	for _, s := range r.sellers {
		if s.here(r.t) {
			cands = append(cands, market.Candidate{ID: s.id, Group: s.group, Price: lightning.Msat(s.advert)})
			here = append(here, s)
		}
	}
	r.best += best(here, r.t)
	need := market.Need{Deadline: seconds(deadline), Ceiling: ceiling, Worth: worth, Late: late}
	order := r.chooser.Rank(r.now(), cands, need)
	if len(order) == 0 {
		r.book(nil, giveUp, -worth, 0)
		return
	}
	r.result_.First = append(r.result_.First, cands[order[0].Index].ID)
	lost := 0.0
	var first *answer // that is waited for
	at := 0.0
	for k, c := range order {
		a := r.ask(here[c.Index], at)
		if k > 0 {
			r.result_.Second++
		}
		if first != nil { // a is the second
			one, two := *first, a
			if two.good() && (!one.good() || two.ends() < one.ends()) {
				one, two = two, one
			}
			if one.good() && one.ends() <= giveUp {
				r.settle(one)
				r.missed(two, one.ends(), &lost)
				r.book(one.seller, one.ends(), value(one.ends())-one.price-lost, one.price+lost)
				return
			}
			r.failed(one, &lost)
			r.failed(two, &lost)
			at, first = min(max(one.fails(), two.fails()), giveUp), nil
			if at >= giveUp {
				break
			}
			continue
		}
		need.Deadline = seconds(deadline - at)
		wait := math.Inf(1)
		if k+1 < len(order) {
			wait = r.chooser.HedgeAfter(r.now(), cands[c.Index], cands[order[k+1].Index], need).Seconds()
		}
		switch {
		case a.good() && a.took <= wait && a.ends() <= giveUp:
			r.settle(a)
			r.book(a.seller, a.ends(), value(a.ends())-a.price-lost, a.price+lost)
			return
		case a.fails() <= at+wait && a.fails() < giveUp: // seen to be bad before help was due
			r.failed(a, &lost)
			at = a.fails()
		case at+wait < giveUp:
			first = &a
			at += wait
		default:
			r.failed(a, &lost)
			at = giveUp
		}
		if at >= giveUp {
			break
		}
	}
	if first != nil {
		r.failed(*first, &lost)
	}
	r.book(nil, giveUp, -worth-lost, lost)
}

func (a answer) good() bool { return a.kind == market.Delivered }

// fails is when it is known that nothing good comes of it.
func (a answer) fails() float64 {
	switch a.kind {
	case market.Gouged, market.Refused, market.Garbled, market.Cheated:
		return a.ends()
	}
	return giveUp
}

func (r *run) settle(a answer) {
	r.observe(a, market.Delivered, a.took)
	a.sold++
}

// failed tells of an answer that was waited for in vain.
func (r *run) failed(a answer, lost *float64) {
	switch {
	case a.kind == market.Delivered:
		r.observe(a, market.Late, giveUp-a.asked)
	default:
		if a.kind == market.Cheated {
			*lost += a.price
		}
		r.observe(a, a.kind, min(a.took, giveUp-a.asked))
	}
}

// missed tells of an answer that was not there when another one was.
func (r *run) missed(a answer, end float64, lost *float64) {
	if a.fails() <= end {
		r.failed(a, lost)
		return
	}
	r.observe(a, market.Late, end-a.asked)
}

func (r *run) observe(a answer, kind market.Kind, took float64) {
	o := market.Outcome{Kind: kind, Took: seconds(took), Group: a.group, Ceiling: ceiling}
	if kind == market.Delivered || kind == market.Cheated {
		o.Price = lightning.Msat(a.price)
	}
	r.chooser.Observe(r.now(), a.id, o)
}

// value is what a segment is worth that comes after some seconds.
func value(t float64) float64 { return worth - late*min(max(t-deadline, 0), giveUp-deadline) }

func (r *run) book(s *seller, took, utility, paid float64) {
	r.utility = append(r.utility, utility)
	r.took = append(r.took, took)
	r.result_.Paid += paid
	if took > deadline {
		r.result_.Stalled++
	}
	if s != nil {
		if r.last != nil && s != r.last {
			r.result_.Switches++
		}
		r.last = s
	}
}

func (r *run) result() Result {
	out, n := r.result_, float64(r.total)
	out.Utility = sum(r.utility) / n
	out.Regret = r.best/n - out.Utility
	out.Stalled /= n
	out.Paid /= n
	out.Second /= n
	out.Switches /= n
	out.Useless = float64(r.useless) / float64(r.requests)
	out.Worst = worst(r.utility, min(100, r.total))
	slices.Sort(r.took)
	out.P95 = r.took[int(0.95*float64(len(r.took)-1))]
	const parts = 50
	for i := range parts {
		if part := r.utility[i*r.total/parts : (i+1)*r.total/parts]; len(part) > 0 {
			out.Curve = append(out.Curve, sum(part)/float64(len(part)))
		}
	}
	return out
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

// worst is the least mean of a number of values in a row.
func worst(x []float64, window int) float64 {
	s := sum(x[:window])
	least := s
	for i := window; i < len(x); i++ {
		s += x[i] - x[i-window]
		least = min(least, s)
	}
	return least / float64(window)
}

func seconds(s float64) time.Duration { return time.Duration(min(s, 1e6) * float64(time.Second)) }
