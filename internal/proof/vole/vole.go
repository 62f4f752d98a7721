// Package vole proves statements about preimages of SHA-256 by
// VOLE-in-the-head with QuickSilver's check, the machinery of the FAEST
// signature: AES and SHA-256 only, nothing to set up. The protocol is
// spec/06-proof.md.
package vole

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"htlcdash/internal/proof"
)

// version is the first byte of each proof.
const version = 1

// The systems. For the exact bounds see spec/06, section 7.
var (
	Bits80      proof.System = newSystem(1, "vole-80", parameters{trees: 10, depth: 8, grind: 2})
	Bits80Fast  proof.System = newSystem(2, "vole-80-fast", parameters{trees: 20, depth: 4, grind: 2})
	Bits128     proof.System = newSystem(3, "vole-128", parameters{trees: 16, depth: 8, grind: 2})
	Bits128Fast proof.System = newSystem(4, "vole-128-fast", parameters{trees: 32, depth: 4, grind: 2})
)

// parameters of a system: trees of 2^depth leaves, an even depth, and the bits
// by which each try at a challenge is made dearer.
type parameters struct{ trees, depth, grind int }

// columns is the number of bits of Delta.
func (p parameters) columns() int { return p.trees * p.depth }

// delta is the number of the hidden leaf of each tree, and all of them as one
// element.
func (p parameters) delta(challenge []byte) (hidden []int, delta elem) {
	hidden = make([]int, p.trees)
	for b := range p.columns() {
		bit := uint64(challenge[b/8]>>(b%8)) & 1
		delta[b/64] |= bit << (b % 64)
		hidden[b/p.depth] |= int(bit) << (b % p.depth)
	}
	return hidden, delta
}

type system struct {
	name   string
	shapes map[proof.Kind]*shape
}

func newSystem(id byte, name string, p parameters) *system {
	s := &system{name: name, shapes: map[proof.Kind]*shape{}}
	for _, k := range []proof.Kind{proof.Preimage, proof.Link} {
		s.shapes[k] = newShape(p, [headerLen]byte{version, id, byte(k)}, name, circuitOf(k))
	}
	return s
}

func (s *system) Name() string { return s.name }

func (s *system) Length(k proof.Kind) int {
	if sh := s.shapes[k]; sh != nil {
		return sh.length
	}
	return 0
}

func (s *system) Prove(dst []byte, rand io.Reader, st proof.Statement, w [32]byte, context []byte) ([]byte, error) {
	sh := s.shapes[st.Kind]
	if sh == nil || !st.Holds(w) {
		return nil, proof.ErrFalse
	}
	r := sh.pool.Get().(*room)
	defer sh.put(r)
	c, err := sh.commit(r, rand)
	if err != nil {
		return nil, err
	}
	a := c.answer(r, st, w, context)
	return a.open(dst), nil
}

func (s *system) Verify(st proof.Statement, context, p []byte) error {
	sh := s.shapes[st.Kind]
	if sh == nil {
		return fmt.Errorf("%w: unknown kind of statement", proof.ErrRefused)
	}
	return sh.verify(st, context, p)
}

const (
	headerLen  = 3 // version, system, kind
	saltLen    = 16
	elemLen    = 16
	comLen     = 32 // a leaf's commitment
	counterLen = 4
)

// A shape is all that systems and kinds differ in.
type shape struct {
	parameters
	kernel  kernel
	header  [headerLen]byte
	id      [32]byte // hash of the shape, which starts the transcript
	circuit *circuit
	blocks  int // of 16 bytes in a column, without the digest's mask
	column  int // bytes of a column
	stride  int // bytes of a column in memory
	length  int // bytes of a proof
	pool    sync.Pool
}

