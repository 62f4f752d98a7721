package agent

import (
	"math"
	"sync"

	"htlcdash/lightning"
)

// A foresight is a dynamic program over the coming segments of a track, against
// an outlook. Its state is the buffer, the state of the network during the last
// download, and the rung before. After each segment the buffer is known and the
// network is seen again, so what it plans are answers to what may come, not a
// row of rungs as in MPC. The first segments are planned one by one, those that
// are further off in ever larger pieces.
type foresight struct {
	ladder *ladder
	o      *outlook
	track  int
	stages []stage
	load   float64 // bit/s of the other tracks
	asks   float64 // requests for them in a second of media
	stall  float64 // cost of a second
	price  float64 // of an msat
	room   float64 // seconds that may be in hand when a segment is asked for
	belief [numStates]float64

	cuts    [maxStages]stage
	levels  [numLevels]float64           // seconds of buffer, denser where it is small
	inverse [numLevels]float64           // of the step from each level to the next
	value   table                        // before a stage, by the state and the position of the last one
	after   table                        // after a download
	draw    [maxWidth][numLevels]float64 // what is expected of a state that is drawn, and
	dark    [maxWidth][numLevels]float64 // of an outage
}

// numLevels is how many levels of the buffer are told apart.
const numLevels = 16

type table [numStates][maxWidth][numLevels]float64

// farthest is how far a foresight reaches: so many times the buffer, or so many
// seconds if that is more. What the buffer is worth at its end matters little.
const (
	farthest = 3
	atLeast  = 60
)

// foresights are kept for their memory; nothing is read from an old one.
var foresights = sync.Pool{New: func() any { return new(foresight) }}

// look solves the program for a track.
func (f *foresight) look(b *book, s State, o *outlook, k int, stall, price, toll float64) {
	l := b.ladders[k]
	f.ladder, f.o, f.track, f.stall, f.price = l, o, k, stall, price
	most := s.Most.Seconds()
	far := max(farthest*most, atLeast)
	if s.Track != k { // only what a second is worth is asked for
		far /= farthest
	}
	f.stages = l.stages(f.cuts[:0], s.Next[k], far)
	f.room = max(most-f.stages[0].last, f.stages[0].last)
	f.belief = o.belief(f.stages[0].last)
	f.load, f.asks = 0, 0
	for n, other := range b.ladders {
		if n != k && s.Next[n] < len(other.seconds) {
			f.load += other.rate(max(other.position(s.Next[n]-1, s.Last[n]), 0))
			f.asks += float64(len(other.seconds)) / other.begins[len(other.seconds)]
		}
	}
	for n := range f.levels {
		x := float64(n) / (numLevels - 1)
		f.levels[n] = f.room * x * math.Sqrt(x)
	}
	for n := range numLevels - 1 {
		f.inverse[n] = 1 / (f.levels[n+1] - f.levels[n])
	}
	// at the end a second in hand is a second's bits more for what comes then
	slope := toll * o.mean
	if f.stages[len(f.stages)-1].to == len(l.seconds) {
		slope = 0
	}
	for s := range f.value {
		for p := range l.width {
			for n, level := range f.levels {
				f.value[s][p][n] = slope * level
			}
		}
	}
	for n := len(f.stages) - 1; n > 0; n-- {
		f.back(f.stages[n], f.stages[n-1].last)
	}
}

// back turns the value after a stage into the value before it; the download
// before it was some seconds ago.
func (f *foresight) back(st stage, since float64) {
	l := f.ladder
	for p := range l.width {
		bits := l.bits(st, p)
		for s := range numStates {
			f.download(st, s, p, bits)
		}
		short, long := &f.after[stateShort][p], &f.after[stateLong][p]
		for n := range f.draw[p] {
			sum := 0.0
			for s := 1; s <= numRates; s++ {
				sum += f.after[s][p][n]
			}
			f.draw[p][n], f.dark[p][n] = sum/numRates, short[n]*shortShare+long[n]*(1-shortShare)
		}
	}
	enter := l.entries(st, f.price)
	for s, dwell := range f.o.dwell {
		stay := math.Exp(-since / dwell)
		dark := (1 - stay) * f.o.out[s]
		bright := 1 - stay - dark
		for p := range l.width {
			after, a, b := &f.after[s][p], &f.draw[p], &f.dark[p]
			for n := range after {
				after[n] = stay*after[n] + bright*a[n] + dark*b[n]
			}
		}
		for last := range l.width {
			v := f.after[s][0]
			for n := range v {
				v[n] += enter[last][0]
			}
			for p := 1; p < l.width; p++ {
				gain, after := enter[last][p], &f.after[s][p]
				for n, x := range after {
					if x += gain; x > v[n] { // the built-in max minds NaN, and takes twice as long
						v[n] = x
					}
				}
			}
			f.value[s][last] = v
		}
	}
}

