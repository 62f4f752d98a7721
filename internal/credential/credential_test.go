package credential_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/ledger"
)

const day = 24 * time.Hour

var (
	now    = time.Unix(1_800_000_000, 0)
	secret = [32]byte{1, 2, 3}
)

// seeded gives the same bytes for the same number.
func seeded(n byte) io.Reader { return mathrand.NewChaCha8([32]byte{n}) }

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func keyring(t testing.TB) *credential.Keyring {
	return must[*credential.Keyring](t)(credential.NewKeyring(secret, day))
}

func issuer(t testing.TB, e credential.Epoch) credential.IssuerKey {
	return must[credential.IssuerKey](t)(credential.NewIssuerKey(secret, e))
}

// ask makes a request for n tokens of k.
func ask(t testing.TB, k credential.IssuerKey, n int) ([]byte, *credential.Pending) {
	t.Helper()
	request, p, err := credential.Blind(k.Public(), n, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return request, p
}

// get gets n credentials of k.
func get(t testing.TB, k credential.IssuerKey, n int) []credential.Credential {
	t.Helper()
	request, p := ask(t, k, n)
	return must[[]credential.Credential](t)(p.Finish(must[[]byte](t)(k.Issue(request))))
}

func parse(t testing.TB, header string) credential.Presented {
	t.Helper()
	return must[credential.Presented](t)(credential.ParseAuthorization(header))
}

func TestBothSidesShareASecret(t *testing.T) {
	ring := keyring(t)
	k := must[credential.IssuerKey](t)(ring.Current(now))
	for _, n := range []int{1, 2, credential.MaxBatch} {
		request, p := ask(t, k, n)
		response := must[[]byte](t)(k.Issue(request))
		if len(request) > credential.MaxRequestBytes || len(response) > credential.MaxResponseBytes {
			t.Errorf("%d tokens: request of %d bytes, response of %d", n, len(request), len(response))
		}
		nonces := map[[32]byte]bool{}
		for _, c := range must[[]credential.Credential](t)(p.Finish(response)) {
			nonces[c.Nonce] = true
			header := c.Authorization("POST", "/v1/offers", []byte("{}"), now)
			s := must[credential.Shared](t)(ring.Admit(parse(t, header), "POST", "/v1/offers", []byte("{}"), now))
			q := htlcdash.Root{5}
			if s.Salt(q, 1000, 7) != c.Shared.Salt(q, 1000, 7) {
				t.Error("the two sides derive different salts")
			}
			if s.IsZero() || !bytes.Equal(s.Reveal(), c.Shared.Reveal()) {
				t.Error("the two sides have different secrets")
			}
			if strings.Contains(header, hex.EncodeToString(s.Reveal()[:8])) {
				t.Error("the header says the secret")
			}
		}
		if len(nonces) != n {
			t.Errorf("%d different tokens, want %d", len(nonces), n)
		}
	}
}

func TestDerivationsDiffer(t *testing.T) {
	c := get(t, issuer(t, 9), 2)
	a, b, q := c[0].Shared, c[1].Shared, htlcdash.Root{1}
	chunk := func(s credential.Shared, master byte, r htlcdash.Root, index uint64, counter int64) [32]byte {
		return s.ChunkKey([32]byte{master}, r, index, counter).Reveal()
	}
	all := map[[32]byte]string{}
	for name, v := range map[string][32]byte{
		"salt": a.Salt(q, 1, 1), "salt of another token": b.Salt(q, 1, 1), "salt of another segment": a.Salt(htlcdash.Root{2}, 1, 1),
		"salt at another price": a.Salt(q, 2, 1), "salt of another counter": a.Salt(q, 1, 2),
		"chunk": chunk(a, 1, q, 1, 1), "chunk of another token": chunk(b, 1, q, 1, 1), "chunk of another provider": chunk(a, 2, q, 1, 1),
		"chunk of another file": chunk(a, 1, htlcdash.Root{2}, 1, 1), "another chunk": chunk(a, 1, q, 2, 1), "chunk, again": chunk(a, 1, q, 1, 2),
	} {
		if other, ok := all[v]; ok {
			t.Errorf("%s is %s", name, other)
		}
		all[v] = name
	}
	again := must[credential.Credential](t)(credential.ParseCredential(c[0].Reveal())).Shared
	if again.Salt(q, 1, 1) != a.Salt(q, 1, 1) || chunk(again, 1, q, 1, 1) != chunk(a, 1, q, 1, 1) {
		t.Error("the same is not the same again")
	}
}

func TestIssueRefuses(t *testing.T) {
	k, other := issuer(t, 3), issuer(t, 4)
	good, _ := ask(t, k, 2)
	foreign, _ := ask(t, other, 1)
	edit := func(f func(b []byte) []byte) []byte { return f(slices.Clone(good)) }
	head := func(length ...byte) []byte { return append(slices.Clone(good[:3]), length...) }
	element := good[5:37]
	// p, the field's prime, is another way to write zero; with the low bit set
	// the field element is negative (RFC 9496, 4.3.1).
	prime := append([]byte{0xed}, append(bytes.Repeat([]byte{0xff}, 30), 0x7f)...)
	for _, c := range []struct {
		name    string
		request []byte
		want    error
	}{
		{"nothing", nil, htlcdash.ErrFormat},
		{"cut in the head", good[:2], htlcdash.ErrFormat},
		{"no length", good[:3], htlcdash.ErrFormat},
		{"another type", edit(func(b []byte) []byte { b[1] = 1; return b }), htlcdash.ErrFormat},
		{"another key", foreign, credential.ErrKey},
		{"no elements", head(0), htlcdash.ErrFormat},
		{"length in a longer form", slices.Concat(head(0x40, 32), element), htlcdash.ErrFormat},
		{"length in the longest form", slices.Concat(head(0xc0, 0, 0, 0, 0, 0, 0, 32), element), htlcdash.ErrFormat},
		{"length cut off", head(0x40), htlcdash.ErrFormat},
		{"half an element", slices.Concat(head(0x40, 96), element, element, element[:16]), htlcdash.ErrFormat},
		{"length of half an element", slices.Concat(head(48), element, element[:16]), htlcdash.ErrFormat},
		{"33 tokens", slices.Concat(head(0x44, 0x20), bytes.Repeat(element, 33)), htlcdash.ErrFormat},
		{"cut off", good[:len(good)-1], htlcdash.ErrFormat},
		{"a byte more", append(slices.Clone(good), 0), htlcdash.ErrFormat},
		{"an element more", append(slices.Clone(good), element...), htlcdash.ErrFormat},
		{"identity", slices.Concat(head(32), make([]byte, 32)), htlcdash.ErrFormat},
		{"identity among others", slices.Concat(head(0x40, 64), element, make([]byte, 32)), htlcdash.ErrFormat},
		{"identity in another form", slices.Concat(head(32), prime), htlcdash.ErrFormat},
		{"a negative field element", slices.Concat(head(32), edit(func(b []byte) []byte { b[5] |= 1; return b })[5:37]), htlcdash.ErrFormat},
		{"the top bit set", slices.Concat(head(32), edit(func(b []byte) []byte { b[36] |= 0x80; return b })[5:37]), htlcdash.ErrFormat},
		{"not on the curve", slices.Concat(head(32), []byte{2}, make([]byte, 31)), htlcdash.ErrFormat},
		{"all ones", slices.Concat(head(32), bytes.Repeat([]byte{0xff}, 32)), htlcdash.ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			if response, err := k.Issue(c.request); !errors.Is(err, c.want) || response != nil {
				t.Errorf("%x, %v; want %v", response, err, c.want)
			}
		})
	}
	if _, err := k.Issue(good); err != nil {
		t.Error(err)
	}
}

