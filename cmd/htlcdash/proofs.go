package main

import (
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

// stockUp has the first of systems, if it can, hold parts of as many proofs that
// are made ahead.
func stockUp(systems []proof.System, ahead int) {
	if len(systems) == 0 || ahead <= 0 {
		return
	}
	if sys, ok := systems[0].(*vole.System); ok {
		systems[0] = sys.NewStock(proof.Link, ahead)
	}
}
