// Package margin says what a provider asks for keys that it buys to sell them
// again. It is pure: prices in, prices out.
//
//	publisher's price, the ceiling            3000 msat
//	what the key costs, the route included    2400 msat
//	asked, with a factor of 1.1               2640 msat
//
// It is never more than the publisher asks, since viewers refuse that, and never
// less than the key has cost. What does not fit between the two is not sold.
package margin

import (
	"errors"
	"math"

	"htlcdash/lightning"
)

// A Policy is how much dearer keys are here than upstream. The zero Policy asks
// what they cost.
type Policy struct {
	// Factor and Add are what is asked for a key: its cost times Factor or its
	// cost and Add, whichever is more. A Factor below 1 counts as 1.
	Factor float64
	Add    lightning.Msat
	// Shelf, if it is above 0, is what is asked for a key that is on the own
	// shelf already: the publisher's price times Shelf, but not less than it
	// cost. 0: as for others.
	Shelf float64
}

// Check returns an error that says what is wrong with p, for people.
func (p Policy) Check() error {
	switch {
	case math.IsNaN(p.Factor) || p.Factor < 1 || p.Factor > 1000:
		return errors.New("a factor below 1 would sell for less than is paid, one above 1000 never sells")
	case p.Add < 0:
		return errors.New("a margin below 0 would sell for less than is paid")
	case math.IsNaN(p.Shelf) || p.Shelf < 0 || p.Shelf > 1:
		return errors.New("a shelf factor is between 0 and 1: viewers refuse more than the publisher asks")
	}
	return nil
}

// Resale is what to ask for a key that costs so much, the route to its seller
// included. It is not ok if that is above the ceiling: then the key is not sold.
func (p Policy) Resale(cost, ceiling lightning.Msat) (price lightning.Msat, ok bool) {
	price = p.wanted(cost)
	return price, price <= ceiling
}

// OnShelf is what to ask for a key that was bought for so much.
func (p Policy) OnShelf(cost, ceiling lightning.Msat) lightning.Msat {
	price := p.wanted(cost)
	if p.Shelf > 0 {
		price = max(times(ceiling, p.Shelf), cost)
	}
	return min(price, ceiling)
}

// Most is the most that a key may cost, the route included, for it to be sold
// again under the ceiling; 0 if there is no such cost.
func (p Policy) Most(ceiling lightning.Msat) lightning.Msat {
	most := lightning.Msat(float64(ceiling) / max(p.Factor, 1))
	most = max(min(most, ceiling-max(p.Add, 0)), 0)
	for most > 0 && p.wanted(most) > ceiling { // rounded
		most--
	}
	return most
}

func (p Policy) wanted(cost lightning.Msat) lightning.Msat {
	return max(cost, cost+p.Add, times(cost, p.Factor))
}

// times rounds up, but not for an error of the last bit: 1000 times 1.1 is 1100.
func times(m lightning.Msat, f float64) lightning.Msat {
	return lightning.Msat(math.Ceil(float64(m)*f - 1e-6))
}
