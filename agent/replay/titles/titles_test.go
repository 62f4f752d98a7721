package titles_test

import (
	"testing"

	"htlcdash/agent"
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
