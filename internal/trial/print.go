package trial

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Print writes the account for people: over all cases, by group of networks, by
// budget and by title.
func (a *Account) Print(w io.Writer) error {
	poor := 0
	for _, c := range a.Cases {
		if c.Poor {
			poor++
		}
	}
	fmt.Fprintf(w, "%d cases", len(a.Cases)-poor)
	if poor > 0 {
		fmt.Fprintf(w, "; %d more whose budget does not carry even the lowest rungs were left out", poor)
	}
	fmt.Fprintln(w)
	if least, median := a.Known(); median > 0 {
		fmt.Fprintf(w, "a way is known that reaches %.1f %% of the bound at least, %.1f %% in the median\n", 100*least, 100*median)
	}
	for _, r := range a.Rows(All) {
		if r.Above > 0 {
			fmt.Fprintf(w, "THE BOUND IS WRONG: %s is above it in %d cases\n", r.Policy, r.Above)
		}
	}
	for _, by := range []struct {
		name string
		of   func(Case) string
	}{{"all", All}, {"network", ByGroup}, {"budget", ByBudget}, {"title", ByTitle}} {
		rows := a.Rows(by.of)
		if by.name != "all" && len(rows) <= len(a.Policies) {
			continue // the same again
		}
		fmt.Fprintln(w)
		if err := table(w, by.name, rows); err != nil {
			return err
		}
	}
	return nil
}

func table(w io.Writer, name string, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%s\tpolicy\tmedian\tp10\tover\tstall\tratio\tstart\tswitches\tquality\tQoE-lin\tspent\tunplayed\tif stopped\t\n", name)
	for i, r := range rows {
		of := r.Of
		if i > 0 && of == rows[i-1].Of {
			of = ""
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f %%\t%.1f %%\t%d\t%s\t%.2f %%\t%.1f s\t%.1f/min\t%.1f dB\t%.2f\t%.3g sat/min\t%.1f %%\t%.1f sat\t\n",
			of, r.Policy, 100*r.Median, 100*r.P10, r.Over, seconds(r.Stall), 100*r.Ratio, r.Start, r.Switches, r.Quality, r.QoE, r.Spent, 100*r.Unplayed, r.Stopped)
	}
	return t.Flush()
}
