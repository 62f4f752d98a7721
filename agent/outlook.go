package agent

import (
	"cmp"
	"math"
	"slices"
)

// An outlook is what is expected of the network: a chain of states. In each of
// them a rate holds for a time without memory; then the next state is drawn, by
// odds that do not depend on the one before ("persist or redraw"), but that an
// outage is drawn more often from a bad state. State 0 is the network as it is
// now; the last two are outages, in which nothing comes.
//
// It is learnt from the downloads alone, and starts from a prior that fades as
// they are seen. It has two things that a mean of recent rates has not and that
// decide about stalls: how long a good or a bad rate lasts, and how often and
// for how long nothing comes at all.
type outlook struct {
	latency float64            // seconds from a request to its first byte
	rates   [numStates]float64 // bit/s
	out     [numStates]float64 // odds that a draw from it is an outage
	dwell   [numStates]float64 // mean seconds until the next draw
	typical float64            // bit/s of a draw that is no outage: the harmonic mean
	mean    float64            // bit/s over a long time, outages and all
	gap     float64            // seconds since the rate of state 0 was seen
	hazard  float64            // outages in a second without one
	outage  float64            // their mean length in seconds
}

// States.
const (
	numRates  = 4 // that carry something: parts of equal odds of what was seen
	numStates = 1 + numRates + 2

	stateNow   = 0
	stateShort = numStates - 2
	stateLong  = numStates - 1
)

// The length of an outage has no memory either. Two lengths stand for it, with
// the same mean.
const (
	shortOutage = 0.4
	longOutage  = 2.2
	shortShare  = 2.0 / 3
)

// What is thought before anything is seen: it fades within minutes. Decisions
// hardly depend on these figures. Half or twice of each moves the mean utility
// by a part in a thousand and the waiting by a few parts in a hundred, on
// recorded networks and on made-up ones.
const (
	priorRate    = 3e6   // bit/s, if no earlier session measured it
	priorSpread  = 1.0   // of its logarithm
	knownSpread  = 0.9   // the same, when something was measured
	priorTime    = 16.0  // seconds of downloads that the prior weighs as much as
	priorDwell   = 8.0   // seconds that a rate lasts
	priorPairs   = 4.0   // of downloads, that this weighs as much as
	priorOutages = 1.0   // that were seen in
	priorWatch   = 100.0 // seconds, and took
	priorOutage  = 10.0  // seconds each
	priorLatency = 0.05  // seconds
)

const (
	memory   = 120.0 // seconds after which a download weighs 1/e
	mostPast = 256   // downloads that are looked at

	shortDwell, longDwell = 0.5, 300.0 // bounds of what is believed
)

// observe makes an outlook of what was seen. floor is the rate in bit/s that
// carries the lowest rungs.
func observe(s State, floor float64) *outlook {
	o := &outlook{latency: latencyOf(s.Past)}
	now := s.Now.Seconds()
	samples := sampled(s.Past, o.latency)
	rate, spread := priorRate, priorSpread
	if s.Prior > 0 {
		rate, spread = s.Prior, knownSpread
	}
	var seen histogram
	seen.add(rate, 1)
	for _, b := range samples {
		seen.add(b.rate(), b.weight(now))
		spread = knownSpread
	}
	center := seen.median()
	o.separate(samples, center, floor)

	var h histogram
	for _, z := range [...]float64{-1.38, -0.67, -0.21, 0.21, 0.67, 1.38} { // means of the sixths of a normal distribution
		h.add(center*math.Exp(z*spread), priorTime/6)
	}
	for _, b := range samples {
		h.add(b.rate(), b.weight(now))
	}
	last := 0.0
	o.gap = math.Inf(1)
	if n := len(samples); n > 0 {
		last, o.gap = samples[n-1].rate(), max(now-samples[n-1].end, 0)
	}
	o.chain(h.split(), last, dwellOf(samples, now, max(s.Most.Seconds()/2, 1)))
	return o
}

// separate takes outages out of the samples: where a download is far too slow,
// for the lowest rungs and beside the others, it was as fast as these and stood
// still for a while.
func (o *outlook) separate(samples []sample, center, floor float64) {
	outages, dark, bright := priorOutages, priorOutages*priorOutage, priorWatch
	for i := range samples {
		b := &samples[i]
		bright += b.span
		if r := b.rate(); r < floor/2 && r < center/4 {
			lost := b.active - b.bits/center
			outages, dark, bright = outages+1, dark+lost, bright-lost
			b.active -= lost
			b.span = max(b.span-lost, b.active)
		}
	}
	o.hazard, o.outage = outages/bright, dark/outages
}

