// Package trial holds policies of package agent to account: it replays titles
// over recorded networks under several budgets with each of them, sets what
// they reach beside what nobody could exceed (package replay), and adds up.
//
// It reads no files and draws nothing.
package trial

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/lightning"
)

// A Plan says what is tried: each title on each link with each budget, by each
// policy. Titles and links are to have names of their own.
type Plan struct {
	Titles   []*agent.Title
	Links    []Link
	Budgets  []Budget
	Policies []Policy
	Setup    replay.Setup // link and budget are filled in
	Workers  int          // cases at a time; 0: GOMAXPROCS
}

// A Link is a recorded network, one of a group: 3G, say.
type Link struct {
	*replay.Link
	Group string
}

// A Policy is made anew for each title.
type Policy struct {
	Name string
	Make func(*agent.Title, agent.Weights) (agent.Policy, error)
}

// A Budget is a share of what the best rungs of a title cost, or an amount.
type Budget struct {
	Share  float64        // used if it is above 0
	Amount lightning.Msat // of the whole title
}

// ErrBudget means that a text is no budget.
var ErrBudget = errors.New("not a budget")

// ParseBudget reads "0.3" or "30 %", a share of the best rungs' cost, "120 sat",
// or "none".
func ParseBudget(text string) (b Budget, err error) {
	s := strings.TrimSpace(text)
	if s == "none" {
		return Budget{Amount: agent.NoLimit}, nil
	}
	number, percent := strings.CutSuffix(s, "%")
	if b.Share, err = strconv.ParseFloat(strings.TrimSpace(number), 64); err == nil {
		if percent {
			b.Share /= 100
		}
		if !(b.Share > 0 && b.Share <= 1) {
			return b, fmt.Errorf("%w: %q: a share of the best rungs' cost is above 0 and at most 1, such as 0.3; an amount has a unit, such as \"300 sat\"", ErrBudget, text)
		}
		return b, nil
	}
	if err := b.Amount.UnmarshalText([]byte(s)); err != nil {
		return b, fmt.Errorf("%w: %q: want a share such as 0.3, an amount such as \"300 sat\", or none", ErrBudget, text)
	}
	return b, nil
}

func (b Budget) String() string {
	switch {
	case b.Share > 0:
		return strconv.FormatFloat(b.Share, 'g', 3, 64)
	case b.Amount == agent.NoLimit:
		return "none"
	}
	return b.Amount.String()
}

// Of is the budget for a title.
func (b Budget) Of(t *agent.Title) lightning.Msat {
	if b.Share > 0 {
		return lightning.Msat(b.Share * float64(Top(t)))
	}
	return b.Amount
}

// Top is what the best rungs of a title cost.
func Top(t *agent.Title) (sum lightning.Msat) {
	for k := range t.Tracks {
		last := -1
		for i, s := range t.Tracks[k].Segments {
			rung := len(s.Rungs) - 1
			sum += t.Tracks[k].Cost(i, rung, last)
			last = rung
		}
	}
	return sum
}

// An Account is what came out.
type Account struct {
	Policies []string `json:"policies"`
	Cases    []Case   `json:"cases"`
}

// A Case is one title on one link with one budget.
type Case struct {
	Title    string         `json:"title"`
	Group    string         `json:"group"`
	Trace    string         `json:"trace"`
	Budget   string         `json:"budget"`
	Money    lightning.Msat `json:"money_msat"`
	Length   float64        `json:"length_s"`
	Segments int            `json:"segments"` // of the first track
	Fetched  int            `json:"fetched"`  // segments of all tracks
	// Poor says that the money does not carry even the cheapest way to the
	// end: then nothing was played.
	Poor  bool    `json:"poor,omitempty"`
	Bound float64 `json:"bound"`          // utility that nobody exceeds
	Best  float64 `json:"best,omitempty"` // utility of a way that is known; 0: none is known
	Plays []Play  `json:"plays"`          // by policy
}

// A Play is what one policy made of a case.
type Play struct {
	Policy   string         `json:"policy"`
	Utility  float64        `json:"utility"`
	Quality  float64        `json:"quality_db"` // mean of the first track
	Changes  float64        `json:"changes_db"` // sum, of the first track
	Switches int            `json:"switches"`
	Start    float64        `json:"start_s"`
	Stall    float64        `json:"stall_s"` // after the start
	Stalls   int            `json:"stalls"`
	Spent    lightning.Msat `json:"spent_msat"`
	Unplayed lightning.Msat `json:"unplayed_msat"` // of it, for what was not played
	Stopped  lightning.Msat `json:"stopped_msat"`  // paid for and not played yet when a viewer stops: the mean over all moments
	QoE      float64        `json:"qoe_lin"`       // of Pensieve, by segment of the first track; see [replay.Result]
	Bytes    int64          `json:"bytes"`
	Wasted   int64          `json:"wasted_bytes"` // of them, of downloads that were given up
	Took     time.Duration  `json:"-"`            // to replay it: no two times the same
}

// Share is what part of the bound a play reached. Without ok the bound is not
// above 0, on a network that is hardly there, and a share would mean nothing.
func (c Case) Share(policy int) (share float64, ok bool) {
	if c.Poor || c.Bound <= 0 {
		return 0, false
	}
	return c.Plays[policy].Utility / c.Bound, true
}

