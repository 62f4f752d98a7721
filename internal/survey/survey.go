// Package survey looks at the market for people: what is on sale, who sells it, for
// about how much, and how soon each answers. It needs no node and pays nothing.
//
//	configured providers, relays, DHT  ->  addresses
//	each: GET /v1/provider, some times ->  key, name, how soon it answers
//	      GET /v1/titles               ->  what it sells
//	what it announced, signed          ->  price class, how long it holds
//
// All of it is what strangers say. Binding is the signed offer that a buyer gets, and
// what a title is its id says. It does not choose: that is agent/market's work.
package survey

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/directory"
	"htlcdash/internal/reach"
	"htlcdash/lightning"
)

// Bounds of a survey.
const (
	MaxProviders = 64  // that are asked
	MaxTitles    = 500 // that are listed
	MaxOffers    = 64  // of one title

	perGroup  = 4 // addresses of strangers in one network
	atOnce    = 16
	askTime   = 8 * time.Second // one provider, in all
	requests  = 5               // that are timed, after a first one
	maxTotal  = lightning.Msat(1 << 50)
	maxBytes  = 1 << 50 // of a title
	wholeTime = 30 * time.Second
)

// A Config says where to look.
type Config struct {
	Providers []string             // addresses that the viewer configured
	Directory *directory.Directory // nil: only those are asked
	Client    *http.Client         // for the addresses that strangers named; required with a Directory
	// Also gives further addresses of strangers, once the directory was asked. nil: none.
	Also func() []string
	// Standing tells how a provider stands by the viewer's own books. nil: nothing is
	// known.
	Standing func(url string, key htlcdash.ProviderID) buyer.Standing
	// Asked is told how many providers are to be asked, and how many have been. It
	// is called by one goroutine at a time. nil: nobody.
	Asked func(done, of int)
}

// A Wanted says what is looked for. Zero: everything.
type Wanted struct {
	Title *htlcdash.TitleID
	Text  string // in a title's name, in any case
}

// A Report is what was seen. Amounts are in msat.
type Report struct {
	At        time.Time  `json:"at"`
	Titles    []Title    `json:"titles"`    // those with most sellers first
	Providers []Provider `json:"providers"` // all that were asked, also those that did not answer
	More      bool       `json:"more"`      // there are more titles than are listed
}

// A Title is on sale.
type Title struct {
	ID        htlcdash.TitleID     `json:"id"`
	Name      string               `json:"name"`
	Title     string               `json:"title"` // for people; the name, if nobody says more
	Publisher htlcdash.PublisherID `json:"publisher"`
	Duration  int64                `json:"duration_ms"`
	Offers    []Offer              `json:"offers"` // the cheapest first by the whole; last, who has bytes alone
}

// An Offer is what one provider says of a title that it sells.
type Offer struct {
	Provider int            `json:"provider"` // index in Providers
	Min      lightning.Msat `json:"min_msat"` // keys of the whole title on its lowest rungs
	Max      lightning.Msat `json:"max_msat"` // and on its best
	Priced   bool           `json:"priced"`   // it says what it asks for keys; else it may ask that much at most
	// BytesOnly: it carries the title's sealed bytes and sells no keys of it. Min and Max
	// are 0.
	BytesOnly bool           `json:"bytes_only"`
	PerMiB    lightning.Msat `json:"per_mib_msat"` // of sealed bytes; 0: they are free
	// WholeMin and WholeMax are Min and Max with what all the sealed bytes cost here,
	// if none come from elsewhere.
	WholeMin lightning.Msat `json:"whole_min_msat"`
	WholeMax lightning.Msat `json:"whole_max_msat"`
	Expires  time.Time      `json:"expires,omitzero"`
}

// A Provider was asked.
type Provider struct {
	Address    string              `json:"address"`
	Key        htlcdash.ProviderID `json:"key"` // that it shows; zero if it did not answer
	Name       string              `json:"name"`
	Configured bool                `json:"configured"` // else others named it
	// Latency is the median of a few small requests over one connection: what
	// is on the way to it and in its queue. A key takes payments on top.
	Latency  time.Duration   `json:"latency_ns"`
	Error    string          `json:"error,omitempty"` // why nothing is listed of it
	Standing *buyer.Standing `json:"standing,omitempty"`
}

// candidate is a provider that is to be asked.
type candidate struct {
	address    string
	configured bool
	claims     []directory.Announcement // that name its address
}

