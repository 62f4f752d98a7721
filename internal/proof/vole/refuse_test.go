package vole_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

// A proof is good for its statement and its context alone.
func TestProofsAreBound(t *testing.T) {
	w, salt := random(), random()
	st := linkOf(w, salt)
	context := []byte("provider 1, nonce 1")
	p := prove(t, vole.Bits80, st, w, context)
	accepted(t, vole.Bits80, st, context, p)

	other := st
	other.Hash = random()
	refused(t, "another payment hash", vole.Bits80, other, context, p)
	other = st
	other.Salt[0] ^= 1
	refused(t, "another salt", vole.Bits80, other, context, p)
	refused(t, "another salt that is true", vole.Bits80, linkOf(w, random()), context, p)
	other = st
	other.KeyHash[31] ^= 0x80
	refused(t, "another key hash", vole.Bits80, other, context, p)
	other.KeyHash, other.Hash = st.Hash, st.KeyHash
	refused(t, "hashes swapped", vole.Bits80, other, context, p)

	for name, c := range map[string]string{
		"another provider": "provider 2, nonce 1",
		"another nonce":    "provider 1, nonce 2",
		"no context":       "",
		"shorter context":  "provider 1, nonce ",
		"longer context":   "provider 1, nonce 11",
	} {
		refused(t, name, vole.Bits80, st, []byte(c), p)
	}
	accepted(t, vole.Bits80, st, context, p)
}

func TestOtherKindsAreRefused(t *testing.T) {
	w := random()
	pre := proof.PreimageOf(sha256.Sum256(w[:]))
	link := linkOf(w, [32]byte{}) // says twice what pre says
	p, l := prove(t, vole.Bits80, pre, w, nil), prove(t, vole.Bits80, link, w, nil)
	accepted(t, vole.Bits80, pre, nil, p)
	accepted(t, vole.Bits80, link, nil, l)
	refused(t, "a preimage's proof as a link's", vole.Bits80, link, nil, p)
	refused(t, "a link's proof as a preimage's", vole.Bits80, pre, nil, l)
	p[2], l[2] = l[2], p[2]
	refused(t, "with the kind edited", vole.Bits80, link, nil, p)
	refused(t, "with the kind edited", vole.Bits80, pre, nil, l)
	stretched := append(bytes.Clone(p), make([]byte, len(l)-len(p))...)
	refused(t, "with the kind and the length edited", vole.Bits80, link, nil, stretched)
	refused(t, "cut to length", vole.Bits80, pre, nil, l[:len(p)])

	junk := pre
	junk.Salt[5] = 1
	p[2] = byte(proof.Preimage)
	accepted(t, vole.Bits80, pre, nil, p)
	refused(t, "a preimage with a salt", vole.Bits80, junk, nil, p)
}

func TestOtherSystemsAreRefused(t *testing.T) {
	for _, c := range cases() {
		p := prove(t, vole.Bits80, c.st, c.w, nil)
		accepted(t, vole.Bits80, c.st, nil, p)
		for _, s := range systems[1:] {
			refused(t, "another system's", s, c.st, nil, p)
			forced := append(bytes.Clone(p), make([]byte, s.Length(c.st.Kind))...)[:s.Length(c.st.Kind)]
			forced[1] = prove(t, s, c.st, c.w, nil)[1]
			refused(t, "another system's, edited", s, c.st, nil, forced)
		}
		// Systems with the same lengths, which differ in one thing each.
		for name, s := range map[string]*vole.System{
			"name":   vole.NewSystem(1, "vole-81", 9, 8, 10),
			"number": vole.NewSystem(77, "vole-80", 9, 8, 10),
			"zeros":  vole.NewSystem(1, "vole-80", 9, 8, 9),
		} {
			q := bytes.Clone(p)
			q[1] = prove(t, s, c.st, c.w, nil)[1]
			refused(t, "another "+name, s, c.st, nil, q)
		}
		accepted(t, vole.NewSystem(1, "vole-80", 9, 8, 10), c.st, nil, p)
	}
}

func TestOtherLengthsAreRefused(t *testing.T) {
	for _, c := range cases() {
		p := prove(t, vole.Bits80Fast, c.st, c.w, nil)
		accepted(t, vole.Bits80Fast, c.st, nil, p)
		for _, n := range []int{0, 1, 2, 3, 19, len(p) / 2, len(p) - 1} {
			refused(t, fmt.Sprint("cut to ", n), vole.Bits80Fast, c.st, nil, p[:n])
		}
		refused(t, "nothing", vole.Bits80Fast, c.st, nil, nil)
		refused(t, "a byte more", vole.Bits80Fast, c.st, nil, append(bytes.Clone(p), 0))
		refused(t, "twice", vole.Bits80Fast, c.st, nil, append(bytes.Clone(p), p...))
	}
}

