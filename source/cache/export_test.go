package cache

import "crypto/sha256"

// Age makes all weights as great as after millions of requests.
func Age(s *Shelf) { s.scale(2 * tooHeavy / s.audience.weight) }

// Weight is what a request weighs now.
func Weight(s *Shelf) float64 { return s.audience.weight }

// Sum makes the sum at the end of an index right.
func Sum(index []byte) []byte {
	n := max(0, len(index)-sha256.Size)
	sum := sha256.Sum256(index[:n])
	return append(index[:n:n], sum[:]...)
}

// MaxTitles and MaxKnown are how many titles, and segments of them, are
// remembered.
const (
	MaxTitles = maxTitles
	MaxKnown  = maxKnown
)

// Known is how many segments are remembered, counted.
func Known(s *Shelf) (n int) {
	for _, t := range s.audience.titles {
		for _, row := range t.tracks {
			n += len(row.asked)
		}
	}
	if n != s.audience.known {
		panic("cache: miscounted")
	}
	return n
}

// Titles is how many are.
func Titles(s *Shelf) int { return len(s.audience.titles) }
