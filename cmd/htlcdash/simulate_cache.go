package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"

	"htlcdash/internal/cachetrial"
	"htlcdash/internal/chart"
	"htlcdash/lightning"
)

type simulateCacheCommand struct {
	Alphas   []float64      `default:"0.8,1"     help:"How unlike titles are in popularity: exponents of Zipf's law." placeholder:"ALPHA"`
	Sizes    []float64      `default:"1,5,20"    help:"Caches, in percent of the bytes of all that is asked for." placeholder:"PERCENT"`
	Titles   int            `default:"1500"      help:"Titles, of three rungs each."`
	Segments int            `default:"60"        help:"Segments of each rung."`
	Requests int            `default:"400000"    help:"Requests for a segment each. The first fifth is not counted."`
	Seed     uint64         `default:"1"         help:"Another audience for each."`
	Risk     lightning.Msat `default:"1000 sat" help:"Most that may be lost by buying ahead of time."`
	JSON     string         `name:"json"         help:"Write all figures to this file too." placeholder:"FILE"`
	Plot     string         `help:"Draw a chart into this folder." placeholder:"FOLDER"`
}

func (simulateCacheCommand) Help() string {
	return "It makes up viewers who choose titles and rungs, begin late or leave early, and has a relay that pays its upstream by the byte serve them from a cache. " +
		"Upstream prices are 0, 0.3, 0.6 or 0.9 of what a title is resold for. No node, no network and no money is needed.\n\n" +
		"Saved: part of what the upstream would get without a cache. Of bound: part of the most that anybody could save who knew the future. " +
		"The second table buys the next segments of whoever is watching ahead of time, where that pays. Ready: what it is worth that a segment is there when it is asked for, in percent of what it is resold for.\n\n" +
		"Example: htlcdash simulate cache --alphas 0.8 --sizes 1,5,20,50 --plot charts"
}

// cacheFigures are all that the command finds.
type cacheFigures struct {
	Cases     []cachetrial.Case     `json:"cases"`
	Forecasts []cachetrial.Forecast `json:"forecasts"`
}

func (c simulateCacheCommand) Run(ctx context.Context, t terminal) error {
	settings, sizes, err := c.settings()
	if err != nil {
		return usageError{err}
	}
	p := newProgress(t.err)
	p.begin(fmt.Sprintf("%d requests to %d caches, %d times", c.Requests, len(sizes), len(settings)))
	f := cacheFigures{}
	if f.Cases, err = cachetrial.Run(ctx, settings, sizes, func(n, of int) { p.at("%d of %d", n, of) }); err != nil {
		p.fail()
		return err
	}
	for _, s := range settings {
		more, err := cachetrial.Foresee(ctx, s, sizes[len(sizes)/2], c.Risk)
		if err != nil {
			p.fail()
			return err
		}
		f.Forecasts = append(f.Forecasts, more...)
	}
	p.end("")
	if err := f.print(t); err != nil {
		return err
	}
	if err := writeJSON(c.JSON, f); err != nil {
		return err
	}
	if c.Plot == "" {
		return nil
	}
	return f.draw(c.Plot)
}

func (c simulateCacheCommand) settings() (out []cachetrial.Setting, sizes []float64, err error) {
	if c.Titles < 1 || c.Segments < 2 || c.Requests < 100 || c.Requests > 10_000_000 || len(c.Alphas) == 0 || len(c.Sizes) == 0 {
		return nil, nil, fmt.Errorf("want an alpha, a size, a title, 2 segments and 100 to 10 million requests at least")
	}
	for _, alpha := range c.Alphas {
		if alpha < 0 || alpha > 3 {
			return nil, nil, fmt.Errorf("alpha %g: want 0, where all titles are alike, to 3", alpha)
		}
		s := cachetrial.Standard(alpha)
		s.Seed, s.Titles, s.Segments, s.Requests = c.Seed, c.Titles, c.Segments, c.Requests
		out = append(out, s)
	}
	for _, size := range c.Sizes {
		if size <= 0 || size > 100 {
			return nil, nil, fmt.Errorf("cache of %g %%: want more than 0, and 100 at most", size)
		}
		sizes = append(sizes, size/100)
	}
	slices.Sort(sizes)
	return out, sizes, nil
}

