package nostr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"htlcdash"
)

// Bounds of a relay that are not configured.
const (
	MaxSubscriptions = 16   // of one connection
	MaxAnswer        = 5000 // stored events for one REQ

	maxFaults    = 16  // malformed messages and bad signatures, until a connection ends
	sendQueue    = 256 // new events that wait for a slow reader, who is cut off then
	writeTimeout = 10 * time.Second
	pulse        = 45 * time.Second // between pings
	closeGrace   = time.Second      // for who is told that a relay stops
)

// What a RelayConfig's zero means.
const (
	defaultConns      = 1024
	defaultNetConns   = 32
	defaultEventRate  = 20
	defaultEventBurst = 2048
	defaultReqRate    = 10
	defaultReqBurst   = 100
	maxNetworks       = 4096
	localFactor       = 64 // for who is in this network
)

// A RelayConfig says what a relay carries. What is for a network is for an IPv4
// /24 or an IPv6 /48; this machine and its own network get 64 times as much.
type RelayConfig struct {
	// Accept says, by nil, that events of this kind and content are carried. It
	// sees sound events, and only of addressable kinds. What its error says goes
	// to the author. Required.
	Accept func(e Event, now time.Time) error
	// Accepted is told of each event that was new here, and from which place it
	// came. It must not block, and may be called at once. May be nil.
	Accepted func(e Event, place string)

	Store      StoreLimits
	Conns      int     // open connections; 0: 1024
	NetConns   int     // of one network; 0: 32
	EventRate  float64 // events a second of one network; 0: 20
	EventBurst int     // at once; 0: 2048

	Name        string // for people
	Description string
	Software    string // address of what this is
	Version     string
	Log         *slog.Logger // nil: none
}

// A Relay is a small Nostr relay (NIP-01, 11, 40) that keeps events in memory. It
// is an http.Handler for websockets and, with "Accept: application/nostr+json",
// for its description. It believes r.RemoteAddr. All methods may be called at once.
type Relay struct {
	c     RelayConfig
	store *store

	mu       sync.Mutex
	conns    map[*conn]bool
	networks map[string]*network
	closed   bool
	work     sync.WaitGroup // of connections
}

// A network is what its members share.
type network struct {
	conns, most  int
	events, reqs *rate.Limiter
}

// NewRelay makes a relay. Close ends it.
func NewRelay(c RelayConfig) *Relay {
	if c.Accept == nil {
		panic("nostr: a relay that accepts nothing")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Conns, c.NetConns = cmp.Or(c.Conns, defaultConns), cmp.Or(c.NetConns, defaultNetConns)
	c.EventRate, c.EventBurst = cmp.Or(c.EventRate, defaultEventRate), cmp.Or(c.EventBurst, defaultEventBurst)
	return &Relay{c: c, store: newStore(c.Store), conns: map[*conn]bool{}, networks: map[string]*network{}}
}

// Add carries a sound event that came from a place, empty: from here. It reports
// whether the event was new, and if not by an error what is wrong with it, or
// that another one is here already.
func (r *Relay) Add(e Event, place string) (fresh bool, err error) {
	now := time.Now()
	if !IsAddressable(e.Kind) {
		return false, fmt.Errorf("blocked: kind %d is not carried here", e.Kind)
	}
	if e.Expired(now) {
		return false, errors.New("invalid: it has expired")
	}
	if err := r.c.Accept(e, now); err != nil {
		return false, err
	}
	if err := r.store.put(e, place, now); err != nil {
		return false, err
	}
	r.broadcast(e)
	if r.c.Accepted != nil {
		r.c.Accepted(e, place)
	}
	return true, nil
}

// Query returns what is here and wanted, at most limit events: first those of
// authors that were vouched for, and of these the newest.
func (r *Relay) Query(limit int, filters ...Filter) []Event {
	return r.store.best(filters, limit, time.Now())
}

// Vouch says that an author is known to be at a place: its events are kept
// rather than others. Without vouched, it is known no more.
func (r *Relay) Vouch(author Key, place string, vouched bool) { r.store.vouch(author, place, vouched) }

// Len is how many events are here.
func (r *Relay) Len() int { return r.store.size() }

// Close ends all connections and waits for them.
func (r *Relay) Close() {
	late := time.AfterFunc(closeGrace, func() { r.each((*conn).cut) })
	defer late.Stop()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.each(func(c *conn) { c.end(websocket.StatusGoingAway, "this relay stops") })
	r.work.Wait()
}

func (r *Relay) each(do func(*conn)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		do(c)
	}
}

// broadcast hands a new event to who waits for it.
func (r *Relay) broadcast(e Event) { r.each(func(c *conn) { c.offer(e) }) }

func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch {
	case strings.EqualFold(req.Header.Get("Upgrade"), "websocket"):
		r.serveSocket(w, req)
	case strings.Contains(req.Header.Get("Accept"), "application/nostr+json"):
		w.Header().Set("Content-Type", "application/nostr+json")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		_, _ = w.Write(r.information())
	default:
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a Nostr relay: connect by websocket", http.StatusUpgradeRequired)
	}
}

