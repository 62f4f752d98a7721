package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"htlcdash/agent/market/bazaar"
	"htlcdash/internal/chart"
)

type simulateMarketCommand struct {
	Markets []string `arg:"" optional:"" help:"Which markets; by default all." placeholder:"MARKET"`

	Segments int    `default:"3000" help:"Segments that are bought in a run."`
	Runs     int    `default:"6"    help:"Runs of each policy in each market, with other chances."`
	JSON     string `name:"json"    help:"Write all figures to this file too." placeholder:"FILE"`
	Plot     string `help:"Draw a chart into this folder." placeholder:"FOLDER"`
}

func (simulateMarketCommand) Help() string {
	var b strings.Builder
	b.WriteString("No node, no network and no money is needed.\n\n" +
		"Utility: worth of a segment less waiting and price, in msat. Regret: what always asking the best one would have brought more. Worst: the worst hundred segments in a row.\n\nMarkets:\n\n")
	for _, s := range bazaar.Scenarios() {
		fmt.Fprintf(&b, "%s: %s\n\n", s.Name, s.About) // a paragraph, since kong joins lines
	}
	return b.String() + "Example: htlcdash simulate market lying sybils --plot charts"
}

// A marketRow is how one policy did in one market.
type marketRow struct {
	Market string        `json:"market"`
	Policy string        `json:"policy"`
	Result bazaar.Result `json:"result"`
}

func (c simulateMarketCommand) Run(ctx context.Context, t terminal) error {
	markets, err := c.markets()
	if err != nil {
		return usageError{err}
	}
	p := newProgress(t.err)
	p.begin(fmt.Sprintf("buying %d segments %d times in %d markets", c.Segments, c.Runs, len(markets)))
	rows, err := c.rows(ctx, markets)
	if err != nil {
		p.fail()
		return err
	}
	p.end("")
	if err := printMarkets(t, markets, rows); err != nil {
		return err
	}
	if err := writeJSON(c.JSON, rows); err != nil {
		return err
	}
	if c.Plot == "" {
		return nil
	}
	return drawMarkets(c.Plot, markets, rows)
}

func (c simulateMarketCommand) markets() (out []bazaar.Scenario, err error) {
	if c.Segments < 1 || c.Runs < 1 {
		return nil, fmt.Errorf("%d segments in %d runs: want one at least of each", c.Segments, c.Runs)
	}
	all := bazaar.Scenarios()
	if len(c.Markets) == 0 {
		return all, nil
	}
	for _, name := range c.Markets {
		i := slices.IndexFunc(all, func(s bazaar.Scenario) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no market %q: htlcdash simulate market --help lists them", name)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// rows runs every policy in every market, with the same chances for all.
func (c simulateMarketCommand) rows(ctx context.Context, markets []bazaar.Scenario) ([]marketRow, error) {
	policies := bazaar.Policies()
	rows := make([]marketRow, len(markets)*len(policies))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range rows {
		g.Go(func() error {
			market, policy := markets[i/len(policies)], policies[i%len(policies)]
			var results []bazaar.Result
			for seed := range uint64(c.Runs) {
				if err := ctx.Err(); err != nil {
					return err
				}
				results = append(results, bazaar.Simulate(market, policy, c.Segments, seed+1))
			}
			rows[i] = marketRow{market.Name, policy.Name, bazaar.Mean(results)}
			return nil
		})
	}
	return rows, g.Wait()
}

// nameWidth has room for the names of policies, which stand at the left.
const nameWidth = 42

func printMarkets(t terminal, markets []bazaar.Scenario, rows []marketRow) error {
	for _, m := range markets {
		fmt.Fprintf(t.out, "%s: %s\n", m.Name, m.About)
		w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "\tutility\tregret\tworst\tlate\tpaid\tp95\tsecond asked\tchanged\twasted\t")
		for _, r := range rows {
			if x := r.Result; r.Market == m.Name {
				fmt.Fprintf(w, "  %-*s\t%.0f\t%.1f\t%.0f\t%.1f %%\t%.0f msat\t%.2f s\t%.1f %%\t%.1f %%\t%.1f %%\t\n",
					nameWidth, r.Policy, x.Utility, x.Regret, x.Worst, 100*x.Stalled, x.Paid, x.P95, 100*x.Second, 100*x.Switches, 100*x.Useless)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(t.out)
	}
	return nil
}

// drawMarkets shows how each policy did while time went on.
func drawMarkets(folder string, markets []bazaar.Scenario, rows []marketRow) error {
	f := chart.Figure{Title: "Choosing among providers: worth of a segment less waiting and price", Columns: 2}
	for _, m := range markets {
		panel := chart.Panel{Title: m.Name, X: "part of the run, %", Y: "msat", Height: 180, MaxX: 100, FromZero: true}
		hue := chart.Orange
		for _, r := range rows {
			if r.Market != m.Name {
				continue
			}
			l := chart.Line{Name: r.Policy, Hue: hue, Thin: true, Dashed: hue > chart.Grey}
			if r.Policy == bazaar.Ours.Name {
				l.Hue, l.Thin, l.Dashed = chart.Blue, false, false
			}
			n := float64(len(r.Result.Curve))
			for i, u := range r.Result.Curve {
				l.X, l.Y = append(l.X, 100*(float64(i)+0.5)/n), append(l.Y, u)
			}
			panel.Lines = append(panel.Lines, l)
			hue++
		}
		f.Panels = append(f.Panels, panel)
	}
	return writeFigure(folder, "market.svg", f)
}
