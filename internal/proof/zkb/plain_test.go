package zkb_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"sync"

	"htlcdash/internal/proof"
)

// A plain verifier, written from spec/07 alone: one round after another and one
// bit after another, with none of the package's code.

// plainVerify returns what it found out about the rounds.
func plainVerify(name string, rounds int, st proof.Statement, context, b []byte) (found []plainRound, err error) {
	hashes := map[proof.Kind]int{proof.Preimage: 1, proof.Link: 2}[st.Kind]
	view := (hashes*21045 + 7) / 8
	header := []byte{'h', 'z', 'k', 'b', 1, byte(st.Kind), byte(rounds >> 8), byte(rounds)}
	if len(b) != 72+rounds*(16+16+32+view+32+32*hashes) || !bytes.Equal(b[:8], header) {
		return nil, errors.New("form")
	}
	salt, challenge, b := b[8:40], b[40:72], b[72:]
	h := sha256.New()
	fmt.Fprintf(h, "htlcdash/zkb/challenge/v1%c%s%s", len(name), name, header)
	h.Write(st.Append(nil))
	binary.Write(h, binary.BigEndian, uint64(len(context)))
	h.Write(context)
	h.Write(salt)
	for t, e := range plainTrits(challenge, rounds) {
		r := plainRound{e: e, salt: salt, round: t, st: st}
		for _, f := range []struct {
			to *[]byte
			n  int
		}{{&r.seeds[0], 16}, {&r.seeds[1], 16}, {&r.input, 32}, {&r.view, view}, {&r.commits[(e+2)%3], 32}, {&r.outs[(e+2)%3], 32 * hashes}} {
			*f.to, b = b[:f.n], b[f.n:]
		}
		if err := r.play(); err != nil {
			return nil, fmt.Errorf("round %d: %w", t, err)
		}
		for i := range 3 {
			h.Write(r.commits[i])
			h.Write(r.outs[i])
		}
		found = append(found, r)
	}
	if !bytes.Equal(h.Sum(nil), challenge) {
		return nil, errors.New("challenge")
	}
	return found, nil
}

func plainTrits(challenge []byte, n int) (out []int) {
	for counter := uint32(0); len(out) < n; counter++ {
		for _, v := range plainHash("htlcdash/zkb/trits/v1", challenge, binary.BigEndian.AppendUint32(nil, counter)) {
			for _, e := range []byte{v & 3, v >> 2 & 3, v >> 4 & 3, v >> 6} {
				if e != 3 && len(out) < n {
					out = append(out, int(e))
				}
			}
		}
	}
	return out
}

func plainHash(domain string, parts ...[]byte) []byte {
	sum := sha256.Sum256(append([]byte(domain), bytes.Join(parts, nil)...))
	return sum[:]
}

type plainRound struct {
	e, round    int
	salt        []byte
	st          proof.Statement
	seeds       [2][]byte
	input, view []byte
	commits     [3][]byte
	outs        [3][]byte

	tapes [2][]byte // of parties e and e+1
	mine  []byte    // the view of party e
	gate  int
}

func (r *plainRound) number(i int) []byte {
	return []byte{byte(r.round >> 8), byte(r.round), byte((r.e + i) % 3)}
}

