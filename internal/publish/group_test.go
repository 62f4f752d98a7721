package publish_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/publish"
)

func TestGroupingText(t *testing.T) {
	for text, want := range map[string]publish.Grouping{
		"none": {}, "auto": {Auto: true}, "20s": {Length: 20 * time.Second}, " 1m ": {Length: time.Minute},
	} {
		g := publish.Grouping{Auto: true, Length: 1}
		if err := g.UnmarshalText([]byte(text)); err != nil || g != want {
			t.Errorf("%q gave %+v, %v", text, g, err)
		}
	}
	for _, text := range []string{"", "0s", "-1s", "20", "61s", "all", "none of it"} {
		var g publish.Grouping
		if err := g.UnmarshalText([]byte(text)); !errors.Is(err, publish.ErrGrouping) {
			t.Errorf("%q: %v, want ErrGrouping", text, err)
		}
	}
}

func TestSplit(t *testing.T) {
	auto := publish.Grouping{Auto: true}
	length := func(d time.Duration) publish.Grouping { return publish.Grouping{Length: d} }
	for _, tt := range []struct {
		name     string
		grouping publish.Grouping
		kind     string
		n        int
		bytes    int64
		d        time.Duration
		want     string
	}{
		{"none", publish.Grouping{}, "audio", 3, 1000, time.Second, "[1 1 1]"},
		{"large ones", auto, "video", 3, 600_000, 2 * time.Second, "[1 1 1]"},
		{"half as large", auto, "video", 4, 280_000, 2 * time.Second, "[2 2]"},
		{"sound of 128 kbit/s", auto, "audio", 30, 32_000, 2 * time.Second, "[10 10 10]"},
		{"sound of 256 kbit/s", auto, "audio", 18, 64_000, 2 * time.Second, "[6 6 6]"},
		{"a short film", auto, "audio", 15, 32_000, 2 * time.Second, "[15]"},
		{"no small rest", auto, "audio", 31, 32_000, 2 * time.Second, "[11 11 9]"},
		{"pictures stay short", auto, "video", 10, 20_000, 2 * time.Second, "[5 5]"},
		{"text", auto, "text", 16, 100, 4 * time.Second, "[8 8]"},
		{"longer than the limit", auto, "audio", 2, 1000, time.Hour, "[1 1]"},
		{"no more than there are", auto, "audio", 2, 1000, time.Second, "[2]"},
		{"tiny and short", auto, "audio", 130, 10, 10 * time.Millisecond, "[44 44 42]"},
		{"without a duration", auto, "audio", 65, 10, 0, "[33 32]"},
		{"a length", length(10 * time.Second), "video", 7, 1 << 20, 4 * time.Second, "[2 2 2 1]"},
		{"a length, exactly", length(8 * time.Second), "video", 4, 1 << 20, 4 * time.Second, "[2 2]"},
		{"a length below a segment", length(time.Second), "video", 2, 1000, 4 * time.Second, "[1 1]"},
		{"frames that are no milliseconds", length(time.Minute), "video", 30, 1000, 6006 * time.Millisecond, "[8 8 8 6]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lengths, durations := slices.Repeat([]int64{tt.bytes}, tt.n), slices.Repeat([]time.Duration{tt.d}, tt.n)
			if got := fmt.Sprint(tt.grouping.Split(tt.kind, lengths, durations)); got != tt.want {
				t.Errorf("groups of %s, want %s", got, tt.want)
			}
		})
	}
	uneven := length(10*time.Second).Split("video", slices.Repeat([]int64{1}, 6), []time.Duration{1e9, 1e9, 9e9, 1e9, 2e9, 12e9})
	if got := fmt.Sprint(uneven); got != "[2 2 1 1]" {
		t.Errorf("uneven durations: groups of %s", got)
	}
}

