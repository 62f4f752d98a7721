package bench

import "context"

// What tests see of the inside.
var (
	Median = median
	Round  = round
	Figure = figure
	CPUOf  = cpuOf
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
