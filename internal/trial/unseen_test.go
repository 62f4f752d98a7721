package trial_test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/internal/trial"
	"htlcdash/lightning"
)

// Networks and titles of other kinds than those that the agent's constants were
// set with: none of its constants may be set with these.

// unseenLinks are networks of ten minutes, by kind, from a seed.
var unseenLinks = []struct {
	kind string
	make func(*rand.Rand) []replay.Stretch
}{
	{"on-off", onOff},
	{"drift", drift},
	{"dsl", dsl},
	{"drive", drive},
	{"satellite", satellite},
	{"orbit", orbit},
	{"crowd", crowd},
	{"cliff", cliff},
	{"crawl", crawl},
	{"lan", lan},
}

const (
	ten = 600 // seconds
	ms  = time.Millisecond
)

// onOff is 3 Mbit/s for some forty seconds, and nothing for some four.
func onOff(rnd *rand.Rand) (steps []replay.Stretch) {
	for at := 0.0; at < ten; {
		on, off := 40*rnd.ExpFloat64()+1, 4*rnd.ExpFloat64()
		for s := 0.0; s < on; s++ {
			steps = append(steps, replay.Stretch{Duration: time.Second, Rate: 3e6 * math.Exp(0.3*rnd.NormFloat64()), Latency: 60 * ms})
		}
		steps = append(steps, replay.Stretch{Duration: time.Duration(off*1e9) + ms, Latency: 60 * ms})
		at += on + off
	}
	return steps
}

// drift goes up and down between 0.6 and 6 Mbit/s within minutes.
func drift(rnd *rand.Rand) (steps []replay.Stretch) {
	phase, period := rnd.Float64(), 150+150*rnd.Float64()
	for s := range ten {
		wave := math.Sin(2 * math.Pi * (phase + float64(s)/period))
		steps = append(steps, replay.Stretch{Duration: time.Second, Rate: 1.9e6 * math.Exp(1.15*wave+0.05*rnd.NormFloat64()), Latency: 40 * ms})
	}
	return steps
}

// dsl is a line that does not change.
func dsl(rnd *rand.Rand) (steps []replay.Stretch) {
	rate := 1.2e6 * math.Exp(1.5*rnd.Float64())
	for range ten {
		steps = append(steps, replay.Stretch{Duration: time.Second, Rate: rate * (1 - 0.02*rnd.Float64()), Latency: 35 * ms})
	}
	return steps
}

// drive is a car among cells: rates that wander over two orders of magnitude
// within half a minute, and handovers of up to two seconds.
func drive(rnd *rand.Rand) (steps []replay.Stretch) {
	const keep = 0.93
	x := rnd.NormFloat64()
	for range ten {
		x = keep*x + math.Sqrt(1-keep*keep)*rnd.NormFloat64()
		steps = append(steps, replay.Stretch{Duration: time.Second, Rate: 5e6 * math.Exp(x), Latency: 50 * ms})
		if rnd.Float64() < 1.0/45 {
			steps = append(steps, replay.Stretch{Duration: time.Duration(2e9*rnd.Float64()) + ms, Latency: 50 * ms})
		}
	}
	return steps
}

// satellite is far, even, and lost behind something for ten to forty seconds
// each few minutes.
func satellite(rnd *rand.Rand) (steps []replay.Stretch) {
	for range ten {
		steps = append(steps, replay.Stretch{Duration: time.Second, Rate: 8e6 * math.Exp(0.1*rnd.NormFloat64()), Latency: 600 * ms})
		if rnd.Float64() < 1.0/180 {
			steps = append(steps, replay.Stretch{Duration: time.Duration(10+30*rnd.Float64()) * time.Second, Latency: 600 * ms})
		}
	}
	return steps
}

// orbit gets another rate every fifteen seconds, half a second of nothing before.
func orbit(rnd *rand.Rand) (steps []replay.Stretch) {
	for range ten / 15 {
		steps = append(steps,
			replay.Stretch{Duration: 500 * ms, Latency: 40 * ms},
			replay.Stretch{Duration: 14500 * ms, Rate: 1e6 * math.Exp(3*rnd.Float64()), Latency: time.Duration(30+40*rnd.Float64()) * ms})
	}
	return steps
}

