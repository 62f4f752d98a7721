//go:build !race

package zkb_test

// tries of a cheat, for each number of rounds.
const tries = 600
