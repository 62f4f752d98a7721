package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/agent/replay/titles"
	"htlcdash/internal/title"
	"htlcdash/internal/trial"
)

type simulateCommands struct {
	Play   simulateCommand       `cmd:"" default:"withargs" help:"Play titles over recorded networks, by the agent and by what players do today."`
	Market simulateMarketCommand `cmd:"" help:"Let rules for choosing among providers loose on markets of honest, drifting, slow, lying and sybil ones."`
	Cache  simulateCacheCommand  `cmd:"" help:"Set what a cache for profit saves beside other rules, and beside what nobody can exceed."`
}

func (simulateCommands) Help() string {
	return "htlcdash simulate TITLE... is the same as htlcdash simulate play TITLE..., whose --help tells all flags."
}

type simulateCommand struct {
	Titles []string `arg:"" optional:"" help:"Folders of sealed titles, titles as JSON, or names of built-in ones; by default all of these." placeholder:"TITLE"`

	Traces   []string      `help:"Recorded networks, or folders of them: JSON lists of duration_ms, bandwidth_kbps, latency_ms. By default made-up ones, always the same." placeholder:"PATH"`
	Budgets  []string      `default:"0.5,0.3,0.2" help:"Budgets of a title: shares of what its best rungs cost, amounts (\"300 sat\"), or none."`
	Policies []string      `default:"agent,bola,rate,mpc,lowest" help:"Who plays: agent; rules of today's players (rate, bola, mpc); lowest, highest, fixed-N."`
	Profile  string        `default:"best" enum:"film,music,podcast,talk,data-saver,best" help:"What matters to the viewer: ${enum}. All are measured by its weights. All but best have the agent save money where little is gained, which the measure does not reward."`
	Buffer   time.Duration `default:"20s"  help:"Media that a player holds at most."`
	Pay      time.Duration `default:"0s"   help:"From the last byte of a segment until its key is here."`
	Length   time.Duration `default:"0s"   help:"Play a shorter title over and over until it is as long. Built-in ones last 4m at least."`
	Workers  int           `default:"0"    help:"Cases at a time. 0: one for each processor."`
	JSON     string        `name:"json"    help:"Write every case to this file too." placeholder:"FILE"`
	Plot     string        `help:"Draw charts into this folder." placeholder:"FOLDER"`
	Export   string        `help:"Write the titles as JSON into this folder, and play nothing." placeholder:"FOLDER"`
}

func (simulateCommand) Help() string {
	return "It plays each title over each network with each budget, and sets what a viewer would have seen beside a bound that nobody can exceed, whatever they know of the future. No node, no network and no money is needed.\n\n" +
		"Share: utility (decibels of picture, less those of changes and of waiting) of the bound's. Stall: time that the picture stood still after the start.\n\n" +
		"Example: htlcdash simulate ~/.htlcdash/titles/film --traces traces/ --budgets 0.5,0.3 --plot charts"
}

func (c simulateCommand) Run(ctx context.Context, t terminal) error {
	plan, err := c.plan(ctx)
	if err != nil {
		return err
	}
	if c.Export != "" {
		return export(c.Export, plan.Titles)
	}
	p := newProgress(t.err)
	p.begin(fmt.Sprintf("playing %d titles over %d networks with %d budgets", len(plan.Titles), len(plan.Links), len(plan.Budgets)))
	a, err := plan.Run(ctx, func(n, of int) { p.at("%d of %d cases", n, of) })
	if err != nil {
		p.fail()
		return err
	}
	p.end(pace(a))
	if err := c.keep(a); err != nil {
		return err
	}
	if err := a.Print(t.out); err != nil {
		return err
	}
	if v, ok := a.Judge(agentName); ok {
		fmt.Fprintf(t.out, "\n%v\n", v)
	}
	if c.Plot == "" {
		return nil
	}
	p.begin("drawing charts")
	if err := drawTrial(ctx, c.Plot, plan, a, func(n, of int) { p.at("%d of %d more cases", n, of) }); err != nil {
		p.fail()
		return err
	}
	p.end(c.Plot)
	return nil
}

// pace says how fast the agent thinks.
func pace(a *trial.Account) string {
	if d := a.Pace(agentName); d > 0 {
		return fmt.Sprintf("%v a segment by the agent", d.Round(100*time.Nanosecond))
	}
	return ""
}

// figures are all that a trial says, as JSON.
type figures struct {
	Verdict *trial.Verdict         `json:"verdict,omitempty"` // on the agent
	Rows    map[string][]trial.Row `json:"rows"`
	*trial.Account
}

// keep writes all figures where the flag says.
func (c simulateCommand) keep(a *trial.Account) error {
	if c.JSON == "" {
		return nil
	}
	f := figures{Account: a, Rows: map[string][]trial.Row{
		"all": a.Rows(trial.All), "network": a.Rows(trial.ByGroup), "budget": a.Rows(trial.ByBudget), "title": a.Rows(trial.ByTitle),
	}}
	if v, ok := a.Judge(agentName); ok {
		f.Verdict = &v
	}
	return writeJSON(c.JSON, f)
}

func (c simulateCommand) plan(ctx context.Context) (p trial.Plan, err error) {
	wish, err := agent.Profile(c.Profile)
	if err != nil {
		return p, usageError{err}
	}
	p.Setup = replay.Setup{Most: c.Buffer, Pay: c.Pay, Weights: wish.Weights}
	p.Workers = c.Workers
	for _, s := range c.Budgets {
		b, err := trial.ParseBudget(s)
		if err != nil {
			return p, usageError{err}
		}
		p.Budgets = append(p.Budgets, b)
	}
	if p.Titles, err = c.titles(ctx); err != nil {
		return p, err
	}
	if wish.SoundOnly {
		p.Titles = soundOnly(p.Titles)
	}
	if p.Policies, err = policies(c.Policies, p.Titles[0], wish); err != nil {
		return p, usageError{err}
	}
	p.Links, err = c.links()
	return p, err
}

