package vole

import "slices"

// An expr is a linear expression while a circuit is built. Without terms it is
// the constant k.
type expr struct {
	terms []term
	k     uint32
}

func constant(k uint32) expr { return expr{k: k} }

func (e expr) isConstant() bool { return len(e.terms) == 0 }

func xor(es ...expr) (out expr) {
	for _, e := range es {
		out.terms = append(out.terms, e.terms...)
		out.k ^= e.k
	}
	return out
}

// right turns or, with cut, shifts e to the right. Only words of the table and
// constants are turned, never what was turned before.
func right(e expr, n int, cut bool) expr {
	out := expr{k: term{right: n, cut: cut}.of([]uint32{e.k})}
	for _, t := range e.terms {
		if t.right != 0 {
			panic("vole: a turned word is turned again")
		}
		out.terms = append(out.terms, term{t.from, n, cut})
	}
	return out
}

// Where words stand is known when all are counted: until then public words and
// scratch have indices of their own.
const (
	publicBase  = 1 << 20
	scratchBase = 1 << 21
	ring        = 8 // scratch words that are used in turn: a step needs fewer
)

type builder struct {
	c       circuit
	message [8]expr
	pending []linear
	turn    int
	kept    int
	steps   []step
}

func newBuilder() *builder {
	b := &builder{}
	for i := range b.message {
		b.message[i] = at(b.newWitness())
	}
	return b
}

func at(index int) expr { return expr{terms: []term{{from: index}}} }

func (b *builder) newWitness() int {
	b.c.witness++
	return b.c.witness - 1
}

func (b *builder) publicWords(n int) (out [8]expr) {
	for i := range out[:n] {
		out[i] = at(publicBase + b.c.public)
		b.c.public++
	}
	return out
}

// place gives e a place in the table, in scratch unless it has one.
func (b *builder) place(e expr) int {
	if len(e.terms) == 1 && e.k == 0 && e.terms[0].right == 0 {
		return e.terms[0].from
	}
	b.turn = (b.turn + 1) % ring
	return b.put(scratchBase+b.turn, e)
}

// keep gives e a place of its own.
func (b *builder) keep(e expr) expr {
	b.kept++
	return at(b.put(scratchBase+ring+b.kept-1, e))
}

func (b *builder) put(to int, e expr) int {
	b.pending = append(b.pending, linear{to, e.terms, e.k})
	return to
}

// A quadratic is (l xor (a and b)) << shift.
type quadratic struct {
	l, a, b expr
	shift   uint
}

// add states sum = x + q; without a sum it commits to one.
func (b *builder) add(x expr, q quadratic, sum ...expr) expr {
	if len(sum) == 0 {
		sum = []expr{at(b.newWitness())}
	}
	s := step{sum: sum[0].terms[0].from, x: b.place(x), l: b.place(q.l), a: b.place(q.a), b: b.place(q.b), shift: q.shift}
	s.linear, b.pending = b.pending, nil
	b.steps = append(b.steps, s)
	return sum[0]
}

// add3 states sum = x + y + z: the bits' sums without carries, plus the
// majorities, one place up.
func (b *builder) add3(x, y, z expr, sum ...expr) expr {
	return b.add(xor(x, y, z), quadratic{l: x, a: xor(x, y), b: xor(x, z), shift: 1}, sum...)
}

// sum adds any number of words, constants in one.
func (b *builder) sum(es []expr, sum ...expr) expr {
	var k uint32
	var vs []expr
	for _, e := range es {
		if e.isConstant() {
			k += e.k
			continue
		}
		vs = append(vs, e)
	}
	if k != 0 || len(vs) == 0 {
		vs = append(vs, constant(k))
	}
	for len(vs) > 3 {
		vs = append([]expr{b.add3(vs[0], vs[1], vs[2])}, vs[3:]...)
	}
	switch len(vs) {
	case 1:
		return vs[0]
	case 2:
		return b.add3(vs[0], vs[1], constant(0), sum...)
	}
	return b.add3(vs[0], vs[1], vs[2], sum...)
}

