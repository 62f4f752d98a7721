package replay

import (
	"cmp"
	"math"
	"slices"
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// finish adds up what has been played to the end.
func (r *run) finish() Result {
	r.result.Score(r.title, r.setup.Weights)
	r.result.Unplayed = r.unplayed()
	return r.result
}

// StallRatio is the part of the session, after its start, in which the picture
// stood still.
func (r *Result) StallRatio() float64 {
	return r.Stall.Seconds() / max((r.Stall+r.Length).Seconds(), 1e-9)
}

// unplayed is the mean, over the session, of the price of keys that are paid for
// and have not been used yet. A key's price is spread over the media that it
// opens; what of that is played at another rung is never used.
func (r *run) unplayed() lightning.Msat {
	end := r.state.Now
	for _, left := range r.state.Buffer {
		end = max(end, r.state.Now+left)
	}
	lost := 0.0 // millisatoshi times seconds
	for k, track := range r.title.Tracks {
		begins := r.begins(k)
		opens := map[key]time.Duration{}
		for _, s := range track.Segments {
			for rung, g := range s.Rungs {
				opens[key{rung, g.First}] += s.Duration
			}
		}
		for i, s := range track.Segments {
			rung := r.result.Rungs[k][i]
			g := s.Rungs[rung]
			lost += float64(r.bought[k][i].paid) * (end - r.bought[k][i].at).Seconds()
			middle := begins[i] + s.Duration/2
			lost -= float64(g.Price) * float64(s.Duration) / float64(opens[key{rung, g.First}]) * (end - middle).Seconds()
		}
	}
	return lightning.Msat(math.Round(lost / max(end.Seconds(), 1e-9)))
}

// begins are the times at which the segments of a track were on: each after its
// place in the film by the most that any segment up to there was late.
func (r *run) begins(k int) (out []time.Duration) {
	type late struct{ place, by time.Duration }
	var all []late
	for j, track := range r.title.Tracks {
		place := time.Duration(0)
		for i, s := range track.Segments {
			all = append(all, late{place, r.bought[j][i].at + r.setup.Pay - place})
			place += s.Duration
		}
	}
	slices.SortFunc(all, func(a, b late) int { return cmp.Compare(a.place, b.place) })
	place, waited, n := time.Duration(0), time.Duration(0), 0
	for _, s := range r.title.Tracks[k].Segments {
		for n < len(all) && all[n].place <= place {
			waited = max(waited, all[n].by)
			n++
		}
		out = append(out, place+waited)
		place += s.Duration
	}
	return out
}

// Score adds up what Rungs, Start and Stall are worth: Utility, Quality, Changes,
// Switches, QoE and Length. Rungs may end before the title does.
func (r *Result) Score(t *agent.Title, w agent.Weights) {
	r.value(t, w)
	r.QoE = r.linear(&t.Tracks[0])
}

// value is Score without QoE.
func (r *Result) value(t *agent.Title, w agent.Weights) {
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

// linear is QoE-lin of Pensieve (Mao et al., SIGCOMM 2017, table 1), as its
// software has it: the wait for the start counts too.
func (r *Result) linear(t *agent.Track) (sum float64) {
	rates, before := t.Rates(), math.NaN()
	for i, rung := range r.Rungs[0] {
		mbit := rates[i][rung] / 1e6
		sum += mbit
		if i > 0 {
			sum -= math.Abs(mbit - before)
		}
		before = mbit
	}
	return (sum - 4.3*(r.Start+r.Stall).Seconds()) / max(float64(len(r.Rungs[0])), 1)
}
