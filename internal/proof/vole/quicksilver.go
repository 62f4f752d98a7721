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
// which is the majority of x_i, y_i and the carry, in terms of the sum. Those
// of one addition are weighed by x^0 to x^31 of the field and added: what is
// added are bits, so that the 32 must hold for the sum to be 0.

// A table has the tags or keys of all words of a circuit.
type table []word

// linearTags makes the linear words of a step.
func (t table) linearTags(s *step) {
	for i := range s.linear {
		l := &s.linear[i]
		to := &t[l.to]
		clear(to[:])
		for _, term := range l.terms {
			to.addTurned(&t[term.from], term)
		}
	}
}

func (w *word) addTurned(from *word, t term) {
	n := 32 - t.right
	for i := range n {
		w[i] = w[i].add(from[i+t.right])
	}
	if t.cut {
		return
	}
	for i := n; i < 32; i++ {
		w[i] = w[i].add(from[i-n])
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
func (c *circuit) prove(tags table, bits []uint32, weight []elem) (a [3]elem) {
	for i := range c.steps {
		s := &c.steps[i]
		s.prepare(bits)
		tags.linearTags(s)
		p := s.prove(tags, bits)
		for j := range a {
			a[j] = a[j].add(p[j].mul(weight[i]))
		}
	}
	return a
}

// prove gives the coefficients for one addition.
func (s *step) prove(tags table, bits []uint32) (out [3]elem) {
	vs, vx, vl, va, vb := &tags[s.sum], &tags[s.x], &tags[s.l], &tags[s.a], &tags[s.b]
	ws, wx, wa, wb, wy := bits[s.sum], bits[s.x], bits[s.a], bits[s.b], s.quadratic(bits)
	var y0, y1 word
	for i := range 32 - int(s.shift) {
		y0[i+int(s.shift)] = va[i].mul(vb[i])
		y1[i+int(s.shift)] = vl[i].add(vb[i].when(wa >> i)).add(va[i].when(wb >> i))
	}
	for j := 31; j >= 0; j-- {
		p := [3]elem{{}, y0[j], vs[j].add(vx[j]).add(y1[j])}
		if j > 0 {
			i := j - 1
			t, wt := vx[i].add(vs[i]), (wx^ws)>>i
			p[0] = y0[i].mul(t)
			p[1] = p[1].add(y1[i].mul(t)).add(y0[i].when(wt)).add(vx[i].mul(vs[i])).add(y0[i])
			p[2] = p[2].add(t.when(wy >> i)).add(y1[i].when(wt)).
				add(vs[i].when(wx >> i)).add(vx[i].when(ws >> i)).add(vx[i]).add(y1[i])
		}
		for n := range out {
			out[n] = out[n].timesX().add(p[n])
		}
	}
	return out
}

// verify gives the value of the weighed sum of all constraints.
func (c *circuit) verify(keys table, delta elem, weight []elem) (sum elem) {
	delta2 := delta.mul(delta)
	for i := range c.steps {
		s := &c.steps[i]
		keys.linearTags(s)
		for j := range s.linear {
			keys[s.linear[j].to].addConstant(s.linear[j].k, delta)
		}
		sum = sum.add(s.verify(keys, delta, delta2).mul(weight[i]))
	}
	return sum
}

func (s *step) verify(keys table, delta, delta2 elem) (out elem) {
	qs, qx, ql, qa, qb := &keys[s.sum], &keys[s.x], &keys[s.l], &keys[s.a], &keys[s.b]
	var y word
	for i := range 32 - int(s.shift) {
		y[i+int(s.shift)] = ql[i].mul(delta).add(qa[i].mul(qb[i]))
	}
	for j := 31; j >= 0; j-- {
		second, first := qs[j].add(qx[j]), y[j]
		var zeroth elem
		if j > 0 {
			i := j - 1
			second = second.add(qx[i])
			first = first.add(y[i]).add(qx[i].mul(qs[i]))
			zeroth = y[i].mul(qx[i].add(qs[i]))
		}
		out = out.timesX().add(zeroth).add(first.mul(delta)).add(second.mul(delta2))
	}
	return out
}
