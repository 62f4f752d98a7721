package dash

import (
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/beevik/etree"
)

// Bounds that keep sums of numbers from an MPD inside their types.
const (
	maxSpan   = 10 * 365 * 24 * time.Hour // of any time
	maxNumber = 1 << 53                   // of any integer: players keep them in a double
	maxTicks  = 1 << 62                   // of times in a timescale of their own
)

// uintAttr reads an unsigned attribute; without it, otherwise.
func uintAttr(e *etree.Element, name string, otherwise, limit uint64) (uint64, error) {
	s, ok := attr(e, name)
	if !ok {
		return otherwise, nil
	}
	n, ok := parseUint(s, limit)
	if !ok {
		return 0, malformed("%s@%s=%q: want a whole number up to %d", e.Tag, name, clip(s), limit)
	}
	return n, nil
}

func parseUint(s string, limit uint64) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	return n, err == nil && n <= limit
}

// durationAttr reads an xs:duration attribute.
func durationAttr(e *etree.Element, name string) (d time.Duration, ok bool, err error) {
	s, ok := attr(e, name)
	if !ok {
		return 0, false, nil
	}
	d, valid := parseDuration(strings.TrimSpace(s))
	if !valid {
		return 0, false, malformed("%s@%s=%q: want a duration of less than 10 years like PT1H2M3.5S", e.Tag, name, clip(s))
	}
	return d, true, nil
}

// parseDuration reads the durations of XML Schema. As players do, it takes a
// year for 365 days and a month for 30.
func parseDuration(s string) (time.Duration, bool) {
	s, ok := strings.CutPrefix(s, "P")
	if !ok {
		return 0, false
	}
	date, clock, hasClock := strings.Cut(s, "T")
	const day = 24 * time.Hour
	d, ok := parseFields(date, []field{{'Y', 365 * day}, {'M', 30 * day}, {'D', day}})
	if !ok || hasClock == (clock == "") || s == "" {
		return 0, false
	}
	c, ok := parseFields(clock, []field{{'H', time.Hour}, {'M', time.Minute}, {'S', time.Second}})
	return d + c, ok && d+c <= maxSpan
}

type field struct {
	mark byte
	unit time.Duration
}

// parseFields reads numbers that are followed by their marks, in order. Only
// seconds may have a fraction; what is below a nanosecond is cut off.
func parseFields(s string, fields []field) (sum time.Duration, ok bool) {
	for _, f := range fields {
		number, rest, found := strings.Cut(s, string(f.mark))
		if !found {
			continue
		}
		s = rest
		whole, fraction, hasFraction := strings.Cut(number, ".")
		n, err := strconv.ParseUint(whole, 10, 32)
		if err != nil || time.Duration(n) > maxSpan/f.unit {
			return 0, false
		}
		sum += time.Duration(n) * f.unit
		if !hasFraction {
			continue
		}
		nano, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
		if err != nil || f.mark != 'S' || fraction == "" || strings.Trim(fraction, "0123456789") != "" {
			return 0, false
		}
		sum += time.Duration(nano)
	}
	return sum, s == "" && sum <= 2*maxSpan
}

// toDuration converts ticks of a timescale.
func toDuration(ticks, timescale uint64) (time.Duration, bool) {
	hi, lo := bits.Mul64(ticks, uint64(time.Second))
	if hi >= timescale {
		return 0, false
	}
	n, _ := bits.Div64(hi, lo, timescale)
	return time.Duration(n), n <= uint64(maxSpan)
}

// toTicks converts d to ticks of a timescale, rounded up.
func toTicks(d time.Duration, timescale uint64) uint64 {
	hi, lo := bits.Mul64(uint64(d), timescale)
	n, rest := bits.Div64(hi, lo, uint64(time.Second)) // hi is small: d and timescale are bounded
	if rest > 0 {
		n++
	}
	return n
}

// ceilDiv returns a/b, rounded up.
func ceilDiv(a, b uint64) uint64 { return (a + b - 1) / b }

// parseRange reads a byte range "first-last".
func parseRange(s string) (offset, length int64, ok bool) {
	a, b, found := strings.Cut(strings.TrimSpace(s), "-")
	first, err1 := strconv.ParseUint(a, 10, 64)
	last, err2 := strconv.ParseUint(b, 10, 64)
	if !found || err1 != nil || err2 != nil || first > last || last >= maxNumber {
		return 0, 0, false
	}
	return int64(first), int64(last-first) + 1, true
}

// clip shortens foreign text for an error.
func clip(s string) string {
	if len(s) <= 80 {
		return s
	}
	return s[:80] + "..."
}
