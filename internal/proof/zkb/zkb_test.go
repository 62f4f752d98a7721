package zkb_test

import (
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/zkb"
)

func BenchmarkProve(b *testing.B) {
	var w [32]byte
	rand.Read(w[:])
	st := proof.PreimageOf(sha256.Sum256(w[:]))
	s := zkb.Bits128()
	var p []byte
	b.Run("prove", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var err error
			if p, err = s.Prove(p[:0], rand.Reader, st, w, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Verify(st, nil, p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
