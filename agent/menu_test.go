package agent_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// dear is a title of one track: prices by rung, for keys that open groups of
// some segments each.
func dear(segments int, groups []int, prices ...lightning.Msat) *agent.Title {
	track := agent.Track{Kind: agent.Video}
	for i := range segments {
		s := agent.Segment{Duration: time.Second}
		for r, p := range prices {
			n := groups[r]
			s.Rungs = append(s.Rungs, agent.Rung{
				ID: fmt.Sprint("v", r), Size: 20_000 * int64(r+1), Height: 240 * (r + 1),
				Price: p * lightning.Msat(min(n, segments-i/n*n)), First: i / n * n, Quality: 8 + 3*float64(r),
			})
		}
		track.Segments = append(track.Segments, s)
	}
	return &agent.Title{Tracks: []agent.Track{track}}
}

func atStart(left lightning.Msat) agent.State {
	return agent.State{Next: []int{0}, Last: []int{-1}, Buffer: []time.Duration{0}, Left: left}
}

func TestMenus(t *testing.T) {
	single, fours := dear(12, []int{1, 1, 1}, 100, 300, 1000), dear(12, []int{4, 4, 4}, 100, 300, 1000)
	slow := atStart(4_000)
	slow.Past = []agent.Download{{Took: time.Second, Size: 20_000}}
	tests := []struct {
		name  string
		title *agent.Title
		state agent.State
		wish  agent.Preferences
		want  []int
		ok    bool
	}{
		{"no limit", single, atStart(agent.NoLimit), agent.Preferences{}, []int{0, 1, 2}, true},
		{"all, and a look at each", single, atStart(12_400), agent.Preferences{}, []int{0, 1, 2}, true},
		{"no look at the second", single, atStart(12_399), agent.Preferences{}, []int{0, 2}, true},
		{"the best alone", single, atStart(12_000), agent.Preferences{}, []int{2}, true},
		{"not the best", single, atStart(11_999), agent.Preferences{}, []int{0, 1}, true},
		{"the lowest", single, atStart(1_200), agent.Preferences{}, []int{0}, true},
		{"not even that", single, atStart(1_199), agent.Preferences{}, []int{0}, false},
		{"keys that are bought for nothing", fours, atStart(4_800), agent.Preferences{}, []int{0, 1}, true},
		{"one rung, where the network carries it", fours, atStart(4_000), agent.Preferences{}, []int{1}, true},
		{"or not", fours, slow, agent.Preferences{}, []int{0}, true},
		{"never below", single, atStart(agent.NoLimit), agent.Preferences{MinHeight: 480}, []int{1, 2}, true},
		{"never below what the money carries", single, atStart(3_599), agent.Preferences{MinHeight: 480}, []int{0}, true},
		{"never above", single, atStart(agent.NoLimit), agent.Preferences{MaxHeight: 480}, []int{0, 1}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, ok := agent.NewMenu(test.title, test.state, test.wish)
			if ok != test.ok || !slices.Equal(m.Rungs[0], test.want) {
				t.Errorf("got %v, %v, want %v, %v", m.Rungs[0], ok, test.want, test.ok)
			}
			if most := m.Most(test.title, test.state); ok && most > test.state.Left {
				t.Errorf("a player can spend %v of %v", most, test.state.Left)
			}
			for r := range 3 {
				if m.Shows(test.title, 0, 5, r) != slices.Contains(test.want, r) {
					t.Errorf("rung %d is shown wrongly", r)
				}
			}
		})
	}
}

// No player spends more than Most.
func TestMostIsABound(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 500 {
		title := dear(1+r.IntN(20), []int{1 + r.IntN(5), 1 + r.IntN(5), 1 + r.IntN(5)}, 100, lightning.Msat(100+r.IntN(500)), 1000)
		s := atStart(agent.NoLimit)
		track := &title.Tracks[0]
		s.Next[0] = r.IntN(len(track.Segments))
		most := agent.Everything(title).Most(title, s)
		bought := map[[2]int]bool{}
		spent := lightning.Msat(0)
		take := func(i, rung int) {
			if key := [2]int{rung, track.Segments[i].Rungs[rung].First}; !bought[key] {
				bought[key] = true
				spent += track.Segments[i].Rungs[rung].Price
			}
		}
		for rung := range 3 {
			take(s.Next[0], rung)
		}
		for i := s.Next[0]; i < len(track.Segments); i++ {
			take(i, (i+n)%3)
		}
		if spent > most {
			t.Fatalf("spent %v, at most %v", spent, most)
		}
	}
}

func TestOutlineSpendsWhereItShows(t *testing.T) {
	title := dear(20, []int{1, 1, 1}, 100, 300, 1000)
	for i := range 10 { // dark
		for r := range 3 {
			title.Tracks[0].Segments[i].Rungs[r].Quality = 14 + float64(r)/100
		}
	}
	for _, left := range []lightning.Msat{1_000, 2_000, 7_000, 11_000, 15_000, agent.NoLimit} {
		o := agent.NewOutline(title, atStart(left), agent.Preferences{})
		sum := lightning.Msat(0)
		for _, c := range o.Costs[0] {
			sum += c
		}
		if sum != o.Total || left >= 2_000 && o.Total > left {
			t.Errorf("with %v: total %v, costs %v", left, o.Total, sum)
		}
		if left == 11_000 && (slices.Max(o.Rungs[0][:10]) > 0 || slices.Min(o.Rungs[0][10:]) < 2) {
			t.Errorf("with %v: %v", left, o.Rungs[0])
		}
	}
}

func BenchmarkMenu(b *testing.B) {
	title := dear(3600, []int{4, 2, 1}, 100, 300, 1000)
	for b.Loop() {
		agent.NewMenu(title, atStart(2_000_000), agent.Preferences{})
	}
}