// download fills in, for all levels, what a download of a stage in a state of
// the network leads to.
func (f *foresight) download(st stage, s, p int, bits float64) {
	asks := float64(st.to-st.from) + f.asks*st.seconds
	t := asks*f.o.latency + f.o.takes(s, bits+f.load*st.seconds)
	v, out := &f.value[s][p], &f.after[s][p]
	at, early, gained := 0, st.seconds-st.last, st.seconds-t
	for n, level := range &f.levels {
		stall := t - level - early
		if stall < 0 {
			stall = 0
		}
		left := level + stall + gained
		if left >= f.room {
			left, at = f.room, numLevels-2
		}
		for at < numLevels-2 && f.levels[at+1] < left {
			at++
		}
		out[n] = v[at] + (left-f.levels[at])*f.inverse[at]*(v[at+1]-v[at]) - f.stall*stall
	}
}

// play is how long the picture stands still, and what is in hand after a stage
// that takes some time.
func (f *foresight) play(st stage, level, t float64) (stall, left float64) {
	early := st.seconds - st.last // media that comes while the stage is fetched
	stall = max(t-level-early, 0)
	return stall, min(level+stall-t+st.seconds, f.room)
}

// at is the value of having some seconds in hand after the first stage.
func (f *foresight) at(s, p int, level float64) float64 {
	v := &f.value[s][p]
	x := level / f.room
	n := min(int(math.Cbrt(x*x)*(numLevels-1)), numLevels-2)
	part := (level - f.levels[n]) / (f.levels[n+1] - f.levels[n])
	return v[n] + part*(v[n+1]-v[n])
}

// expect is the value of fetching bits for the segment that is due, with some
// seconds in hand, over what the network may be like.
func (f *foresight) expect(p int, bits, latency, level float64) (value, stall float64) {
	st := f.stages[0]
	for s, odds := range f.belief {
		wait, left := f.play(st, level, latency+f.o.takes(s, bits))
		// the other tracks' part comes before the next one
		others := f.asks*st.seconds*f.o.latency + f.o.takes(s, f.load*st.seconds)
		if f.o.rates[s] == 0 {
			others -= f.o.dwell[s] // one outage, not two
		}
		value += odds * (f.at(s, p, max(left-others, 0)) - f.stall*wait)
		stall += odds * wait
	}
	return value, stall
}

// rest is what is still to be fetched of an option, and the wait for it.
func (f *foresight) rest(o option, going *Progress) (bits, latency float64) {
	if going != nil && going.Rung == o.rung {
		return max(o.bits-float64(going.Got)*8, 0), 0
	}
	return o.bits, f.o.latency
}

// weigh weighs the rungs of the segment that is due.
func (f *foresight) weigh(s State, going *Progress) []Option {
	l, i := f.ladder, s.Next[f.track]
	last := l.position(i-1, s.Last[f.track])
	out := make([]Option, l.width)
	for p, o := range l.at(i) {
		bits, latency := f.rest(o, going)
		value, stall := f.expect(p, bits, latency, s.held(f.track))
		gain, cost := l.enter(i, p, last)
		out[p] = Option{o.rung, gain, lightning.Msat(cost), seconds(stall), gain - f.price*cost + value}
	}
	return out
}

// best is the value of the principal track's next segment with some seconds in
// hand.
func (f *foresight) best(s State, level float64) float64 {
	l, i := f.ladder, s.Next[f.track]
	last := l.position(i-1, s.Last[f.track])
	top := math.Inf(-1)
	for p, o := range l.at(i) {
		value, _ := f.expect(p, o.bits, f.o.latency, level)
		gain, cost := l.enter(i, p, last)
		top = max(top, value+gain-f.price*cost)
	}
	return top
}

const (
	probe     = 0.5 // seconds of which the worth is taken
	companion = 8   // segments that the smaller track looks ahead for the sake of its changes
)

// beside weighs the rungs of a track that is small beside the one that was
// foreseen: its bits cost the time that they take from that one.
func (f *foresight) beside(l *ladder, s State, going *Progress) []Option {
	i, lead, own := s.Next[s.Track], s.held(f.track), s.held(s.Track)
	worth := f.stall // of a second
	if lead > probe {
		worth = min(max((f.best(s, lead)-f.best(s, lead-probe))/probe, 0), f.stall)
	}
	ahead := l.ahead(i+1, l.whole(i, min(i+1+companion, len(l.seconds))), f.price, worth/f.o.typical)
	last := l.position(i-1, s.Last[s.Track])
	out := make([]Option, l.width)
	for p, o := range l.at(i) {
		bits, latency := f.rest(o, going)
		gain, cost := l.enter(i, p, last)
		value, stall := gain-f.price*cost+ahead[p], 0.0
		for st, odds := range f.belief {
			t := latency + f.o.takes(st, bits)
			wait := max(t-own, 0)
			value -= odds * (f.stall*wait + worth*(t-wait))
			stall += odds * wait
		}
		out[p] = Option{o.rung, gain, lightning.Msat(cost), seconds(stall), value}
	}
	return out
}