// A film in groups: fewer keys, the same media, prices of what the keys open.
func TestPublishGroups(t *testing.T) {
	source := noiseFolder(t, 11, 20_000)
	singles, _ := run(t, options(t, source))
	o := options(t, source)
	o.Group.Length, o.Price.Floor = 4*time.Second, 10
	res, opened := run(t, o)
	s := res.Representations[0]
	if s.Keys != 3 || s.Segments != 11 || singles.Representations[0].Keys != 11 {
		t.Errorf("%d keys for %d segments, alone %d", s.Keys, s.Segments, singles.Representations[0].Keys)
	}
	if s.Total != 80+80+60 || s.Dearest != 80 { // bytes of four and of three at 1 sat a MB
		t.Errorf("costs %d msat, the dearest key %d", s.Total, s.Dearest)
	}
	if s.PerKey() != 220_000/3 || fmt.Sprintf("%.3f", s.ProofShare()) != "0.416" {
		t.Errorf("%d bytes per key, a proof is %.3f of them", s.PerKey(), s.ProofShare())
	}
	segs, err := opened.Segments(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	for i, seg := range segs {
		from, to := seg.Opens()
		if from != i/4*4 || to != min(from+4, 11) || seg.KeyHash != segs[from].KeyHash || (from > 0 && seg.KeyHash == segs[from-1].KeyHash) {
			t.Errorf("segment %d is opened by the key of %d to %d", i, from, to)
		}
	}
	plain := open(t, o, opened, "v")
	for i, b := range plain {
		want, err := os.ReadFile(filepath.Join(source, fmt.Sprintf("v/%d.m4s", i+1)))
		if err != nil || string(b) != string(want) {
			t.Errorf("segment %d: %v", i, err)
		}
	}
	runs := opened.Manifest.Representations()[0].Pay.Runs
	if got := fmt.Sprint(runs); got != "[{2 4 80 msat} {1 3 60 msat}]" {
		t.Errorf("price runs %s", got)
	}
	again := options(t, source)
	again.Group, again.Price = o.Group, o.Price
	run(t, again)
	if !sameTree(tree(t, filepath.Dir(o.Out)), tree(t, filepath.Dir(again.Out))) {
		t.Error("published again it is another title")
	}
}

// A group of one is sealed as without groups: the sealed bytes stay.
func TestGroupsOfOneChangeNothing(t *testing.T) {
	source := noiseFolder(t, 3, 20_000)
	a, b := options(t, source), options(t, source)
	b.Group.Length = time.Second
	run(t, a)
	run(t, b)
	if !sameTree(tree(t, filepath.Dir(a.Out)), tree(t, filepath.Dir(b.Out))) {
		t.Error("the title is another one")
	}
}

// Bytes that come again are paid for once, however often: side by side, or as
// groups that are alike.
func TestRepeatedSegmentsInGroups(t *testing.T) {
	for _, tt := range []struct {
		name   string
		group  time.Duration
		names  string // equal letters are equal segments
		groups string
		total  int
	}{
		{"silence", 0, strings.Repeat("a", 200), "[200]", 1000},
		{"silence in groups", 3 * time.Second, strings.Repeat("a", 201), "[201]", 1000},
		{"two by turns", 2 * time.Second, strings.Repeat("ab", 40), "[80]", 2000},
		{"coming back", 2 * time.Second, "abcdab", "[2 2 2]", 6000},
		{"alone and in a group", 2 * time.Second, "aabab", "[2 2 1]", 1000 + 2000 + 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := noiseFolder(t, len(tt.names), 1000)
			for i, c := range []byte(tt.names) {
				put(t, dir, fmt.Sprintf("v/%d.m4s", i+1), slices.Repeat([]byte{c}, 1000))
			}
			o := options(t, dir)
			o.Price, o.Group.Length = publish.Policy{PerSecond: 1000}, tt.group
			res, opened := run(t, o)
			if got := int(res.Representations[0].Total); got != tt.total {
				t.Errorf("costs %d msat, want %d", got, tt.total)
			}
			segs, err := opened.Segments(t.Context(), "v")
			if err != nil {
				t.Fatal(err)
			}
			var list htlcdash.SealList
			for _, seg := range segs {
				list = append(list, seg.Seal)
			}
			var groups []int
			for g := range list.Groups() {
				groups = append(groups, g.Count)
			}
			if fmt.Sprint(groups) != tt.groups {
				t.Errorf("groups %v, want %s", groups, tt.groups)
			}
			if n := len(open(t, o, opened, "v")); n != len(tt.names) {
				t.Errorf("%d segments open", n)
			}
		})
	}
}
