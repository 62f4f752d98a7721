package cache

import (
	"cmp"
	"container/list"
	"math"
	"slices"

	"htlcdash/lightning"
)

// Terms say when it pays to get ahead of time what nobody has asked for. The
// zero value is never.
type Terms struct {
	// Depth is how many segments further than the one asked for are looked at.
	Depth int
	// Risk is the most that may be lost by it, ever: what was paid for things that
	// nobody has asked for yet, and for those that nobody will, less what the
	// others have brought.
	Risk lightning.Msat
	// Keep is for how many requests, for anything, what was got stays to be sold to
	// somebody else, if who it was got for goes: a key is kept for ever. 0: not at
	// all.
	Keep float64
}

// A Price is what a segment costs to get ahead, and what it then brings, beside
// getting it when it is asked for: the margin of a sale that would have gone to
// somebody quicker, or the worth of a wait.
type Price struct{ Cost, Gain lightning.Msat }

// A Choice is a segment that is worth getting now.
type Choice struct {
	Place  Place
	Price  Price
	Chance float64 // that the viewer it is for asks for it
	Profit float64 // expected, msat
}

// Ahead decides what to get ahead of time, and keeps account of how it went. It
// is not safe for concurrent use.
type Ahead struct {
	audience *Audience
	terms    Terms
	unsold   map[Place]*list.Element
	order    *list.List // of *lot, the oldest in front
	account  Account
}

// A lot was got ahead and has not been asked for.
type lot struct {
	place Place
	price Price
	until int64 // tick
}

// Account is how getting ahead went.
type Account struct {
	Got, Used, Wasted int64          // segments
	Risked            lightning.Msat // paid for what nobody has asked for yet
	Lost              lightning.Msat // paid for what nobody asked for in time
	Gained            lightning.Msat // by what was asked for
}

// NewAhead returns one that judges by what audience knows.
func NewAhead(audience *Audience, terms Terms) *Ahead {
	return &Ahead{audience: audience, terms: terms, unsold: make(map[Place]*list.Element), order: list.New()}
}

// Account returns how it went so far.
func (a *Ahead) Account() Account { return a.account }

// Left is what may still be risked now.
func (a *Ahead) Left() lightning.Msat {
	return max(0, a.terms.Risk+a.account.Gained-a.account.Lost-a.account.Risked)
}

// Asked settles what was got ahead for a place that is asked for now, and what
// it is too late for. The audience must have been told before.
func (a *Ahead) Asked(p Place) {
	if e := a.unsold[p]; e != nil {
		l := a.drop(e)
		a.account.Used++
		a.account.Gained += l.price.Gain
	}
	for e := a.order.Front(); e != nil && e.Value.(*lot).until < a.audience.tick; e = a.order.Front() {
		l := a.drop(e)
		a.account.Wasted++
		a.account.Lost += l.price.Cost
	}
}

func (a *Ahead) drop(e *list.Element) *lot {
	l := a.order.Remove(e).(*lot)
	delete(a.unsold, l.place)
	a.account.Risked -= l.price.Cost
	return l
}

// Next ranks what is worth getting now that somebody asked for p, the best
// return on what is risked first: with probability Chance it brings Gain, and
// if nobody comes it loses Cost. Together they cost no more than may be risked.
// price says what a place costs; not ok leaves it out, since it is there
// already, say. Who gets one calls [Ahead.Took].
func (a *Ahead) Next(p Place, price func(Place) (Price, bool)) []Choice {
	var out []Choice
	if !p.known() {
		return nil
	}
	for steps := 1; steps <= a.terms.Depth && p.Index+steps < p.Count; steps++ {
		c := Choice{Place: p, Chance: a.audience.Chance(p, steps)}
		c.Place.Index += steps
		if a.unsold[c.Place] != nil {
			continue
		}
		var ok bool
		if c.Price, ok = price(c.Place); !ok {
			continue
		}
		others := 1 - math.Exp(-a.audience.Rate(c.Place)*a.terms.Keep)
		c.Profit = c.Chance*float64(c.Price.Gain) - (1-c.Chance)*(1-others)*float64(c.Price.Cost)
		if c.Profit > 0 {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(x, y Choice) int {
		return cmp.Compare(y.Profit*float64(x.Price.Cost+1), x.Profit*float64(y.Price.Cost+1))
	})
	left := a.Left()
	return slices.DeleteFunc(out, func(c Choice) bool {
		if c.Price.Cost > left {
			return true
		}
		left -= c.Price.Cost
		return false
	})
}

// Took books a choice that was got.
func (a *Ahead) Took(c Choice) {
	if a.unsold[c.Place] != nil {
		return
	}
	// By then who it is for has been silent for too long, or is past it.
	wait := patience * a.audience.gap * float64(max(a.terms.Depth, 1))
	l := &lot{c.Place, c.Price, a.audience.tick + int64(min(max(wait, a.terms.Keep), 1e15))}
	a.unsold[c.Place] = a.order.PushBack(l)
	a.account.Got++
	a.account.Risked += c.Price.Cost
}

// Failed books that a choice was not got after all, and cost nothing.
func (a *Ahead) Failed(p Place) {
	if e := a.unsold[p]; e != nil {
		a.drop(e)
		a.account.Got--
	}
}
