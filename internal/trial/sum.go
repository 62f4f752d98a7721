package trial

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// A Row is what a policy did in some cases.
type Row struct {
	Policy string `json:"policy"`
	// Of a group of cases: its name, or "" for all.
	Of    string `json:"of,omitempty"`
	Cases int    `json:"cases"`
	// Shares are of the cases whose bound is above 0.
	Shares   int     `json:"shares"`
	Median   float64 `json:"median_share"`
	P10      float64 `json:"p10_share"`
	Above    int     `json:"above_bound"`     // cases; the bound is wrong if there are any
	Over     int     `json:"over_budget"`     // cases
	Stall    float64 `json:"stall_s"`         // in all
	Ratio    float64 `json:"stall_ratio"`     // of stall and media, to both
	Start    float64 `json:"start_s"`         // median
	Switches float64 `json:"switches_a_min"`  // mean
	Quality  float64 `json:"quality_db"`      // mean
	Spent    float64 `json:"spent_sat_a_min"` // mean
	Unplayed float64 `json:"unplayed_share"`  // of what was spent
	Stopped  float64 `json:"stopped_sat"`     // mean
	QoE      float64 `json:"qoe_lin"`         // mean
}

// Rows sums up by policy, over all cases that were played and of which of gives
// the name; "" where there is but one. Names are in the order of the cases.
func (a *Account) Rows(of func(Case) string) (rows []Row) {
	var names []string
	groups := map[string][]Case{}
	for _, c := range a.Cases {
		if c.Poor {
			continue
		}
		name := of(c)
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], c)
	}
	for _, name := range names {
		for p, policy := range a.Policies {
			r := sum(groups[name], p)
			r.Policy, r.Of = policy, name
			rows = append(rows, r)
		}
	}
	return rows
}

// Known is what share of the bound the ways that are known reach: the least and
// the median; 0 where none is known.
func (a *Account) Known() (least, median float64) {
	var shares []float64
	for _, c := range a.Cases {
		if c.Best > 0 && c.Bound > 0 {
			shares = append(shares, c.Best/c.Bound)
		}
	}
	return Quantile(shares, 0), Quantile(shares, 0.5)
}

// Pace is how long a policy took to decide on a segment, the work of the
// simulator included, on average over all cases.
func (a *Account) Pace(policy string) time.Duration {
	p, n, took := slices.Index(a.Policies, policy), 0, time.Duration(0)
	for _, c := range a.Cases {
		if p >= 0 && !c.Poor {
			n += c.Fetched
			took += c.Plays[p].Took
		}
	}
	return took / time.Duration(max(n, 1))
}

// All, ByGroup, ByBudget and ByTitle are what [Account.Rows] may sum up by.
func All(Case) string        { return "" }
func ByGroup(c Case) string  { return c.Group }
func ByBudget(c Case) string { return c.Budget }
func ByTitle(c Case) string  { return c.Title }

func sum(cases []Case, policy int) (r Row) {
	var shares, starts []float64
	var media, spent, unplayed, stopped, switches, quality, qoe float64
	for _, c := range cases {
		p := c.Plays[policy]
		if s, ok := c.Share(policy); ok {
			shares = append(shares, s)
			if s > 1+1e-6 {
				r.Above++
			}
		}
		if c.Over(policy) {
			r.Over++
		}
		starts = append(starts, p.Start)
		media += c.Length
		r.Stall += p.Stall
		spent += float64(p.Spent)
		unplayed += float64(p.Unplayed)
		stopped += float64(p.Stopped)
		qoe += p.QoE
		switches += float64(p.Switches)
		quality += p.Quality
	}
	r.Cases, r.Shares = len(cases), len(shares)
	r.Median, r.P10, r.Start = Quantile(shares, 0.5), Quantile(shares, 0.1), Quantile(starts, 0.5)
	r.Ratio = r.Stall / (r.Stall + media)
	r.Switches = switches / media * 60
	r.Quality = quality / float64(len(cases))
	r.Spent = spent / 1000 / media * 60
	r.Stopped = stopped / 1000 / float64(len(cases))
	r.QoE = qoe / float64(len(cases))
	if spent > 0 {
		r.Unplayed = unplayed / spent
	}
	return r
}

// Quantile is the q-th quantile, between neighbours by proportion; 0 of none.
func Quantile(of []float64, q float64) float64 {
	if len(of) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(of))
	at := q * float64(len(s)-1)
	i := int(at)
	return s[i] + (at-float64(i))*(s[min(i+1, len(s)-1)]-s[i])
}

// Goals that a policy is held to.
const (
	GoalShare = 0.95 // median share of the bound
	Rival     = "bola"
)

// A Verdict holds one policy against the goals.
type Verdict struct {
	Policy string  `json:"policy"`
	Median float64 `json:"median_share"`
	P10    float64 `json:"p10_share"`
	Over   int     `json:"over_budget"`
	Stall  float64 `json:"stall_s"`
	Rival  float64 `json:"rival_stall_s"` // BOLA's; negative if it was not tried
	Good   bool    `json:"good"`          // all goals are reached
}

// Judge holds a policy against the goals. Without ok it was not tried, or
// nothing was played.
func (a *Account) Judge(policy string) (v Verdict, ok bool) {
	v = Verdict{Policy: policy, Rival: -1}
	for _, r := range a.Rows(All) {
		if r.Policy == policy {
			v.Median, v.P10, v.Over, v.Stall, ok = r.Median, r.P10, r.Over, r.Stall, true
		}
		if r.Policy == Rival {
			v.Rival = r.Stall
		}
	}
	v.Good = v.Median >= GoalShare && v.Over == 0 && (v.Rival < 0 || v.Stall <= v.Rival)
	return v, ok
}

func (v Verdict) String() string {
	stall := fmt.Sprintf("stalls %s", seconds(v.Stall))
	if v.Rival >= 0 {
		stall += fmt.Sprintf(", %s %s: %s", Rival, seconds(v.Rival), met(v.Stall <= v.Rival))
	}
	return fmt.Sprintf("%s: median %.1f %% of the bound (p10 %.1f %%), goal %.0f %%: %s; over budget in %d cases: %s; %s",
		v.Policy, 100*v.Median, 100*v.P10, 100*GoalShare, met(v.Median >= GoalShare), v.Over, met(v.Over == 0), stall)
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}

func seconds(s float64) string {
	return time.Duration(math.Round(s*10) * float64(100*time.Millisecond)).String()
}

// Typical returns the case in which a policy stands to another as it does in
// the middle of all cases; -1 if there is none.
func (a *Account) Typical(policy, other string) int {
	p, o := slices.Index(a.Policies, policy), slices.Index(a.Policies, other)
	type gain struct {
		at int
		by float64
	}
	var gains []gain
	for i, c := range a.Cases {
		if _, ok := c.Share(0); ok && p >= 0 && o >= 0 {
			gains = append(gains, gain{i, (c.Plays[p].Utility - c.Plays[o].Utility) / c.Bound})
		}
	}
	if len(gains) == 0 {
		return -1
	}
	slices.SortStableFunc(gains, func(a, b gain) int { return cmp.Compare(a.by, b.by) })
	return gains[len(gains)/2].at
}
