package vole

// Each wire with the bit w has a tag v, which the prover knows, and a key
// q = v + w*Delta, which the verifier knows. Keys of sums are sums of keys; the
// constant 1 has the tag 0 and the key Delta. An expression of degree 3 in
// wires is, in keys, a polynomial of degree 3 in Delta, and its highest
// coefficient is the expression's value: 0 where a constraint holds. So the
// prover can name the three others (QuickSilver, section 5).
//
// The constraints of a sum s = x + y with carries c, where y = l xor ab is
// quadratic, are, for bits i from 0 to 31,
//
//	0 = s_i + x_i + y_i + c_i,  c_0 = 0,  c_(i+1) = x_i + x_i*s_i + y_i*(x_i + s_i) + y_i
//
// which is the majority of x_i, y_i and the carry, in terms of the sum. Bits
// 0 to 15 by 1, x^8, x^16..., bits 16 to 31 by x, x^9, x^17..., and added: the
// values are bits and the weights independent over bits, so that the sum is 0
// only if all 32 hold.

// A table has the tags or keys of all words of a circuit.
type table []word

// products are the two lower coefficients of the quadratic summand of a step,
// the bits' from index 1 on: what is below bit 0 is 0.
type products struct {
	y0, y1 [34]elem
	shift  uint
}

func (p *products) zeroth() *elem { return &p.y0[1+p.shift] }
func (p *products) first() *elem  { return &p.y1[1+p.shift] }

// begin makes room for a step. The kernel fills 32 from zeroth and first on.
func (p *products) begin(s *step) {
	p.shift = s.shift
	p.y0[1], p.y1[1] = elem{}, elem{}
}

// linearKeys makes the linear words of a step. For tags delta is 0.
func (t table) linearKeys(kr kernel, s *step, delta elem) {
	for i := range s.linear {
		l := &s.linear[i]
		to := &t[l.to]
		clear(to[:])
		for _, term := range l.terms {
			kr.addTurned(to, &t[term.from], term)
		}
		if l.k != 0 && delta != (elem{}) {
			to.addConstant(l.k, delta)
		}
	}
}

// addConstant adds the keys of a constant.
func (w *word) addConstant(k uint32, delta elem) {
	for i := range w {
		w[i] = w[i].add(delta.when(k >> i))
	}
}

// prove gives the coefficients 0, 1 and 2 of the weighed sum of all
// constraints. bits is the table of the circuit after eval; its scratch is made
// anew.
func (c *circuit) prove(kr kernel, tags table, bits []uint32, weight []elem) (a [3]elem) {
	var y products
	var sums [3][]elem
	for j := range sums {
		sums[j] = make([]elem, len(c.steps))
	}
	for i := range c.steps {
		s := &c.steps[i]
		s.prepare(bits)
		tags.linearKeys(kr, s, elem{})
		y.begin(s)
		kr.products(&y, &tags[s.l], &tags[s.a], &tags[s.b], bits[s.a], bits[s.b])
		ws, wx := bits[s.sum], bits[s.x]
		p := kr.constrain(&y, &tags[s.sum], &tags[s.x], &[4]uint32{wx ^ ws, wx, ws, s.quadratic(bits)})
		for j := range p {
			sums[j][i] = p[j]
		}
	}
	for j := range a {
		a[j] = kr.dot(sums[j], weight)
	}
	return a
}

// verify gives the value of the weighed sum of all constraints. A key is a tag
// without a bit, so the prover's coefficients are, of keys, the verifier's: what
// is of degree 3 in keys, of degree 2, and of degree 1, to be multiplied by 1,
// Delta, and Delta^2.
func (c *circuit) verify(kr kernel, keys table, delta elem, weight []elem) elem {
	var y products
	var sums [3][]elem
	for j := range sums {
		sums[j] = make([]elem, len(c.steps))
	}
	for i := range c.steps {
		s := &c.steps[i]
		keys.linearKeys(kr, s, delta)
		y.begin(s)
		kr.productKeys(&y, &keys[s.l], &keys[s.a], &keys[s.b], delta)
		p := kr.constrain(&y, &keys[s.sum], &keys[s.x], &[4]uint32{})
		for j := range p {
			sums[j][i] = p[j]
		}
	}
	sum := kr.dot(sums[2], weight)
	sum = kr.dot(sums[1], weight).add(kr.mul(sum, delta))
	return kr.dot(sums[0], weight).add(kr.mul(sum, delta))
}
