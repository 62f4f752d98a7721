package bench

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"
)

// What counts as a quiet machine, and how long to wait for one.
const (
	quietShare = 0.2 // of all cores, at work
	quietLook  = time.Second
	quietWait  = 20 * time.Second
)

// quiet waits until the machine has little else to do, since what others do at
// the time would be measured too. It goes on all the same after a while, and
// counts how often, for a note.
func (s *stage) quiet(ctx context.Context) error {
	deadline := time.Now().Add(quietWait)
	before, known := processorTime()
	for known {
		select {
		case <-time.After(quietLook):
		case <-ctx.Done():
			return ctx.Err()
		}
		now, _ := processorTime()
		if now.busyShare(before) <= quietShare {
			return nil
		}
		if time.Now().After(deadline) {
			s.disturbed++
			return nil
		}
		s.Progress("waiting for a quiet moment")
		before = now
	}
	return ctx.Err()
}

// disturbance is the note for a report, if there is any.
func (s *stage) disturbance(r *Report) {
	if s.disturbed > 0 {
		r.note("%d times the machine was not quiet: other programs took more than %.0f %% of it for %v", s.disturbed, 100*quietShare, quietWait)
	}
}

// A processor counts the time of all cores since the start of the machine.
type processor struct{ busy, all float64 }

func (p processor) busyShare(before processor) float64 {
	if p.all <= before.all {
		return 0
	}
	return (p.busy - before.busy) / (p.all - before.all)
}

// processorTime reads /proc/stat; false where there is none.
func processorTime() (p processor, ok bool) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return p, false
	}
	return parseProcessor(string(b))
}

// parseProcessor reads the first line: user nice system idle iowait irq
// softirq steal, in ticks.
func parseProcessor(stat string) (p processor, ok bool) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return p, false
	}
	for i, text := range f[1:9] {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return processor{}, false
		}
		p.all += v
		if i != 3 && i != 4 { // idle, and waiting for a disk
			p.busy += v
		}
	}
	return p, true
}