// information is the document of NIP-11.
func (r *Relay) information() []byte {
	type limitation struct {
		MaxMessage int  `json:"max_message_length"`
		MaxSubs    int  `json:"max_subscriptions"`
		MaxLimit   int  `json:"max_limit"`
		Default    int  `json:"default_limit"`
		MaxSubID   int  `json:"max_subid_length"`
		MaxTags    int  `json:"max_event_tags"`
		MaxContent int  `json:"max_content_length"`
		Auth       bool `json:"auth_required"`
		Payment    bool `json:"payment_required"`
		Restricted bool `json:"restricted_writes"`
	}
	b, err := json.Marshal(struct {
		Name        string     `json:"name"`
		Description string     `json:"description"`
		Software    string     `json:"software"`
		Version     string     `json:"version"`
		NIPs        []int      `json:"supported_nips"`
		Limitation  limitation `json:"limitation"`
	}{
		r.c.Name, r.c.Description, r.c.Software, r.c.Version,
		[]int{1, 11, 40},
		limitation{
			MaxMessage: MaxMessage, MaxSubs: MaxSubscriptions, MaxLimit: MaxAnswer, Default: MaxAnswer,
			MaxSubID: MaxSubID, MaxTags: MaxTags, MaxContent: MaxEvent, Restricted: true,
		},
	})
	if err != nil {
		panic("nostr: " + err.Error())
	}
	return b
}

func (r *Relay) serveSocket(w http.ResponseWriter, req *http.Request) {
	place, local := placeOf(req.RemoteAddr)
	c := &conn{relay: r, place: place, subs: map[string][]Filter{}, out: make(chan []byte, sendQueue)}
	if !r.enter(c, local) {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many connections", http.StatusTooManyRequests)
		return
	}
	defer r.leave(c)
	// Pages of other origins may read what anybody may.
	ws, err := websocket.Accept(w, req, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(req.Context()))
	defer cancel()
	if !c.begin(ws) {
		return
	}
	ws.SetReadLimit(MaxMessage)
	var writing sync.WaitGroup
	writing.Go(func() { c.write(ctx) })
	c.read(ctx)
	cancel()
	_ = ws.CloseNow()
	writing.Wait()
}

// placeOf is the network of an address, and whether it is this machine's own,
// where each address is alone.
func placeOf(address string) (place string, local bool) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return address, false
	}
	a := ap.Addr().Unmap().WithZone("")
	bits := 48
	switch {
	case a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast():
		return a.String(), true
	case a.Is4():
		bits = 24
	}
	p, _ := a.Prefix(bits)
	return p.String(), false
}

// Allow counts a request for stored events that came by another way than a
// websocket, and reports whether its network has asked too often.
func (r *Relay) Allow(req *http.Request) bool {
	place, local := placeOf(req.RemoteAddr)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.networkAt(place, local).reqs.Allow()
}

// networkAt needs mu.
func (r *Relay) networkAt(place string, local bool) *network {
	n := r.networks[place]
	if n == nil {
		r.forgetNetworks()
		times := 1
		if local {
			times = localFactor
		}
		n = &network{
			most:   r.c.NetConns * times,
			events: rate.NewLimiter(rate.Limit(r.c.EventRate)*rate.Limit(times), r.c.EventBurst*times),
			reqs:   rate.NewLimiter(rate.Limit(defaultReqRate*times), defaultReqBurst*times),
		}
		r.networks[place] = n
	}
	return n
}

// enter counts a connection in, if there is room.
func (r *Relay) enter(c *conn, local bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.networkAt(c.place, local)
	if r.closed || len(r.conns) >= r.c.Conns || n.conns >= n.most {
		return false
	}
	n.conns++
	c.network = n
	r.conns[c] = true
	r.work.Add(1)
	return true
}

func (r *Relay) leave(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	c.network.conns--
	r.work.Done()
}

// forgetNetworks bounds the memory of limits. The caller holds mu.
func (r *Relay) forgetNetworks() {
	if len(r.networks) < maxNetworks {
		return
	}
	now := time.Now()
	for place, n := range r.networks {
		if n.conns == 0 && n.events.TokensAt(now) >= float64(n.events.Burst()) {
			delete(r.networks, place)
		}
	}
	for place, n := range r.networks { // who comes from so many resets them
		if len(r.networks) < maxNetworks {
			return
		}
		if n.conns == 0 {
			delete(r.networks, place)
		}
	}
}

// A conn is one connection to a relay.
type conn struct {
	relay   *Relay
	place   string
	network *network
	out     chan []byte // new events

	faults int // only read uses it

	mu     sync.Mutex
	ws     *websocket.Conn // nil before begin
	ended  bool
	subs   map[string][]Filter
	ending sync.Once
}

