package cachetrial

import (
	"cmp"
	"slices"

	"htlcdash"
	"htlcdash/source/cache"
)

// Bound is what nobody can exceed, whatever they know of the future: the msat
// that a cache of bound bytes saves on the requests from warm on. To save a
// request its bytes must have lain in the cache since they were last asked for;
// room is bytes times requests, and the intervals that bring most for their
// room fill what there is, the last in part (PFOO-U of Berger, Beckmann and
// Harchol-Balter, SIGMETRICS 2018, with money for hits).
func Bound(requests []cache.Item, bound int64, warm int) (saved float64) {
	type interval struct{ room, worth float64 }
	var all []interval
	last := map[htlcdash.Blob]int{}
	for i, it := range requests {
		if j, ok := last[it.Blob]; ok && it.Cost > 0 && i >= warm {
			all = append(all, interval{float64(i-j) * float64(it.Blob.Length), float64(it.Cost)})
		}
		last[it.Blob] = i
	}
	slices.SortFunc(all, func(a, b interval) int { return cmp.Compare(b.worth*a.room, a.worth*b.room) })
	left := float64(bound) * float64(len(requests))
	for _, v := range all {
		saved += v.worth * min(1, left/v.room)
		if left -= v.room; left <= 0 {
			break
		}
	}
	return saved
}
