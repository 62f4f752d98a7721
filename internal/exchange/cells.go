package exchange

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"

	"htlcdash"
	"htlcdash/lightning"
)

// Domains of the commitment to a sealed chunk, spec/10-keyed.md.
const (
	domainCell = "htlcdash/cell/v1"
	domainNode = "htlcdash/node/v1"
)

// CellSize is the size of a cell in bytes. A leaf has four, and the last cell
// of a file may be shorter.
const CellSize = 4 << 10

const leafCells = htlcdash.LeafSize / CellSize

// A Value is a chaining value of SHA-256 (FIPS 180-4, 6.2): its state after a
// cell of a leaf, and after the leaf's last cell its hash. SHA-256 is a chain
// of compressions, so whether one cell leads from one value to the next can be
// seen without the cells before it.
type Value [32]byte

// initial is the value before the first cell of a leaf: the initial hash value
// of SHA-256.
var initial = valueOf(sha256.New())

// endsLeaf reports whether cell j of n is the last of its leaf.
func endsLeaf(j, n int) bool { return j%leafCells == leafCells-1 || j == n-1 }

// next is the value after cell j of n, where in is the value before it.
func next(in Value, j, n int, cell []byte) Value {
	h := resume(in, j%leafCells*CellSize)
	h.Write(cell)
	if endsLeaf(j, n) {
		return Value(h.Sum(nil))
	}
	return valueOf(h)
}

// chainOf returns the value after each cell of a chunk.
func chainOf(plain []byte) []Value {
	n := (len(plain) + CellSize - 1) / CellSize
	chain := make([]Value, n)
	in := initial
	for j := range chain {
		chain[j] = next(in, j, n, plain[j*CellSize:min((j+1)*CellSize, len(plain))])
		if in = chain[j]; endsLeaf(j, n) {
			in = initial
		}
	}
	return chain
}

// The state of crypto/sha256 as its MarshalBinary gives it: these four bytes,
// the chaining value, a block that is not yet full, and the length so far.
const (
	stateMagic  = "sha\x03"
	stateLength = len(stateMagic) + sha256.Size + sha256.BlockSize + 8
)

// resume returns SHA-256 as it is at a value, after so many bytes: a multiple
// of its block, so that no half block is left.
func resume(v Value, after int) hash.Hash {
	var b [stateLength]byte
	copy(b[:], stateMagic)
	copy(b[len(stateMagic):], v[:])
	binary.BigEndian.PutUint64(b[stateLength-8:], uint64(after))
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b[:]); err != nil {
		panic("exchange: the form of crypto/sha256's state has changed: " + err.Error())
	}
	return h
}

// valueOf is the value of h, which has taken whole blocks.
func valueOf(h hash.Hash) Value {
	b, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(b) != stateLength || string(b[:len(stateMagic)]) != stateMagic {
		panic("exchange: the form of crypto/sha256's state has changed")
	}
	return Value(b[len(stateMagic):])
}

// before is the value before cell j of a chunk.
func before(chain []Value, j int) Value {
	if j%leafCells == 0 {
		return initial
	}
	return chain[j-1]
}

// cellHash is a leaf of the commitment: it binds sealed bytes to the values
// between which their plain bytes stand. So one leaf and its path are all that
// is needed to show that a cell is not what was promised.
func cellHash(in, out Value, sealed []byte) (out32 htlcdash.Root) {
	h := sha256.New()
	h.Write([]byte(domainCell))
	h.Write(in[:])
	h.Write(out[:])
	h.Write(sealed)
	h.Sum(out32[:0])
	return out32
}

func nodeHash(left, right htlcdash.Root) (out htlcdash.Root) {
	h := sha256.New()
	h.Write([]byte(domainNode))
	h.Write(left[:])
	h.Write(right[:])
	h.Sum(out[:0])
	return out
}

// A commitment is a Merkle tree over cells: rows from the leaves, padded with
// zeros to a power of two, up to the root.
type commitment [][]htlcdash.Root

func (c Chunk) commit() commitment {
	row := make([]htlcdash.Root, 1<<depth(len(c.Chain)))
	for j := range c.Chain {
		from, to := c.cell(j)
		row[j] = cellHash(before(c.Chain, j), c.Chain[j], c.Sealed[from:to])
	}
	rows := commitment{row}
	for len(row) > 1 {
		up := make([]htlcdash.Root, len(row)/2)
		for i := range up {
			up[i] = nodeHash(row[2*i], row[2*i+1])
		}
		row, rows = up, append(rows, up)
	}
	return rows
}

func (t commitment) root() htlcdash.Root { return t[len(t)-1][0] }

// path is what turns leaf j into the root: its sibling in each row.
func (t commitment) path(j int) []htlcdash.Root {
	var path []htlcdash.Root
	for _, row := range t[:len(t)-1] {
		path = append(path, row[j^1])
		j /= 2
	}
	return path
}

// depth is the length of a path in a tree of n leaves.
func depth(n int) (d int) {
	for 1<<d < n {
		d++
	}
	return d
}

// Evidence is one cell of a chunk, and that the provider committed to it.
type Evidence struct {
	Cell    int
	In, Out Value // before and after the cell, as promised
	Sealed  []byte
	Path    []htlcdash.Root // to the commitment, from below
}

// Evidence is that of cell j of a chunk that was checked.
func (c Chunk) Evidence(j int) Evidence {
	from, to := c.cell(j)
	return Evidence{Cell: j, In: before(c.Chain, j), Out: c.Chain[j], Sealed: c.Sealed[from:to], Path: c.commit().path(j)}
}

// Sizes returns how long the sealed bytes and the path of evidence of cell j
// must be. The error matches [htlcdash.ErrFormat] if there is no such cell.
func (p ChunkPromise) Sizes(j int) (sealed, path int, err error) {
	n := p.cells()
	if j < 0 || j >= n {
		return 0, 0, malformed("cell %d of %d", j, n)
	}
	from, to := p.cell(j)
	return int(to - from), depth(n), nil
}

// Kept reports, by an error that matches [ErrCheated], that the cell in e,
// opened with the preimage that was paid for, is not what p promised. The error
// matches [ErrTerms] if that cannot be told: it is no preimage of p.Hash, or the
// cell is none that p commits to. It is nil if the cell is as promised.
func (p ChunkPromise) Kept(key lightning.Preimage, e Evidence) error {
	if key.IsZero() || !key.Opens(p.Hash) {
		return fmt.Errorf("not the preimage of %s: %w", p.Hash, ErrTerms)
	}
	sealed, path, err := p.Sizes(e.Cell)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrTerms)
	}
	if len(e.Sealed) != sealed || len(e.Path) != path || e.Cell%leafCells == 0 && e.In != initial {
		return broken("cell %d has another form than the chunk's", e.Cell)
	}
	node := cellHash(e.In, e.Out, e.Sealed)
	for i, sibling := range e.Path {
		if e.Cell>>i&1 == 0 {
			node = nodeHash(node, sibling)
		} else {
			node = nodeHash(sibling, node)
		}
	}
	if node != p.Commitment {
		return broken("cell %d is not under the commitment", e.Cell)
	}
	plain := make([]byte, len(e.Sealed))
	p.stream(key, e.Cell).XORKeyStream(plain, e.Sealed)
	if next(e.In, e.Cell, p.cells(), plain) != e.Out {
		return &CellError{p.Index, e.Cell}
	}
	return nil
}
