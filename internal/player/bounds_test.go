package player_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/dash"
	"htlcdash/internal/player"
)

// A stuck sink takes nothing until it is let go.
type stuck struct {
	letGo  chan struct{}
	busy   atomic.Bool
	given  atomic.Int64
	closed atomic.Int64
	early  atomic.Bool // it was closed while it had a segment
}

func (s *stuck) Segment(int, *dash.Representation, int, []byte, []byte) error {
	s.busy.Store(true)
	defer s.busy.Store(false)
	s.given.Add(1)
	<-s.letGo
	return nil
}

func (s *stuck) Close() error {
	s.early.Store(s.early.Load() || s.busy.Load())
	s.closed.Add(1)
	return nil
}

// Nobody reads at the other end of a pipe: Play ends in spite of that, and the sink
// is closed only by who hands it segments, when it is free.
func TestSinkIsClosedByWhoHandsItSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		menu := film(20, 1)
		s := newShop(menu, link(t, replay.Stretch{Duration: time.Minute, Rate: 20e6}), agent.NoLimit, 0)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(7*time.Second, cancel)
		sink := &stuck{letGo: make(chan struct{})}
		began := time.Now()
		if _, err := player.Play(ctx, player.Config{Menu: menu, Stock: s, Policy: agent3{}, Sink: sink}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
		if n := sink.closed.Load(); n > 0 {
			t.Errorf("it was closed %d times while it had a segment", n)
		}
		close(sink.letGo)
		synctest.Wait()
		if sink.closed.Load() != 1 || sink.early.Load() || sink.given.Load() != 1 {
			t.Errorf("closed %d times, early: %v; it got %d segments", sink.closed.Load(), sink.early.Load(), sink.given.Load())
		}
	})
}

// fat makes every segment of a menu that large and short: a lie of the publisher.
func fat(menu player.Menu, size int64, length time.Duration) player.Menu {
	title := &agent.Title{Name: "fat"}
	for _, track := range menu.Tracks {
		t := agent.Track{Kind: track.Kind}
		for _, s := range track.Segments {
			s.Duration, s.Rungs = length, slices.Clone(s.Rungs)
			for r := range s.Rungs {
				s.Rungs[r].Size = size
			}
			t.Segments = append(t.Segments, s)
		}
		title.Tracks = append(title.Tracks, t)
	}
	return menuOf(title)
}

// What waits for keys is bounded in bytes and in number, not in time alone.
func TestNotTooMuchWaits(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int64
		most int
	}{{"bytes", 32 << 20, 256/32 + 2}, {"number", 1000, 130}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				menu := fat(film(400, 1), tt.size, time.Millisecond)
				s := newShop(menu, link(t, replay.Stretch{Duration: time.Hour, Rate: 1e12}), agent.NoLimit, 0)
				keys := make(chan struct{})
				var waiting atomic.Int64
				s.refuse = func(string, int) error { return nil }
				slow := slowKeys{s, keys, &waiting}
				time.AfterFunc(time.Minute, func() {
					if n := int(waiting.Load()); n > tt.most || n < tt.most/2 {
						t.Errorf("%d segments wait, want %d", n, tt.most)
					}
					close(keys)
				})
				got, err := player.Play(t.Context(), player.Config{Menu: menu, Stock: slow, Policy: agent3{}})
				if err != nil || got.Played != got.Length {
					t.Errorf("%+v, %v", got, err)
				}
			})
		})
	}
}

// slowKeys is a shop whose keys come when keys is closed.
type slowKeys struct {
	*shop
	keys    chan struct{}
	waiting *atomic.Int64
}

func (s slowKeys) Open(ctx context.Context, rep *dash.Representation, index int, b []byte) ([]byte, error) {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	<-s.keys
	return s.shop.Open(ctx, rep, index, b)
}

// A rich shop gives real bytes, and a large head for each Representation.
type rich struct {
	*shop
	head, data []byte
	inits      *[]string
	mu         *sync.Mutex
}

func (r rich) Init(_ context.Context, rep *dash.Representation) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.inits = append(*r.inits, rep.ID)
	return r.head, nil
}

func (r rich) Open(ctx context.Context, rep *dash.Representation, index int, b []byte) ([]byte, error) {
	_, err := r.shop.Open(ctx, rep, index, b)
	return r.data, err
}

