package proxy

import (
	"math"
	"slices"
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// An AgentState is what the agent is about, for our page, which plays what it
// says and tells a person why.
type AgentState struct {
	Wish     Wish           `json:"wish"`
	Sound    bool           `json:"sound_only"`    // the picture is left out
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
	End   int64          `json:"end_ms"`
	Price lightning.Msat `json:"price_msat"` // that it adds
}

// A WhyState is why a rung was chosen and not the next better one.
type WhyState struct {
	Rep    string         `json:"rep"`
	Better string         `json:"better,omitempty"` // the next better rung; empty: there is none
	More   lightning.Msat `json:"more_msat"`        // what it would cost more: its share, where a key opens several segments
	Gain   float64        `json:"gain_db"`          // what it would gain
	// Reason is "best": there is no better one; "bought": it is bought already;
	// "money": the end of the film could not be paid; "price": the gain is not
	// worth what it costs elsewhere; "steady": nor the change; "network": it may
	// come too late; "unwanted": the viewer does not want it.
	Reason string `json:"reason"`
}

// A PointState is a sum at a time of the film.
type PointState struct {
	At   int64          `json:"at_ms"`
	Msat lightning.Msat `json:"msat"`
}

// An occasion is what an advice depends on, but for the buffers, which drain.
type occasion struct {
	adviser      *adviser
	wish         Wish
	money        budget
	spent        lightning.Msat
	from         time.Duration
	video, audio piece // that were asked for last
}

// An advice is what the agent says on an occasion. It is not changed.
type advice struct {
	occasion

	at    time.Time
	rest  lightning.Msat // what the cheapest way to the end costs
	top   int64          // bit/s of the best rung that can be on a menu; 0: no limit
	start []string       // Representations that our page starts with; nil until the prices are known
	agent *AgentState
}

// adviceAge is how long an advice is good: the agent decides anew before a player
// has played much of what it had in hand.
const adviceAge = time.Second

// advise fills in what the agent says. f.mu is held.
func (f *film) advise(s *TitleState, money budget) {
	o := occasion{f.advised(), f.wish, money, s.Spent, f.from, f.now["video"], f.now["audio"]}
	if f.advice.occasion != o || time.Since(f.advice.at) >= adviceAge {
		f.advice = f.advised().advice(f, o)
	}
	a := &f.advice
	f.top = a.top
	s.ToEnd, s.Enough = money.withFees(a.rest), !money.limited || a.rest <= money.left
	s.Cap, s.Start, s.Agent = a.top, a.start, a.agent
}

// advice asks the agent. f.mu is held.
func (a *adviser) advice(f *film, o occasion) advice {
	now := f.stateOf(a, o.money.left)
	out := advice{occasion: o, at: time.Now(), rest: a.floor.Rest(now), top: f.reach(a, now, o.money)}
	out.agent = &AgentState{Wish: f.wish, Sound: f.soundOnly(), Coming: []ChoiceState{}, Forecast: f.proxy.gauge.rate()}
	out.agent.outline(a, now, f.wish.preferences(), o.money, o.spent)
	if a.policy == nil {
		return out
	}
	begun := map[string]bool{}
	for _, c := range a.coming(now, ahead) {
		out.agent.Coming = append(out.agent.Coming, ChoiceState{c.rep.ContentType, c.rep.ID, c.start.Milliseconds(), c.end.Milliseconds(), c.price})
		if !begun[c.rep.ContentType] {
			begun[c.rep.ContentType] = true
			out.start = append(out.start, c.rep.ID)
		}
	}
	out.agent.Why = a.why(now)
	return out
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

// why tells what keeps the agent from the next better rung.
func (a *adviser) why(s agent.State) *WhyState {
	main := a.main(s)
	track := &a.title.Tracks[main]
	i := s.Next[main]
	if i == len(track.Segments) {
		return nil
	}
	s.Track = main
	thought := a.policy.Explain(s)
	rung := a.ready[main][i]
	if rung < 0 {
		rung, _ = a.floor.Affordable(s, thought.Options[thought.Choice].Rung)
	}
	rungs := track.Segments[i].Rungs
	better := rung + 1
	if better == len(rungs) {
		return &WhyState{Rep: rungs[rung].ID, Reason: "best"}
	}
	why := &WhyState{
		Rep: rungs[rung].ID, Better: rungs[better].ID,
		More: share(track, i, better, s.Last[main]) - share(track, i, rung, s.Last[main]),
		Gain: rungs[better].Quality - rungs[rung].Quality,
	}
	why.Reason = a.reason(s, thought, rung, better, why)
	return why
}

// share is what a rung of a segment costs a player that had rung last before: of
// a key that opens several, the segment's part.
func share(t *agent.Track, i, rung, last int) lightning.Msat {
	first, end := t.Segments[i].Rungs[rung].First, i+1
	for end < len(t.Segments) && rung < len(t.Segments[end].Rungs) && t.Segments[end].Rungs[rung].First == first {
		end++
	}
	return t.Cost(i, rung, last) / lightning.Msat(end-first)
}

func (a *adviser) reason(s agent.State, t agent.Thought, rung, better int, why *WhyState) string {
	if a.ready[s.Track][s.Next[s.Track]] >= 0 {
		return "bought"
	}
	if most, _ := a.floor.Affordable(s, better); most < better {
		return "money"
	}
	if t.Price*float64(why.More) >= why.Gain {
		return "price"
	}
	option := func(r int) agent.Option {
		i := slices.IndexFunc(t.Options, func(o agent.Option) bool { return o.Rung == r })
		if i < 0 {
			return agent.Option{Gain: math.Inf(-1)}
		}
		return t.Options[i]
	}
	switch now, up := option(rung), option(better); {
	case math.IsInf(up.Gain, -1):
		return "unwanted"
	case up.Gain <= now.Gain:
		return "steady"
	default:
		return "network"
	}
}
