package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"htlcdash/agent"
	"htlcdash/internal/ledger"
	"htlcdash/internal/player"
	"htlcdash/internal/proxy"
	"htlcdash/internal/publish"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// A told event is a line of --json.
type told struct {
	Event  string
	Kind   string
	Index  int
	ID     string
	Price  lightning.Msat `json:"price_msat"`
	Spent  lightning.Msat `json:"spent_msat"`
	Result *struct {
		Played float64        `json:"played_ms"`
		Length float64        `json:"length_ms"`
		Spent  lightning.Msat `json:"spent_msat"`
		Rungs  [][]int
	}
}

// playTitle runs the command as far as it can without lnd.
func (s *street) playTitle(t *testing.T, ctx context.Context, name string, args ...string) (events []told, people string, err error) {
	t.Helper()
	c := s.parse(t, append([]string{"play", name, "--json", "-", "--fast"}, args...)...)
	var out, says bytes.Buffer
	err = c.Play.playSold(ctx, terminal{out: &out, err: &says}, s.viewer, s.log)
	lines := json.NewDecoder(&out)
	for lines.More() {
		var e told
		if err := lines.Decode(&e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events, says.String(), err
}

// remembered is what the viewer's books keep of the network.
func (s *street) remembered(t *testing.T) agent.Memory {
	t.Helper()
	books, err := ledger.Open(filepath.Join(s.folder, "viewer.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	m, err := proxy.Recall(t.Context(), books)
	if err != nil {
		t.Error(err)
	}
	return m
}

// name is what the provider calls the street's title.
func (s *street) name() string { return filepath.Base(s.title.Dir) }

func TestPlayBuysAndCounts(t *testing.T) {
	s := newStreet(t)
	s.sell(t)
	// by a rule that takes the same each time; the agent may want a better rung
	events, people, err := s.playTitle(t, t.Context(), s.name(), "--policy", "highest")
	if err != nil {
		t.Fatal(err, people)
	}
	end := events[len(events)-1]
	segments := map[string]int{}
	for _, e := range events {
		if e.Event == string(player.Segment) {
			if e.Index != segments[e.Kind] {
				t.Errorf("%s segment %d comes as number %d", e.Kind, e.Index, segments[e.Kind])
			}
			segments[e.Kind]++
		}
	}
	if end.Event != "end" || end.Result.Played != 5000 || segments["video"] != 5 || segments["audio"] != 5 {
		t.Fatalf("the end %+v, segments %v", end, segments)
	}
	bought, paid := s.sum(t, "bought", "amount_msat")
	sold, received := s.sum(t, "sold", "received_msat")
	if bought != 10 || sold != 10 || paid != received || paid != end.Result.Spent || paid == 0 {
		t.Errorf("%d keys for %v by the viewer's books, %d for %v by the provider's, %v by what was said", bought, paid, sold, received, end.Result.Spent)
	}
	if !strings.Contains(people, "played 0:05") {
		t.Errorf("people are told %q", people)
	}
	if m := s.remembered(t); m.Rate == 0 || time.Since(m.At) > time.Hour {
		t.Errorf("the network is remembered as %v", m)
	}
	again, _, err := s.playTitle(t, t.Context(), s.title.ID.String(), "--policy", "highest")
	if err != nil || again[len(again)-1].Result.Spent != 0 {
		t.Errorf("what is owned is paid again: %+v, %v", again[len(again)-1], err)
	}
	if err := s.network.Check(); err != nil {
		t.Error(err)
	}
}

// A budget of what the film costs at its lowest quality, and not a msat more,
// plays it to its last segment; one msat less does not begin.
func TestPlayOnTheLeastMoney(t *testing.T) {
	for name, film := range map[string]titletest.Options{
		"keys of their own": {Segments: 8},
		"groups":            {Segments: 8, Group: publish.Grouping{Length: 3 * time.Second}},
		"two Periods":       {Segments: 4, Periods: 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := streetFor(t, titletest.Make(t, film))
			s.sell(t)
			cheapest, _ := s.title.Manifest.PriceRange()
			budget := func(m lightning.Msat) string { return fmt.Sprintf("%d msat", m) }
			_, _, err := s.playTitle(t, t.Context(), s.name(), "--budget", budget(cheapest-1))
			if !errors.Is(err, player.ErrMoney) || !strings.Contains(err.Error(), fmt.Sprintf("--budget '%v'", cheapest.String())) {
				t.Errorf("with one msat less: %v, want the budget that it takes", err)
			}
			if b, err := s.provider.Balance(t.Context()); err != nil || b.Outbound != 0 {
				t.Errorf("%v went for nothing, %v", b.Outbound, err)
			}
			events, _, err := s.playTitle(t, t.Context(), s.name(), "--budget", budget(cheapest))
			if err != nil {
				t.Fatal(err)
			}
			if end := events[len(events)-1].Result; end.Played != 8000 || end.Spent != cheapest {
				t.Errorf("%+v, want 8 s for %v", end, cheapest)
			}
		})
	}
}

func TestPlayAsFarAsTheMoneyGoes(t *testing.T) {
	s := newStreet(t)
	s.sell(t)
	events, _, err := s.playTitle(t, t.Context(), s.name(), "--budget", "5 sat", "--anyway")
	if !errors.Is(err, player.ErrMoney) || !strings.Contains(err.Error(), "from 0:03") && !strings.Contains(err.Error(), "from 3s on") {
		t.Errorf("error %v", err)
	}
	if end := events[len(events)-1].Result; end.Played != 3000 || end.Spent != 4500 {
		t.Errorf("%+v, want 3 s for 4500 msat", end)
	}
}

func TestPlayPartsAndSound(t *testing.T) {
	s := newStreet(t)
	s.sell(t)
	if _, _, err := s.playTitle(t, t.Context(), s.name(), "--proxy-budget-segment", "100 msat"); !errors.Is(err, player.ErrMoney) || !strings.Contains(err.Error(), "budget_segment") {
		t.Errorf("with a limit below all keys: %v", err)
	}
	events, _, err := s.playTitle(t, t.Context(), s.name(), "--audio-only", "--from", "1s", "--to", "3s")
	if err != nil {
		t.Fatal(err)
	}
	if end := events[len(events)-1].Result; end.Played != 2000 || len(end.Rungs) != 1 || end.Spent != 1000 {
		t.Errorf("%+v, want 2 s of sound for 1000 msat", end)
	}
	if _, _, err := s.playTitle(t, t.Context(), "nothing"); err == nil || !strings.Contains(err.Error(), s.name()) {
		t.Errorf("an unknown title: %v, want the names of those on sale", err)
	}
	if _, _, err := s.playTitle(t, t.Context(), s.name(), "--proxy-budget-segment", "2 sat"); err != nil {
		t.Errorf("with a limit for keys: %v", err)
	}
}

// A title on a plain web server costs nothing, nor does what a proxy serves; what
// a provider sells is not to be had like that.
func TestPlayAddresses(t *testing.T) {
	s := newStreet(t)
	s.sell(t)
	s.play(t)
	s.get(t, "/api/titles")
	folder := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(filepath.Dir(s.title.Dir), "dash"))))
	defer folder.Close()
	for _, tt := range []struct{ name, address, err string }{
		{"web server", folder.URL + "/manifest.mpd", ""},
		{"proxy", s.player + "/t/" + s.title.ID.String() + "/manifest.mpd", ""},
		{"provider", s.shop + "/t/" + s.name() + "/manifest.mpd", "sold"},
		{"nobody", "http://127.0.0.1:1/manifest.mpd", "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, _, err := call(t, "play", tt.address, "--json", "-", "--fast", "--quiet")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one that says %q", err, tt.err)
				}
				return
			}
			if err != nil || !strings.Contains(out, `"event":"end"`) || !strings.Contains(out, `"played_ms":5000`) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// What --write gives is one stream with all frames, also where the quality
