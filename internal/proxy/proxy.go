// Package proxy is the viewer's side as a player sees it: a web server on this
// machine that any stock DASH player can play from, unchanged, and the page
// that shows what it costs.
//
//	GET /                               the viewer's page
//	GET /t/{title}/manifest.mpd         the MPD, made fit for a stock player
//	GET /t/{title}/{file}               heads (free) and media (bought), ranges too
//	GET /api/titles, /api/state, /api/events, /api/ledger, /api/ledger.csv, /api/market
//	POST /api/want, /api/budget, /api/preferences, /api/stop, /api/resume
//
// {title} is a title's id or its name. A player asks for a segment and waits
// while it is bought; it never sees a 402, because stock players drop the
// segment then, or die. After 3.5 s (our own page: 15 s) it is told 504 with
// Retry-After, and 503 where the market or the budget says no. The purchase
// goes on meanwhile, and also when the player goes away.
//
// Plain titles on any web server ("open" titles) go through the same code
// without payment, so that what payment adds can be measured.
//
// The proxy spends money for whoever can reach it, so it takes only requests
// that no foreign page can have caused; see guard. It has no password: bind it
// to loopback. It does not choose qualities, find providers or keep books: that
// is the agent's and the buyer's work. What the agent decides, a stock player
// meets as the rungs that it is shown at all; our own page follows it segment by
// segment.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/plain"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// Wallet tells what the viewer's node can spend.
type Wallet interface {
	Balance(ctx context.Context) (lightning.Balance, error)
}

// Config says what a proxy plays and how. Zero values of optional fields do
// what their comments say.
type Config struct {
	Log    *slog.Logger // nil: nothing is logged
	Buyer  Buyer        // required for sealed titles
	Scheme string       // of the exchange, for the page; empty: "salted"
	Market Market       // nil: the page does not tell what else is on sale
	Wallet Wallet       // nil: the page shows no balance
	// Purchases gives the payments of a title, newest first; limit 0 means
	// all. nil: the page lists only what this run bought.
	Purchases func(ctx context.Context, title htlcdash.TitleID, limit int) iter.Seq2[buyer.Purchase, error]

	Hosts   []string // names besides loopback that this proxy is reached by, without port
	Origins []string // of pages that may read, as in "https://example.org"

	Wish       Wish     // of the viewer, until another one is chosen for a title
	Settings   Settings // where such choices are kept; nil: they end with this run
	Ahead      Ahead
	NoEarlyBuy bool          //  do not buy a film's first segments when its MPD is loaded by our page
	Hold       time.Duration // how long a player may wait; 0: 3.5 s; stock players give up at about 5 s
	Memory     int64         // bytes of opened segments kept; 0: 32 MiB
	Requests   int           // served at once; 0: 256
	Client     *http.Client  // for open titles; nil: a client with timeouts
}

// A Proxy serves players. All methods may be called at once.
type Proxy struct {
	log       *slog.Logger
	buyer     Buyer
	scheme    string
	market    Market
	wallet    Wallet
	purchases func(context.Context, htlcdash.TitleID, int) iter.Seq2[buyer.Purchase, error]
	ahead     Ahead
	cautious  bool
	hold      time.Duration
	wish      Wish
	settings  Settings
	began     time.Time
	client    *http.Client
	shelf     *shelf
	gauge     gauge
	handler   http.Handler

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu       sync.Mutex
	closed   bool
	work     sync.WaitGroup // grows under mu only while not closed
	films    []*film
	change   chan struct{} // closed at the next change of state, and replaced
	balance  purse
	recent   []buyer.Purchase // newest last, at most maxRecent
	booked   int              // purchases ever, this run
	watchers int              // streams of events
	seen     *look            // nil: nobody has asked yet
}

