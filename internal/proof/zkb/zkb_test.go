package zkb_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/zkb"
)

// Where things lie in a proof (spec/07, section 5).
const (
	header    = 8
	salt      = header
	challenge = salt + 32
	rounds    = challenge + 32
)

// fieldsOf are the parts of a round's opening, with their places in it.
func fieldsOf(k proof.Kind) (fields []field, size int) {
	hashes := map[proof.Kind]int{proof.Preimage: 1, proof.Link: 2}[k]
	for _, f := range []field{
		{"seed of the first party", 0, 16},
		{"seed of the second party", 0, 16},
		{"input share", 0, 32},
		{"view", 0, (hashes*zkb.GatesPerHash + 7) / 8},
		{"commitment", 0, 32},
		{"output share", 0, 32 * hashes},
	} {
		f.at = size
		size += f.size
		fields = append(fields, f)
	}
	return fields, size
}

type field struct {
	name     string
	at, size int
}

// A claim is a true statement with its witness.
type claim struct {
	name string
	st   proof.Statement
	w    [32]byte
}

func xor(a, b [32]byte) (z [32]byte) {
	subtle.XORBytes(z[:], a[:], b[:])
	return z
}

// claims draws a true statement of each kind.
func claims() []claim {
	var w, salt [32]byte
	rand.Read(w[:])
	rand.Read(salt[:])
	return []claim{
		{"preimage", proof.PreimageOf(sha256.Sum256(w[:])), w},
		{"link", linkOf(w, salt), w},
	}
}

func linkOf(w, salt [32]byte) proof.Statement {
	salted := xor(w, salt)
	return proof.LinkOf(sha256.Sum256(w[:]), salt, sha256.Sum256(salted[:]))
}