func newShape(p parameters, header [headerLen]byte, name string, c *circuit) *shape {
	sh := &shape{parameters: p, kernel: portable{}, header: header, circuit: c}
	sh.blocks = c.committed() / 4
	sh.column = 16*sh.blocks + digestLen
	sh.stride = (sh.column + 63) / 64 * 64
	sh.length = headerLen + saltLen + (p.trees-1)*sh.column + digestLen + 4*c.witness + 2*elemLen +
		p.trees*(16*p.depth+comLen) + 32 + counterLen
	n := binary.BigEndian.AppendUint32([]byte{byte(p.trees), byte(p.depth), byte(p.grind)}, uint32(c.witness))
	n = binary.BigEndian.AppendUint32(n, uint32(sh.column))
	n = binary.BigEndian.AppendUint32(n, uint32(sh.length))
	sh.id = hash(domainShape, header[:], n, []byte(name))
	sh.pool.New = func() any { return sh.newRoom() }
	return sh
}

// A room is the working space for one proof.
type room struct {
	columns [][]byte
	sums    [][]byte // of each tree; the first is the VOLE's u
	scratch []byte
	tree    tree
	table   table
	bits    []uint32
}

func (sh *shape) newRoom() *room {
	r := &room{scratch: make([]byte, 2*sh.depth*sh.stride)}
	memory := make([]byte, (sh.columns()+sh.trees)*sh.stride)
	for range sh.columns() {
		r.columns = append(r.columns, memory[:sh.stride])
		memory = memory[sh.stride:]
	}
	for range sh.trees {
		r.sums = append(r.sums, memory[:sh.stride])
		memory = memory[sh.stride:]
	}
	r.tree = tree{k: sh.depth, nodes: make([]seed, 2<<sh.depth), com: make([]byte, comLen<<sh.depth)}
	r.table = make(table, sh.circuit.words())
	r.bits = make([]uint32, sh.circuit.words())
	return r
}

// put gives the room back, without the secrets of the proof.
func (sh *shape) put(r *room) {
	clear(r.bits)
	sh.pool.Put(r)
}

func (r *room) share(depth, i int) *share {
	return &share{columns: r.columns[i*depth : (i+1)*depth], sum: r.sums[i], scratch: r.scratch}
}

// A commitment is what a prover has made before it knows statement and witness.
// It is good for one answer: two would show the witness.
type commitment struct {
	sh      *shape
	salt    [saltLen]byte
	roots   []seed
	head    []byte   // the proof up to the digest of u
	digests []byte   // of the columns
	first   [32]byte // challenge
	u       []byte
}

// commit makes the trees and the VOLE. Columns and tags stay in the room.
func (sh *shape) commit(r *room, rand io.Reader) (*commitment, error) {
	random := make([]byte, saltLen+16*sh.trees)
	if _, err := io.ReadFull(rand, random); err != nil {
		return nil, fmt.Errorf("randomness for a proof: %w", err)
	}
	c := &commitment{sh: sh, salt: [saltLen]byte(random), roots: make([]seed, sh.trees)}
	r.tree.salt = c.salt
	var hashes []byte
	for i := range c.roots {
		c.roots[i] = seed(random[saltLen+16*i:])
		r.tree.index, r.tree.nodes[1] = i, c.roots[i]
		r.tree.grow(sh.kernel, -1, nil)
		h := r.tree.root()
		hashes = append(hashes, h[:]...)
		r.tree.fold(sh.kernel, r.share(sh.depth, i), 0)
	}
	c.u = append(c.u, r.sums[0]...)
	c.head = append(c.head, sh.header[:]...)
	c.head = append(c.head, c.salt[:]...)
	for i := 1; i < sh.trees; i++ {
		subtle.XORBytes(r.sums[i], r.sums[i], c.u)
		c.head = append(c.head, r.sums[i][:sh.column]...)
	}
	c.first = sh.firstChallenge(hashes, c.head)
	h := newVOLEHash(c.first, sh.blocks)
	d := h.sum(c.u)
	c.head = append(c.head, d[:]...)
	for _, col := range r.columns {
		d := h.sum(col)
		c.digests = append(c.digests, d[:]...)
	}
	r.transpose(sh)
	return c, nil
}

// firstChallenge binds the shape, the trees, and what corrects their sums.
func (sh *shape) firstChallenge(hashes, head []byte) [32]byte {
	return hash(domainVOLE, sh.id[:], hashes, head)
}

