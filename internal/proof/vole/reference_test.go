package vole_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"testing"

	"htlcdash/internal/proof"
)

// The verifier of spec/06-proof.md, written from it anew, slow and plain: it
// shares no code with the package, so that a slip there cannot hide in both.

type parameters struct {
	name       string
	id, tau, k int
	zeros      int
}

// ref is a polynomial over bits of at most 128 coefficients.
type ref struct{ lo, hi uint64 }

func (a ref) add(b ref) ref { return ref{a.lo ^ b.lo, a.hi ^ b.hi} }

func (a ref) bit(i int) uint64 {
	if i < 64 {
		return a.lo >> i & 1
	}
	return a.hi >> (i - 64) & 1
}

// double is a*x modulo x^degree + tail.
func (a ref) double(degree int, tail uint64) ref {
	over := a.bit(degree - 1)
	a = ref{a.lo << 1, a.hi<<1 | a.lo>>63}
	if degree == 64 {
		a.hi = 0
	}
	a.lo ^= over * tail
	return a
}

func product(a, b ref, degree int, tail uint64) (out ref) {
	for i := degree - 1; i >= 0; i-- {
		out = out.double(degree, tail)
		if b.bit(i) == 1 {
			out = out.add(a)
		}
	}
	return out
}

func (a ref) mul(b ref) ref   { return product(a, b, 128, 0x87) }
func (a ref) mul64(b ref) ref { return product(a, b, 64, 0x1b) }

func refOf(b []byte) ref {
	if len(b) < 16 {
		return ref{lo: binary.LittleEndian.Uint64(b)}
	}
	return ref{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

func (a ref) bytes() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, a.lo), a.hi)
}

func sha(domain string, parts ...[]byte) []byte {
	d := sha256.Sum256(append([]byte(domain), bytes.Join(parts, nil)...))
	return d[:]
}

func hashKey(challenge []byte, n int) (out []byte) {
	for i := range n {
		out = append(out, sha("htlcdash/vole/v1/hash-key", challenge, []byte{byte(i)})...)
	}
	return out
}

func be32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// keys are the keys of a word's bits; of a constant or a public word they follow
// from its value.
type keys struct {
	q      [32]ref
	value  uint32 // of a constant
	secret bool
}

// reference is a verifier at work.
type reference struct {
	delta  ref
	rows   []ref
	next   int // word of the witness
	weight func() ref
	sum    ref
}

func (v *reference) constant(k uint32) (w keys) {
	for i := range w.q {
		if k>>i&1 == 1 {
			w.q[i] = v.delta
		}
	}
	w.value = k
	return w
}

// public words are not folded like constants are.
func (v *reference) public(k uint32) keys {
	w := v.constant(k)
	w.secret = true
	return w
}

func (v *reference) witness() (w keys) {
	copy(w.q[:], v.rows[32*v.next:])
	v.next++
	w.secret = true
	return w
}

func plus(ws ...keys) (out keys) {
	for _, w := range ws {
		for i := range out.q {
			out.q[i] = out.q[i].add(w.q[i])
		}
		out.value ^= w.value
		out.secret = out.secret || w.secret
	}
	return out
}

func turned(w keys, n int, cut bool) (out keys) {
	for i := range out.q {
		if i+n < 32 || !cut {
			out.q[i] = w.q[(i+n)%32]
		}
	}
	out.value, out.secret = bits.RotateLeft32(w.value, -n), w.secret
	if cut {
		out.value = w.value >> n
	}
	return out
}

func sigma(w keys, a, b, c int, cut bool) keys {
	return plus(turned(w, a, false), turned(w, b, false), turned(w, c, cut))
}

type quadratic struct{ l, a, b keys }

// addition checks s = x + ((l xor ab) << f); without an s it is of the witness.
func (v *reference) addition(x keys, q quadratic, f int, s *keys) keys {
	if s == nil {
		w := v.witness()
		s = &w
	}
	var y [32]ref
	for i := 0; i+f < 32; i++ {
		y[i+f] = v.delta.mul(q.l.q[i]).add(q.a.q[i].mul(q.b.q[i]))
	}
	var total ref
	for i := range 32 {
		second, first, zeroth := s.q[i].add(x.q[i]), y[i], ref{}
		if i > 0 {
			j := i - 1
			second = second.add(x.q[j])
			first = first.add(y[j]).add(x.q[j].mul(s.q[j]))
			zeroth = y[j].mul(x.q[j].add(s.q[j]))
		}
		c := zeroth.add(v.delta.mul(first.add(v.delta.mul(second))))
		for range 8*(i%16) + i/16 {
			c = c.double(128, 0x87)
		}
		total = total.add(c)
	}
	v.sum = v.sum.add(total.mul(v.weight()))
	return *s
}

