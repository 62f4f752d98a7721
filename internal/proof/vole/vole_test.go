package vole_test

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

func TestRound(t *testing.T) {
	var w, s [32]byte
	rand.Read(w[:])
	rand.Read(s[:])
	sw := w
	for i := range sw {
		sw[i] ^= s[i]
	}
	for _, st := range []proof.Statement{proof.PreimageOf(sha256.Sum256(w[:])), proof.LinkOf(sha256.Sum256(w[:]), s, sha256.Sum256(sw[:]))} {
		for _, sys := range []proof.System{vole.Bits80, vole.Bits80Fast, vole.Bits128} {
			p, err := sys.Prove(nil, rand.Reader, st, w, []byte("ctx"))
			if err != nil {
				t.Fatal(err)
			}
			if len(p) != sys.Length(st.Kind) {
				t.Fatal("length")
			}
			if err := sys.Verify(st, []byte("ctx"), p); err != nil {
				t.Fatal(sys.Name(), st.Kind, err)
			}
			t.Log(sys.Name(), st.Kind, len(p))
			for i := 0; i < len(p); i += 1 + len(p)/40 {
				p[i] ^= 1
				if err := sys.Verify(st, []byte("ctx"), p); !errors.Is(err, proof.ErrRefused) {
					t.Fatal("flip", i)
				}
				p[i] ^= 1
			}
		}
	}
}

func BenchmarkProve(b *testing.B) {
	var w [32]byte
	st := proof.PreimageOf(sha256.Sum256(w[:]))
	for b.Loop() {
		vole.Bits80.Prove(nil, rand.Reader, st, w, nil)
	}
}
