package agent_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"htlcdash/agent"
)

func TestParseTitle(t *testing.T) {
	want := ladder(3, []float64{1, 2}, []float64{10, 12})
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := agent.ParseTitle(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, tt := range []struct{ name, old, new, reason string }{
		{"cut", `}]}]}]}`, `}]}]}`, "JSON"},
		{"more after it", `}]}]}]}`, `}]}]}]} {}`, "after top-level"},
		{"no rungs", `"rungs":[`, `"rungs":[],"r":[`, "0 rungs"},
		{"no time", `"duration":2000000000`, `"duration":0`, "it takes 0s"},
		{"years", `"duration":2000000000`, `"duration":3200000000000000000`, "it takes"},
		{"a negative size", `"size":250000`, `"size":-1`, "size or price"},
		{"too dear", `"price":1000`, `"price":9000000000000000000`, "size or price"},
		{"a key from the future", `"first":1`, `"first":2`, "opens from 2"},
		{"a key that opens two groups at once", `"first":2`, `"first":0`, "opens from 0"},
	} {
		bad := strings.Replace(string(b), tt.old, tt.new, 1)
		if _, err := agent.ParseTitle([]byte(bad)); !errors.Is(err, agent.ErrTitle) || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s gave error %v, want %v with %q", tt.name, err, agent.ErrTitle, tt.reason)
		}
	}
}

func FuzzParseTitle(f *testing.F) {
	b, err := json.Marshal(ladder(3, []float64{1, 2}, []float64{10, 12}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"tracks":[{"kind":"audio","segments":[{"duration":1,"rungs":[{}]},{"duration":5,"rungs":[{"first":1},{"first":1,"price":8}]}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		title, err := agent.ParseTitle(b)
		if err != nil {
			if !errors.Is(err, agent.ErrTitle) {
				t.Fatalf("error %v does not match %v", err, agent.ErrTitle)
			}
			return
		}
		again, err := json.Marshal(title)
		if err != nil {
			t.Fatal(err)
		}
		same, err := agent.ParseTitle(again)
		if err != nil || !reflect.DeepEqual(same, title) {
			t.Fatalf("%s gives %+v, %v, written and read again %+v", b, title, err, same)
		}
		s := agent.State{Last: make([]int, len(title.Tracks)), Next: make([]int, len(title.Tracks)), Left: agent.NoLimit}
		for k := range s.Last {
			s.Last[k] = -1
		}
		if rest := agent.NewFloor(title).Rest(s); rest < 0 {
			t.Fatalf("the cheapest way costs %v", rest)
		}
	})
}