func (v *reference) add3(x, y, z keys, s *keys) keys {
	return v.addition(plus(x, y, z), quadratic{x, plus(x, y), plus(x, z)}, 1, s)
}

func (v *reference) total(s *keys, list ...keys) keys {
	var k uint32
	var rest []keys
	for _, w := range list {
		if w.secret {
			rest = append(rest, w)
		} else {
			k += w.value
		}
	}
	if k != 0 || len(rest) == 0 {
		rest = append(rest, v.constant(k))
	}
	for len(rest) > 3 {
		rest = append([]keys{v.add3(rest[0], rest[1], rest[2], nil)}, rest[3:]...)
	}
	switch len(rest) {
	case 1:
		return rest[0]
	case 2:
		return v.add3(rest[0], rest[1], v.constant(0), s)
	}
	return v.add3(rest[0], rest[1], rest[2], s)
}

func (v *reference) with(s *keys, q quadratic, list ...keys) []keys {
	if !q.l.secret && !q.a.secret && !q.b.secret {
		return append(list, v.constant(q.l.value^q.a.value&q.b.value))
	}
	return []keys{v.addition(v.total(nil, list...), q, 0, s)}
}

// hash checks that the message has the digest.
func (v *reference) hash(message [8]keys, digest [32]byte) {
	var w [64]keys
	copy(w[:], message[:])
	for t := 8; t < 16; t++ {
		w[t] = v.constant(map[int]uint32{8: 0x80000000, 15: 256}[t])
	}
	for t := 16; t < 64; t++ {
		w[t] = v.total(nil, w[t-16], sigma(w[t-15], 7, 18, 3, true), w[t-7], sigma(w[t-2], 17, 19, 10, true))
	}
	iv, k := sha256Constants()
	var state, out [8]keys
	for i := range state {
		state[i] = v.constant(iv[i])
		out[i] = v.public(binary.BigEndian.Uint32(digest[4*i:]) - iv[i])
	}
	a, b, c, d, e, f, g, h := state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
	for t := range 64 {
		var newA, newE *keys
		if t >= 60 {
			newA, newE = &out[63-t], &out[67-t]
		}
		kt := v.constant(k[t])
		list := v.with(nil, quadratic{g, e, plus(f, g)}, h, sigma(e, 6, 11, 25, false), w[t])
		e2 := v.total(newE, append(append([]keys{}, list...), d, kt)...)
		list = append(append([]keys{}, list...), sigma(a, 2, 13, 22, false), kt)
		a2 := v.total(nil, v.with(newA, quadratic{a, plus(a, b), plus(a, c)}, list...)...)
		a, b, c, d, e, f, g, h = a2, a, b, c, e2, e, f, g
	}
}

// sha256Constants are the first bits of the roots of primes (FIPS 180-4).
func sha256Constants() (iv [8]uint32, k [64]uint32) {
	for n, i := uint64(2), 0; i < 64; n++ {
		prime := true
		for d := uint64(2); d*d <= n; d++ {
			prime = prime && n%d != 0
		}
		if !prime {
			continue
		}
		if i < 8 {
			iv[i] = uint32(root(n, 2))
		}
		k[i] = uint32(root(n, 3))
		i++
	}
	return iv, k
}

// root is the largest r with (r/2^32)^power <= n.
func root(n uint64, power int) (r uint64) {
	for bit := uint64(1) << 36; bit > 0; bit >>= 1 {
		if c := r | bit; fits(c, n, power) {
			r = c
		}
	}
	return r
}

// fits reports c^power <= n * 2^(32*power).
func fits(c, n uint64, power int) bool {
	square2, square := bits.Mul64(c, c) // below 2^74
	if power == 2 {
		return square2 < n || square2 == n && square == 0
	}
	low2, low := bits.Mul64(square, c)
	_, high := bits.Mul64(square2, c)
	mid, carry := bits.Add64(low2, high, 0)
	limit := n << 32 // n * 2^96, in words of 64 bits
	return carry == 0 && (mid < limit || mid == limit && low == 0)
}

