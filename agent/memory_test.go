package agent_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"htlcdash/agent"
)

// session is a number of downloads at a rate in bit/s.
func session(n int, rate float64) (past []agent.Download) {
	at := time.Duration(0)
	for range n {
		d := agent.Download{At: at, Size: 500_000, Took: time.Duration(500_000 * 8 / rate * 1e9)}
		past = append(past, d)
		at += max(d.Took, 2*time.Second)
	}
	return past
}

func TestMemoryFadesAndIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	if p := (agent.Memory{}).Prior(now); p != 0 {
		t.Errorf("nothing is remembered as %v bit/s", p)
	}
	unknown := agent.Memory{Rate: 1e6, At: now.Add(-100 * 365 * 24 * time.Hour)}.Prior(now) // what is thought without any
	for _, rate := range []float64{4e5, 2e7} {
		m := agent.Memory{}.Learn(session(60, rate), now)
		if p := m.Prior(now); math.Abs(math.Log(p/rate)) > 0.35 {
			t.Errorf("%.2g bit/s are remembered as %.2g", rate, p)
		}
		before := math.Inf(1)
		for _, age := range []time.Duration{0, 24 * time.Hour, 7 * 24 * time.Hour, 60 * 24 * time.Hour} {
			off := math.Abs(math.Log(m.Prior(now.Add(age)) / unknown))
			if off >= before {
				t.Errorf("after %v %.2g bit/s are believed no less than before", age, m.Prior(now.Add(age)))
			}
			before = off
		}
		if before > 0.01 {
			t.Errorf("after two months %.2g bit/s are left of %.2g", m.Prior(now.Add(60*24*time.Hour)), rate)
		}
		if early := m.Prior(now.Add(-time.Hour)); early != m.Prior(now) { // a clock that was set back
			t.Errorf("before it was measured it is %v", early)
		}
	}
	for _, tt := range []struct{ rate, least, most float64 }{{1e3, 1e4, 1.1e5}, {9e9, 9e7, 1.1e8}} {
		if p := (agent.Memory{}).Learn(session(20, tt.rate), now).Prior(now); p < tt.least || p > tt.most {
			t.Errorf("%.2g bit/s are remembered as %.2g, want %.2g to %.2g", tt.rate, p, tt.least, tt.most)
		}
	}
}

func TestMemoryLearns(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	old := agent.Memory{}.Learn(session(60, 2e7), now)
	if m := old.Learn(session(1, 1e6)[:0], now); m != old {
		t.Errorf("learnt %v of nothing", m)
	}
	if m := old.Learn([]agent.Download{{Size: 2000, Took: time.Second}}, now); m != old {
		t.Errorf("learnt %v of 2 kB", m)
	}
	short, long := old.Learn(session(1, 1e6), now).Rate, old.Learn(session(100, 1e6), now).Rate
	if !(long < 1.5e6 && long < short && short < old.Rate) {
		t.Errorf("of %.2g, %.2g are left after a short session at 1 Mbit/s, %.2g after a long one", old.Rate, short, long)
	}
}

func TestParseMemory(t *testing.T) {
	want := agent.Memory{}.Learn(session(60, 2e7), time.Unix(1_800_000_000, 0))
	got, err := agent.ParseMemory(want.String())
	if err != nil || !got.At.Equal(want.At) || math.Abs(got.Rate-want.Rate) > 1 {
		t.Errorf("%v is read as %v, %v", want, got, err)
	}
	for _, bad := range []string{"", "fast", "5000000", "5000000 now", "NaN 5", "1e300 5", "12 5", "-5000000 5", "5000000 -5", "5000000 5 5", "5000000 9999999999999999999"} {
		if m, err := agent.ParseMemory(bad); !errors.Is(err, agent.ErrMemory) {
			t.Errorf("%q is read as %v, %v", bad, m, err)
		}
	}
}
