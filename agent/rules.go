package agent

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The rules in this file are what players do today. None of them looks at
// prices; they stand here to be compared with.

// ErrRule means that no rule has that name.
var ErrRule = errors.New("agent: no such rule")

// Rules are the names that [Rule] knows. Besides, fixed-N is rung N.
func Rules() []string { return []string{"lowest", "highest", "rate", "bola", "mpc"} }

// Rule makes a rule by its name for a title. The error matches [ErrRule].
func Rule(name string, t *Title, w Weights) (Policy, error) {
	switch name {
	case "lowest":
		return NewFixed(t, 0), nil
	case "highest":
		return NewFixed(t, MaxRungs), nil
	case "rate":
		return NewThroughput(t), nil
	case "bola":
		return NewBOLA(t), nil
	case "mpc":
		return NewRobustMPC(t, w), nil
	}
	digits, ok := strings.CutPrefix(name, "fixed-")
	rung, err := strconv.ParseUint(digits, 10, 8)
	if !ok || err != nil {
		return nil, fmt.Errorf("%w: %q is not among %s, fixed-N", ErrRule, name, strings.Join(Rules(), ", "))
	}
	return NewFixed(t, int(rung)), nil
}

// Fixed takes the same rung always.
type Fixed struct {
	title *Title
	rung  int
}

// NewFixed returns the policy that takes a rung, or the best one where there
// are fewer.
func NewFixed(t *Title, rung int) *Fixed { return &Fixed{t, rung} }

// Decide implements [Policy].
func (f *Fixed) Decide(s State) Decision {
	return Decision{Rung: max(0, min(f.rung, len(f.title.due(s).Rungs)-1))}
}

// due is the segment that a state is about.
func (t *Title) due(s State) Segment { return t.Tracks[s.Track].Segments[s.Next[s.Track]] }

// recent is how many downloads the rules learn from.
const recent = 5

// rounds returns the rates of up to n downloads, the newest first. Where tracks
// alternate, as many downloads as there are tracks count as one: a second of
// sound is mostly latency and would make the network look slow.
func rounds(s State, n int) (rates []float64) {
	size := max(len(s.Next), 1)
	for end := len(s.Past); end >= size && len(rates) < n; end -= size {
		var sum Download
		for _, d := range s.Past[end-size : end] {
			sum.Size += d.Size
			sum.Took += d.Took
		}
		rates = append(rates, max(sum.Rate(), 1))
	}
	return rates
}

// harmonic is the harmonic mean. It is led by the slowest, as playback is.
func harmonic(rates []float64) float64 {
	sum := 0.0
	for _, r := range rates {
		sum += 1 / r
	}
	return float64(len(rates)) / sum
}

// Rates are the mean bit rates of the Representations that the rungs belong to,
// as a manifest declares them: by segment and rung, bit/s.
func (t *Track) Rates() [][]float64 {
	type sum struct{ bits, seconds float64 }
	type representation struct { // a place tells apart those that have no ID
		place int
		id    string
	}
	sums := map[representation]*sum{}
	for _, seg := range t.Segments {
		for r, g := range seg.Rungs {
			of := representation{r, g.ID}
			if sums[of] == nil {
				sums[of] = &sum{}
			}
			sums[of].bits += float64(g.Size) * 8
			sums[of].seconds += seg.Duration.Seconds()
		}
	}
	out := make([][]float64, len(t.Segments))
	for i, seg := range t.Segments {
		for r, g := range seg.Rungs {
			all := sums[representation{r, g.ID}]
			out[i] = append(out[i], all.bits/all.seconds)
		}
	}
	return out
}

// rates knows the bit rates of a title.
type rates struct {
	title *Title
	mean  [][][]float64 // by track, segment and rung
}

func newRates(t *Title) rates {
	out := rates{title: t}
	for k := range t.Tracks {
		out.mean = append(out.mean, t.Tracks[k].Rates())
	}
	return out
}

// spare is what a rate leaves for the track that is due when the other tracks
// go on as they are: at least a tenth.
func (m rates) spare(s State, rate float64) float64 {
	left := rate
	for k, track := range m.title.Tracks {
		if k == s.Track || s.Next[k] == len(track.Segments) {
			continue
		}
		rungs := m.mean[k][s.Next[k]]
		left -= rungs[max(0, min(s.Last[k], len(rungs)-1))]
	}
	return max(left, rate/10)
}

// Throughput is the rule of rates: the best rung whose bit rate is below nine
// tenths of the harmonic mean of the last five downloads (as in FESTIVE, Jiang
// et al., CoNEXT 2012), and the lowest until there is one.
type Throughput struct{ rates rates }

// NewThroughput returns the rule for a title.
func NewThroughput(t *Title) *Throughput { return &Throughput{newRates(t)} }

// Decide implements [Policy].
func (p *Throughput) Decide(s State) Decision {
	known := rounds(s, recent)
	if len(known) == 0 {
		return Decision{}
	}
	safe := p.rates.spare(s, 0.9*harmonic(known))
	best := 0
	for r, rate := range p.rates.mean[s.Track][s.Next[s.Track]] {
		if rate <= safe {
			best = r
		}
	}
	return Decision{Rung: best}
}

