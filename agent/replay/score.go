package replay

import "math"

// finish lets the rest play and adds up.
func (r *run) finish() Result {
	for len(r.here) > 0 {
		r.pass(r.here[0].at - r.state.Now)
	}
	w := r.setup.Weights
	for k, t := range r.title.Tracks {
		weight, before := w.Of(t.Kind), math.NaN()
		for i, s := range t.Segments {
			rung := r.result.Rungs[k][i]
			q := s.Rungs[rung].Quality
			r.result.Utility += weight * q
			if k == 0 {
				r.result.Length += s.Duration
				r.result.Quality += q / float64(len(t.Segments))
			}
			if i > 0 {
				change := math.Abs(q - before)
				r.result.Utility -= weight * w.Switch * change
				if k == 0 {
					r.result.Changes += change
					if rung != r.result.Rungs[k][i-1] {
						r.result.Switches++
					}
				}
			}
			before = q
		}
	}
	r.result.Utility -= w.Stall * (r.result.Start + r.result.Stall).Seconds()
	return r.result
}
