package vole

import "htlcdash/internal/proof"

// OnEachKernel gives s for each kernel that this machine can run.
func OnEachKernel(of *System) (out []*System) {
	for _, kr := range kernels() {
		c := newSystem(of.shapes[proof.Link].header[1], of.name, of.shapes[proof.Link].parameters)
		for _, sh := range c.shapes {
			sh.kernel = kr
		}
		out = append(out, c)
	}
	return out
}
