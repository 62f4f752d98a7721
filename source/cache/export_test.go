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
