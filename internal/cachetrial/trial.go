// Package cachetrial holds what is kept on a shelf to account: package cache
// beside other rules and beside what nobody can exceed, on made-up audiences
// that are always the same.
package cachetrial

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"htlcdash/lightning"
	"htlcdash/source/cache"
)

// warmUp is the part of the requests that is not counted.
const warmUp = 0.2

// A Case is one setting with one size of the cache.
type Case struct {
	Alpha float64
	Size  float64 // share of the bytes of all that is asked for
	Bound float64 // share of what is paid upstream without a cache that could be saved
	Rows  []Row
}

// A Row is how one policy did. All are shares.
type Row struct {
	Policy string
	Saved  float64 // of what is paid upstream without a cache
	Bytes  float64 // that were held
	Hits   float64 // requests for what was held
}

// OfBound is the share of the bound that a row reached.
func (c Case) OfBound(r Row) float64 { return r.Saved / c.Bound }

// Row finds a policy.
func (c Case) Row(policy string) (Row, bool) {
	for _, r := range c.Rows {
		if r.Policy == policy {
			return r, true
		}
	}
	return Row{}, false
}

// Run compares all contenders in each setting with each size of cache. done is
// told of each comparison that is made.
func Run(ctx context.Context, settings []Setting, sizes []float64, done func(n, of int)) ([]Case, error) {
	contenders := Contenders()
	out := make([]Case, 0, len(settings)*len(sizes))
	ticked := make(chan struct{})
	all := len(settings) * len(sizes) * len(contenders)
	told := make(chan struct{})
	go func() {
		defer close(told)
		n := 0
		for range ticked {
			n++
			done(n, all)
		}
	}()
	defer func() {
		close(ticked)
		<-told
	}()
	for _, s := range settings {
		requests := s.Make()
		whole, warm := float64(Footprint(requests)), int(warmUp*float64(len(requests)))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(runtime.GOMAXPROCS(0))
		for _, size := range sizes {
			bound := int64(size * whole)
			c := Case{Alpha: s.Alpha, Size: size, Rows: make([]Row, len(contenders))}
			c.Bound = Bound(requests, bound, warm) / spent(requests[warm:])
			for i, p := range contenders {
				rows := c.Rows
				g.Go(func() error {
					if err := ctx.Err(); err != nil {
						return err
					}
					rows[i] = play(requests, warm, p.Make(bound))
					rows[i].Policy = p.Name
					ticked <- struct{}{}
					return nil
				})
			}
			out = append(out, c)
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func spent(requests []cache.Item) (msat float64) {
	for _, it := range requests {
		msat += float64(it.Cost)
	}
	return msat
}

// play has a policy answer requests.
func play(requests []cache.Item, warm int, p Policy) (r Row) {
	var bytes float64
	for i, it := range requests {
		held := p.Ask(it)
		if !held {
			p.Put(it)
		}
		if i < warm {
			continue
		}
		bytes += float64(it.Blob.Length)
		if held {
			r.Hits++
			r.Bytes += float64(it.Blob.Length)
			r.Saved += float64(it.Cost)
		}
	}
	r.Saved /= spent(requests[warm:])
	r.Bytes /= bytes
	r.Hits /= float64(len(requests) - warm)
	return r
}

// A Forecast is how getting ahead of time went, with what a wait is worth. What
// is counted begins after the warm-up.
type Forecast struct {
	Alpha, Size float64
	Ready       float64        // what it is worth that bytes are there when asked for, as a share of what they are resold for
	Waits       float64        // share of requests that had to wait for the upstream
	Spent       float64        // paid upstream, as a share of what is paid without a cache
	Got, Used   int64          // segments got ahead, and those of them that were asked for
	Lost        lightning.Msat // paid for what nobody asked for in time
	Gained      lightning.Msat // what those that were used were worth beside being got when asked for
	Whole       lightning.Msat // what is paid without a cache
	Deepest     lightning.Msat // most that was at stake at any moment: at risk and lost, less gained
	Risk        lightning.Msat // and its bound
}

// depth is how far ahead is looked in a forecast.
const depth = 3

// worths of being ready, in a forecast: as shares of what a segment is resold
// for. At 0 nothing is got ahead.
var worths = []float64{0, 0.01, 0.03, 0.1, 0.3}

// Foresee plays a setting with our shelf and gets ahead what pays, for several
// worths of being ready. Whatever is got is there at once.
func Foresee(ctx context.Context, s Setting, size float64, risk lightning.Msat) ([]Forecast, error) {
	requests := s.Make()
	bound, warm := int64(size*float64(Footprint(requests))), int(warmUp*float64(len(requests)))
	items := make(map[cache.Place]cache.Item)
	for _, it := range requests { // what nobody ever asks for is left out: nothing is known of it
		items[it.Place] = it
	}
	out := make([]Forecast, len(worths))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, worth := range worths {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			f := foresee(requests, warm, bound, items, risk, worth)
			f.Alpha, f.Size = s.Alpha, size
			out[i] = f
			return nil
		})
	}
	return out, g.Wait()
}

func foresee(requests []cache.Item, warm int, bound int64, items map[cache.Place]cache.Item, risk lightning.Msat, ready float64) Forecast {
	shelf := cache.New(bound)
	terms := cache.Terms{Risk: risk, Depth: depth}
	if ready == 0 {
		terms = cache.Terms{}
	}
	ahead := cache.NewAhead(shelf.Audience(), terms)
	f := Forecast{Ready: ready, Risk: risk, Whole: lightning.Msat(spent(requests[warm:]))}
	var before cache.Account
	waits, paid := 0, lightning.Msat(0)
	for i, it := range requests {
		if i == warm {
			before, waits, paid = ahead.Account(), 0, 0
		}
		held := shelf.Ask(it)
		ahead.Asked(it.Place)
		if !held {
			waits++
			paid += it.Cost
			shelf.Put(it)
		}
		for _, c := range ahead.Next(it.Place, func(p cache.Place) (cache.Price, bool) {
			next, known := items[p]
			if _, here := shelf.Held(next.Blob); here || !known || !shelf.Wants(next) {
				return cache.Price{}, false
			}
			gain := ready * float64(PerMiB) * float64(next.Blob.Length) / (1 << 20)
			return cache.Price{Cost: next.Cost, Gain: lightning.Msat(gain)}, true
		}) {
			ahead.Took(c)
			paid += c.Price.Cost
			shelf.Put(items[c.Place])
		}
		a := ahead.Account()
		f.Deepest = max(f.Deepest, a.Risked+a.Lost-a.Gained)
	}
	a := ahead.Account()
	f.Waits = float64(waits) / float64(len(requests)-warm)
	f.Spent = float64(paid) / float64(f.Whole)
	f.Got, f.Used, f.Lost, f.Gained = a.Got-before.Got, a.Used-before.Used, a.Lost-before.Lost, a.Gained-before.Gained
	return f
}
