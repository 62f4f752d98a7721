package vole_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

func TestStock(t *testing.T) {
	c := cases()
	stock := vole.Bits80.NewStock(proof.Link, 2)
	for i, want := range []bool{true, true, false} {
		if made, err := stock.Add(rand.Reader); made != want || err != nil {
			t.Fatalf("piece %d: %v (%v) instead of %v", i, made, err, want)
		}
	}
	accepted(t, vole.Bits80, c[0].st, nil, prove(t, stock, c[0].st, c[0].w, nil))
	if n := stock.Len(); n != 2 {
		t.Errorf("%d pieces after a proof of another kind", n)
	}
	if _, err := stock.Prove(nil, rand.Reader, c[1].st, random(), nil); !errors.Is(err, proof.ErrFalse) {
		t.Errorf("%v instead of %v", err, proof.ErrFalse)
	}
	if n := stock.Len(); n != 2 {
		t.Errorf("%d pieces after a proof that was none", n)
	}
	var proofs [][]byte
	for left := range 3 {
		p := prove(t, stock, c[1].st, c[1].w, []byte("context"))
		accepted(t, stock, c[1].st, []byte("context"), p)
		if n := stock.Len(); n != max(1-left, 0) {
			t.Errorf("%d pieces after %d proofs", n, left+1)
		}
		proofs = append(proofs, p)
	}
	// No piece went into two proofs: the salt says which piece it was.
	for i, p := range proofs {
		for _, q := range proofs[:i] {
			if bytes.Equal(p[3:19], q[3:19]) {
				t.Error("two proofs of one piece")
			}
		}
	}
	if made, err := stock.Add(rand.Reader); !made || err != nil {
		t.Errorf("no piece is made when there is room again: %v", err)
	}
}

func TestStockWithoutRandomness(t *testing.T) {
	stock := vole.Bits80.NewStock(proof.Preimage, 1)
	if made, err := stock.Add(strings.NewReader("")); made || err == nil {
		t.Error("a piece without randomness")
	}
	if made, err := stock.Add(rand.Reader); !made || err != nil {
		t.Errorf("the failure took up room: %v", err)
	}
}

func TestStockOfNoKind(t *testing.T) {
	stock := vole.Bits80.NewStock(0, 5)
	if made, err := stock.Add(rand.Reader); made || err != nil {
		t.Errorf("a piece for no kind (%v)", err)
	}
}

func TestStockServesManyAtOnce(t *testing.T) {
	c := cases()[0]
	s := vole.NewSystem(95, "small", 2, 4, 1)
	stock := s.NewStock(proof.Preimage, 4)
	results := make(chan []byte)
	for range 4 {
		go func() {
			for range 8 {
				if _, err := stock.Add(rand.Reader); err != nil {
					t.Error(err)
				}
				p, err := stock.Prove(nil, rand.Reader, c.st, c.w, nil)
				if err != nil {
					t.Error(err)
				}
				results <- p
			}
		}()
	}
	salts := map[string]bool{}
	for range 32 {
		p := <-results
		accepted(t, s, c.st, nil, p)
		salts[string(p[3:19])] = true
	}
	if len(salts) != 32 {
		t.Errorf("%d pieces in 32 proofs", len(salts))
	}
}
