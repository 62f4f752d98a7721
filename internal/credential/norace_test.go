//go:build !race

package credential_test

// samples is how many tokens the statistics are made of.
const samples = 2048