func TestFinishRefuses(t *testing.T) {
	k, tagging := issuer(t, 3), issuer(t, 4)
	request, p := ask(t, k, 2)
	good := must[[]byte](t)(k.Issue(request))
	// The other key makes a whole and honest response to the same elements.
	retagged := slices.Clone(request)
	retagged[2] = tagging.ID()[31]
	tagged := must[[]byte](t)(tagging.Issue(retagged))
	other, _ := ask(t, k, 2)
	foreign := must[[]byte](t)(k.Issue(other))
	single, _ := ask(t, k, 1)
	short := must[[]byte](t)(k.Issue(single))
	edit := func(f func(b []byte)) []byte { b := slices.Clone(good); f(b); return b }
	const first, second, proof = 2, 34, 66
	for _, c := range []struct {
		name     string
		response []byte
		want     error
	}{
		{"made with another key", tagged, credential.ErrIssuer},
		{"one element of another key", edit(func(b []byte) { copy(b[first:second], tagged[first:second]) }), credential.ErrIssuer},
		{"elements swapped", edit(func(b []byte) { copy(b[first:], good[second:proof]); copy(b[second:], good[first:second]) }), credential.ErrIssuer},
		{"one element twice", edit(func(b []byte) { copy(b[second:], good[first:second]) }), credential.ErrIssuer},
		{"elements not evaluated", edit(func(b []byte) { copy(b[first:proof], request[5:]) }), credential.ErrIssuer},
		{"response to another request", foreign, credential.ErrIssuer},
		{"proof of another response", edit(func(b []byte) { copy(b[proof:], foreign[proof:]) }), credential.ErrIssuer},
		{"proof of zeros", edit(func(b []byte) { clear(b[proof:]) }), credential.ErrIssuer},
		{"proof with its halves swapped", edit(func(b []byte) { copy(b[proof:], good[proof+32:]); copy(b[proof+32:], good[proof:proof+32]) }), credential.ErrIssuer},
		{"a bit of the proof", edit(func(b []byte) { b[proof+3] ^= 8 }), credential.ErrIssuer},
		{"identity", edit(func(b []byte) { clear(b[first:second]) }), htlcdash.ErrFormat},
		{"a scalar that is not reduced", edit(func(b []byte) { copy(b[proof:], bytes.Repeat([]byte{0xff}, 32)) }), htlcdash.ErrFormat},
		{"one token for two", short, htlcdash.ErrFormat},
		{"nothing", nil, htlcdash.ErrFormat},
		{"no elements", append([]byte{0}, good[proof:]...), htlcdash.ErrFormat},
		{"no proof", good[:proof], htlcdash.ErrFormat},
		{"cut off", good[:len(good)-1], htlcdash.ErrFormat},
		{"a byte more", append(slices.Clone(good), 0), htlcdash.ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := p.Finish(c.response); !errors.Is(err, c.want) || got != nil {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
	if got, err := p.Finish(good); err != nil || len(got) != 2 {
		t.Errorf("the good response afterwards: %v, %v", got, err)
	}
}

func TestBlindRefuses(t *testing.T) {
	pub := issuer(t, 1).Public()
	for _, n := range []int{-1, 0, credential.MaxBatch + 1} {
		if _, _, err := credential.Blind(pub, n, rand.Reader); err == nil {
			t.Errorf("%d tokens were asked for", n)
		}
	}
	if _, _, err := credential.Blind(credential.PublicKey{}, 1, rand.Reader); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("the identity as key: %v, want %v", err, htlcdash.ErrFormat)
	}
	if _, _, err := credential.Blind(pub, 2, io.LimitReader(rand.Reader, 100)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too little randomness: %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestAdmitRefuses(t *testing.T) {
	ring := keyring(t)
	k := must[credential.IssuerKey](t)(ring.Current(now))
	coming := issuer(t, k.Epoch()+1)
	c := get(t, k, 2)
	body := []byte(`{"sealed":[]}`)
	header := func(c credential.Credential, at time.Time) string {
		return c.Authorization("POST", "/v1/offers?x=1", body, at)
	}
	forged, swapped, invented := c[0], c[0], c[0]
	forged.Nonce[0] ^= 1
	swapped.Shared = c[1].Shared
	invented.Token = credential.Token{Nonce: [32]byte{1}, KeyID: k.ID()}
	moved := get(t, coming, 1)[0]
	moved.KeyID = k.ID()
	cut := header(c[0], now)
	tail := header(c[1], now)
	mixed := cut[:strings.Index(cut, "mac=")] + tail[strings.Index(tail, "mac="):]
	for _, tc := range []struct {
		name         string
		header       string
		method, path string
		body         []byte
		now          time.Time
		want         error
	}{
		{"good", header(c[0], now), "POST", "/v1/offers?x=1", body, now, nil},
		{"good, clock behind", header(c[0], now.Add(-credential.MaxSkew)), "POST", "/v1/offers?x=1", body, now, nil},
		{"good, clock ahead", header(c[0], now.Add(credential.MaxSkew)), "POST", "/v1/offers?x=1", body, now, nil},
		{"another method", header(c[0], now), "PUT", "/v1/offers?x=1", body, now, credential.ErrForged},
		{"another path", header(c[0], now), "POST", "/v1/offer", body, now, credential.ErrForged},
		{"another query", header(c[0], now), "POST", "/v1/offers?x=2", body, now, credential.ErrForged},
		{"method and path split elsewhere", header(c[0], now), "POST/", "v1/offers?x=1", body, now, credential.ErrForged},
		{"another body", header(c[0], now), "POST", "/v1/offers?x=1", nil, now, credential.ErrForged},
		{"another time in the header", strings.Replace(header(c[0], now), "1800000000", "1800000001", 1), "POST", "/v1/offers?x=1", body, now, credential.ErrForged},
		{"too late", header(c[0], now), "POST", "/v1/offers?x=1", body, now.Add(credential.MaxSkew + time.Second), credential.ErrStale},
		{"too early", header(c[0], now), "POST", "/v1/offers?x=1", body, now.Add(-credential.MaxSkew - time.Second), credential.ErrStale},
		{"another nonce", header(forged, now), "POST", "/v1/offers?x=1", body, now, credential.ErrForged},
		{"the secret of another token", header(swapped, now), "POST", "/v1/offers?x=1", body, now, credential.ErrForged},
		{"a token that was never issued", header(invented, now), "POST", "/v1/offers?x=1", body, now, credential.ErrForged},
		{"the MAC of another token", mixed, "POST", "/v1/offers?x=1", body, now, credential.ErrForged},
		{"a token of the next key under this one's name", header(moved, now), "POST", "/v1/offers?x=1", body, now, credential.ErrForged},
		{"a key that is not in use yet", header(get(t, coming, 1)[0], now), "POST", "/v1/offers?x=1", body, now, credential.ErrKey},
		{"a key of another provider", header(get(t, must[credential.IssuerKey](t)(credential.NewIssuerKey([32]byte{9}, k.Epoch())), 1)[0], now), "POST", "/v1/offers?x=1", body, now, credential.ErrKey},
		{"the key before", header(get(t, issuer(t, k.Epoch()-1), 1)[0], now), "POST", "/v1/offers?x=1", body, now, nil},
		{"the key before that", header(get(t, issuer(t, k.Epoch()-2), 1)[0], now), "POST", "/v1/offers?x=1", body, now, credential.ErrKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := ring.Admit(parse(t, tc.header), tc.method, tc.path, tc.body, tc.now)
			if !errors.Is(err, tc.want) || s.IsZero() != (tc.want != nil) {
				t.Errorf("%v, %v; want %v", s, err, tc.want)
			}
		})
	}
	if err := parse(t, cut).Verify(credential.Shared{}, "POST", "/v1/offers?x=1", body, now); !errors.Is(err, credential.ErrForged) {
		t.Errorf("with no secret: %v, want %v", err, credential.ErrForged)
	}
}

// A request that is sent again is admitted again within the skew, and is
// known by its token, whatever else it says.
func TestReplayIsKnown(t *testing.T) {
	l := must[*ledger.Ledger](t)(ledger.Open(filepath.Join(t.TempDir(), "ledger.db")))
	defer l.Close()
	ring := keyring(t)
	c := get(t, must[credential.IssuerKey](t)(ring.Current(now)), 2)
	for i, tc := range []struct {
		name  string
		c     credential.Credential
		at    time.Time
		fresh bool
	}{
		{"first", c[0], now, true},
		{"the same request", c[0], now, false},
		{"another request", c[0], now.Add(time.Minute), false},
		{"another token", c[1], now, true},
	} {
		p := parse(t, tc.c.Authorization("GET", "/", nil, tc.at))
		if _, err := ring.Admit(p, "GET", "/", nil, tc.at); err != nil {
			t.Fatal(err)
		}
		first, fresh, err := l.Redeem(t.Context(), p.KeyID, p.Nonce, tc.at)
		if err != nil || fresh != tc.fresh || !first.Equal(now) {
			t.Errorf("%d, %s: first %v, fresh %v, %v", i, tc.name, first, fresh, err)
		}
	}
}

func TestParseAuthorizationRefuses(t *testing.T) {
	good := get(t, issuer(t, 1), 1)[0].Authorization("GET", "/", nil, now)
	token := good[strings.Index(good, `"`)+1 : strings.Index(good, `", time`)]
	for _, c := range []struct{ name, header string }{
		{"nothing", ""},
		{"another scheme", strings.Replace(good, "PrivateToken", "Bearer", 1)},
		{"the scheme alone", "PrivateToken"},
		{"two spaces", strings.Replace(good, " ", "  ", 1)},
		{"not quoted", strings.ReplaceAll(good, `"`, "")},
		{"another order", `PrivateToken time="1800000000", ` + good[len("PrivateToken "):]},
		{"no padding", strings.Replace(good, `=", time`, `", time`, 1)},
		{"the other alphabet", strings.Replace(good, token[:4], "AAV+", 1)},
		{"a line break in the token", strings.Replace(good, token[8:12], token[8:10]+"\r\n", 1)},
		{"bits after the token", strings.Replace(good, token[len(token)-2:], "F=", 1)},
		{"another type", strings.Replace(good, token[:3], "AAI", 1)},
		{"another challenge", strings.Replace(good, token[60:64], "AAAA", 1)},
		{"a token with its secret", strings.Replace(good, token, token+"AAAA", 1)},
		{"no time", strings.Replace(good, "1800000000", "", 1)},
		{"a time with a sign", strings.Replace(good, "1800000000", "+1800000000", 1)},
		{"a time with zeros in front", strings.Replace(good, "1800000000", "01800000000", 1)},
		{"a time below zero", strings.Replace(good, "1800000000", "-1", 1)},
		{"a time after the year 9999", strings.Replace(good, "1800000000", "253402300800", 1)},
		{"a time of many digits", strings.Replace(good, "1800000000", "99999999999999999999", 1)},
		{"no MAC", good[:strings.Index(good, ", mac")]},
		{"a short MAC", good[:len(good)-6] + `"`},
		{"a comma more", good + ","},
		{"a parameter more", good + `, x="1"`},
		{"cut off", good[:len(good)-1]},
		{"a space in front", " " + good},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.header == good {
				t.Fatal("the case is the good header")
			}
			if _, err := credential.ParseAuthorization(c.header); !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("%v, want %v", err, htlcdash.ErrFormat)
			}
		})
	}
	parse(t, strings.Replace(good, "PrivateToken", "privatetoken", 1)) // RFC 9110, 11.1
}

