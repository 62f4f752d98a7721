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

// A desk is the working space for the constraints of one proof.
type desk struct {
	table  table
	bits   []uint32 // of the prover
	weight []elem
	sums   [3][]elem // of each step
	y      products
}

func newDesk(c *circuit) *desk {
	d := &desk{table: make(table, c.words()), bits: make([]uint32, c.words()), weight: make([]elem, len(c.steps))}
	for i := range d.sums {
		d.sums[i] = make([]elem, len(c.steps))
	}
	return d
}

// linear makes the linear words of a step. For tags delta is 0.
func (d *desk) linear(kr kernel, s *step, delta elem) {
	for i := range s.linear {
		l := &s.linear[i]
		to, terms := &d.table[l.to], l.terms
		if len(terms) > 0 && terms[0].right == 0 {
			*to, terms = d.table[terms[0].from], terms[1:]
		} else {
			*to = word{}
		}
		for _, t := range terms {
			kr.addTurned(to, &d.table[t.from], t)
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
// constraints, masked. The table has the tags of the committed words, bits the
// message and what eval made of it.
func (d *desk) prove(kr kernel, c *circuit, u []byte) (a [3]elem) {
	clear(d.table[c.committed():]) // public words have no tags
	for i := range c.steps {
		s := &c.steps[i]
		s.prepare(d.bits)
		d.linear(kr, s, elem{})
		d.y.begin(s)
		kr.products(&d.y, &d.table[s.l], &d.table[s.a], &d.table[s.b], d.bits[s.a], d.bits[s.b])
		ws, wx, wy := d.bits[s.sum], d.bits[s.x], s.quadratic(d.bits)
		d.setSums(i, kr.constrain(&d.y, &d.table[s.sum], &d.table[s.x], [4]uint32{wx ^ ws, wx, ws, wy}))
	}
	v := d.maskKeys(c)
	a[0] = kr.dot(d.sums[0], d.weight).add(v[0])
	a[1] = kr.dot(d.sums[1], d.weight).add(v[1]).add(loadElem(u[4*c.masks():]))
	a[2] = kr.dot(d.sums[2], d.weight).add(loadElem(u[4*c.masks()+elemLen:]))
	return a
}

// verify gives coefficient 0, if the others are those of a. A key is a tag
// without a bit, so the prover's coefficients, of keys, are the parts of degree
// 3, 2 and 1 in keys, and go with 1, Delta and Delta^2.
func (d *desk) verify(kr kernel, c *circuit, public []uint32, delta elem, a [3]elem) elem {
	clear(d.table[c.committed():])
	for i, w := range public {
		d.table[c.committed()+i].addConstant(w, delta)
	}
	d.y = products{}
	for i := range c.steps {
		s := &c.steps[i]
		d.linear(kr, s, delta)
		d.y.begin(s)
		kr.productKeys(&d.y, &d.table[s.l], &d.table[s.a], &d.table[s.b], delta)
		d.setSums(i, kr.constrain(&d.y, &d.table[s.sum], &d.table[s.x], [4]uint32{}))
	}
	q := d.maskKeys(c)
	sum := kr.dot(d.sums[2], d.weight).add(a[2])
	sum = kr.mul(sum, delta).add(kr.dot(d.sums[1], d.weight)).add(a[1]).add(q[1])
	return kr.mul(sum, delta).add(kr.dot(d.sums[0], d.weight)).add(q[0])
}

func (d *desk) setSums(i int, p [3]elem) {
	for j := range p {
		d.sums[j][i] = p[j]
	}
}

// maskKeys are the tags or keys of the two masks of 128 bits.
func (d *desk) maskKeys(c *circuit) (out [2]elem) {
	for i := range out {
		for j := 127; j >= 0; j-- {
			out[i] = out[i].timesX().add(d.table[c.masks()+4*i+j/32][j%32])
		}
	}
	return out
}