// BOLA decides by the buffer alone: BOLA-BASIC of Spiteri, Urgaonkar and
// Sitaraman, INFOCOM 2016, section IV. It takes the rung with the most
//
//	(V * (u + gp) - buffer) / size,   u = ln(size / size of the lowest)
//
// where V makes the best rung worth nothing when the buffer has room for no
// more than the segment, and gp is 5, as in Sabre. Sizes are those of the very
// segment, as the paper has it for films of variable rate.
type BOLA struct{ title *Title }

// NewBOLA returns the rule for a title.
func NewBOLA(t *Title) *BOLA { return &BOLA{t} }

// gp is gamma*p of the paper: how much smoothness counts beside utility.
const gp = 5

// Decide implements [Policy].
func (p *BOLA) Decide(s State) Decision {
	seg := p.title.due(s)
	utility := func(r int) float64 {
		return math.Log(float64(max(seg.Rungs[r].Size, 1)) / float64(max(seg.Rungs[0].Size, 1)))
	}
	room := max(s.Most-seg.Duration, seg.Duration).Seconds()
	v := room / (utility(len(seg.Rungs)-1) + gp)
	buffer := s.Buffer[s.Track].Seconds()
	best, most := 0, math.Inf(-1)
	for r, g := range seg.Rungs {
		score := (v*(utility(r)+gp) - buffer) / float64(max(g.Size, 1))
		if score > most {
			best, most = r, score
		}
	}
	// a buffer that is worth more than any rung is played first
	over := buffer - v*(utility(best)+gp)
	return Decision{Rung: best, Wait: max(0, time.Duration(over*float64(time.Second)))}
}

// RobustMPC looks five segments ahead (Yin et al., SIGCOMM 2015, section 5). It
// takes the network to be as fast as the harmonic mean of the last five
// downloads, divided by one and the largest error that this forecast had among
// them, and finds the rungs of the next five segments that are best by the
// [Weights]. Of these the first is taken.
type RobustMPC struct {
	rates   rates
	weights Weights
}

// NewRobustMPC returns the rule for a title.
func NewRobustMPC(t *Title, w Weights) *RobustMPC { return &RobustMPC{newRates(t), w} }

// Bounds of the search: segments ahead, and rung sequences. Ladders of more
// than seven rungs are looked at over fewer segments.
const (
	horizon = 5
	maxWays = 20_000
)

// Decide implements [Policy].
func (p *RobustMPC) Decide(s State) Decision {
	rate := forecast(s)
	if rate == 0 {
		return Decision{}
	}
	track := &p.rates.title.Tracks[s.Track]
	next := s.Next[s.Track]
	ahead := search{
		rate: p.rates.spare(s, rate), most: s.Most.Seconds(), weights: p.weights, kind: p.weights.Of(track.Kind),
		value: math.Inf(-1),
	}
	ways := 1
	for _, seg := range track.Segments[next:] {
		ways *= len(seg.Rungs)
		if n := len(ahead.segments); n == horizon || n > 0 && ways > maxWays {
			break
		}
		ahead.segments = append(ahead.segments, seg)
	}
	before := math.NaN()
	if last := s.Last[s.Track]; last >= 0 && next > 0 {
		rungs := track.Segments[next-1].Rungs
		before = rungs[min(last, len(rungs)-1)].Quality
	}
	ahead.bound()
	ahead.try(0, 0, before, s.Buffer[s.Track].Seconds(), 0)
	return Decision{Rung: ahead.best}
}

// forecast is the rate that RobustMPC reckons with, 0 if nothing is known.
func forecast(s State) float64 {
	known := rounds(s, 2*recent)
	if len(known) == 0 {
		return 0
	}
	worst := 0.0
	for i := 0; i < recent && i+1 < len(known); i++ {
		said := harmonic(known[i+1 : min(i+1+recent, len(known))])
		worst = max(worst, math.Abs(said-known[i])/known[i])
	}
	return harmonic(known[:min(recent, len(known))]) / (1 + worst)
}

// A search is one look ahead: depth first, and no further where even the best
// quality without any loss would not be enough.
type search struct {
	segments []Segment
	rate     float64 // bit/s
	most     float64 // seconds in the buffer
	weights  Weights
	kind     float64              // weight of a decibel
	rest     [horizon + 1]float64 // the most that the segments from here on can add

	best  int     // the first rung of the best way
	value float64 // its value
}

func (a *search) bound() {
	for i := len(a.segments) - 1; i >= 0; i-- {
		top := math.Inf(-1)
		for _, g := range a.segments[i].Rungs {
			top = max(top, g.Quality)
		}
		a.rest[i] = a.rest[i+1] + a.kind*top
	}
}

// try goes on from a value that was reached with a buffer, after a segment of
// the quality before, on a way that began with rung first.
func (a *search) try(i int, value, before, buffer float64, first int) {
	if value+a.rest[i] <= a.value {
		return
	}
	if i == len(a.segments) {
		a.best, a.value = first, value
		return
	}
	seg := a.segments[i]
	for r, g := range seg.Rungs {
		takes := float64(g.Size) * 8 / a.rate
		gain := a.kind*g.Quality - a.weights.Stall*max(takes-buffer, 0)
		if !math.IsNaN(before) {
			gain -= a.kind * a.weights.Switch * math.Abs(g.Quality-before)
		}
		if i == 0 {
			first = r
		}
		after := min(max(buffer-takes, 0)+seg.Duration.Seconds(), max(a.most, seg.Duration.Seconds()))
		a.try(i+1, value+gain, g.Quality, after, first)
	}
}