// crowd shares a radio channel with many: each fifth of a second another rate,
// with a heavy tail and no memory.
func crowd(rnd *rand.Rand) (steps []replay.Stretch) {
	for range ten * 5 {
		steps = append(steps, replay.Stretch{Duration: 200 * ms, Rate: min(6e5*math.Pow(1-rnd.Float64(), -1/1.3), 6e7), Latency: time.Duration(20+80*rnd.Float64()) * ms})
	}
	return steps
}

// cliff is fast for minutes and then, for minutes, hardly there.
func cliff(rnd *rand.Rand) (steps []replay.Stretch) {
	for at := 0; at < ten; {
		high, low := 60+rnd.IntN(90), 40+rnd.IntN(60)
		for range high {
			steps = append(steps, replay.Stretch{Duration: time.Second, Rate: 1.2e7 * math.Exp(0.2*rnd.NormFloat64()), Latency: 25 * ms})
		}
		for range low {
			steps = append(steps, replay.Stretch{Duration: time.Second, Rate: 6e5 * math.Exp(0.2*rnd.NormFloat64()), Latency: 90 * ms})
		}
		at += high + low
	}
	return steps
}

// crawl does not carry the lowest rungs of most titles.
func crawl(rnd *rand.Rand) (steps []replay.Stretch) {
	for range ten {
		steps = append(steps, replay.Stretch{Duration: time.Second, Rate: 1.8e5 * math.Exp(0.15*rnd.NormFloat64()), Latency: 200 * ms})
	}
	return steps
}

// lan is so fast that nothing but money matters.
func lan(*rand.Rand) []replay.Stretch {
	return []replay.Stretch{{Duration: ten * time.Second, Rate: 4e8, Latency: ms}}
}

// unseenTitles are made from a seed; long is how long they last, in seconds.
func unseenTitles(seed uint64, long int) []*agent.Title {
	perMB := func(rung int, bytes float64) float64 { return bytes / 1e6 * 40_000 }
	flat := func(rung int, bytes float64) float64 { return []float64{150, 300, 700, 1200, 2000}[rung] }
	freeBelow := func(rung int, bytes float64) float64 {
		if rung < 2 {
			return 0
		}
		return bytes / 1e6 * 60_000
	}
	rnd := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	three := []float64{3.5e5, 1.1e6, 3.2e6}
	five := []float64{2e5, 4.5e5, 9e5, 1.7e6, 3.4e6}
	nine := []float64{1.2e5, 2.2e5, 3.8e5, 6e5, 1e6, 1.6e6, 2.5e6, 4e6, 6.5e6}
	speech := []float64{2.4e4, 6.4e4, 1.6e5}
	one := func(name string, tracks ...agent.Track) *agent.Title { return &agent.Title{Name: name, Tracks: tracks} }
	return []*agent.Title{
		one("three", unseenTrack(rnd(1), agent.Video, 4, long, three, 1, flat), unseenTrack(rnd(2), agent.Audio, 4, long, speech[1:2], 1, perMB)),
		one("nine", unseenTrack(rnd(3), agent.Video, 2, long, nine, 1, perMB), unseenTrack(rnd(4), agent.Audio, 2, long, speech, 1, perMB)),
		one("free", unseenTrack(rnd(5), agent.Video, 6, long, five, 1, freeBelow), unseenTrack(rnd(6), agent.Audio, 6, long, speech[:2], 1, freeBelow)),
		one("slices", unseenTrack(rnd(7), agent.Video, 10, long, five, 1, perMB), unseenTrack(rnd(8), agent.Audio, 4, long, speech[1:], 1, perMB)),
		one("groups", unseenTrack(rnd(9), agent.Video, 2, long, five[:4], 4, perMB), unseenTrack(rnd(10), agent.Audio, 2, long, speech[1:], 10, perMB)),
		one("talk", unseenTrack(rnd(11), agent.Audio, 4, 3*long, speech, 8, perMB)),
	}
}

