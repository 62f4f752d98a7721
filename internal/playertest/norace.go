//go:build !race

package playertest

// Raced says that the race detector runs: then nothing takes the time that it takes.
const Raced = false
