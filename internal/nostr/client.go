package nostr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"htlcdash"
)

// Bounds of a client.
const (
	dialTimeout = 10 * time.Second
	firstPause  = time.Second
	longPause   = 5 * time.Minute
	goodTime    = time.Minute // of a connection, after which pauses are short again
	clientPulse = 30 * time.Second

	// A relay that is not ours may hold events that are larger than ours can be.
	clientMessage = 1 << 20

	// What a relay may send of events: verifying them is work.
	takeRate  = 200 // a second
	takeBurst = 2 * MaxAnswer
)

// A ClientConfig says how a client behaves. The zero value is good.
type ClientConfig struct {
	HTTP  *http.Client  // connects; nil: a plain one. It must have no Timeout.
	Pause time.Duration // before the first new try to connect, which doubles up to 5 minutes; 0: 1 s
	Log   *slog.Logger  // nil: none
}

// A Client keeps one connection to a relay while Run runs. It believes nothing:
// what is not signed, or not what was asked for, counts as a fault, and a relay
// with many is left for a while. All methods may be called at once.
type Client struct {
	url string
	c   ClientConfig

	mu      sync.Mutex
	ws      *websocket.Conn // nil: not connected
	changed chan struct{}   // closed when ws changes, and replaced
	subs    map[string]*subscription
	next    int
	waiting map[ID][]chan verdict // who waits for an OK
	err     error                 // why there is no connection
	failed  int                   // tries to connect in a row
}

// A subscription is renewed with each connection.
type subscription struct {
	filters []Filter
	event   func(Event)
	stored  func() // told when all stored events were sent
	closed  chan error
}

// A verdict is what became of an event.
type verdict struct {
	ok  bool
	why string
	err error
}

// ParseURL checks the address of a relay: a ws or wss URL without user and
// fragment. The error matches [htlcdash.ErrFormat].
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || len(s) > 512 || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("relay %.80q: want a URL such as wss://relay.example: %w", s, htlcdash.ErrFormat)
	}
	return u, nil
}

// NewClient returns a client of the relay at a ws or wss URL. It connects when
// Run runs.
func NewClient(address string, c ClientConfig) (*Client, error) {
	if _, err := ParseURL(address); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Pause = cmp.Or(c.Pause, firstPause)
	return &Client{
		url: address, c: c, changed: make(chan struct{}),
		subs: map[string]*subscription{}, waiting: map[ID][]chan verdict{},
	}, nil
}

// URL is the relay's address.
func (c *Client) URL() string { return c.url }

// Failed is how many times in a row no connection came about.
func (c *Client) Failed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// Connected reports whether there is a connection.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ws != nil
}

// Run keeps the connection until ctx is done. It is called once.
func (c *Client) Run(ctx context.Context) {
	pause := c.c.Pause
	for ctx.Err() == nil {
		began := time.Now()
		err := c.connect(ctx)
		if time.Since(began) > goodTime {
			pause = c.c.Pause
		}
		c.c.Log.Debug("relay", "url", c.url, "err", err, "again_in", pause)
		select {
		case <-time.After(pause/2 + rand.N(pause)): // not all at once
		case <-ctx.Done():
		}
		pause = min(2*pause, longPause)
	}
}

// connect keeps one connection until it breaks.
func (c *Client) connect(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ws, _, err := websocket.Dial(dial, c.url, &websocket.DialOptions{HTTPClient: c.c.HTTP})
	if err != nil {
		c.mu.Lock()
		c.failed++
		c.mu.Unlock()
		return c.lost(fmt.Errorf("relay %s does not answer: %w", c.url, err))
	}
	ws.SetReadLimit(clientMessage)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var pinging sync.WaitGroup
	pinging.Go(func() { c.ping(ctx, ws) })
	defer pinging.Wait()
	defer stop()
	if err := c.open(ctx, ws); err != nil {
		_ = ws.CloseNow()
		return c.lost(err)
	}
	err = c.read(ctx, ws)
	_ = ws.CloseNow()
	return c.lost(err)
}

// open renews all subscriptions on a new connection.
func (c *Client) open(ctx context.Context, ws *websocket.Conn) error {
	c.mu.Lock()
	c.ws, c.err, c.failed = ws, nil, 0
	close(c.changed)
	c.changed = make(chan struct{})
	var requests [][]byte
	for name, s := range c.subs {
		requests = append(requests, request(name, s.filters))
	}
	c.mu.Unlock()
	for _, b := range requests {
		if err := send(ctx, ws, b); err != nil {
			return err
		}
	}
	return nil
}

// lost notes that there is no connection, and tells who waits for an answer.
func (c *Client) lost(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ws, c.err = nil, err
	for _, all := range c.waiting {
		for _, w := range all {
			w <- verdict{err: fmt.Errorf("%w: %w", ErrClosed, err)}
		}
	}
	clear(c.waiting)
	close(c.changed)
	c.changed = make(chan struct{})
	return err
}

// ping ends the connection when nobody is there.
func (c *Client) ping(ctx context.Context, ws *websocket.Conn) {
	tick := time.NewTicker(clientPulse)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		ping, cancel := context.WithTimeout(ctx, dialTimeout)
		err := ws.Ping(ping)
		cancel()
		if err != nil {
			_ = ws.CloseNow()
			return
		}
	}
}

func send(ctx context.Context, ws *websocket.Conn, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return ws.Write(ctx, websocket.MessageText, b)
}

func request(name string, filters []Filter) []byte {
	parts := []any{labelReq, name}
	for _, f := range filters {
		parts = append(parts, f)
	}
	return write(parts...)
}