// seen is what a candidate showed.
type seen struct {
	Provider
	carriage buyer.CarriageInfo
	titles   []buyer.TitleInfo
	claims   map[htlcdash.TitleID]directory.Announcement
}

// Look asks who is known and reports what was seen. It takes up to half a minute, in
// which those who are silent do not hold up the others. The error says that nobody
// could be asked.
func Look(ctx context.Context, c Config, want Wanted) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	claims, err := c.claims(ctx, want)
	all := c.candidates(claims, want)
	if len(all) == 0 {
		if err == nil {
			err = htlcdash.ErrNotFound
		}
		return Report{}, fmt.Errorf("no provider is known: %w", err)
	}
	return report(c.ask(ctx, all), want), nil
}

// claims are what relays, or else the table, say of what is wanted.
func (c Config) claims(ctx context.Context, want Wanted) ([]directory.Announcement, error) {
	if c.Directory == nil {
		return nil, nil
	}
	if want.Title == nil {
		return c.Directory.List(ctx, nil)
	}
	sellers, err := c.Directory.Find(ctx, *want.Title)
	out := make([]directory.Announcement, len(sellers))
	for i, s := range sellers {
		out[i] = s.Announcement
		out[i].Addresses = []string{s.Address}
	}
	return out, err
}

// candidates are the configured providers and then those that announce what is
// wanted, a few of each network.
func (c Config) candidates(claims []directory.Announcement, want Wanted) []*candidate {
	var all []*candidate
	known := map[string]*candidate{}
	groups := map[string]int{}
	for _, a := range c.Providers {
		a = strings.TrimSuffix(a, "/")
		if known[a] == nil && len(all) < MaxProviders {
			known[a] = &candidate{address: a, configured: true}
			all = append(all, known[a])
		}
	}
	for _, a := range claims {
		if !want.has(a.Title, a.Name, a.Label) || len(a.Addresses) == 0 {
			continue
		}
		address := a.Addresses[0]
		for _, other := range a.Addresses {
			if known[other] != nil {
				address = other
			}
		}
		p := known[address]
		if p == nil {
			u, err := url.Parse(address)
			if err != nil {
				continue
			}
			group := reach.Group(u)
			if len(all) == MaxProviders || groups[group] == perGroup {
				continue
			}
			groups[group]++
			p = &candidate{address: address}
			known[address], all = p, append(all, p)
		}
		p.claims = append(p.claims, a)
	}
	if c.Also != nil {
		for _, a := range c.Also() {
			if known[a] == nil && len(all) < MaxProviders {
				known[a] = &candidate{address: a}
				all = append(all, known[a])
			}
		}
	}
	return all
}

func (w Wanted) has(id htlcdash.TitleID, names ...string) bool {
	if w.Title != nil {
		return id == *w.Title
	}
	text := strings.ToLower(w.Text)
	return slices.ContainsFunc(names, func(s string) bool { return strings.Contains(strings.ToLower(s), text) })
}

// ask asks all, a few at once.
func (c Config) ask(ctx context.Context, all []*candidate) []seen {
	out := make([]seen, len(all))
	places := make(chan struct{}, atOnce)
	var work sync.WaitGroup
	var mu sync.Mutex
	done := 0
	told := func(more int) {
		mu.Lock()
		defer mu.Unlock()
		if done += more; c.Asked != nil {
			c.Asked(done, len(all))
		}
	}
	told(0)
	for i, p := range all {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			out[i] = c.visit(ctx, p)
			told(1)
		})
	}
	work.Wait()
	return out
}

// visit asks one provider.
func (c Config) visit(ctx context.Context, from *candidate) seen {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	s := seen{
		Provider: Provider{Address: from.address, Configured: from.configured},
		claims:   map[htlcdash.TitleID]directory.Announcement{},
	}
	client := c.Client
	if from.configured {
		client = nil
	}
	if err := s.meet(ctx, from, client); err != nil {
		s.Error, s.titles = err.Error(), nil
	}
	if c.Standing != nil {
		standing := c.Standing(s.Address, s.Key)
		s.Standing = &standing
	}
	return s
}