// Each field of a proof is checked: one flipped bit in any refuses it. The fields
// are all of the proof, so there is no padding that could hold another encoding.
func TestFlippedFieldsAreRefused(t *testing.T) {
	for _, c := range cases() {
		p := prove(t, vole.Bits80, c.st, c.w, nil)
		accepted(t, vole.Bits80, c.st, nil, p)
		end := 0
		for _, f := range vole.Bits80.Fields(c.st.Kind) {
			if f.From != end || f.To <= f.From {
				t.Fatalf("%s begins at %d instead of %d", f.Name, f.From, end)
			}
			end = f.To
			for _, at := range []int{f.From, f.From + rand.IntN(f.To-f.From), f.To - 1} {
				bit := byte(1) << rand.IntN(8)
				p[at] ^= bit
				refused(t, fmt.Sprintf("%s, byte %d", f.Name, at), vole.Bits80, c.st, nil, p)
				p[at] ^= bit
			}
		}
		if end != len(p) {
			t.Errorf("fields of %d bytes, a proof of %d", end, len(p))
		}
		accepted(t, vole.Bits80, c.st, nil, p)
	}
}

// Of a small proof bytes all over are tried, and fields of one proof in another.
func TestNoByteIsIdle(t *testing.T) {
	s := vole.NewSystem(92, "small", 2, 4, 3)
	for _, c := range cases() {
		p, other := prove(t, s, c.st, c.w, nil), prove(t, s, c.st, c.w, nil)
		accepted(t, s, c.st, nil, p)
		step := int(c.st.Kind) * 5
		for at := rand.IntN(step); at < len(p); at += step {
			bit := byte(1) << rand.IntN(8)
			p[at] ^= bit
			refused(t, fmt.Sprint("byte ", at), s, c.st, nil, p)
			p[at] ^= bit
		}
		for _, f := range s.Fields(c.st.Kind)[3:] {
			mixed := bytes.Clone(p)
			if copy(mixed[f.From:f.To], other[f.From:f.To]); bytes.Equal(mixed, p) {
				continue
			}
			refused(t, "another proof's "+f.Name, s, c.st, nil, mixed)
		}
	}
}

// TestForgersAreBelievedAsOftenAsTheySay: a prover without a witness that bends
// its polynomial to have three roots is believed in 3 of 2^(trees*depth) tries,
// no more and no less.
func TestForgersAreBelievedAsOftenAsTheySay(t *testing.T) {
	const tries = 1000
	w := [32]byte{9}
	st := proof.PreimageOf(sha256.Sum256(w[:]))
	for _, c := range []struct{ trees, depth int }{{1, 4}, {1, 6}, {1, 8}} {
		s := vole.NewSystem(93, "weak", c.trees, c.depth, 0)
		accepted(t, s, st, nil, prove(t, s, st, w, nil))
		random, believed := seeded(fmt.Sprint("forger ", c)), 0
		for range tries {
			if s.Verify(st, nil, s.Forge(random, st, [32]byte{1}, nil)) == nil {
				believed++
			}
		}
		// The mean is tries*q, the deviation below its square root. With a seed
		// that does not change, the outcome does not either.
		want := tries * 3 / float64(int(1)<<(c.trees*c.depth))
		if d := float64(believed) - want; d*d > 16*want {
			t.Errorf("%d trees of depth %d: %d of %d forgeries believed, %.1f expected", c.trees, c.depth, believed, tries, want)
		}
	}
	for range 20 {
		refused(t, "a forgery", vole.Bits80, st, nil, vole.Bits80.Forge(seeded("strong"), st, [32]byte{1}, nil))
	}
}

// Of all challenges to one forged message, the forger's three are those that it
// can answer.
func TestForgersAnswerThreeChallenges(t *testing.T) {
	w := [32]byte{9}
	st := proof.PreimageOf(sha256.Sum256(w[:]))
	for _, c := range []struct{ trees, depth int }{{1, 8}, {2, 4}} {
		s := vole.NewInteractive(93, "weak", c.trees, c.depth)
		message, answer := s.Forge(seeded("forger"), st, [32]byte{1}, nil)
		var answered []int
		for delta := range 256 {
			v, err := s.NewVerifier(st, nil, message)
			if err != nil {
				t.Fatal(err)
			}
			d, err := v.Challenge(bytes.NewReader([]byte{byte(delta)}))
			if err != nil {
				t.Fatal(err)
			}
			if v.Check(answer(d)) == nil {
				answered = append(answered, delta)
			}
		}
		if want := vole.ForgersRoots; !slices.Equal(answered, want) {
			t.Errorf("%d trees of depth %d: the challenges %d are answered, not %d", c.trees, c.depth, answered, want)
		}
	}
}
