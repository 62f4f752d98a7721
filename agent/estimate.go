package agent

import "math"

// Estimate is a quality in decibel for what nobody has measured: a guess by
// what encoders usually make of a bandwidth in bit/s. Of video it grows by 2.3
// dB with each doubling, from 6 dB at 100 kbit/s, and a picture of few lines
// stays blurred whatever it is given (height 0: not known). Of sound it is
// nearly as good as it gets at 128 kbit/s. It is good for comparing rungs of
// one title, not for comparing titles.
func Estimate(k Kind, bandwidth int64, height int) float64 {
	b := float64(max(bandwidth, 1))
	if k == Audio {
		return 18 * (1 - math.Exp(-b/64_000))
	}
	q := 6 + 2.3*math.Log2(b/100_000)
	if height > 0 {
		q = min(q, 12+3*math.Log2(float64(height)/240))
	}
	return min(max(q, 1), 25)
}
