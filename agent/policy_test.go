package agent_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/lightning"
)

// Shots of a made film.
const (
	bright = iota
	dark
	still
)

var shots = [...]struct {
	bytes, low, step float64 // beside a bright one; decibel of the lowest rung, and of each better one
}{bright: {1, 7, 2.5}, dark: {0.6, 12, 0.7}, still: {0.2, 15, 0.5}}

// shotOf is what a segment shows: ten segments each.
func shotOf(i int) int { return i / 10 % 3 }

// film has n segments of 2 s, six rungs of picture and two of sound, priced by
// the byte.
func film(n int) *agent.Title {
	rnd := rand.New(rand.NewPCG(1, 2))
	video, audio := agent.Track{Kind: agent.Video}, agent.Track{Kind: agent.Audio}
	rung := func(id string, i int, rate, quality float64, height int) agent.Rung {
		size := int64(rate * 2 / 8)
		return agent.Rung{ID: id, Size: size, Price: lightning.Msat(size / 50), First: i, Quality: quality, Height: height}
	}
	for i := range n {
		shot := shots[shotOf(i)]
		wave := math.Exp(0.3 * rnd.NormFloat64())
		v := agent.Segment{Duration: 2 * time.Second}
		for r, rate := range []float64{3e5, 6e5, 1e6, 1.8e6, 2.8e6, 4.5e6} {
			height := []int{240, 360, 480, 720, 900, 1080}[r]
			v.Rungs = append(v.Rungs, rung(fmt.Sprint(height), i, rate*shot.bytes*wave, shot.low+shot.step*float64(r), height))
		}
		a := agent.Segment{Duration: 2 * time.Second}
		for _, rate := range []int64{64_000, 128_000} {
			g := rung(fmt.Sprint(rate), i, float64(rate), agent.Estimate(agent.Audio, rate, 0), 0)
			g.Rate = rate
			a.Rungs = append(a.Rungs, g)
		}
		video.Segments, audio.Segments = append(video.Segments, v), append(audio.Segments, a)
	}
	return &agent.Title{Tracks: []agent.Track{video, audio}}
}

// price is what a rung of all segments costs; -1: the best.
func price(t *agent.Title, rung int) (sum lightning.Msat) {
	for _, track := range t.Tracks {
		for _, s := range track.Segments {
			r := rung
			if r < 0 || r >= len(s.Rungs) {
				r = len(s.Rungs) - 1
			}
			sum += s.Rungs[r].Price
		}
	}
	return sum
}

func play(t testing.TB, title *agent.Title, p agent.Policy, s replay.Setup) replay.Result {
	t.Helper()
	r, err := replay.Run(title, p, s)
	if err != nil {
		t.Fatal(err)
	}
	if r.Spent > s.Budget {
		t.Errorf("spent %v of %v", r.Spent, s.Budget)
	}
	return r
}

// meanRung is that of the picture over segments of a shot; -1: of all.
func meanRung(r replay.Result, shot int) float64 {
	sum, n := 0, 0
	for i, rung := range r.Rungs[0] {
		if shot < 0 || shotOf(i) == shot {
			sum, n = sum+rung, n+1
		}
	}
	return float64(sum) / float64(n)
}

// steady is a state in the middle of a film over a network of some bit/s.
func steady(title *agent.Title, rate float64, buffer time.Duration, left lightning.Msat) agent.State {
	i := len(title.Tracks[0].Segments) / 2
	s := agent.State{Most: 20 * time.Second, Playing: true, Left: left}
	for k := range title.Tracks {
		s.Next, s.Last, s.Buffer = append(s.Next, i), append(s.Last, 1), append(s.Buffer, buffer+time.Duration(k)*time.Second)
	}
	for range 40 {
		d := agent.Download{At: s.Now, Size: 300_000, Took: time.Duration(300_000 * 8 / rate * 1e9)}
		s.Past = append(s.Past, d)
		s.Now += max(d.Took, 2*time.Second)
	}
	return s
}

