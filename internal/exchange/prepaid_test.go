package exchange_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

func prepaid(p *payee) exchange.Prepaid { return exchange.Prepaid{Till: till(p), Realm: "cinema"} }

// bought is a challenge and the preimage that the payment revealed.
type bought struct {
	joined   string // both WWW-Authenticate lines, as fetch() gives them
	preimage string
	inv      lightning.Invoice
}

func buy(t testing.TB, node *payee, q htlcdash.Root, price lightning.Msat) bought {
	t.Helper()
	p := prepaid(node)
	inv, err := p.Invoice(t.Context(), q, price)
	if err != nil {
		t.Fatal(err)
	}
	b := node.last.Reveal()
	return bought{strings.Join(p.Challenge(inv, q), ", "), hex.EncodeToString(b[:]), inv}
}

// params reads a challenge as a widely used client does: by one regular
// expression over the joined header, whatever the scheme.
func params(joined string) map[string]string {
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(\w+)=("([^"]*)"|'([^']*)'|([^,]*))`).FindAllStringSubmatch(joined, -1) {
		found[m[1]] = m[3] + m[4] + m[5]
	}
	return found
}

// l402 makes the credential as the L402 specification says.
func (b bought) l402() string { return "L402 " + params(b.joined)["token"] + ":" + b.preimage }

// payment makes the credential of the scheme Payment. It echoes what
// draft-lightning-charge-00 lists, and no more.
func (b bought) payment(change func(challenge, payload map[string]string)) string {
	p := params(b.joined)
	challenge := map[string]string{}
	for _, k := range []string{"id", "realm", "method", "intent", "request", "expires"} {
		challenge[k] = p[k]
	}
	payload := map[string]string{"preimage": b.preimage}
	if change != nil {
		change(challenge, payload)
	}
	j, _ := json.Marshal(map[string]any{"challenge": challenge, "payload": payload})
	return "Payment " + base64.RawURLEncoding.EncodeToString(j)
}

func TestPrepaidAdmitsWhoPaid(t *testing.T) {
	node := newPayee(start)
	q := htlcdash.Root{5}
	b := buy(t, node, q, 2500)
	token := params(b.joined)["token"]
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for name, headers := range map[string][]string{
		"L402":                       {b.l402()},
		"LSAT":                       {"LSAT " + token + ":" + b.preimage},
		"lower case, spaces":         {"  l402   " + token + ":" + b.preimage + " "},
		"URL-safe base64":            {"L402 " + base64.URLEncoding.EncodeToString(raw) + ":" + b.preimage},
		"no padding":                 {"L402 " + base64.RawStdEncoding.EncodeToString(raw) + ":" + b.preimage},
		"upper case preimage":        {"L402 " + token + ":" + strings.ToUpper(b.preimage)},
		"token parameter":            {`L402 token="` + token + `", preimage="` + b.preimage + `"`},
		"macaroon parameter":         {`L402 version="0", macaroon="` + token + `",preimage=` + b.preimage},
		"two tokens":                 {"L402 " + token + "," + token + ":" + b.preimage},
		"two lines, as aperture's":   {"LSAT " + token + ":" + b.preimage, b.l402()},
		"after one of another login": {"Basic QWxhZGRpbg==", b.l402()},
		"attenuated":                 {"L402 " + attenuate(t, raw, "client_note=tv") + ":" + b.preimage},
		"Payment":                    {b.payment(nil)},
		"Payment, padded":            {b.payment(nil) + "=="},
		"Payment, with a source":     {strings.Replace(b.payment(nil), "Payment ", "payment  ", 1)},
	} {
		g, err := prepaid(node).Admit(headers, q, start)
		if err != nil || g.Hash != b.inv.Hash {
			t.Errorf("%s: %v, %v", name, g, err)
		}
		if isPayment := strings.Contains(name, "Payment"); isPayment != (g.Receipt != "") {
			t.Errorf("%s: receipt %q", name, g.Receipt)
		}
	}
}

