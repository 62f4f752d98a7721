package agent

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Memory is what one session leaves for the next about the network: what it
// carried, and when that was. The zero value remembers nothing.
type Memory struct {
	Rate float64   // bit/s; 0: nothing is remembered
	At   time.Time // to the second
}

// ErrMemory means that a text is not a [Memory].
var ErrMemory = errors.New("agent: not a memory of a network")

const (
	fades     = 7 * 24 * time.Hour // after which 1/e is left: by then it may be another network
	worstRate = 1e5                // bit/s: what is believed of a memory, at least
	bestRate  = 1e8                // and at most; beyond it nothing is decided otherwise
	tells     = 64 << 10           // bytes: of less, downloads say nothing of the rate
)

// Prior is what is remembered at a time, for [State.Prior]: the older it is, the
// nearer to what is thought of a network that nobody knows. 0: nothing.
func (m Memory) Prior(now time.Time) float64 {
	if m.Rate == 0 {
		return 0
	}
	left := math.Exp(-max(now.Sub(m.At), 0).Seconds() / fades.Seconds())
	return priorRate * math.Pow(m.Rate/priorRate, left)
}

// Learn is what is remembered after a session that ended now. The longer its
// downloads took, the less counts what was remembered before; too few bytes
// change nothing.
func (m Memory) Learn(past []Download, now time.Time) Memory {
	bytes, took := int64(0), 0.0
	for _, d := range past {
		bytes, took = bytes+d.Size, took+d.Took.Seconds()
	}
	if bytes < tells {
		return m
	}
	var h histogram
	for _, b := range sampled(past, latencyOf(past)) {
		h.add(b.rate(), max(b.span, 1)) // how long ago it was in the session does not matter
	}
	rate := h.median()
	if before := m.Prior(now); before > 0 {
		share := took / (took + priorTime)
		rate = before * math.Pow(rate/before, share)
	}
	return Memory{min(max(rate, worstRate), bestRate), now.Truncate(time.Second)}
}

// String is the memory as [ParseMemory] reads it: bit/s, and a Unix time.
func (m Memory) String() string { return fmt.Sprintf("%.0f %d", m.Rate, m.At.Unix()) }

// ParseMemory reads a memory. The error matches [ErrMemory].
func ParseMemory(text string) (m Memory, err error) {
	first, second, _ := strings.Cut(text, " ")
	rate, err := strconv.ParseFloat(first, 64)
	if err != nil || !(rate >= worstRate && rate <= bestRate) { // nor is it NaN
		return m, fmt.Errorf("%w: %q, want a rate of %.0f to %.0f bit/s and a time", ErrMemory, text, worstRate, bestRate)
	}
	at, err := strconv.ParseInt(second, 10, 64)
	if err != nil || at < 0 || at > math.MaxInt32*1000 {
		return m, fmt.Errorf("%w: %q, want a rate in bit/s and a Unix time", ErrMemory, text)
	}
	return Memory{rate, time.Unix(at, 0)}, nil
}