// worse bounds how much more often an outage comes out of a bad state than out
// of a middling one, and how much less often out of a good one. Between these
// the hazard goes by the inverse of the rate: where reception is bad, it is
// about to be lost.
const worse = 4.0

// chain fills in the states.
func (o *outlook) chain(rates [numRates]float64, now, dwell float64) {
	inverse := 0.0
	for i, r := range rates {
		o.rates[1+i] = r
		inverse += 1 / r / numRates
	}
	o.typical = 1 / inverse
	o.rates[stateNow] = cmp.Or(now, o.typical)
	mean := min(o.hazard*dwell, 0.5)
	for i := range numStates {
		o.dwell[i], o.out[i] = dwell, mean
		if r := o.rates[i]; r > 0 {
			o.out[i] = min(mean*min(max(o.typical/r, 1/worse), worse), 0.5)
		}
	}
	o.dwell[stateShort], o.dwell[stateLong] = o.outage*shortOutage, o.outage*longOutage
	bits, time := 0.0, 0.0
	for i, odds := range o.drawn(mean) {
		bits += odds * o.dwell[i] * o.rates[i]
		time += odds * o.dwell[i]
	}
	o.mean = bits / time
}

// drawn are the odds of the states if those of an outage are given.
func (o *outlook) drawn(out float64) (odds [numStates]float64) {
	for i := range numRates {
		odds[1+i] = (1 - out) / numRates
	}
	odds[stateShort], odds[stateLong] = out*shortShare, out*(1-shortShare)
	return odds
}

// dwellOf is how long a rate lasts: from how much two samples differ that lie
// some seconds apart, beside how much any two do. How soon a rate is forgotten
// depends on how far one looks; what matters is what happens while the buffer
// lasts, so the samples lie half of it apart.
func dwellOf(samples []sample, now, apart float64) float64 {
	var sum, squares, weight, jumps, steps, pairs float64
	far := 0 // the sample that lies that far back
	for _, b := range samples {
		x, w := math.Log(b.rate()), b.weight(now)
		sum, squares, weight = sum+w*x, squares+w*x*x, weight+w
		for far+1 < len(samples) && b.end-samples[far+1].end >= apart {
			far++
		}
		if step := b.end - samples[far].end; step >= apart {
			jump := x - math.Log(samples[far].rate())
			jumps, steps, pairs = jumps+jump*jump, steps+step, pairs+1
		}
	}
	if pairs == 0 {
		return priorDwell
	}
	const least = 1e-4 // variance that means nothing
	variance := max(squares/weight-(sum/weight)*(sum/weight), least)
	step := steps / pairs
	changed := min(jumps/pairs/(2*variance), 1) // share of the pairs between which there was a draw
	prior := -math.Expm1(-step / priorDwell)
	changed = (changed*pairs + prior*priorPairs) / (pairs + priorPairs)
	return min(max(-step/math.Log1p(-min(changed, 0.98)), shortDwell), longDwell)
}

// belief is what the network may be like for a download now, some seconds
// after the last one.
func (o *outlook) belief(since float64) (odds [numStates]float64) {
	stay := math.Exp(-(o.gap + since) / o.dwell[stateNow])
	odds = o.drawn(o.out[stateNow])
	for s := range odds {
		odds[s] *= 1 - stay
	}
	odds[stateNow] = stay
	return odds
}

// takes is the expected time of a download that begins in a state, without
// its latency: the rate of the state while it lasts, then the typical one.
func (o *outlook) takes(state int, bits float64) float64 {
	tau, rate := o.dwell[state], o.rates[state]
	if rate <= 0 {
		return tau + bits/o.typical
	}
	x := bits / rate / tau
	left := -math.Expm1(-x) // probability that the state ends before the download
	// after the end of the state the rest comes at the typical rate
	return tau*left + bits/o.typical*left - rate/o.typical*tau*(left-x*(1-left))
}

