package player_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/dash"
	"htlcdash/internal/player"
	"htlcdash/lightning"
)

// A shop is a stock behind a recorded network, by whatever clock there is.
type shop struct {
	menu   player.Menu
	link   *replay.Link
	began  time.Time
	pay    time.Duration
	refuse func(rep string, index int) error // of keys
	lack   func(rep string, index int) error // of bytes

	mu    sync.Mutex
	left  lightning.Msat
	fee   float64
	owned map[string]bool
	money player.Money
	got   []string // what was downloaded, in order
	ended bool
}

func newShop(menu player.Menu, link *replay.Link, budget lightning.Msat, pay time.Duration) *shop {
	return &shop{menu: menu, link: link, began: time.Now(), pay: pay, left: budget, owned: map[string]bool{}}
}

func (s *shop) rung(rep *dash.Representation, index int) agent.Rung {
	for _, track := range s.menu.Tracks {
		for r := range track.Segments[index].Rungs {
			if g := track.Segments[index].Rungs[r]; g.ID == rep.ID {
				return g
			}
		}
	}
	panic("no such rung: " + rep.ID)
}

func (s *shop) Init(context.Context, *dash.Representation) ([]byte, error) { return nil, nil }

func (s *shop) Download(ctx context.Context, rep *dash.Representation, index int, came func(int)) ([]byte, error) {
	if s.lack != nil {
		if err := s.lack(rep.ID, index); err != nil {
			return nil, err
		}
	}
	size, asked, told := s.rung(rep, index).Size, time.Since(s.began), int64(0)
	end := s.link.Arrival(asked, size)
	for {
		select {
		case <-time.After(min(time.Millisecond, end-time.Since(s.began))):
		case <-ctx.Done():
		}
		now := time.Since(s.began)
		here := min(s.link.Received(asked, now), size)
		if now >= end {
			here = size
		}
		came(int(here - told))
		if told = here; ctx.Err() != nil {
			return nil, ctx.Err()
		} else if now >= end {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.got = append(s.got, fmt.Sprintf("%s/%d", rep.ID, index))
			return nil, nil
		}
	}
}

func (s *shop) Open(ctx context.Context, rep *dash.Representation, index int, _ []byte) ([]byte, error) {
	time.Sleep(s.pay)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if err := s.refuse(rep.ID, index); err != nil {
			return nil, err
		}
	}
	g := s.rung(rep, index)
	key := fmt.Sprint(rep.ID, g.First)
	fee := lightning.Msat(float64(g.Price) * s.fee)
	switch {
	case s.owned[key]:
	case s.left != agent.NoLimit && g.Price+fee > s.left-s.money.Spent:
		return nil, fmt.Errorf("%w: no more", player.ErrMoney)
	default:
		s.owned[key] = true
		s.money.Spent += g.Price + fee
		s.money.Fees += fee
	}
	return fmt.Appendf(nil, "%s/%d ", rep.ID, index), nil
}

func (s *shop) Ready(context.Context, *dash.Representation, int)     {}
func (s *shop) Prepare(context.Context, *dash.Representation, []int) {}

func (s *shop) Money() player.Money {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.money
	m.Left = agent.NoLimit
	if s.left != agent.NoLimit {
		m.Left = s.left - m.Spent
	}
	m.Routed = s.fee > 0
	m.Share = float64(m.Fees) / float64(max(m.Spent-m.Fees, 1))
	return m
}

func (s *shop) Stop() { s.ended = true }

// tape is a sink that keeps what it is given.
type tape struct {
	tracks [8]strings.Builder
	closed int
}

func (t *tape) Close() error {
	t.closed++
	return nil
}

func (t *tape) Segment(track int, _ *dash.Representation, _ int, _, data []byte) error {
	t.tracks[track].Write(data)
	return nil
}