func attenuate(t testing.TB, raw []byte, caveat string) string {
	t.Helper()
	var m macaroon.Macaroon
	if err := m.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	if err := m.AddFirstPartyCaveat([]byte(caveat)); err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestPrepaidRefuses(t *testing.T) {
	node := newPayee(start)
	q := htlcdash.Root{5}
	b := buy(t, node, q, 2500)
	token := params(b.joined)["token"]
	raw, _ := base64.StdEncoding.DecodeString(token)
	other := buy(t, node, htlcdash.Root{6}, 2500)
	stranger := prepaid(node)
	stranger.Till.Secret = exchange.NewSecret([32]byte{99})
	foreign := bought{strings.Join(stranger.Challenge(b.inv, q), ", "), b.preimage, b.inv}
	wrong := strings.Repeat("00", 32)
	flip := func(s string) string { return strings.Replace(s, s[60:62], "zz", 1) }
	life := exchange.OfferLife + exchange.Grace
	for _, tc := range []struct {
		name   string
		header []string
		after  time.Duration
		want   error
		scheme string
	}{
		{"nothing", nil, 0, exchange.ErrNoCredential, ""},
		{"empty", []string{""}, 0, exchange.ErrNoCredential, ""},
		{"other scheme", []string{"Basic QWxhZGRpbg=="}, 0, exchange.ErrNoCredential, ""},
		{"five lines", slices.Repeat([]string{b.l402()}, 5), 0, exchange.ErrNoCredential, ""},

		{"L402 alone", []string{"L402"}, 0, exchange.ErrMalformed, "L402"},
		{"L402 without preimage", []string{"L402 " + token}, 0, exchange.ErrMalformed, "L402"},
		{"L402 with a short preimage", []string{"L402 " + token + ":00"}, 0, exchange.ErrMalformed, "L402"},
		{"L402 without token", []string{"L402 :" + b.preimage}, 0, exchange.ErrMalformed, "L402"},
		{"L402 with an empty second token", []string{"L402 " + token + ",:" + b.preimage}, 0, exchange.ErrMalformed, "L402"},
		{"L402 with five tokens", []string{"L402 " + strings.Repeat(token+",", 4) + token + ":" + b.preimage}, 0, exchange.ErrMalformed, "L402"},
		{"L402 with no base64", []string{"L402 !!!:" + b.preimage}, 0, exchange.ErrMalformed, "L402"},
		{"L402 with no macaroon", []string{"L402 AAAA:" + b.preimage}, 0, exchange.ErrMalformed, "L402"},
		{"L402 with trailing bytes", []string{"L402 " + base64.StdEncoding.EncodeToString(append(bytes.Clone(raw), 0)) + ":" + b.preimage}, 0, exchange.ErrMalformed, "L402"},
		{"L402 of 9 KiB", []string{"L402 " + strings.Repeat("A", 9<<10) + ":" + b.preimage}, 0, exchange.ErrMalformed, "L402"},
		{"L402 parameter twice", []string{`L402 token="a", token="b", preimage="c"`}, 0, exchange.ErrMalformed, "L402"},
		{"L402 open quote", []string{`L402 token="a`}, 0, exchange.ErrMalformed, "L402"},
		{"L402 never paid", []string{"L402 " + token + ":" + wrong}, 0, exchange.ErrForged, "L402"},
		{"L402 of another provider", []string{foreign.l402()}, 0, exchange.ErrForged, "L402"},
		{"L402 for another segment", []string{other.l402()}, 0, exchange.ErrStale, "L402"},
		{"L402 too late", []string{b.l402()}, life, exchange.ErrStale, "L402"},
		{"L402 narrowed to another time", []string{"L402 " + attenuate(t, raw, "htlcdash_valid_until=1") + ":" + b.preimage}, 0, exchange.ErrStale, "L402"},
		{"L402 widened", []string{"L402 " + attenuate(t, raw, "htlcdash_segment="+htlcdash.Root{6}.String()) + ":" + b.preimage}, 0, exchange.ErrStale, "L402"},
		{"L402 for another service", []string{"L402 " + attenuate(t, raw, "services=pool:0") + ":" + b.preimage}, 0, exchange.ErrStale, "L402"},

		{"Payment alone", []string{"Payment"}, 0, exchange.ErrMalformed, "Payment"},
		{"Payment with no JSON", []string{"Payment " + base64.RawURLEncoding.EncodeToString([]byte("{"))}, 0, exchange.ErrMalformed, "Payment"},
		{"Payment with two values", []string{"Payment " + base64.RawURLEncoding.EncodeToString([]byte("{}{}"))}, 0, exchange.ErrMalformed, "Payment"},
		{"Payment without preimage", []string{b.payment(func(_, p map[string]string) { delete(p, "preimage") })}, 0, exchange.ErrMalformed, "Payment"},
		{"Payment never paid", []string{b.payment(func(_, p map[string]string) { p["preimage"] = wrong })}, 0, exchange.ErrForged, "Payment"},
		{"Payment without id", []string{b.payment(func(c, _ map[string]string) { delete(c, "id") })}, 0, exchange.ErrForged, "Payment"},
		{"Payment with another realm", []string{b.payment(func(c, _ map[string]string) { c["realm"] = "x" })}, 0, exchange.ErrForged, "Payment"},
		{"Payment with another expiry", []string{b.payment(func(c, _ map[string]string) { c["expires"] = "2099-01-01T00:00:00Z" })}, 0, exchange.ErrForged, "Payment"},
		{"Payment with another request", []string{b.payment(func(c, _ map[string]string) { c["request"] = params(other.joined)["request"] })}, 0, exchange.ErrForged, "Payment"},
		{"Payment with slots moved", []string{b.payment(func(c, _ map[string]string) { c["digest"], c["expires"] = c["expires"], "" })}, 0, exchange.ErrForged, "Payment"},
		{"Payment of another provider", []string{foreign.payment(nil)}, 0, exchange.ErrForged, "Payment"},
		{"Payment for another segment", []string{other.payment(nil)}, 0, exchange.ErrStale, "Payment"},
		{"Payment too late", []string{b.payment(nil)}, life, exchange.ErrStale, "Payment"},
		{"Payment flipped", []string{flip(b.payment(nil))}, 0, nil, "Payment"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, err := prepaid(node).Admit(tc.header, q, start.Add(tc.after))
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Fatalf("got %+v, %v, want %v", g, err, tc.want)
			}
			var c *exchange.CredentialError
			if errors.As(err, &c) != (tc.scheme != "") || c != nil && c.Scheme != tc.scheme {
				t.Errorf("error %v is not about scheme %q", err, tc.scheme)
			}
			for _, secret := range []string{token, b.preimage} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("error holds a secret: %v", err)
				}
			}
		})
	}
	if _, err := prepaid(node).Admit([]string{b.l402()}, q, start.Add(life-time.Second)); err != nil {
		t.Errorf("in its last second: %v", err)
	}
}

