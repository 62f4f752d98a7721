package directory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/nostr"
)

var made = time.Unix(1_800_000_000, 0)

func TestAnnouncementIsReadAsItWasWritten(t *testing.T) {
	for name, a := range map[string]directory.Announcement{
		"sold":      at(offer(film, "bunny"), made, time.Hour, "https://a.example", "http://b.example:8402/films"),
		"withdrawn": at(directory.Announcement{Title: film}, made, time.Hour),
	} {
		got, err := directory.Read(announce(t, 1, a))
		a.Provider = keyOf(t, 1).ID()
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, a)
		}
		if got.Withdrawn() != (name == "withdrawn") {
			t.Errorf("%s: withdrawn %v", name, got.Withdrawn())
		}
	}
}

func TestReadRefuses(t *testing.T) {
	good := announce(t, 1, at(offer(film, "bunny"), made, time.Hour, "https://a.example"))
	with := func(change func(tags []nostr.Tag) []nostr.Tag) nostr.Event {
		e := good
		e.Tags = change(append([]nostr.Tag(nil), good.Tags...))
		return e
	}
	set := func(name string, values ...string) nostr.Event {
		return with(func(tags []nostr.Tag) []nostr.Tag {
			for i := range tags {
				if tags[i][0] == name {
					tags[i] = append(nostr.Tag{name}, values...)
					return tags
				}
			}
			return append(tags, append(nostr.Tag{name}, values...))
		})
	}
	addressed := func(s string) nostr.Event { return set("r", s) }
	other := good
	other.Kind = 30402
	for name, e := range map[string]nostr.Event{
		"another kind":     other,
		"no title":         set("d", ""),
		"upper case":       set("d", strings.ToUpper(film.String())),
		"no end":           set("expiration"),
		"no number as end": set("expiration", "soon"),
		"ends before":      set("expiration", "1"),
		"lives too long":   set("expiration", fmt.Sprint(made.Add(directory.MaxLife).Unix()+1)),
		"no publisher":     set("p", "x"),
		"no price":         set("price"),
		"no number":        set("price", "1", "x"),
		"a negative price": set("price", "-1", "0"),
		"a huge price":     set("price", "1", "9223372036854775807"),
		"no name":          set("name", ""),
		"a path":           set("name", "../x"),
		"a parent":         set("name", ".."),
		"a long name":      set("name", strings.Repeat("x", 256)),
		"a long label":     set("title", strings.Repeat("x", 256)),
		"an infohash":      set("x", strings.Repeat("G", 40)),
		"a short infohash": set("x", "ab"),
		"no port":          set("seed", "a.example"),
		"a zero port":      set("seed", "a.example:0"),
		"no host":          set("seed", ":6881"),
		"a seed as URL":    set("seed", "http://a.example:6881"),
		"too many seeds": with(func(tags []nostr.Tag) []nostr.Tag {
			return append(tags, slices.Repeat([]nostr.Tag{{"seed", "a.example:6881"}}, directory.MaxSeeds+1)...)
		}),
		"a password":        addressed("http://u:p@a.example"),
		"a query":           addressed("http://a.example?x"),
		"another scheme":    addressed("file:///etc/passwd"),
		"a slash":           addressed("http://a.example/"),
		"a long address":    addressed("http://" + strings.Repeat("a", 600)),
		"too many places":   with(func(tags []nostr.Tag) []nostr.Tag { return append(tags, many("r", directory.MaxAddresses)...) }),
		"too many sources":  with(func(tags []nostr.Tag) []nostr.Tag { return append(tags, many("source", directory.MaxSources)...) }),
		"a bad source":      set("source", "gopher://x"),
		"a source too long": set("source", "https://x/"+strings.Repeat("y", 600)),
	} {
		if a, err := directory.Read(e); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func many(name string, n int) (out []nostr.Tag) {
	for i := range n {
		out = append(out, nostr.Tag{name, fmt.Sprintf("https://x.example/%d", i)})
	}
	return out
}

func FuzzRead(f *testing.F) {
	k, err := htlcdash.NewProviderKey([32]byte{31: 1})
	if err != nil {
		f.Fatal(err)
	}
	a := at(offer(film, "bunny"), made, time.Hour, "https://a.example")
	e, err := a.Sign(k)
	if err != nil {
		f.Fatal(err)
	}
	tags, err := json.Marshal(e.Tags)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tags, e.CreatedAt)
	f.Add([]byte(`[["d","`+film.String()+`"],["expiration","1800003600"]]`), made.Unix())
	f.Fuzz(func(t *testing.T, tags []byte, at int64) {
		e := nostr.Event{Kind: directory.Kind, CreatedAt: at, PubKey: nostr.Key(k.ID())}
		if json.Unmarshal(tags, &e.Tags) != nil {
			return
		}
		for _, t := range e.Tags {
			if len(t) == 0 {
				return // such an event is not sound
			}
		}
		a, err := directory.Read(e)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Error(err)
			}
			return
		}
		again, err := a.Sign(k)
		if err != nil {
			return // characters that no event may have, or a time before 1970
		}
		if got, err := directory.Read(again); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%+v is read as %+v, %v", a, got, err)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"announcements":[{"tags":[]}]}`))
	f.Add([]byte(`{"announcements":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := directory.ParseAnswer(b); err != nil && !errors.Is(err, htlcdash.ErrFormat) {
			t.Error(err)
		}
	})
}

func TestFind(t *testing.T) {
	p := openProvider(t, 1, nil)
	p.sell(t, film)
	for name, relay := range map[string]string{"provider": p.url + "/", "relay": p.socket(), "relay at the root": "ws" + p.url[len("http"):]} {
		found, err := viewer(t, relay).Find(t.Context(), film)
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", name, found, err)
		}
		s := found[0]
		if s.Provider != p.id() || s.Address != p.url || s.Name != "bunny" || s.Label != "A film" || s.Factor != directory.PPM || s.PerMiB != 3 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	d := viewer(t, p.url)
	if found, err := d.Find(t.Context(), htlcdash.TitleID{9}); !errors.Is(err, htlcdash.ErrNotFound) || len(found) != 0 {
		t.Errorf("a title that nobody sells: %v, %v", found, err)
	}
	list, err := d.List(t.Context(), nil)
	if err != nil || len(list) != 1 || list[0].Title != film {
		t.Errorf("list: %v, %v", list, err)
	}
	if list, err := d.List(t.Context(), &htlcdash.PublisherID{5}); err != nil || len(list) != 1 {
		t.Errorf("list of the publisher: %v, %v", list, err)
	}
	if list, err := d.List(t.Context(), &htlcdash.PublisherID{6}); err != nil || len(list) != 0 {
		t.Errorf("list of another publisher: %v, %v", list, err)
	}
}

// What is announced with another's address harms nobody: the viewer asks there
// once, however many say so, and believes the key that it finds.
func TestAddressOfAnother(t *testing.T) {
	victim, relay := openProvider(t, 1, nil), openProvider(t, 2, nil)
	victim.sell(t, film)
	c := client(t, relay.socket())
	for n := 10; n < 40; n++ {
		e := announce(t, n, at(offer(film, "bunny"), time.Now(), time.Hour, victim.url))
		if err := c.Publish(patience(t), e); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the relay has looked", func() bool { return victim.asked.Load() > 0 })
	before := victim.asked.Load()
	if found, err := viewer(t, relay.url).Find(t.Context(), film); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("found %v, %v", found, err)
	}
	if n := victim.asked.Load() - before; n > 2 { // the relay may still ask
		t.Errorf("the victim was asked %d times", n)
	}
	found, err := viewer(t, relay.url, victim.url).Find(t.Context(), film)
	if err != nil || len(found) != 1 || found[0].Provider != victim.id() {
		t.Errorf("beside liars: %v, %v", found, err)
	}
}

// No announcement sends viewers or relays into local networks, unless they are
// there already.
func TestLocalAddressesOfStrangers(t *testing.T) {
	p := openProvider(t, 1, nil)
	p.sell(t, film)
	e := announce(t, 3, at(offer(film, "bunny"), time.Now(), time.Hour, p.url))
	strict := openProvider(t, 2, func(c *directory.HostConfig) { c.Local = false })
	err := client(t, strict.socket()).Publish(patience(t), e)
	if !errors.Is(err, nostr.ErrRefused) || !strings.Contains(err.Error(), "local network") {
		t.Errorf("a relay takes it: %v", err)
	}
	d, err := directory.New(directory.Config{KeyAt: keyAt, More: func(context.Context, htlcdash.TitleID) ([]string, error) { return []string{p.url}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	d.AddRelays(p.url)
	before := p.asked.Load()
	if found, err := d.Find(t.Context(), film); !errors.Is(err, htlcdash.ErrNotFound) || p.asked.Load() != before {
		t.Errorf("a viewer goes there: %v, %v", found, err)
	}
}

// A thousand keys that are nobody do not hide the one who is there: the relay
// asks who is where, in turns by where it heard of them.
func TestSybils(t *testing.T) {
	honest, relay := openProvider(t, 1, nil), openProvider(t, 2, nil)
	now := time.Now()
	elsewhere := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c := clientBy(t, relay.socket(), &http.Client{Transport: &http.Transport{DialContext: elsewhere.DialContext}})
	flood := func(from, to int) {
		for n := from; n < to; n++ {
			// Ever new names, none of which is there.
			e := announce(t, n, at(offer(film, "bunny"), now.Add(time.Minute), time.Hour, fmt.Sprintf("http://127.0.0.1:1/%d", n)))
			if err := c.Publish(patience(t), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	flood(100, 700)
	if err := client(t, relay.socket()).Publish(patience(t), announce(t, 1, at(offer(film, "bunny"), now, time.Hour, honest.url))); err != nil {
		t.Fatal(err)
	}
	flood(700, 1100)
	until(t, "the honest provider is found", func() bool { return relay.tells(t, film, honest.id()) })
}

func TestRelayTakesOnlySoundAnnouncements(t *testing.T) {
	p := openProvider(t, 1, nil)
	c, now := client(t, p.socket()), time.Now()
	good := at(offer(film, "bunny"), now, time.Hour, "http://127.0.0.1:1")
	old := announce(t, 5, at(good, now.Add(-2*time.Hour), time.Hour, good.Addresses...))
	huge := announce(t, 5, good)
	huge.Tags = append(huge.Tags, nostr.Tag{"x", strings.Repeat("a", 1<<15)})
	note, err := nostr.Sign(nostr.Event{Kind: 1, CreatedAt: now.Unix(), Content: "hello"}, keyOf(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]nostr.Event{
		"expired":       old,
		"of the future": announce(t, 5, at(good, now.Add(directory.MaxAhead+time.Minute), time.Hour, good.Addresses...)),
		"huge":          huge,
		"a note":        note,
	} {
		if err := c.Publish(patience(t), e); !errors.Is(err, nostr.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.host.Len(); n != 0 {
		t.Errorf("it keeps %d", n)
	}
	// A replay of what was replaced changes nothing.
	first, second := announce(t, 5, good), announce(t, 5, at(directory.Announcement{Title: film}, now.Add(time.Second), time.Hour))
	for _, e := range []nostr.Event{first, second, first} {
		if err := c.Publish(patience(t), e); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ := viewer(t, p.url).List(t.Context(), nil); len(list) != 0 {
		t.Errorf("a withdrawn title is listed: %v", list)
	}
}

// deaf accepts connections and never answers.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return l.Addr().String()
}

// Relays that hang or lie do not keep a viewer from what others tell.
func TestRelaysThatHangOrLie(t *testing.T) {
	p := openProvider(t, 1, nil)
	p.sell(t, film)
	other := announce(t, 8, at(offer(htlcdash.TitleID{99}, "bunny"), time.Now(), time.Hour, p.url))
	forged := announce(t, 1, at(offer(film, "bunny"), time.Now().Add(time.Minute), time.Hour, "http://127.0.0.1:1"))
	forged.Tags = append(forged.Tags, nostr.Tag{"r", "http://127.0.0.1:2"})
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"announcements": []any{other, forged, 7, nil}})
	}))
	t.Cleanup(liar.Close)
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(endless.Close)
	d := viewer(t, "http://"+deaf(t), "ws://"+deaf(t), liar.URL, endless.URL, "http://127.0.0.1:1", p.url)
	found, err := d.Find(t.Context(), film)
	if err != nil || len(found) != 1 || found[0].Provider != p.id() || found[0].Address != p.url {
		t.Errorf("%v, %v", found, err)
	}
}

// A relay that keeps back what is newer does not bring back what was withdrawn,
// as long as another one tells.
func TestNewestOfAllRelaysCounts(t *testing.T) {
	p := openProvider(t, 1, nil)
	stale, fresh := openProvider(t, 2, nil), openProvider(t, 3, nil)
	now := time.Now()
	ctx := patience(t)
	if err := client(t, stale.socket()).Publish(ctx, announce(t, 1, at(offer(film, "bunny"), now, time.Hour, p.url))); err != nil {
		t.Fatal(err)
	}
	if err := client(t, fresh.socket()).Publish(ctx, announce(t, 1, at(directory.Announcement{Title: film}, now.Add(2*time.Second), time.Hour))); err != nil {
		t.Fatal(err)
	}
	if found, err := viewer(t, stale.url).Find(ctx, film); err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	if found, err := viewer(t, stale.url, fresh.url).Find(ctx, film); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("%v, %v", found, err)
	}
}

func TestMoreIsAskedLast(t *testing.T) {
	p := openProvider(t, 1, nil)
	p.sell(t, film)
	asked := 0
	d, err := directory.New(directory.Config{
		Relays: []string{"http://127.0.0.1:1"}, KeyAt: keyAt, Local: true,
		More: func(_ context.Context, id htlcdash.TitleID) ([]string, error) {
			asked++
			return []string{"http://127.0.0.1:2", "rubbish", p.url}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		found, err := d.Find(t.Context(), film)
		if err != nil || len(found) != 1 || found[0].Address != p.url {
			t.Errorf("%v, %v", found, err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, what was found is kept", asked)
	}
	if r := d.Relays(); len(r) != 2 || r[1] != p.url {
		t.Errorf("sellers are asked as relays, too: %v", r)
	}
}

// One relay tells what a provider has taken back by its word at another. Who
// watches is not led there, although the provider answers.
func TestWatchKnowsWhoWithdrew(t *testing.T) {
	late, other, gone, fresh := openProvider(t, 1, nil), openProvider(t, 2, nil), openProvider(t, 3, nil), openProvider(t, 4, nil)
	now := time.Now().Truncate(time.Second)
	old := announce(t, 3, at(offer(film, "bunny"), now.Add(-time.Minute), time.Hour, gone.url))
	back := announce(t, 3, at(directory.Announcement{Title: film}, now, time.Hour))
	ctx, cancel := context.WithCancel(patience(t))
	teller := client(t, late.socket())
	if err := errors.Join(teller.Publish(ctx, old), client(t, other.socket()).Publish(ctx, back)); err != nil {
		t.Fatal(err)
	}
	told := make(chan directory.Seller, 10)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { viewer(t, late.url, other.url).Watch(ctx, film, func(s directory.Seller) { told <- s }) })
	// Heard after the old one, from the same relay.
	if err := teller.Publish(ctx, announce(t, 4, at(offer(film, "bunny"), now, time.Hour, fresh.url))); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-told:
		if s.Provider != fresh.id() {
			t.Errorf("led to %v, want %v", s.Provider, fresh.id())
		}
	case <-ctx.Done():
		t.Fatal("nobody came")
	}
	// Who sells again is found again.
	again := announce(t, 3, at(offer(film, "bunny"), now.Add(time.Second), time.Hour, gone.url))
	if err := teller.Publish(ctx, again); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-told:
		if s.Provider != gone.id() || !s.At.After(now) {
			t.Errorf("got %+v", s)
		}
	case <-ctx.Done():
		t.Fatal("it does not come back")
	}
}

func TestWatch(t *testing.T) {
	first, second := openProvider(t, 1, nil), openProvider(t, 2, nil)
	first.sell(t, film)
	told := make(chan directory.Seller, 10)
	ctx, cancel := context.WithCancel(patience(t))
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { viewer(t, first.url).Watch(ctx, film, func(s directory.Seller) { told <- s }) })
	next := func() directory.Seller {
		select {
		case s := <-told:
			return s
		case <-ctx.Done():
			t.Fatal("nobody came")
			panic("unreachable")
		}
	}
	if s := next(); s.Provider != first.id() {
		t.Errorf("got %+v", s)
	}
	c := client(t, first.socket())
	if err := c.Publish(ctx, announce(t, 2, at(offer(film, "bunny"), time.Now(), time.Hour, second.url))); err != nil {
		t.Fatal(err)
	}
	if s := next(); s.Provider != second.id() || s.Address != second.url {
		t.Errorf("got %+v", s)
	}
	// The same again is no news; another price is.
	again := at(offer(film, "bunny"), time.Now().Add(2*time.Second), time.Hour, second.url)
	if err := c.Publish(ctx, announce(t, 2, again)); err != nil {
		t.Fatal(err)
	}
	again.At, again.Factor = again.At.Add(time.Second), directory.PPM/2
	if err := c.Publish(ctx, announce(t, 2, again)); err != nil {
		t.Fatal(err)
	}
	if s := next(); s.Factor != directory.PPM/2 {
		t.Errorf("got %+v", s)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, r := range []string{"gopher://x", "http://", "ws://", "x"} {
		if _, err := directory.New(directory.Config{KeyAt: keyAt, Relays: []string{r}}); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%q: %v", r, err)
		}
		if _, err := directory.NewHost(directory.HostConfig{Key: keyOf(t, 1), KeyAt: keyAt, Peers: []string{r}}); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%q as a peer: %v", r, err)
		}
	}
	if _, err := directory.New(directory.Config{}); err == nil {
		t.Error("without KeyAt")
	}
}
