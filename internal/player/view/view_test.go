package view_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"htlcdash/agent"
	"htlcdash/internal/player"
	"htlcdash/internal/player/view"
	"htlcdash/lightning"
)

var update = flag.Bool("update", false, "write what frames look like to testdata")

// film is a title of two minutes with four rungs of picture and two of sound.
func film() *agent.Title {
	t := &agent.Title{Name: "film", Tracks: []agent.Track{{Kind: agent.Video}, {Kind: agent.Audio}}}
	for i := range 60 {
		var video, audio []agent.Rung
		for j, size := range []int64{75_000, 200_000, 450_000, 875_000} {
			video = append(video, agent.Rung{ID: fmt.Sprint("v", j), Height: []int{240, 480, 480, 1080}[j], Size: size, Price: lightning.Msat(size / 100), First: i, Quality: 8 + 3*float64(j) + math.Sin(float64(i))})
		}
		for j, size := range []int64{16_000, 32_000} {
			audio = append(audio, agent.Rung{ID: fmt.Sprint("a", j), Size: size, Price: lightning.Msat(size / 16), First: i - i%5, Quality: 10})
		}
		t.Tracks[0].Segments = append(t.Tracks[0].Segments, agent.Segment{Duration: 2 * time.Second, Rungs: video})
		t.Tracks[1].Segments = append(t.Tracks[1].Segments, agent.Segment{Duration: 2 * time.Second, Rungs: audio})
	}
	return t
}

// A story is what players tell, one event after the other.
type story struct {
	title *agent.Title
	told  []player.Event
	now   player.Event // how things stand
	on    []int
}

func newStory(budget lightning.Msat) *story {
	s := &story{title: film(), on: []int{-1, -1}}
	s.now.Length, s.now.Left, s.now.Buffers = 2*time.Minute, budget, []time.Duration{0, 0}
	s.tell(player.Event{What: player.Began})
	return s
}

// tell completes an event by how things stand.
func (s *story) tell(e player.Event) {
	n := s.now
	e.At, e.Position, e.Length, e.Moving, e.Stalled, e.Stalls = n.At, n.Position, n.Length, n.Moving, n.Stalled, n.Stalls
	e.Left, e.Spent, e.Fees, e.Rate = n.Left, n.Spent, n.Fees, n.Rate
	e.Buffers = append([]time.Duration(nil), n.Buffers...)
	s.told = append(s.told, e)
}

// fetch gets a segment in some time, while the picture moves.
func (s *story) fetch(track, index, rung int, took time.Duration) {
	g := s.title.Tracks[track].Segments[index].Rungs[rung]
	e := player.Event{
		Kind: s.title.Tracks[track].Kind, Track: track, Index: index, Rung: rung, Rungs: 4, ID: g.ID, Height: g.Height,
		Quality: g.Quality, Bytes: g.Size, Took: took, Pay: 45 * time.Millisecond,
	}
	if last := s.on[track]; last >= 0 && last != rung {
		e.What = player.Switch
		s.tell(e)
	}
	s.pass(took)
	e.Price = s.title.Tracks[track].Cost(index, rung, s.on[track])
	s.on[track] = rung
	s.now.Rate = float64(g.Size) * 8 / took.Seconds()
	e.What = player.Fetched
	s.tell(e)
	if s.now.Left != agent.NoLimit {
		s.now.Left -= e.Price + e.Price/100
	}
	s.now.Spent += e.Price + e.Price/100
	s.now.Fees += e.Price / 100
	s.now.Buffers[track] += 2 * time.Second
	e.What = player.Segment
	s.tell(e)
}

func (s *story) pass(d time.Duration) {
	s.now.At += d
	if !s.now.Moving {
		return
	}
	s.now.Position += d
	for k := range s.now.Buffers {
		s.now.Buffers[k] = max(0, s.now.Buffers[k]-d)
	}
	s.tell(player.Event{What: player.Tick})
}

func (s *story) pictureMoves(what player.What, moves bool) {
	s.now.Moving = moves
	s.tell(player.Event{What: what})
}

// evening is a whole run: a start, a change of the network, a stall, trouble
// with a provider whose words no terminal should obey, and the end.
func evening(budget lightning.Msat) (s *story, halfway int) {
	s = newStory(budget)
	s.fetch(0, 0, 0, 400*time.Millisecond)
	s.fetch(1, 0, 1, 80*time.Millisecond)
	s.pictureMoves(player.Start, true)
	for i := 1; i < 20; i++ {
		rung := min(3, i/3)
		if i > 12 {
			rung = 1
		}
		s.fetch(0, i, rung, time.Duration(300+100*i)*time.Millisecond)
		s.fetch(1, i, 1, 90*time.Millisecond)
	}
	s.tell(player.Event{What: player.Abandoned, Kind: agent.Video, Index: 20, Rung: 0})
	s.tell(player.Event{What: player.Retry, Kind: agent.Video, Index: 20, Why: "offer: 503 \x1b[2Jbusy\n"})
	s.pictureMoves(player.Stall, false)
	s.now.Stalls, s.now.Stalled = 1, 1700*time.Millisecond
	s.pass(1700 * time.Millisecond)
	s.fetch(0, 20, 0, 200*time.Millisecond)
	s.pictureMoves(player.Resume, true)
	halfway = len(s.told)
	for i := 21; i < 60; i++ {
		s.fetch(0, i, 2, 1500*time.Millisecond)
		s.fetch(1, i, 1, 90*time.Millisecond)
	}
	s.now.Position, s.now.Buffers = s.now.Length, []time.Duration{0, 0}
	s.pictureMoves(player.End, false)
	return s, halfway
}

