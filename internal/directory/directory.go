package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/nostr"
	"htlcdash/internal/reach"
)

// Bounds of a viewer's search.
const (
	MaxRelays  = 64   // that a directory knows
	MaxSellers = 64   // of one title
	MaxListed  = 4096 // announcements of List

	findTime    = 6 * time.Second        // of one search
	findGrace   = 700 * time.Millisecond // after the first seller, for others
	findKept    = time.Minute            // what was found
	maxKept     = 256                    // titles of which that is kept
	relaysAsked = 16                     // at once
	perRelay    = 32                     // announcements of one relay that are looked into
	probesAsked = 16                     // addresses at once
	watchPause  = time.Minute            // between searches while one watches
	maxGone     = 4096                   // providers of which is remembered that they withdrew
)

// A Seller is a provider of a title whose address was asked for its key, and
// has the one that signed the announcement.
type Seller struct {
	Announcement
	Address string // of Addresses, the first that answered
}

// A Config says how a viewer looks for providers.
type Config struct {
	// Relays are asked: addresses of providers (http, https), each of which
	// carries the announcements of others, and of Nostr relays (ws, wss).
	Relays []string
	// KeyAt asks the provider at an address for its key (GET /v1/provider).
	// Required. It must be bounded in what it reads, and may be called at once.
	KeyAt func(ctx context.Context, address string) (htlcdash.ProviderID, error)
	// More gives addresses of further providers to ask, when the relays know of
	// none that answers, such as from a distributed hash table. May be nil.
	More func(ctx context.Context, title htlcdash.TitleID) ([]string, error)
	// Local also believes addresses in local networks, this machine among them.
	// For who has relays there.
	Local bool
	Log   *slog.Logger // nil: none
}

// A Directory finds providers. All methods may be called at once.
type Directory struct {
	config Config
	prober *prober
	http   *http.Client // for answers
	socket *http.Client // for websockets

	mu     sync.Mutex
	relays []string
	known  map[htlcdash.TitleID]finding
}

type finding struct {
	sellers []Seller
	ends    time.Time
}

// New makes a directory. It fails if a relay's address is malformed.
func New(c Config) (*Directory, error) {
	if c.KeyAt == nil {
		return nil, errors.New("directory: KeyAt is required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{
		config: c, prober: newProber(c.KeyAt, c.Local), known: map[htlcdash.TitleID]finding{},
		http: reach.Client(c.Local, findTime), socket: reach.Client(c.Local, 0),
	}
	for _, r := range c.Relays {
		if _, err := parseRelay(r); err != nil {
			return nil, err
		}
	}
	d.AddRelays(c.Relays...)
	return d, nil
}

// Close lets go of connections that are kept. The directory can still be used.
func (d *Directory) Close() {
	d.http.CloseIdleConnections()
	d.socket.CloseIdleConnections()
}

// parseRelay reads the address of a provider or of a Nostr relay.
func parseRelay(s string) (*url.URL, error) {
	if strings.HasPrefix(s, "ws") {
		return nostr.ParseURL(s)
	}
	return ParseAddress(strings.TrimRight(s, "/"))
}

// socketOf is where a relay answers by websocket.
func socketOf(relay string) string {
	if rest, ok := strings.CutPrefix(relay, "http"); ok {
		return "ws" + rest + "/v1/relay"
	}
	return relay
}

// AddRelays adds relays to ask, such as the providers that an MPD names. What is
// malformed or known is left out, and so is what goes beyond 64.
func (d *Directory) AddRelays(addresses ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range addresses {
		u, err := parseRelay(a)
		a = strings.TrimRight(a, "/")
		if err != nil || len(d.relays) >= MaxRelays || slices.Contains(d.relays, a) || !d.config.Local && reach.IsLocal(u.Hostname()) {
			continue
		}
		d.relays = append(d.relays, a)
	}
}

// Relays are those that are known, in the order in which they were added.
func (d *Directory) Relays() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.relays)
}

// Find asks the relays, 16 at once, who sells a title, and each provider that
// they name for its key. It returns within a few seconds, with at most 64
// sellers, one for each key, who answered first first; and with an error that
// matches [htlcdash.ErrNotFound] if there are none. What it found is kept for a
// minute.
func (d *Directory) Find(ctx context.Context, title htlcdash.TitleID) ([]Seller, error) {
	return d.find(ctx, title, func(Announcement) {})
}

