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
	total  float64  // bits of one round
	better []chance // after each stretch
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
	l.better = chances(l.steps, l.starts, l.length)
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

// A position is a point of a recording.
type position struct {
	at    time.Duration // since the beginning
	round time.Duration // when the round of it began
	step  int           // stretch of the round
	bits  float64       // that came in this round before
}

func (l *Link) position(t time.Duration) position {
	rest := t % l.length
	i := l.index(rest)
	return position{t, t - rest, i, l.bits[i] + l.steps[i].Rate*(rest-l.starts[i]).Seconds()}
}

// until is the number of bits that the link could carry up to a position.
func (l *Link) until(p position) float64 {
	return float64(p.round/l.length)*l.total + p.bits
}

// Never is how long a download takes at most. What takes longer never comes.
const Never = 366 * 24 * time.Hour / 12

// Arrival is when the last of size bytes is here that are asked for at a time,
// [Never] after it at the latest.
func (l *Link) Arrival(asked time.Duration, size int64) time.Duration {
	return l.arrival(l.position(asked+l.At(asked).Latency), size)
}

// arrival is when size bytes have come since a position.
func (l *Link) arrival(p position, size int64) time.Duration {
	want, round, i := p.bits+float64(size)*8, p.round, p.step
	if want > l.total {
		rounds := math.Ceil(want/l.total) - 1
		if rounds*float64(l.length) > float64(Never) {
			return p.at + Never
		}
		want, round, i = want-rounds*l.total, round+time.Duration(rounds)*l.length, 0
	}
	// what has come up to a rounding error has come: an hour without network
	// may be next
	i = l.after(i, want*(1-1e-13))
	in := time.Duration(0)
	if missing := want - l.bits[i]; missing > 0 && l.steps[i].Rate > 0 {
		in = time.Duration(math.Ceil(missing / l.steps[i].Rate * float64(time.Second)))
	}
	return min(max(p.at, round+l.starts[i]+min(in, l.steps[i].Duration)), p.at+Never)
}

// after is the first stretch, from one on, at whose end enough has come in its
// round. It is near as a rule.
func (l *Link) after(i int, want float64) int {
	last := len(l.steps) - 1
	for near := min(i+8, last); i < near; i++ {
		if l.bits[i+1] >= want {
			return i
		}
	}
	return i + sort.Search(last-i, func(k int) bool { return l.bits[i+k+1] >= want })
}

// Received is how many bytes are here, at a time, of what was asked for before.
func (l *Link) Received(asked, now time.Duration) int64 {
	from := asked + l.At(asked).Latency
	if now <= from {
		return 0
	}
	return int64((l.until(l.position(now)) - l.until(l.position(from))) / 8)
}

// soonest returns when to ask, at a time or after it, so that the first byte
// is here first: a long latency may end soon.
func (l *Link) soonest(t time.Duration) (ask, first time.Duration) {
	rest := t % l.length
	i := l.index(rest)
	ask, first = t, t+l.steps[i].Latency
	if later := l.better[i]; later.first+t-rest < first {
		return later.ask + t - rest, later.first + t - rest
	}
	return ask, first
}

// A chance is a time to ask, and when the first byte is here then; both since
// the beginning of a round.
type chance struct{ ask, first time.Duration }

// chances returns the best chance after the end of each stretch. Within a round
// all there is comes by.
func chances(steps []Stretch, starts []time.Duration, length time.Duration) []chance {
	out := make([]chance, len(steps))
	best := chance{first: math.MaxInt64}
	for round := length; round >= 0; round -= length {
		for i := len(steps) - 1; i >= 0; i-- {
			out[i] = chance{best.ask - round, best.first - round}
			if own := round + starts[i] + steps[i].Latency; own <= best.first {
				best = chance{round + starts[i], own}
			}
		}
	}
	return out
}