func TestAgentDecidesByTheStateAlone(t *testing.T) {
	title := film(60)
	a := agent.New(title, agent.Preferences{})
	states := []agent.State{
		steady(title, 2e6, 8*time.Second, price(title, 2)),
		steady(title, 4e5, 3*time.Second, agent.NoLimit),
		steady(title, 2e7, 16*time.Second, price(title, 0)/2),
	}
	states[1].Track = 1
	var want []agent.Thought
	for _, s := range states {
		want = append(want, a.Explain(s))
		if d := a.Decide(s); d.Rung != want[len(want)-1].Options[want[len(want)-1].Choice].Rung {
			t.Errorf("decides for %d, and explains %+v", d.Rung, want[len(want)-1])
		}
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := range 30 {
				k := (worker + n) % len(states)
				if got := a.Explain(states[k]); !reflect.DeepEqual(got, want[k]) {
					t.Errorf("state %d: %+v, before %+v", k, got, want[k])
				}
			}
		})
	}
	wg.Wait()
}

func TestAgentSpendsWhereItIsSeen(t *testing.T) {
	title := film(240)
	link := replay.Synthetic(1, replay.Fiber)
	for _, tt := range []struct {
		name   string
		wish   agent.Preferences
		budget lightning.Msat
	}{
		{"half the money", agent.Preferences{}, price(title, -1) / 2},
		{"money enough, thrift", agent.Preferences{Thrift: 10}, agent.NoLimit},
	} {
		r := play(t, title, agent.New(title, tt.wish), replay.Setup{Link: link, Budget: tt.budget})
		if b, d := meanRung(r, bright), meanRung(r, dark); b < d+1 {
			t.Errorf("%s: mean rung %.1f of bright shots, %.1f of dark ones", tt.name, b, d)
		}
	}
	best, err := agent.Profile("best")
	if err != nil {
		t.Fatal(err)
	}
	if r := play(t, title, agent.New(title, best), replay.Setup{Link: link, Budget: agent.NoLimit}); meanRung(r, dark) < 4.9 {
		t.Errorf("with money enough and no thrift, dark shots have mean rung %.1f of 5", meanRung(r, dark))
	}
}

func TestAgentMoneyIsDearerWhenThereIsLess(t *testing.T) {
	title := film(120)
	a := agent.New(title, agent.Preferences{})
	before := math.Inf(1)
	for _, share := range []float64{0.05, 0.1, 0.2, 0.3, 0.4, 0.5} {
		s := steady(title, 2e7, 10*time.Second, lightning.Msat(share*float64(price(title, -1))))
		p := a.Explain(s).Price
		if p > before || p < 0 || share < 0.4 && p == 0 {
			t.Errorf("with %.2f of the price left a msat is worth %v, with less it was %v", share, p, before)
		}
		before = p
	}
	if p := a.Explain(steady(title, 2e7, 10*time.Second, agent.NoLimit)).Price; p != 0 {
		t.Errorf("without a limit a msat is worth %v", p)
	}
}

func TestAgentBudgetLastsEvenly(t *testing.T) {
	title := film(240) // four quarters of two rounds of the shots
	for _, kind := range []string{replay.Fiber, replay.Steady, replay.Mobile} {
		budget := price(title, -1) / 3
		var quarters [4]lightning.Msat
		r := play(t, title, agent.New(title, agent.Preferences{}), replay.Setup{Link: replay.Synthetic(3, kind), Budget: budget, Each: func(s replay.Step) {
			quarters[s.Index/60] += s.Paid
		}})
		if r.Spent < budget*97/100 && kind != replay.Mobile {
			t.Errorf("%s: spent %v of %v", kind, r.Spent, budget)
		}
		for q, spent := range quarters {
			// a network that carries less than the money buys leaves it for later;
			// at first the buffer is filled and the network learnt
			if share := float64(spent) / float64(r.Spent); share < 0.15 && (kind != replay.Mobile || q == 3) || share > 0.33 && kind != replay.Mobile {
				t.Errorf("%s: %.2f of the money went in quarter %d", kind, share, q+1)
			}
		}
	}
}

func TestAgentTakesTheFloorWhenNothingComes(t *testing.T) {
	title := film(120)
	a := agent.New(title, agent.Preferences{})
	s := steady(title, 3e6, 12*time.Second, agent.NoLimit)
	if d := a.Decide(s); d.Rung < 2 {
		t.Errorf("at 3 Mbit/s with 12 s in hand it takes rung %d", d.Rung)
	}
	s.Past = append(s.Past, agent.Download{At: s.Now, Took: 9 * time.Second, Size: 20_000})
	s.Now += 9 * time.Second
	s.Buffer = []time.Duration{3 * time.Second, 4 * time.Second}
	for k := range title.Tracks {
		s.Track = k
		if d := a.Decide(s); d.Rung != 0 {
			t.Errorf("after an outage, with 3 s in hand, track %d takes rung %d", k, d.Rung)
		}
	}
}

