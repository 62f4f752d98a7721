//go:build race

package zkb_test

// tries of a cheat; the race detector makes each ten times as slow.
const tries = 100
