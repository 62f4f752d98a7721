package credential_test

import (
	"bytes"
	"errors"
	"testing"

	"htlcdash"
	"htlcdash/internal/credential"
)

func FuzzIssue(f *testing.F) {
	k := issuer(f, 1)
	for _, n := range []int{1, 2, credential.MaxBatch} {
		request, _ := ask(f, k, n)
		f.Add(request)
	}
	f.Add([]byte{0, 5, 0, 0x20})
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := credential.RewriteRequest(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want %v", err, htlcdash.ErrFormat)
			}
			return
		}
		if !bytes.Equal(again, b) || len(b) > credential.MaxRequestBytes {
			t.Errorf("%x is read as %x", b, again)
		}
		if _, err := k.Issue(b); err != nil && !errors.Is(err, credential.ErrKey) {
			t.Error(err)
		}
	})
}

func FuzzFinish(f *testing.F) {
	k := issuer(f, 1)
	request, p := ask(f, k, 2)
	good := must[[]byte](f)(k.Issue(request))
	f.Add(good)
	f.Add(good[:66])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := p.Finish(b)
		if (err == nil) != (got != nil) {
			t.Errorf("%v, %v", got, err)
		}
		again, err := credential.RewriteResponse(b)
		if err == nil && (!bytes.Equal(again, b) || len(b) > credential.MaxResponseBytes) {
			t.Errorf("%x is read as %x", b, again)
		}
		// What holds is evaluated with the one key: all else is refused.
		if got != nil && !bytes.Equal(b[:66], good[:66]) {
			t.Errorf("another response is taken: %x", b)
		}
	})
}

func FuzzParseAuthorization(f *testing.F) {
	k := issuer(f, 1)
	c := get(f, k, 1)[0]
	f.Add(c.Authorization("GET", "/", nil, now))
	f.Add(`PrivateToken token="", time="0", mac=""`)
	f.Fuzz(func(t *testing.T, header string) {
		p, err := credential.ParseAuthorization(header)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want %v", err, htlcdash.ErrFormat)
			}
			return
		}
		// The same token and time in a header of ours differ in the MAC alone.
		ours := credential.Credential{Token: p.Token, Shared: c.Shared}.Authorization("GET", "/", nil, p.Time)
		const name, tail = len("PrivateToken"), len(`AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="`)
		if len(header) != len(ours) || header[name:len(header)-tail] != ours[name:len(ours)-tail] {
			t.Errorf("%q is read as %q", header, ours)
		}
		if p.Verify(c.Shared, "GET", "/", nil, p.Time) == nil && header[name:] != ours[name:] {
			t.Errorf("%q verifies", header)
		}
	})
}

func FuzzParseCredential(f *testing.F) {
	f.Add(get(f, issuer(f, 1), 1)[0].Reveal())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := credential.ParseCredential(b)
		if err == nil && !bytes.Equal(c.Reveal(), b) {
			t.Errorf("%x is read as another", b)
		}
		if err != nil && !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%v, want %v", err, htlcdash.ErrFormat)
		}
	})
}

func FuzzPublicKey(f *testing.F) {
	f.Add(issuer(f, 1).Public().String())
	f.Fuzz(func(t *testing.T, s string) {
		k, err := credential.ParsePublicKey(s)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want %v", err, htlcdash.ErrFormat)
			}
			return
		}
		if again, err := credential.ParsePublicKey(k.String()); err != nil || again != k {
			t.Errorf("%q is read as %v and not again: %v", s, k, err)
		}
		if _, _, err := credential.Blind(k, 1, seeded(1)); err != nil {
			t.Error(err)
		}
	})
}
