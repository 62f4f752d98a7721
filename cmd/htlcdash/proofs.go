package main

import (
	"fmt"
	"strings"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/proof/zkb"
)

// allProofs are the ways of proof that this program knows.
func allProofs() []proof.System {
	return []proof.System{vole.Bits80, vole.Bits80Small, vole.Bits128, zkb.Bits80(), zkb.Bits128()}
}

// proofSystems returns the ways of proof with names, in their order.
func proofSystems(names []string) (out []proof.System, err error) {
	for _, name := range names {
		sys, err := proofSystem(name)
		if err != nil {
			return nil, err
		}
		out = append(out, sys)
	}
	return out, nil
}

func proofSystem(name string) (proof.System, error) {
	var known []string
	for _, sys := range allProofs() {
		if sys.Name() == name {
			return sys, nil
		}
		known = append(known, sys.Name())
	}
	return nil, fmt.Errorf("proof %q is not known: want one of %s", name, strings.Join(known, ", "))
}

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
