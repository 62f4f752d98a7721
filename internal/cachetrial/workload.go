package cachetrial

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sort"

	"htlcdash"
	"htlcdash/lightning"
	"htlcdash/source/cache"
)

// A Setting is a made-up audience. Viewers choose titles by a Zipf law and a
// rung by chance; they begin late or leave early, and now and then an unknown
// title becomes popular.
type Setting struct {
	Seed     uint64
	Titles   int
	Segments int     // of a title's rung
	Requests int     // for a segment each
	Alpha    float64 // of the Zipf law
	Churn    int     // viewings between two changes of what is popular; 0: never
	Viewers  int     // at a time
}

// Standard is the setting that figures are given for, but for its alpha.
func Standard(alpha float64) Setting {
	return Setting{Seed: 1, Titles: 1500, Segments: 60, Requests: 400_000, Alpha: alpha, Churn: 400, Viewers: 60}
}

// PerMiB is what a MiB is resold for. What it costs upstream is a share of it.
const PerMiB lightning.Msat = 1000

// Shares are the upstream prices of titles, as shares of what they are resold for.
var Shares = []float64{0, 0.3, 0.6, 0.9}

var rungs = []float64{350 << 10, 900 << 10, 2200 << 10} // mean bytes of a segment

// Requests makes the requests of a setting, always the same.
func (s Setting) Make() []cache.Item {
	r := rand.New(rand.NewPCG(s.Seed, 7))
	zipf, sum := make([]float64, s.Titles), 0.0
	for i := range zipf {
		sum += math.Pow(float64(i+1), -s.Alpha)
		zipf[i] = sum
	}
	byRank, share := r.Perm(s.Titles), make([]float64, s.Titles)
	for i := range share {
		share[i] = Shares[r.IntN(len(Shares))]
	}
	made := map[cache.Place]cache.Item{}
	type viewing struct{ title, rung, at, left int }
	var live []viewing
	var out []cache.Item
	viewings := 0
	for len(out) < s.Requests {
		for len(live) < s.Viewers {
			v := viewing{title: byRank[sort.SearchFloat64s(zipf, r.Float64()*sum)]}
			if viewings++; s.Churn > 0 && viewings%s.Churn == 0 {
				i, j := r.IntN(min(20, s.Titles)), r.IntN(s.Titles)
				byRank[i], byRank[j] = byRank[j], byRank[i]
			}
			v.rung = 1
			switch p := r.Float64(); {
			case p < 0.25:
				v.rung = 0
			case p > 0.6:
				v.rung = 2
			}
			v.left = s.Segments
			switch p := r.Float64(); {
			case p < 0.35:
				v.left = 1 + r.IntN(max(s.Segments/10, 1))
			case p < 0.7:
				v.left = 1 + r.IntN(s.Segments)
			}
			if r.Float64() < 0.1 {
				v.at = r.IntN(s.Segments)
			}
			live = append(live, v)
		}
		i := r.IntN(len(live))
		v := &live[i]
		p := cache.Place{Track: v.rung, Index: v.at, Count: s.Segments}
		binary.BigEndian.PutUint64(p.Title[:], uint64(v.title)+1)
		it, ok := made[p]
		if !ok {
			it = item(p, uint64(v.title), share[v.title])
			made[p] = it
		}
		out = append(out, it)
		v.at++
		if v.left--; v.left == 0 || v.at == s.Segments {
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		}
	}
	return out
}

// item gives a place a name, a size and a price.
func item(p cache.Place, title uint64, share float64) cache.Item {
	r := rand.New(rand.NewPCG(title*3+uint64(p.Track), uint64(p.Index)))
	size := int64(rungs[p.Track] * (0.7 + 0.6*r.Float64()))
	it := cache.Item{Place: p, Cost: lightning.Msat(math.Round(share * float64(PerMiB) * float64(size) / (1 << 20)))}
	it.Blob.Length = size
	binary.BigEndian.PutUint64(it.Blob.Root[:], r.Uint64())
	binary.BigEndian.PutUint64(it.Blob.Root[8:], title*1_000_000+uint64(p.Track)*100_000+uint64(p.Index))
	return it
}

// Footprint is how many bytes all that is asked for has.
func Footprint(requests []cache.Item) (n int64) {
	seen := map[htlcdash.Blob]bool{}
	for _, it := range requests {
		if !seen[it.Blob] {
			seen[it.Blob] = true
			n += it.Blob.Length
		}
	}
	return n
}
