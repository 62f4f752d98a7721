package margin_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"htlcdash/internal/margin"
	"htlcdash/lightning"
)

func TestResale(t *testing.T) {
	for name, c := range map[string]struct {
		policy        margin.Policy
		cost, ceiling lightning.Msat
		price         lightning.Msat
		ok            bool
		shelf         lightning.Msat // on the own shelf
	}{
		"nothing":               {margin.Policy{}, 2400, 3000, 2400, true, 2400},
		"a factor":              {margin.Policy{Factor: 1.1}, 2400, 3000, 2640, true, 2640},
		"an amount":             {margin.Policy{Factor: 1, Add: 500}, 2400, 3000, 2900, true, 2900},
		"the amount is more":    {margin.Policy{Factor: 1.1, Add: 500}, 2400, 3000, 2900, true, 2900},
		"the factor is more":    {margin.Policy{Factor: 1.1, Add: 100}, 2400, 3000, 2640, true, 2640},
		"up to the ceiling":     {margin.Policy{Factor: 1.25}, 2400, 3000, 3000, true, 3000},
		"above the ceiling":     {margin.Policy{Factor: 1.26}, 2400, 3000, 3024, false, 3000},
		"a part is rounded up":  {margin.Policy{Factor: 1.1}, 101, 3000, 112, true, 112},
		"undercut on the shelf": {margin.Policy{Factor: 1.2, Shelf: 0.85}, 2400, 3000, 2880, true, 2550},
		"not below cost":        {margin.Policy{Factor: 1.2, Shelf: 0.5}, 2400, 3000, 2880, true, 2400},
		"what cost too much":    {margin.Policy{Factor: 1.1, Shelf: 0.5}, 3500, 3000, 3850, false, 3000},
		"a factor below one":    {margin.Policy{Factor: 0.5}, 2400, 3000, 2400, true, 2400},
	} {
		t.Run(name, func(t *testing.T) {
			price, ok := c.policy.Resale(c.cost, c.ceiling)
			if price != c.price || ok != c.ok {
				t.Errorf("resale: %v, %v; want %v, %v", price, ok, c.price, c.ok)
			}
			if shelf := c.policy.OnShelf(c.cost, c.ceiling); shelf != c.shelf {
				t.Errorf("on the shelf: %v, want %v", shelf, c.shelf)
			}
		})
	}
}

// What costs Most can be sold, and what costs one msat more cannot.
func TestMost(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		p := margin.Policy{Factor: 1 + rng.Float64(), Add: lightning.Msat(rng.Int64N(2000))}
		ceiling := lightning.Msat(rng.Int64N(100_000))
		most := p.Most(ceiling)
		if most < 0 || most > ceiling {
			t.Fatalf("%+v under %v: %v", p, ceiling, most)
		}
		if _, ok := p.Resale(most, ceiling); !ok && most > 0 {
			t.Fatalf("%+v under %v: what costs %v does not fit", p, ceiling, most)
		}
		if _, ok := p.Resale(most+1, ceiling); ok {
			t.Fatalf("%+v under %v: %v is not the most", p, ceiling, most)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, p := range []margin.Policy{{}, {Factor: math.NaN()}, {Factor: 1.1, Add: -1}, {Factor: 1, Shelf: 1.5}, {Factor: 1, Shelf: math.NaN()}} {
		if p.Check() == nil {
			t.Errorf("%+v passes", p)
		}
	}
	if err := (margin.Policy{Factor: 1.1, Add: 5, Shelf: 0.9}).Check(); err != nil {
		t.Error(err)
	}
}
