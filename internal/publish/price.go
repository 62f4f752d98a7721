package publish

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// ErrPolicy means that a price policy cannot be followed.
var ErrPolicy = errors.New("price policy")

// A Policy says what keys cost: bytes and seconds are paid for, each rung may
// have a factor or a price of its own, and no key costs less than the floor. A
// key is never free: Lightning has no payment of 0.
type Policy struct {
	PerMB     lightning.Msat  // for 1,000,000 bytes
	PerSecond lightning.Msat  // for one second of play
	Floor     lightning.Msat  // for any key; 0: 1 msat
	Rungs     map[string]Rung // by Representation id, shorter side ("720p") or kind ("audio"), looked up in this order
}

// A Rung is what differs for one quality.
type Rung struct {
	Factor    float64        // of the price by bytes and seconds; 0: 1
	PerSecond lightning.Msat // if set, all that the rung costs, whatever its bytes
}

// UnmarshalText reads a factor ("2.5") or a price of its own ("30 msat/s").
func (r *Rung) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if price, ok := strings.CutSuffix(s, "/s"); ok {
		p, err := lightning.ParseMsat(price)
		*r = Rung{PerSecond: p}
		return err
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("%w: %q is no factor (\"2.5\") and no price for a second (\"30 msat/s\")", ErrPolicy, s)
	}
	*r = Rung{Factor: f}
	return nil
}

// check reports what is wrong with p whatever the title.
func (p Policy) check() error {
	if p.PerMB < 0 || p.PerSecond < 0 || p.Floor < 0 {
		return fmt.Errorf("%w: a price is negative", ErrPolicy)
	}
	if p.Floor > htlcdash.MaxPrice {
		return fmt.Errorf("%w: a floor of %v, more than %v", ErrPolicy, p.Floor, htlcdash.MaxPrice)
	}
	for name, r := range p.Rungs {
		if r.PerSecond < 0 || r.Factor < 0 || math.IsNaN(r.Factor) || math.IsInf(r.Factor, 0) {
			return fmt.Errorf("%w: rung %q: want a factor or a price of at least 0", ErrPolicy, name)
		}
	}
	return nil
}

// fits reports a rung in p that is none of the title's: a typing error would
// sell the title too cheap.
func (p Policy) fits(reps []*dash.Representation) error {
	for name := range p.Rungs {
		if !slices.ContainsFunc(reps, func(r *dash.Representation) bool { return slices.Contains(rungNames(r), name) }) {
			var have []string
			for _, r := range reps {
				have = append(have, rungNames(r)...)
			}
			slices.Sort(have)
			return fmt.Errorf("%w: the title has no rung %q, it has %s", ErrPolicy, name, strings.Join(slices.Compact(have), ", "))
		}
	}
	return nil
}

// rungNames are the names under which a policy may speak of r, nearest first.
func rungNames(r *dash.Representation) []string {
	names := []string{r.ID}
	if r.Width > 0 && r.Height > 0 {
		names = append(names, strconv.Itoa(min(r.Width, r.Height))+"p")
	}
	if r.ContentType != "" {
		names = append(names, r.ContentType)
	}
	return names
}

func (p Policy) rung(r *dash.Representation) Rung {
	for _, name := range rungNames(r) {
		if rung, ok := p.Rungs[name]; ok {
			return rung
		}
	}
	return Rung{}
}

// set prices the keys of r: each by what it opens, where bytes that come again
// count once.
func (p Policy) set(r *dash.Representation, list htlcdash.SealList) error {
	for g := range list.Groups() {
		group := list[g.First:][:g.Count]
		var length int64
		var d time.Duration
		seen := map[htlcdash.Root]bool{}
		for _, s := range group {
			if !seen[s.Sealed] {
				seen[s.Sealed] = true
				length, d = length+s.Length, d+s.Duration
			}
		}
		price, err := p.price(r, length, d)
		if err != nil {
			return fmt.Errorf("representation %s, segment %d: %w", r.ID, g.First+1, err)
		}
		for i := range group {
			group[i].Price = price
		}
	}
	return nil
}

// price returns what a key of r costs that opens so many bytes and so much of
// the film, to the nearest msat. The arithmetic is exact, so that all machines
// find the same price.
func (p Policy) price(r *dash.Representation, length int64, d time.Duration) (lightning.Msat, error) {
	rung := p.rung(r)
	perMB, perSecond, factor := p.PerMB, p.PerSecond, rung.Factor
	if rung.PerSecond > 0 {
		perMB, perSecond, factor = 0, rung.PerSecond, 1
	}
	if factor == 0 {
		factor = 1
	}
	bytes := new(big.Rat).Mul(big.NewRat(int64(perMB), 1_000_000), big.NewRat(length, 1))
	seconds := new(big.Rat).Mul(big.NewRat(int64(perSecond), 1000), big.NewRat(d.Milliseconds(), 1))
	sum := bytes.Add(bytes, seconds)
	sum.Mul(sum, new(big.Rat).SetFloat64(factor))
	whole := nearest(sum)
	if !whole.IsInt64() || whole.Int64() > int64(htlcdash.MaxPrice) {
		return 0, fmt.Errorf("%w: a key of %s would cost %v msat, more than %d", ErrPolicy, r.ID, whole, htlcdash.MaxPrice)
	}
	return max(lightning.Msat(whole.Int64()), p.Floor, 1), nil
}

// nearest rounds x, which is not negative; a half goes up.
func nearest(x *big.Rat) *big.Int {
	x = new(big.Rat).Add(x, big.NewRat(1, 2))
	return new(big.Int).Quo(x.Num(), x.Denom())
}
