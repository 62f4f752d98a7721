package bench

import (
	"context"
	"io"
)

// What tests see of the inside.
var (
	Median = median
	Round  = round
	Figure = figure
	CPUOf  = cpuOf

	Quantile = quantile
)

// Flow is flow over numbers.
var Flow = flow[int, int]

// StartRows makes the rows of a start over one channel, from samples.
func StartRows(r *Report) { startRows(r, []visit{{name: "one channel"}}) }

func (r *Report) Beside(what, unit, ours, baseline, of string, least float64) {
	r.beside(what, unit, ours, baseline, of, least)
}
func (r *Report) AtMost(what, unit string, ours, most float64) { r.atMost(what, unit, ours, most) }
func (r *Report) Growth(now, before float64)                   { r.growth("grown", now, before, "before") }

// BusyShare is how much of the processors two readings of /proc/stat tell.
func BusyShare(before, now string) (float64, bool) {
	a, ok := parseProcessor(before)
	b, also := parseProcessor(now)
	return b.busyShare(a), ok && also
}

// Proofs measures proofs once.
func Proofs(ctx context.Context, dir string) (*Report, error) {
	r := &Report{Samples: map[string][]float64{}}
	s := &stage{Config: Config{Rounds: 1, Progress: func(string) {}}, dir: dir}
	return r, s.proveInTurns(ctx, r)
}

// PurchaseRows makes the rows of purchases from samples.
func PurchaseRows(r *Report) {
	all := []string{nothingAhead, offerAhead, proofAhead}
	purchaseRows(r, []method{{name: "prepaid", aheads: all[:2]}, {name: "vole-80", aheads: all}, {name: "vole-128", aheads: all[1:2]}})
}

// A Wire counts what its client sends and gets.
type Wire struct{ w *wire }

// NewWire counts from zero.
func NewWire() Wire { return Wire{newWire()} }

// Get fetches url.
func (w Wire) Get(url string) ([]byte, error) {
	resp, err := w.w.client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// All is what went over the line.
func (w Wire) All() int64 { return w.w.all.Load() }

// Body is what the bodies of a path took.
func (w Wire) Body(path string) int64 { return w.w.body(path) }
