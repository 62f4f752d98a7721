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
		for _, sys := range []*vole.System{vole.Bits80, vole.Bits80Fast, vole.Bits128} {
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

type stream struct{ n uint64 }

func (s *stream) Read(b []byte) (int, error) {
	for i := range b {
		s.n = s.n*6364136223846793005 + 1442695040888963407
		b[i] = byte(s.n >> 56)
	}
	return len(b), nil
}

func TestKernels(t *testing.T) {
	var w [32]byte
	st := proof.PreimageOf(sha256.Sum256(w[:]))
	for _, sys := range []*vole.System{vole.Bits80, vole.Bits80Fast, vole.Bits128} {
		var first []byte
		ks := vole.OnEachKernel(sys)
		for i, k := range ks {
			p, err := k.Prove(nil, &stream{1}, st, w, nil)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = p
			}
			d := -1
			for j := range p {
				if p[j] != first[j] {
					d = j
					break
				}
			}
			t.Log(sys.Name(), i, d)
			if d >= 0 {
				t.Error("differ")
			}
		}
	}
}
