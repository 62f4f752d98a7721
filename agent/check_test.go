package agent_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"htlcdash/agent"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*agent.Title)
		want   string // of the error; empty: none
	}{
		{"good", func(*agent.Title) {}, ""},
		{"no tracks", func(t *agent.Title) { t.Tracks = nil }, "0 tracks"},
		{"no segments", func(t *agent.Title) { t.Tracks[0].Segments = nil }, "0 segments"},
		{"no rungs", func(t *agent.Title) { t.Tracks[0].Segments[1].Rungs = nil }, "segment 1: 0 rungs"},
		{"no time", func(t *agent.Title) { t.Tracks[0].Segments[1].Duration = 0 }, "segment 1: it takes 0s"},
		{"too much time", func(t *agent.Title) { t.Tracks[0].Segments[1].Duration = math.MaxInt64 }, "it takes 2562047h"},
		{"too long", func(t *agent.Title) {
			for i := range t.Tracks[0].Segments {
				t.Tracks[0].Segments[i].Duration = agent.MaxLength
			}
		}, "is longer than"},
		{"negative size", func(t *agent.Title) { t.Tracks[0].Segments[0].Rungs[0].Size = -1 }, "size or price"},
		{"huge size", func(t *agent.Title) { t.Tracks[0].Segments[0].Rungs[0].Size = math.MaxInt64 }, "size or price"},
		{"negative price", func(t *agent.Title) { t.Tracks[0].Segments[0].Rungs[0].Price = -1 }, "size or price"},
		{"huge price", func(t *agent.Title) { t.Tracks[0].Segments[0].Rungs[0].Price = math.MaxInt64 }, "size or price"},
		{"no number", func(t *agent.Title) { t.Tracks[0].Segments[0].Rungs[0].Quality = math.NaN() }, "a quality of NaN dB"},
		{"huge quality", func(t *agent.Title) { t.Tracks[0].Segments[0].Rungs[0].Quality = 1e300 }, "a quality of 1e+300 dB"},
		{"a key from the future", func(t *agent.Title) { t.Tracks[0].Segments[0].Rungs[0].First = 1 }, "neither here nor where"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			title := &agent.Title{Tracks: []agent.Track{{}}}
			for i := range 3 {
				title.Tracks[0].Segments = append(title.Tracks[0].Segments, agent.Segment{Duration: time.Second, Rungs: []agent.Rung{{Size: 1, Price: 1, First: i, Quality: 1}}})
			}
			tt.change(title)
			err := title.Check()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, agent.ErrTitle) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
