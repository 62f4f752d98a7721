package replay

import (
	"math"

	"htlcdash/agent"
)

// finish lets the rest play and adds up.
func (r *run) finish() Result {
	for len(r.here) > 0 {
		r.pass(r.here[0].at - r.state.Now)
	}
	r.result.Score(r.title, r.setup.Weights)
	return r.result
}

// Score adds up what Rungs, Start and Stall are worth: Utility, Quality, Changes,
// Switches and Length. Rungs may end before the title does.
func (r *Result) Score(t *agent.Title, w agent.Weights) {
	r.Utility = -w.Stall * (r.Start + r.Stall).Seconds()
	r.Quality, r.Changes, r.Switches, r.Length = 0, 0, 0, 0
	for k, track := range t.Tracks {
		weight, before := w.Of(track.Kind), math.NaN()
		for i, rung := range r.Rungs[k] {
			s := track.Segments[i]
			q := s.Rungs[rung].Quality
			r.Utility += weight * q
			if k == 0 {
				r.Length += s.Duration
				r.Quality += q / float64(len(r.Rungs[k]))
			}
			if i > 0 {
				change := math.Abs(q - before)
				r.Utility -= weight * w.Switch * change
				if k == 0 {
					r.Changes += change
					if rung != r.Rungs[k][i-1] {
						r.Switches++
					}
				}
			}
			before = q
		}
	}
}
