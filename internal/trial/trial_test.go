package trial_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/trial"
	"htlcdash/lightning"
)

// three has n segments of 2 s in three rungs, at 1, 2 and 5 sat.
func three(name string, n int) *agent.Title {
	t := agent.Track{Kind: agent.Video}
	for i := range n {
		t.Segments = append(t.Segments, agent.Segment{Duration: 2 * time.Second, Rungs: []agent.Rung{
			{ID: "low", Size: 100_000, Price: 1000, First: i, Quality: 8},
			{ID: "mid", Size: 200_000, Price: 2000, First: i, Quality: 12},
			{ID: "high", Size: 500_000, Price: 5000, First: i, Quality: 15},
		}})
	}
	return &agent.Title{Name: name, Tracks: []agent.Track{t}}
}

func flat(t *testing.T, group, name string, rate float64) trial.Link {
	t.Helper()
	l, err := replay.NewLink(name, []replay.Stretch{{Duration: time.Minute, Rate: rate, Latency: 50 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	return trial.Link{Link: l, Group: group}
}

func rule(name string) trial.Policy {
	return trial.Policy{Name: name, Make: func(t *agent.Title, w agent.Weights) (agent.Policy, error) { return agent.Rule(name, t, w) }}
}

func mustRule(t *testing.T, name string, of *agent.Title) agent.Policy {
	t.Helper()
	p, err := agent.Rule(name, of, agent.Standard)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func plan(t *testing.T) trial.Plan {
	return trial.Plan{
		Titles:   []*agent.Title{three("short", 10), three("long", 20)},
		Links:    []trial.Link{flat(t, "slow", "a", 1e6), flat(t, "slow", "b", 2e6), flat(t, "fast", "a", 9e6)},
		Budgets:  []trial.Budget{{Share: 0.5}, {Share: 0.1}},
		Policies: []trial.Policy{rule("bola"), rule("lowest"), rule("highest")},
		Setup:    replay.Setup{Weights: agent.Standard},
		Workers:  2,
	}
}

func TestRun(t *testing.T) {
	p := plan(t)
	told := 0
	a, err := p.Run(t.Context(), func(n, of int) {
		if told++; n != told || of != 12 {
			t.Errorf("told %d of %d after %d", n, of, told)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.Pace("bola") <= 0 || a.Pace("mpc") != 0 {
		t.Errorf("paces %v and %v", a.Pace("bola"), a.Pace("mpc"))
	}
	if len(a.Cases) != 12 || told != 12 {
		t.Fatalf("%d cases, told %d times", len(a.Cases), told)
	}
	c := a.Cases[0]
	if c.Title != "short" || c.Group != "slow" || c.Trace != "a" || c.Budget != "0.5" || c.Money != 25_000 || c.Length != 20 || c.Segments != 10 || c.Fetched != 10 {
		t.Errorf("first case: %+v", c)
	}
	if poor := a.Cases[1]; !poor.Poor || len(poor.Plays) != 0 { // 5 sat where the lowest rungs cost 10
		t.Errorf("second case: %+v", poor)
	}
	replayed, err := replay.Run(p.Titles[0], mustRule(t, "highest", p.Titles[0]), replay.Setup{Link: p.Links[0].Link, Budget: c.Money, Weights: agent.Standard})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Plays[2]; got.Stopped != replayed.Unplayed || got.QoE != replayed.QoE || got.Stopped == 0 || got.QoE == 0 {
		t.Errorf("%v if stopped and QoE %v, the replay says %v and %v", got.Stopped, got.QoE, replayed.Unplayed, replayed.QoE)
	}
	for _, c := range a.Cases {
		for i := range c.Plays {
			if c.Plays[i].Policy != a.Policies[i] {
				t.Errorf("play %d is by %s", i, c.Plays[i].Policy)
			}
			if share, ok := c.Share(i); !ok || share > 1+1e-9 {
				t.Errorf("%s on %s/%s: %v of the bound", c.Plays[i].Policy, c.Group, c.Trace, share)
			}
			if c.Over(i) {
				t.Errorf("%s on %s/%s: over the budget", c.Plays[i].Policy, c.Group, c.Trace)
			}
		}
	}
}

// What comes out depends on the plan alone.
func TestRunIsRepeatable(t *testing.T) {
	p := plan(t)
	first, err := p.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Workers = 1
	second, err := p.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []*trial.Account{first, second} {
		for i := range a.Cases {
			for k := range a.Cases[i].Plays {
				a.Cases[i].Plays[k].Took = 0
			}
		}
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("two runs differ")
	}
}

func TestRunStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := plan(t)
	if _, err := p.Run(ctx, func(int, int) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRunEndsWithTheFirstError(t *testing.T) {
	p := plan(t)
	bad := errors.New("out of order")
	p.Policies = append(p.Policies, trial.Policy{Name: "broken", Make: func(*agent.Title, agent.Weights) (agent.Policy, error) { return nil, bad }})
	if _, err := p.Run(t.Context(), nil); !errors.Is(err, bad) || !strings.Contains(err.Error(), "broken") {
		t.Errorf("got %v", err)
	}
	if _, err := (trial.Plan{}).Run(t.Context(), nil); err == nil {
		t.Error("an empty plan runs")
	}
}

func TestReplay(t *testing.T) {
	p := plan(t)
	a, err := p.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := a.Cases[6] // the long title
	steps, err := p.Replay(c, "bola")
	if err != nil {
		t.Fatal(err)
	}
	spent := lightning.Msat(0)
	for _, s := range steps {
		spent += s.Paid
	}
	if len(steps) != 20 || spent != c.Plays[0].Spent || steps[0].Media != 2*time.Second || steps[0].Quality < 8 {
		t.Errorf("%d steps for %v, the case says %v", len(steps), spent, c.Plays[0].Spent)
	}
	for name, change := range map[string]func(*trial.Case, *string){
		"policy": func(_ *trial.Case, p *string) { *p = "mpc" },
		"case":   func(c *trial.Case, _ *string) { c.Trace = "z" },
	} {
		c, policy := c, "bola"
		change(&c, &policy)
		if _, err := p.Replay(c, policy); err == nil || !strings.Contains(err.Error(), "not in the plan") {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestUnplayed(t *testing.T) {
	title := three("groups", 6)
	for i := range title.Tracks[0].Segments {
		for r := range title.Tracks[0].Segments[i].Rungs {
			title.Tracks[0].Segments[i].Rungs[r].First = i / 3 * 3
		}
	}
	for _, tt := range []struct {
		name  string
		rungs []int
		want  lightning.Msat
	}{
		{"whole groups", []int{0, 0, 0, 2, 2, 2}, 0},
		{"left after one", []int{2, 0, 0, 1, 1, 1}, 3333 + 333},
		{"and back", []int{1, 0, 1, 0, 0, 0}, 666 + 666},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := trial.Unplayed(title, [][]int{tt.rungs}); got < tt.want-1 || got > tt.want+1 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestParseBudget(t *testing.T) {
	title := three("x", 10)
	for _, tt := range []struct {
		text string
		want lightning.Msat // for a title of 50 sat
		name string
		err  string
	}{
		{"0.5", 25_000, "0.5", ""},
		{" 30 % ", 15_000, "0.3", ""},
		{"20 sat", 20_000, "20 sat", ""},
		{"1", 50_000, "1", ""},
		{"none", agent.NoLimit, "none", ""},
		{"300", 0, "", "\"300 sat\""},
		{"0", 0, "", "above 0"},
		{"-0.2", 0, "", "above 0"},
		{"NaN", 0, "", "above 0"},
		{"half", 0, "", "want a share such as 0.3"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			b, err := trial.ParseBudget(tt.text)
			if tt.err != "" {
				if !errors.Is(err, trial.ErrBudget) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || b.Of(title) != tt.want || b.String() != tt.name {
				t.Errorf("got %v = %v, %v", b, b.Of(title), err)
			}
		})
	}
}

// made is an account of four cases by two policies, with shares that are easy
// to add up.
func made() *trial.Account {
	a := &trial.Account{Policies: []string{"agent", "bola"}}
	for i, share := range []float64{0.90, 0.96, 0.98, 1} {
		c := trial.Case{
			Title: "t", Group: []string{"g", "h"}[i/2], Trace: fmt.Sprint(i), Budget: "0.5", Money: 1000, Length: 60, Segments: 10, Bound: 100, Best: 97 + float64(i),
			Plays: []trial.Play{
				{Policy: "agent", Utility: 100 * share, Quality: 10, Stall: 1, Start: 1, Spent: 800, Unplayed: 80, Stopped: lightning.Msat(11_000 + 1000*i), QoE: 1.11 + float64(i)/10, Switches: 3},
				{Policy: "bola", Utility: 80, Quality: 12, Stall: 2, Start: 3, Spent: 1000},
			},
		}
		a.Cases = append(a.Cases, c)
	}
	a.Cases = append(a.Cases, trial.Case{Poor: true})
	return a
}

func TestRows(t *testing.T) {
	a := made()
	rows := a.Rows(trial.All)
	want := trial.Row{Policy: "agent", Cases: 4, Shares: 4, Median: 0.97, P10: 0.918, Stall: 4, Ratio: 4.0 / 244, Start: 1, Switches: 3, Quality: 10, Spent: 0.8, Unplayed: 0.1, Stopped: 12.5, QoE: 1.26}
	if len(rows) != 2 || !near(rows[0].P10, want.P10) || !near(rows[0].Median, want.Median) || !near(rows[0].Spent, want.Spent) || !near(rows[0].Unplayed, want.Unplayed) || !near(rows[0].Stopped, want.Stopped) || !near(rows[0].QoE, want.QoE) {
		t.Errorf("got %+v, want %+v", rows, want)
	}
	if g := a.Rows(trial.ByGroup); len(g) != 4 || g[2].Of != "h" || !near(g[2].Median, 0.99) {
		t.Errorf("by group: %+v", g)
	}
	a.Cases[0].Plays[0].Spent = 1001
	a.Cases[1].Bound = -5 // a network that is hardly there
	if r := a.Rows(trial.All)[0]; r.Over != 1 || r.Shares != 3 || r.Cases != 4 || !near(r.Median, 0.98) {
		t.Errorf("got %+v", r)
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*trial.Account)
		good   bool
		text   string
	}{
		{"all met", func(*trial.Account) {}, true, "median 97.0 % of the bound (p10 91.8 %), goal 95 %: met; over budget in 0 cases: met; stalls 4s, bola 8s: met"},
		{"far from the bound", func(a *trial.Account) { a.Cases[1].Bound, a.Cases[2].Bound = 200, 200 }, false, "goal 95 %: MISSED"},
		{"over budget", func(a *trial.Account) { a.Cases[3].Plays[0].Spent = 5000 }, false, "over budget in 1 cases: MISSED"},
		{"stalls more", func(a *trial.Account) { a.Cases[3].Plays[0].Stall = 60 }, false, "stalls 1m3s, bola 8s: MISSED"},
		{"no rival", func(a *trial.Account) { a.Policies[1] = "rate" }, true, "stalls 4s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := made()
			tt.change(a)
			v, ok := a.Judge("agent")
			if !ok || v.Good != tt.good || !strings.Contains(v.String(), tt.text) {
				t.Errorf("%v, %v: %s", ok, v.Good, v)
			}
		})
	}
	if _, ok := made().Judge("mpc"); ok {
		t.Error("judged a policy that was not tried")
	}
}

func TestTypical(t *testing.T) {
	a := made()
	if i := a.Typical("agent", "bola"); i != 2 {
		t.Errorf("typical is case %d", i)
	}
	if i := a.Typical("agent", "mpc"); i != -1 {
		t.Errorf("without the rival it is %d", i)
	}
}

func TestPrintAndJSON(t *testing.T) {
	var b bytes.Buffer
	if err := made().Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"4 cases; 1 more", "reaches 97.0 % of the bound at least, 98.5 % in the median", "97.0 %", "91.8 %", "0.8 sat/min", "network", "10.0 %", "QoE-lin", "1.26", "if stopped", "12.5 sat"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "title") {
		t.Error("tells again what is the same for the only title")
	}
	j, err := json.Marshal(made())
	if err != nil {
		t.Fatal(err)
	}
	var again trial.Account
	if err := json.Unmarshal(j, &again); err != nil || !reflect.DeepEqual(&again, made()) {
		t.Errorf("JSON does not keep it: %v", err)
	}
}