// film makes a title of video and sound of n segments, with noise in the sizes.
func film(n int, group int) player.Menu {
	r := rand.New(rand.NewPCG(1, 2))
	title := &agent.Title{Name: "film", Tracks: []agent.Track{{Kind: agent.Video}, {Kind: agent.Audio}}}
	for i := range n {
		noise := 0.5 + r.Float64()
		var video []agent.Rung
		for j, rate := range []float64{300e3, 800e3, 1.8e6, 3.5e6} {
			size := int64(noise * rate * 2 / 8)
			video = append(video, agent.Rung{ID: fmt.Sprint("v", j), Size: size, Price: lightning.Msat(size / 100), First: i, Quality: 8 + 3*float64(j) + noise})
		}
		sound := []agent.Rung{{ID: "a0", Size: 32_000, Price: 2000, First: i - i%group, Quality: 10}}
		title.Tracks[0].Segments = append(title.Tracks[0].Segments, agent.Segment{Duration: 2 * time.Second, Rungs: video})
		title.Tracks[1].Segments = append(title.Tracks[1].Segments, agent.Segment{Duration: 2 * time.Second, Rungs: sound})
	}
	return menuOf(title)
}

func menuOf(title *agent.Title) player.Menu {
	reps := map[string]*dash.Representation{}
	for _, t := range title.Tracks {
		for _, s := range t.Segments {
			for _, g := range s.Rungs {
				if reps[g.ID] == nil && g.ID != "" {
					reps[g.ID] = &dash.Representation{ID: g.ID, ContentType: string(t.Kind), Segments: make([]dash.MediaSegment, len(t.Segments))}
				}
			}
		}
	}
	return player.MenuOf(title, func(track, segment, rung int) (*dash.Representation, int) {
		return reps[title.Tracks[track].Segments[segment].Rungs[rung].ID], segment
	})
}

func link(t testing.TB, steps ...replay.Stretch) *replay.Link {
	t.Helper()
	l, err := replay.NewLink("test", steps)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A wild link changes every few seconds and dies now and then.
func wild(t testing.TB, seed uint64) *replay.Link {
	r := rand.New(rand.NewPCG(seed, 9))
	var steps []replay.Stretch
	for range 40 {
		steps = append(steps, replay.Stretch{
			Duration: time.Duration(1+r.IntN(8)) * time.Second, Rate: max(0, r.NormFloat64()*1.5e6+1.8e6), Latency: time.Duration(20+r.IntN(100)) * time.Millisecond,
		})
	}
	return link(t, steps...)
}

// A greedy policy takes what the last downloads would carry, and gives up what
// takes too long.
type greedy struct{ title *agent.Title }

func (g greedy) Decide(s agent.State) (d agent.Decision) {
	rate := 1e6
	if n := len(s.Past); n > 0 {
		rate = 0
		for _, p := range s.Past[max(0, n-4):] {
			rate += p.Rate() / float64(n-max(0, n-4))
		}
	}
	seg := g.title.Tracks[s.Track].Segments[s.Next[s.Track]]
	for r, c := range seg.Rungs {
		if float64(c.Size)*8 < rate*(seg.Duration.Seconds()+s.Buffer[s.Track].Seconds()/4) {
			d.Rung = r
		}
	}
	return d
}

func (g greedy) Abandon(s agent.State, p agent.Progress) (int, bool) {
	size := g.title.Tracks[s.Track].Segments[s.Next[s.Track]].Rungs[p.Rung].Size
	return 0, p.Rung > 0 && s.Now-p.Since > 3*time.Second && p.Got < size/2
}

// What is played through the engine is what the simulator says, to the
// millisecond: same network, same money, same policy, same rules.
func TestPlayIsWhatTheSimulatorSays(t *testing.T) {
	for _, tt := range []struct {
		name  string
		group int
		seed  uint64
		share float64 // of what the dearest way costs
		pay   time.Duration
	}{
		{"free", 1, 1, 0, 0},
		{"slow payments", 1, 2, 0, 700 * time.Millisecond},
		{"half the money", 1, 3, 0.5, 80 * time.Millisecond},
		{"groups, a third of the money", 5, 4, 0.33, 80 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				menu, budget := film(60, tt.group), agent.NoLimit
				if tt.share > 0 {
					budget = lightning.Msat(tt.share * 60 * 3.5e6 * 2 / 8 / 100)
				}
				l := wild(t, tt.seed)
				want, err := replay.Run(menu.Title, greedy{menu.Title}, replay.Setup{Link: l, Budget: budget, Pay: tt.pay})
				if err != nil {
					t.Fatal(err)
				}
				got, err := player.Play(t.Context(), player.Config{Menu: menu, Stock: newShop(menu, l, budget, tt.pay), Policy: greedy{menu.Title}})
				if err != nil {
					t.Fatal(err)
				}
				if want.Stalls == 0 || want.Wasted == 0 || want.Switches == 0 {
					t.Errorf("a dull network: %+v", want)
				}
				if !reflect.DeepEqual(got.Rungs, want.Rungs) {
					t.Errorf("rungs\n%v, the simulator says\n%v", got.Rungs, want.Rungs)
				}
				if (got.Start-want.Start).Abs() > time.Millisecond || (got.Stall-want.Stall).Abs() > 20*time.Millisecond || got.Stalls != want.Stalls || got.Spent != want.Spent || got.Bytes != want.Bytes {
					t.Errorf("got %+v\nwant %+v", got.Result, want)
				}
			})
		})
	}
}