// changes; and its reader may go.
func TestPlayWrites(t *testing.T) {
	dir := t.TempDir()
	make := exec.Command("ffmpeg", strings.Fields("-v error -nostdin -f lavfi -i testsrc2=d=6:s=320x180:r=24 -f lavfi -i sine=d=6 -map 0:v -map 0:v -map 1:a "+
		"-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 24 -keyint_min 24 -sc_threshold 0 -s:v:0 160x90 -b:v:0 60k -b:v:1 400k -c:a aac "+
		"-f dash -seg_duration 1 -use_template 1 -use_timeline 1 x.mpd -adaptation_sets")...)
	make.Args = append(make.Args, "id=0,streams=v id=1,streams=a")
	// options of the output stand before its name
	n := len(make.Args)
	make.Args = slices.Concat(make.Args[:n-3], make.Args[n-2:], make.Args[n-3:n-2])
	make.Dir = dir
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	folder := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer folder.Close()
	file := filepath.Join(dir, "played.mp4")
	if _, people, err := call(t, "play", folder.URL+"/x.mpd", "--write", file, "--fast", "--policy", "mpc"); err != nil {
		t.Fatal(err, people)
	}
	for stream, want := range map[string]int{"v:0": 144, "a:0": 250} {
		out, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-select_streams", stream, "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", file).CombinedOutput()
		if n, e := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || e != nil || n < want || n > want+20 {
			t.Errorf("%s has %s frames, want about %d: %v", stream, out, want, err)
		}
	}

	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	defer write.Close()
	if err := run(t.Context(), []string{"play", folder.URL + "/x.mpd", "--write", "-", "--quiet"}, strings.NewReader(""), write, io.Discard); err != nil {
		t.Errorf("the reader went: %v", err)
	}
}
