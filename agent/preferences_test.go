package agent_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/lightning"
)

func TestProfiles(t *testing.T) {
	title := film(120)
	link := replay.Synthetic(2, replay.Fiber)
	got := map[string]replay.Result{}
	for _, name := range agent.Profiles() {
		p, err := agent.Profile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got[name] = play(t, title, agent.New(title, p), replay.Setup{Link: link, Budget: price(title, -1) / 2})
	}
	sound := func(name string) (low, high int) {
		for _, r := range got[name].Rungs[1] {
			if r == 0 {
				low++
			} else {
				high++
			}
		}
		return low, high
	}
	if low, _ := sound("music"); low > 0 {
		t.Errorf("music: %d segments of sound below 96 kbit/s", low)
	}
	for _, name := range []string{"podcast", "talk"} {
		if _, high := sound(name); high > 0 {
			t.Errorf("%s: %d segments of sound above what speech gains", name, high)
		}
	}
	for i, r := range got["data-saver"].Rungs[0] {
		if h := title.Tracks[0].Segments[i].Rungs[r].Height; h > 480 {
			t.Fatalf("data-saver: segment %d has %d lines", i, h)
		}
	}
	if got["data-saver"].Spent*2 > got["best"].Spent {
		t.Errorf("data-saver spends %v, best %v", got["data-saver"].Spent, got["best"].Spent)
	}
	if got["best"].Quality < got["film"].Quality-0.01 {
		t.Errorf("best has quality %.2f, film %.2f", got["best"].Quality, got["film"].Quality)
	}
	if _, err := agent.Profile("opera"); !errors.Is(err, agent.ErrPreferences) {
		t.Errorf("no such profile: %v", err)
	}
}

func TestPreferencesValidate(t *testing.T) {
	for name, p := range map[string]agent.Preferences{
		"negative thrift": {Thrift: -1},
		"stall NaN":       {Weights: agent.Weights{Stall: math.NaN()}},
		"switch too much": {Weights: agent.Weights{Switch: 1e9}},
		"sound negative":  {Weights: agent.Weights{Quality: map[agent.Kind]float64{agent.Audio: -1}}},
		"heights crossed": {MinHeight: 720, MaxHeight: 480},
		"height negative": {MinHeight: -1},
		"sounds crossed":  {MinSound: 128_000, MaxSound: 64_000},
	} {
		if err := p.Validate(); !errors.Is(err, agent.ErrPreferences) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (agent.Preferences{}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestMinHeight holds lines as long as the money carries them, and gives way
// over the whole film, not at its end, where it does not.
func TestMinHeight(t *testing.T) {
	title := film(120)
	link := replay.Synthetic(4, replay.Fiber)
	for _, tt := range []struct {
		name   string
		budget lightning.Msat
		holds  bool
	}{
		{"enough", price(title, 3), true},
		{"too little", (price(title, 0) + price(title, 2)) / 2, false},
	} {
		r := play(t, title, agent.New(title, agent.Preferences{MinHeight: 480}), replay.Setup{Link: link, Budget: tt.budget})
		var below [4]int
		for i, rung := range r.Rungs[0] {
			if title.Tracks[0].Segments[i].Rungs[rung].Height < 480 {
				below[i/30]++
			}
		}
		for q, n := range below {
			if tt.holds && n > 0 || !tt.holds && (n == 0 || n == 30) {
				t.Errorf("%s: %d of 30 segments of quarter %d are below 480 lines", tt.name, n, q+1)
			}
		}
	}
}

// TestBoundsThatLeaveNothing: a title that lies outside of them is played.
func TestBoundsThatLeaveNothing(t *testing.T) {
	title := film(30)
	s := steady(title, 1e7, 15*time.Second, agent.NoLimit)
	if d := agent.New(title, agent.Preferences{MinHeight: 4000}).Decide(s); d.Rung < 2 {
		t.Errorf("rung %d where no height is enough", d.Rung)
	}
	if d := agent.New(title, agent.Preferences{MaxHeight: 100}).Decide(s); d.Rung != 0 {
		t.Errorf("rung %d where each height is too much", d.Rung)
	}
}
