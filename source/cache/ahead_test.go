package cache_test

import (
	"math/rand/v2"
	"testing"

	"htlcdash/lightning"
	"htlcdash/source/cache"
)

// taught is an audience that has seen viewings: all watch ten segments of
// twenty, and half of them go on to the end.
func taught() *cache.Audience {
	a := cache.NewAudience()
	for v := range 200 {
		for n := range 20 {
			if n < 10 || v%2 == 0 {
				a.Asked(segment(byte(1+v%5), n).Place)
			}
		}
	}
	return a
}

func prices(cost, gain lightning.Msat) func(cache.Place) (cache.Price, bool) {
	return func(cache.Place) (cache.Price, bool) { return cache.Price{Cost: cost, Gain: gain}, true }
}

func TestChance(t *testing.T) {
	a := taught()
	if c := a.Chance(segment(1, 2).Place, 1); c < 0.95 {
		t.Errorf("all go from segment 2 to 3: %g", c)
	}
	if c := a.Chance(segment(1, 9).Place, 3); c < 0.35 || c > 0.7 {
		t.Errorf("half go from segment 9 to 12: %g", c)
	}
	for _, steps := range []int{-1, 11, 1 << 40} {
		if c := a.Chance(segment(1, 9).Place, steps); c != 0 {
			t.Errorf("%d steps further: %g", steps, c)
		}
	}
}

func TestNextIsWhatPays(t *testing.T) {
	for _, tt := range []struct {
		name  string
		terms cache.Terms
		from  int
		price func(cache.Place) (cache.Price, bool)
		want  []int // indices
	}{
		{"never by default", cache.Terms{}, 2, prices(100, 1000), nil},
		{"the nearest first", cache.Terms{Depth: 3, Risk: 1000}, 2, prices(100, 100), []int{3, 4, 5}},
		{"no more than is risked", cache.Terms{Depth: 3, Risk: 250}, 2, prices(100, 100), []int{3, 4}},
		{"what is free risks nothing", cache.Terms{Depth: 3}, 2, prices(0, 100), []int{3, 4, 5}},
		{"not what gains less than it may lose", cache.Terms{Depth: 3, Risk: 1000}, 9, prices(100, 20), nil},
		{"but what stays on the shelf for others", cache.Terms{Depth: 1, Risk: 1000, Keep: 1e9}, 9, prices(100, 20), []int{10}},
		{"not beyond the end", cache.Terms{Depth: 3, Risk: 1000}, 18, prices(100, 1000), []int{19}},
		{"not what is there", cache.Terms{Depth: 3, Risk: 1000}, 2, func(p cache.Place) (cache.Price, bool) {
			return cache.Price{Cost: 100, Gain: 1000}, p.Index != 4
		}, []int{3, 5}},
		{"the best return first", cache.Terms{Depth: 2, Risk: 100}, 2, func(p cache.Place) (cache.Price, bool) {
			return cache.Price{Cost: 100, Gain: lightning.Msat(100 * p.Index * p.Index)}, true
		}, []int{4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := cache.NewAhead(taught(), tt.terms).Next(segment(1, tt.from).Place, tt.price)
			if len(got) != len(tt.want) {
				t.Fatalf("got %+v, want %v", got, tt.want)
			}
			for i, c := range got {
				if c.Place.Index != tt.want[i] || c.Profit <= 0 {
					t.Errorf("choice %d: %+v, want segment %d", i, c, tt.want[i])
				}
			}
		})
	}
}

func TestAheadKeepsAccount(t *testing.T) {
	a := taught()
	ahead := cache.NewAhead(a, cache.Terms{Depth: 2, Risk: 200})
	at := segment(1, 2).Place
	a.Asked(at)
	for _, c := range ahead.Next(at, prices(100, 30)) {
		ahead.Took(c)
	}
	if got := ahead.Account(); got != (cache.Account{Got: 2, Risked: 200}) || ahead.Left() != 0 {
		t.Fatalf("two got: %+v, left %v", got, ahead.Left())
	}
	a.Asked(segment(1, 3).Place)
	ahead.Asked(segment(1, 3).Place)
	if got := ahead.Account(); got != (cache.Account{Got: 2, Used: 1, Risked: 100, Gained: 30}) || ahead.Left() != 130 {
		t.Fatalf("one used: %+v, left %v", got, ahead.Left())
	}
	for range 1000 {
		a.Asked(cache.Place{})
		ahead.Asked(cache.Place{})
	}
	if got := ahead.Account(); got != (cache.Account{Got: 2, Used: 1, Wasted: 1, Lost: 100, Gained: 30}) || ahead.Left() != 130 {
		t.Fatalf("one for nothing: %+v, left %v", got, ahead.Left())
	}
}

// An audience that does the opposite of what was learnt costs no more than was
// risked.
func TestRiskIsBounded(t *testing.T) {
	const risk = 5000
	a := taught()
	ahead := cache.NewAhead(a, cache.Terms{Depth: 3, Risk: risk})
	r := rand.New(rand.NewPCG(3, 3))
	for n := range 20_000 {
		p := segment(byte(1+r.IntN(200)), r.IntN(9)).Place
		p.Title[1] = byte(n >> 8)
		a.Asked(p)
		ahead.Asked(p)
		for _, c := range ahead.Next(p, prices(lightning.Msat(r.IntN(300)), lightning.Msat(r.IntN(100)))) {
			ahead.Took(c)
		}
		if got := ahead.Account(); got.Risked+got.Lost-got.Gained > risk {
			t.Fatalf("after %d requests: %+v", n, got)
		}
	}
	if got := ahead.Account(); got.Wasted == 0 {
		t.Errorf("the audience was not hostile: %+v", got)
	}
}
