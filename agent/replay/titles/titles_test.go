package titles_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/agent/replay"
	"htlcdash/agent/replay/titles"
)

func TestTitlesAreWhole(t *testing.T) {
	if len(titles.Names()) == 0 {
		t.Fatal("there are none")
	}
	for _, name := range titles.Names() {
		title := titles.Get(name)
		if err := title.Check(); err != nil || title.Name != name {
			t.Errorf("%s is called %q: %v", name, title.Name, err)
		}
		twice := titles.Repeat(title, 2)
		if err := twice.Check(); err != nil {
			t.Errorf("%s twice: %v", name, err)
		}
		if one, two := agent.NewFloor(title).Rest(begin(title)), agent.NewFloor(twice).Rest(begin(title)); two != 2*one || one == 0 {
			t.Errorf("%s costs %v at least, twice %v", name, one, two)
		}
		if title.Tracks[0].Segments[0].Rungs[0].First != 0 {
			t.Errorf("%s was changed by repeating it", name)
		}
	}
}

func begin(t *agent.Title) agent.State {
	s := agent.State{Next: make([]int, len(t.Tracks))}
	for range t.Tracks {
		s.Last = append(s.Last, -1)
	}
	return s
}

func TestNoSuchTitle(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got a title that is not there")
		}
	}()
	titles.Get("none")
}

func TestParse(t *testing.T) {
	b, err := json.Marshal(titles.Get("speech"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := agent.ParseTitle(b)
	if err != nil || !reflect.DeepEqual(again, titles.Get("speech")) {
		t.Errorf("JSON does not keep a title: %v", err)
	}
	for name, bad := range map[string]string{"nothing": "", "no object": "[]", "no tracks": "{}", "more behind it": string(b) + "{}"} {
		if _, err := agent.ParseTitle([]byte(bad)); !errors.Is(err, agent.ErrTitle) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever parses can be played to its end, for the least that it may cost.
func FuzzPlay(f *testing.F) {
	for _, name := range titles.Names() {
		t := titles.Get(name)
		for k := range t.Tracks {
			t.Tracks[k].Segments = t.Tracks[k].Segments[:3]
		}
		b, err := json.Marshal(t)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	link, err := replay.NewLink("flat", []replay.Stretch{{Duration: time.Second, Rate: 1e9}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		title, err := agent.ParseTitle(b)
		if err != nil {
			return
		}
		budget := agent.NewFloor(title).Rest(begin(title))
		r, err := replay.Run(title, agent.NewFixed(title, agent.MaxRungs), replay.Setup{Link: link, Budget: budget, Most: time.Minute})
		if err != nil || r.Spent > budget {
			t.Errorf("spent %v of %v: %v", r.Spent, budget, err)
		}
	})
}
