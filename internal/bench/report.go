package bench

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report is what one measurement found.
type Report struct {
	Name    string    `json:"name"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // it took
	Rounds  int       `json:"rounds"`
	Machine Machine   `json:"machine"`
	Rows    []Row     `json:"rows"`
	Notes   []string  `json:"notes,omitempty"`
	// Samples are the single figures that rows are made of, in the order in
	// which they were measured.
	Samples map[string][]float64 `json:"samples,omitempty"`
}

// Machine is where it was measured. Figures of a loaded machine say little.
type Machine struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	OS         string  `json:"os"`
	Go         string  `json:"go"`
	LoadBefore float64 `json:"load_before"` // mean over a minute
	LoadAfter  float64 `json:"load_after"`
}

// A Row is one figure beside its baseline.
type Row struct {
	What     string  `json:"what"`
	Unit     string  `json:"unit"`
	Ours     float64 `json:"ours"`
	Baseline float64 `json:"baseline,omitempty"` // 0: none
	Of       string  `json:"of,omitempty"`       // what the baseline is
	Ratio    float64 `json:"ratio,omitempty"`    // ours to the baseline
	Bound    string  `json:"bound,omitempty"`    // empty: for information
	Verdict  Verdict `json:"verdict,omitempty"`
}

// A Verdict says whether a figure keeps its bound.
type Verdict string

// Verdicts. The zero Verdict is that of a figure without a bound.
const (
	OK    Verdict = "ok"
	Short Verdict = "short"
)

func verdict(kept bool) Verdict {
	if kept {
		return OK
	}
	return Short
}

func newReport(m Measurement) *Report {
	return &Report{
		Name: m.Name, Began: time.Now().UTC().Truncate(time.Second), Samples: map[string][]float64{},
		Machine: Machine{CPU: cpuName(), Cores: runtime.NumCPU(), OS: runtime.GOOS, Go: runtime.Version(), LoadBefore: load()},
	}
}

// sample keeps a single figure.
func (r *Report) sample(name string, v float64) { r.Samples[name] = append(r.Samples[name], round(v)) }

// median is that of the samples of a name.
func (r *Report) median(name string) float64 { return median(r.Samples[name]) }

func (r *Report) add(row Row) {
	row.Ours, row.Baseline, row.Ratio = round(row.Ours), round(row.Baseline), round(row.Ratio)
	r.Rows = append(r.Rows, row)
}

// beside adds a row that compares the medians of two sorts of samples. least
// is the least ratio; 0: no bound.
func (r *Report) beside(what, unit, ours, baseline, of string, least float64) {
	row := Row{What: what, Unit: unit, Ours: r.median(ours), Baseline: r.median(baseline), Of: of}
	row.Ratio = row.Ours / row.Baseline
	if least > 0 {
		row.Bound, row.Verdict = fmt.Sprintf(">= %g", least), verdict(row.Ratio >= least)
	}
	r.add(row)
}

// atMost adds a row for a figure with an upper bound and no baseline.
func (r *Report) atMost(what, unit string, ours, most float64) {
	r.add(Row{What: what, Unit: unit, Ours: ours, Bound: fmt.Sprintf("<= %g %s", round(most), unit), Verdict: verdict(ours <= most)})
}

// fact adds a row for information.
func (r *Report) fact(what, unit string, v float64) { r.add(Row{What: what, Unit: unit, Ours: v}) }

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Short reports whether a bound is missed.
func (r *Report) Short() bool {
	return slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Verdict == Short })
}

// Write prints r as a table.
func (r *Report) Write(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "%s (%s, %d cores, %s; load %.1f before, %.1f after; %d rounds, %.0f s)\n\n",
		r.Name, m.CPU, m.Cores, m.Go, m.LoadBefore, m.LoadAfter, r.Rounds, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tours\tbaseline\tratio\tbound\t")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\t%s\n", row.What, figure(row.Ours), row.Unit, row.baseline(), optional(row.Ratio), row.Bound, row.Verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, "  "+n)
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (row Row) baseline() string {
	if row.Of == "" {
		return ""
	}
	return strings.TrimSpace(figure(row.Baseline)+" "+row.Unit) + ", " + row.Of
}

func optional(v float64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// figure prints three digits, and no fewer than lie before the point.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == math.Trunc(a):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// round keeps four digits, which is more than any of this is worth.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// median is 0 of nothing.
func median(v []float64) float64 {
	n := len(v)
	if n == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(n-1)/2] + v[n/2]) / 2
}

func sum(v []float64) (sum float64) {
	for _, x := range v {
		sum += x
	}
	return sum
}

// load is the machine's mean load over a minute; 0 if it does not tell.
func load() float64 {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(first, 64)
	return v
}

func cpuName() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// names lists the keys of m in order.
func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
