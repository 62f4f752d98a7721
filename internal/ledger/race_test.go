//go:build race

package ledger_test

// largeRows is less under the race detector, where SQLite is fifty times
// slower.
const largeRows = 10_000
