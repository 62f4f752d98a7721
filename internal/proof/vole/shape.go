package vole

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"htlcdash/internal/proof"
)

// parameters of a system: trees of 2^depth leaves, depth 4, 6, 8 or 10, at most
// 128 bits of Delta in all, and the zeros in which a challenge must end, at most
// 16, which make each try dearer.
type parameters struct{ trees, depth, grind int }

// columns is the number of bits of Delta.
func (p parameters) columns() int { return p.trees * p.depth }

// hidden reads the numbers of the hidden leaves out of a challenge.
func (p parameters) hidden(challenge []byte) hiddenLeaves {
	h := hiddenLeaves{depth: p.depth, leaf: make([]int, p.trees)}
	for b := range p.columns() {
		bit := challenge[b/8] >> (b % 8) & 1
		h.delta[b/64] |= uint64(bit) << (b % 64)
		h.leaf[b/p.depth] |= int(bit) << (b % p.depth)
	}
	return h
}

// hiddenLeaves are the numbers of the leaves that a prover keeps for itself, and
// all their bits as one element.
type hiddenLeaves struct {
	depth int
	leaf  []int
	delta elem
}

func (h hiddenLeaves) bit(column int) bool {
	return h.leaf[column/h.depth]>>(column%h.depth)&1 == 1
}

// rare reports whether a challenge ends in as many zeros as it must.
func (p parameters) rare(challenge [challengeLen]byte) bool {
	return binary.LittleEndian.Uint16(challenge[challengeLen-2:])&(1<<p.grind-1) == 0
}

const (
	headerLen    = 3 // version, system, kind
	saltLen      = 16
	digestLen    = 18 // of a column: 128 + 16 bits
	elemLen      = 16
	challengeLen = 32
	counterLen   = 3
)

// A shape is all that systems and kinds differ in.
type shape struct {
	parameters
	kernel  kernel
	header  [headerLen]byte
	id      [32]byte // hash of the shape, the beginning of the transcript
	circuit *circuit
	blocks  int // of 16 bytes in a column, the digest's mask not counted
	column  int // bytes of a column
	stride  int // bytes of a column in memory
	looms   sync.Pool
	desks   sync.Pool
}

type shapes map[proof.Kind]*shape

// newShapes makes the shapes of a system when they are first asked for.
func newShapes(id byte, name string, p parameters) func() shapes {
	return sync.OnceValue(func() shapes {
		out := shapes{}
		for _, k := range []proof.Kind{proof.Preimage, proof.Link} {
			out[k] = newShape(p, [headerLen]byte{version, id, byte(k)}, name, circuitOf(k))
		}
		return out
	})
}

// of is the shape for a statement from outside.
func (s shapes) of(st proof.Statement) (*shape, error) {
	sh := s[st.Kind]
	if sh == nil {
		return nil, refused("unknown kind of statement")
	}
	if st.Kind == proof.Preimage && st != proof.PreimageOf(st.Hash) {
		return nil, refused("a preimage has no key hash and no salt")
	}
	return sh, nil
}

func newShape(p parameters, header [headerLen]byte, name string, c *circuit) *shape {
	sh := &shape{parameters: p, kernel: kernels()[0], header: header, circuit: c}
	sh.blocks = c.committed() / 4
	sh.column = 16*sh.blocks + digestLen
	sh.stride = (sh.column + 63) / 64 * 64
	n := []byte{byte(p.trees), byte(p.depth), byte(p.grind)}
	for _, v := range []int{c.witness, sh.column, sh.messageLen(), sh.openingsLen()} {
		n = binary.BigEndian.AppendUint32(n, uint32(v))
	}
	sh.id = hash(domainShape, header[:], n, []byte(name))
	sh.looms.New = func() any { return sh.newLoom() }
	sh.desks.New = func() any { return newDesk(c) }
	return sh
}

// headLen is the length of what the first challenge binds.
func (sh *shape) headLen() int { return headerLen + saltLen + (sh.trees-1)*sh.column }

// messageLen is the length of all that comes before the last challenge.
func (sh *shape) messageLen() int {
	return sh.headLen() + digestLen + 4*sh.circuit.witness + 2*elemLen
}

// openingsLen is the length of the answer to the last challenge.
func (sh *shape) openingsLen() int { return sh.trees * openingLen(sh.depth) }

// A loom is the working space for making a VOLE.
type loom struct {
	tree    tree
	columns [][]byte
	sums    [][]byte // of each tree; the first is the VOLE's u
	scratch []byte
	hash    voleHash
	roots   []byte // commitments to the trees
	digests []byte // of the columns
}

func (sh *shape) newLoom() *loom {
	l := &loom{
		tree:    newTree(sh.depth, sh.stride),
		scratch: make([]byte, 2*sh.depth*sh.stride),
		hash:    newVOLEHash(sh.blocks),
	}
	memory := make([]byte, (sh.columns()+sh.trees)*sh.stride)
	next := func() []byte {
		b := memory[:sh.stride:sh.stride]
		memory = memory[sh.stride:]
		return b
	}
	for range sh.columns() {
		l.columns = append(l.columns, next())
	}
	for range sh.trees {
		l.sums = append(l.sums, next())
	}
	return l
}

func (sh *shape) loom() *loom {
	l := sh.looms.Get().(*loom)
	l.roots, l.digests = l.roots[:0], l.digests[:0]
	return l
}

func (sh *shape) desk() *desk { return sh.desks.Get().(*desk) }

// fold commits to tree i and folds it.
func (l *loom) fold(kr kernel, depth, i, hidden int) {
	root := l.tree.root()
	l.roots = append(l.roots, root[:]...)
	s := share{l.columns[i*depth : (i+1)*depth], l.sums[i], l.scratch}
	l.tree.fold(kr, &s, hidden)
}

// firstChallenge binds the shape, the trees, and what corrects their sums.
func (sh *shape) firstChallenge(roots, head []byte) [32]byte {
	return hash(domainFirst, sh.id[:], roots, head)
}

// secondChallenge binds the first, the digests of u and of the columns, the
// statement, its context, and the masked witness.
func secondChallenge(first [32]byte, digest, digests []byte, st proof.Statement, context, masked []byte) [32]byte {
	n := binary.BigEndian.AppendUint64(st.Append(nil), uint64(len(context)))
	return hash(domainSecond, first[:], digest, digests, n, context, masked)
}

// bind is the hash of all that comes before the last challenge.
func bind(second [32]byte, a [3]elem) [32]byte {
	return hash(domainBind, second[:], a[0].appendTo(nil), a[1].appendTo(nil), a[2].appendTo(nil))
}

// lastChallenge is Delta, if it is rare. With its counter it is one block of
// SHA-256.
func lastChallenge(bound [32]byte, counter [counterLen]byte) [challengeLen]byte {
	b := append(make([]byte, 0, 64), domainLast...)
	b = append(b, bound[:]...)
	return sha256.Sum256(append(b, counter[:]...))
}