// unseenTrack has segments of some seconds in scenes: how much a scene needs of
// bytes is log-normal, and its quality follows the bytes beside that need. A key
// opens a group of segments.
func unseenTrack(rnd *rand.Rand, kind agent.Kind, seconds, long int, rates []float64, group int, price func(rung int, bytes float64) float64) agent.Track {
	t := agent.Track{Kind: kind}
	need, plain := 1.0, 1.0
	for at, i := 0, 0; at < long; at, i = at+seconds, i+1 {
		if i == 0 || rnd.Float64() < float64(seconds)/12 {
			need, plain = math.Exp(0.5*rnd.NormFloat64()), 9+3*rnd.Float64()
		}
		s := agent.Segment{Duration: time.Duration(seconds) * time.Second}
		for r, rate := range rates {
			vary := math.Exp(0.15 * rnd.NormFloat64())
			quality := plain + 2.2*math.Log2(rate/rates[0])*(1-0.06*float64(r)) - 1.5*math.Log2(need) // capped rate: what needs more looks worse
			if kind == agent.Audio {
				quality, vary = agent.Estimate(agent.Audio, int64(rate), 0), math.Exp(0.05*rnd.NormFloat64())
			}
			size := rate * float64(seconds) / 8 * vary * math.Pow(need, 0.5)
			first := i / group * group
			g := agent.Rung{ID: fmt.Sprint(r), Size: int64(size), First: first, Quality: quality}
			if g.Price = lightning.Msat(price(r, rate*float64(seconds)/8*float64(group))); group == 1 {
				g.Price = lightning.Msat(price(r, size))
			}
			s.Rungs = append(s.Rungs, g)
		}
		t.Segments = append(t.Segments, s)
	}
	return t
}

var (
	unseenSeeds  = flag.Uint64("unseen", 1, "seeds of the networks and titles of TestUnseen")
	unseenLength = flag.Int("unseen-length", 60, "seconds that its titles last")
	unseenShares = flag.String("unseen-budgets", "0.3", "its budgets, as shares of what the best rungs cost")
)

// unseen is a trial of the agent on titles and networks of a seed.
func unseen(t *testing.T, seed uint64) trial.Plan {
	p := trial.Plan{
		Titles: unseenTitles(seed, *unseenLength),
		Policies: []trial.Policy{
			{Name: "agent", Make: func(t *agent.Title, w agent.Weights) (agent.Policy, error) {
				return agent.New(t, agent.Preferences{Weights: w}), nil
			}},
			rule("bola"),
		},
		Setup: replay.Setup{Weights: agent.Standard},
	}
	for text := range strings.SplitSeq(*unseenShares, ",") {
		b, err := trial.ParseBudget(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Budgets = append(p.Budgets, b)
	}
	for n, kind := range unseenLinks {
		l, err := replay.NewLink(fmt.Sprint(seed), kind.make(rand.New(rand.NewPCG(seed, uint64(100+n)))))
		if err != nil {
			t.Fatal(err)
		}
		p.Links = append(p.Links, trial.Link{Link: l, Group: kind.kind})
	}
	return p
}

// TestUnseen holds the agent to its goals where its constants were not set. The
// flags make it larger:
//
//	go test ./internal/trial -run Unseen -v -args -unseen 3 -unseen-length 240 -unseen-budgets 0.5,0.3,0.2
func TestUnseen(t *testing.T) {
	all := &trial.Account{}
	for seed := range *unseenSeeds {
		a, err := unseen(t, seed).Run(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		all.Policies = a.Policies
		all.Cases = append(all.Cases, a.Cases...)
	}
	var table bytes.Buffer
	if err := all.Print(&table); err != nil {
		t.Fatal(err)
	}
	v, ok := all.Judge("agent")
	if t.Logf("%v\n%v", v, &table); !ok || !v.Good {
		t.Errorf("the agent falls short: %v", v)
	}
	for _, of := range []func(trial.Case) string{trial.ByGroup, trial.ByTitle} {
		for _, r := range all.Rows(of) {
			if r.Policy == "agent" && r.Median < 0.9 {
				t.Errorf("%s: a median of %.1f %% of the bound", r.Of, 100*r.Median)
			}
		}
	}
}
