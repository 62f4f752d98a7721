package main

import (
	"os"
	"runtime/debug"
)

// collect says how much garbage may lie about, in percent of what is in use,
// unless the operator says so by GOGC. A proxy shares a viewer's machine with
// a browser and holds tens of megabytes of film, so it cleans up early; a
// provider holds little and is asked much, so it cleans up late.
func collect(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

const (
	viewersGarbage   = 40
	providersGarbage = 400
)
