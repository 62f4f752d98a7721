package directory_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/nostr"
)

// Five providers, each of which was told of one other, know what all sell.
func TestFederation(t *testing.T) {
	var all []*provider
	for n := range 5 {
		var peers []string
		if n > 0 {
			peers = []string{all[n-1].url}
		}
		all = append(all, openProvider(t, n+1, nil, peers...))
	}
	for i, p := range all {
		p.sell(t, film, htlcdash.TitleID{byte(50 + i)})
	}
	for i, from := range all {
		for j, to := range all {
			until(t, fmt.Sprintf("what %d sells is known at %d", i, j), func() bool {
				return to.tells(t, htlcdash.TitleID{byte(50 + i)}, from.id()) && to.tells(t, film, from.id())
			})
		}
	}
	// Who joins later hears all, and all hear of it.
	late := openProvider(t, 9, nil, all[4].url)
	late.sell(t, htlcdash.TitleID{99})
	until(t, "what came before is known to who joins", func() bool { return late.host.Len() == 11 && all[0].host.Len() == 11 })
	// Peers are learnt: with the one it was told of gone, it still hears.
	until(t, "peers are learnt", func() bool { return len(late.host.Peers()) > 2 })
	all[4].stop()
	all[0].sell(t, film, htlcdash.TitleID{100})
	until(t, "what is new is known without the first peer", func() bool { return late.tells(t, htlcdash.TitleID{100}, all[0].id()) })
	until(t, "who stopped has withdrawn", func() bool { return !late.tells(t, film, all[4].id()) })
}

// heard counts what a relay sends to who subscribed.
func heard(t *testing.T, p *provider) func() map[nostr.ID]int {
	t.Helper()
	c := client(t, p.socket())
	var mu sync.Mutex
	got := map[nostr.ID]int{}
	ready := make(chan bool, 10)
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		_ = c.Subscribe(ctx, func(e nostr.Event) {
			mu.Lock()
			defer mu.Unlock()
			got[e.ID]++
		}, func() { ready <- true }, nostr.Filter{})
	})
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	<-ready
	return func() map[nostr.ID]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(got)
	}
}

// Three relays in a ring: each event is new once at each.
func TestLoop(t *testing.T) {
	// The ring is closed by a provider that is told of the last before it opens.
	address := freeAddress(t)
	a := openProvider(t, 1, nil, "http://"+address)
	b := openProvider(t, 2, nil, a.url)
	c := openProvider(t, 3, nil, b.url)
	l := listenAt(t, address, c)
	defer l()
	counts := []func() map[nostr.ID]int{heard(t, a), heard(t, b), heard(t, c)}
	author := client(t, a.socket())
	last := nostr.Event{}
	for n := range 50 {
		last = announce(t, 10+n, at(offer(film, "bunny"), time.Now(), time.Hour, "http://127.0.0.1:1"))
		if err := author.Publish(patience(t), last); err != nil {
			t.Fatal(err)
		}
	}
	// Something sent through the ring after all that is a mark that they are through.
	for i, count := range counts {
		until(t, fmt.Sprintf("all is at %d", i), func() bool { return len(count()) == 50 })
	}
	mark := announce(t, 99, at(offer(htlcdash.TitleID{77}, "mark"), time.Now(), time.Hour, "http://127.0.0.1:1"))
	if err := client(t, c.socket()).Publish(patience(t), mark); err != nil {
		t.Fatal(err)
	}
	for i, count := range counts {
		until(t, "the mark is through", func() bool { return count()[mark.ID] > 0 })
		for id, n := range count() {
			if n != 1 {
				t.Errorf("at %d: event %s came %d times", i, id, n)
			}
		}
	}
}

// listenAt lets a provider answer at another address, too.
func listenAt(t *testing.T, address string, p *provider) (stop func()) {
	t.Helper()
	s := &http.Server{Addr: address, Handler: p.host}
	done := make(chan error, 1)
	go func() { done <- s.ListenAndServe() }()
	return func() {
		_ = s.Close()
		<-done
	}
}