func TestAgentStartsLowUntilItKnows(t *testing.T) {
	title := film(120)
	a := agent.New(title, agent.Preferences{})
	s := agent.State{Next: []int{0, 0}, Last: []int{-1, -1}, Buffer: make([]time.Duration, 2), Most: 20 * time.Second, Left: agent.NoLimit}
	if d := a.Decide(s); d.Rung != 0 {
		t.Errorf("knowing nothing it starts with rung %d", d.Rung)
	}
	s.Prior = 2e8
	if d := a.Decide(s); d.Rung < 3 {
		t.Errorf("knowing of 200 Mbit/s it starts with rung %d", d.Rung)
	}
}

func TestAgentCountsKeysOnTheirWay(t *testing.T) {
	title := film(120)
	a := agent.New(title, agent.Preferences{})
	s := steady(title, 1.2e6, 2*time.Second, agent.NoLimit)
	poor := a.Decide(s).Rung
	s.Coming = []time.Duration{12 * time.Second, 12 * time.Second}
	if rich := a.Decide(s).Rung; rich <= poor {
		t.Errorf("rung %d with 12 s on their way, %d without", rich, poor)
	}
}

func TestAgentAbandons(t *testing.T) {
	title := film(120)
	a := agent.New(title, agent.Preferences{})
	size := title.Tracks[0].Segments[60].Rungs[5].Size
	for _, tt := range []struct {
		name   string
		buffer time.Duration
		going  agent.Progress
		after  time.Duration
		want   bool
	}{
		{"a stall looms", 2 * time.Second, agent.Progress{Rung: 5, Got: 60_000}, 3 * time.Second, true},
		{"it comes in time", 15 * time.Second, agent.Progress{Rung: 5, Got: 600_000}, 3 * time.Second, false},
		{"it is nearly here", 500 * time.Millisecond, agent.Progress{Rung: 5, Got: size * 95 / 100}, 9 * time.Second, false},
		{"there is no lower one", time.Second, agent.Progress{Rung: 0, Got: 5_000}, 3 * time.Second, false},
		{"it has just begun", time.Second, agent.Progress{Rung: 5}, 200 * time.Millisecond, false},
	} {
		s := steady(title, 4e6, tt.buffer, agent.NoLimit)
		tt.going.Since = s.Now
		s.Now += tt.after
		rung, ok := a.Abandon(s, tt.going)
		if ok != tt.want || ok && rung >= tt.going.Rung {
			t.Errorf("%s: given up for rung %d: %v, want %v", tt.name, rung, ok, tt.want)
		}
	}
}

// TestAgentAgainstBOLA is the account in small: on each kind of made network a
// viewer gets more, and on the whole waits no longer.
func TestAgentAgainstBOLA(t *testing.T) {
	title := film(150)
	var wait, theirWait time.Duration
	for _, kind := range []string{replay.Steady, replay.Slow, replay.Mobile, replay.Fiber} {
		var ours, theirs float64
		for seed := range uint64(6) {
			for _, share := range []lightning.Msat{2, 5} {
				setup := replay.Setup{Link: replay.Synthetic(seed, kind), Budget: price(title, -1) / share}
				r := play(t, title, agent.New(title, agent.Preferences{}), setup)
				ours, wait = ours+r.Utility, wait+r.Stall
				r = play(t, title, agent.NewBOLA(title), setup)
				theirs, theirWait = theirs+r.Utility, theirWait+r.Stall
			}
		}
		if ours < 1.05*theirs {
			t.Errorf("%s: utility %.0f, BOLA's %.0f", kind, ours, theirs)
		}
	}
	if wait > theirWait {
		t.Errorf("%v of waiting, BOLA's %v", wait, theirWait)
	}
	t.Logf("%v of waiting, BOLA's %v", wait, theirWait)
}

// grouped gives a key to each shot of ten segments, at the price of its parts.
func grouped(n int) *agent.Title {
	title := film(n)
	for k := range title.Tracks {
		segments := title.Tracks[k].Segments
		for first := 0; first < n; first += 10 {
			group := segments[first:min(first+10, n)]
			for r := range group[0].Rungs {
				sum := lightning.Msat(0)
				for _, s := range group {
					sum += s.Rungs[r].Price
				}
				for _, s := range group {
					s.Rungs[r].Price, s.Rungs[r].First = sum, first
				}
			}
		}
	}
	return title
}

