package nostr_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"htlcdash/internal/nostr"
)

const kind = 30001

// open starts a relay that takes events of one kind.
func open(t *testing.T, c nostr.RelayConfig) (*nostr.Relay, string) {
	t.Helper()
	if c.Accept == nil {
		c.Accept = func(e nostr.Event, _ time.Time) error {
			if e.Kind != kind {
				return fmt.Errorf("blocked: kind %d", e.Kind)
			}
			return nil
		}
	}
	r := nostr.NewRelay(c)
	s := httptest.NewServer(r)
	t.Cleanup(func() {
		r.Close()
		s.Close()
	})
	return r, "ws" + strings.TrimPrefix(s.URL, "http")
}

// patience is for what should come at once, on any machine.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run starts a client, which ends before the test does.
func run(t *testing.T, url string) *nostr.Client {
	t.Helper()
	c, err := nostr.NewClient(url, nostr.ClientConfig{Pause: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	return c
}

func noted(t *testing.T, author byte, d string, at int64, tags ...nostr.Tag) nostr.Event {
	t.Helper()
	return sign(t, key(t, author), nostr.Event{CreatedAt: at, Kind: kind, Tags: append([]nostr.Tag{{"d", d}}, tags...)})
}

// listen subscribes, and gives what comes and when the stored ones were sent.
func listen(t *testing.T, c *nostr.Client, f ...nostr.Filter) (events chan nostr.Event, stored chan bool) {
	t.Helper()
	events, stored = make(chan nostr.Event, 1000), make(chan bool, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		_ = c.Subscribe(ctx, func(e nostr.Event) { events <- e }, func() { stored <- true }, f...)
	})
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	return events, stored
}

func next[T any](t *testing.T, ctx context.Context, c chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-ctx.Done():
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func TestPublishAndSubscribe(t *testing.T) {
	_, url := open(t, nostr.RelayConfig{})
	ctx := patience(t)
	author, reader := run(t, url), run(t, url)
	old := noted(t, 1, "a", 100)
	if err := author.Publish(ctx, old); err != nil {
		t.Fatal(err)
	}
	if err := author.Publish(ctx, old); err != nil {
		t.Errorf("the same again: %v", err)
	}
	events, stored := listen(t, reader, nostr.Filter{Kinds: []int{kind}, Tags: map[string][]string{"d": {"a"}}})
	if e := next(t, ctx, events); e.ID != old.ID {
		t.Errorf("got %s", e.ID)
	}
	next(t, ctx, stored)
	if err := author.Publish(ctx, noted(t, 1, "b", 101)); err != nil {
		t.Fatal(err)
	}
	fresh := noted(t, 1, "a", 102)
	if err := author.Publish(ctx, fresh); err != nil {
		t.Fatal(err)
	}
	if e := next(t, ctx, events); e.ID != fresh.ID {
		t.Errorf("got %v, which was not asked for", e)
	}
	got, err := nostr.Query(ctx, url, nostr.ClientConfig{}, 10, nostr.Filter{Authors: []nostr.Key{old.PubKey}})
	if err != nil || len(got) != 2 || got[0].ID != fresh.ID {
		t.Errorf("query: %v, %v", got, err)
	}
}

func TestRelayRefuses(t *testing.T) {
	r, url := open(t, nostr.RelayConfig{})
	c, ctx := run(t, url), patience(t)
	forged := noted(t, 1, "a", 100)
	forged.Content = "other"
	for name, c2 := range map[string]struct {
		e   nostr.Event
		why string
	}{
		"forged":        {forged, "invalid:"},
		"expired":       {noted(t, 1, "a", 100, nostr.Tag{"expiration", "200"}), "invalid:"},
		"another kind":  {sign(t, key(t, 1), nostr.Event{CreatedAt: 1, Kind: 30002}), "blocked:"},
		"a common note": {sign(t, key(t, 1), nostr.Event{CreatedAt: 1, Kind: 1}), "blocked:"},
	} {
		err := c.Publish(ctx, c2.e)
		refusal, ok := errors.AsType[*nostr.Refusal](err)
		if !ok || !errors.Is(err, nostr.ErrRefused) || !strings.HasPrefix(refusal.Why, c2.why) || refusal.Later() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.Len() != 0 {
		t.Errorf("it keeps %d", r.Len())
	}
}

func TestRelayLimitsPace(t *testing.T) {
	// Who is in this network gets 64 times as much.
	_, url := open(t, nostr.RelayConfig{EventRate: 1e-9, EventBurst: 1})
	c, ctx := run(t, url), patience(t)
	for i := range 64 {
		if err := c.Publish(ctx, noted(t, 1, strconv.Itoa(i), 100)); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	err := c.Publish(ctx, noted(t, 1, "more", 100))
	if refusal, ok := errors.AsType[*nostr.Refusal](err); !ok || !refusal.Later() {
		t.Errorf("beyond the limit: %v", err)
	}
	if err := c.Publish(ctx, noted(t, 1, "1", 100)); err != nil {
		t.Errorf("what it has already costs nothing: %v", err)
	}
}

func TestRelayBoundsSubscriptions(t *testing.T) {
	_, url := open(t, nostr.RelayConfig{})
	c, ctx := run(t, url), patience(t)
	for range nostr.MaxSubscriptions {
		_, stored := listen(t, c, nostr.Filter{})
		next(t, ctx, stored)
	}
	if err := c.Subscribe(ctx, func(nostr.Event) {}, func() {}, nostr.Filter{}); !errors.Is(err, nostr.ErrRefused) {
		t.Errorf("one more: %v", err)
	}
}

// raw connects without our client.
func raw(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

func TestRelayEndsConnectionsThatSendRubbish(t *testing.T) {
	_, url := open(t, nostr.RelayConfig{})
	ctx := patience(t)
	for name, message := range map[string]string{
		"no JSON": "hello", "an unknown label": `["AUTH","x"]`, "no id": `["EVENT",{}]`, "a bad filter": `["REQ","s",{"ids":"x"}]`,
		"no filter": `["REQ","s"]`, "a long name": `["CLOSE","` + strings.Repeat("x", 65) + `"]`,
	} {
		ws := raw(t, url)
		go func() {
			for ws.Write(ctx, websocket.MessageText, []byte(message)) == nil {
			}
		}()
		for {
			_, b, err := ws.Read(ctx)
			if err != nil {
				break
			}
			if !strings.HasPrefix(string(b), `["NOTICE","invalid:`) {
				t.Errorf("%s: answered %s", name, b)
			}
		}
		if ctx.Err() != nil {
			t.Errorf("%s: for ever", name)
		}
	}
	ws := raw(t, url)
	_ = ws.Write(ctx, websocket.MessageText, make([]byte, nostr.MaxMessage+1))
	if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("a message above the bound: %v", err)
	}
}

// Who does not read is cut off, and holds up nobody.
func TestRelayCutsOffSlowReaders(t *testing.T) {
	r, url := open(t, nostr.RelayConfig{})
	ctx := patience(t)
	ws := raw(t, url)
	if err := ws.Write(ctx, websocket.MessageText, []byte(`["REQ","s",{}]`)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := ws.Read(ctx); err != nil || string(b) != `["EOSE","s"]` {
		t.Fatalf("%s, %v", b, err)
	}
	for i := range 1200 { // more than socket and queue hold
		if _, err := r.Add(noted(t, 1, strconv.Itoa(i%2), int64(i), nostr.Tag{"x", strings.Repeat("y", 15000)}), "p"); err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	ctx = patience(t) // signing took its time
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			break
		}
		got++
	}
	if ctx.Err() != nil || got >= 1200 {
		t.Errorf("the slow reader got %d of 1200", got)
	}
}

func TestInformation(t *testing.T) {
	_, url := open(t, nostr.RelayConfig{Name: "cinema"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+strings.TrimPrefix(url, "ws"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(accept string) *http.Response {
		req.Header.Set("Accept", accept)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	var doc struct {
		Name string `json:"name"`
		NIPs []int  `json:"supported_nips"`
	}
	resp := ask("application/nostr+json")
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil || doc.Name != "cinema" || len(doc.NIPs) != 3 {
		t.Errorf("%+v, %v", doc, err)
	}
	if resp := ask("text/html"); resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a browser gets %s", resp.Status)
	}
}

// A connection that breaks is made again, and all that was asked is asked again.
func TestClientComesBack(t *testing.T) {
	r := nostr.NewRelay(nostr.RelayConfig{Accept: func(nostr.Event, time.Time) error { return nil }})
	defer r.Close()
	var conns atomic.Int32
	cut := make(chan context.CancelFunc, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if conns.Add(1) == 2 {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		r.ServeHTTP(&hijacked{w, cut}, req)
	}))
	defer s.Close()
	c, ctx := run(t, "ws"+strings.TrimPrefix(s.URL, "http")), patience(t)
	first, second := noted(t, 1, "a", 1), noted(t, 1, "b", 2)
	events, stored := listen(t, c, nostr.Filter{})
	next(t, ctx, stored)
	if err := c.Publish(ctx, first); err != nil {
		t.Fatal(err)
	}
	next(t, ctx, events)
	next(t, ctx, cut)()
	next(t, ctx, stored)
	if e := next(t, ctx, events); e.ID != first.ID {
		t.Errorf("got %v", e)
	}
	if err := c.Publish(ctx, second); err != nil {
		t.Errorf("after the connection came back: %v", err)
	}
	if e := next(t, ctx, events); e.ID != second.ID {
		t.Errorf("got %v", e)
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// lies serves what a relay must not send.
func lies(t *testing.T, messages ...string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ws, err := websocket.Accept(w, req, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for {
			_, b, err := ws.Read(req.Context())
			if err != nil {
				return
			}
			if !strings.HasPrefix(string(b), `["REQ"`) {
				continue
			}
			for _, m := range messages {
				if ws.Write(req.Context(), websocket.MessageText, []byte(m)) != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http")
}

func TestClientBelievesNothing(t *testing.T) {
	good, other := noted(t, 1, "a", 1), noted(t, 2, "b", 2)
	forged := good
	forged.Content = "x"
	say := func(e nostr.Event) string {
		b, err := json.Marshal([]any{"EVENT", "s1", e})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	url := lies(t, "rubbish", say(forged), say(other), `["EVENT","s7",{}]`, `["EVENT","s1",7]`, `["OK",1]`, say(good), `["EOSE","s1"]`)
	got, err := nostr.Query(patience(t), url, nostr.ClientConfig{}, 100, nostr.Filter{Tags: map[string][]string{"d": {"a"}}})
	if err != nil || len(got) != 1 || got[0].ID != good.ID {
		t.Errorf("got %v, %v", got, err)
	}
	// Nothing but lies: it is left.
	many := make([]string, 100)
	for i := range many {
		many[i] = say(forged)
	}
	if got, err := nostr.Query(patience(t), lies(t, many...), nostr.ClientConfig{}, 100, nostr.Filter{}); err == nil || len(got) != 0 {
		t.Errorf("from a liar: %v, %v", got, err)
	}
	// The same again and again is bounded.
	for i := range many {
		many[i] = say(good)
	}
	if got, _ := nostr.Query(patience(t), lies(t, many...), nostr.ClientConfig{}, 10, nostr.Filter{}); len(got) != 10 {
		t.Errorf("%d events, bound 10", len(got))
	}
}

// A relay that never ends its answer costs the time that the caller gives it, and
// what came counts.
func TestQueryOfARelayThatHangs(t *testing.T) {
	good := noted(t, 1, "a", 1)
	b, err := json.Marshal([]any{"EVENT", "s1", good})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(patience(t))
	stop := errors.New("enough")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ws, err := websocket.Accept(w, req, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		_ = ws.Write(req.Context(), websocket.MessageText, b)
		_, _, _ = ws.Read(req.Context())
		_ = ws.Write(req.Context(), websocket.MessageText, b)
		_ = ws.Ping(ws.CloseRead(req.Context())) // answered by who has read all before it
		cancel(stop)
		<-req.Context().Done()
	}))
	defer s.Close()
	got, err := nostr.Query(ctx, "ws"+strings.TrimPrefix(s.URL, "http"), nostr.ClientConfig{}, 100, nostr.Filter{})
	if !errors.Is(err, stop) || len(got) == 0 {
		t.Errorf("%v, %v", got, err)
	}
}

// Publish without an answer ends with its caller's time, or with the
// connection.
func TestPublishWithoutAnAnswer(t *testing.T) {
	c := run(t, lies(t))
	ctx, cancel := context.WithTimeout(patience(t), 200*time.Millisecond)
	defer cancel()
	if err := c.Publish(ctx, noted(t, 1, "a", 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	nobody, err := nostr.NewClient("ws://127.0.0.1:1", nostr.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := nobody.Publish(ctx, noted(t, 1, "a", 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a connection: %v", err)
	}
}

func TestParseURL(t *testing.T) {
	for _, s := range []string{"", "http://a.example", "ws://", "ws://u:p@a.example", "ws://a.example/#x", "wss://" + strings.Repeat("a", 600)} {
		if _, err := nostr.NewClient(s, nostr.ClientConfig{}); err == nil {
			t.Errorf("%.40q is taken", s)
		}
	}
}

// hijacked gives a way to cut the connection.
type hijacked struct {
	http.ResponseWriter
	cut chan context.CancelFunc
}

// Hijack implements http.Hijacker.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		h.cut <- func() { _ = c.Close() }
	}
	return c, rw, err
}
