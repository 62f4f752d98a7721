package vole

import (
	"fmt"
	"io"
	"unsafe"

	"htlcdash/internal/proof"
)

// NewSystem makes a system of any strength.
func NewSystem(id byte, name string, trees, depth, grind int) *System {
	return newSystem(id, name, parameters{trees, depth, grind})
}

// NewInteractive makes an interactive system of any strength.
func NewInteractive(id byte, name string, trees, depth int) *Interactive {
	return newInteractive(id, name, parameters{trees: trees, depth: depth})
}

func (s *System) with(kr func(*shape) kernel) *System {
	of := s.shapes()[proof.Link]
	c := newSystem(of.header[1], s.name, of.parameters)
	for _, sh := range c.shapes() {
		sh.kernel = kr(sh)
	}
	return c
}

// OnEachKernel gives s for each kernel that this machine can run, the portable
// one last.
func (s *System) OnEachKernel() (out []*System) {
	for _, kr := range kernels() {
		out = append(out, s.with(func(*shape) kernel { return kr }))
	}
	return out
}

// A Field is a part of a proof.
type Field struct {
	Name     string
	From, To int
}

// Fields lists all parts of a proof, in order.
func (s *System) Fields(k proof.Kind) (out []Field) {
	sh, at := s.shapes()[k], 0
	add := func(n int, format string, args ...any) {
		out = append(out, Field{fmt.Sprintf(format, args...), at, at + n})
		at += n
	}
	add(1, "version")
	add(1, "system")
	add(1, "kind")
	add(saltLen, "salt")
	for i := 1; i < sh.trees; i++ {
		add(sh.column, "correction %d", i)
	}
	add(digestLen, "digest")
	add(4*sh.circuit.witness, "witness")
	add(elemLen, "coefficient 1")
	add(elemLen, "coefficient 2")
	for i := range sh.trees {
		for j := range sh.depth {
			add(nodeLen, "tree %d sibling %d", i, j)
		}
		add(comLen, "tree %d commitment", i)
	}
	add(challengeLen, "challenge")
	add(counterLen, "counter")
	return out
}

// Challenges are the challenges that a proof leads to, for vectors.
type Challenges struct{ First, Second, Bound [32]byte }

// Trace proves like Prove, and tells the challenges.
func (s *System) Trace(rand io.Reader, st proof.Statement, w [32]byte, context []byte) ([]byte, Challenges) {
	c, err := s.shapes()[st.Kind].commit(rand)
	if err != nil {
		panic(err)
	}
	ch := Challenges{First: c.first}
	ch.Second = c.mask(st, w, context)
	drawWeights(c.sh.kernel, ch.Second, c.desk.weight)
	a := c.finish(ch.Second, c.desk.prove(c.sh.kernel, c.sh.circuit, c.u))
	ch.Bound = a.bound
	return a.complete(nil), ch
}

// ForgersRoots are the challenges for which a forger hopes.
var ForgersRoots = []int{1, 2, 7}

// Forge does what a prover without a witness can do best: it follows the
// protocol with some w, and bends the coefficients so that the polynomial that
// should be 0 has three roots of its choice among the challenges.
func (s *System) Forge(rand io.Reader, st proof.Statement, w [32]byte, context []byte) []byte {
	return s.shapes()[st.Kind].forge(rand, st, w, context).complete(nil)
}

// Forge gives a forged message, and answers to any number of challenges.
func (s *Interactive) Forge(rand io.Reader, st proof.Statement, w [32]byte, context []byte) ([]byte, func([]byte) []byte) {
	a := s.shapes()[st.Kind].forge(rand, st, w, context)
	return append(a.message, a.bound[:]...), func(d []byte) []byte { return a.open(nil, a.sh.hidden(d)) }
}

func (sh *shape) forge(rand io.Reader, st proof.Statement, w [32]byte, context []byte) answer {
	c, err := sh.commit(rand)
	if err != nil {
		panic(err)
	}
	second := c.mask(st, w, context)
	drawWeights(sh.kernel, second, c.desk.weight)
	a := c.desk.prove(sh.kernel, sh.circuit, c.u)
	top := sh.circuit.topCoefficient(c.desk.bits, c.desk.weight)
	p, q, r := elem{uint64(ForgersRoots[0])}, elem{uint64(ForgersRoots[1])}, elem{uint64(ForgersRoots[2])}
	a[2] = a[2].add(top.mul(p.add(q).add(r)))
	a[1] = a[1].add(top.mul(p.mul(q).add(q.mul(r)).add(r.mul(p))))
	a[0] = a[0].add(top.mul(p.mul(q).mul(r)))
	return c.finish(second, a)
}

