package main

import (
	"htlcdash/agent/replay"
	"htlcdash/internal/trial"
)

// madeUp are networks that are made up, a few of each kind.
func madeUp() (out []trial.Link) {
	for _, kind := range []string{replay.Fiber, replay.Steady, replay.Slow, replay.Mobile} {
		for seed := range uint64(3) {
			out = append(out, trial.Link{Link: replay.Synthetic(seed, kind), Group: kind})
		}
	}
	return out
}
