package directory

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"htlcdash"
	"htlcdash/internal/nostr"
	"htlcdash/internal/reach"
)

// Bounds of a provider's part of the directory.
const (
	MaxPeers = 32 // that are configured

	defaultLife   = 2 * time.Hour
	maxPerTitle   = 256  // announcements in an answer
	maxList       = 1000 // the same, of all titles
	maxLearnt     = 8    // peers that nobody configured
	maxCandidates = 256  // for these
	hopeless      = 5    // tries to connect in a row, after which a learnt peer is left
	keepPause     = 20 * time.Second
	verifiers     = 4
	verifyRate    = 10 // a second
	verifyBurst   = 256
	farewellTime  = 2 * time.Second // for withdrawals
)

// A HostConfig says what a provider's part of the directory does.
type HostConfig struct {
	Key htlcdash.ProviderKey // signs announcements; required
	// Addresses are where viewers reach this provider. Without any it announces
	// nothing, and only carries what others announce.
	Addresses []string
	// Peers are relays that announcements are exchanged with: providers (http,
	// https) and Nostr relays (ws, wss). To the latter only our own go.
	Peers []string
	// KeyAt asks the provider at an address for its key. Required.
	KeyAt func(ctx context.Context, address string) (htlcdash.ProviderID, error)
	// Local also believes and carries addresses in local networks.
	Local bool
	Life  time.Duration     // of an announcement; 0: 2 h. It is made again at half of it.
	Store nostr.StoreLimits // of the relay

	Name    string // of the provider, for people
	Version string // of this program
	Log     *slog.Logger
	Pause   time.Duration // before the first new try to reach a peer; 0: 1 s
}

// A Host is a provider's part of the directory: it announces titles, runs a
// relay, and exchanges announcements with other relays. As an http.Handler it
// serves GET /v1/announcements, and the relay at all other paths. All methods
// may be called at once.
type Host struct {
	c       HostConfig
	relay   *nostr.Relay
	prober  *prober
	socket  *http.Client
	verify  *turns
	pace    *rate.Limiter         // of verifying
	learnt  chan string           // addresses of providers that were verified
	revoked chan htlcdash.TitleID // that others say in our name we do not sell

	mu    sync.Mutex
	own   map[htlcdash.TitleID]own
	links map[string]*link // by address
}

// own is what we announced last of a title.
type own struct {
	Announcement
	event nostr.Event
}

