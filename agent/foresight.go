package agent

import (
	"math"
	"sync"
)

// numLevels is how many buffer levels the dynamic program tells apart.
const numLevels = 20

// A foresight is the dynamic program over the coming segments of a track: its
// state is the buffer, the state of the network and the rung before. After
// each segment the buffer is known and the network is seen, so what it plans
// are answers to what may come, not a row of rungs.
type foresight struct {
	ladder *ladder
	f      *outlook
	stages []stage
	load   float64 // bit/s of the other tracks
	asks   float64 // requests of them for a second of media
	stall  float64 // cost of a second
	price  float64 // of an msat
	slope  float64 // value of a second of buffer at the end of the foresight
	cap    float64 // seconds that may be in hand when a segment is asked for

	levels [numLevels]float64
	room   [maxStages]stage
	// by state, position and level
	value, next table // from a stage on, before and after its decision
	draw        [maxWidth][numLevels]float64
}

type table [numStates][maxWidth][numLevels]float64

var foresights = sync.Pool{New: func() any { return new(foresight) }}

// solve fills in the value of what comes after the first stage.
func (h *foresight) solve(ended bool) {
	for n := range h.levels {
		x := float64(n) / (numLevels - 1)
		h.levels[n] = h.cap * x * math.Sqrt(x)
	}
	width := h.ladder.width
	for s := range numStates {
		for p := range width {
			for n, b := range h.levels {
				if h.value[s][p][n] = b * h.slope; ended {
					h.value[s][p][n] = 0
				}
			}
		}
	}
	for k := len(h.stages) - 1; k > 0; k-- {
		h.back(k)
	}
}

// back turns the value after stage k into the value before it.
func (h *foresight) back(k int) {
	l, st := h.ladder, h.stages[k]
	width := l.width
	for p := range width {
		h.draw[p] = [numLevels]float64{}
		bits := l.bits(st, p)
		for s := range numStates {
			h.download(st, s, p, bits)
			if odds := h.f.odds[s]; odds > 0 {
				for n, v := range &h.next[s][p] {
					h.draw[p][n] += odds * v
				}
			}
		}
	}
	dt := h.stages[k-1].last
	var enter [maxWidth][maxWidth]float64 // by position before and after
	for last := range width {
		from := l.opts[(st.from-1)*width+last]
		for p := range width {
			to := l.opts[st.from*width+p]
			enter[last][p] = l.gain(st, p) - l.switches*math.Abs(to.quality-from.quality) - h.price*l.price(st, p, p != last)
		}
	}
	for s := range numStates {
		stay := math.Exp(-dt / h.f.dwell[s])
		for p := range width {
			next, draw := &h.next[s][p], &h.draw[p]
			for n := range next {
				next[n] = stay*next[n] + (1-stay)*draw[n]
			}
		}
		for last := range width {
			v := &h.value[s][last]
			for p := range width {
				e, next := enter[last][p], &h.next[s][p]
				if p == 0 {
					for n, x := range next {
						v[n] = x + e
					}
					continue
				}
				for n, x := range next {
					v[n] = max(v[n], x+e)
				}
			}
		}
	}
}

// download fills in, for all levels, what is expected of a download in a
// state: its stall, and the value of what is in hand after it.
func (h *foresight) download(st stage, s, p int, bits float64) {
	t := h.time(st, s, bits)
	v, out := &h.value[s][p], &h.next[s][p]
	at := 0
	for n, b := range h.levels {
		stall, after := h.after(st, b, t)
		for at < numLevels-2 && h.levels[at+1] < after {
			at++
		}
		part := (after - h.levels[at]) / (h.levels[at+1] - h.levels[at])
		out[n] = v[at] + part*(v[at+1]-v[at]) - h.stall*stall
	}
}

// time is what a stage takes in a state of the network.
func (h *foresight) time(st stage, s int, bits float64) float64 {
	asks := float64(st.to-st.from) + h.asks*st.seconds
	return asks*h.f.latency + h.f.takes(s, bits+h.load*st.seconds)
}

// after is how long the picture stands still, and what is in hand after a
// stage that takes some time.
func (h *foresight) after(st stage, b, t float64) (stall, left float64) {
	early := st.seconds - st.last // media that comes while the stage is fetched
	stall = max(t-b-early, 0)
	return stall, min(b+stall-t+st.seconds, h.cap)
}

// look is the value of having b in hand after the first stage at a position.
func (h *foresight) look(s, p int, b float64) float64 {
	v := &h.value[s][p]
	x := b / h.cap
	at := min(int(math.Cbrt(x*x)*(numLevels-1)), numLevels-2)
	part := (b - h.levels[at]) / (h.levels[at+1] - h.levels[at])
	return v[at] + part*(v[at+1]-v[at])
}

// expect is the value of downloading bits at a position as the first stage,
// with b in hand, over all states of the network.
func (h *foresight) expect(belief *[numStates]float64, p int, bits, b, latency float64) (value, stall float64) {
	st := h.stages[0]
	for s, odds := range belief {
		if odds == 0 {
			continue
		}
		t := latency + h.f.takes(s, bits)
		wait, after := h.after(st, b, t)
		// the other tracks' part comes before the next one
		after = max(after-h.asks*st.seconds*h.f.latency-h.load*st.seconds/h.rate(s), 0)
		value += odds * (h.look(s, p, after) - h.stall*wait)
		stall += odds * wait
	}
	return value, stall
}

// rate is a rate to divide by.
func (h *foresight) rate(s int) float64 {
	if r := h.f.rates[s]; r > 0 {
		return r
	}
	return h.f.typical
}

// belief is what the network may be like for a download now.
func (f *outlook) belief(dt float64) (odds [numStates]float64) {
	stay := math.Exp(-(f.gap + dt) / f.dwell[stateNow])
	for s := range odds {
		odds[s] = (1 - stay) * f.odds[s]
	}
	odds[stateNow] += stay
	return odds
}