// verify is section 6 of the specification.
func (p parameters) verify(st proof.Statement, context, pf []byte) bool {
	n := map[proof.Kind]int{proof.Preimage: 400, proof.Link: 792}[st.Kind]
	length := 4*n + 50
	opening := 16*p.k + 32
	messageLen := 3 + 16 + (p.tau-1)*length + 18 + 4*n + 32
	if len(pf) != messageLen+p.tau*opening+35 {
		return false
	}
	next := func(n int) (b []byte) {
		b, pf = pf[:n], pf[n:]
		return b
	}
	header, salt := next(3), next(16)
	corrections := make([][]byte, p.tau)
	for i := 1; i < p.tau; i++ {
		corrections[i] = next(length)
	}
	digest, masked, a1, a2 := next(18), next(4*n), refOf(next(16)), refOf(next(16))
	openings := next(p.tau * opening)
	last, counter := next(32), next(3)
	if !bytes.Equal(header, []byte{1, byte(p.id), byte(st.Kind)}) || int(binary.LittleEndian.Uint16(last[30:]))%(1<<p.zeros) != 0 {
		return false
	}
	delta := refOf(last)
	for i := p.tau * p.k; i < 128; i++ {
		if i < 64 {
			delta.lo &^= 1 << i
		} else {
			delta.hi &^= 1 << (i - 64)
		}
	}

	var columns [][]byte
	roots := [][]byte{
		sha("htlcdash/vole/v1/shape", []byte{1, byte(p.id), byte(st.Kind), byte(p.tau), byte(p.k), byte(p.zeros)},
			be32(n), be32(length), be32(messageLen), be32(p.tau*opening), []byte(p.name)),
	}
	for i := range p.tau {
		hidden := 0
		for b := range p.k {
			hidden |= int(delta.bit(i*p.k+b)) << b
		}
		root, cols := p.tree(salt, i, hidden, length, openings[i*opening:][:opening])
		roots = append(roots, root)
		for b, c := range cols {
			if i > 0 && hidden>>b&1 == 1 {
				xorInto(c, corrections[i])
			}
		}
		columns = append(columns, cols...)
	}
	first := sha("htlcdash/vole/v1/first", append(append(roots, header, salt), corrections[1:]...)...)
	digests := p.digests(first, columns, digest, delta)
	for c := range columns {
		if delta.bit(c) == 1 {
			xorInto(columns[c], masked)
		}
	}
	contextLen := binary.BigEndian.AppendUint64(nil, uint64(len(context)))
	second := sha("htlcdash/vole/v1/second", first, digest, digests, st.Append(nil), contextLen, context, masked)

	v := newReference(delta, second, columns, 32*n+256)
	v.statement(st)
	if v.next != n {
		return false
	}
	a0 := v.sum.add(v.mask(n)).add(v.mask(n + 4).add(a1).mul(delta)).add(a2.mul(delta).mul(delta))
	bound := sha("htlcdash/vole/v1/bind", second, a0.bytes(), a1.bytes(), a2.bytes())
	return bytes.Equal(sha("htlcdash/vole/v1/end", bound, counter), last)
}

func newReference(delta ref, second []byte, columns [][]byte, rows int) *reference {
	v := &reference{delta: delta, rows: make([]ref, rows)}
	for r := range v.rows {
		for c := range columns {
			bit := uint64(columns[c][r/8] >> (r % 8) & 1)
			if c < 64 {
				v.rows[r].lo |= bit << c
			} else {
				v.rows[r].hi |= bit << (c - 64)
			}
		}
	}
	key := hashKey(second, 2)
	r0, r1, s, t := refOf(key), refOf(key[16:]), refOf(key[32:]), refOf(key[48:56])
	v.weight = func() ref {
		r0, r1 = r0.mul(s), r1.mul(t)
		return r0.add(r1)
	}
	return v
}

// statement checks all additions.
func (v *reference) statement(st proof.Statement) {
	var message, salted [8]keys
	for i := range message {
		message[i] = v.witness()
		salted[i] = plus(message[i], v.public(binary.BigEndian.Uint32(st.Salt[4*i:])))
	}
	if st.Kind == proof.Link {
		v.hash(message, st.KeyHash)
		v.hash(salted, st.Hash)
		return
	}
	v.hash(message, st.Hash)
}

// mask is the key of the mask that begins at a word.
func (v *reference) mask(at int) (out ref) {
	for i := 127; i >= 0; i-- {
		out = out.double(128, 0x87).add(v.rows[32*at+i])
	}
	return out
}