// New returns a proxy without titles; see [Proxy.Add].
func New(c Config) (*Proxy, error) {
	for _, o := range c.Origins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme == "" || u.Host == "" || u.String() != o || u.Path != "" {
			return nil, fmt.Errorf("origin %q: want scheme and host, such as \"https://example.org\"", o)
		}
	}
	if err := c.Wish.check(); err != nil {
		return nil, err
	}
	p := &Proxy{
		log: c.Log, buyer: c.Buyer, market: c.Market, wallet: c.Wallet, purchases: c.Purchases,
		ahead: c.Ahead.withDefaults(), cautious: c.NoEarlyBuy, client: c.Client,
		scheme: cmp.Or(c.Scheme, "salted"),
		hold:   cmp.Or(c.Hold, 3500*time.Millisecond),
		wish:   c.Wish, settings: c.Settings,
		began:  time.Now(),
		change: make(chan struct{}),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.client == nil {
		p.client = plain.NewClient()
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.shelf = newShelf(cmp.Or(c.Memory, 32<<20), p.run)
	hosts := make([]string, len(c.Hosts))
	for i, h := range c.Hosts {
		hosts[i] = hostname(h)
	}
	p.handler = &guard{
		hosts:   hosts,
		origins: c.Origins,
		slots:   make(chan struct{}, cmp.Or(c.Requests, 256)),
		next:    p.routes(),
	}
	p.recall()
	if p.buyer != nil {
		p.run(p.follow)
	}
	return p, nil
}

// Handler serves players and the page. Give its server a ReadHeaderTimeout; it
// needs no WriteTimeout, each response has its own.
func (p *Proxy) Handler() http.Handler { return p.handler }

// Close ends streams of events and all work of the proxy, and waits for it. An
// error means that the next run will not know how fast the network was.
// Payments under way are the buyer's, and go on.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
	p.client.CloseIdleConnections()
	return p.keep()
}

// clock is the time since the proxy began.
func (p *Proxy) clock() time.Duration { return time.Since(p.began) }

// run starts work that Close waits for. After Close it starts nothing and
// reports false.
func (p *Proxy) run(work func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.work.Go(work)
	}
	return !p.closed
}

// Add offers a sealed title to players under its id and under name, if no
// other title has that name. The buyer must know the title.
func (p *Proxy) Add(name string, t *title.Title) error {
	if p.buyer == nil {
		return errors.New("a sealed title needs a buyer")
	}
	f, err := newFilm(p, name, t.ID, t.Manifest, sealed{t, p.buyer}, true)
	if err != nil {
		return err
	}
	f.recallWish()
	if err := p.add(f); err != nil {
		return err
	}
	if p.purchases != nil {
		p.run(f.recall)
	}
	return nil
}

// AddOpen offers the plain title whose MPD is at address, on a web server.
func (p *Proxy) AddOpen(ctx context.Context, name, address string) error {
	t, err := plain.Open(ctx, address, p.client)
	if err != nil {
		return fmt.Errorf("title %s: %w", name, err)
	}
	f, err := newFilm(p, name, htlcdash.IDOf(t.MPD), t.Manifest, open{t}, false)
	if err != nil {
		return err
	}
	return p.add(f)
}

func (p *Proxy) add(f *film) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.films, func(g *film) bool { return g.id == f.id }) {
		return fmt.Errorf("title %s is here already", f.id)
	}
	p.films = append(p.films, f)
	return nil
}

// film finds a title by its id, or by its name if only one has it.
func (p *Proxy) film(name string) (*film, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []*film
	for _, f := range p.films {
		if f.id.String() == name {
			return f, nil
		}
		if f.name == name {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("title %q: %w", name, htlcdash.ErrNotFound)
	default:
		return nil, fmt.Errorf("%d titles are called %q, use the id: %w", len(found), name, htlcdash.ErrNotFound)
	}
}

func (p *Proxy) titles() []*film {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.films)
}

// changed wakes those who watch the state.
func (p *Proxy) changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.change)
	p.change = make(chan struct{})
}

// nextChange returns a channel that is closed when the state changes.
func (p *Proxy) nextChange() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.change
}