// find is Find, and calls gone with the withdrawals that were come upon.
func (d *Directory) find(ctx context.Context, title htlcdash.TitleID, gone func(Announcement)) ([]Seller, error) {
	if found := d.recall(title); found != nil {
		return found, nil
	}
	relays := d.Relays()
	found := d.search(ctx, title, relays[:min(len(relays), relaysAsked)], gone)
	if len(found) == 0 && len(relays) > relaysAsked {
		found = d.search(ctx, title, relays[relaysAsked:], gone)
	}
	var failed error
	if len(found) == 0 && d.config.More != nil && ctx.Err() == nil {
		var more []string
		more, failed = d.config.More(ctx, title)
		found = d.search(ctx, title, d.sound(more), gone)
	}
	if err := ctx.Err(); err != nil && len(found) == 0 {
		return nil, err
	}
	if len(found) == 0 {
		err := fmt.Errorf("title %s: of %d relays none knows a provider that answers: %w", title, len(relays), htlcdash.ErrNotFound)
		return nil, errors.Join(err, failed)
	}
	d.keep(title, found)
	return found, nil
}

// sound leaves out what is no address of a provider.
func (d *Directory) sound(addresses []string) (out []string) {
	for _, a := range addresses {
		if u, err := ParseAddress(a); err == nil && len(out) < relaysAsked && (d.config.Local || !reach.IsLocal(u.Hostname())) {
			out = append(out, a)
		}
	}
	return out
}

func (d *Directory) recall(title htlcdash.TitleID) []Seller {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.known[title]; ok && time.Now().Before(f.ends) {
		return slices.Clone(f.sellers)
	}
	return nil
}

// keep remembers what was found, and asks sellers as relays, too.
func (d *Directory) keep(title htlcdash.TitleID, sellers []Seller) {
	d.mu.Lock()
	if len(d.known) >= maxKept {
		clear(d.known)
	}
	d.known[title] = finding{slices.Clone(sellers), time.Now().Add(findKept)}
	d.mu.Unlock()
	for _, s := range sellers {
		d.AddRelays(s.Address)
	}
}

// sound reports whether a may be believed at a time at all.
func (a Announcement) sound(now time.Time) error {
	switch {
	case a.At.After(now.Add(MaxAhead)):
		return fmt.Errorf("announcement made %v ahead of time: %w", a.At.Sub(now).Round(time.Second), htlcdash.ErrFormat)
	case !now.Before(a.Expires):
		return fmt.Errorf("announcement has expired: %w", htlcdash.ErrFormat)
	}
	return nil
}

// ask returns what a relay knows, the best first. What came before an error
// counts.
func (d *Directory) ask(ctx context.Context, relay string, f nostr.Filter, limit int) ([]Announcement, error) {
	var events []nostr.Event
	var err error
	if strings.HasPrefix(relay, "http") {
		events, err = d.fetch(ctx, relay, f)
	} else {
		events, err = nostr.Query(ctx, relay, nostr.ClientConfig{HTTP: d.socket}, limit, f)
	}
	var out []Announcement
	now := time.Now()
	for _, e := range events[:min(len(events), limit)] {
		a, err := Read(e)
		if err == nil && f.Matches(e) && a.sound(now) == nil {
			out = append(out, a)
		}
	}
	return out, err
}

// answer is that of GET /v1/announcements.
type answer struct {
	Announcements []json.RawMessage `json:"announcements"`
}

// maxAnswer bounds it, in bytes.
const maxAnswer = 4 << 20

// fetch asks a provider by plain HTTP.
func (d *Directory) fetch(ctx context.Context, relay string, f nostr.Filter) ([]nostr.Event, error) {
	q := url.Values{}
	if t := f.Tags["d"]; t != nil {
		q.Set("title", t[0])
	}
	if p := f.Tags["p"]; p != nil {
		q.Set("publisher", p[0])
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, relay+"/v1/announcements?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %q", relay, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	return parseAnswer(b)
}

// parseAnswer reads the sound events of an answer.
func parseAnswer(b []byte) (out []nostr.Event, err error) {
	var a answer
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("announcements: more than %d bytes: %w", maxAnswer, htlcdash.ErrFormat)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("announcements: %w: %w", err, htlcdash.ErrFormat)
	}
	for _, raw := range a.Announcements[:min(len(a.Announcements), maxList)] {
		if e, err := nostr.ParseEvent(raw); err == nil {
			out = append(out, e)
		}
	}
	return out, nil
}