// read takes what the relay sends until the connection breaks or most of it is
// wrong. A few faults prove nothing: implementations differ on what is an event,
// and who can publish at a relay could make us leave it.
func (c *Client) read(ctx context.Context, ws *websocket.Conn) error {
	pace := rate.NewLimiter(takeRate, takeBurst)
	sound, faults := 0, 0
	for faults < maxFaults || faults < sound {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		m, err := parseMessage(b)
		if err == nil && m.label == labelEvent {
			if err := pace.Wait(ctx); err != nil {
				return err
			}
		}
		if err == nil && c.take(m) {
			sound++
		} else {
			faults++
		}
	}
	return fmt.Errorf("relay %s sends what is wrong: %w", c.url, htlcdash.ErrFormat)
}

// take handles a message and reports whether it is sound.
func (c *Client) take(m message) bool {
	c.mu.Lock()
	s := c.subs[m.sub]
	c.mu.Unlock()
	switch m.label {
	case labelEvent:
		if s == nil {
			return true // closed meanwhile
		}
		e, err := ParseEvent(m.event)
		if err != nil || !matchesAny(s.filters, e) {
			return false
		}
		s.event(e)
	case labelEOSE:
		if s != nil {
			s.stored()
		}
	case labelClosed:
		if s != nil {
			select {
			case s.closed <- fmt.Errorf("%w: %.200q", ErrRefused, m.text):
			default:
			}
		}
	case labelOK:
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, w := range c.waiting[m.id] {
			w <- verdict{ok: m.ok, why: m.text}
		}
		delete(c.waiting, m.id)
	case labelNotice:
		c.c.Log.Debug("relay says", "url", c.url, "notice", m.text)
	}
	return true
}

// connected waits for a connection.
func (c *Client) connected(ctx context.Context) (*websocket.Conn, error) {
	for {
		c.mu.Lock()
		ws, changed, err := c.ws, c.changed, c.err
		c.mu.Unlock()
		if ws != nil {
			return ws, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), err)
		}
	}
}

// A Refusal is why a relay does not take an event. It matches [ErrRefused].
type Refusal struct{ Why string }

func (r *Refusal) Error() string { return fmt.Sprintf("%v: %q", ErrRefused, r.Why) }

// Unwrap gives [ErrRefused].
func (r *Refusal) Unwrap() error { return ErrRefused }

// Later reports whether it may be tried again, since only the pace was wrong.
func (r *Refusal) Later() bool { return strings.HasPrefix(r.Why, "rate-limited:") }

// Publish sends an event and waits for the relay's word. The error is a
// [Refusal], or matches [ErrClosed] if the connection broke before: then nobody
// knows whether the relay has it. It waits for a connection until ctx is done.
func (c *Client) Publish(ctx context.Context, e Event) error {
	ws, err := c.connected(ctx)
	if err != nil {
		return err
	}
	answer := make(chan verdict, 1)
	c.mu.Lock()
	if c.ws != ws {
		c.mu.Unlock()
		return ErrClosed
	}
	c.waiting[e.ID] = append(c.waiting[e.ID], answer)
	c.mu.Unlock()
	if err := send(ctx, ws, write(labelEvent, e)); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	select {
	case v := <-answer:
		switch {
		case v.err != nil:
			return v.err
		case !v.ok:
			return &Refusal{v.why}
		}
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiting[e.ID] = slices.DeleteFunc(c.waiting[e.ID], func(w chan verdict) bool { return w == answer })
		if len(c.waiting[e.ID]) == 0 {
			delete(c.waiting, e.ID)
		}
		return context.Cause(ctx)
	}
}

// Subscribe calls event for each event that a filter wants, stored ones first,
// and stored when all of these were sent, until ctx is done or the relay does
// not want to go on, by an error that matches [ErrRefused]. After a connection
// was lost all begins anew, so events may come again. Events are sound; the
// functions are called one at a time, and the relay waits for them.
func (c *Client) Subscribe(ctx context.Context, event func(Event), stored func(), filters ...Filter) error {
	s := &subscription{filters: filters, event: event, stored: stored, closed: make(chan error, 1)}
	c.mu.Lock()
	c.next++
	name := "s" + strconv.Itoa(c.next)
	c.subs[name] = s
	ws := c.ws
	c.mu.Unlock()
	defer c.unsubscribe(ctx, name)
	if ws != nil {
		if send(context.WithoutCancel(ctx), ws, request(name, filters)) != nil {
			_ = ws.CloseNow() // the next connection will ask
		}
	}
	select {
	case err := <-s.closed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Client) unsubscribe(ctx context.Context, name string) {
	c.mu.Lock()
	delete(c.subs, name)
	ws := c.ws
	c.mu.Unlock()
	if ws != nil {
		_ = send(context.WithoutCancel(ctx), ws, write(labelClose, name))
	}
}

// Query asks the relay at a ws or wss URL once for stored events, at most limit,
// and gives those that came until it said that there are no more, or until ctx
// was done: then with an error.
func Query(ctx context.Context, address string, c ClientConfig, limit int, filters ...Filter) (out []Event, err error) {
	client, err := NewClient(address, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		cancel(client.connect(ctx))
	})
	err = client.Subscribe(ctx, func(e Event) {
		if out = append(out, e); len(out) >= limit {
			cancel(errDone)
		}
	}, func() { cancel(errDone) }, filters...)
	cancel(err)
	running.Wait()
	if errors.Is(err, errDone) {
		err = nil
	}
	return out[:min(len(out), limit)], err
}

var errDone = errors.New("all was sent")
