package main

import (
	"os"
	"runtime/debug"
)

// viewersGarbage is how much garbage may lie about in a proxy, in percent of
// what is in use, unless the operator says so by GOGC. It shares a viewer's
// machine with a browser and holds tens of megabytes of film, and with Go's
// own 100 it stood at 170 MB at full speed.
const viewersGarbage = 40

func cleanUpEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(viewersGarbage)
	}
}
