package vole_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

var systems = []*vole.System{vole.Bits80, vole.Bits80Small, vole.Bits80Fast, vole.Bits128, vole.Bits128Fast}

var (
	_ proof.System = vole.Bits80
	_ proof.System = (*vole.Stock)(nil)
)

type provable struct {
	name string
	st   proof.Statement
	w    [32]byte
}

// cases are a true statement of each kind about a random witness.
func cases() []provable {
	w, salt := random(), random()
	return []provable{
		{"preimage", proof.PreimageOf(sha256.Sum256(w[:])), w},
		{"link", linkOf(w, salt), w},
	}
}

func random() (b [32]byte) {
	rand.Read(b[:])
	return b
}

func linkOf(w, salt [32]byte) proof.Statement {
	return proof.LinkOf(sha256.Sum256(w[:]), salt, sha256.Sum256(xor(w, salt)))
}

func xor(a, b [32]byte) []byte {
	for i := range a {
		a[i] ^= b[i]
	}
	return a[:]
}

// seeded is randomness that can be had again.
func seeded(seed string) io.Reader {
	h := sha3.NewSHAKE128()
	h.Write([]byte(seed))
	return h
}

func prove(t testing.TB, s proof.System, st proof.Statement, w [32]byte, context []byte) []byte {
	t.Helper()
	p, err := s.Prove(nil, rand.Reader, st, w, context)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func accepted(t testing.TB, s proof.System, st proof.Statement, context, p []byte) {
	t.Helper()
	if err := s.Verify(st, context, p); err != nil {
		t.Errorf("%s: %v", s.Name(), err)
	}
}

func refused(t testing.TB, what string, s proof.System, st proof.Statement, context, p []byte) {
	t.Helper()
	if err := s.Verify(st, context, p); !errors.Is(err, proof.ErrRefused) {
		t.Errorf("%s: %s: %v instead of %v", s.Name(), what, err, proof.ErrRefused)
	}
}

func TestHonestProofsAreAccepted(t *testing.T) {
	for _, s := range systems {
		for _, c := range cases() {
			t.Run(s.Name()+"/"+c.name, func(t *testing.T) {
				context := []byte("provider and nonce")
				before := []byte("before")
				p, err := s.Prove(before, rand.Reader, c.st, c.w, context)
				if err != nil {
					t.Fatal(err)
				}
				p, found := bytes.CutPrefix(p, before)
				if !found || len(p) != s.Length(c.st.Kind) {
					t.Errorf("%d bytes instead of %d, appended: %v", len(p), s.Length(c.st.Kind), found)
				}
				accepted(t, s, c.st, context, p)
				other := prove(t, s, c.st, c.w, context)
				accepted(t, s, c.st, context, other)
				if bytes.Equal(p, other) {
					t.Error("two proofs are the same")
				}
				accepted(t, s, c.st, nil, prove(t, s, c.st, c.w, nil))
			})
		}
	}
}

// Two proofs of one statement have nothing in common but the header: all else is
// random or masked.
func TestProofsShareNothing(t *testing.T) {
	for _, c := range cases() {
		a := prove(t, vole.Bits80, c.st, c.w, nil)
		b := prove(t, vole.Bits80, c.st, c.w, nil)
		for _, f := range vole.Bits80.Fields(c.st.Kind)[3:] {
			if strings.HasPrefix(f.Name, "counter") {
				continue // small numbers
			}
			if bytes.Equal(a[f.From:f.To], b[f.From:f.To]) {
				t.Errorf("%s: %s is the same in both", c.name, f.Name)
			}
		}
	}
}

func TestFalseStatementsAreNotProved(t *testing.T) {
	good := cases()
	for name, st := range map[string]proof.Statement{
		"no kind":                {Hash: good[0].st.Hash},
		"unknown kind":           {Kind: 3, Hash: good[0].st.Hash},
		"another's hash":         proof.PreimageOf(random()),
		"preimage with a salt":   {Kind: proof.Preimage, Hash: good[0].st.Hash, Salt: [32]byte{1}},
		"link without its key":   {Kind: proof.Link, Hash: good[1].st.Hash, Salt: good[1].st.Salt},
		"link with another salt": {Kind: proof.Link, Hash: good[1].st.Hash, KeyHash: good[1].st.KeyHash},
	} {
		for _, s := range []proof.System{vole.Bits80, vole.Bits80.NewStock(proof.Link, 1)} {
			p, err := s.Prove(nil, rand.Reader, st, good[0].w, nil)
			if !errors.Is(err, proof.ErrFalse) || p != nil {
				t.Errorf("%s: %v instead of %v", name, err, proof.ErrFalse)
			}
		}
		if st.Kind != proof.Preimage && st.Kind != proof.Link {
			refused(t, name, vole.Bits80, st, nil, nil)
			if n := vole.Bits80.Length(st.Kind); n != 0 {
				t.Errorf("%s: a length of %d", name, n)
			}
		}
	}
}

func TestNoRandomnessNoProof(t *testing.T) {
	for _, c := range cases() {
		p, err := vole.Bits80.Prove(nil, strings.NewReader("too short"), c.st, c.w, nil)
		if !errors.Is(err, io.ErrUnexpectedEOF) || p != nil {
			t.Errorf("%s: %v instead of %v", c.name, err, io.ErrUnexpectedEOF)
		}
	}
}

// All kernels make the same proof from the same randomness, and each accepts it.
func TestKernelsAgree(t *testing.T) {
	for _, s := range []*vole.System{
		vole.Bits80Fast,
		vole.NewSystem(90, "all bits of Delta", 16, 8, 1),
		vole.NewSystem(90, "shallow", 32, 4, 0),
		vole.NewSystem(90, "middling", 3, 6, 1),
		vole.NewSystem(90, "deep", 1, 10, 2),
	} {
		for _, c := range cases() {
			each := s.OnEachKernel()
			want, err := each[len(each)-1].Prove(nil, seeded("kernels"), c.st, c.w, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, k := range each {
				got, err := k.Prove(nil, seeded("kernels"), c.st, c.w, nil)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, %s, kernel %d: another proof (%v)", s.Name(), c.name, i, err)
				}
				accepted(t, k, c.st, nil, want)
			}
		}
	}
}

func TestMul(t *testing.T) {
	a, b := random(), random()
	for i := range 200 {
		x := [2]uint64{uint64(a[0])<<(i%57) | uint64(a[1]), uint64(a[2]) << (i % 40)}
		y := [2]uint64{^uint64(b[0]) << (i % 64), ^uint64(b[3]) >> (i % 64)}
		for kr := range vole.Kernels() {
			if got, want := vole.Mul(kr, x, y); got != want {
				t.Errorf("kernel %d: %x * %x is %x, not %x", kr, x, y, got, want)
			}
		}
		a, b = sha256.Sum256(a[:]), sha256.Sum256(b[:])
	}
}

// What a prover does, and in which places, does not depend on its witness. After
// the last challenge it depends on that, which is public.
func TestTraceIsIndependentOfWitness(t *testing.T) {
	for kind := range 2 {
		var want []string
		for range 3 {
			c := cases()[kind]
			s, log := vole.NewSystem(91, "traced", 1, 4, 0).Traced()
			if _, err := s.Prove(nil, seeded("trace"), c.st, c.w, nil); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = *log
			}
			if !slices.Equal(*log, want) || len(want) < 1000 {
				t.Fatalf("%s: %d steps, others than the %d before", c.name, len(*log), len(want))
			}
		}
	}
}
