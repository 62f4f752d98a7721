package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"htlcdash/internal/chart"
	"htlcdash/internal/trial"
	"htlcdash/lightning"
)

// drawTrial draws what an account says into a folder. One chart needs more
// cases, of which done is told.
func drawTrial(ctx context.Context, folder string, p trial.Plan, a *trial.Account, done func(n, of int)) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err // before it takes minutes
	}
	figures := map[string]chart.Figure{"share.svg": shareFigure(a)}
	if i := a.Typical(agentName, trial.Rival); i >= 0 {
		f, err := timelineFigure(p, a.Cases[i])
		if err != nil {
			return err
		}
		figures["timeline.svg"] = f
	}
	f, err := moneyFigure(ctx, p, done)
	if err != nil {
		return err
	}
	figures["money.svg"] = f
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		if err := writeFigure(folder, name, figures[name]); err != nil {
			return err
		}
	}
	return nil
}

// writeFigure puts a chart into a folder, which it makes.
func writeFigure(folder, name string, f chart.Figure) error {
	var b bytes.Buffer
	if err := f.WriteSVG(&b); err != nil {
		return fmt.Errorf("chart %s: %w", name, err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o644)
}

// writeJSON puts figures into a file, if one is named.
func writeJSON(file string, figures any) error {
	if file == "" {
		return nil
	}
	b, err := json.Marshal(figures)
	if err != nil {
		return fmt.Errorf("figures: %w", err)
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// policyHues give well-known policies the same colour in all charts.
var policyHues = map[string]chart.Hue{agentName: chart.Blue, "bola": chart.Orange, "rate": chart.Green, "mpc": chart.Pink, "lowest": chart.Grey, "highest": chart.Red}

func hueOf(policy string) chart.Hue {
	if h, ok := policyHues[policy]; ok {
		return h
	}
	return chart.Sky
}

// policyName is what a chart calls a policy.
func policyName(name string) string {
	switch name {
	case "bola":
		return "BOLA"
	case "mpc":
		return "RobustMPC"
	case "rate":
		return "throughput rule"
	case "lowest", "highest":
		return name + " rung"
	}
	return name
}

// shareFigure shows how the shares of the bound are spread.
func shareFigure(a *trial.Account) chart.Figure {
	cases := 0
	panel := chart.Panel{
		X: "share of the bound, %", Y: "cases with less, %", Height: 320,
		MinX: lowest(a), MaxX: 100, MinY: 0, MaxY: 100, Marks: []chart.Mark{{Name: "goal for the median", X: 100 * trial.GoalShare}},
	}
	for p, name := range a.Policies {
		var shares []float64
		for _, c := range a.Cases {
			if s, ok := c.Share(p); ok {
				shares = append(shares, max(100*s, panel.MinX))
			}
		}
		slices.Sort(shares)
		cases = len(shares)
		l := chart.Line{Name: policyName(name), Hue: hueOf(name), Steps: true}
		for i, s := range shares {
			l.X, l.Y = append(l.X, s), append(l.Y, 100*float64(i)/float64(len(shares)))
		}
		if n := len(shares); n > 0 {
			l.X, l.Y = append(l.X, shares[n-1]), append(l.Y, 100)
		}
		panel.Lines = append(panel.Lines, l)
	}
	return chart.Figure{Title: fmt.Sprintf("How near to the best possible: %d cases", cases), Panels: []chart.Panel{panel}}
}

// lowest is where an axis of shares begins: so that nearly all are seen.
func lowest(a *trial.Account) float64 {
	var shares []float64
	for _, c := range a.Cases {
		for p := range c.Plays {
			if s, ok := c.Share(p); ok {
				shares = append(shares, 100*s)
			}
		}
	}
	return max(0, math.Floor(trial.Quantile(shares, 0.02)/10)*10)
}

// timelineFigure shows one case by the agent and by its rival.
func timelineFigure(p trial.Plan, c trial.Case) (chart.Figure, error) {
	rate := chart.Panel{Y: "network, Mbit/s", Height: 120, FromZero: true}
	quality := chart.Panel{Y: "quality, dB", Height: 150}
	buffer := chart.Panel{Y: "buffer, s", Height: 130, FromZero: true}
	money := chart.Panel{X: "time, s", Y: "money left, sat", Height: 170, FromZero: true}
	end := 0.0
	for _, name := range []string{trial.Rival, agentName} {
		steps, err := p.Replay(c, name)
		if err != nil {
			return chart.Figure{}, err
		}
		q := chart.Line{Name: policyName(name), Hue: hueOf(name), Steps: true}
		b := chart.Line{Hue: hueOf(name), Thin: true}
		m := chart.Line{Hue: hueOf(name), Steps: true, X: []float64{0}, Y: []float64{float64(c.Money) / 1000}}
		left := float64(c.Money) / 1000
		for _, s := range steps {
			at := s.Here.Seconds()
			if end = max(end, at); s.Track == 0 {
				q.X, q.Y = append(q.X, at), append(q.Y, s.Quality)
				b.X, b.Y = append(b.X, at, at), append(b.Y, (s.Buffer-s.Media).Seconds(), s.Buffer.Seconds())
			}
			left -= float64(s.Paid) / 1000
			m.X, m.Y = append(m.X, at), append(m.Y, left)
		}
		quality.Lines, buffer.Lines, money.Lines = append(quality.Lines, q), append(buffer.Lines, b), append(money.Lines, m)
	}
	rate.Lines = []chart.Line{network(p, c, end)}
	f := chart.Figure{
		Title:  fmt.Sprintf("%s on %s, budget %s of the best rungs' cost", c.Title, c.Trace, c.Budget),
		Panels: []chart.Panel{rate, quality, buffer, money},
	}
	for i := range f.Panels {
		f.Panels[i].MaxX = end
	}
	return f, nil
}

// network is the rate of the link of a case until an end in seconds.
func network(p trial.Plan, c trial.Case, end float64) chart.Line {
	l := chart.Line{Hue: chart.Black, Steps: true, Thin: true, Filled: true}
	for _, link := range p.Links {
		if link.Group != c.Group || link.Name != c.Trace {
			continue
		}
		for at := time.Duration(0); at.Seconds() <= end; at += time.Second {
			l.X, l.Y = append(l.X, at.Seconds()), append(l.Y, link.At(at).Rate/1e6)
		}
		break
	}
	return l
}

// sweep are the budgets at which it is shown what money buys.
var sweep = []float64{0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1}

// moneyFigure shows what more money buys: of the first title, on one network of
// each group.
func moneyFigure(ctx context.Context, p trial.Plan, done func(n, of int)) (chart.Figure, error) {
	p.Titles, p.Links, p.Budgets = p.Titles[:1], oneOfEach(p.Links), nil
	for _, share := range sweep {
		p.Budgets = append(p.Budgets, trial.Budget{Share: share})
	}
	a, err := p.Run(ctx, done)
	if err != nil {
		return chart.Figure{}, err
	}
	f := chart.Figure{Title: fmt.Sprintf("What money buys of %s: budgets of %g to %g of the best rungs' cost", p.Titles[0].Name, sweep[0], sweep[len(sweep)-1]), Columns: 2}
	for _, l := range p.Links {
		panel := chart.Panel{Title: l.Group + ", " + l.Name, X: "spent, sat a minute", Y: "utility of a segment, dB", Height: 230}
		bound := chart.Line{Name: "bound: nobody is above", Hue: chart.Black, Dashed: true}
		lines := make([]chart.Line, len(a.Policies))
		for i, name := range a.Policies {
			lines[i] = chart.Line{Name: policyName(name), Hue: hueOf(name), Dots: true}
		}
		for _, c := range a.Cases {
			if c.Poor || c.Group != l.Group {
				continue
			}
			n := float64(c.Segments)
			bound.X, bound.Y = append(bound.X, perMinute(c, c.Money)), append(bound.Y, c.Bound/n)
			for i, play := range c.Plays {
				lines[i].X, lines[i].Y = append(lines[i].X, perMinute(c, play.Spent)), append(lines[i].Y, play.Utility/n)
			}
		}
		panel.Lines = append(lines, bound)
		f.Panels = append(f.Panels, panel)
	}
	return f, nil
}

// perMinute is an amount in sat for a minute of a case's title.
func perMinute(c trial.Case, m lightning.Msat) float64 { return float64(m) / 1000 / c.Length * 60 }

// oneOfEach takes of each group the link that is in the middle by its rate.
func oneOfEach(links []trial.Link) (out []trial.Link) {
	groups := map[string][]trial.Link{}
	for _, l := range links {
		groups[l.Group] = append(groups[l.Group], l)
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		group := groups[name]
		slices.SortStableFunc(group, func(a, b trial.Link) int { return cmp.Compare(a.Mean(), b.Mean()) })
		out = append(out, group[len(group)/2])
	}
	return out
}
