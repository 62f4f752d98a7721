//go:build race

package credential_test

// samples is less under the race detector, where the group is ten times slower.
const samples = 128