func TestCredentialIsKept(t *testing.T) {
	c := get(t, issuer(t, 1), 1)[0]
	kept := c.Reveal()
	again := must[credential.Credential](t)(credential.ParseCredential(kept))
	if again.Token != c.Token || !bytes.Equal(again.Reveal(), kept) {
		t.Error("another credential came back")
	}
	again.Shared.Reveal()[0] ^= 1
	if !bytes.Equal(c.Reveal(), kept) {
		t.Error("credentials share memory")
	}
	typed, challenged := slices.Clone(kept), slices.Clone(kept)
	typed[1], challenged[40] = 1, challenged[40]^1
	for name, b := range map[string][]byte{"nothing": nil, "cut off": kept[:len(kept)-1], "a byte more": append(slices.Clone(kept), 0), "another type": typed, "another challenge": challenged} {
		if _, err := credential.ParseCredential(b); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v, want %v", name, err, htlcdash.ErrFormat)
		}
	}
}

func TestPublicKeyText(t *testing.T) {
	pub := issuer(t, 1).Public()
	var again struct {
		Key credential.PublicKey
		ID  credential.KeyID
	}
	text := must[[]byte](t)(json.Marshal(map[string]any{"Key": pub, "ID": pub.ID()}))
	if err := json.Unmarshal(text, &again); err != nil || again.Key != pub || again.ID != pub.ID() {
		t.Errorf("%s gave %v, %v", text, again, err)
	}
	if k := must[credential.PublicKey](t)(credential.ParsePublicKey(pub.String())); k != pub {
		t.Errorf("parsed %v, want %v", k, pub)
	}
	for name, s := range map[string]string{
		"nothing": "", "short": pub.String()[2:], "long": pub.String() + "00", "no digits": strings.Repeat("x", 64),
		"identity": strings.Repeat("0", 64), "not canonical": strings.Repeat("f", 64), "not on the curve": "02" + strings.Repeat("0", 62),
	} {
		if k, err := credential.ParsePublicKey(s); !errors.Is(err, htlcdash.ErrFormat) || k != (credential.PublicKey{}) {
			t.Errorf("%s: %v, %v; want %v", name, k, err, htlcdash.ErrFormat)
		}
	}
	var id credential.KeyID
	if err := id.UnmarshalText([]byte("00")); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("short id: %v, want %v", err, htlcdash.ErrFormat)
	}
}

