package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"
)

// ErrTrace means that a recording of a network makes no sense.
var ErrTrace = errors.New("replay: not a trace")

// Bounds of a recording.
const (
	MaxSteps = 1 << 20
	maxStep  = 24 * time.Hour
	maxKbps  = 1e9
)

// A Stretch is a time in which the network did not change.
type Stretch struct {
	Duration time.Duration
	Rate     float64       // bit/s
	Latency  time.Duration // from a request to its first byte
}

// A Link is a recorded network, played in a loop. It is not changed; many
// goroutines may ask it at once.
type Link struct {
	Name   string
	steps  []Stretch
	starts []time.Duration // of each stretch
	bits   []float64       // that came before each stretch
	length time.Duration
	total  float64 // bits of one round
}

// NewLink returns a link from a recording. The error matches [ErrTrace].
func NewLink(name string, steps []Stretch) (*Link, error) {
	if len(steps) == 0 || len(steps) > MaxSteps {
		return nil, fmt.Errorf("%w: %d stretches, want 1 to %d", ErrTrace, len(steps), MaxSteps)
	}
	l := &Link{Name: name, steps: slices.Clone(steps)}
	for i, s := range steps {
		if s.Duration <= 0 || s.Duration > maxStep || s.Rate < 0 || math.IsNaN(s.Rate) || s.Rate > maxKbps*1000 || s.Latency < 0 || s.Latency > maxStep {
			return nil, fmt.Errorf("%w: stretch %d is out of range", ErrTrace, i)
		}
		l.starts, l.bits = append(l.starts, l.length), append(l.bits, l.total)
		l.length += s.Duration
		l.total += s.Rate * s.Duration.Seconds()
	}
	if l.length > 1<<20*time.Second {
		return nil, fmt.Errorf("%w: it lasts %v", ErrTrace, l.length)
	}
	if l.total < 8 {
		return nil, fmt.Errorf("%w: nothing ever comes through", ErrTrace)
	}
	return l, nil
}

// ParseLink reads a recording as Sabre writes them: a JSON list of
// {duration_ms, bandwidth_kbps, latency_ms}. The error matches [ErrTrace].
func ParseLink(name string, b []byte) (*Link, error) {
	var list []struct {
		Duration  float64 `json:"duration_ms"`
		Bandwidth float64 `json:"bandwidth_kbps"`
		Latency   float64 `json:"latency_ms"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTrace, err)
	}
	if len(list) > MaxSteps {
		return nil, fmt.Errorf("%w: more than %d stretches", ErrTrace, MaxSteps)
	}
	steps := make([]Stretch, 0, len(list))
	for i, s := range list {
		const most = float64(maxStep / time.Millisecond)
		if !(s.Duration >= 0 && s.Duration <= most && s.Bandwidth >= 0 && s.Bandwidth <= maxKbps && s.Latency >= 0 && s.Latency <= most) {
			return nil, fmt.Errorf("%w: stretch %d is out of range", ErrTrace, i)
		}
		d := time.Duration(s.Duration * float64(time.Millisecond))
		if d == 0 {
			continue
		}
		steps = append(steps, Stretch{d, s.Bandwidth * 1000, time.Duration(s.Latency * float64(time.Millisecond))})
	}
	return NewLink(name, steps)
}

// Mean is the mean rate of one round, in bit/s.
func (l *Link) Mean() float64 { return l.total / l.length.Seconds() }

// Length is how long one round lasts.
func (l *Link) Length() time.Duration { return l.length }

// At returns the stretch that is on at a time.
func (l *Link) At(t time.Duration) Stretch { return l.steps[l.index(t%l.length)] }

func (l *Link) index(t time.Duration) int {
	return sort.Search(len(l.starts), func(i int) bool { return l.starts[i] > t }) - 1
}

// came is the number of bits that the link could carry until a time.
func (l *Link) came(t time.Duration) float64 {
	rounds, rest := t/l.length, t%l.length
	i := l.index(rest)
	return float64(rounds)*l.total + l.bits[i] + l.steps[i].Rate*(rest-l.starts[i]).Seconds()
}

// Arrival is when the last of size bytes is here that are asked for at a time.
func (l *Link) Arrival(asked time.Duration, size int64) time.Duration {
	from := asked + l.At(asked).Latency
	want := l.came(from) + float64(size)*8
	rounds := math.Floor(want / l.total)
	rest := want - rounds*l.total
	// the first stretch at whose end enough has come
	i := sort.Search(len(l.bits), func(i int) bool { return l.bits[i] >= rest }) - 1
	if i < 0 { // exactly at the end of a round
		if rounds == 0 {
			return from
		}
		return max(from, time.Duration(rounds)*l.length-l.quietEnd())
	}
	in := time.Duration(math.Ceil((rest - l.bits[i]) / l.steps[i].Rate * float64(time.Second)))
	return max(from, time.Duration(rounds)*l.length+l.starts[i]+min(in, l.steps[i].Duration))
}

// quietEnd is how long before the end of a round its last bit comes.
func (l *Link) quietEnd() (quiet time.Duration) {
	for _, s := range slices.Backward(l.steps) {
		if s.Rate > 0 {
			return quiet
		}
		quiet += s.Duration
	}
	return quiet
}

// Received is how many bytes are here, at a time, of what was asked for before.
func (l *Link) Received(asked, now time.Duration) int64 {
	from := asked + l.At(asked).Latency
	if now <= from {
		return 0
	}
	return int64((l.came(now) - l.came(from)) / 8)
}