// with returns the summands es and q in as few as q's form allows.
func (b *builder) with(es []expr, q quadratic, sum ...expr) []expr {
	if q.l.isConstant() && q.a.isConstant() && q.b.isConstant() {
		return append(slices.Clone(es), constant((q.l.k^q.a.k&q.b.k)<<q.shift))
	}
	return []expr{b.add(b.sum(es), q, sum...)}
}

// sigma is one of the four linear functions of SHA-256: two turns, and a turn
// or, with cut, a shift.
func (b *builder) sigma(e expr, r1, r2, r3 int, cut bool) expr {
	out := xor(right(e, r1, false), right(e, r2, false), right(e, r3, cut))
	if out.isConstant() {
		return out
	}
	return at(b.place(out))
}

// schedule is the message schedule of a message of 32 bytes, padded.
func (b *builder) schedule(message [8]expr) (w [64]expr) {
	copy(w[:], message[:])
	for t := 8; t < 16; t++ {
		w[t] = constant(0)
	}
	w[8], w[15] = constant(1<<31), constant(256) // the mark, the length in bits
	for t := 16; t < 64; t++ {
		s0, s1 := b.sigma(w[t-15], 7, 18, 3, true), b.sigma(w[t-2], 17, 19, 10, true)
		w[t] = b.sum([]expr{w[t-16], s0, w[t-7], s1})
	}
	return w
}

// compress states that SHA-256's compression of a message of 32 bytes, padded,
// leads from the initial state to out, before the last additions (FIPS 180-4,
// section 6.2.2). Five sums are committed to in each round: h + S1 + w, with
// Ch, the new e, what goes into the new a, and the new a.
func (b *builder) compress(message, out [8]expr) {
	w := b.schedule(message)
	var v [8]expr
	for i := range v {
		v[i] = constant(initial[i])
	}
	for t := range 64 {
		var newA, newE []expr
		if t >= 60 {
			newA, newE = out[63-t:64-t], out[67-t:68-t]
		}
		k := constant(rounds[t])
		ch := quadratic{l: v[6], a: v[4], b: xor(v[5], v[6])}
		t1 := b.with([]expr{v[7], b.sigma(v[4], 6, 11, 25, false), w[t]}, ch)
		e := b.sum(append(slices.Clone(t1), v[3], k), newE...)
		maj := quadratic{l: v[0], a: xor(v[0], v[1]), b: xor(v[0], v[2])}
		a := b.sum(b.with(append(slices.Clone(t1), b.sigma(v[0], 2, 13, 22, false), k), maj, newA...))
		v = [8]expr{a, v[0], v[1], v[2], e, v[4], v[5], v[6]}
	}
}

// finish gives all words their final places.
func (b *builder) finish() *circuit {
	b.c.scratch = ring + b.kept
	place := func(i *int) {
		switch {
		case *i >= scratchBase:
			*i += b.c.committed() + b.c.public - scratchBase
		case *i >= publicBase:
			*i += b.c.committed() - publicBase
		}
	}
	for i := range b.steps {
		s := &b.steps[i]
		for j := range s.linear {
			l := &s.linear[j]
			l.terms = slices.Clone(l.terms) // expressions share theirs
			place(&l.to)
			for n := range l.terms {
				place(&l.terms[n].from)
			}
		}
		for _, p := range []*int{&s.sum, &s.x, &s.l, &s.a, &s.b} {
			place(p)
		}
	}
	b.c.steps = b.steps
	return &b.c
}

// The constants of SHA-256 (FIPS 180-4, sections 4.2.2 and 5.3.3).
var (
	initial = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

	rounds = [64]uint32{
		0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
		0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
		0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
		0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
		0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
		0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
		0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
	}
)