func (r *plainRound) play() error {
	if used := len(r.outs[(r.e+2)%3]) / 32 * 21045 % 8; r.view[len(r.view)-1]>>used != 0 {
		return errors.New("unused bits")
	}
	var shares [2][]byte
	for i := range 2 {
		block, _ := aes.NewCipher(plainHash("htlcdash/zkb/tape/v1", r.salt, r.number(i), r.seeds[i]))
		r.tapes[i] = make([]byte, 32+len(r.view))
		cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(r.tapes[i], r.tapes[i])
		shares[i] = r.tapes[i][:32]
		if (r.e+i)%3 == 2 {
			shares[i] = r.input
		}
	}
	if r.e == 0 && !bytes.Equal(r.input, make([]byte, 32)) {
		return errors.New("input")
	}
	r.mine = make([]byte, len(r.view))
	var w [8]plainWord
	for j := range w {
		w[j] = plainWord{share: [2]uint32{binary.BigEndian.Uint32(shares[0][4*j:]), binary.BigEndian.Uint32(shares[1][4*j:])}}
	}
	want := r.sha256(w, r.first())
	if r.st.Kind == proof.Link {
		for j := range w {
			w[j] = r.xor(w[j], plainPublic(binary.BigEndian.Uint32(r.st.Salt[4*j:])))
		}
		want = append(want, r.sha256(w, r.st.Hash)...)
	}
	for j := range want {
		if r.outs[0][j]^r.outs[1][j]^r.outs[2][j] != want[j] {
			return errors.New("results")
		}
	}
	for i, view := range [][]byte{r.mine, r.view} {
		parts := [][]byte{r.salt, r.number(i), r.seeds[i], view}
		if (r.e+i)%3 == 2 {
			parts = [][]byte{r.salt, r.number(i), r.seeds[i], r.input, view}
		}
		r.commits[(r.e+i)%3] = plainHash("htlcdash/zkb/view/v1", parts...)
	}
	return nil
}

func (r *plainRound) first() [32]byte {
	if r.st.Kind == proof.Link {
		return r.st.KeyHash
	}
	return r.st.Hash
}

// plainWord is a word that is public, or shares of it.
type plainWord struct {
	public bool
	value  uint32
	share  [2]uint32 // of parties e and e+1
}

func plainPublic(v uint32) plainWord { return plainWord{public: true, value: v} }

// shared gives a public word to party 0.
func (r *plainRound) shared(x plainWord) (s [2]uint32) {
	if !x.public {
		return x.share
	}
	for i := range s {
		if (r.e+i)%3 == 0 {
			s[i] = x.value
		}
	}
	return s
}

func (r *plainRound) xor(x, y plainWord) plainWord {
	a, b := r.shared(x), r.shared(y)
	return plainWord{x.public && y.public, x.value ^ y.value, [2]uint32{a[0] ^ b[0], a[1] ^ b[1]}}
}

// times computes a gate of bits.
func (r *plainRound) times(a, b [2]uint32) [2]uint32 {
	bit := func(s []byte) uint32 { return uint32(s[r.gate/8] >> (r.gate % 8) & 1) }
	mine := a[0]&b[0] ^ a[1]&b[0] ^ a[0]&b[1] ^ bit(r.tapes[0][32:]) ^ bit(r.tapes[1][32:])
	r.mine[r.gate/8] |= byte(mine) << (r.gate % 8)
	theirs := bit(r.view)
	r.gate++
	return [2]uint32{mine, theirs}
}

func (r *plainRound) and(x, y plainWord) (z plainWord) {
	switch {
	case x.public && y.public:
		return plainPublic(x.value & y.value)
	case x.public:
		return plainWord{share: [2]uint32{y.share[0] & x.value, y.share[1] & x.value}}
	case y.public:
		return plainWord{share: [2]uint32{x.share[0] & y.value, x.share[1] & y.value}}
	}
	for i := range 32 {
		p := r.times([2]uint32{x.share[0] >> i & 1, x.share[1] >> i & 1}, [2]uint32{y.share[0] >> i & 1, y.share[1] >> i & 1})
		z.share[0] |= p[0] << i
		z.share[1] |= p[1] << i
	}
	return z
}

func (r *plainRound) sum(words ...plainWord) plainWord {
	public, have := uint32(0), false
	var z plainWord
	for _, w := range words {
		switch {
		case w.public:
			public += w.value
		case have:
			z = r.add(z.share, w.share, -1)
		default:
			z, have = w, true
		}
	}
	if !have || public == 0 {
		z.public, z.value = !have, public
		return z
	}
	return r.add(z.share, r.shared(plainPublic(public)), bits.TrailingZeros32(public))
}