// Over reports whether a policy spent more than there was.
func (c Case) Over(policy int) bool { return !c.Poor && c.Plays[policy].Spent > c.Money }

// Run tries all. It tells done, if that is not nil, after each case; not two at
// a time. The account is in the order of the plan: title, link, budget.
func (p Plan) Run(ctx context.Context, done func(n, of int)) (*Account, error) {
	cases, err := p.cases()
	if err != nil {
		return nil, err
	}
	a := &Account{Cases: make([]Case, len(cases))}
	for _, policy := range p.Policies {
		a.Policies = append(a.Policies, policy.Name)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu      sync.Mutex
		next, n int
		wg      sync.WaitGroup
	)
	take := func() (i int, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= len(cases) && ctx.Err() == nil
	}
	for range min(p.workers(), len(cases)) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				c, err := cases[i].run(ctx, p)
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				a.Cases[i] = c
				if n++; done != nil {
					done(n, len(cases))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

func (p Plan) workers() int {
	if p.Workers > 0 {
		return p.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// A trial is a case before it was run.
type trial struct {
	title  *agent.Title
	link   Link
	budget Budget
}

func (p Plan) cases() (out []trial, err error) {
	for _, t := range p.Titles {
		if err := t.Check(); err != nil {
			return nil, fmt.Errorf("title %s: %w", t.Name, err)
		}
		for _, l := range p.Links {
			for _, b := range p.Budgets {
				out = append(out, trial{t, l, b})
			}
		}
	}
	if len(out) == 0 || len(p.Policies) == 0 {
		return nil, errors.New("nothing to try: a title, a link, a budget and a policy are needed")
	}
	return out, nil
}

func (t trial) run(ctx context.Context, p Plan) (Case, error) {
	s := p.setup(t)
	c := Case{Title: t.title.Name, Group: t.link.Group, Trace: t.link.Name, Budget: t.budget.String(), Money: s.Budget, Length: length(t.title), Segments: len(t.title.Tracks[0].Segments)}
	for _, track := range t.title.Tracks {
		c.Fetched += len(track.Segments)
	}
	for _, policy := range p.Policies {
		if err := context.Cause(ctx); err != nil {
			return c, err
		}
		made, err := policy.Make(t.title, s.Weights)
		if err != nil {
			return c, fmt.Errorf("policy %s: %w", policy.Name, err)
		}
		begun := time.Now()
		r, err := replay.Run(t.title, made, s)
		if errors.Is(err, replay.ErrBudget) {
			c.Poor = true
			return c, nil
		}
		if err != nil {
			return c, fmt.Errorf("%s on %s by %s: %w", c.Title, c.Trace, policy.Name, err)
		}
		c.Plays = append(c.Plays, t.play(policy.Name, r, time.Since(begun)))
	}
	if err := context.Cause(ctx); err != nil {
		return c, err
	}
	return c, t.limit(&c, s)
}

// A Step is one segment that a policy fetched.
type Step struct {
	replay.Step
	Quality float64       // decibel
	Media   time.Duration // that it plays
}

// Replay plays a case of the plan again and returns its steps.
func (p Plan) Replay(c Case, policy string) (steps []Step, err error) {
	cases, err := p.cases()
	if err != nil {
		return nil, err
	}
	for _, t := range cases {
		if t.title.Name != c.Title || t.link.Group != c.Group || t.link.Name != c.Trace || t.budget.String() != c.Budget {
			continue
		}
		i := slices.IndexFunc(p.Policies, func(p Policy) bool { return p.Name == policy })
		if i < 0 {
			return nil, fmt.Errorf("policy %q is not in the plan", policy)
		}
		made, err := p.Policies[i].Make(t.title, p.Setup.Weights)
		if err != nil {
			return nil, err
		}
		s := p.setup(t)
		s.Each = func(step replay.Step) {
			seg := t.title.Tracks[step.Track].Segments[step.Index]
			steps = append(steps, Step{step, seg.Rungs[step.Rung].Quality, seg.Duration})
		}
		_, err = replay.Run(t.title, made, s)
		return steps, err
	}
	return nil, errors.New("the case is not in the plan")
}

func (p Plan) setup(t trial) replay.Setup {
	s := p.Setup
	s.Link, s.Budget = t.link.Link, t.budget.Of(t.title)
	return s
}

func length(t *agent.Title) (sum float64) {
	for _, s := range t.Tracks[0].Segments {
		sum += s.Duration.Seconds()
	}
	return sum
}

func (t trial) play(policy string, r replay.Result, took time.Duration) Play {
	return Play{
		Policy: policy, Utility: r.Utility, Quality: r.Quality, Changes: r.Changes, Switches: r.Switches,
		Start: r.Start.Seconds(), Stall: r.Stall.Seconds(), Stalls: r.Stalls, Spent: r.Spent, Unplayed: unplayed(t.title, r.Rungs),
		Stopped: r.Unplayed, QoE: r.QoE, Bytes: r.Bytes, Wasted: r.Wasted, Took: took,
	}
}
