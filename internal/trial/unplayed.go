package trial

import (
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// unplayed is what was paid for media that was not played: of keys that open
// several segments, the part of the time that was played at another rung.
func unplayed(t *agent.Title, rungs [][]int) (sum lightning.Msat) {
	type key struct{ rung, first int }
	for k := range t.Tracks {
		segments := t.Tracks[k].Segments
		opens, played := map[key]time.Duration{}, map[key]time.Duration{}
		for i, s := range segments {
			for r, rung := range s.Rungs {
				opens[key{r, rung.First}] += s.Duration
			}
			r := rungs[k][i]
			played[key{r, s.Rungs[r].First}] += s.Duration
		}
		for of, part := range played {
			price := segments[of.first].Rungs[of.rung].Price
			sum += lightning.Msat(float64(price) * (1 - float64(part)/float64(opens[of])))
		}
	}
	return sum
}
