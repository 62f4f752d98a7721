package replay_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"htlcdash/agent/replay"
)

// slowly walks through a recording stretch by stretch.
func slowly(steps []replay.Stretch, asked time.Duration, size int64) float64 {
	length := 0.0
	for _, s := range steps {
		length += s.Duration.Seconds()
	}
	at := asked.Seconds()
	begin := math.Floor(at/length) * length
	left := float64(size) * 8
	first := true
	for {
		end := begin
		for _, s := range steps {
			begin, end = end, end+s.Duration.Seconds()
			if at >= end-1e-12 {
				continue
			}
			if first {
				first = false
				at += s.Latency.Seconds()
				if at >= end {
					continue
				}
			}
			if can := s.Rate * (end - at); can < left {
				left -= can
				at = end
				continue
			}
			if s.Rate > 0 {
				at += left / s.Rate
			}
			return at
		}
		begin = end
	}
}

func TestArrivalIsExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for n := range 2000 {
		var steps []replay.Stretch
		for range 1 + rnd.IntN(6) {
			s := replay.Stretch{Duration: time.Duration(1+rnd.IntN(3000)) * time.Millisecond, Rate: float64(rnd.IntN(8)) * 1e6, Latency: time.Duration(rnd.IntN(5)) * 300 * time.Millisecond}
			steps = append(steps, s)
		}
		steps = append(steps, replay.Stretch{Duration: 500 * time.Millisecond, Rate: 2e6})
		l, err := replay.NewLink("", steps)
		if err != nil {
			t.Fatal(err)
		}
		asked := time.Duration(rnd.Int64N(int64(3 * l.Length())))
		size := int64(rnd.IntN(4_000_000))
		got, want := l.Arrival(asked, size), slowly(steps, asked, size)
		if d := got.Seconds() - want; size > 0 && math.Abs(d) > 1e-6 {
			t.Fatalf("case %d: %d bytes asked for at %v are here at %v, want %.9f s\n%v", n, size, asked, got, want, steps)
		}
		if came := l.Received(asked, got); came < size-1 {
			t.Errorf("case %d: all is here at %v, but only %d of %d bytes were received", n, got, came, size)
		}
		if before := got - time.Millisecond; l.Received(asked, before) > size {
			t.Errorf("case %d: more than all was received before the end", n)
		}
	}
}

func TestArrivalAtEdges(t *testing.T) {
	l, err := replay.NewLink("", []replay.Stretch{
		{Duration: time.Second, Rate: 8e6},
		{Duration: time.Second, Rate: 0},
		{Duration: time.Second, Rate: 8e6, Latency: 100 * time.Millisecond},
		{Duration: time.Second, Rate: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		asked time.Duration
		size  int64
		want  time.Duration
	}{
		{"nothing", 0, 0, 0},
		{"nothing, in an outage", 1500 * time.Millisecond, 0, 1500 * time.Millisecond},
		{"all of a stretch, and not the outage after it", 0, 1e6, time.Second},
		{"one byte more", 0, 1e6 + 1, 2*time.Second + time.Microsecond},
		{"asked for in an outage", time.Second, 1e5, 2100 * time.Millisecond},
		{"all of a round", 0, 2e6, 3 * time.Second},
		{"all of two rounds", 0, 4e6, 7 * time.Second},
		{"after latency that reaches into an outage", 2950 * time.Millisecond, 1, 4*time.Second + time.Microsecond},
		{"in a later round", 4e9 * time.Second / 1e9, 1e5, 4100 * time.Millisecond},
		{"never", 0, 1 << 41, replay.Never},
	} {
		if got := l.Arrival(tt.asked, tt.size); got != tt.want {
			t.Errorf("%s: %d bytes asked for at %v are here at %v, want %v", tt.name, tt.size, tt.asked, got, tt.want)
		}
	}
}

func TestBadTraces(t *testing.T) {
	for _, tt := range []struct{ name, json string }{
		{"nothing", ``},
		{"no list", `{}`},
		{"no stretch", `[]`},
		{"more after it", `[{"duration_ms":1000,"bandwidth_kbps":1000,"latency_ms":0}] []`},
		{"nothing comes through", `[{"duration_ms":1000,"bandwidth_kbps":0,"latency_ms":0}]`},
		{"it has no length", `[{"duration_ms":0,"bandwidth_kbps":10,"latency_ms":0}]`},
		{"a negative rate", `[{"duration_ms":1000,"bandwidth_kbps":-1,"latency_ms":0}]`},
		{"a stretch of years", `[{"duration_ms":1e14,"bandwidth_kbps":1,"latency_ms":0}]`},
		{"too fast", `[{"duration_ms":1,"bandwidth_kbps":1e12,"latency_ms":0}]`},
	} {
		if _, err := replay.ParseLink("", []byte(tt.json)); !errors.Is(err, replay.ErrTrace) {
			t.Errorf("%s gave error %v, want %v", tt.name, err, replay.ErrTrace)
		}
	}
}

func TestSynthetic(t *testing.T) {
	for _, tt := range []struct {
		kind      string
		low, high float64 // of the mean, Mbit/s
		outages   bool
	}{
		{replay.Steady, 4, 6, false},
		{replay.Slow, 0.6, 1.1, false},
		{replay.Mobile, 0.5, 8, true},
		{replay.Fiber, 70, 95, false},
	} {
		quiet := time.Duration(0)
		for seed := range uint64(20) {
			l := replay.Synthetic(seed, tt.kind)
			if m := l.Mean() / 1e6; m < tt.low || m > tt.high {
				t.Errorf("%s: %.2f Mbit/s, want %v to %v", l.Name, m, tt.low, tt.high)
			}
			for at := time.Duration(0); at < l.Length(); at += time.Second {
				if s := l.At(at); s.Rate == 0 {
					quiet += time.Second
				}
			}
			if again := replay.Synthetic(seed, tt.kind); again.Mean() != l.Mean() || again.Length() != l.Length() {
				t.Errorf("%s is not the same twice", l.Name)
			}
		}
		if (quiet > 0) != tt.outages {
			t.Errorf("%s: outages of %v, want any: %v", tt.kind, quiet, tt.outages)
		}
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add([]byte(`[{"duration_ms":1000,"bandwidth_kbps":5000,"latency_ms":20}]`), int64(0), int64(1000))
	f.Add([]byte(`[{"duration_ms":0.5,"bandwidth_kbps":0.016,"latency_ms":86400000},{"duration_ms":1,"bandwidth_kbps":0,"latency_ms":0}]`), int64(5e9), int64(1<<40))
	f.Add([]byte(`[{"duration_ms":1,"bandwidth_kbps":1e-3,"latency_ms":0},{"duration_ms":86400000,"bandwidth_kbps":1e9,"latency_ms":3}]`), int64(1), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, asked, size int64) {
		l, err := replay.ParseLink("", b)
		if err != nil {
			if !errors.Is(err, replay.ErrTrace) {
				t.Fatalf("error %v does not match %v", err, replay.ErrTrace)
			}
			return
		}
		at, size := time.Duration(asked&(1<<50-1)), size&(1<<40-1)
		here := l.Arrival(at, size)
		if here < at || here > at+replay.Never+24*time.Hour {
			t.Fatalf("%d bytes asked for at %v are here at %v", size, at, here)
		}
		if more := l.Arrival(at, size+1000); more < here {
			t.Fatalf("%d bytes are here at %v, more at %v", size, here, more)
		}
	})
}