// secondChallenge binds the first, the digests, the statement, its context, and
// the masked witness.
func secondChallenge(first [32]byte, digest, digests []byte, st proof.Statement, context, masked []byte) [32]byte {
	n := binary.BigEndian.AppendUint64(nil, uint64(len(context)))
	return hash(domainZK, first[:], digest, digests, st.Append(nil), n, context, masked)
}

// bind is the hash of the whole transcript before the last challenge.
func bind(second [32]byte, a [3]elem) [32]byte {
	return hash(domainBind, second[:], a[0].appendTo(nil), a[1].appendTo(nil), a[2].appendTo(nil))
}

// lastChallenge says which leaves stay hidden, if its last bits are 0.
func lastChallenge(bound [32]byte, counter []byte) [32]byte {
	return hash(domainOpen, bound[:], counter)
}

func (p parameters) rare(challenge [32]byte) bool { return challenge[31]&(1<<p.grind-1) == 0 }

// An answer is a proof that lacks only its last challenge.
type answer struct {
	*commitment
	body  []byte // the proof up to the coefficients
	bound [32]byte
}

// answer proves st by the commitment, which is then used up.
func (c *commitment) answer(r *room, st proof.Statement, w [32]byte, context []byte) *answer {
	cir := c.sh.circuit
	copy(r.bits, appendWords(nil, w))
	public := publicWordsOf(st)
	copy(r.bits[cir.committed():], public)
	clear(r.table[cir.committed():])
	cir.eval(r.bits)

	masked := make([]byte, 4*cir.witness)
	for i, b := range r.bits[:cir.witness] {
		binary.LittleEndian.PutUint32(masked[4*i:], b)
	}
	subtle.XORBytes(masked, masked, c.u)
	second := secondChallenge(c.first, c.head[len(c.head)-digestLen:], c.digests, st, context, masked)
	a := cir.prove(r.table, r.bits, weights(second, len(cir.steps)))
	v, u := r.table.maskTags(cir), c.u[4*cir.masks():]
	a[0] = a[0].add(v[0])
	a[1] = a[1].add(v[1]).add(loadElem(u))
	a[2] = a[2].add(loadElem(u[elemLen:]))
	out := &answer{commitment: c, body: append(c.head, masked...), bound: bind(second, a)}
	out.body = a[2].appendTo(a[1].appendTo(out.body))
	return out
}

// maskTags are the tags or keys of the two masks.
func (t table) maskTags(c *circuit) (out [2]elem) {
	for i := range out {
		for j := 127; j >= 0; j-- {
			out[i] = out[i].timesX().add(t[c.masks()+4*i+j/32][j%32])
		}
	}
	return out
}

// open appends the proof with the openings that the last challenge asks for.
func (a *answer) open(dst []byte) []byte {
	dst = append(dst, a.body...)
	var counter [counterLen]byte
	last := lastChallenge(a.bound, counter[:])
	for n := uint32(1); !a.sh.rare(last); n++ {
		binary.LittleEndian.PutUint32(counter[:], n)
		last = lastChallenge(a.bound, counter[:])
	}
	hidden, _ := a.sh.delta(last[:])
	dst = a.openings(dst, hidden)
	dst = append(dst, last[:]...)
	return append(dst, counter[:]...)
}

func (a *answer) openings(dst []byte, hidden []int) []byte {
	t := tree{k: a.sh.depth, salt: a.salt, nodes: make([]seed, 2<<a.sh.depth), com: make([]byte, comLen<<a.sh.depth)}
	for i, root := range a.roots {
		t.index, t.nodes[1] = i, root
		t.grow(a.sh.kernel, -1, nil)
		dst = t.open(dst, hidden[i])
	}
	return dst
}

// A reader cuts a proof of the right length into its fields.
type reader struct{ rest []byte }

