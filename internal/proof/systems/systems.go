// Package systems knows all proof systems by their names on the wire.
package systems

import (
	"fmt"
	"strings"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/proof/zkb"
)

// All returns every system, the quickest first.
func All() []proof.System {
	return []proof.System{vole.Bits80, vole.Bits80Small, vole.Bits128, zkb.Bits80(), zkb.Bits128()}
}

// Named returns the systems with names, in their order.
func Named(names []string) (out []proof.System, err error) {
	for _, name := range names {
		sys, err := named(name)
		if err != nil {
			return nil, err
		}
		out = append(out, sys)
	}
	return out, nil
}

func named(name string) (proof.System, error) {
	var known []string
	for _, sys := range All() {
		if sys.Name() == name {
			return sys, nil
		}
		known = append(known, sys.Name())
	}
	return nil, fmt.Errorf("proof %q is not known: want one of %s", name, strings.Join(known, ", "))
}