// NewHost makes a host. The error names what is malformed.
func NewHost(c HostConfig) (*Host, error) {
	if c.KeyAt == nil || c.Key.IsZero() {
		return nil, errors.New("directory: key and KeyAt are required")
	}
	if len(c.Addresses) > MaxAddresses || len(c.Peers) > MaxPeers {
		return nil, fmt.Errorf("at most %d addresses of one's own and %d relays: %w", MaxAddresses, MaxPeers, htlcdash.ErrFormat)
	}
	c.Addresses = slices.Clone(c.Addresses)
	for i, a := range c.Addresses {
		c.Addresses[i] = strings.TrimRight(a, "/")
		if _, err := ParseAddress(c.Addresses[i]); err != nil {
			return nil, err
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Life = min(cmp.Or(c.Life, defaultLife), MaxLife)
	h := &Host{
		c: c, prober: newProber(c.KeyAt, c.Local), socket: reach.Client(c.Local, 0),
		verify: newTurns(), pace: rate.NewLimiter(verifyRate, verifyBurst),
		learnt: make(chan string, maxCandidates), revoked: make(chan htlcdash.TitleID, maxCandidates),
		own: map[htlcdash.TitleID]own{}, links: map[string]*link{},
	}
	h.relay = nostr.NewRelay(nostr.RelayConfig{
		Accept: h.accept, Accepted: h.accepted, Store: c.Store, Log: c.Log,
		Name: c.Name, Description: "It carries announcements of providers who sell titles by htlcdash.",
		Software: "htlcdash", Version: c.Version,
	})
	h.relay.Vouch(nostr.Key(c.Key.ID()), "", true)
	for _, p := range c.Peers {
		p = strings.TrimRight(p, "/")
		u, err := parseRelay(p)
		if err != nil {
			return nil, err
		}
		// Who configures a peer may well mean one in a local network.
		l, err := h.newLink(p, reach.Group(u), reach.Client(true, 0))
		if err != nil {
			return nil, err
		}
		h.links[p] = l
	}
	return h, nil
}

// accept is the relay's rule: sound announcements, as spec/13 says.
func (h *Host) accept(e nostr.Event, now time.Time) error {
	if e.Kind != Kind {
		return fmt.Errorf("blocked: only events of kind %d are carried here", Kind)
	}
	a, err := Read(e)
	if err == nil {
		err = a.sound(now)
	}
	if err != nil {
		return fmt.Errorf("invalid: %w", err)
	}
	for _, address := range a.Addresses {
		if u, err := ParseAddress(address); err != nil || !h.c.Local && reach.IsLocal(u.Hostname()) {
			return fmt.Errorf("invalid: %.80q is in a local network", address)
		}
	}
	return nil
}

// accepted passes on what is new: to peers, and to those who verify.
func (h *Host) accepted(e nostr.Event, place string) {
	h.mu.Lock()
	for _, l := range h.links {
		if l.place != place && (!l.foreign || e.PubKey == nostr.Key(h.c.Key.ID())) {
			l.push(e)
		}
	}
	h.mu.Unlock()
	a, err := Read(e)
	switch {
	case err != nil:
	case a.Provider != h.c.Key.ID():
		if !a.Withdrawn() {
			h.verify.put(place, a)
		}
	case a.Withdrawn() && place != "":
		offer(h.revoked, a.Title)
	}
}

// offer sends v if there is room.
func offer[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}

// ServeHTTP serves announcements and the relay.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/v1/announcements") {
		h.relay.ServeHTTP(w, r)
		return
	}
	header := w.Header()
	header.Set("Cache-Control", "no-cache")
	if !h.relay.Allow(r) {
		header.Set("Retry-After", "10")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	f, limit, err := wanted(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := struct {
		Announcements []nostr.Event `json:"announcements"`
	}{h.relay.Query(limit, f)}
	b, err := json.Marshal(out)
	if err != nil {
		http.Error(w, "no answer", http.StatusInternalServerError)
		return
	}
	header.Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

// wanted reads the query of a request for announcements.
func wanted(r *http.Request) (f nostr.Filter, limit int, err error) {
	f, limit = nostr.Filter{Kinds: []int{Kind}, Tags: map[string][]string{}}, maxList
	if s := r.URL.Query().Get("title"); s != "" {
		id, err := htlcdash.ParseTitleID(s)
		if err != nil {
			return f, 0, err
		}
		f, limit = forTitle(id), maxPerTitle
	}
	if s := r.URL.Query().Get("publisher"); s != "" {
		id, err := htlcdash.ParsePublisherID(s)
		if err != nil {
			return f, 0, err
		}
		f.Tags["p"] = []string{id.String()}
	}
	return f, limit, nil
}

// Len is how many announcements are carried.
func (h *Host) Len() int { return h.relay.Len() }

// Sell says which titles are on sale from now on. Of each announcement it takes
// what is about the title; provider, addresses and times are set here. What is
// new or changed is announced, what is gone is withdrawn.
func (h *Host) Sell(titles []Announcement) error {
	if len(h.c.Addresses) == 0 {
		return nil
	}
	var failed error
	sold := map[htlcdash.TitleID]bool{}
	for _, a := range titles {
		sold[a.Title] = true
		a.Addresses = h.c.Addresses
		old, known := h.ours(a.Title)
		if known && sameTerms(Seller{Announcement: old.Announcement}, Seller{Announcement: a}) && old.Label == a.Label && old.Publisher == a.Publisher {
			continue
		}
		if err := h.announce(a); err != nil {
			failed = errors.Join(failed, fmt.Errorf("announce %s: %w", a.Name, err))
		}
	}
	h.withdraw(func(id htlcdash.TitleID) bool { return !sold[id] })
	return failed
}

func (h *Host) ours(id htlcdash.TitleID) (own, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o, ok := h.own[id]
	return o, ok
}

// announce says that a title is on sale, later than anything said before: by us,
// or by us before a restart.
func (h *Host) announce(a Announcement) error {
	f := forTitle(a.Title)
	f.Authors = []nostr.Key{nostr.Key(h.c.Key.ID())}
	for {
		a.At = time.Now().Truncate(time.Second)
		for _, e := range h.relay.Query(1, f) {
			if !a.At.After(e.Time()) {
				a.At = e.Time().Add(time.Second)
			}
		}
		a.Expires = a.At.Add(h.c.Life)
		// It may have come just now from a peer; it is not later than MaxAhead.
		if err := h.say(a); !errors.Is(err, nostr.ErrOlder) {
			return err
		}
	}
}

// say signs and carries a.
func (h *Host) say(a Announcement) error {
	e, err := a.Sign(h.c.Key)
	if err != nil {
		return err
	}
	h.mu.Lock()
	if a.Withdrawn() {
		delete(h.own, a.Title)
	} else {
		h.own[a.Title] = own{a, e}
	}
	h.mu.Unlock()
	_, err = h.relay.Add(e, "")
	return err
}

// withdraw says of titles that they are sold no more. The word lasts as long as
// what it takes back.
func (h *Host) withdraw(which func(htlcdash.TitleID) bool) {
	h.mu.Lock()
	var all []own
	for id, o := range h.own {
		if which(id) {
			all = append(all, o)
		}
	}
	h.mu.Unlock()
	for _, o := range all {
		at := time.Now().Truncate(time.Second)
		if !at.After(o.At) {
			at = o.At.Add(time.Second)
		}
		if err := h.say(Announcement{Title: o.Title, At: at, Expires: o.Expires}); err != nil {
			h.c.Log.Warn("withdraw", "title", o.Title, "err", err)
		}
	}
}

// renew announces again what has lived for half of its life.
func (h *Host) renew() {
	h.mu.Lock()
	var due []Announcement
	for _, o := range h.own {
		if time.Since(o.At) >= h.c.Life/2 {
			due = append(due, o.Announcement)
		}
	}
	h.mu.Unlock()
	for _, a := range due {
		h.warn(h.announce(a), a.Title)
	}
}

func (h *Host) warn(err error, id htlcdash.TitleID) {
	if err != nil {
		h.c.Log.Warn("announce", "title", id, "err", err)
	}
}

// Run keeps announcements and links until ctx is done. Then it withdraws what is
// announced, gives peers two seconds to hear of it, and ends all connections. It
// is called once.
func (h *Host) Run(ctx context.Context) {
	// Links outlive ctx, to say farewell.
	linked, unlink := context.WithCancel(context.WithoutCancel(ctx))
	var work, links sync.WaitGroup
	for range verifiers {
		work.Go(func() { h.verifyAll(ctx) })
	}
	h.mu.Lock()
	for _, l := range h.links {
		links.Go(func() { l.run(linked) })
	}
	h.mu.Unlock()
	h.keepLinks(ctx, linked, &links)
	work.Wait()
	h.withdraw(func(htlcdash.TitleID) bool { return true })
	h.drain()
	unlink()
	links.Wait()
	h.relay.Close()
}

// keepLinks renews announcements, links to providers that were learnt, and lets
// go of those that do not answer, until ctx is done.
func (h *Host) keepLinks(ctx, linked context.Context, links *sync.WaitGroup) {
	tick := time.NewTicker(min(keepPause, max(h.c.Life/8, time.Second/10)))
	defer tick.Stop()
	candidates := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-h.learnt:
			if len(candidates) < maxCandidates {
				candidates[a] = true
			}
		case id := <-h.revoked:
			// What we said before a restart came late, or another process with our
			// key has stopped.
			if o, ok := h.ours(id); ok {
				h.warn(h.announce(o.Announcement), id)
			}
		case <-tick.C:
			h.renew()
			h.unlinkHopeless()
		}
		for a := range candidates {
			if l := h.befriend(a); l != nil {
				links.Go(func() { l.run(linked) })
			}
			delete(candidates, a) // who is left out is learnt again
		}
	}
}

// befriend makes a link to a provider that nobody configured, if there is room
// and no other of its group is linked.
func (h *Host) befriend(address string) *link {
	u, err := ParseAddress(address)
	if err != nil || slices.Contains(h.c.Addresses, address) {
		return nil
	}
	group := reach.Group(u)
	h.mu.Lock()
	defer h.mu.Unlock()
	learnt := 0
	for _, l := range h.links {
		if l.place == group {
			return nil
		}
		if l.learnt {
			learnt++
		}
	}
	if learnt >= maxLearnt {
		return nil
	}
	l, err := h.newLink(address, group, h.socket)
	if err != nil {
		return nil
	}
	l.learnt = true
	h.links[address] = l
	return l
}

func (h *Host) unlinkHopeless() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for a, l := range h.links {
		if l.learnt && l.client.Failed() >= hopeless {
			l.stop()
			delete(h.links, a)
		}
	}
}

// verifyAll asks providers whether announcements are theirs, and vouches for who
// says so.
func (h *Host) verifyAll(ctx context.Context) {
	for {
		select {
		case <-h.verify.more:
		case <-ctx.Done():
			return
		}
		if h.pace.Wait(ctx) != nil {
			return
		}
		a, ok := h.verify.take()
		if !ok {
			continue
		}
		address, group, err := h.prober.at(ctx, a)
		if ctx.Err() != nil {
			return
		}
		h.relay.Vouch(nostr.Key(a.Provider), group, err == nil)
		if err != nil {
			h.c.Log.Debug("announcement of a provider that is not there", "provider", a.Provider, "err", err)
			continue
		}
		offer(h.learnt, address)
	}
}

// drain waits until peers that are reached have what is queued for them, but not
// for long.
func (h *Host) drain() {
	end := time.After(farewellTime)
	h.mu.Lock()
	links := make([]*link, 0, len(h.links))
	for _, l := range h.links {
		links = append(links, l)
	}
	h.mu.Unlock()
	for _, l := range links {
		if !l.client.Connected() {
			continue
		}
		select {
		case <-l.idle():
		case <-end:
			return
		}
	}
}
