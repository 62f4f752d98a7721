package agent

import (
	"math"
	"slices"

	"htlcdash/lightning"
)

// maxWidth is how many rungs of a segment are thought about. A decision costs
// the square of it.
const maxWidth = 8

// A ladder is a track in the form that a decision reads fast: of each segment
// width options, ascending, the last one repeated where there are fewer.
type ladder struct {
	track    *Track
	width    int
	opts     []option // width for each segment
	sums     []sums   // width for each segment and one more: over all segments before
	seconds  []float64
	begins   []float64 // seconds before each segment, and of all
	top      float64   // bits of the best rungs
	weight   float64   // of a decibel
	switches float64   // of a weighted decibel of change
}

// An option is a rung that may be chosen.
type option struct {
	rung    int
	bits    float64
	price   float64 // msat, of the key
	stay    float64 // msat, for who has the rung of this position before
	quality float64 // weighted
}

// sums are totals of a position over all segments before.
type sums struct {
	bits, stay, gain float64 // gain: quality less the changes of it
}

func newLadder(t *Track, p Preferences) *ladder {
	l := &ladder{track: t, weight: p.Weights.Of(t.Kind)}
	l.switches = p.Weights.Switch
	chosen := make([][]int, len(t.Segments))
	for i, s := range t.Segments {
		if i > 0 && sameRungs(s, t.Segments[i-1]) {
			chosen[i] = chosen[i-1]
			continue
		}
		chosen[i] = thin(p.allowed(s))
		l.width = max(l.width, len(chosen[i]))
	}
	n := len(t.Segments)
	l.opts = make([]option, 0, n*l.width)
	l.sums = make([]sums, (n+1)*l.width)
	l.begins = make([]float64, n+1)
	for i, s := range t.Segments {
		l.seconds = append(l.seconds, s.Duration.Seconds())
		l.begins[i+1] = l.begins[i] + s.Duration.Seconds()
		for p := range l.width {
			r := chosen[i][min(p, len(chosen[i])-1)]
			g := s.Rungs[r]
			o := option{r, float64(g.Size) * 8, float64(g.Price), float64(g.Price), l.weight * g.Quality}
			a := l.sums[i*l.width+p]
			if i > 0 {
				before := l.opts[(i-1)*l.width+p]
				if before.rung == r && g.First < i {
					o.stay = 0
				}
				a.gain -= l.switches * math.Abs(o.quality-before.quality)
			}
			a.bits, a.stay, a.gain = a.bits+o.bits, a.stay+o.stay, a.gain+o.quality
			l.opts = append(l.opts, o)
			l.sums[(i+1)*l.width+p] = a
		}
		l.top += l.opts[(i+1)*l.width-1].bits
	}
	return l
}

// sameRungs says that what is allowed of a segment is allowed of the other.
func sameRungs(a, b Segment) bool {
	return slices.EqualFunc(a.Rungs, b.Rungs, func(x, y Rung) bool { return x.Height == y.Height })
}

// thin keeps at most maxWidth rungs, evenly, the first and the last among them.
func thin(rungs []int) []int {
	n := len(rungs)
	if n <= maxWidth {
		return rungs
	}
	out := make([]int, maxWidth)
	for k := range out {
		out[k] = rungs[k*(n-1)/(maxWidth-1)]
	}
	return out
}

// at returns the options of a segment.
func (l *ladder) at(i int) []option { return l.opts[i*l.width : (i+1)*l.width] }

// position is where a rung stands among the options of a segment, or of the
// nearest one below it; -1 if there was none.
func (l *ladder) position(i, rung int) int {
	if i < 0 || rung < 0 {
		return -1
	}
	at := 0
	for p, o := range l.at(i) {
		if o.rung <= rung && o.rung != l.at(i)[at].rung {
			at = p
		}
	}
	return at
}

// A stage is one or more segments in a row that are played at one position.
type stage struct {
	from, to int // segments
	seconds  float64
	last     float64 // seconds of its last segment: what is in hand only at its end
}

// stages cuts what comes after a segment into pieces that grow with their
// distance, until they cover some seconds.
func (l *ladder) stages(out []stage, from int, seconds float64) []stage {
	n := len(l.seconds)
	size := 1.0
	for from < n && len(out) < maxStages && seconds > 0 {
		to := min(from+int(size), n)
		d := l.begins[to] - l.begins[from]
		out = append(out, stage{from, to, d, d / float64(to-from)})
		seconds -= d
		from = to
		if len(out) >= 4 {
			size *= 1.4
		}
	}
	return out
}

// maxStages bounds the work of a decision.
const maxStages = 14

// price is what a position of a stage costs one who comes from the rung of
// another one.
func (l *ladder) price(st stage, p int, entered bool) float64 {
	o := l.opts[st.from*l.width+p]
	rest := l.sums[st.to*l.width+p].stay - l.sums[(st.from+1)*l.width+p].stay
	if entered {
		return o.price + rest
	}
	return o.stay + rest
}

func (l *ladder) bits(st stage, p int) float64 {
	return l.sums[st.to*l.width+p].bits - l.sums[st.from*l.width+p].bits
}

// gain is the quality of a stage less the changes within it.
func (l *ladder) gain(st stage, p int) float64 {
	o := l.opts[st.from*l.width+p]
	return o.quality + l.sums[st.to*l.width+p].gain - l.sums[(st.from+1)*l.width+p].gain
}

var _ lightning.Msat