func TestKeyring(t *testing.T) {
	ring := keyring(t)
	start := time.Unix(20833*86400, 0).UTC() // now is in this day
	for _, c := range []struct {
		name string
		at   time.Time
		good []credential.Epoch
	}{
		{"now", now, []credential.Epoch{20833, 20832}},
		{"the first second", start, []credential.Epoch{20833, 20832}},
		{"just before", start.Add(-1), []credential.Epoch{20832, 20831}},
		{"the next day", start.Add(day), []credential.Epoch{20834, 20833}},
		{"1970", time.Unix(0, 0), []credential.Epoch{0}},
		{"before 1970", time.Unix(-5, 0), []credential.Epoch{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			current := must[credential.IssuerKey](t)(ring.Current(c.at))
			published := must[[]credential.PublishedKey](t)(ring.Published(c.at))
			if current.Epoch() != c.good[0] || current.Public() != published[0].Key || len(published) != len(c.good) {
				t.Fatalf("current %d, published %v", current.Epoch(), published)
			}
			for i, e := range c.good {
				begin := time.Unix(int64(e)*86400, 0).UTC()
				want := credential.PublishedKey{Key: issuer(t, e).Public(), Issues: begin.Add(day), Expires: begin.Add(2 * day)}
				if published[i] != want {
					t.Errorf("published %v, want %v", published[i], want)
				}
				if k, err := ring.Find(want.Key.ID(), c.at); err != nil || k.Epoch() != e {
					t.Errorf("key of epoch %d: %v, %v", e, k, err)
				}
			}
			for _, e := range []credential.Epoch{c.good[0] + 1, c.good[0] + 2} {
				if _, err := ring.Find(issuer(t, e).ID(), c.at); !errors.Is(err, credential.ErrKey) {
					t.Errorf("key of epoch %d: %v, want %v", e, err, credential.ErrKey)
				}
			}
		})
	}
	for _, d := range []time.Duration{0, -time.Second, time.Millisecond, time.Second + 1} {
		if _, err := credential.NewKeyring(secret, d); err == nil {
			t.Errorf("epochs of %v", d)
		}
	}
}