func xorInto(a, b []byte) {
	for i := range b {
		a[i] ^= b[i]
	}
}

// tree is section 4.
func (p parameters) tree(salt []byte, i, hidden, length int, opening []byte) (root []byte, columns [][]byte) {
	nodes := make([][]byte, 2<<p.k)
	stream := func(j, n int) []byte {
		b, err := aes.NewCipher(nodes[j])
		if err != nil {
			panic(err)
		}
		counter := append(bytes.Clone(salt[:12]), 0, 0, 0, 0)
		xorInto(counter[8:12], be32(i<<16^j))
		out := make([]byte, n)
		cipher.NewCTR(b, counter).XORKeyStream(out, out)
		return out
	}
	onPath := map[int]bool{1: true}
	for j, n := 1<<p.k+hidden, 0; j > 1; j, n = j/2, n+1 {
		onPath[j] = true
		nodes[j^1] = opening[16*n : 16*n+16]
	}
	for j := 1; j < 1<<p.k; j++ {
		if !onPath[j] {
			two := stream(j, 32)
			nodes[2*j], nodes[2*j+1] = two[:16], two[16:]
		}
	}
	for range p.k {
		columns = append(columns, make([]byte, length))
	}
	var coms []byte
	for m := range 1 << p.k {
		if m == hidden {
			coms = append(coms, opening[16*p.k:]...)
			continue
		}
		s := stream(1<<p.k+m, 32+length)
		coms = append(coms, s[:32]...)
		for b := range p.k {
			if (m^hidden)>>b&1 == 1 {
				xorInto(columns[b], s[32:])
			}
		}
	}
	return sha("", coms), columns
}

// digests is the first part of section 5.
func (p parameters) digests(first []byte, columns [][]byte, digest []byte, delta ref) (out []byte) {
	key := hashKey(first, 3)
	var r [4]ref
	for i := range r {
		r[i] = refOf(key[16*i : 16*i+16])
	}
	s, t := refOf(key[64:80]), refOf(key[80:88])
	for c, column := range columns {
		var h0, h1 ref
		n := len(column) - 18
		for i := n - 16; i >= 0; i -= 16 {
			h0 = h0.add(refOf(column[i : i+16])).mul(s)
		}
		for i := n - 8; i >= 0; i -= 8 {
			h1 = h1.add(refOf(column[i : i+8])).mul64(t)
		}
		d := r[0].mul(h0).add(r[1].mul(h1)).bytes()
		d = append(d, r[2].mul(h0).add(r[3].mul(h1)).bytes()[:2]...)
		xorInto(d, column[n:])
		if delta.bit(c) == 1 {
			xorInto(d, digest)
		}
		out = append(out, d...)
	}
	return out
}

// The reference accepts what the package makes, and refuses what is altered.
func TestReferenceAgrees(t *testing.T) {
	table := []parameters{
		{name: "vole-80", id: 1, tau: 9, k: 8, zeros: 10},
		{name: "vole-80-small", id: 2, tau: 7, k: 10, zeros: 12},
		{name: "vole-80-fast", id: 3, tau: 18, k: 4, zeros: 10},
		{name: "vole-128", id: 4, tau: 15, k: 8, zeros: 10},
		{name: "vole-128-fast", id: 5, tau: 30, k: 4, zeros: 10},
	}
	for i, s := range systems {
		p := table[i]
		if s.Name() != p.name {
			t.Fatalf("%s stands where %s is expected", s.Name(), p.name)
		}
		for _, c := range cases() {
			if p.k > 4 && c.st.Kind == proof.Link {
				continue // the fast systems show that link and preimage differ as they should
			}
			pf, context := prove(t, s, c.st, c.w, []byte("context")), []byte("context")
			if !p.verify(c.st, context, pf) {
				t.Errorf("%s, %s: the reference refuses an honest proof", p.name, c.name)
			}
			other := c.st
			other.Hash[7] ^= 1
			if p.verify(other, context, pf) || p.verify(c.st, nil, pf) {
				t.Errorf("%s, %s: the reference accepts another statement or context", p.name, c.name)
			}
			pf[len(pf)/3] ^= 1
			if p.verify(c.st, context, pf) {
				t.Errorf("%s, %s: the reference accepts an altered proof", p.name, c.name)
			}
		}
	}
}
