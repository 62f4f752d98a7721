//go:build !race

package ledger_test

const largeRows = 100_000