var errNet = errors.New("connection reset")

func TestTroubles(t *testing.T) {
	fast := []replay.Stretch{{Duration: time.Minute, Rate: 20e6, Latency: 20 * time.Millisecond}}
	menu := film(20, 1)
	cheapest := agent.NewFloor(menu.Title).Rest(agent.State{Next: []int{0, 0}, Last: []int{-1, -1}})
	all := func(rep string, n int) (s string) {
		for i := range n {
			s += fmt.Sprintf("%s/%d ", rep, i)
		}
		return s
	}
	for _, tt := range []struct {
		name   string
		budget lightning.Msat
		anyway bool
		fee    float64
		lack   func(rep string, index int) error
		refuse func(rep string, index int) error
		err    error
		says   string
		video  string // the end of it; "" is what the policy wants
	}{
		{name: "the network fails now and then", budget: agent.NoLimit, lack: sometimes(3, errNet)},
		{name: "payments fail now and then", budget: agent.NoLimit, refuse: sometimes(3, lightning.ErrFailed)},
		{name: "a rung lacks a segment", budget: agent.NoLimit, lack: func(rep string, i int) error {
			if rep == "v3" && i == 7 {
				return errNet
			}
			return nil
		}, video: "v3/6 v2/7 v3/8"},
		{name: "a key is not to be had", budget: agent.NoLimit, refuse: func(rep string, i int) error {
			if rep == "v3" && i == 7 {
				return lightning.ErrFailed
			}
			return nil
		}, video: "v3/6 v2/7 v3/8"},
		{name: "a segment is nowhere", budget: agent.NoLimit, lack: func(rep string, i int) error {
			if rep[0] == 'v' && i == 7 {
				return errNet
			}
			return nil
		}, err: errNet, says: "not to be had", video: "v3/6 "},
		{name: "no money", budget: cheapest - 1, err: player.ErrMoney, says: fmt.Sprint(cheapest)},
		{name: "no money, anyway", budget: cheapest / 2, anyway: true, err: player.ErrMoney, says: "may be spent", video: "v0/8 "},
		{name: "just enough money", budget: cheapest, video: all("v0", 20)},
		{name: "just enough money, and keys that are not to be had at first", budget: cheapest, refuse: func() func(string, int) error {
			failed := map[int]int{}
			return func(rep string, i int) error {
				if failed[i]++; rep == "v0" && i > 3 && i < 6 && failed[i] < 8 {
					return lightning.ErrFailed
				}
				return nil
			}
		}(), video: all("v0", 20)},
		{name: "routes eat the money", budget: cheapest * 103 / 100, fee: 0.1, err: player.ErrMoney, says: "may be spent"},
		{name: "routes cost, and there is enough", budget: cheapest * 105 / 100, fee: 0.04, video: all("v0", 20)},
		{name: "buying is stopped", budget: agent.NoLimit, refuse: func(_ string, i int) error {
			if i == 5 {
				return player.ErrStopped
			}
			return nil
		}, err: player.ErrStopped, video: "v3/4 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(menu, link(t, fast...), tt.budget, 50*time.Millisecond)
				s.lack, s.refuse, s.fee = tt.lack, tt.refuse, tt.fee
				var out tape
				var events []player.Event
				got, err := player.Play(t.Context(), player.Config{
					Menu: menu, Stock: s, Policy: agent3{}, Sink: &out, Anyway: tt.anyway, Event: func(e player.Event) { events = append(events, e) },
				})
				if !errors.Is(err, tt.err) || err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("error %v, want %v that says %q", err, tt.err, tt.says)
				}
				if !strings.Contains(out.tracks[0].String(), tt.video) {
					t.Errorf("played %s, want %s", out.tracks[0].String(), tt.video)
				}
				if out.closed != 1 {
					t.Errorf("the sink was closed %d times", out.closed)
				}
				if got.Spent > tt.budget || got.Spent != s.money.Spent {
					t.Errorf("spent %v of %v, by the stock %v", got.Spent, tt.budget, s.money.Spent)
				}
				for k := range out.tracks[:2] {
					for i, w := range strings.Fields(out.tracks[k].String()) {
						if !strings.HasSuffix(w, fmt.Sprintf("/%d", i)) {
							t.Errorf("track %d: segment %d is %s", k, i, w)
						}
					}
				}
				if err == nil && (got.Played != 40*time.Second || got.Length != got.Played) {
					t.Errorf("played %v of %v", got.Played, got.Length)
				}
				if i := slices.IndexFunc(events, func(e player.Event) bool { return e.What == player.End }); got.Length > 0 && i != len(events)-1 {
					t.Errorf("the end is event %d of %d", i, len(events))
				}
			})
		})
	}
}