// begin reports whether the connection goes on.
func (c *conn) begin(ws *websocket.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		_ = ws.CloseNow()
		return false
	}
	c.ws = ws
	return true
}

// end ends the connection, without a wait.
func (c *conn) end(code websocket.StatusCode, why string) {
	c.ending.Do(func() {
		c.mu.Lock()
		c.ended = true
		ws := c.ws
		c.mu.Unlock()
		if ws != nil {
			c.relay.work.Go(func() { _ = ws.Close(code, why) })
		}
	})
}

// cut ends the connection without a word.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws != nil {
		_ = c.ws.CloseNow()
	}
}

// offer queues a new event for who subscribed to it. A reader that is too slow
// is cut off: it will ask again.
func (c *conn) offer(e Event) {
	c.mu.Lock()
	var to []string
	for name, filters := range c.subs {
		if matchesAny(filters, e) {
			to = append(to, name)
		}
	}
	c.mu.Unlock()
	for _, name := range to {
		select {
		case c.out <- write(labelEvent, name, e):
		default:
			c.end(websocket.StatusTryAgainLater, "too slow")
			return
		}
	}
}

// write sends new events, and asks now and then whether somebody is there.
func (c *conn) write(ctx context.Context) {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		var err error
		select {
		case b := <-c.out:
			err = c.send(ctx, b)
		case <-tick.C:
			ping, cancel := context.WithTimeout(ctx, writeTimeout)
			err = c.ws.Ping(ping)
			cancel()
		case <-ctx.Done():
			return
		}
		if err != nil {
			_ = c.ws.CloseNow()
			return
		}
	}
}

func (c *conn) send(ctx context.Context, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, b)
}

// read answers messages until the connection ends.
func (c *conn) read(ctx context.Context) {
	for c.faults < maxFaults {
		kind, b, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			c.faults++
			continue
		}
		if err := c.answer(ctx, b); err != nil {
			return
		}
	}
	c.end(websocket.StatusPolicyViolation, "too many faults")
}

// answer answers one message. It returns an error only if nobody is there.
func (c *conn) answer(ctx context.Context, b []byte) error {
	m, err := parseMessage(b)
	if err != nil {
		c.faults++
		return c.send(ctx, write(labelNotice, "invalid: "+plain(err)))
	}
	switch m.label {
	case labelEvent:
		return c.take(ctx, m.event)
	case labelReq:
		return c.subscribe(ctx, m)
	case labelClose:
		c.mu.Lock()
		delete(c.subs, m.sub)
		c.mu.Unlock()
		return nil
	}
	c.faults++
	return c.send(ctx, write(labelNotice, "invalid: this relay knows EVENT, REQ and CLOSE"))
}

// take answers an EVENT.
func (c *conn) take(ctx context.Context, b []byte) error {
	var claim struct {
		ID ID `json:"id"`
	}
	if err := json.Unmarshal(b, &claim); err != nil || claim.ID == (ID{}) {
		c.faults++
		return c.send(ctx, write(labelNotice, "invalid: an event without an id"))
	}
	ok := func(ok bool, why string) error { return c.send(ctx, write(labelOK, claim.ID, ok, why)) }
	if c.relay.store.has(claim.ID) { // before the work of a signature
		return ok(true, errKnown.Error())
	}
	if !c.network.events.Allow() {
		return ok(false, "rate-limited: too many events from your network")
	}
	e, err := ParseEvent(b)
	if err != nil {
		c.faults++
		return ok(false, "invalid: "+plain(err))
	}
	fresh, err := c.relay.Add(e, c.place)
	switch {
	case fresh:
		return ok(true, "")
	case errors.Is(err, errKnown) || errors.Is(err, ErrOlder):
		return ok(true, err.Error())
	}
	return ok(false, plain(err))
}

// plain is an error without the house's own words for its kind, and with one
// prefix of NIP-01.
func plain(err error) string {
	text := strings.TrimSuffix(err.Error(), ": "+htlcdash.ErrFormat.Error())
	return text[:min(len(text), 200)]
}

// subscribe answers a REQ.
func (c *conn) subscribe(ctx context.Context, m message) error {
	c.mu.Lock()
	_, again := c.subs[m.sub]
	full := !again && len(c.subs) >= MaxSubscriptions
	if !full {
		c.subs[m.sub] = m.filters // from now on nothing is missed; something may come twice
	}
	c.mu.Unlock()
	if full || !c.network.reqs.Allow() {
		c.mu.Lock()
		delete(c.subs, m.sub)
		c.mu.Unlock()
		return c.send(ctx, write(labelClosed, m.sub, "rate-limited: too many subscriptions"))
	}
	for _, e := range c.relay.store.query(m.filters, MaxAnswer, time.Now()) {
		if err := c.send(ctx, write(labelEvent, m.sub, e)); err != nil {
			return err
		}
	}
	return c.send(ctx, write(labelEOSE, m.sub))
}
