//go:build !purego

package vole

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// accelerated is the kernel in assembly: AES-NI, PCLMULQDQ and AVX2, with two
// lanes also VAES and VPCLMULQDQ.
type accelerated struct{ twoLanes bool }

// kernels lists what this machine can run, the fastest first.
func kernels() []kernel {
	if !cpu.X86.HasAVX2 || !cpu.X86.HasAES || !cpu.X86.HasPCLMULQDQ {
		return []kernel{portable{}}
	}
	const vaes, vpclmulqdq = 1 << 9, 1 << 10
	if cpuidSeven()&(vaes|vpclmulqdq) != vaes|vpclmulqdq {
		return []kernel{accelerated{}, portable{}}
	}
	return []kernel{accelerated{true}, accelerated{}, portable{}}
}

// tweaks has what each node adds to the counter.
var tweaks = func() (out [2<<maxDepth + slack][16]byte) {
	for i := range out {
		binary.BigEndian.PutUint32(out[i][8:], uint32(i))
	}
	return out
}()

func (a accelerated) firstBlocks(t *tree, dst []byte, first, width int) {
	base := t.counter(0)
	if a.twoLanes {
		firstBlocks2(&dst[0], &t.nodes[nodeLen*first], &tweaks[first], &base, max(width/8, 1))
	} else {
		firstBlocks1(&dst[0], &t.nodes[nodeLen*first], &tweaks[first], &base, max(width/4, 1))
	}
}

func (a accelerated) expand4(t *tree, leaves [4]int, sum, low, high []byte) {
	var keys, tweak [4][16]byte
	for i, leaf := range leaves {
		keys[i] = [16]byte(t.node(leaf))
		binary.BigEndian.PutUint32(tweak[i][8:], t.tweak(leaf))
	}
	var round [4][176]byte
	scheduleFour(&round, &keys, &tweak)
	if a.twoLanes {
		expandFour2(&sum[0], &low[0], &high[0], &t.counters[0], &round, len(sum)/64)
	} else {
		expandFour1(&sum[0], &low[0], &high[0], &t.counters[0], &round, len(sum)/32)
	}
}

func (accelerated) fold4(parts [4][]byte, sum, low, high []byte) {
	p := [4]*byte{&parts[0][0], &parts[1][0], &parts[2][0], &parts[3][0]}
	foldFour(&sum[0], &low[0], &high[0], &p, len(sum)/32)
}

func (a accelerated) products(y *products, l, x, z *word, wx, wz uint32) {
	bits := [2]uint32{wx, wz}
	if a.twoLanes {
		products2(y.zeroth(), y.first(), l, x, z, &bits)
	} else {
		products1(y.zeroth(), y.first(), l, x, z, &bits)
	}
}

func (a accelerated) productKeys(y *products, l, x, z *word, delta elem) {
	if a.twoLanes {
		productKeys2(y.zeroth(), l, x, z, &delta)
	} else {
		productKeys1(y.zeroth(), l, x, z, &delta)
	}
}

func (a accelerated) constrain(y *products, s, x *word, bits [4]uint32) (out [3]elem) {
	var sums [3][2]elem
	if a.twoLanes {
		constrain2(&sums, &y.y0[1], &y.y1[1], &s[0], &x[0], &bits, 0)
	} else {
		constrain1(&sums, &y.y0[1], &y.y1[1], &s[0], &x[0], &bits, 0)
		var upper [3][2]elem
		constrain1(&upper, &y.y0[17], &y.y1[17], &s[16], &x[16], &bits, 1)
		for i := range sums {
			sums[i][1] = upper[i][0]
		}
	}
	for i, s := range sums {
		out[i] = s[0].add(s[1].timesX())
	}
	return out
}

func (a accelerated) dot(x, y []elem) elem {
	var out [2]elem
	n := len(x)
	if a.twoLanes && n&1 == 0 {
		dot2(&out, &x[0], &y[0], n/2)
	} else {
		dot1(&out, &x[0], &y[0], n)
	}
	return out[0].add(out[1])
}

func (accelerated) mul(x, y elem) elem {
	var out [2]elem
	dot1(&out, &x, &y, 1)
	return out[0]
}

func (a accelerated) digest(h *voleHash, column []byte) (h0 elem, h1 uint64) {
	var out [4]elem
	n := len(h.s)
	if a.twoLanes && n&1 == 0 {
		digest2(&out, &h.s[0], &h.t[0], &column[0], n/2)
	} else {
		digest1(&out, &h.s[0], &h.t[0], &column[0], n)
	}
	wide := out[2].add(out[3])
	return out[0].add(out[1]), reduce64(wide[1], wide[0])
}

func (accelerated) addTurned(to, from *word, t term) {
	n := 32 - t.right
	addRows(&to[0], &from[t.right], n)
	if !t.cut && t.right > 0 {
		addRows(&to[n], &from[0], t.right)
	}
}

func (accelerated) transpose(columns [][]byte, rows []word) {
	var m [128][4]uint64
	const step = 8 // words: 256 rows
	w := 0
	for ; w+step <= len(rows); w += step {
		for b, c := range columns {
			m[b] = *(*[4]uint64)(unsafe.Pointer(unsafe.SliceData(c[4*w : 4*w+32])))
		}
		transposeRows(&m)
		storeRows(&rows[w][0], &m)
		clear(m[len(columns):])
	}
	transposeFrom(w, columns, rows)
}

//go:noescape
func firstBlocks1(dst *byte, keys *byte, tweaks, base *[16]byte, n int)

//go:noescape
func firstBlocks2(dst *byte, keys *byte, tweaks, base *[16]byte, n int)

//go:noescape
func expandFour1(sum, low, high, counters *byte, keys *[4][176]byte, n int)

//go:noescape
func expandFour2(sum, low, high, counters *byte, keys *[4][176]byte, n int)

//go:noescape
func products1(y0, y1 *elem, l, a, b *word, bits *[2]uint32)

//go:noescape
func products2(y0, y1 *elem, l, a, b *word, bits *[2]uint32)

//go:noescape
func productKeys1(y *elem, l, a, b *word, delta *elem)

//go:noescape
func productKeys2(y *elem, l, a, b *word, delta *elem)

//go:noescape
func constrain1(out *[3][2]elem, y0, y1, s, x *elem, bits *[4]uint32, half int)

//go:noescape
func constrain2(out *[3][2]elem, y0, y1, s, x *elem, bits *[4]uint32, half int)

//go:noescape
func dot1(out *[2]elem, a, b *elem, n int)

//go:noescape
func dot2(out *[2]elem, a, b *elem, n int)

//go:noescape
func digest1(out *[4]elem, s *elem, t *uint64, column *byte, n int)

//go:noescape
func digest2(out *[4]elem, s *elem, t *uint64, column *byte, n int)

//go:noescape
func scheduleFour(round *[4][176]byte, keys, tweaks *[4][16]byte)

//go:noescape
func foldFour(sum, low, high *byte, parts *[4]*byte, n int)

//go:noescape
func addRows(to, from *elem, n int)

//go:noescape
func transposeRows(m *[128][4]uint64)

//go:noescape
func storeRows(to *elem, m *[128][4]uint64)

func cpuidSeven() (ecx uint32)