// agentName is what the agent is called among the rules.
const agentName = "agent"

// soundOnly leaves the picture out of titles that have sound.
func soundOnly(list []*agent.Title) (out []*agent.Title) {
	for _, t := range list {
		sound := &agent.Title{Name: t.Name}
		for _, track := range t.Tracks {
			if track.Kind == agent.Audio {
				sound.Tracks = append(sound.Tracks, track)
			}
		}
		if sound.Tracks == nil {
			sound = t
		}
		out = append(out, sound)
	}
	return out
}

// policies checks names by making each once.
func policies(names []string, t *agent.Title, wish agent.Preferences) (out []trial.Policy, err error) {
	for _, name := range names {
		p := trial.Policy{Name: name, Make: func(t *agent.Title, w agent.Weights) (agent.Policy, error) { return agent.Rule(name, t, w) }}
		if name == agentName {
			p.Make = func(t *agent.Title, _ agent.Weights) (agent.Policy, error) { return agent.New(t, wish), nil }
		}
		if _, err := p.Make(t, agent.Standard); err != nil {
			return nil, fmt.Errorf("policy %q: %w; or %s", name, err, agentName)
		}
		if slices.ContainsFunc(out, func(o trial.Policy) bool { return o.Name == name }) {
			return nil, fmt.Errorf("policy %q stands twice", name)
		}
		out = append(out, p)
	}
	return out, nil
}

// builtInLength is how long the titles that come with the program last, which
// are short.
const builtInLength = 4 * time.Minute

// titles reads the titles. They are called after their files, which makes for
// short names.
func (c simulateCommand) titles(ctx context.Context) (out []*agent.Title, err error) {
	names := c.Titles
	if len(names) == 0 {
		names = titles.Names()
	}
	for _, name := range names {
		t, least := (*agent.Title)(nil), c.Length
		if slices.Contains(titles.Names(), name) {
			t = titles.Get(name)
			if least == 0 && c.Export == "" {
				least = builtInLength
			}
		} else if t, err = readTitle(ctx, name); err != nil {
			return nil, err
		}
		t.Name = unused(titleName(name), func(s string) bool {
			return slices.ContainsFunc(out, func(o *agent.Title) bool { return o.Name == s })
		})
		out = append(out, stretch(t, least))
	}
	return out, nil
}

// stretch repeats a title until it is as long.
func stretch(t *agent.Title, least time.Duration) *agent.Title {
	length := time.Duration(0)
	for _, s := range t.Tracks[0].Segments {
		length += s.Duration
	}
	if times := int((least + length - 1) / length); times > 1 {
		return titles.Repeat(t, times)
	}
	return t
}

// unused makes a name another one until it is not taken.
func unused(name string, taken func(string) bool) string {
	out := name
	for n := 2; taken(out); n++ {
		out = fmt.Sprintf("%s-%d", name, n)
	}
	return out
}

// maxFile bounds a title or a recording that is read.
const maxFile = 256 << 20

// readTitle reads the folder of a sealed title, or a title as JSON.
func readTitle(ctx context.Context, path string) (*agent.Title, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{fmt.Errorf("no title %s: give the folder that htlcdash publish made, a JSON file, or one of %s", path, strings.Join(titles.Names(), ", "))}
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		sealed, err := title.OpenDir(path)
		if err != nil {
			return nil, err
		}
		l, err := sealed.Ladder(ctx, "")
		if err != nil {
			return nil, fmt.Errorf("title in %s: %w", path, err)
		}
		return l.Title, nil
	}
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	t, err := agent.ParseTitle(b)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w; htlcdash simulate FOLDER --export makes one of a sealed title", path, err)}
	}
	return t, nil
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has more than %d MB", path, maxFile>>20)
	}
	return os.ReadFile(path)
}

// links reads the recordings that are named, or makes some up.
func (c simulateCommand) links() (out []trial.Link, err error) {
	if len(c.Traces) == 0 {
		return madeUp(), nil
	}
	for _, path := range c.Traces {
		before := len(out)
		err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || file != path && filepath.Ext(file) != ".json" {
				return err
			}
			l, err := readTrace(file)
			out = append(out, l)
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usageError{fmt.Errorf("no recorded network %s: give a file or a folder, or leave --traces out", path)}
		}
		if err != nil {
			return nil, err
		}
		if len(out) == before {
			return nil, usageError{fmt.Errorf("no recorded networks in %s: they are files that end with .json", path)}
		}
	}
	return out, nil
}

// readTrace reads a recording. Its group is the folder that it lies in.
func readTrace(file string) (l trial.Link, err error) {
	b, err := readSmall(file)
	if err != nil {
		return l, err
	}
	whole, err := filepath.Abs(file)
	if err != nil {
		return l, err
	}
	l.Group = filepath.Base(filepath.Dir(whole))
	if l.Link, err = replay.ParseLink(strings.TrimSuffix(filepath.Base(file), ".json"), b); err != nil {
		return l, usageError{fmt.Errorf("%s: %w; want a list such as [{\"duration_ms\": 1000, \"bandwidth_kbps\": 2500, \"latency_ms\": 20}]", file, err)}
	}
	return l, nil
}

// export writes titles as JSON.
func export(folder string, list []*agent.Title) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, t := range list {
		if err := writeJSON(filepath.Join(folder, t.Name+".json"), t); err != nil {
			return fmt.Errorf("title %s: %w", t.Name, err)
		}
	}
	return nil
}
