package bench_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"htlcdash/internal/bench"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		name string
		of   []float64
		want float64
	}{
		{"nothing", nil, 0},
		{"one", []float64{7}, 7},
		{"odd, unordered", []float64{9, 1, 5}, 5},
		{"even: the middle of two", []float64{4, 1, 2, 100}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := bench.Median(c.of); got != c.want {
				t.Errorf("median of %v is %v, want %v", c.of, got, c.want)
			}
		})
	}
}

func TestMedianLeavesTheOrder(t *testing.T) {
	v := []float64{3, 1, 2}
	bench.Median(v)
	if v[0] != 3 || v[1] != 1 || v[2] != 2 {
		t.Errorf("it sorted its argument: %v", v)
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct {
		v       float64
		rounded float64
		text    string
	}{
		{0, 0, "0"},
		{3, 3, "3"},
		{123456, 123500, "123456"},
		{0.00123456, 0.001235, "0.00"},
		{12.345, 12.35, "12.3"},
		{-5.4321, -5.432, "-5.43"},
	} {
		if got := bench.Round(c.v); got != c.rounded {
			t.Errorf("%v is rounded to %v, want %v", c.v, got, c.rounded)
		}
		if got := bench.Figure(c.v); got != c.text {
			t.Errorf("%v is printed %q, want %q", c.v, got, c.text)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(*bench.Report)
		short bool
	}{
		{"a ratio that is kept", func(r *bench.Report) { r.Beside("", "", "ours", "theirs", "x", 0.8) }, false},
		{"a ratio that is not", func(r *bench.Report) { r.Beside("", "", "ours", "theirs", "x", 0.95) }, true},
		{"a ratio without a bound", func(r *bench.Report) { r.Beside("", "", "ours", "theirs", "x", 0) }, false},
		{"at most, just", func(r *bench.Report) { r.AtMost("", "MB", 150, 150) }, false},
		{"too much", func(r *bench.Report) { r.AtMost("", "MB", 151, 150) }, true},
		{"steady", func(r *bench.Report) { r.Growth(101, 100) }, false},
		{"shrunk", func(r *bench.Report) { r.Growth(50, 100) }, false},
		{"grown", func(r *bench.Report) { r.Growth(150, 100) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &bench.Report{Samples: map[string][]float64{"ours": {90, 90}, "theirs": {100, 90, 110}}}
			c.make(r)
			if r.Short() != c.short {
				t.Errorf("short: %v, want %v: %+v", r.Short(), c.short, r.Rows)
			}
		})
	}
}

func TestStart(t *testing.T) {
	for _, c := range []struct {
		name   string
		paid   float64 // ms
		stalls float64
		short  bool
	}{
		{"as quick as allowed", 640, 1, false}, // 500 + 1.2 * 75 + 50
		{"too slow", 641, 1, true},
		{"quicker than free", 480, 0, false},
		{"a stall more", 600, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &bench.Report{Samples: map[string][]float64{
				"free start-up": {500, 490, 510}, "one channel start-up": {c.paid}, "raw payment, one channel": {75, 70, 80},
				"free stalls": {0, 1}, "one channel stalls": {c.stalls, 0},
			}}
			bench.StartRows(r)
			if r.Short() != c.short {
				t.Errorf("short: %v, want %v: %+v", r.Short(), c.short, r.Rows)
			}
		})
	}
}

func TestTable(t *testing.T) {
	r := &bench.Report{
		Name: "bytes", Rounds: 5, Notes: []string{"a note"},
		Samples: map[string][]float64{"ours": {812}, "theirs": {1000}},
	}
	r.Beside("sealed bytes", "MB/s", "ours", "theirs", "nginx", 0.8)
	r.AtMost("memory", "MB", 151.4, 150)
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"bytes (", "5 rounds", "a note",
		"sealed bytes  812 MB/s  1000 MB/s, nginx  0.81   >= 0.8     ok",
		"memory        151 MB                             <= 150 MB  short",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestFlowDoesEachItemOnce(t *testing.T) {
	items := make([]int, 300)
	for i := range items {
		items[i] = i
	}
	var mu sync.Mutex
	done := map[int]int{}
	prepare := func(_ context.Context, list []int) ([]int, error) { return list, nil }
	rate, err := bench.Flow(t.Context(), items, 10, prepare, func(_ context.Context, i int) error {
		mu.Lock()
		defer mu.Unlock()
		done[i]++
		return nil
	})
	if err != nil || rate <= 0 {
		t.Fatal(rate, err)
	}
	for i := range items {
		if done[i] != 1 {
			t.Errorf("item %d was done %d times", i, done[i])
		}
	}
}

func TestFlowEnds(t *testing.T) {
	broken := errors.New("broken")
	fine := func(_ context.Context, list []int) ([]int, error) { return list, nil }
	for _, c := range []struct {
		name    string
		prepare func(context.Context, []int) ([]int, error)
		do      func(context.Context, int) error
	}{
		{"when an item fails", fine, func(context.Context, int) error { return broken }},
		{"when a batch fails", func(context.Context, []int) ([]int, error) { return nil, broken }, func(context.Context, int) error { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := bench.Flow(t.Context(), make([]int, 1000), 3, c.prepare, c.do); !errors.Is(err, broken) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestCheckSaysHowToGetWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	nowhere := bench.Config{Program: "missing/htlcdash", Film: "missing/film.mp4", Browser: "missing/browser/watch.mjs"}
	for _, m := range bench.All() {
		err := m.Check(nowhere)
		if err == nil || !strings.Contains(err.Error(), "make build") {
			t.Errorf("%s: %v", m.Name, err)
		}
		if m.Name == "start" {
			for _, want := range []string{"make film", "npm ci --prefix missing/browser", "apt-get install chromium"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: no %q in %v", m.Name, want, err)
				}
			}
		}
	}
}

func TestCPU(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("only Linux tells the time of a process by files")
	}
	if v, err := bench.CPUOf(os.Getpid()); err != nil || v < 0 {
		t.Errorf("%v s, %v", v, err)
	}
}

func TestBusyShare(t *testing.T) {
	for _, c := range []struct {
		name        string
		before, now string
		want        float64
		ok          bool
	}{
		{"half", "cpu  10 0 10 100 0 0 0 0 0 0\n", "cpu  15 1 12 107 1 0 0 0 0 0\ncpu0 1", 0.5, true},
		{"waiting for a disk is idle", "cpu 0 0 0 0 0 0 0 0", "cpu 0 0 0 5 5 0 0 0", 0, true},
		{"the same moment", "cpu 1 0 0 5 5 0 0 0", "cpu 1 0 0 5 5 0 0 0", 0, true},
		{"another file", "intr 1 0 0 5 5 0 0 0", "cpu 1 0 0 5 5 0 0 0", 1.0 / 11, false},
		{"no numbers", "cpu 1 0 0 5 5 0 0 0", "cpu a b c d e f g h", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := bench.BusyShare(c.before, c.now); ok != c.ok || got != c.want {
				t.Errorf("%v, %v; want %v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}
