package htlcdash_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"htlcdash"
)

func publisher(t testing.TB) htlcdash.PublisherKey {
	t.Helper()
	k, err := htlcdash.NewPublisherKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSignatureVerifies(t *testing.T) {
	key, id := publisher(t), htlcdash.IDOf([]byte("<MPD/>"))
	sig, err := key.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Verify(id); err != nil {
		t.Errorf("a good signature: %v", err)
	}
	if again, _ := key.Sign(id); again != sig {
		t.Error("the same title was signed in two ways")
	}
	spoiled := map[string]func(s *htlcdash.Signature, id *htlcdash.TitleID){
		"another title":     func(_ *htlcdash.Signature, id *htlcdash.TitleID) { id[0] ^= 1 },
		"a flipped bit":     func(s *htlcdash.Signature, _ *htlcdash.TitleID) { s.Bytes[63] ^= 1 },
		"another publisher": func(s *htlcdash.Signature, _ *htlcdash.TitleID) { s.Publisher[5] ^= 1 },
		"no publisher":      func(s *htlcdash.Signature, _ *htlcdash.TitleID) { s.Publisher = htlcdash.PublisherID{} },
		"nothing":           func(s *htlcdash.Signature, _ *htlcdash.TitleID) { *s = htlcdash.Signature{} },
		"beyond the field": func(s *htlcdash.Signature, _ *htlcdash.TitleID) {
			copy(s.Bytes[:], bytes.Repeat([]byte{255}, 32))
		},
	}
	for name, spoil := range spoiled {
		t.Run(name, func(t *testing.T) {
			s, id := sig, id
			spoil(&s, &id)
			if err := s.Verify(id); !errors.Is(err, htlcdash.ErrSignature) {
				t.Errorf("%v, want ErrSignature", err)
			}
		})
	}
}

func TestSignatureRoundTrip(t *testing.T) {
	sig, err := publisher(t).Sign(htlcdash.TitleID{7})
	if err != nil {
		t.Fatal(err)
	}
	got, err := htlcdash.ParseSignature(sig.Encode())
	if err != nil || got != sig {
		t.Errorf("%+v became %+v: %v", sig, got, err)
	}
}

func TestParseSignatureRefuses(t *testing.T) {
	sig, err := publisher(t).Sign(htlcdash.TitleID{7})
	if err != nil {
		t.Fatal(err)
	}
	good := string(sig.Encode())
	tests := map[string]string{
		"nothing":         "",
		"header alone":    "htlcdash-signature-v1\n",
		"later version":   strings.Replace(good, "v1", "v2", 1),
		"no line end":     strings.TrimSuffix(good, "\n"),
		"two line ends":   good + "\n",
		"carriage return": strings.Replace(good, "\n", "\r\n", 1),
		"two blanks":      strings.Replace(good, " ", "  ", 1),
		"upper case":      strings.ToUpper(good),
		"upper case hex":  good[:22] + strings.ToUpper(good[22:]),
		"a fourth word":   strings.TrimSuffix(good, "\n") + " x\n",
		"cut off":         good[:len(good)-3] + "\n",
		"not hexadecimal": strings.Replace(good, good[30:31], "g", 1),
		"a long tail":     good + strings.Repeat("x", 1000),
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := htlcdash.ParseSignature([]byte(in)); !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want ErrFormat", err)
			}
		})
	}
}

func FuzzParseSignature(f *testing.F) {
	sig, err := publisher(f).Sign(htlcdash.TitleID{7})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig.Encode())
	f.Add([]byte("htlcdash-signature-v1  \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := htlcdash.ParseSignature(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want ErrFormat", err)
			}
			return
		}
		if !bytes.Equal(s.Encode(), b) {
			t.Error("two encodings of one signature")
		}
	})
}

func TestNewPublisherKeyRefusesWhatIsNoScalar(t *testing.T) {
	for name, b := range map[string][32]byte{
		"zero":            {},
		"above the order": [32]byte(bytes.Repeat([]byte{255}, 32)),
	} {
		if _, err := htlcdash.NewPublisherKey(b); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func TestSealSecretIsNotTheKey(t *testing.T) {
	k := publisher(t)
	if bytes.Equal(k.SealSecret(), secret[:]) {
		t.Error("who learns the seal secret can sign")
	}
	if !bytes.Equal(k.SealSecret(), k.SealSecret()) {
		t.Error("the seal secret changes")
	}
}