func TestAgentKeepsAKeyThatItHas(t *testing.T) {
	title := grouped(240)
	total := lightning.Msat(0)
	for _, track := range title.Tracks {
		for i, s := range track.Segments {
			total += track.Cost(i, len(s.Rungs)-1, len(s.Rungs)-1)
		}
	}
	r := play(t, title, agent.New(title, agent.Preferences{}), replay.Setup{Link: replay.Synthetic(1, replay.Fiber), Budget: total / 2})
	if r.Spent < total*45/100 {
		t.Errorf("spent %v of %v", r.Spent, total/2)
	}
	within := 0
	for i, rung := range r.Rungs[0] {
		if i > 0 && i%10 != 0 && rung != r.Rungs[0][i-1] {
			within++
		}
	}
	if within > 8 { // one in three of the keys
		t.Errorf("%d changes with a key in hand, over 24 keys", within)
	}
	if b, d := meanRung(r, bright), meanRung(r, dark); b < d+1 {
		t.Errorf("mean rung %.1f of bright shots, %.1f of dark ones", b, d)
	}
}

// random makes a title and a state of it that a program could come to.
func random(seed uint64) (*agent.Title, agent.State) {
	rnd := rand.New(rand.NewPCG(seed, 5))
	title := &agent.Title{}
	s := agent.State{Most: time.Duration(rnd.Int64N(60e9)), Now: time.Duration(rnd.Int64N(1e12)), Playing: rnd.IntN(2) == 0, Left: lightning.Msat(rnd.Int64N(1 << 40))}
	if rnd.IntN(3) == 0 {
		s.Left = agent.NoLimit
	}
	for k := range 1 + rnd.IntN(3) {
		track := agent.Track{Kind: []agent.Kind{agent.Video, agent.Audio}[rnd.IntN(2)]}
		n, width := 1+rnd.IntN(40), 1+rnd.IntN(12)
		for i := range n {
			if rnd.IntN(10) == 0 {
				width = 1 + rnd.IntN(12)
			}
			seg := agent.Segment{Duration: time.Duration(1 + rnd.Int64N(1<<rnd.IntN(36)))}
			for r := range width {
				first := i
				if i > 0 && r < len(track.Segments[i-1].Rungs) && rnd.IntN(2) == 0 { // the key goes on
					first = track.Segments[i-1].Rungs[r].First
				}
				seg.Rungs = append(seg.Rungs, agent.Rung{
					Size: rnd.Int64N(1 << rnd.IntN(40)), Price: lightning.Msat(rnd.Int64N(1 << rnd.IntN(42))), First: first,
					Quality: rnd.NormFloat64() * 20, Height: rnd.IntN(3) * 400, Rate: rnd.Int64N(3) * 70_000,
				})
			}
			track.Segments = append(track.Segments, seg)
		}
		title.Tracks = append(title.Tracks, track)
		s.Next, s.Last = append(s.Next, rnd.IntN(n+min(k, 1))), append(s.Last, rnd.IntN(14)-1)
		s.Buffer = append(s.Buffer, time.Duration(rnd.Int64N(40e9)))
	}
	for range rnd.IntN(120) {
		s.Past = append(s.Past, agent.Download{At: time.Duration(rnd.Int64N(1e12)), Took: time.Duration(rnd.Int64N(1 << rnd.IntN(40))), Size: rnd.Int64N(1 << rnd.IntN(34))})
	}
	if rnd.IntN(2) == 0 {
		slices.SortFunc(s.Past, func(a, b agent.Download) int { return int(a.At - b.At) })
	}
	return title, s
}

// FuzzAgent asks about anything, and wants a rung that there is.
func FuzzAgent(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		title, s := random(seed)
		if err := title.Check(); err != nil {
			t.Fatal(err)
		}
		names := agent.Profiles()
		wish, err := agent.Profile(names[seed%uint64(len(names))])
		if err != nil {
			t.Fatal(err)
		}
		wish.MinHeight = int(seed%3) * 300
		wish.MaxHeight = 0
		a := agent.New(title, wish)
		rungs := title.Tracks[0].Segments[s.Next[0]].Rungs
		thought := a.Explain(s)
		if r := a.Decide(s).Rung; r < 0 || r >= len(rungs) {
			t.Errorf("rung %d of %d", r, len(rungs))
		}
		for _, o := range thought.Options {
			if math.IsNaN(o.Value) || math.IsInf(o.Value, 0) {
				t.Errorf("an option is worth %v", o.Value)
			}
		}
		for r := range rungs {
			p := agent.Progress{Rung: r, Since: s.Now - time.Duration(seed%100)*time.Second/10, Got: rungs[r].Size / int64(1+seed%9)}
			if other, ok := a.Abandon(s, p); ok && (other < 0 || other >= r) {
				t.Errorf("rung %d is given up for %d", r, other)
			}
		}
	})
}

