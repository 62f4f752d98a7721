package agent

import (
	"math"
	"slices"
)

// A ladder is a track in the form that decisions read fast: for each segment
// the same number of options, ascending by bandwidth. An option's place among
// them is its position; where a segment has fewer, the last one is repeated.
type ladder struct {
	width    int
	opts     []option  // width for each segment
	sums     []sums    // width for each segment, of those before it, and for the end
	seconds  []float64 // of each segment
	begins   []float64 // of each segment, and the end
	ends     []int     // of each segment: where the next key begins that opens several; nil: there is none
	switches float64   // weight of a change
}

// An option is a rung that may be chosen.
type option struct {
	rung    int
	bits    float64
	price   float64 // msat, of the key
	stay    float64 // msat, for one who had this position before
	quality float64 // weighted decibel
}

// sums are totals of a position over many segments.
type sums struct {
	bits, stay, gain float64 // gain: quality less the changes of it
}

// maxWidth is how many options are thought about. A decision costs the square
// of it.
const maxWidth = 8

func newLadder(t *Track, p Preferences) *ladder {
	l := &ladder{switches: p.Weights.Switch}
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
		for at := range l.width {
			rung := chosen[i][min(at, len(chosen[i])-1)]
			l.add(i, at, rung, s.Rungs[rung], p.Weights.Of(t.Kind))
		}
	}
	l.group()
	return l
}

// group finds where keys begin that open several segments.
func (l *ladder) group() {
	n := len(l.seconds)
	ends, end, any := make([]int, n), n, false
	for i := n - 1; i >= 0; i-- {
		ends[i] = end
		for p, o := range l.at(i) {
			if i+1 < n && o.stay > 0 && l.at(i + 1)[p].stay == 0 && l.at(i + 1)[p].price > 0 {
				end, any = i, true
			}
		}
	}
	if any {
		l.ends = ends
	}
}

// opens is how many segments, from one on, a key opens at most.
func (l *ladder) opens(i int) int {
	if l.ends == nil {
		return 1
	}
	return l.ends[i] - i
}

// whole is a segment at which no key ends in the middle, at or after one that
// is after from.
func (l *ladder) whole(from, to int) int {
	if l.ends == nil || to >= len(l.seconds) || l.ends[max(from, to-1)] == to {
		return to
	}
	return l.ends[to]
}

// add appends an option, and adds it up.
func (l *ladder) add(i, at, rung int, g Rung, weight float64) {
	o := option{rung, float64(g.Size) * 8, float64(g.Price), float64(g.Price), weight * g.Quality}
	sum := l.sums[i*l.width+at]
	if i > 0 {
		before := l.opts[(i-1)*l.width+at]
		if before.rung == rung && g.First < i {
			o.stay = 0
		}
		sum.gain -= l.switches * math.Abs(o.quality-before.quality)
	}
	l.opts = append(l.opts, o)
	l.sums[(i+1)*l.width+at] = sums{sum.bits + o.bits, sum.stay + o.stay, sum.gain + o.quality}
}

// sameRungs says that what is allowed of one segment is allowed of the other.
func sameRungs(a, b Segment) bool {
	return slices.EqualFunc(a.Rungs, b.Rungs, func(x, y Rung) bool { return x.Height == y.Height && x.Rate == y.Rate })
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

// total is that of a position over the whole track.
func (l *ladder) total(p int) sums { return l.sums[len(l.seconds)*l.width+p] }

// rate is the mean rate of a position, in bit/s.
func (l *ladder) rate(p int) float64 { return l.total(p).bits / l.begins[len(l.seconds)] }

// position is where a rung of a segment stands, or the nearest one below it;
// -1 if there is no such segment.
func (l *ladder) position(i, rung int) (at int) {
	if i < 0 || rung < 0 {
		return -1
	}
	opts := l.at(i)
	for p, o := range opts {
		if o.rung <= rung && o.rung > opts[at].rung {
			at = p
		}
	}
	return at
}

// enter is the gain and the price of a position of a segment for one who had
// another one before it, or none.
func (l *ladder) enter(i, p, last int) (gain, cost float64) {
	o := l.at(i)[p]
	if last < 0 {
		return o.quality, o.price
	}
	cost = o.price
	if last == p {
		cost = o.stay
	}
	return o.quality - l.switches*math.Abs(o.quality-l.at(i - 1)[last].quality), cost
}

// ahead is what the best way over some segments gives, at prices of money and
// of bits, by the position before them.
func (l *ladder) ahead(from, to int, price, toll float64) (value [maxWidth]float64) {
	for i := to - 1; i >= from; i-- {
		var here [maxWidth]float64
		for last := range l.width {
			here[last] = math.Inf(-1)
			for p, o := range l.at(i) {
				gain, cost := l.enter(i, p, last)
				here[last] = max(here[last], gain-price*cost-toll*o.bits+value[p])
			}
		}
		value = here
	}
	return value
}

// A stage is one or more segments in a row that are played at one position.
type stage struct {
	from, to int // segments
	seconds  float64
	last     float64 // seconds of one segment, which is of no use before it is here
}

// Stages are single segments at first, and then grow.
const (
	maxStages = 14
	singles   = 4
	growth    = 1.4
)

// stages cuts what comes from a segment on into stages that cover some seconds.
func (l *ladder) stages(out []stage, from int, seconds float64) []stage {
	n, size := len(l.seconds), 1.0
	for from < n && len(out) < maxStages && seconds > 0 {
		to := min(from+int(size), n)
		if l.ends != nil { // a change is planned where it costs no key
			if to = min(to, l.ends[from]); len(out) == maxStages-1 || l.begins[to]-l.begins[from] >= seconds {
				to = l.ends[from]
			}
		}
		d := l.begins[to] - l.begins[from]
		out = append(out, stage{from, to, d, d / float64(to-from)})
		seconds -= d
		from = to
		if len(out) >= singles {
			size *= growth
		}
	}
	return out
}

// bits are those of a stage.
func (l *ladder) bits(st stage, p int) float64 {
	return l.sums[st.to*l.width+p].bits - l.sums[st.from*l.width+p].bits
}

// entries are what a stage gives less what it costs, by the position before it
// and its own.
func (l *ladder) entries(st stage, price float64) (out [maxWidth][maxWidth]float64) {
	for p := range l.width {
		inner, end := l.sums[(st.from+1)*l.width+p], l.sums[st.to*l.width+p]
		rest := end.gain - inner.gain - price*(end.stay-inner.stay)
		for last := range l.width {
			gain, cost := l.enter(st.from, p, last)
			out[last][p] = gain - price*cost + rest
		}
	}
	return out
}