// What is announced is announced again before it ends, and withdrawn when the
// provider stops or sells it no more.
func TestRenewalAndWithdrawal(t *testing.T) {
	relay := openProvider(t, 2, nil)
	p := openProvider(t, 1, func(c *directory.HostConfig) { c.Life = 4 * time.Second }, relay.url)
	other := htlcdash.TitleID{44}
	p.sell(t, film, other)
	until(t, "both are known", func() bool { return relay.tells(t, film, p.id()) && relay.tells(t, other, p.id()) })
	found, err := viewer(t, relay.url).Find(t.Context(), film)
	if err != nil {
		t.Fatal(err)
	}
	first := found[0]
	until(t, "it is announced again", func() bool {
		d := viewer(t, relay.url)
		defer d.Close()
		found, _ := d.Find(t.Context(), film)
		return len(found) == 1 && found[0].At.After(first.At) && found[0].Expires.After(first.Expires)
	})
	p.sell(t, film)
	until(t, "what is sold no more is withdrawn", func() bool { return !relay.tells(t, other, p.id()) && relay.tells(t, film, p.id()) })
	p.stop()
	until(t, "who stops withdraws", func() bool { return !relay.tells(t, film, p.id()) })
}

// A provider that dies without a word is forgotten when its word ends.
func TestExpiredAnnouncementsGo(t *testing.T) {
	relay := openProvider(t, 2, nil)
	e := announce(t, 1, at(offer(film, "bunny"), time.Now(), 2*time.Second, relay.url))
	if err := client(t, relay.socket()).Publish(patience(t), e); err != nil {
		t.Fatal(err)
	}
	if list, err := viewer(t, relay.url).List(t.Context(), nil); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	d := viewer(t, relay.url)
	until(t, "it is gone", func() bool {
		list, _ := d.List(t.Context(), nil)
		return len(list) == 0
	})
}

// A restart is not lost on those who heard of the stop.
func TestStartAgain(t *testing.T) {
	relay := openProvider(t, 2, nil)
	for range 3 {
		p := openProvider(t, 1, nil, relay.url)
		p.sell(t, film)
		until(t, "it is known", func() bool { return relay.tells(t, film, p.id()) })
		p.stop()
	}
}

// Nostr relays get only what is ours.
func TestForeignRelaysGetOnlyOurs(t *testing.T) {
	accept := func(nostr.Event, time.Time) error { return nil }
	public := nostr.NewRelay(nostr.RelayConfig{Accept: accept})
	defer public.Close()
	address := freeAddress(t)
	s := &http.Server{Addr: address, Handler: public}
	done := make(chan error, 1)
	go func() { done <- s.ListenAndServe() }()
	defer func() {
		_ = s.Close()
		<-done
	}()
	other := openProvider(t, 2, nil)
	other.sell(t, film)
	p := openProvider(t, 1, nil, "ws://"+address, other.url)
	until(t, "others' is here", func() bool { return p.tells(t, film, other.id()) })
	p.sell(t, film)
	until(t, "ours is there", func() bool { return public.Len() == 1 })
	// What others put there comes to us.
	third := openProvider(t, 3, nil, "ws://"+address)
	third.sell(t, film)
	until(t, "by the public relay", func() bool { return p.tells(t, film, third.id()) })
	for _, e := range public.Query(10) {
		if e.PubKey == nostr.Key(other.id()) {
			t.Error("another's announcement was sent to a public relay")
		}
	}
}

func TestAnnouncementsOverHTTP(t *testing.T) {
	p := openProvider(t, 1, nil)
	p.sell(t, film, htlcdash.TitleID{8})
	for query, want := range map[string]struct{ code, events int }{
		"":                        {200, 2},
		"?title=" + film.String(): {200, 1},
		"?publisher=05" + strings.Repeat("0", 62): {200, 2},
		"?title=" + htlcdash.TitleID{3}.String():  {200, 0},
		"?title=x":                                {400, 0},
		"?publisher=x":                            {400, 0},
	} {
		resp, err := http.Get(p.url + "/v1/announcements" + query)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		events, _ := directory.ParseAnswer(b)
		if err != nil || resp.StatusCode != want.code || len(events) != want.events {
			t.Errorf("%q: %d with %d events, %v", query, resp.StatusCode, len(events), err)
		}
	}
}

// Without an address of its own a provider only carries what others say.
func TestWithoutAnAddress(t *testing.T) {
	p := openProvider(t, 1, func(c *directory.HostConfig) { c.Addresses = nil })
	p.sell(t, film)
	if p.host.Len() != 0 {
		t.Error("it announces an address that it does not know")
	}
}
