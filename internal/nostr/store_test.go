package nostr_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"htlcdash/internal/nostr"
)

var start = time.Unix(1_800_000_000, 0)

// event makes one that the store takes as sound; no signature is needed.
func event(author byte, d string, at int64) nostr.Event {
	var id nostr.ID
	for i := range id {
		id[i] = byte(rand.Int())
	}
	return nostr.Event{
		ID: id, PubKey: nostr.Key{author}, Kind: 30001, CreatedAt: start.Unix() + at,
		Tags: []nostr.Tag{{"d", d}, {"expiration", strconv.FormatInt(start.Unix()+3600, 10)}},
	}
}

func put(t *testing.T, s *nostr.Store, e nostr.Event, place string, want error) {
	t.Helper()
	if err := s.Put(e, place, start); !errors.Is(err, want) {
		t.Errorf("put: %v, want %v", err, want)
	}
	if !s.Sound() {
		t.Fatal("the store's indexes disagree, or its bounds are not kept")
	}
}

func TestNewestWins(t *testing.T) {
	s := nostr.NewStore(nostr.StoreLimits{})
	first, second := event(1, "a", 0), event(1, "a", 1)
	put(t, s, first, "x", nil)
	put(t, s, first, "y", nostr.ErrKnown)
	put(t, s, second, "x", nil)
	put(t, s, first, "x", nostr.ErrOlder)
	put(t, s, event(1, "b", 0), "x", nil)
	put(t, s, event(2, "a", 0), "x", nil)
	if got := s.Find(10, start, nostr.Filter{Tags: map[string][]string{"d": {"a"}}}); len(got) != 2 || got[0].ID != second.ID {
		t.Errorf("found %v", got)
	}
	if got := s.Find(10, start, nostr.Filter{Authors: []nostr.Key{{1}}}, nostr.Filter{IDs: []nostr.ID{second.ID}}); len(got) != 2 {
		t.Errorf("two filters found %d, each event counts once", len(got))
	}
	if got := s.Find(10, start, nostr.Filter{Limit: 1}); len(got) != 1 {
		t.Errorf("limit 1 gave %d", len(got))
	}
	if got := s.Find(10, start, nostr.Filter{Limit: -1}); len(got) != 0 {
		t.Errorf("no stored ones wanted, got %d", len(got))
	}
}

func TestExpiredEventsGo(t *testing.T) {
	s := nostr.NewStore(nostr.StoreLimits{})
	put(t, s, event(1, "a", 0), "x", nil)
	if got := s.Find(10, start.Add(time.Hour), nostr.Filter{}); len(got) != 0 || s.Len() != 0 {
		t.Errorf("after its end: found %d, kept %d", len(got), s.Len())
	}
}

// A flood from one place, by ever new keys, pushes out itself.
func TestFloodPushesOutItself(t *testing.T) {
	s := nostr.NewStore(nostr.StoreLimits{Events: 64, PerPlace: 64})
	honest := event(1, "film", 0)
	put(t, s, honest, "honest", nil)
	for i := range 1000 {
		e := event(byte(2+i%200), strconv.Itoa(i), 1)
		put(t, s, e, "flood", nil)
	}
	if got := s.Find(100, start, nostr.Filter{IDs: []nostr.ID{honest.ID}}); len(got) != 1 {
		t.Error("the flood pushed out an event from elsewhere")
	}
}

// Who comes from ever new places pushes out only those that nobody vouched for.
func TestVouchedStay(t *testing.T) {
	s := nostr.NewStore(nostr.StoreLimits{Events: 64})
	honest := event(1, "film", 0)
	put(t, s, honest, "p", nil)
	s.Vouch(honest.PubKey, "here", true)
	for i := range 1000 {
		put(t, s, event(byte(2+i%200), strconv.Itoa(i), 1), fmt.Sprint("place", i), nil)
	}
	best := s.Best(1, start, nostr.Filter{})
	if len(best) != 1 || best[0].ID != honest.ID {
		t.Error("the event of an author that was vouched for is not kept, or not first")
	}
	s.Vouch(honest.PubKey, "", false)
	for i := range 1000 {
		put(t, s, event(byte(2+i%200), strconv.Itoa(i), 2), fmt.Sprint("place", i), nil)
	}
	if got := s.Find(100, start, nostr.Filter{IDs: []nostr.ID{honest.ID}}); len(got) != 0 {
		t.Error("nobody vouches for it any more, and it is the oldest")
	}
}

// Many keys at one verified place do not push out other places, and newcomers
// have room beside them.
func TestOnePlaceIsBounded(t *testing.T) {
	s := nostr.NewStore(nostr.StoreLimits{Events: 64})
	for i := range 64 {
		s.Vouch(nostr.Key{byte(100 + i)}, "farm", true)
	}
	newcomer := event(1, "film", 0)
	put(t, s, newcomer, "new", nil)
	for i := range 640 {
		put(t, s, event(byte(100+i%64), strconv.Itoa(i), 1), "p", nil)
	}
	if got := s.Find(100, start, nostr.Filter{IDs: []nostr.ID{newcomer.ID}}); len(got) != 1 {
		t.Error("a farm of keys pushed out a newcomer")
	}
	if n := s.Len(); n > 1+64/8 {
		t.Errorf("one place holds %d events of 64", n-1)
	}
}

func TestRoomOfOneKey(t *testing.T) {
	s := nostr.NewStore(nostr.StoreLimits{PerKey: 10})
	for i := range 100 {
		put(t, s, event(1, strconv.Itoa(i), int64(i)), "x", nil)
	}
	got := s.Find(100, start, nostr.Filter{})
	if len(got) != 10 || got[9].CreatedAt != start.Unix()+90 {
		t.Errorf("%d events of one key, want the last 10", len(got))
	}
}

// What had to go does not come back, or two full relays would send it to and
// fro.
func TestEvictedStaysAway(t *testing.T) {
	s := nostr.NewStore(nostr.StoreLimits{PerKey: 1})
	old := event(1, "a", 0)
	put(t, s, old, "x", nil)
	put(t, s, event(1, "b", 1), "x", nil)
	put(t, s, old, "x", nostr.ErrKnown)
}

func TestBytesAreBounded(t *testing.T) {
	s := nostr.NewStore(nostr.StoreLimits{Bytes: 100_000})
	for i := range 1000 {
		e := event(byte(i), strconv.Itoa(i), 0)
		e.Content = string(make([]byte, 5000))
		put(t, s, e, "x", nil)
	}
	if s.Len() == 0 || s.Len() > 20 {
		t.Errorf("%d events of 5000 bytes in 100 kB", s.Len())
	}
}

func TestPlaces(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7:99": "192.0.2.0/24", "[2001:db8:1:2::3]:1": "2001:db8:1::/48", "127.0.0.1:5": "127.0.0.1", "[::ffff:192.0.2.7]:1": "192.0.2.0/24",
	} {
		got, local := nostr.PlaceOf(address)
		if got != want || local != (want == "127.0.0.1") {
			t.Errorf("%s: %s, %v", address, got, local)
		}
	}
}

func BenchmarkPutInAFullStore(b *testing.B) {
	s := nostr.NewStore(nostr.StoreLimits{})
	for i := range 20_000 {
		_ = s.Put(event(byte(i), strconv.Itoa(i), 0), fmt.Sprint(i%5000), start)
	}
	i := 0
	for b.Loop() {
		i++
		_ = s.Put(event(byte(i), strconv.Itoa(i), 1), fmt.Sprint(i%5000), start)
	}
}