// add adds; lowest is the lowest bit that is set in a public y.
func (r *plainRound) add(x, y [2]uint32, lowest int) (z plainWord) {
	var c [2]uint32
	for i := range 32 {
		a, b := [2]uint32{x[0] >> i & 1, x[1] >> i & 1}, [2]uint32{y[0] >> i & 1, y[1] >> i & 1}
		for p := range z.share {
			z.share[p] |= (a[p] ^ b[p] ^ c[p]) << i
		}
		switch {
		case i == 31 || i < lowest:
		case i == lowest:
			c = a
		default:
			p := r.times([2]uint32{a[0] ^ b[0], a[1] ^ b[1]}, [2]uint32{a[0] ^ c[0], a[1] ^ c[1]})
			c = [2]uint32{a[0] ^ p[0], a[1] ^ p[1]}
		}
	}
	return z
}

func (r *plainRound) each(x plainWord, f func(uint32) uint32) plainWord {
	return plainWord{x.public, f(x.value), [2]uint32{f(x.share[0]), f(x.share[1])}}
}

func plainTurn(x uint32, p, q, r int) uint32 {
	return bits.RotateLeft32(x, -p) ^ bits.RotateLeft32(x, -q) ^ bits.RotateLeft32(x, -r)
}

// sha256 appends the results of both parties, and returns what they should be.
func (r *plainRound) sha256(message [8]plainWord, digest [32]byte) (want []byte) {
	w := append(message[:], plainPublic(1<<31))
	for len(w) < 15 {
		w = append(w, plainPublic(0))
	}
	w = append(w, plainPublic(256))
	for t := 16; t < 64; t++ {
		s0 := r.each(w[t-15], func(x uint32) uint32 { return plainTurn(x, 7, 18, 3) ^ x<<29 })
		s1 := r.each(w[t-2], func(x uint32) uint32 { return plainTurn(x, 17, 19, 10) ^ x<<22 })
		w = append(w, r.sum(w[t-16], s0, w[t-7], s1))
	}
	var s []plainWord
	for _, v := range plainInitial() {
		s = append(s, plainPublic(v))
	}
	for t, k := range plainConstants() {
		ch := r.xor(s[6], r.and(s[4], r.xor(s[5], s[6])))
		t1 := r.sum(s[7], r.each(s[4], func(x uint32) uint32 { return plainTurn(x, 6, 11, 25) }), ch, plainPublic(k), w[t])
		maj := r.xor(s[1], r.and(r.xor(s[0], s[1]), r.xor(s[1], s[2])))
		t2 := r.sum(r.each(s[0], func(x uint32) uint32 { return plainTurn(x, 2, 13, 22) }), maj)
		a := r.sum(t1, t2)
		e := r.sum(s[3], t1)
		s = []plainWord{a, s[0], s[1], s[2], e, s[4], s[5], s[6]}
	}
	for j, v := range plainInitial() {
		for i := range 2 {
			out := &r.outs[(r.e+i)%3]
			*out = binary.BigEndian.AppendUint32(*out, s[j].share[i])
		}
		want = binary.BigEndian.AppendUint32(want, binary.BigEndian.Uint32(digest[4*j:])-v)
	}
	return want
}

var (
	plainInitial   = sync.OnceValue(func() []uint32 { return plainRoots(8, 2) })
	plainConstants = sync.OnceValue(func() []uint32 { return plainRoots(64, 3) })
)

// plainRoots has the first 32 bits behind the point of the square or cube roots
// of the first n primes: the constants of FIPS 180-4.
func plainRoots(n, root int64) (out []uint32) {
	for p := int64(2); int64(len(out)) < n; p++ {
		if !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		x := new(big.Int).Lsh(big.NewInt(p), uint(32*root)) // (2^32 p^(1/root))^root
		lo, hi := big.NewInt(0), new(big.Int).Lsh(big.NewInt(p), 32)
		for one := big.NewInt(1); new(big.Int).Sub(hi, lo).Cmp(one) > 0; {
			mid := new(big.Int).Rsh(new(big.Int).Add(lo, hi), 1)
			if new(big.Int).Exp(mid, big.NewInt(root), nil).Cmp(x) <= 0 {
				lo = mid
			} else {
				hi = mid
			}
		}
		out = append(out, uint32(lo.Uint64()))
	}
	return out
}
