package vole

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// A kernel is the part of the work that has a faster twin in assembly. All
// kernels give the same bytes. None has a branch or an index that depends on
// tags, bits or seeds.
type kernel interface {
	// firstBlocks makes the first two blocks of the streams of width nodes, a
	// power of two, from node first on. It may use the slack of the nodes, and
	// spoil what lies in dst behind the blocks, up to slack*comLen bytes.
	firstBlocks(t *tree, dst []byte, first, width int)

	// expand4 sets sum to the sum of the streams of four leaves, and adds those
	// of the second and the fourth to low, of the third and the fourth to high.
	expand4(t *tree, leaves [4]int, sum, low, high []byte)

	// fold4 does the same with streams that were expanded before.
	fold4(parts [4][]byte, sum, low, high []byte)

	// addTurned adds from, turned as t says.
	addTurned(to, from *word, t term)

	// products fills y for tags: of l xor ab, where a has the bits wa, b wb.
	products(y *products, l, a, b *word, wa, wb uint32)

	// productKeys fills y for keys: the whole product, and no first coefficient.
	productKeys(y *products, l, a, b *word, delta elem)

	// constrain gives the coefficients of the 32 constraints of s = x + y,
	// weighed and added. bits are those of x xor s, x, s, y.
	constrain(y *products, s, x *word, bits [4]uint32) [3]elem

	// dot is the sum of the products.
	dot(a, b []elem) elem

	mul(a, b elem) elem

	// digest is the two sums of h over the blocks of a column.
	digest(h *voleHash, column []byte) (elem, uint64)

	// transpose makes rows out of at most 128 columns.
	transpose(columns [][]byte, rows []word)
}

// portable is the kernel in Go alone.
type portable struct{}

func (portable) stream(t *tree, node int) cipher.Stream {
	b, err := aes.NewCipher(t.node(node))
	if err != nil {
		panic("vole: " + err.Error())
	}
	iv := t.counter(node)
	return cipher.NewCTR(b, iv[:])
}

func (p portable) firstBlocks(t *tree, dst []byte, first, width int) {
	clear(dst[:comLen*width])
	for i := range width {
		two := dst[comLen*i : comLen*(i+1)]
		p.stream(t, first+i).XORKeyStream(two, two)
	}
}

func (p portable) expand4(t *tree, leaves [4]int, sum, low, high []byte) {
	var parts [4][]byte
	memory := make([]byte, 4*(comLen+len(sum)))
	for i, leaf := range leaves {
		x := memory[i*(comLen+len(sum)):][:comLen+len(sum)]
		p.stream(t, leaf).XORKeyStream(x, x)
		parts[i] = x[comLen:]
	}
	p.fold4(parts, sum, low, high)
}

func (portable) fold4(parts [4][]byte, sum, low, high []byte) {
	subtle.XORBytes(sum, parts[1], parts[3])
	subtle.XORBytes(low, low, sum)
	subtle.XORBytes(sum, sum, parts[0])
	subtle.XORBytes(sum, sum, parts[2])
	subtle.XORBytes(high, high, parts[2])
	subtle.XORBytes(high, high, parts[3])
}

func (portable) addTurned(to, from *word, t term) {
	n := 32 - t.right
	for i := range n {
		to[i] = to[i].add(from[i+t.right])
	}
	if t.cut {
		return
	}
	for i := n; i < 32; i++ {
		to[i] = to[i].add(from[i-n])
	}
}

func (portable) products(y *products, l, a, b *word, wa, wb uint32) {
	for i := range a {
		j := i + 1 + int(y.shift)
		y.y0[j] = a[i].mul(b[i])
		y.y1[j] = l[i].add(b[i].when(wa >> i)).add(a[i].when(wb >> i))
	}
}

func (portable) productKeys(y *products, l, a, b *word, delta elem) {
	for i := range a {
		y.y0[i+1+int(y.shift)] = l[i].mul(delta).add(a[i].mul(b[i]))
	}
}

func (portable) constrain(y *products, s, x *word, bits [4]uint32) (out [3]elem) {
	var upper [3]elem
	for j := 15; j >= 0; j-- {
		low, high := constraint(y, s, x, bits, j), constraint(y, s, x, bits, j+16)
		for n := range out {
			out[n] = out[n].timesX8().add(low[n])
			upper[n] = upper[n].timesX8().add(high[n])
		}
	}
	for n := range out {
		out[n] = out[n].add(upper[n].timesX())
	}
	return out
}

// constraint gives the coefficients for bit j.
func constraint(y *products, s, x *word, bits [4]uint32, j int) (p [3]elem) {
	p[1] = y.y0[j+1]
	p[2] = s[j].add(x[j]).add(y.y1[j+1])
	if j == 0 {
		return p
	}
	i := j - 1
	wt, wx, ws, wy := bits[0]>>i, bits[1]>>i, bits[2]>>i, bits[3]>>i
	t, y0, y1 := x[i].add(s[i]), y.y0[j], y.y1[j]
	p[0] = y0.mul(t)
	p[1] = p[1].add(y1.mul(t)).add(x[i].mul(s[i])).add(y0.when(^wt))
	p[2] = p[2].add(t.when(wy)).add(y1.when(^wt)).add(s[i].when(wx)).add(x[i].when(^ws))
	return p
}

func (portable) dot(a, b []elem) (sum elem) {
	for i := range a {
		sum = sum.add(a[i].mul(b[i]))
	}
	return sum
}

func (portable) mul(a, b elem) elem { return a.mul(b) }

func (portable) digest(h *voleHash, column []byte) (h0 elem, h1 uint64) {
	var hi, lo uint64
	for i, s := range h.s {
		b := loadElem(column[16*i:])
		h0 = h0.add(s.mul(b))
		for j, v := range b {
			hi2, lo2 := clmul(h.t[2*i+j], v)
			hi, lo = hi^hi2, lo^lo2
		}
	}
	return h0, reduce64(hi, lo)
}

func (portable) transpose(columns [][]byte, rows []word) { transposeFrom(0, columns, rows) }

// transposeFrom makes the rows from a word on.
func transposeFrom(w int, columns [][]byte, rows []word) {
	for ; w < len(rows); w += 2 {
		for half := range 2 {
			var m [64]uint64
			for b := 64 * half; b < min(64*half+64, len(columns)); b++ {
				m[b-64*half] = binary.LittleEndian.Uint64(columns[b][4*w:])
			}
			transpose64(&m)
			for i, v := range m {
				rows[w+i/32][i%32][half] = v
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
