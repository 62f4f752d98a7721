package agent

import (
	"cmp"
	"math"
	"slices"
	"time"

	"htlcdash/lightning"
)

// An Agent is this project's own policy. It is three parts:
//
//   - an outlook on the network, learnt from the downloads: how fast it is, how
//     long that lasts, how often and for how long nothing comes;
//   - a plan of the whole title that tells what an msat is worth, so that the
//     rest of it spends what is left;
//   - foresight over the next minutes: a dynamic program over buffer, network
//     and rung that weighs quality, changes, waiting and money.
//
// All is solved anew for each decision, from the State alone, so an error of
// the outlook or of the plan mends itself with the next segment.
//
// Foresight over a distribution of what the network may do is Fugu's (Yan et
// al., NSDI 2020), with a Markov chain that is learnt while playing instead of
// a trained network; that the buffer decides most is BOLA's (Spiteri et al.,
// INFOCOM 2016), whose rule is what such a program comes to if all segments are
// alike. One price for all that money buys, found by dual decomposition, is
// Everett's (Operations Research 11, 1963); a budget for bytes was planned like
// that by DataPlanner (MMSys 2021).
type Agent struct {
	title   *Title
	strict  *book   // by the preferences
	loose   *book   // without the bounds that cost money; the same if there are none
	stall   float64 // cost of a second, with caution
	waiting float64 // and without
	thrift  float64 // least price of money
}

// caution is how much more a second of waiting counts in foresight than the
// weights say. An outlook that is learnt from minutes does not know what it has
// not seen, and errs most where it costs most. Against none it takes about one
// percent off the mean utility, and most of the waiting that the lowest rung
// would have spared.
//
// A decibel counts by the segment and waiting by the second, so the same caution
// would weigh several times as much where segments are long. It is that of
// segments of two seconds, and less for longer ones.
const (
	caution  = 8
	cautious = 2.0 // seconds
)

// A book is a title by what is allowed of it.
type book struct {
	ladders []*ladder
	plan    *plan
	order   []int   // tracks, the one that takes most bits first
	floor   float64 // bit/s of the lowest rungs
}

// New returns an Agent for a title that passes [Title.Check] and is not changed
// afterwards, and for preferences that pass [Preferences.Validate]. For an hour
// of film it takes some ten milliseconds.
func New(t *Title, p Preferences) *Agent {
	p.Weights = p.weights()
	a := &Agent{title: t, strict: newBook(t, p), waiting: p.Weights.Stall}
	a.stall = p.Weights.Stall * max(1, caution*min(1, cautious/a.strict.segment()))
	a.loose = a.strict
	if p.MinHeight > 0 || p.MinSound > 0 {
		a.loose = newBook(t, p.loose())
	}
	if price := a.strict.dearest(); price > 0 {
		a.thrift = p.Thrift / price
	}
	return a
}

func newBook(t *Title, p Preferences) *book {
	b := &book{}
	most := 0.0
	for k := range t.Tracks {
		l := newLadder(&t.Tracks[k], p)
		b.ladders = append(b.ladders, l)
		if top := l.total(l.width - 1).bits; top > most || k == 0 {
			most = top
			b.order = append([]int{k}, b.order...)
		} else {
			b.order = append(b.order, k)
		}
		b.floor += l.rate(0)
	}
	b.plan = newPlan(b.ladders)
	return b
}

// dearest is the mean price of a segment, of the track that costs most, at its
// best.
func (b *book) dearest() (price float64) {
	for _, l := range b.ladders {
		price = max(price, l.total(l.width-1).stay/float64(len(l.seconds)))
	}
	return price
}

// segment is the mean length, in seconds, of those of the track that takes most
// bits.
func (b *book) segment() float64 {
	l := b.ladders[b.order[0]]
	return l.begins[len(l.seconds)] / float64(len(l.seconds))
}

// unpaid is, by track, the first segment that has no key in hand. Of the track
// paid, -1 for none, the segment that is due counts as having one.
func (b *book) unpaid(s State, paid int) []int {
	next := slices.Clone(s.Next)
	for k, l := range b.ladders {
		if k == paid {
			next[k]++
		}
		if i := next[k]; l.ends != nil && i > 0 && (k == paid || s.Last[k] >= 0) {
			next[k] = max(i, l.ends[i-1])
		}
	}
	return next
}

// spare is what may be spent so that the lowest rungs of all that is unpaid can
// still be paid.
func (b *book) spare(s State, paid int) float64 {
	if s.Left == NoLimit {
		return math.Inf(1)
	}
	rest, _ := b.plan.need(b.unpaid(s, paid), len(b.plan.prices)-1, 0)
	return float64(s.Left) - rest
}

// principal is the track, of those that go on, which takes most bits.
func (b *book) principal(s State) int {
	for _, k := range b.order {
		if s.Next[k] < len(b.ladders[k].seconds) {
			return k
		}
	}
	return s.Track
}

// seconds is how much is left of the longest track.
func (b *book) seconds(next []int) (rest float64) {
	for k, l := range b.ladders {
		rest = max(rest, l.begins[len(l.seconds)]-l.begins[next[k]])
	}
	return rest
}

