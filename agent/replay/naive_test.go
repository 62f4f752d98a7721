package replay_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/lightning"
)

// A naive player lives millisecond by millisecond: it knows nothing of events.
type naive struct {
	title  *agent.Title
	setup  replay.Setup
	rungs  [][]int
	now    time.Duration
	played time.Duration
	waited time.Duration
	next   []int
	keys   []map[time.Duration]time.Duration // by track: when the media up to a place may be played
	have   []time.Duration                   // by track: media that was fetched
	spent  lightning.Msat
}

// ready is the media of a track that can be played.
func (n *naive) ready(k int) (most time.Duration) {
	for upTo, at := range n.keys[k] {
		if at <= n.now {
			most = max(most, upTo)
		}
	}
	return most
}

func (n *naive) length(k int) (sum time.Duration) {
	for _, s := range n.title.Tracks[k].Segments {
		sum += s.Duration
	}
	return sum
}

// tick is a millisecond.
func (n *naive) tick() {
	moves := true
	for k := range n.title.Tracks {
		if n.played < n.length(k) && n.ready(k) <= n.played {
			moves = false
		}
	}
	n.now += time.Millisecond
	if moves {
		n.played += time.Millisecond
	} else {
		n.waited += time.Millisecond
	}
}

func (n *naive) run() {
	for {
		k := -1
		for j, t := range n.title.Tracks {
			if n.next[j] < len(t.Segments) && (k < 0 || n.have[j] < n.have[k]) {
				k = j
			}
		}
		if k < 0 {
			break
		}
		i := n.next[k]
		s := n.title.Tracks[k].Segments[i]
		for n.have[k]-min(n.played, n.have[k])+s.Duration > max(n.setup.Most, s.Duration) {
			n.tick()
		}
		rung := n.rungs[k][i]
		for end := n.setup.Link.Arrival(n.now, s.Rungs[rung].Size); n.now < end; {
			n.tick()
		}
		if i == 0 || n.rungs[k][i-1] != rung || s.Rungs[rung].First == i {
			n.spent += s.Rungs[rung].Price
		}
		n.have[k] += s.Duration
		n.keys[k][n.have[k]] = n.now + n.setup.Pay
		n.next[k]++
	}
	for k := range n.title.Tracks {
		for n.played < n.length(k) {
			n.tick()
		}
	}
}

// script plays what is written.
type script [][]int

func (s script) Decide(st agent.State) agent.Decision {
	return agent.Decision{Rung: s[st.Track][st.Next[st.Track]]}
}

// Run jumps from event to event. It must see what a player sees that looks
// every millisecond: late keys, two tracks that stall each other, segments that
// are longer than the buffer.
func TestRunIsWhatANaivePlayerDoes(t *testing.T) {
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		title, plan := &agent.Title{}, script{}
		downloads := 0
		for range 1 + rnd.IntN(3) {
			track := agent.Track{Kind: agent.Video}
			var rungs []int
			for i := range 1 + rnd.IntN(8) {
				track.Segments = append(track.Segments, agent.Segment{
					Duration: time.Duration(300+rnd.IntN(3000)) * time.Millisecond,
					Rungs: []agent.Rung{
						{Size: int64(rnd.IntN(200_000)), Price: 100, First: i},
						{Size: int64(rnd.IntN(900_000)), Price: 300, First: i / 2 * 2},
					},
				})
				rungs = append(rungs, rnd.IntN(2))
				downloads++
			}
			title.Tracks, plan = append(title.Tracks, track), append(plan, rungs)
		}
		s := replay.Setup{Link: replay.Synthetic(seed, replay.Slow), Budget: agent.NoLimit, Most: time.Duration(500+rnd.IntN(6000)) * time.Millisecond}
		if rnd.IntN(2) == 0 {
			s.Pay = time.Duration(rnd.IntN(2000)) * time.Millisecond
		}
		got, err := replay.Run(title, plan, s)
		if err != nil {
			t.Fatal(err)
		}
		n := &naive{title: title, setup: s, rungs: plan, next: make([]int, len(plan)), have: make([]time.Duration, len(plan))}
		for range plan {
			n.keys = append(n.keys, map[time.Duration]time.Duration{})
		}
		n.run()
		if got.Spent != n.spent {
			t.Errorf("seed %d: spent %v, want %v", seed, got.Spent, n.spent)
		}
		// each download is off by up to a millisecond, and a little more
		// where the network has just changed
		if d := (got.Start + got.Stall - n.waited).Abs(); d > time.Duration(3*downloads)*time.Millisecond {
			t.Errorf("seed %d: waited %v, the naive player %v", seed, got.Start+got.Stall, n.waited)
		}
	}
}