// A slow sink is not behind by more than some bytes.
func TestSlowSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		menu := film(60, 1)
		s := newShop(menu, link(t, replay.Stretch{Duration: time.Hour, Rate: 1e9}), agent.NoLimit, 0)
		sink := &stuck{letGo: make(chan struct{})}
		var opened atomic.Int64
		s.refuse = func(string, int) error { opened.Add(1); return nil }
		time.AfterFunc(time.Minute, func() {
			if n := opened.Load(); n > 30 || n < 4 {
				t.Errorf("%d segments of 4 MiB were opened while the sink takes none", n)
			}
			close(sink.letGo)
		})
		stock := rich{s, nil, make([]byte, 4<<20), new([]string), new(sync.Mutex)}
		if _, err := player.Play(t.Context(), player.Config{Menu: menu, Stock: stock, Policy: agent3{}, Sink: sink, Fast: true}); err != nil {
			t.Error(err)
		}
		if sink.given.Load() != 120 || sink.closed.Load() != 1 {
			t.Errorf("it got %d segments, and was closed %d times", sink.given.Load(), sink.closed.Load())
		}
	})
}

// around takes one rung after the other.
type around struct{}

func (around) Decide(s agent.State) agent.Decision {
	if s.Track == 1 {
		return agent.Decision{}
	}
	return agent.Decision{Rung: s.Next[0] % 4}
}

// Heads are kept as long as they are not too many; each segment comes with its own.
func TestHeadsAreBounded(t *testing.T) {
	for _, tt := range []struct {
		size  int
		again bool
	}{{1 << 20, false}, {20 << 20, true}} {
		synctest.Test(t, func(t *testing.T) {
			menu := film(20, 1)
			s := newShop(menu, link(t, replay.Stretch{Duration: time.Hour, Rate: 1e9}), agent.NoLimit, 0)
			stock := rich{s, make([]byte, tt.size), []byte("x"), new([]string), new(sync.Mutex)}
			sink := &headed{size: tt.size}
			if _, err := player.Play(t.Context(), player.Config{Menu: menu, Stock: stock, Policy: around{}, Sink: sink}); err != nil {
				t.Error(err)
			}
			if n := len(*stock.inits); n < 5 || (n > 5) != tt.again {
				t.Errorf("%d heads of %d bytes were fetched for 5 Representations", n, tt.size)
			}
			if sink.got != 40 {
				t.Errorf("%d segments came with their head", sink.got)
			}
		})
	}
}

// headed counts segments that come with a head of that size.
type headed struct{ size, got int }

func (h *headed) Close() error { return nil }

func (h *headed) Segment(_ int, _ *dash.Representation, _ int, init, _ []byte) error {
	if len(init) == h.size {
		h.got++
	}
	return nil
}

// A stream asks for a few heads at a time, and for no more than it can hold.
func TestStreamFetchesNoMoreThanItCanHold(t *testing.T) {
	title := &agent.Title{Name: "wide", Tracks: []agent.Track{{Kind: agent.Video}}}
	var rungs []agent.Rung
	for i := range 200 {
		rungs = append(rungs, agent.Rung{ID: fmt.Sprint(i), Size: 1000})
	}
	title.Tracks[0].Segments = []agent.Segment{{Duration: time.Second, Rungs: rungs}}
	stock := &crowded{head: make([]byte, 4<<20)}
	_, err := player.NewStream(t.Context(), io.Discard, menuOf(title), stock)
	if err == nil || !strings.Contains(err.Error(), "more than 128 MiB") {
		t.Errorf("error %v", err)
	}
	if stock.most > 8 || stock.asked > 128/4+8 {
		t.Errorf("%d heads were asked for, %d at a time", stock.asked, stock.most)
	}
}

// crowded counts who asks for heads.
type crowded struct {
	player.Stock
	head []byte

	mu               sync.Mutex
	now, most, asked int
}

func (c *crowded) Init(context.Context, *dash.Representation) ([]byte, error) {
	c.mu.Lock()
	c.now++
	c.asked++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	time.Sleep(time.Millisecond) // so that others come in between
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
	return c.head, nil
}
