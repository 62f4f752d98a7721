package credential_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"htlcdash"
	"htlcdash/internal/credential"
)

// perToken adds what one token of a batch costs.
func perToken(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/token")
}

func batches(b *testing.B, run func(b *testing.B, k credential.IssuerKey, n int)) {
	for _, n := range []int{1, credential.MaxBatch} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			run(b, issuer(b, 1), n)
			perToken(b, n)
		})
	}
}

func BenchmarkBlind(b *testing.B) {
	batches(b, func(b *testing.B, k credential.IssuerKey, n int) {
		for b.Loop() {
			if _, _, err := credential.Blind(k.Public(), n, rand.Reader); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	batches(b, func(b *testing.B, k credential.IssuerKey, n int) {
		request, _ := ask(b, k, n)
		for b.Loop() {
			if _, err := k.Issue(request); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFinish(b *testing.B) {
	batches(b, func(b *testing.B, k credential.IssuerKey, n int) {
		request, p := ask(b, k, n)
		response := must[[]byte](b)(k.Issue(request))
		for b.Loop() {
			if _, err := p.Finish(response); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRedeem(b *testing.B) {
	k := issuer(b, 1)
	c := get(b, k, 1)[0]
	for b.Loop() {
		k.Redeem(c.Token)
	}
}

func BenchmarkVerify(b *testing.B) {
	c, body := get(b, issuer(b, 1), 1)[0], make([]byte, 4096)
	p := parse(b, c.Authorization("POST", "/v1/offers", body, now))
	for b.Loop() {
		if err := p.Verify(c.Shared, "POST", "/v1/offers", body, now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdmit is all that a request costs the provider, from the header on.
func BenchmarkAdmit(b *testing.B) {
	ring := keyring(b)
	c := get(b, must[credential.IssuerKey](b)(ring.Current(now)), 1)[0]
	header := c.Authorization("GET", "/v1/offers", nil, now)
	for b.Loop() {
		if _, err := ring.Admit(parse(b, header), "GET", "/v1/offers", nil, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSalt(b *testing.B) {
	s, q := get(b, issuer(b, 1), 1)[0].Shared, htlcdash.Root{1}
	for b.Loop() {
		s.Salt(q, 1000, 1)
	}
}