func forTitle(title htlcdash.TitleID) nostr.Filter {
	return nostr.Filter{Kinds: []int{Kind}, Tags: map[string][]string{"d": {title.String()}}}
}

// A search is one round of questions.
type search struct {
	d     *Directory
	slots chan struct{} // for probes
	work  sync.WaitGroup

	mu     sync.Mutex
	latest map[htlcdash.ProviderID]Announcement
	asked  map[string]bool // keys with addresses that are looked into
	at     map[htlcdash.ProviderID]string
	order  []htlcdash.ProviderID
	first  chan struct{} // closed with the first seller
}

func (d *Directory) search(ctx context.Context, title htlcdash.TitleID, relays []string, gone func(Announcement)) []Seller {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	s := &search{
		d: d, slots: make(chan struct{}, probesAsked), first: make(chan struct{}),
		latest: map[htlcdash.ProviderID]Announcement{}, asked: map[string]bool{}, at: map[htlcdash.ProviderID]string{},
	}
	for _, r := range relays {
		s.work.Go(func() { s.relay(ctx, r, title) })
	}
	all := make(chan struct{})
	go func() {
		s.work.Wait()
		close(all)
	}()
	select {
	case <-s.first:
		select {
		case <-all:
		case <-time.After(findGrace):
		}
	case <-all:
	}
	cancel()
	<-all
	for _, a := range s.latest {
		if a.Withdrawn() {
			gone(a)
		}
	}
	return s.sellers()
}

// relay asks one relay. Each gets an equal share of what is looked into, so that
// none can drown the others.
func (s *search) relay(ctx context.Context, relay string, title htlcdash.TitleID) {
	list, err := s.d.ask(ctx, relay, forTitle(title), maxPerTitle)
	if err != nil && ctx.Err() == nil {
		s.d.config.Log.Debug("relay", "relay", relay, "err", err)
	}
	for i, a := range list {
		if s.note(a); i < perRelay && !a.Withdrawn() {
			s.work.Go(func() { s.probe(ctx, a) })
		}
	}
}

func (s *search) note(a Announcement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.latest[a.Provider]; !ok || a.At.After(old.At) {
		s.latest[a.Provider] = a
	}
}