func (f cacheFigures) print(t terminal) error {
	for _, c := range f.Cases {
		fmt.Fprintf(t.out, "alpha %g, a cache of %g %%: nobody saves more than %.1f %%\n", c.Alpha, 100*c.Size, 100*c.Bound)
		w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "\tsaved\tof bound\tbytes held\trequests held\t")
		for _, r := range c.Rows {
			fmt.Fprintf(w, "  %-*s\t%.1f %%\t%.0f %%\t%.1f %%\t%.1f %%\t\n", nameWidth-14, r.Policy, 100*r.Saved, 100*c.OfBound(r), 100*r.Bytes, 100*r.Hits)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(t.out)
	}
	for len(f.Forecasts) > 0 {
		n := slices.IndexFunc(f.Forecasts, func(r cachetrial.Forecast) bool { return r.Alpha != f.Forecasts[0].Alpha })
		if n < 0 {
			n = len(f.Forecasts)
		}
		if err := printForecasts(t, f.Forecasts[:n]); err != nil {
			return err
		}
		f.Forecasts = f.Forecasts[n:]
	}
	return nil
}

// printForecasts prints those of one setting.
func printForecasts(t terminal, list []cachetrial.Forecast) error {
	fmt.Fprintf(t.out, "buying ahead, alpha %g, a cache of %g %%, at most %v at risk\n", list[0].Alpha, 100*list[0].Size, list[0].Risk)
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "ready\trequests that wait\tpaid upstream\tbought ahead\tof them asked for\tfor nothing\tgained\tmost at stake\t")
	for _, r := range list {
		used := 1.0
		if r.Got > 0 {
			used = float64(r.Used) / float64(r.Got)
		}
		fmt.Fprintf(w, "%g %%\t%.1f %%\t%.1f %%\t%d\t%.1f %%\t%.2f %%\t%.2f %%\t%v\t\n", 100*r.Ready, 100*r.Waits, 100*r.Spent,
			r.Got, 100*used, 100*float64(r.Lost)/float64(r.Whole), 100*float64(r.Gained)/float64(r.Whole), r.Deepest)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t.out)
	return nil
}

// draw shows what is saved by caches of all sizes.
func (f cacheFigures) draw(folder string) error {
	fig := chart.Figure{Title: "What a cache saves of what the upstream is paid", Columns: 2}
	for i := 0; i < len(f.Cases); {
		alpha := f.Cases[i].Alpha
		panel := chart.Panel{Title: fmt.Sprintf("alpha %g", alpha), X: "cache, % of all bytes", Y: "saved, %", FromZero: true}
		bound := chart.Line{Name: "bound: nobody is above", Hue: chart.Black, Dashed: true}
		lines := make([]chart.Line, len(f.Cases[i].Rows))
		for ; i < len(f.Cases) && f.Cases[i].Alpha == alpha; i++ {
			c := f.Cases[i]
			bound.X, bound.Y = append(bound.X, 100*c.Size), append(bound.Y, 100*c.Bound)
			for k, r := range c.Rows {
				l := &lines[k]
				l.Name, l.Hue, l.Dots, l.Thin = r.Policy, cacheHues[r.Policy], true, r.Policy != cachetrial.Ours
				l.X, l.Y = append(l.X, 100*c.Size), append(l.Y, 100*r.Saved)
			}
		}
		panel.Lines = append(lines, bound)
		fig.Panels = append(fig.Panels, panel)
	}
	return writeFigure(folder, "saved.svg", fig)
}

var cacheHues = map[string]chart.Hue{
	cachetrial.Ours: chart.Blue, cachetrial.Untold: chart.Sky, cachetrial.Misled: chart.Pink,
	cachetrial.Baseline: chart.Grey, "W-TinyLFU": chart.Orange, "GDSF": chart.Green, "GDSF, admission": chart.Red,
}