// latencyOf is the wait for the first byte, as far as downloads of different
// sizes tell: the line through each two that followed each other, since the
// network was much the same for both, and of all lines the middle one, the more
// they differ in size the heavier. Extremes of all downloads would take for
// latency what was a slow minute; downloads that are all alike, at the lowest
// rung, would hide it, and a network that is far would seem to be slow.
func latencyOf(past []Download) float64 {
	if len(past) == 0 {
		return priorLatency
	}
	past = past[max(0, len(past)-40):]
	least := math.Inf(1)
	for _, d := range past {
		least = min(least, d.Took.Seconds())
	}
	lines, total := append(make([]line, 0, len(past)), line{min(priorLatency, least/2), 1}), 1.0
	for i, large := range past[1:] {
		small := past[i]
		if small.Size > large.Size {
			small, large = large, small
		}
		if float64(large.Size) < sizesApart*float64(small.Size) || small.Size <= 0 {
			continue
		}
		slope := (large.Took - small.Took).Seconds() / float64(large.Size-small.Size)
		l := line{small.Took.Seconds() - slope*float64(small.Size), 1 - float64(small.Size)/float64(large.Size)}
		lines, total = append(lines, l), total+l.weight
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.latency, b.latency) })
	guess := 0.0
	for sum, k := 0.0, 0; sum < total/2; k++ {
		guess = lines[k].latency
		sum += lines[k].weight
	}
	return min(max(guess, 0), least*0.9)
}

// sizesApart is how many times as large one of two downloads is that tell of
// the latency.
const sizesApart = 1.5

// A line tells a latency.
type line struct{ latency, weight float64 }

// A sample is one or more downloads in a row, enough to tell a rate.
type sample struct {
	end    float64 // seconds
	bits   float64
	active float64 // seconds in which bits came
	span   float64 // seconds that it stands for: until the next one began
}

func (b sample) rate() float64 { return b.bits / b.active }

// weight is the time that a sample stands for, less what is forgotten. At least
// a second: a fast network shows itself in a moment.
func (b sample) weight(now float64) float64 {
	return max(b.span, 1) * math.Exp(min(b.end-now, 0)/memory)
}

// sampled joins downloads until each tells a rate: one that is mostly waiting
// for its first byte does not.
func sampled(past []Download, latency float64) []sample {
	past = past[max(0, len(past)-mostPast):]
	mean := 0.0
	for _, d := range past {
		mean += float64(d.Size) * 8 / float64(len(past))
	}
	out := make([]sample, 0, len(past))
	var b sample
	begin := 0.0
	for i, d := range past {
		if b.active == 0 {
			begin = d.At.Seconds()
		}
		b.bits += float64(d.Size) * 8
		b.active += max(d.Took.Seconds()-latency, 1e-3)
		b.end = (d.At + d.Took).Seconds()
		if b.bits < mean/2 && i < len(past)-1 {
			continue
		}
		b.span = b.end - begin
		if i+1 < len(past) {
			b.span = max(past[i+1].At.Seconds()-begin, b.span)
		}
		b.span = max(b.span, b.active)
		b.bits = max(b.bits, 1)
		if b.bits >= mean/2 || len(out) == 0 {
			out = append(out, b)
		} else { // the rest is too little to stand alone
			l := &out[len(out)-1]
			l.bits, l.active, l.end, l.span = l.bits+b.bits, l.active+b.active, b.end, l.span+b.span
		}
		b = sample{}
	}
	return out
}

// A histogram of rates, by their logarithm.
type histogram struct {
	weight [histBins]float64
	sum    [histBins]float64 // of weight/rate
	total  float64
}

const (
	histBins = 80
	histLow  = 13.0 // log2 of the lowest rate: 8 kbit/s
	histStep = 0.25 // octaves
)

func (h *histogram) add(rate, weight float64) {
	rate = min(max(rate, 1e3), 1e10)
	b := min(max(int((math.Log2(rate)-histLow)/histStep), 0), histBins-1)
	h.weight[b] += weight
	h.sum[b] += weight / rate
	h.total += weight
}

func (h *histogram) median() float64 {
	sum := 0.0
	for b, w := range h.weight {
		if sum += w; sum >= h.total/2 && w > 0 {
			return w / h.sum[b]
		}
	}
	return priorRate
}

// split returns the harmonic means of numRates parts of equal weight.
func (h *histogram) split() (rates [numRates]float64) {
	part, room, inverse := 0, h.total/numRates, 0.0
	for b, w := range h.weight {
		for w > 0 && part < numRates {
			take := min(w, room)
			inverse += h.sum[b] / h.weight[b] * take
			w, room = w-take, room-take
			if room <= h.total*1e-9 {
				rates[part] = h.total / numRates / max(inverse, 1e-12)
				part, room, inverse = part+1, h.total/numRates, 0
			}
		}
	}
	for ; part < numRates; part++ {
		rates[part] = rates[max(part-1, 0)]
	}
	return rates
}