type agent3 struct{}

func (agent3) Decide(s agent.State) agent.Decision {
	if s.Track == 1 {
		return agent.Decision{}
	}
	return agent.Decision{Rung: 3}
}

// sometimes fails each n-th time.
func sometimes(n int, err error) func(string, int) error {
	count := 0
	return func(string, int) error {
		if count++; count%n == 0 {
			return err
		}
		return nil
	}
}

// Ctrl-C ends it at once, but for a payment under way.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		menu := film(20, 1)
		s := newShop(menu, link(t, replay.Stretch{Duration: time.Minute, Rate: 5e6}), agent.NoLimit, 3*time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(7*time.Second, cancel)
		began := time.Now()
		got, err := player.Play(ctx, player.Config{Menu: menu, Stock: s, Policy: agent3{}})
		if !errors.Is(err, context.Canceled) || !s.ended {
			t.Errorf("error %v, no more payments: %v", err, s.ended)
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
		if got.Spent == 0 || got.Spent != s.money.Spent {
			t.Errorf("the account says %v, the stock %v", got.Spent, s.money.Spent)
		}
	})
}

// A fast player waits for nothing but the network, and plays the same.
func TestFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		menu := film(300, 1)
		s := newShop(menu, link(t, replay.Stretch{Duration: time.Minute, Rate: 400e6}), agent.NoLimit, 5*time.Millisecond)
		began := time.Now()
		got, err := player.Play(t.Context(), player.Config{Menu: menu, Stock: s, Policy: agent3{}, Fast: true})
		if err != nil || got.Played != 600*time.Second || got.Stall > 0 {
			t.Errorf("%+v, %v", got, err)
		}
		if d := time.Since(began); d > 15*time.Second {
			t.Errorf("ten minutes took %v", d)
		}
	})
}
