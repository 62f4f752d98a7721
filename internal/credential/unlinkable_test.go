package credential_test

import (
	"bytes"
	"crypto/rand"
	"math"
	"math/bits"
	"testing"

	"github.com/cloudflare/circl/group"

	"htlcdash/internal/credential"
)

// Whatever blind hides a token, its secret is the same: so a token that is
// shown could have come out of any request of the key.
func TestAnyRequestExplainsAnyToken(t *testing.T) {
	k := issuer(t, 1)
	const n = 6
	var inputs, blinds [][]byte
	for _, c := range get(t, k, n) {
		inputs = append(inputs, c.Input())
	}
	_, p := ask(t, k, n)
	blinds = p.Blinds()
	for i, input := range inputs {
		want := k.RedeemInput(input).Reveal()
		seen := map[string]bool{}
		for _, blind := range blinds {
			request, p, err := credential.BlindWith(k.Public(), [][]byte{input}, [][]byte{blind})
			if err != nil {
				t.Fatal(err)
			}
			seen[string(request)] = true
			got := must[[]credential.Credential](t)(p.Finish(must[[]byte](t)(k.Issue(request))))[0]
			if !bytes.Equal(got.Shared.Reveal(), want) {
				t.Errorf("token %d has another secret under another blind", i)
			}
		}
		if len(seen) != n {
			t.Errorf("token %d made %d different requests of %d blinds", i, len(seen), n)
		}
	}
}

// For each pair of what was seen at issue, (B, kB), and a token's point P,
// there is a blind r with rP = B, and unblinding kB by it gives kP, which is
// what the token shows. The points stand for hashed tokens; here their
// logarithms are known, so that the blinds can be computed.
func TestForEachPairThereIsABlind(t *testing.T) {
	g := group.Ristretto255
	k := g.RandomNonZeroScalar(rand.Reader)
	const n = 16
	var points, seen []group.Scalar
	for range n {
		points, seen = append(points, g.RandomNonZeroScalar(rand.Reader)), append(seen, g.RandomNonZeroScalar(rand.Reader))
	}
	for _, p := range points {
		point := g.NewElement().MulGen(p)
		shown := g.NewElement().Mul(point, k)
		for _, b := range seen {
			blinded := g.NewElement().MulGen(b)
			evaluated := g.NewElement().Mul(blinded, k)
			r := g.NewScalar().Mul(b, g.NewScalar().Inv(p))
			if !g.NewElement().Mul(point, r).IsEqual(blinded) {
				t.Fatal("no blind makes this request of this token")
			}
			if !g.NewElement().Mul(evaluated, g.NewScalar().Inv(r)).IsEqual(shown) {
				t.Fatal("the token of this response is another")
			}
		}
	}
}

// column is one bit of many samples.
type column [samples / 64]uint64

// columns gives the bits of what each sample says.
func columns(length int, sample func(i int) []byte) []column {
	out := make([]column, 8*length)
	for i := range samples {
		for j, b := range sample(i) {
			for bit := range 8 {
				out[8*j+bit][i/64] |= uint64(b>>bit&1) << (i % 64)
			}
		}
	}
	return out
}

func (c column) ones() (n int) {
	for _, w := range c {
		n += bits.OnesCount64(w)
	}
	return n
}

func (c column) differ(d column) (n int) {
	for i := range c {
		n += bits.OnesCount64(c[i] ^ d[i])
	}
	return n
}

// sigmas is by how many standard deviations n fair coins of all samples differ
// from what is expected.
func sigmas(n int) float64 { return math.Abs(float64(n)-samples/2) / math.Sqrt(samples/4) }

// No bit of a blinded element goes with any bit of its token's nonce, or with
// any bit of the element next to it. The randomness is fixed, so the test
// cannot fail by chance; 6.5 standard deviations are out of reach for the
// largest of 131,072 coins.
func TestRequestsAreIndependentOfTokens(t *testing.T) {
	k, random := issuer(t, 1), seeded(1)
	var elements, nonces [][]byte
	for len(elements) < samples {
		request, p, err := credential.Blind(k.Public(), credential.MaxBatch, random)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range must[[]credential.Credential](t)(p.Finish(must[[]byte](t)(k.Issue(request)))) {
			elements, nonces = append(elements, request[5+32*i:37+32*i]), append(nonces, c.Nonce[:])
		}
	}
	element := columns(32, func(i int) []byte { return elements[i] })
	nonce := columns(32, func(i int) []byte { return nonces[i] })
	next := columns(32, func(i int) []byte { return elements[(i+1)%samples] })
	element, next = free(element), free(next)
	worst := 0.0
	for _, e := range element {
		worst = max(worst, sigmas(e.ones()))
		for _, other := range [][]column{nonce, next} {
			for _, o := range other {
				worst = max(worst, sigmas(e.differ(o)))
			}
		}
	}
	t.Logf("largest deviation %.2f sigma", worst)
	if worst > 6.5 {
		t.Errorf("a bit of the requests deviates by %.1f sigma", worst)
	}
}

// free leaves out the two bits that are zero in each encoding: the sign, and
// the top one.
func free(c []column) []column { return c[1:255] }

// Requests for one token, again and again, look like requests for another.
func TestRequestsOfTwoTokensLookAlike(t *testing.T) {
	k := issuer(t, 1)
	c := get(t, k, 2)
	blinded := func(c credential.Credential, from byte) []column {
		random := seeded(from)
		return free(columns(32, func(int) []byte {
			_, p, err := credential.Blind(k.Public(), 1, random)
			if err != nil {
				t.Fatal(err)
			}
			request, _, err := credential.BlindWith(k.Public(), [][]byte{c.Input()}, p.Blinds())
			if err != nil {
				t.Fatal(err)
			}
			return request[4:]
		}))
	}
	first, second := blinded(c[0], 2), blinded(c[1], 3)
	for i := range first {
		if d := math.Abs(float64(first[i].ones()-second[i].ones())) / math.Sqrt(samples/2); d > 6.5 {
			t.Errorf("bit %d differs by %.1f sigma", i, d)
		}
	}
}