func (s *seen) meet(ctx context.Context, from *candidate, client *http.Client) error {
	p, err := buyer.NewProvider(from.address, client)
	if err != nil {
		return err
	}
	info, err := p.Info(ctx) // makes the connection, too
	if err != nil {
		return err
	}
	s.Address, s.Key, s.Name, s.carriage = p.URL(), info.Key, directory.Label(info.Alias), info.Carriage
	if err := info.Carriage.Check(); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	for _, a := range from.claims {
		if a.Provider == info.Key {
			s.claims[a.Title] = a
		}
	}
	if len(from.claims) > 0 && len(s.claims) == 0 && !from.configured {
		return fmt.Errorf("%s shows another key than the one that announced it: %w", p, htlcdash.ErrSignature)
	}
	if s.Latency, err = timed(ctx, p); err != nil {
		return err
	}
	s.titles, err = p.Titles(ctx)
	return err
}

// timed is the median time that a small request takes.
func timed(ctx context.Context, p *buyer.Provider) (time.Duration, error) {
	took := make([]time.Duration, requests)
	for i := range took {
		began := time.Now()
		if _, err := p.Info(ctx); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// report puts together what was seen. Of a title the words of the first who lists it
// count; those that the viewer configured are first.
func report(all []seen, want Wanted) Report {
	r := Report{At: time.Now(), Titles: []Title{}, Providers: []Provider{}}
	at := map[htlcdash.TitleID]int{}
	for i, s := range all {
		r.Providers = append(r.Providers, s.Provider)
		listed := map[htlcdash.TitleID]bool{}
		for _, t := range s.titles {
			if !want.has(t.ID, t.Name, t.Title) || listed[t.ID] || !sane(t) {
				continue
			}
			listed[t.ID] = true
			k, known := at[t.ID]
			if !known {
				if len(r.Titles) == MaxTitles {
					r.More = true
					continue
				}
				k = len(r.Titles)
				at[t.ID] = k
				r.Titles = append(r.Titles, Title{ID: t.ID, Name: t.Name, Title: cmp.Or(directory.Label(t.Title), t.Name), Publisher: t.Publisher, Duration: max(t.DurationMS, 0)})
			}
			if len(r.Titles[k].Offers) < MaxOffers {
				r.Titles[k].Offers = append(r.Titles[k].Offers, offerOf(i, t, s))
			}
		}
	}
	for _, t := range r.Titles {
		slices.SortStableFunc(t.Offers, func(a, b Offer) int {
			if a.BytesOnly != b.BytesOnly {
				return map[bool]int{true: 1, false: -1}[a.BytesOnly]
			}
			return cmp.Or(cmp.Compare(a.WholeMax, b.WholeMax), cmp.Compare(r.Providers[a.Provider].Latency, r.Providers[b.Provider].Latency))
		})
	}
	slices.SortStableFunc(r.Titles, func(a, b Title) int {
		return cmp.Or(len(b.Offers)-len(a.Offers), strings.Compare(a.Title, b.Title))
	})
	return r
}

// sane reports whether what a provider says of a title makes sense.
func sane(t buyer.TitleInfo) bool {
	prices := func(low, high lightning.Msat) bool { return low >= 0 && low <= high && high <= maxTotal }
	return prices(t.Min, t.Max) && (t.Asks == nil || prices(t.Asks.Min, t.Asks.Max)) &&
		t.MinBytes >= 0 && t.MinBytes <= maxBytes && t.MaxBytes >= 0 && t.MaxBytes <= maxBytes
}

// offerOf is what a provider says there, of the title and of itself; of what it does
// not say there, what it has announced counts.
func offerOf(provider int, t buyer.TitleInfo, s seen) Offer {
	o := Offer{Provider: provider, Min: t.Min, Max: t.Max, BytesOnly: t.BytesOnly, PerMiB: s.carriage.Price}
	a, announced := s.claims[t.ID]
	if announced {
		o.Expires = a.Expires
	}
	switch {
	case t.BytesOnly:
		o.Min, o.Max, o.Priced = 0, 0, true
	case t.Asks != nil:
		o.Min, o.Max, o.Priced = t.Asks.Min, t.Asks.Max, true
	case announced:
		times := func(m lightning.Msat) lightning.Msat {
			return lightning.Msat(math.Round(float64(m) * float64(a.Factor) / directory.PPM))
		}
		o.Min, o.Max, o.Priced = times(t.Min), times(t.Max), true
	}
	o.WholeMin, o.WholeMax = o.Min+s.carriage.Cost(t.MinBytes), o.Max+s.carriage.Cost(t.MaxBytes)
	return o
}
