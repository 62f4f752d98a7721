package proxy

import (
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// An AgentState is what the agent is about, for our page, which plays what it
// says and tells a person why.
type AgentState struct {
	Wish     Wish           `json:"wish"`
	Coming   []ChoiceState  `json:"coming"`        // in the order of time; empty until the prices are known
	Why      *WhyState      `json:"why,omitempty"` // of the next segment of the picture, or of the sound
	Forecast int64          `json:"forecast"`      // bit/s, as it came lately; 0: not known
	Planned  lightning.Msat `json:"planned_msat"`  // from here to the end, fees included, if the network carries it
	Plan     []PointState   `json:"plan"`          // what will have been spent on the film by times to come
}

// A ChoiceState is a segment that our page is to ask for.
type ChoiceState struct {
	Kind  string         `json:"kind"`
	Rep   string         `json:"rep"`
	Start int64          `json:"start_ms"`
	Price lightning.Msat `json:"price_msat"` // that it adds
}

// A WhyState is why a rung was chosen and not the next better one.
type WhyState struct {
	Rep    string         `json:"rep"`
	Better string         `json:"better,omitempty"` // the next better rung; empty: there is none
	More   lightning.Msat `json:"more_msat"`        // what it would cost more
	Gain   float64        `json:"gain_db"`          // what it would gain
	Reason string         `json:"reason"`           // "best", "bought", "network", "price" (not worth it) or "money" (the end comes first)
}

// A PointState is a sum at a time of the film.
type PointState struct {
	At   int64          `json:"at_ms"`
	Msat lightning.Msat `json:"msat"`
}

// advise fills in what the agent says. f.mu is held.
func (f *film) advise(s *TitleState, money budget) {
	a := f.advised()
	now := f.stateOf(a, money.left)
	rest := a.floor.Rest(now)
	s.ToEnd, s.Enough = money.withFees(rest), !money.limited || rest <= money.left
	f.menu(a, now, money.limited)
	s.Cap = f.top
	s.Agent = &AgentState{Wish: f.wish, Coming: []ChoiceState{}, Forecast: f.proxy.gauge.rate()}
	s.Agent.outline(a, now, f.wish.preferences(), money, s.Spent)
	if a.policy == nil {
		return
	}
	for _, c := range a.coming(now, ahead) {
		s.Agent.Coming = append(s.Agent.Coming, ChoiceState{c.rep.ContentType, c.rep.ID, c.start.Milliseconds(), c.price})
	}
	s.Agent.Why = a.why(now)
}

// planPoints is about how many points of the plan the page gets.
const planPoints = 60

// outline fills in what will be spent.
func (r *AgentState) outline(a *adviser, s agent.State, p agent.Preferences, money budget, spent lightning.Msat) {
	o := agent.NewOutline(a.title, s, p)
	r.Planned = money.withFees(o.Total)
	r.Plan = []PointState{}
	sum, at, n := lightning.Msat(0), make([]int, len(o.Costs)), 0
	total := 0
	for _, costs := range o.Costs {
		total += len(costs)
	}
	for w := a.walk(s); ; n++ {
		k := w.behind()
		if k < 0 {
			break
		}
		start := w.starts[k][w.Next[k]]
		if n%max(total/planPoints, 1) == 0 {
			r.Plan = append(r.Plan, PointState{start.Milliseconds(), spent + money.withFees(sum)})
		}
		sum += o.Costs[k][at[k]]
		at[k]++
		w.Next[k]++
	}
	if total > 0 {
		r.Plan = append(r.Plan, PointState{a.end().Milliseconds(), spent + r.Planned})
	}
}

// end is when the last segment ends.
func (a *adviser) end() (end time.Duration) {
	for _, starts := range a.starts {
		end = max(end, starts[len(starts)-1])
	}
	return end
}

// why tells what keeps the agent from the next better rung: it is asked again
// as if there were no end of money, and as if the network knew no end.
func (a *adviser) why(s agent.State) *WhyState {
	const main = 0 // the picture, if there is one
	segments := a.title.Tracks[main].Segments
	if s.Next[main] == len(segments) {
		return nil
	}
	w := a.walk(s)
	rung := w.decide(main)
	rungs := segments[s.Next[main]].Rungs
	why := &WhyState{Rep: rungs[rung].ID, Reason: "best"}
	better := rung + 1
	if better == len(rungs) {
		return why
	}
	track := &a.title.Tracks[main]
	why.Better = rungs[better].ID
	why.More = track.Cost(s.Next[main], better, s.Last[main]) - track.Cost(s.Next[main], rung, s.Last[main])
	why.Gain = rungs[better].Quality - rungs[rung].Quality
	rich := s
	rich.Track, rich.Left = main, agent.NoLimit
	quick := s
	quick.Track, quick.Past, quick.Buffer = main, atOnce(s), full(s)
	affordable, _ := a.floor.Affordable(w.State, len(rungs)-1)
	switch {
	case a.ready[main][s.Next[main]] >= 0:
		why.Reason = "bought"
	case affordable <= rung:
		why.Reason = "money"
	case a.policy.Decide(rich).Rung > rung:
		why.Reason = "price"
	case a.policy.Decide(quick).Rung > rung:
		why.Reason = "network"
	default:
		why.Reason = "price"
	}
	return why
}

// atOnce are downloads of a network that carries everything.
func atOnce(s agent.State) (past []agent.Download) {
	for i := range 20 {
		past = append(past, agent.Download{At: s.Now - time.Duration(20-i)*time.Second, Took: 10 * time.Millisecond, Size: 10 << 20})
	}
	return past
}

func full(s agent.State) (buffer []time.Duration) {
	for range s.Buffer {
		buffer = append(buffer, s.Most)
	}
	return buffer
}
