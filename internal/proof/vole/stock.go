package vole

import (
	"io"
	"sync"

	"htlcdash/internal/proof"
)

// A Stock is a [proof.System] that holds what can be made before a statement is
// known, so that a proof takes a fraction of its time when it is asked for. Each
// piece goes into one proof. A piece for a link has about half a megabyte.
type Stock struct {
	*System
	kind proof.Kind
	size int

	mu     sync.Mutex
	pieces []*commitment
	making int // pieces on the way, for which there is room
}

// NewStock returns an empty stock for proofs of one kind, of at most size
// pieces.
func (s *System) NewStock(k proof.Kind, size int) *Stock {
	if s.shapes()[k] == nil {
		size = 0
	}
	return &Stock{System: s, kind: k, size: size}
}

// Add makes a piece if there is room for one, and reports whether it did. Who
// has time to spare calls it until it says no. It may be called at once with
// itself and with Prove. Randomness is as in [proof.System].
func (s *Stock) Add(rand io.Reader) (bool, error) {
	if !s.reserve() {
		return false, nil
	}
	c, err := s.shapes()[s.kind].commit(rand)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making--
	if err != nil {
		return false, err
	}
	s.pieces = append(s.pieces, c)
	return true, nil
}

func (s *Stock) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pieces)+s.making >= s.size {
		return false
	}
	s.making++
	return true
}

// Len is the number of pieces in stock.
func (s *Stock) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pieces)
}

// take gives away a piece, or nil.
func (s *Stock) take() *commitment {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.pieces) - 1
	if n < 0 {
		return nil
	}
	c := s.pieces[n]
	s.pieces[n] = nil
	s.pieces = s.pieces[:n]
	return c
}

// Prove implements [proof.System], from stock if it can.
func (s *Stock) Prove(dst []byte, rand io.Reader, st proof.Statement, w [32]byte, context []byte) ([]byte, error) {
	if st.Kind != s.kind || !st.Holds(w) {
		return s.System.Prove(dst, rand, st, w, context)
	}
	if c := s.take(); c != nil {
		return c.prove(dst, st, w, context), nil
	}
	return s.System.Prove(dst, rand, st, w, context)
}
