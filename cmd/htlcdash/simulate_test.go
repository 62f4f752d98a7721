package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash/internal/title/titletest"
)

// write puts a text into a file of a folder that goes with the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	aTitle = `{"name": "x", "tracks": [{"kind": "video", "segments": [
		{"duration": 2000000000, "rungs": [{"id": "a", "size": 50000, "price": 1000, "quality": 9}, {"id": "b", "size": 400000, "price": 4000, "quality": 15}]},
		{"duration": 2000000000, "rungs": [{"id": "a", "size": 50000, "price": 1000, "first": 1, "quality": 9}, {"id": "b", "size": 400000, "price": 4000, "first": 1, "quality": 15}]}]}]}`
	aTrace = `[{"duration_ms": 3000, "bandwidth_kbps": 2000, "latency_ms": 50}, {"duration_ms": 3000, "bandwidth_kbps": 500, "latency_ms": 50}]`
)

func TestSimulate(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	film, trace, out := write(t, "film.json", aTitle), write(t, "train/one.json", aTrace), t.TempDir()
	file := filepath.Join(out, "all.json")
	stdout, stderr, err := call(t, "simulate", film, "--traces", filepath.Dir(trace), "--budgets", "0.6,3 sat", "--length", "20s",
		"--policies", "agent,bola,fixed-1", "--json", file, "--plot", filepath.Join(out, "charts"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 cases; 1 more whose budget", "fixed-1", "agent: median", "over budget in 0 cases: met"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if !strings.Contains(stderr, "playing 1 titles over 1 networks with 2 budgets") {
		t.Errorf("progress: %s", stderr)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var a figures
	if err := json.Unmarshal(b, &a); err != nil || a.Verdict == nil || len(a.Rows["all"]) != 3 || len(a.Cases) != 2 || a.Cases[0].Group != "train" || a.Cases[0].Trace != "one" || a.Cases[0].Title != "film" || a.Cases[0].Length != 20 || a.Cases[0].Money != 24_000 {
		t.Errorf("figures %+v: %v", a, err)
	}
	for _, name := range []string{"share.svg", "timeline.svg", "money.svg"} {
		if b, err := os.ReadFile(filepath.Join(out, "charts", name)); err != nil || !strings.Contains(string(b), "<svg") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without arguments it plays what comes with the program, and always the same.
func TestSimulateBuiltIn(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	args := []string{"simulate", "speech", "--budgets", "50 %", "--policies", "lowest,rate"}
	first, _, err := call(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := call(t, append(args, "--workers", "1")...)
	if err != nil || first != second {
		t.Errorf("two runs differ: %v\n%s\n%s", err, first, second)
	}
}

func TestSimulateSoundOnly(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	stdout, _, err := call(t, "simulate", "film", "--traces", write(t, "train/one.json", aTrace), "--budgets", "none", "--length", "10s", "--policies", "highest", "--profile", "podcast")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout, " 0.0/min  15.7 dB") { // 128 kbit/s
		t.Errorf("not the best sound alone:\n%s", stdout)
	}
}

func TestSimulateExportsASealedTitle(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	made, out := titletest.Make(t, titletest.Options{}), t.TempDir()
	if _, _, err := call(t, "simulate", made.Dir, "--export", out); err != nil {
		t.Fatal(err)
	}
	title, err := readTitle(t.Context(), filepath.Join(out, "title.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s := title.Tracks[0].Segments; len(title.Tracks) != 2 || len(s) != 5 || s[0].Rungs[1].ID != "v1" || s[0].Rungs[1].Price != 3_000 {
		t.Errorf("got %+v", title)
	}
}

func TestSimulateSaysWhatToMend(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	film, trace, empty := write(t, "film.json", aTitle), write(t, "train/one.json", aTrace), t.TempDir()
	for _, tt := range []struct {
		name string
		args []string
		text string
	}{
		{"no such title", []string{"/none"}, "htlcdash publish made"},
		{"a title that is none", []string{write(t, "x.json", "[1]")}, "--export"},
		{"a title without segments", []string{write(t, "x.json", `{"tracks": []}`)}, "0 tracks, want 1 to 8"},
		{"a folder that is no title", []string{empty}, "manifest.mpd"},
		{"no such network", []string{film, "--traces", "/none"}, "leave --traces out"},
		{"a folder without networks", []string{film, "--traces", empty}, "end with .json"},
		{"a network that is none", []string{film, "--traces", write(t, "t.json", "{}")}, "duration_ms"},
		{"a network where nothing comes", []string{film, "--traces", write(t, "t.json", `[{"duration_ms": 1, "bandwidth_kbps": 0}]`)}, "nothing ever comes through"},
		{"a budget without unit", []string{film, "--traces", trace, "--budgets", "300"}, "300 sat"},
		{"no such policy", []string{film, "--traces", trace, "--policies", "best"}, "lowest, highest, rate, bola, mpc, fixed-N; or agent"},
		{"no such profile", []string{film, "--traces", trace, "--profile", "mine"}, "data-saver"},
		{"a policy twice", []string{film, "--traces", trace, "--policies", "bola,bola"}, "stands twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := call(t, append([]string{"simulate"}, tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v, want %q", err, tt.text)
			}
			if tt.name != "a folder that is no title" && !errors.As(err, new(usageError)) {
				t.Errorf("it is no usage error: %v", err)
			}
		})
	}
}

func TestSimulateMarket(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	out := t.TempDir()
	stdout, _, err := call(t, "simulate", "market", "lying", "alone", "--segments", "100", "--runs", "2", "--json", filepath.Join(out, "m.json"), "--plot", out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout, "lying: ") || !strings.Contains(stdout, "alone: ") || !strings.Contains(stdout, "ours") || strings.Contains(stdout, "honest: ") {
		t.Errorf("table:\n%s", stdout)
	}
	b, err := os.ReadFile(filepath.Join(out, "m.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []marketRow
	if err := json.Unmarshal(b, &rows); err != nil || len(rows) == 0 || rows[0].Market != "lying" {
		t.Errorf("%d rows: %v", len(rows), err)
	}
	if _, err := os.Stat(filepath.Join(out, "market.svg")); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"flea"}, {"--runs", "0"}} {
		if _, _, err := call(t, append([]string{"simulate", "market"}, args...)...); !errors.As(err, new(usageError)) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestSimulateCache(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	out := t.TempDir()
	args := []string{
		"simulate", "cache", "--alphas", "0.8", "--sizes", "20,5", "--titles", "40", "--requests", "4000",
		"--json", filepath.Join(out, "c.json"), "--plot", out,
	}
	stdout, _, err := call(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"alpha 0.8, a cache of 5 %", "a cache of 20 %", "W-TinyLFU", "of bound", "buying ahead, alpha 0.8", "at most 1000 sat"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	again, _, err := call(t, args...)
	if err != nil || again != stdout {
		t.Errorf("two runs differ: %v\n%s\n%s", err, stdout, again)
	}
	b, err := os.ReadFile(filepath.Join(out, "c.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f cacheFigures
	if err := json.Unmarshal(b, &f); err != nil || len(f.Cases) != 2 || f.Cases[0].Size != 0.05 || len(f.Cases[0].Rows) < 5 || len(f.Forecasts) < 3 {
		t.Errorf("figures %+v: %v", f, err)
	}
	if b, err := os.ReadFile(filepath.Join(out, "saved.svg")); err != nil || !strings.Contains(string(b), "<svg") {
		t.Errorf("no chart: %v", err)
	}
	for _, args := range [][]string{{"--sizes", "0"}, {"--sizes", "200"}, {"--alphas", "9"}, {"--requests", "3"}, {"--segments", "1"}} {
		if _, _, err := call(t, append([]string{"simulate", "cache"}, args...)...); !errors.As(err, new(usageError)) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