// A Thought is why a decision is what it is.
type Thought struct {
	Price   float64       `json:"price"`   // what an msat is worth, in weighted decibel; 0: there is enough
	Rate    float64       `json:"rate"`    // bit/s that are seen now
	Mean    float64       `json:"mean"`    // bit/s that are expected in the long run, outages and all
	Latency time.Duration `json:"latency"` // until the first byte
	Every   time.Duration `json:"every"`   // mean time between outages that is reckoned with
	Outage  time.Duration `json:"outage"`  // their mean length
	Options []Option      `json:"options"` // the rungs that were weighed
	Choice  int           `json:"choice"`  // index of the best of them
}

// An Option is a rung that was weighed.
type Option struct {
	Rung  int            `json:"rung"`
	Gain  float64        `json:"gain"`  // its quality less the change to it, weighted decibel
	Cost  lightning.Msat `json:"cost"`  // 0 if its key is here
	Stall time.Duration  `json:"stall"` // that is expected while it is fetched
	Value float64        `json:"value"` // all in all, what comes after it included; only differences mean something
}

// Haste is what a second of waiting less is worth in a state: its weight, without
// the caution of foresight, by what money is worth. [NoLimit], if there is enough.
func (a *Agent) Haste(s State) lightning.Msat {
	b := a.strict
	if b.spare(s, -1) < 0 {
		b = a.loose
	}
	price, _ := b.plan.solve(s.Next, s.Left, observe(s, b.floor).mean*b.seconds(s.Next))
	if price = max(price, a.thrift); price == 0 {
		return NoLimit
	}
	return lightning.Msat(min(a.waiting/price, float64(maxHaste)))
}

// maxHaste keeps what haste is worth far from where sums overflow.
const maxHaste = lightning.Msat(1 << 50)

// Decide implements [Policy]. It takes a fraction of a millisecond.
func (a *Agent) Decide(s State) Decision {
	t := a.think(s, nil)
	return Decision{Rung: t.Options[t.Choice].Rung}
}

// Explain says why Decide decides as it does.
func (a *Agent) Explain(s State) Thought { return a.think(s, nil) }

// think weighs the rungs of the segment that is due, one of which may be on its
// way.
func (a *Agent) think(s State, going *Progress) Thought {
	b := a.strict
	if b.spare(s, -1) < 0 {
		b = a.loose
	}
	o := observe(s, b.floor)
	price, toll := b.plan.solve(s.Next, s.Left, o.mean*b.seconds(s.Next))
	price = max(price, a.thrift)
	main := b.principal(s)
	f := foresights.Get().(*foresight)
	defer foresights.Put(f)
	f.look(b, s, o, main, a.stall, price, toll)
	t := Thought{
		Price: price, Rate: o.rates[stateNow], Mean: o.mean, Latency: seconds(o.latency),
		Every: seconds(1 / o.hazard), Outage: seconds(o.outage),
	}
	if s.Track == main {
		t.Options = f.weigh(s, going)
	} else {
		t.Options = f.beside(b.ladders[s.Track], s, going)
	}
	spare := math.Inf(1) // what bounds nothing is left to Floor.Affordable
	if b != a.loose {
		spare = b.spare(s, s.Track)
	}
	t.Choice = choose(t.Options, spare)
	return t
}

// choose returns the best of the options that cost no more than can be spared,
// or than the cheapest does.
func choose(options []Option, spare float64) (best int) {
	cheapest := slices.MinFunc(options, func(a, b Option) int { return cmp.Compare(a.Cost, b.Cost) })
	spare = max(spare, float64(cheapest.Cost))
	value := math.Inf(-1)
	for k, o := range options {
		if float64(o.Cost) <= spare && o.Value > value {
			best, value = k, o.Value
		}
	}
	return best
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1e9) * float64(time.Second))
}

// held is what a track has in hand or will have when keys are here.
func (s State) held(k int) float64 {
	have := s.Buffer[k]
	if k < len(s.Coming) {
		have += s.Coming[k]
	}
	return have.Seconds()
}

// Constants of when a download is given up.
const (
	patience  = 500 * time.Millisecond // before which nothing can be said of it
	worthLess = 0.8                    // of what it leaves to fetch, so much must be spared
	inTime    = 0.8                    // of the buffer, in which the rest may come
	margin    = 0.5                    // decibel that the other rung must be better by
)

// Abandon implements [Abandoner]: a download is given up when it threatens to
// let the picture stand still, and a lower rung is worth more than what is left
// to fetch of it.
func (a *Agent) Abandon(s State, p Progress) (rung int, ok bool) {
	rungs := a.title.Tracks[s.Track].Segments[s.Next[s.Track]].Rungs
	left := float64(rungs[p.Rung].Size - p.Got)
	took := s.Now - p.Since
	if p.Rung == 0 || took < patience || float64(rungs[0].Size) > left*worthLess {
		return 0, false
	}
	if rate := float64(p.Got) / took.Seconds(); left < rate*s.held(s.Track)*inTime {
		return 0, false
	}
	s.Past = append(s.Past[:len(s.Past):len(s.Past)], Download{At: p.Since, Took: took, Size: p.Got})
	t := a.think(s, &p)
	best := t.Options[t.Choice]
	for _, o := range t.Options {
		if o.Rung == p.Rung && best.Rung < o.Rung && best.Value > o.Value+margin {
			return best.Rung, true
		}
	}
	return 0, false
}
