package cachetrial_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/maypok86/otter/v2"

	"htlcdash"
	"htlcdash/internal/cachetrial"
	"htlcdash/lightning"
	"htlcdash/source/cache"
)

// small is a setting for tests: as the standard one, with an eighth of its titles
// and requests.
func small(alpha float64) cachetrial.Setting {
	s := cachetrial.Standard(alpha)
	s.Titles, s.Requests = 190, 50_000
	return s
}

// The goals that were set before the policy was made: shares of the bound.
var goals = []struct {
	alpha, size, share float64
}{
	{0.8, 0.01, 0.36},
	{0.8, 0.05, 0.50},
	{0.8, 0.20, 0.69},
	{1.0, 0.01, 0.51},
	{1.0, 0.05, 0.67},
	{1.0, 0.20, 0.79},
}

func TestOursReachesItsGoals(t *testing.T) {
	cases, err := cachetrial.Run(t.Context(), []cachetrial.Setting{small(0.8), small(1)}, []float64{0.01, 0.05, 0.2}, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != len(goals) {
		t.Fatalf("%d cases", len(cases))
	}
	for i, c := range cases {
		g := goals[i]
		if c.Alpha != g.alpha || c.Size != g.size {
			t.Fatalf("case %d is alpha %g, size %g", i, c.Alpha, c.Size)
		}
		ours, _ := c.Row(cachetrial.Ours)
		t.Logf("alpha %g, %g %%: bound %.1f %%, ours %.1f %%, %.0f %% of it", c.Alpha, 100*c.Size, 100*c.Bound, 100*ours.Saved, 100*c.OfBound(ours))
		if c.OfBound(ours) < g.share {
			t.Errorf("alpha %g, %g %%: %.1f %% of the bound, want %.0f %%", c.Alpha, 100*c.Size, 100*c.OfBound(ours), 100*g.share)
		}
		for _, r := range c.Rows {
			if r.Policy != cachetrial.Ours && r.Saved >= ours.Saved {
				t.Errorf("alpha %g, %g %%: %s saves %.1f %%, ours %.1f %%", c.Alpha, 100*c.Size, r.Policy, 100*r.Saved, 100*ours.Saved)
			}
			if c.OfBound(r) > 1 {
				t.Errorf("alpha %g, %g %%: %s is above the bound", c.Alpha, 100*c.Size, r.Policy)
			}
		}
		lru, _ := c.Row(cachetrial.Baseline)
		if misled, _ := c.Row(cachetrial.Misled); misled.Saved <= lru.Saved {
			t.Errorf("alpha %g, %g %%: told wrong titles it saves %.1f %%, LRU %.1f %%", c.Alpha, 100*c.Size, 100*misled.Saved, 100*lru.Saved)
		}
	}
}

func TestTrialsRepeat(t *testing.T) {
	s := small(1)
	s.Requests = 5_000
	var before []cachetrial.Case
	for range 2 {
		cases, err := cachetrial.Run(t.Context(), []cachetrial.Setting{s}, []float64{0.05}, func(int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && !slices.Equal(before[0].Rows, cases[0].Rows) {
			t.Errorf("two runs differ: %+v\n%+v", before, cases)
		}
		before = cases
	}
}

// best is the most that any cache saves on a short list of requests, by trying
// all that may be kept at each.
func best(requests []cache.Item, bound int64, held map[htlcdash.Blob]bool) (most lightning.Msat) {
	if len(requests) == 0 {
		return 0
	}
	it, saved := requests[0], lightning.Msat(0)
	if held[it.Blob] {
		saved = it.Cost
	}
	all := []htlcdash.Blob{it.Blob}
	for b := range held {
		if b != it.Blob {
			all = append(all, b)
		}
	}
	for set := range 1 << len(all) {
		keep, n := map[htlcdash.Blob]bool{}, int64(0)
		for i, b := range all {
			if set>>i&1 == 1 {
				keep[b] = true
				n += b.Length
			}
		}
		if n <= bound {
			most = max(most, saved+best(requests[1:], bound, keep))
		}
	}
	return most
}

func TestNobodyIsAboveTheBound(t *testing.T) {
	tight := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		var requests []cache.Item
		for range 9 {
			n := r.IntN(4)
			it := cache.Item{Blob: htlcdash.Blob{Length: int64(1 + n%3)}, Cost: lightning.Msat(n * 10)}
			binary.BigEndian.PutUint64(it.Blob.Root[:], uint64(n)+1)
			requests = append(requests, it)
		}
		size := int64(1 + r.IntN(4))
		most, bound := best(requests, size, nil), cachetrial.Bound(requests, size, 0)
		if float64(most) > bound+1e-9 {
			t.Fatalf("seed %d: %v can be saved, the bound is %g msat", seed, most, bound)
		}
		if float64(most) > 0.8*bound {
			tight++
		}
	}
	if tight < 33 {
		t.Errorf("the bound is within a fifth of the truth in %d of 100 cases", tight)
	}
}

// Our W-TinyLFU saves what the one of a well-known library does, or more.
func TestTinyLFUIsWhatOthersHave(t *testing.T) {
	requests := small(0.8).Make()
	foot := cachetrial.Footprint(requests)
	for _, size := range []float64{0.05, 0.2} {
		bound := int64(size * float64(foot))
		ours, theirs := saved(requests, tinyLFU(bound)), saved(requests, newOtter(bound))
		t.Logf("a cache of %g %%: ours %.1f %%, otter %.1f %%", 100*size, 100*ours, 100*theirs)
		if ours < theirs-0.02 || ours > theirs+0.06 {
			t.Errorf("a cache of %g %%: ours saves %.1f %%, otter %.1f %%", 100*size, 100*ours, 100*theirs)
		}
	}
}

func tinyLFU(bound int64) cachetrial.Policy { return contender("W-TinyLFU").Make(bound) }

func contender(name string) cachetrial.Contender {
	all := cachetrial.Contenders()
	return all[slices.IndexFunc(all, func(c cachetrial.Contender) bool { return c.Name == name })]
}

func saved(requests []cache.Item, p cachetrial.Policy) float64 {
	saved, all := 0.0, 0.0
	for _, it := range requests {
		all += float64(it.Cost)
		if p.Ask(it) {
			saved += float64(it.Cost)
		} else {
			p.Put(it)
		}
	}
	return saved / all
}

type otterCache struct {
	*otter.Cache[htlcdash.Blob, int64]
}

func newOtter(bound int64) cachetrial.Policy {
	return otterCache{otter.Must(&otter.Options[htlcdash.Blob, int64]{
		MaximumWeight: uint64(bound),
		Weigher:       func(_ htlcdash.Blob, n int64) uint32 { return uint32(n) },
		Executor:      func(f func()) { f() },
	})}
}

func (c otterCache) Ask(it cache.Item) bool { _, ok := c.GetIfPresent(it.Blob); return ok }
func (c otterCache) Put(it cache.Item)      { c.Set(it.Blob, it.Blob.Length) }

// Getting ahead makes fewer requests wait, and never has more at stake than was
// said.
func TestForesight(t *testing.T) {
	const risk = 50_000
	list, err := cachetrial.Foresee(t.Context(), small(0.8), 0.05, risk)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range list {
		if f.Deepest > risk {
			t.Errorf("ready %g: %v at stake", f.Ready, f.Deepest)
		}
		if i == 0 {
			if f.Got != 0 || f.Deepest != 0 {
				t.Errorf("got ahead though it is worth nothing: %+v", f)
			}
			continue
		}
		if f.Waits > list[i-1].Waits+0.01 || f.Spent > list[0].Spent+0.06 || f.Gained <= f.Lost {
			t.Errorf("%+v, after %+v", f, list[i-1])
		}
	}
	if last := list[len(list)-1]; last.Waits > list[0].Waits/2 {
		t.Errorf("%.1f %% of requests wait, and %.1f %% without", 100*last.Waits, 100*list[0].Waits)
	}
}

func BenchmarkRequest(b *testing.B) {
	requests := small(0.8).Make()
	bound := cachetrial.Footprint(requests) / 20
	for _, c := range append(cachetrial.Contenders(), cachetrial.Contender{Name: "otter", Make: newOtter}) {
		b.Run(c.Name, func(b *testing.B) {
			p := c.Make(bound)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if it := requests[i%len(requests)]; !p.Ask(it) {
					p.Put(it)
				}
			}
		})
	}
}
