package publish_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/publish"
	"htlcdash/lightning"
)

func TestPrice(t *testing.T) {
	video := &dash.Representation{ID: "v3", ContentType: "video", Width: 1280, Height: 720}
	upright := &dash.Representation{ID: "v4", ContentType: "video", Width: 720, Height: 1280}
	audio := &dash.Representation{ID: "a0", ContentType: "audio"}
	rungs := func(name string, r publish.Rung) map[string]publish.Rung { return map[string]publish.Rung{name: r} }
	const mb = 1_000_000
	tests := []struct {
		name   string
		policy publish.Policy
		rep    *dash.Representation
		length int64
		play   time.Duration
		want   lightning.Msat
	}{
		{"nothing said: never free", publish.Policy{}, video, mb, 4 * time.Second, 1},
		{"by bytes", publish.Policy{PerMB: 1000}, video, 2_500_000, 4 * time.Second, 2500},
		{"by time", publish.Policy{PerSecond: 100}, video, mb, 4004 * time.Millisecond, 400},
		{"both", publish.Policy{PerMB: 1000, PerSecond: 100}, video, mb, 4 * time.Second, 1400},
		{"rounded down", publish.Policy{PerMB: 1}, video, 1_499_999, 0, 1},
		{"a half rounds up", publish.Policy{PerMB: 1}, video, 1_500_000, 0, 2},
		{"floor above", publish.Policy{PerMB: 1000, Floor: 5000}, video, mb, 0, 5000},
		{"floor below", publish.Policy{PerMB: 9000, Floor: 5000}, video, mb, 0, 9000},
		{"factor by id", publish.Policy{PerMB: 1000, Rungs: rungs("v3", publish.Rung{Factor: 2.5})}, video, mb, 0, 2500},
		{"factor by height", publish.Policy{PerMB: 1000, Rungs: rungs("720p", publish.Rung{Factor: 0.1})}, video, mb, 0, 100},
		{"factor by the shorter side", publish.Policy{PerMB: 1000, Rungs: rungs("720p", publish.Rung{Factor: 3})}, upright, mb, 0, 3000},
		{"factor by kind", publish.Policy{PerMB: 1000, Rungs: rungs("audio", publish.Rung{Factor: 0.5})}, audio, mb, 0, 500},
		{"factor of another rung", publish.Policy{PerMB: 1000, Rungs: rungs("240p", publish.Rung{Factor: 9})}, video, mb, 0, 1000},
		{"the nearest name wins", publish.Policy{PerMB: 1000, Rungs: map[string]publish.Rung{"video": {Factor: 9}, "720p": {Factor: 8}, "v3": {Factor: 2}}}, video, mb, 0, 2000},
		{"factor before rounding", publish.Policy{PerMB: 3, Rungs: rungs("v3", publish.Rung{Factor: 0.5})}, video, mb, 0, 2},
		{"own price whatever the bytes", publish.Policy{PerMB: 1000, Rungs: rungs("v3", publish.Rung{PerSecond: 30})}, video, mb, 4 * time.Second, 120},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.policy.Price(tt.rep, tt.length, tt.play)
			if err != nil || got != tt.want {
				t.Errorf("%d msat, %v; want %d", got, err, tt.want)
			}
		})
	}
}

// The product of bytes and price does not fit into 64 bits; the price would not
// fit into a seal.
func TestPriceAboveAllBounds(t *testing.T) {
	p := publish.Policy{PerMB: math.MaxInt64}
	if got, err := p.Price(&dash.Representation{ID: "x"}, htlcdash.MaxSegmentLength, 0); !errors.Is(err, publish.ErrPolicy) {
		t.Errorf("%d, %v: want ErrPolicy", got, err)
	}
	p = publish.Policy{Floor: htlcdash.MaxPrice + 1}
	if got, err := p.Price(&dash.Representation{ID: "x"}, 1, 0); !errors.Is(err, publish.ErrPolicy) {
		t.Errorf("floor: %d, %v: want ErrPolicy", got, err)
	}
}

func TestPolicyRefuses(t *testing.T) {
	rung := func(r publish.Rung) publish.Policy {
		return publish.Policy{Rungs: map[string]publish.Rung{"720p": r}}
	}
	for name, p := range map[string]publish.Policy{
		"negative per MB":     {PerMB: -1},
		"negative per second": {PerSecond: -1},
		"negative floor":      {Floor: -1},
		"negative factor":     rung(publish.Rung{Factor: -1}),
		"no number":           rung(publish.Rung{Factor: math.NaN()}),
		"endless":             rung(publish.Rung{Factor: math.Inf(1)}),
		"negative own price":  rung(publish.Rung{PerSecond: -1}),
	} {
		if _, err := p.Price(&dash.Representation{ID: "x"}, 1, 0); !errors.Is(err, publish.ErrPolicy) {
			t.Errorf("%s: %v, want ErrPolicy", name, err)
		}
	}
}

func TestRungFromText(t *testing.T) {
	for in, want := range map[string]publish.Rung{
		"2.5":       {Factor: 2.5},
		" 1 ":       {Factor: 1},
		"30 msat/s": {PerSecond: 30},
		"2sat/s":    {PerSecond: 2000},
	} {
		var r publish.Rung
		if err := r.UnmarshalText([]byte(in)); err != nil || r != want {
			t.Errorf("%q is %+v, %v", in, r, err)
		}
	}
	for _, in := range []string{"", "x", "30/s", "30 msat", "-1 msat/s"} {
		var r publish.Rung
		if err := r.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q is %+v", in, r)
		}
	}
}