// topCoefficient is that of Delta^3, which is 0 if all sums hold.
func (c *circuit) topCoefficient(bits []uint32, weight []elem) (top elem) {
	for i := range c.steps {
		s := &c.steps[i]
		s.prepare(bits)
		var packed elem
		wrong := wrongBits(bits[s.sum], bits[s.x], s.quadratic(bits))
		for j := range 32 {
			if wrong>>j&1 == 0 {
				continue
			}
			e := elem{1}
			for range 8*(j%16) + j/16 {
				e = e.timesX()
			}
			packed = packed.add(e)
		}
		top = top.add(packed.mul(weight[i]))
	}
	return top
}

// wrongBits has the bits of s that are not those of x+y, given those below.
func wrongBits(s, x, y uint32) (wrong uint32) {
	next := uint32(0)
	for i := range 32 {
		si, xi, yi := s>>i&1, x>>i&1, y>>i&1
		carry := si ^ xi ^ yi
		wrong |= (carry ^ next) << i
		next = xi&yi ^ yi&carry ^ carry&xi
	}
	return wrong
}

// Check evaluates the circuit of a statement, and reports whether all public
// sums come out.
func Check(st proof.Statement, w [32]byte) bool {
	c := circuitOf(st.Kind)
	bits := make([]uint32, c.words())
	copy(bits, appendWords(nil, w))
	copy(bits[c.committed():], publicWordsOf(st))
	c.eval(bits)
	for i := range c.steps {
		s := &c.steps[i]
		s.prepare(bits)
		if bits[s.sum] != bits[s.x]+s.quadratic(bits) {
			return false
		}
	}
	return true
}

// Sums counts the words that a statement commits to beside the message, and the
// additions that are checked.
func Sums(k proof.Kind) (committed, checked int) {
	c := circuitOf(k)
	return c.witness - 8, len(c.steps)
}

// Addition applies the constraints of one addition to known words: keys with
// Delta = 1 and no tags are the bits themselves. It is 0 if s = x + (l^ab)<<shift
// by them.
func Addition(kr int, s, x, l, a, b uint32, shift uint) [2]uint64 {
	k := kernels()[kr]
	d := newDesk(&circuit{witness: 8})
	for i, w := range []uint32{s, x, l, a, b} {
		d.table[i].addConstant(w, elem{1})
	}
	step := step{sum: 0, x: 1, l: 2, a: 3, b: 4, shift: shift}
	d.y.begin(&step)
	k.productKeys(&d.y, &d.table[2], &d.table[3], &d.table[4], elem{1})
	p := k.constrain(&d.y, &d.table[0], &d.table[1], [4]uint32{})
	return p[0].add(p[1]).add(p[2])
}

// Kernels counts the kernels that this machine can run.
func Kernels() int { return len(kernels()) }

// Mul multiplies in the field, by a kernel and by the definition.
func Mul(kr int, a, b [2]uint64) (got, want [2]uint64) {
	var sum elem
	for i := 127; i >= 0; i-- {
		sum = sum.timesX().add(elem(a).when(uint32(b[i/64] >> (i % 64))))
	}
	return kernels()[kr].mul(a, b), sum
}

// Traced gives s with a kernel that writes down what it is asked to do, secrets
// not included, and where in memory.
func (s *System) Traced() (*System, *[]string) {
	log := new([]string)
	return s.with(func(*shape) kernel { return &tracer{kernel: portable{}, log: log} }), log
}

type tracer struct {
	kernel
	log  *[]string
	base map[unsafe.Pointer]int
}

func (t *tracer) note(format string, args ...any) {
	*t.log = append(*t.log, fmt.Sprintf(format, args...))
}

// at is where a word is, relative to the first one that was seen.
func (t *tracer) at(w ...*word) (out []int) {
	if t.base == nil {
		t.base = map[unsafe.Pointer]int{}
	}
	for _, w := range w {
		n, ok := t.base[unsafe.Pointer(w)]
		if !ok {
			n = len(t.base)
			t.base[unsafe.Pointer(w)] = n
		}
		out = append(out, n)
	}
	return out
}

func (t *tracer) addTurned(to, from *word, m term) {
	t.note("addTurned %v %v", t.at(to, from), m)
	t.kernel.addTurned(to, from, m)
}

func (t *tracer) products(y *products, l, a, b *word, wa, wb uint32) {
	t.note("products %v %d", t.at(l, a, b), y.shift)
	t.kernel.products(y, l, a, b, wa, wb)
}

func (t *tracer) constrain(y *products, s, x *word, bits [4]uint32) [3]elem {
	t.note("constrain %v %d", t.at(s, x), y.shift)
	return t.kernel.constrain(y, s, x, bits)
}

func (t *tracer) dot(a, b []elem) elem {
	t.note("dot %d", len(a))
	return t.kernel.dot(a, b)
}
