package vole_test

import (
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

func link(w, salt [32]byte) proof.Statement {
	salted := w
	for i := range salted {
		salted[i] ^= salt[i]
	}
	return proof.LinkOf(sha256.Sum256(w[:]), salt, sha256.Sum256(salted[:]))
}

func benchEach(b *testing.B, run func(b *testing.B, s proof.System, st proof.Statement, w [32]byte)) {
	w, salt := [32]byte{1}, [32]byte{2}
	for _, sys := range []*vole.System{vole.Bits80, vole.Bits80Fast, vole.Bits128, vole.Bits128Fast} {
		for name, st := range map[string]proof.Statement{"preimage": proof.PreimageOf(sha256.Sum256(w[:])), "link": link(w, salt)} {
			b.Run(sys.Name()+"/"+name, func(b *testing.B) {
				b.ReportMetric(float64(sys.Length(st.Kind)), "proof-B")
				b.ReportAllocs()
				run(b, sys, st, w)
			})
		}
	}
}

func BenchmarkProve(b *testing.B) {
	benchEach(b, func(b *testing.B, s proof.System, st proof.Statement, w [32]byte) {
		var p []byte
		for b.Loop() {
			p, _ = s.Prove(p[:0], rand.Reader, st, w, nil)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	benchEach(b, func(b *testing.B, s proof.System, st proof.Statement, w [32]byte) {
		p, _ := s.Prove(nil, rand.Reader, st, w, nil)
		for b.Loop() {
			if err := s.Verify(st, nil, p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
