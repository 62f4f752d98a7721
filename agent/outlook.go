package agent

import "math"

// A outlook is what is expected of the network: a chain of states. In each a
// rate holds for a time without memory; then the next state is drawn by odds
// that do not depend on the one before ("persist or redraw"). State 0 is the
// network as it is now, the last two are outages, in which nothing comes.
//
// It is learnt from the downloads alone, and starts from a prior that fades as
// they are seen. Two things are what a mean or a harmonic mean of recent rates
// (throughput rules, MPC) cannot tell and what decides about stalls: how long
// a good or a bad rate lasts, and how often and for how long nothing comes.
type outlook struct {
	latency float64            // seconds from a request to its first byte
	rates   [numStates]float64 // bit/s
	odds    [numStates]float64 // of being drawn
	dwell   [numStates]float64 // mean seconds until the next draw
	typical float64            // bit/s of a redraw, outages left out: by harmonic mean
	mean    float64            // bit/s over a long time, outages and all
	gap     float64            // seconds since the rate of state 0 was seen
}

const (
	numRates  = 5 // states that carry something, drawn from what was seen
	numStates = 1 + numRates + 2

	stateNow    = 0
	stateShort  = numStates - 2 // outages
	stateLong   = numStates - 1
	shortOutage = 0.4 // of the mean length, two times of three; the other one keeps the mean
	longOutage  = 2.2

	// What is thought before anything is seen. They are weak: a minute of
	// downloads counts more than all of them.
	priorRate    = 3e6 // bit/s
	priorSpread  = 1.0 // of the logarithm of the rate
	knownSpread  = 0.6 // the same, when an earlier session measured it or some downloads have been seen
	priorTime    = 8.0 // seconds of downloads that the prior weighs as much as
	priorDwell   = 8.0 // seconds
	priorPairs   = 4.0 // that the prior of the dwell weighs as much as
	priorOutages = 0.5 // in
	priorWatch   = 150 // seconds, of
	priorOutage  = 5.0 // seconds each

	memory = 120.0 // seconds after which a download weighs 1/e
)

// A sample is one or more downloads in a row, enough to tell a rate.
type sample struct {
	end    float64 // seconds
	bits   float64
	active float64 // seconds in which bits came
	span   float64 // seconds that it stands for
}

// observe makes a outlook of what was seen. floor is the rate in bit/s that
// carries the lowest rungs.
func observe(s State, floor float64) *outlook {
	f := &outlook{latency: latencyOf(s.Past)}
	samples := sampled(s.Past, f.latency)
	now := s.Now.Seconds()

	// where a download is far too slow, it was the network that stood still
	center, watched := centerOf(s, samples, now)
	outages, dark := priorOutages, priorOutages*priorOutage
	for i := range samples {
		b := &samples[i]
		watched += b.span
		r := b.bits / b.active
		if r < floor/2 && r < center/4 {
			lost := b.active - b.bits/center
			outages++
			dark += lost
			b.active -= lost
			b.span = max(b.span-lost, b.active)
		}
	}
	hazard := outages / max(watched-dark+priorWatch, 1)
	length := dark / outages

	h := histogram{}
	spread := knownSpread
	if len(samples) == 0 && s.Prior <= 0 {
		spread = priorSpread
	}
	for _, z := range [...]float64{-1.38, -0.67, -0.21, 0.21, 0.67, 1.38} {
		h.add(center*math.Exp(z*spread), priorTime/6)
	}
	var sum, sumSq, weight, jumps, between, pairs float64
	before := 0.0
	for i, b := range samples {
		r := b.bits / b.active
		w := b.span * math.Exp((b.end-now)/memory)
		h.add(r, w)
		x := math.Log(r)
		sum, sumSq, weight = sum+w*x, sumSq+w*x*x, weight+w
		if i > 0 {
			jumps += (x - before) * (x - before)
			between += b.end - samples[i-1].end
			pairs++
		}
		before = x
	}
	dwell := priorDwell
	if pairs > 0 {
		variance := max(sumSq/weight-(sum/weight)*(sum/weight), 1e-4)
		step := between / pairs
		change := min(jumps/pairs/(2*variance), 1)
		// shares of changes, the prior's among them
		prior := -math.Expm1(-step / priorDwell)
		change = (change*pairs + prior*priorPairs) / (pairs + priorPairs)
		dwell = min(max(-step/math.Log1p(-min(change, 0.98)), 0.5), 300)
	}
	out := min(hazard*dwell, 0.5)
	rates := h.split()
	inverse := 0.0
	for i, r := range rates {
		f.rates[1+i], f.odds[1+i], f.dwell[1+i] = r, (1-out)/numRates, dwell
		inverse += 1 / r / numRates
	}
	f.typical = 1 / inverse
	f.odds[stateShort], f.dwell[stateShort] = out*2/3, length*shortOutage
	f.odds[stateLong], f.dwell[stateLong] = out/3, length*longOutage
	f.rates[stateNow], f.dwell[stateNow] = f.typical, dwell
	f.gap = math.Inf(1)
	if n := len(samples); n > 0 {
		last := samples[n-1]
		f.rates[stateNow] = last.bits / last.active
		f.gap = max(now-last.end, 0)
	}
	bits, time := 0.0, 0.0
	for i := 1; i < numStates; i++ {
		bits += f.odds[i] * f.dwell[i] * f.rates[i]
		time += f.odds[i] * f.dwell[i]
	}
	f.mean = bits / time
	return f
}

// latencyOf is the wait for the first byte, as far as downloads of different
// sizes tell: the line through the halves of small and large ones.
func latencyOf(past []Download) float64 {
	if len(past) == 0 {
		return 0.05
	}
	past = past[max(0, len(past)-40):]
	mean, least := 0.0, math.Inf(1)
	for _, d := range past {
		mean += float64(d.Size) / float64(len(past))
		least = min(least, d.Took.Seconds())
	}
	// of each half the quickest, by what it takes for its size
	var small, large Download
	for _, d := range past {
		half := &large
		if float64(d.Size) < mean {
			half = &small
		}
		if half.Size == 0 || d.Rate() > half.Rate() {
			*half = d
		}
	}
	guess := min(0.05, least/2)
	if small.Size > 0 && large.Size > 2*small.Size {
		slope := (large.Took - small.Took).Seconds() / float64(large.Size-small.Size)
		guess = small.Took.Seconds() - slope*float64(small.Size)
	}
	return min(max(guess, 0), least*0.9)
}

// sampled joins downloads until each tells a rate: one that is mostly waiting
// for its first byte does not.
func sampled(past []Download, latency float64) []sample {
	past = past[max(0, len(past)-256):]
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

// centerOf is the median rate of the samples, the prior among them.
func centerOf(s State, samples []sample, now float64) (rate, watched float64) {
	prior := priorRate
	if s.Prior > 0 {
		prior = s.Prior
	}
	h := histogram{}
	h.add(prior, 1)
	for _, b := range samples {
		h.add(b.bits/b.active, b.span*math.Exp((b.end-now)/memory))
	}
	return h.median(), 0
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

// takes is the expected time of a download that begins in a state, without
// its latency: the rate of the state while it lasts, then the typical one.
func (f *outlook) takes(state int, bits float64) float64 {
	tau, rate := f.dwell[state], f.rates[state]
	if rate <= 0 {
		return tau + bits/f.typical
	}
	x := bits / rate / tau
	left := -math.Expm1(-x) // probability that the state ends before the download
	// after the end of the state the rest comes at the typical rate
	return tau*left + bits/f.typical*left - rate/f.typical*tau*(left-x*(1-left))
}