func (r *reader) next(n int) []byte {
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (sh *shape) verify(st proof.Statement, context, p []byte) error {
	if len(p) != sh.length {
		return fmt.Errorf("%w: %d bytes instead of %d", proof.ErrRefused, len(p), sh.length)
	}
	if [headerLen]byte(p) != sh.header {
		return fmt.Errorf("%w: of another version, system or kind", proof.ErrRefused)
	}
	tail := reader{p[len(p)-32-counterLen:]}
	last, counter := [32]byte(tail.next(32)), tail.next(counterLen)
	if !sh.rare(last) {
		return fmt.Errorf("%w: challenge", proof.ErrRefused)
	}
	hidden, delta := sh.delta(last[:])
	bound := sh.reconstruct(st, context, p[:len(p)-32-counterLen], hidden, delta)
	if lastChallenge(bound, counter) != last {
		return fmt.Errorf("%w: challenge", proof.ErrRefused)
	}
	return nil
}

// reconstruct gives the hash of the transcript that a prover must have had
// before the last challenge to answer it with p.
func (sh *shape) reconstruct(st proof.Statement, context, p []byte, hidden []int, delta elem) [32]byte {
	r := sh.pool.Get().(*room)
	defer sh.put(r)
	cir := sh.circuit
	in := reader{p}
	head := in.next(headerLen + saltLen + (sh.trees-1)*sh.column)
	digest, masked := in.next(digestLen), in.next(4*cir.witness)
	a := [3]elem{1: loadElem(in.next(elemLen)), 2: loadElem(in.next(elemLen))}

	r.tree.salt = [saltLen]byte(head[headerLen:])
	corrections := reader{head[headerLen+saltLen:]}
	var hashes []byte
	for i, leaf := range hidden {
		r.tree.index = i
		r.tree.grow(sh.kernel, leaf, in.next(16*sh.depth))
		copy(r.tree.com[comLen*leaf:], in.next(comLen))
		h := r.tree.root()
		hashes = append(hashes, h[:]...)
		r.tree.fold(sh.kernel, r.share(sh.depth, i), leaf)
		if i == 0 {
			continue
		}
		correction := corrections.next(sh.column)
		for b, col := range r.columns[i*sh.depth : (i+1)*sh.depth] {
			if leaf>>b&1 == 1 {
				subtle.XORBytes(col, col, correction)
			}
		}
	}
	first := sh.firstChallenge(hashes, head)
	h := newVOLEHash(first, sh.blocks)
	var digests []byte
	for b, col := range r.columns {
		d := h.sum(col)
		if hidden[b/sh.depth]>>(b%sh.depth)&1 == 1 {
			subtle.XORBytes(d[:], d[:], digest)
			subtle.XORBytes(col, col[:len(masked)], masked)
		}
		digests = append(digests, d[:]...)
	}
	r.transpose(sh)
	second := secondChallenge(first, digest, digests, st, context, masked)
	clear(r.table[cir.committed():])
	for i, w := range publicWordsOf(st) {
		r.table[cir.committed()+i].addConstant(w, delta)
	}
	b := cir.verify(r.table, delta, weights(second, len(cir.steps)))
	q := r.table.maskTags(cir)
	b = b.add(q[0]).add(q[1].mul(delta))
	a[0] = b.add(delta.mul(a[1].add(delta.mul(a[2]))))
	return bind(second, a)
}

// transpose turns the columns, without the digest's masks, into the tags or
// keys of the committed words.
func (r *room) transpose(sh *shape) {
	for w := 0; w < sh.circuit.committed(); w += 2 {
		for half := range 2 {
			var m [64]uint64
			for b := 64 * half; b < min(64*half+64, len(r.columns)); b++ {
				m[b-64*half] = binary.LittleEndian.Uint64(r.columns[b][4*w:])
			}
			transpose64(&m)
			for i, v := range m {
				r.table[w+i/32][i%32][half] = v
			}
		}
	}
}

// transpose64 turns bit j of word i into bit i of word j: at each of six scales
// it swaps the two blocks beside the diagonal of each square.
func transpose64(a *[64]uint64) {
	left := ^uint64(0)
	for w := 32; w > 0; w /= 2 {
		left ^= left << w
		for top := 0; top < 64; top += 2 * w {
			for i := top; i < top+w; i++ {
				diff := (a[i]>>w ^ a[i+w]) & left
				a[i] ^= diff << w
				a[i+w] ^= diff
			}
		}
	}
}