// An hour of film: 1800 segments of 2 s, six rungs of picture, two of sound.
func BenchmarkDecide(b *testing.B) {
	title := film(1800)
	a := agent.New(title, agent.Preferences{})
	s := steady(title, 3e6, 12*time.Second, price(title, -1)/3)
	for b.Loop() {
		a.Decide(s)
	}
}

func BenchmarkNew(b *testing.B) {
	title := film(1800)
	for b.Loop() {
		agent.New(title, agent.Preferences{})
	}
}

func BenchmarkReplayHour(b *testing.B) {
	title := film(1800)
	link := replay.Synthetic(1, replay.Mobile)
	for b.Loop() {
		play(b, title, agent.New(title, agent.Preferences{}), replay.Setup{Link: link, Budget: price(title, -1) / 3})
	}
}

// A network that is far is not slow, also if nothing but small segments of
// nearly the same size is ever fetched over it.
func TestAgentTellsFarFromSlow(t *testing.T) {
	title := film(120)
	a := agent.New(title, agent.Preferences{})
	for _, tt := range []struct {
		name    string
		latency time.Duration
		rate    float64 // bit/s
	}{
		{"far and fast", 600 * time.Millisecond, 8e6},
		{"near and slow", 20 * time.Millisecond, 5e5},
	} {
		s := steady(title, 8e6, 12*time.Second, agent.NoLimit)
		rnd := rand.New(rand.NewPCG(7, 7))
		s.Past, s.Now = nil, 0
		for n := range 60 {
			size := int64(75_000 * math.Exp(0.15*rnd.NormFloat64())) // the lowest rung of the picture
			if n%2 == 1 {
				size = 32_000 // and the sound
			}
			took := tt.latency + time.Duration(float64(size)*8/(tt.rate*math.Exp(0.1*rnd.NormFloat64()))*1e9)
			s.Past = append(s.Past, agent.Download{At: s.Now, Took: took, Size: size})
			s.Now += max(took, time.Second)
			if n < 30 {
				continue
			}
			th := a.Explain(s)
			if off := th.Latency - tt.latency; off.Abs() > tt.latency/5+30*time.Millisecond {
				t.Errorf("%s: after %d downloads a latency of %v, it is %v", tt.name, n, th.Latency, tt.latency)
			}
			if th.Mean < tt.rate/3 || th.Mean > tt.rate*3 {
				t.Errorf("%s: after %d downloads %.2g bit/s are expected, it is %.2g", tt.name, n, th.Mean, tt.rate)
			}
		}
	}
}

// What haste may cost is the weight of waiting by the price of money.
func TestHaste(t *testing.T) {
	title := film(120)
	a := agent.New(title, agent.Preferences{})
	before := lightning.Msat(0)
	for _, share := range []float64{0.1, 0.2, 0.3, 0.4} {
		s := steady(title, 2e7, 10*time.Second, lightning.Msat(share*float64(price(title, -1))))
		haste, want := a.Haste(s), agent.Standard.Stall/a.Explain(s).Price
		if math.Abs(float64(haste)/want-1) > 1e-3 {
			t.Errorf("with %.1f of the price left a second is worth %v, want %.0f msat", share, haste, want)
		}
		if haste < before {
			t.Errorf("with %.1f of the price left a second is worth %v, with less it was %v", share, haste, before)
		}
		before = haste
	}
	if h := a.Haste(steady(title, 2e7, 10*time.Second, agent.NoLimit)); h != agent.NoLimit {
		t.Errorf("with money enough a second is worth %v", h)
	}
	thrifty := agent.New(title, agent.Preferences{Thrift: 1})
	if h := thrifty.Haste(steady(title, 2e7, 10*time.Second, agent.NoLimit)); h <= 0 || h == agent.NoLimit {
		t.Errorf("to who is thrifty it is worth %v", h)
	}
}