func (s *search) probe(ctx context.Context, a Announcement) {
	what := a.Provider.String() + " " + strings.Join(a.Addresses, " ")
	s.mu.Lock()
	again := s.asked[what]
	s.asked[what] = true
	s.mu.Unlock()
	if again {
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return
	}
	address, _, err := s.d.prober.at(ctx, a)
	if err != nil {
		s.d.config.Log.Debug("announcement left out", "provider", a.Provider, "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.at[a.Provider]; again {
		return
	}
	s.at[a.Provider] = address
	if s.order = append(s.order, a.Provider); len(s.order) == 1 {
		close(s.first)
	}
}

// sellers are who was found, by the newest that they said.
func (s *search) sellers() (out []Seller) {
	for _, p := range s.order[:min(len(s.order), MaxSellers)] {
		if a := s.latest[p]; slices.Contains(a.Addresses, s.at[p]) {
			out = append(out, Seller{a, s.at[p]})
		}
	}
	return out
}

// List returns what the relays say is on sale, of all titles or of those of one
// publisher, at most 4096 announcements. The addresses are not asked: each is a
// claim.
func (d *Directory) List(ctx context.Context, publisher *htlcdash.PublisherID) ([]Announcement, error) {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	f := nostr.Filter{Kinds: []int{Kind}}
	if publisher != nil {
		f.Tags = map[string][]string{"p": {publisher.String()}}
	}
	relays := d.Relays()
	relays = relays[:min(len(relays), relaysAsked)]
	lists, errs := make([][]Announcement, len(relays)), make([]error, len(relays))
	var work sync.WaitGroup
	for i, r := range relays {
		work.Go(func() { lists[i], errs[i] = d.ask(ctx, r, f, maxList) })
	}
	work.Wait()
	type place struct {
		p htlcdash.ProviderID
		t htlcdash.TitleID
	}
	latest := map[place]Announcement{}
	var order []place
	for _, a := range slices.Concat(lists...) {
		at := place{a.Provider, a.Title}
		old, known := latest[at]
		if !known && len(order) < MaxListed {
			order = append(order, at)
		}
		if !known || a.At.After(old.At) {
			latest[at] = a
		}
	}
	var out []Announcement
	for _, at := range order {
		if a := latest[at]; !a.Withdrawn() {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// Watch calls found for each seller of a title, one at a time: those that Find
// gives, and new ones as they are announced, until ctx is done. It calls again
// with one whose announcement changed.
func (d *Directory) Watch(ctx context.Context, title htlcdash.TitleID, found func(Seller)) {
	w := &watch{
		d: d, title: title, found: found, slots: make(chan struct{}, probesAsked), watched: map[string]bool{},
		told: map[htlcdash.ProviderID]Seller{}, gone: map[htlcdash.ProviderID]time.Time{},
	}
	defer w.work.Wait()
	for {
		sellers, _ := d.find(ctx, title, w.leave) // no one yet: again, later
		for _, s := range sellers {
			w.tell(s)
		}
		w.listen(ctx)
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return
		}
	}
}

type watch struct {
	d     *Directory
	title htlcdash.TitleID
	found func(Seller)
	slots chan struct{}
	work  sync.WaitGroup

	watched map[string]bool // relays; only Watch uses it

	mu     sync.Mutex
	told   map[htlcdash.ProviderID]Seller
	gone   map[htlcdash.ProviderID]time.Time // when they withdrew the title
	stored []chan struct{}                   // of the relays: closed when one has said what it had
	begun  time.Time                         // when the last of them was asked
}

// leave notes that a provider has withdrawn.
func (w *watch) leave(a Announcement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, known := w.gone[a.Provider]
	if a.At.After(at) && (known || len(w.gone) < maxGone) {
		w.gone[a.Provider] = a.At
	}
}

// settle waits until all relays have said what they had, the slow ones not for
// long: one may tell what another knows to be withdrawn.
func (w *watch) settle(ctx context.Context) {
	w.mu.Lock()
	stored, late := slices.Clone(w.stored), time.After(time.Until(w.begun.Add(findGrace)))
	w.mu.Unlock()
	for _, s := range stored {
		select {
		case <-s:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (w *watch) tell(s Seller) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, gone := w.gone[s.Provider]; gone && !s.At.After(at) {
		return
	}
	old, known := w.told[s.Provider]
	if known && (!s.At.After(old.At) || sameTerms(old, s)) || !known && len(w.told) >= MaxSellers {
		return
	}
	w.told[s.Provider] = s
	w.found(s)
}

// sameTerms reports whether nothing but times changed.
func sameTerms(a, b Seller) bool {
	return a.Address == b.Address && a.Name == b.Name && a.Factor == b.Factor && a.PerMiB == b.PerMiB &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Sources, b.Sources) && slices.Equal(a.Infohashes, b.Infohashes) &&
		slices.Equal(a.Seeds, b.Seeds)
}

// listen subscribes at relays that are not watched yet.
func (w *watch) listen(ctx context.Context) {
	for _, r := range w.d.Relays() {
		if w.watched[r] || len(w.watched) >= relaysAsked {
			continue
		}
		w.watched[r] = true
		client, err := nostr.NewClient(socketOf(r), nostr.ClientConfig{HTTP: w.d.socket, Log: w.d.config.Log})
		if err != nil {
			continue
		}
		done := make(chan struct{})
		w.mu.Lock()
		w.stored, w.begun = append(w.stored, done), time.Now()
		w.mu.Unlock()
		stored := sync.OnceFunc(func() { close(done) })
		w.work.Go(func() { client.Run(ctx) })
		w.work.Go(func() {
			for ctx.Err() == nil {
				_ = client.Subscribe(ctx, func(e nostr.Event) { w.hear(ctx, e) }, stored, forTitle(w.title))
				select {
				case <-time.After(watchPause): // it did not want to
				case <-ctx.Done():
				}
			}
		})
	}
}

// hear looks into an announcement, unless too many are being looked into: Find
// will come upon it.
func (w *watch) hear(ctx context.Context, e nostr.Event) {
	a, err := Read(e)
	if err != nil || a.sound(time.Now()) != nil {
		return
	}
	if a.Withdrawn() {
		w.leave(a)
		return
	}
	select {
	case w.slots <- struct{}{}:
	default:
		return
	}
	w.work.Go(func() {
		defer func() { <-w.slots }()
		if address, _, err := w.d.prober.at(ctx, a); err == nil {
			w.settle(ctx)
			w.tell(Seller{a, address})
		}
	})
}