func prove(t testing.TB, s proof.System, c claim, context string) []byte {
	t.Helper()
	p, err := s.Prove(nil, rand.Reader, c.st, c.w, []byte(context))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// accepts fails the test if an honest proof is not accepted, so that a refusal
// beside it means something.
func accepts(t testing.TB, s proof.System, st proof.Statement, context string, p []byte) {
	t.Helper()
	if err := s.Verify(st, []byte(context), p); err != nil {
		t.Fatalf("the honest proof: %v", err)
	}
}

// refuses fails the test if p is not refused for one of the reasons.
func refuses(t testing.TB, s proof.System, st proof.Statement, context string, p []byte, reasons ...error) {
	t.Helper()
	err := s.Verify(st, []byte(context), p)
	if !errors.Is(err, proof.ErrRefused) {
		t.Fatalf("error %v, want %v", err, proof.ErrRefused)
	}
	if len(reasons) > 0 && !slices.ContainsFunc(reasons, func(r error) bool { return errors.Is(err, r) }) {
		t.Errorf("refused because of %v, want one of %v", err, reasons)
	}
}

func TestHonestProofs(t *testing.T) {
	for _, s := range []proof.System{zkb.Bits80(), zkb.Bits128(), zkb.Rounds(64), zkb.Rounds(65)} {
		for _, c := range claims() {
			t.Run(s.Name()+" "+c.name, func(t *testing.T) {
				p := prove(t, s, c, "context")
				accepts(t, s, c.st, "context", p)
				if len(p) != s.Length(c.st.Kind) {
					t.Errorf("%d bytes, want %d", len(p), s.Length(c.st.Kind))
				}
			})
		}
	}
}

func TestManyWitnesses(t *testing.T) {
	s := zkb.Rounds(3)
	for i, w := range [][32]byte{{}, {31: 1}, {0: 0x80}, [32]byte(bytes.Repeat([]byte{0xff}, 32))} {
		c := claim{"", proof.PreimageOf(sha256.Sum256(w[:])), w}
		accepts(t, s, c.st, "", prove(t, s, c, ""))
		for _, salt := range [][32]byte{{}, w, {31: byte(i + 1)}} {
			c.st = linkOf(w, salt)
			accepts(t, s, c.st, "", prove(t, s, c, ""))
		}
	}
	for range 20 {
		for _, c := range claims() {
			accepts(t, s, c.st, "", prove(t, s, c, ""))
		}
	}
}

func TestRoundsAreEnough(t *testing.T) {
	for bits, s := range map[float64]proof.System{80: zkb.Bits80(), 128: zkb.Bits128()} {
		if got := float64(zkb.RoundsOf(s)) * math.Log2(1.5); got < bits {
			t.Errorf("%s: (2/3)^%d is 2^-%.1f", s.Name(), zkb.RoundsOf(s), got)
		}
		if !strings.HasSuffix(s.Name(), fmt.Sprint(bits)) {
			t.Errorf("%s says another number than %v", s.Name(), bits)
		}
	}
}

func TestGates(t *testing.T) {
	for i, c := range claims() {
		if got := zkb.Gates(c.st); got != (i+1)*zkb.GatesPerHash {
			t.Errorf("%s: %d gates, want %d times %d", c.name, got, i+1, zkb.GatesPerHash)
		}
	}
}

func TestProveAppends(t *testing.T) {
	s, c := zkb.Rounds(2), claims()[0]
	dirty := append([]byte("before"), bytes.Repeat([]byte{0xff}, 2*s.Length(c.st.Kind))...)
	p, err := s.Prove(dirty[:6], rand.Reader, c.st, c.w, nil)
	if err != nil || !bytes.HasPrefix(p, []byte("before")) {
		t.Fatal(err)
	}
	accepts(t, s, c.st, "", p[6:])
}

func TestProveRefusesWhatIsFalse(t *testing.T) {
	for _, c := range claims() {
		for name, st := range map[string]proof.Statement{
			"another hash":               {Kind: c.st.Kind, Hash: [32]byte{1}, KeyHash: c.st.KeyHash, Salt: c.st.Salt},
			"a key hash too many, or no": {Kind: c.st.Kind, Hash: c.st.Hash, KeyHash: [32]byte{1}, Salt: c.st.Salt},
			"a salt too many, or no":     {Kind: c.st.Kind, Hash: c.st.Hash, KeyHash: c.st.KeyHash, Salt: [32]byte{1}},
			"no kind":                    {Hash: c.st.Hash, KeyHash: c.st.KeyHash, Salt: c.st.Salt},
			"an unknown kind":            {Kind: 3, Hash: c.st.Hash, KeyHash: c.st.KeyHash, Salt: c.st.Salt},
		} {
			if p, err := zkb.Bits80().Prove(nil, rand.Reader, st, c.w, nil); !errors.Is(err, proof.ErrFalse) || p != nil {
				t.Errorf("%s, %s: %d bytes, error %v", c.name, name, len(p), err)
			}
		}
	}
	if n := zkb.Bits80().Length(3); n != 0 {
		t.Errorf("proofs of no kind have %d bytes", n)
	}
}

func TestRandomnessThatFails(t *testing.T) {
	c, broken := claims()[0], errors.New("broken")
	for n := range 2 {
		r := iotest.TimeoutReader(bytes.NewReader(make([]byte, 32*n+8)))
		if p, err := zkb.Rounds(1).Prove(nil, r, c.st, c.w, nil); err == nil || p != nil {
			t.Errorf("a proof from %d random bytes", 32*n+8)
		}
	}
	if _, err := zkb.Rounds(1).Prove(nil, iotest.ErrReader(broken), c.st, c.w, nil); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

// TestOverwrittenOutput has a prover that knows some w claim another digest: it
// changes the result of one party, in what that party shows, so that the three
// add up to the digest. A verifier that takes the result of an opened party from
// the proof, and does not compute it, accepts that.
func TestOverwrittenOutput(t *testing.T) {
	var x, y [32]byte
	rand.Read(x[:])
	rand.Read(y[:])
	wrong := [32]byte(bytes.Repeat([]byte{0x42}, 32))
	for _, s := range []proof.System{zkb.Bits80(), zkb.Bits128()} {
		for _, c := range claims() {
			lies := []proof.Statement{c.st}
			lies[0].Hash = wrong
			if c.st.Kind == proof.Link {
				lies = append(lies, c.st)
				lies[1].KeyHash = wrong
			}
			for i, lie := range lies {
				t.Run(fmt.Sprint(s.Name(), " ", c.name, " ", i), func(t *testing.T) {
					honest := zkb.Commit(s, c.st, c.w, x, y)
					accepts(t, s, c.st, "", honest.Finish(nil))
					honest.Overwrite() // with what is true it changes nothing
					accepts(t, s, c.st, "", honest.Finish(nil))
					forger := zkb.Commit(s, lie, c.w, x, y)
					refuses(t, s, lie, "", forger.Finish(nil), zkb.ErrOutput)
					forger.Overwrite()
					refuses(t, s, lie, "", forger.Finish(nil), zkb.ErrOutput)
				})
			}
		}
	}
}

// TestSoundness has the best cheat there is pass as often as the theory says,
// and no more: (2/3)^rounds. Everything is drawn from fixed seeds, so it cannot
// fail by bad luck; six standard deviations are allowed.
func TestSoundness(t *testing.T) {
	for n := 1; n <= 6; n++ {
		t.Run(fmt.Sprint(n, " rounds"), func(t *testing.T) {
			t.Parallel()
			s := zkb.Rounds(n)
			var w [32]byte
			lie := proof.PreimageOf(sha256.Sum256(w[:]))
			lie.Hash[16] ^= 0x80
			accepted := 0
			var cheat zkb.Cheat
			for try := range tries {
				if try%50 == 0 {
					cheat = zkb.Commit(s, lie, w, [32]byte{byte(n), byte(try / 50)}, [32]byte{1, byte(n)})
					cheat.Bend(0)
				}
				context := fmt.Append(nil, "try ", try)
				if s.Verify(lie, context, cheat.Finish(context)) == nil {
					accepted++
				}
			}
			p := math.Pow(2./3, float64(n))
			mean, deviation := tries*p, math.Sqrt(tries*p*(1-p))
			t.Logf("%d of %d accepted, expected %.0f +- %.0f", accepted, tries, mean, deviation)
			if math.Abs(float64(accepted)-mean) > 6*deviation {
				t.Errorf("%d of %d accepted, expected %.0f +- %.0f", accepted, tries, mean, deviation)
			}
		})
	}
}

// TestBestCheat has the cheat of TestSoundness fail with all rounds.
func TestBestCheat(t *testing.T) {
	for _, s := range []proof.System{zkb.Bits80(), zkb.Bits128()} {
		for _, c := range claims() {
			accepts(t, s, c.st, "", zkb.Commit(s, c.st, c.w, [32]byte{1}, [32]byte{2}).Finish(nil))
			lie := c.st
			lie.Hash[16] ^= 0x80
			cheat := zkb.Commit(s, lie, c.w, [32]byte{1}, [32]byte{2})
			cheat.Bend(map[proof.Kind]int{proof.Preimage: 0, proof.Link: 1}[c.st.Kind])
			refuses(t, s, lie, "", cheat.Finish(nil), zkb.ErrOutput, zkb.ErrChallenge)
			if c.st.Kind == proof.Link {
				lie = c.st
				lie.KeyHash[16] ^= 0x80
				cheat = zkb.Commit(s, lie, c.w, [32]byte{1}, [32]byte{2})
				cheat.Bend(0)
				refuses(t, s, lie, "", cheat.Finish(nil), zkb.ErrOutput, zkb.ErrChallenge)
			}
		}
	}
}

func TestAnotherStatementOrContext(t *testing.T) {
	s := zkb.Bits80()
	own, foreign := claims(), claims()
	for i, c := range own {
		t.Run(c.name, func(t *testing.T) {
			p := prove(t, s, c, "provider 1, nonce 1")
			accepts(t, s, c.st, "provider 1, nonce 1", p)
			for _, context := range []string{"provider 2, nonce 1", "provider 1, nonce 2", "provider 1, nonce ", "", "provider 1, nonce 1\x00"} {
				refuses(t, s, c.st, context, p, zkb.ErrChallenge)
			}
			refuses(t, s, foreign[i].st, "provider 1, nonce 1", p, zkb.ErrOutput)
			refuses(t, s, own[1-i].st, "provider 1, nonce 1", p, zkb.ErrForm)
			refuses(t, s, proof.Statement{}, "provider 1, nonce 1", p)
			extra := c.st
			extra.Salt[0] ^= 1
			refuses(t, s, extra, "provider 1, nonce 1", p)
			extra = c.st
			extra.KeyHash[0] ^= 1
			refuses(t, s, extra, "provider 1, nonce 1", p)
		})
	}
}

// TestSaltSwap holds a proof for one salt against another sale of the same key.
func TestSaltSwap(t *testing.T) {
	s := zkb.Bits80()
	link := claims()[1]
	p := prove(t, s, link, "")
	accepts(t, s, link.st, "", p)
	other := linkOf(link.w, [32]byte{1})
	refuses(t, s, other, "", p, zkb.ErrOutput)
	for name, st := range map[string]proof.Statement{
		"another salt only": proof.LinkOf(link.st.KeyHash, other.Salt, link.st.Hash),
		"another hash only": proof.LinkOf(link.st.KeyHash, link.st.Salt, other.Hash),
		"hashes exchanged":  proof.LinkOf(link.st.Hash, link.st.Salt, link.st.KeyHash),
	} {
		t.Run(name, func(t *testing.T) { refuses(t, s, st, "", p, zkb.ErrOutput) })
	}
}

// TestPreimageAsLink holds a proof about the payment hash alone, which any
// provider can make, against the link to the key.
func TestPreimageAsLink(t *testing.T) {
	s := zkb.Bits80()
	link := claims()[1]
	preimage := claim{"", proof.PreimageOf(link.st.Hash), xor(link.w, link.st.Salt)}
	p := prove(t, s, preimage, "")
	accepts(t, s, preimage.st, "", p)
	refuses(t, s, link.st, "", p, zkb.ErrForm)

	_, small := fieldsOf(proof.Preimage)
	_, large := fieldsOf(proof.Link)
	padded := slices.Clone(p[:rounds])
	padded[5] = byte(proof.Link)
	for t := range zkb.RoundsOf(s) {
		padded = append(padded, p[rounds+t*small:][:small]...)
		padded = append(padded, make([]byte, large-small)...)
	}
	refuses(t, s, link.st, "", padded)

	l := prove(t, s, link, "")
	accepts(t, s, link.st, "", l)
	refuses(t, s, proof.PreimageOf(link.st.KeyHash), "", l, zkb.ErrForm)
	refuses(t, s, proof.PreimageOf(link.st.Hash), "", l, zkb.ErrForm)
}

func TestWrongLength(t *testing.T) {
	s := zkb.Bits80()
	for _, c := range claims() {
		p := prove(t, s, c, "")
		accepts(t, s, c.st, "", p)
		_, round := fieldsOf(c.st.Kind)
		for _, n := range []int{0, 1, header, rounds, rounds + round, len(p) - round, len(p) - 1} {
			refuses(t, s, c.st, "", p[:n], zkb.ErrForm)
		}
		refuses(t, s, c.st, "", nil, zkb.ErrForm)
		for _, n := range []int{1, round} {
			refuses(t, s, c.st, "", append(slices.Clone(p), make([]byte, n)...), zkb.ErrForm)
		}
	}
}

// TestDowngrade holds a proof of fewer rounds against the system of more.
func TestDowngrade(t *testing.T) {
	weak, strong := zkb.Bits80(), zkb.Bits128()
	for _, c := range claims() {
		p, q := prove(t, weak, c, ""), prove(t, strong, c, "")
		accepts(t, weak, c.st, "", p)
		accepts(t, strong, c.st, "", q)
		refuses(t, strong, c.st, "", p, zkb.ErrForm)
		refuses(t, weak, c.st, "", q, zkb.ErrForm)

		edited := append(slices.Clone(p), q[len(p):]...)
		copy(edited, q[:header])
		refuses(t, strong, c.st, "", edited)
		edited = slices.Clone(q[:len(p)])
		copy(edited, p[:header])
		refuses(t, weak, c.st, "", edited)
	}
}

// TestSystemIsBound has two systems differ in nothing but their name.
func TestSystemIsBound(t *testing.T) {
	c := claims()[0]
	s, other := zkb.Rounds(137), zkb.Bits80()
	p := prove(t, s, c, "")
	accepts(t, s, c.st, "", p)
	refuses(t, other, c.st, "", p, zkb.ErrChallenge)
}

func TestEveryFieldCounts(t *testing.T) {
	s := zkb.Rounds(12)
	for _, c := range claims() {
		p := prove(t, s, c, "context")
		accepts(t, s, c.st, "context", p)
		flip := func(name string, at int, mask byte, reasons ...error) {
			t.Run(c.name+" "+name, func(t *testing.T) {
				p[at] ^= mask
				defer func() { p[at] ^= mask }()
				refuses(t, s, c.st, "context", p, reasons...)
			})
		}
		for i, name := range []string{"magic", "magic", "magic", "magic", "version", "kind", "rounds", "rounds"} {
			flip(name, i, 1, zkb.ErrForm)
		}
		flip("salt", salt, 1, zkb.ErrOutput, zkb.ErrForm)
		flip("salt's end", challenge-1, 0x80, zkb.ErrOutput, zkb.ErrForm)
		flip("challenge", challenge, 1, zkb.ErrOutput, zkb.ErrForm)
		flip("challenge's end", rounds-1, 0x80, zkb.ErrOutput, zkb.ErrForm)
		fields, round := fieldsOf(c.st.Kind)
		for r := range zkb.RoundsOf(s) {
			for _, f := range fields {
				reasons := []error{zkb.ErrOutput}
				switch f.name {
				case "input share": // which must be zero if it is not needed
					reasons = []error{zkb.ErrOutput, zkb.ErrForm}
				case "commitment":
					reasons = []error{zkb.ErrChallenge}
				}
				at := rounds + r*round + f.at
				flip(fmt.Sprintf("round %d, %s", r, f.name), at, 1, reasons...)
				if f.name == "view" {
					reasons = append(reasons, zkb.ErrForm) // the bits behind the last gate
				}
				flip(fmt.Sprintf("round %d, end of %s", r, f.name), at+f.size-1, 0x80, reasons...)
			}
		}
	}
	if p := prove(t, s, claims()[0], ""); bytes.Equal(p, prove(t, s, claims()[0], "")) {
		t.Error("two proofs are the same")
	}
}

// TestNothingIsReused has a proof made twice from the same randomness be the
// same, and from other randomness be another throughout.
func TestNothingIsReused(t *testing.T) {
	s, c := zkb.Rounds(8), claims()[1]
	make := func(seed byte) []byte {
		p, err := s.Prove(nil, mathrand.NewChaCha8([32]byte{seed}), c.st, c.w, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if !bytes.Equal(make(1), make(1)) {
		t.Error("a proof is not settled by its randomness")
	}
	a, b := make(1), make(2)
	same := 0
	for i := header; i < len(a); i++ {
		if a[i] == b[i] {
			same++
		}
	}
	if same > len(a)/64 { // a 256th by chance, and input shares that are zero
		t.Errorf("%d of %d bytes are the same", same, len(a))
	}
}

// TestOpenedTwoAreRandom holds what a proof shows of extreme witnesses against
// coin tosses: shares and views have as many ones as zeros.
func TestOpenedTwoAreRandom(t *testing.T) {
	s := zkb.Bits80()
	fields, round := fieldsOf(proof.Preimage)
	for _, w := range [][32]byte{{}, [32]byte(bytes.Repeat([]byte{0xff}, 32))} {
		p, err := s.Prove(nil, mathrand.NewChaCha8([32]byte{7}), proof.PreimageOf(sha256.Sum256(w[:])), w, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fields {
			ones, all := 0, 0
			for r := range zkb.RoundsOf(s) {
				b := p[rounds+r*round+f.at:][:f.size]
				if bytes.Equal(b, make([]byte, f.size)) {
					continue
				}
				for _, v := range b {
					for ; v != 0; v &= v - 1 {
						ones++
					}
				}
				all += 8 * len(b)
			}
			if d := math.Abs(float64(ones) - float64(all)/2); d > 6*math.Sqrt(float64(all))/2+float64(zkb.RoundsOf(s))*2 {
				t.Errorf("%s: %d of %d bits are set", f.name, ones, all)
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	s := zkb.Rounds(2)
	own := claims()
	var honest [][]byte
	for i, c := range own {
		p := prove(f, s, c, "context")
		honest = append(honest, p)
		f.Add(byte(c.st.Kind), p, []byte("context"))
		f.Add(byte(own[1-i].st.Kind), p, []byte("context"))
		f.Add(byte(c.st.Kind), p[:len(p)-1], []byte{})
	}
	f.Fuzz(func(t *testing.T, kind byte, p, context []byte) {
		i := int(kind+1) % 2
		err := s.Verify(own[i].st, context, p)
		same := bytes.Equal(p, honest[i]) && string(context) == "context"
		if (err == nil) != same {
			t.Errorf("%s: error %v for %d bytes; the honest proof: %v", own[i].name, err, len(p), same)
		}
		if err != nil && !errors.Is(err, proof.ErrRefused) {
			t.Errorf("error %v", err)
		}
		if err := zkb.Bits80().Verify(own[i].st, context, p); !errors.Is(err, proof.ErrRefused) {
			t.Errorf("zkb-80: error %v", err)
		}
	})
}

func BenchmarkProve(b *testing.B) {
	each(b, func(b *testing.B, s proof.System, c claim) {
		var p []byte
		for b.Loop() {
			var err error
			if p, err = s.Prove(p[:0], rand.Reader, c.st, c.w, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	each(b, func(b *testing.B, s proof.System, c claim) {
		p := prove(b, s, c, "")
		for b.Loop() {
			if err := s.Verify(c.st, nil, p); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func each(b *testing.B, run func(*testing.B, proof.System, claim)) {
	for _, s := range []proof.System{zkb.Bits80(), zkb.Bits128()} {
		for _, c := range claims() {
			b.Run(s.Name()+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				run(b, s, c)
				b.ReportMetric(float64(s.Length(c.st.Kind)), "proof-bytes")
			})
		}
	}
}