func TestFrames(t *testing.T) {
	s, halfway := evening(300_000)
	free, _ := evening(agent.NoLimit)
	config := view.Config{Name: "An evening at the lake, uncut, with the commentary of its director and a long name", Title: s.title}
	for name, events := range map[string][]player.Event{"began": s.told[:1], "halfway": s.told[:halfway], "end": s.told, "unlimited": free.told[:halfway]} {
		v := view.Still(config)
		for _, e := range events {
			v.Event(e)
		}
		for _, width := range []int{40, 80, 120} {
			got := v.Frame(width, 30)
			for line := range strings.Lines(got) {
				if n := utf8.RuneCountInString(line); n > width {
					t.Errorf("%s: line of %d columns, want at most %d: %s", name, n-1, width-1, line)
				}
			}
			golden(t, fmt.Sprintf("%s-%d.txt", name, width), got)
		}
	}
}

// TestFree holds that nothing is said of money where there is none to pay.
func TestFree(t *testing.T) {
	title := film()
	for _, track := range title.Tracks {
		for _, s := range track.Segments {
			for i := range s.Rungs {
				s.Rungs[i].Price = 0
			}
		}
	}
	v := view.Still(view.Config{Name: "film", Title: title})
	v.Event(player.Event{What: player.Began, Left: agent.NoLimit})
	if frame := v.Frame(80, 30); strings.Contains(frame, "money") || strings.Contains(frame, "sat") {
		t.Errorf("a free title costs\n%s", frame)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: go test -update shows the difference. Got\n%s", name, got)
	}
}

// TestSmallTerminal holds that a frame fits into any window, the important
// lines first.
func TestSmallTerminal(t *testing.T) {
	s, halfway := evening(300_000)
	v := view.Still(view.Config{Name: "film", Title: s.title})
	for _, e := range s.told[:halfway] {
		v.Event(e)
	}
	for height := range 30 {
		for _, width := range []int{1, 21, 33, 300} {
			frame := v.Frame(width, height)
			if n := strings.Count(frame, "\n"); n > max(1, height) {
				t.Errorf("%d lines in a window of %d", n, height)
			}
			if !strings.HasPrefix(frame, "film\n") {
				t.Errorf("in a window of %d by %d it does not say what plays:\n%s", width, height, frame)
			}
		}
	}
}

// screen is a terminal that keeps what was written at a time.
type screen struct{ writes []string }

func (s *screen) Write(b []byte) (int, error) {
	s.writes = append(s.writes, string(b))
	return len(b), nil
}

func TestTerminalIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, halfway := evening(300_000)
		out := &screen{}
		v := view.Live(out, view.Config{Name: "film", Title: s.title}, true, func() (int, int) { return 80, 24 })
		for _, e := range s.told[:halfway] {
			v.Event(e)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(out.writes); n > 13 {
			t.Errorf("%d writes in 10 s of a picture that stays the same", n)
		}
		for _, picture := range out.writes[1:] {
			if !strings.HasPrefix(picture, "\x1b[?2026h\x1b[H") || !strings.HasSuffix(picture, "\x1b[?2026l") || strings.Contains(picture, "\x1b[2J") {
				t.Errorf("not a picture that is shown at once, or a stranger clears the screen: %q", picture)
			}
		}
		for range 2 {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		}
		first, last := out.writes[0], out.writes[len(out.writes)-1]
		for on, off := range map[string]string{"\x1b[?1049h": "\x1b[?1049l", "\x1b[?25l": "\x1b[?25h", "\x1b[?7l": "\x1b[?7h"} {
			if !strings.Contains(first, on) || !strings.Contains(last, off) {
				t.Errorf("%q was switched on and not off: %q ... %q", on, first, last)
			}
		}
		if !strings.Contains(last, "1 stall") {
			t.Error("nothing is left of it to read")
		}
		v.Event(s.told[halfway])
		time.Sleep(time.Second)
		synctest.Wait()
		if out.writes[len(out.writes)-1] != last {
			t.Error("it drew after its end")
		}
	})
}

// sgr matches what sets a colour.
var sgr = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func TestNoColour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := evening(300_000)
		out := &screen{}
		v := view.Live(out, view.Config{Name: "film", Title: s.title}, false, func() (int, int) { return 80, 24 })
		for _, e := range s.told {
			v.Event(e)
		}
		v.Close()
		if all := strings.Join(out.writes, ""); sgr.MatchString(all) {
			t.Errorf("colours: %q", all)
		}
	})
}

func TestNoTerminal(t *testing.T) {
	s, _ := evening(300_000)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, w := range []io.Writer{&bytes.Buffer{}, file} {
		if _, ok := view.Open(w, view.Config{Title: s.title}); ok {
			t.Errorf("%T is taken for a terminal", w)
		}
	}
}
