package vole_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

// FuzzVerify alters a good proof: xors data into it from at on, and cuts it or
// makes it longer. Whatever comes out but the proof itself is refused.
func FuzzVerify(f *testing.F) {
	w, salt := [32]byte{1, 2, 3}, [32]byte{4}
	s := vole.Bits80Fast
	statements := []proof.Statement{proof.PreimageOf(sha256.Sum256(w[:])), linkOf(w, salt)}
	proofs := [][]byte{prove(f, s, statements[0], w, nil), prove(f, s, statements[1], w, nil)}
	f.Add([]byte{}, uint32(0), int32(0), false)
	f.Add([]byte{0, 0, 3}, uint32(0), int32(0), true)
	f.Add([]byte{1}, uint32(len(proofs[0])-1), int32(0), false)
	f.Add([]byte{0x80, 0, 0, 1}, uint32(len(proofs[1])-36), int32(0), true)
	f.Add([]byte{}, uint32(0), int32(-1), false)
	f.Add([]byte{}, uint32(0), int32(1), true)
	f.Fuzz(func(t *testing.T, data []byte, at uint32, longer int32, isLink bool) {
		n := 0
		if isLink {
			n = 1
		}
		p := bytes.Clone(proofs[n])
		for i, b := range data {
			p[(int(at)+i)%len(p)] ^= b
		}
		if size := len(p) + int(longer)%len(p); size <= len(p) {
			p = p[:size]
		} else {
			p = append(p, make([]byte, size-len(p))...)
		}
		err := s.Verify(statements[n], nil, p)
		if same := bytes.Equal(p, proofs[n]); same != (err == nil) || err != nil && !errors.Is(err, proof.ErrRefused) {
			t.Errorf("the proof is altered: %v; %v", !same, err)
		}
		if err := s.Verify(statements[n], nil, data); !errors.Is(err, proof.ErrRefused) {
			t.Errorf("%d bytes as a proof: %v", len(data), err)
		}
	})
}