// One who stops at a random moment has paid for what is in the buffer.
func TestUnplayed(t *testing.T) {
	one := func(first ...int) *agent.Title {
		t := agent.Track{Kind: agent.Video}
		for _, f := range first {
			t.Segments = append(t.Segments, agent.Segment{Duration: 2 * time.Second, Rungs: []agent.Rung{
				{Size: 1e6, Price: 1000, First: f}, {Size: 1e6, Price: 3000, First: f},
			}})
		}
		return &agent.Title{Tracks: []agent.Track{t}}
	}
	for _, tt := range []struct {
		name  string
		title *agent.Title
		rungs []int
		want  lightning.Msat
	}{
		// here at 1, 2, 3 s; played 1 to 3, 3 to 5, 5 to 7
		{"three keys", one(0, 1, 2), []int{0, 0, 0}, (1000*1 + 1000*2 + 1000*3) / 7},
		// at 1 s one key for all
		{"one key", one(0, 0, 0), []int{0, 0, 0}, 1000 * 3 / 7},
		// the key at 1 s; two thirds of it are never played. The other at 2 s; a third of it is never played.
		{"two keys for the same", one(0, 0, 0), []int{0, 1, 1}, (1000*6 - 333*5 + 3000*5 - 1000*3 - 1000*1) / 7},
	} {
		s := replay.Setup{Link: flat(t, 8e6), Budget: agent.NoLimit}
		link, err := replay.NewLink("", []replay.Stretch{{Duration: time.Minute, Rate: 8e6}})
		if err != nil {
			t.Fatal(err)
		}
		s.Link = link
		got, err := replay.Run(tt.title, replay.Plan{Rungs: [][]int{tt.rungs}}, s)
		if err != nil {
			t.Fatal(err)
		}
		if d := got.Unplayed - tt.want; d < -2 || d > 2 {
			t.Errorf("%s: %v are not played on average, want %v", tt.name, got.Unplayed, tt.want)
		}
	}
}

func TestQoE(t *testing.T) {
	got, err := replay.Run(twoRungs(4), replay.Plan{Rungs: [][]int{{0, 1, 1, 0}}}, replay.Setup{Link: flat(t, 2e6), Budget: agent.NoLimit})
	if err != nil {
		t.Fatal(err)
	}
	// 0.4 and 4 Mbit/s; 0.5 s for the low ones, 4.1 s for the high ones
	want := (0.4 + 4 + 4 + 0.4 - 2*3.6 - 4.3*(0.5+2.1+2.1)) / 4
	if math.Abs(got.QoE-want) > 1e-9 {
		t.Errorf("QoE is %v, want %v", got.QoE, want)
	}
	if got, want := fmt.Sprintf("%.4f", got.StallRatio()), fmt.Sprintf("%.4f", 4.2/12.2); got != want {
		t.Errorf("stall ratio %s, want %s", got, want)
	}
}

func TestBadSetups(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setup replay.Setup
	}{
		{"no link", replay.Setup{}},
		{"a negative buffer", replay.Setup{Link: flat(t, 1), Most: -1}},
		{"keys before their time", replay.Setup{Link: flat(t, 1), Pay: -1}},
		{"looks back", replay.Setup{Link: flat(t, 1), Look: -1}},
	} {
		_, err := replay.Run(twoRungs(1), always(0), tt.setup)
		_, also := replay.Best(twoRungs(1), tt.setup)
		if fmt.Sprint(err) != fmt.Sprint(also) || err == nil {
			t.Errorf("%s: errors %v and %v, want the same", tt.name, err, also)
		}
	}
}