func TestChallengesShareOneInvoice(t *testing.T) {
	node := newPayee(start)
	b := buy(t, node, htlcdash.Root{5}, 2001)
	p := params(b.joined)
	if !strings.HasPrefix(b.joined, `L402 version="0", token="`) || p["token"] != p["macaroon"] {
		t.Errorf("header does not begin as clients want it: %s", b.joined)
	}
	if p["invoice"] != b.inv.Bolt11 {
		t.Error("invoice of L402 is another one")
	}
	request, err := base64.RawURLEncoding.DecodeString(p["request"])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"amount":"3","currency":"sat","externalId":"` + (htlcdash.Root{5}).String() +
		`","methodDetails":{"invoice":"` + b.inv.Bolt11 + `","network":"regtest","paymentHash":"` + b.inv.Hash.String() + `"}}`
	if string(request) != want {
		t.Errorf("request is\n%s, want\n%s", request, want)
	}
	if b.inv.Amount != 3*lightning.Sat {
		t.Errorf("2001 msat are charged as %v", b.inv.Amount)
	}
	if expires, err := time.Parse(time.RFC3339, p["expires"]); err != nil || expires.After(b.inv.Created.Add(b.inv.Expiry)) {
		t.Errorf("expires %s, after the invoice", p["expires"])
	}
	if len(b.joined) > 8<<10 {
		t.Errorf("challenges of %d bytes", len(b.joined))
	}
}

func TestReceiptTellsNoSecret(t *testing.T) {
	node := newPayee(start)
	b := buy(t, node, htlcdash.Root{5}, 1000)
	g, err := prepaid(node).Admit([]string{b.payment(nil)}, htlcdash.Root{5}, start)
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.RawURLEncoding.DecodeString(g.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"challengeId":"` + params(b.joined)["id"] + `","method":"lightning","reference":"` + b.inv.Hash.String() +
		`","status":"success","timestamp":"` + start.Format(time.RFC3339) + `"}`
	if string(text) != want {
		t.Errorf("receipt is\n%s, want\n%s", text, want)
	}
}

func FuzzAdmit(f *testing.F) {
	node := newPayee(start)
	q := htlcdash.Root{5}
	b := buy(f, node, q, 2500)
	unpaid := bought{b.joined, strings.Repeat("00", 32), b.inv}
	f.Add(unpaid.l402())
	f.Add(unpaid.payment(nil))
	f.Add(`LSAT macaroon="` + params(b.joined)["macaroon"] + `", preimage="` + unpaid.preimage + `"`)
	f.Add("Basic QWxhZGRpbg==")
	p := prepaid(node)
	f.Fuzz(func(t *testing.T, header string) {
		_, err := p.Admit([]string{header}, q, start)
		for _, reason := range []error{exchange.ErrNoCredential, exchange.ErrMalformed, exchange.ErrForged, exchange.ErrStale} {
			if errors.Is(err, reason) {
				return
			}
		}
		t.Errorf("%q without the preimage: %v", header, err)
	})
}