func TestKeyringAtOnce(t *testing.T) {
	ring := keyring(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			at := now.Add(time.Duration(i%4) * day)
			k, err := ring.Current(at)
			if err != nil {
				t.Error(err)
				return
			}
			request, p, err := credential.Blind(k.Public(), 2, rand.Reader)
			if err != nil {
				t.Error(err)
				return
			}
			response, err := k.Issue(request)
			if err != nil {
				t.Error(err)
				return
			}
			c, err := p.Finish(response)
			if err != nil {
				t.Error(err)
				return
			}
			header, err := credential.ParseAuthorization(c[0].Authorization("GET", "/", nil, at))
			if err != nil {
				t.Error(err)
			}
			if _, err := ring.Admit(header, "GET", "/", nil, at); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestSecretsNeverPrint(t *testing.T) {
	ring := keyring(t)
	scalar := bytes.Repeat([]byte{7}, 32)
	k := must[credential.IssuerKey](t)(credential.NewIssuerKeyOf(scalar))
	request, p := ask(t, k, 1)
	c := must[[]credential.Credential](t)(p.Finish(must[[]byte](t)(k.Issue(request))))[0]
	shown := parse(t, c.Authorization("GET", "/", nil, now))
	hidden := map[string][]byte{"provider secret": secret[:], "private key": scalar, "token secret": c.Shared.Reveal(), "blind": p.Blinds()[0]}

	var out bytes.Buffer
	text, object := slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range []any{ring, k, &k, p, *p, c, &c, c.Shared, &c.Shared, shown, []any{k, c}, map[string]any{"k": k, "c": c}, struct {
		k credential.IssuerKey
		s credential.Shared
		c credential.Credential
		r *credential.Keyring
		p *credential.Pending
		l []credential.Shared
	}{k, c.Shared, c, ring, p, []credential.Shared{c.Shared}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text.Info("x", "v", v)
		object.Info("x", "v", v)
		out.Write(must[[]byte](t)(json.Marshal(v)))
	}
	_, issueErr := k.Issue(request[:9])
	_, finishErr := p.Finish(make([]byte, 98))
	_, admitErr := ring.Admit(shown, "GET", "/", nil, now)
	fmt.Fprintln(&out, issueErr, finishErr, admitErr)

	lower := strings.ToLower(out.String())
	for name, b := range hidden {
		list := strings.Trim(fmt.Sprint(b[:8]), "[]")
		source := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", b[:8]), "[]byte{"), "}")
		for _, form := range []string{hex.EncodeToString(b[:8]), string(b[:8]), list, strings.ReplaceAll(list, " ", ","), source} {
			if strings.Contains(lower, strings.ToLower(form)) || strings.Contains(out.String(), form) {
				t.Errorf("the %s was printed", name)
			}
		}
	}
}
