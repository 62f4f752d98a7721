package exchange_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/lightning"
)

func TestProofRequestsThatAreRefused(t *testing.T) {
	good := exchange.ProofRequest{
		Title: htlcdash.TitleID{1}, System: "vole-80", Nonce: exchange.Nonce{2},
		Sales: []exchange.SaleID{{Sealed: htlcdash.Root{3}, Price: 4, Counter: 5}},
	}
	for _, tc := range []struct {
		name   string
		change func(*exchange.ProofRequest)
		after  string
		why    string // empty: it is good
	}{
		{"good", func(*exchange.ProofRequest) {}, "", ""},
		{"no title", func(r *exchange.ProofRequest) { r.Title = htlcdash.TitleID{} }, "", "without a title"},
		{"no nonce", func(r *exchange.ProofRequest) { r.Nonce = exchange.Nonce{} }, "", "without a nonce"},
		{"no sales", func(r *exchange.ProofRequest) { r.Sales = nil }, "", "0 sales, want 1 to 8"},
		{"too many", func(r *exchange.ProofRequest) { r.Sales = make([]exchange.SaleID, exchange.MaxProofs+1) }, "", "9 sales, want 1 to 8"},
		{"for nothing", func(r *exchange.ProofRequest) { r.Sales[0].Price = 0 }, "", "sale at 0 msat"},
		{"for all there is", func(r *exchange.ProofRequest) { r.Sales[0].Price = htlcdash.MaxPrice + 1 }, "", "sale at"},
		{"trailing bytes", func(*exchange.ProofRequest) {}, "x", "proof request"},
		{"too long", func(*exchange.ProofRequest) {}, strings.Repeat(" ", exchange.MaxRequestBytes), "at most 8192"},
	} {
		r := good
		r.Sales = []exchange.SaleID{good.Sales[0]}
		tc.change(&r)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = exchange.ParseProofRequest(append(b, tc.after...))
		switch {
		case tc.why == "" && err != nil, tc.why != "" && (!errors.Is(err, htlcdash.ErrFormat) || !strings.Contains(err.Error(), tc.why)):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.why)
		}
	}
}

func TestKeyResponses(t *testing.T) {
	req := exchange.KeyRequest{Title: htlcdash.TitleID{1}, Sales: make([]exchange.SaleID, 2)}
	secret := strings.Repeat("ab", 32)
	got, err := exchange.ParseKeyResponse([]byte(`{"preimages":["","`+secret+`"]}`), req)
	if err != nil || !got[0].IsZero() || got[1].IsZero() {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{
		"", "[]", `{"preimages":[]}`, `{"preimages":["` + secret + `"]}`, `{"preimages":["","ab"]}`, `{"preimages":["","` + secret[1:] + `z"]}`,
		`{"preimages":["","` + secret + `"]}x`, strings.Repeat(" ", exchange.MaxRequestBytes) + `{}`,
	} {
		_, err := exchange.ParseKeyResponse([]byte(text), req)
		if !errors.Is(err, htlcdash.ErrFormat) || strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestProofsOnTheWire(t *testing.T) {
	var b bytes.Buffer
	if err := exchange.WriteProofs(&b, [][]byte{{1, 2, 3}, nil, {4}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\x01\x02\x03", "", "\x04"} {
		if got, err := exchange.ReadProof(&b); err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if _, err := exchange.ReadProof(&b); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v", err)
	}
	if _, err := exchange.ReadProof(strings.NewReader("\xff\xff\xff\xff")); !errors.Is(err, htlcdash.ErrFormat) {
		t.Errorf("an endless one: %v", err)
	}
	if _, err := exchange.ReadProof(strings.NewReader("\x00\x00\x00\x02x")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half of one: %v", err)
	}
}

// A proof of a sale is good for that sale, provider, segment and nonce.
func TestProofOfASale(t *testing.T) {
	node := newPayee(start)
	seal, key := segment(t, "proved", 2500)
	other, _ := segment(t, "another", 2500)
	o, err := exchange.Salted{}.Sell(t.Context(), till(node), salter(1), in(seal), key, 2500, 0, start)
	if err != nil {
		t.Fatal(err)
	}
	id, nonce := till(node).Key.ID(), exchange.NewNonce()
	pf, err := exchange.Salted{}.Prove(vole.Bits80, id, in(seal), o, key, nonce)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(id htlcdash.ProviderID, seg htlcdash.Segment, o exchange.Offer, nonce exchange.Nonce) error {
		return exchange.Salted{}.Verify(vole.Bits80, id, seg, o, nonce, pf)
	}
	if err := verify(id, in(seal), o, nonce); err != nil {
		t.Fatal(err)
	}
	elsewhere := in(seal)
	elsewhere.Title[0] ^= 1
	salted, hashed := o, o
	salted.Salt[0] ^= 1
	hashed.Hash[0] ^= 1
	for name, err := range map[string]error{
		"another provider": verify(htlcdash.ProviderID{1}, in(seal), o, nonce),
		"another nonce":    verify(id, in(seal), o, exchange.NewNonce()),
		"another segment":  verify(id, in(other), o, nonce),
		"another title":    verify(id, elsewhere, o, nonce),
		"another salt":     verify(id, in(seal), salted, nonce),
		"another hash":     verify(id, in(seal), hashed, nonce),
	} {
		if !errors.Is(err, exchange.ErrUnproved) || !errors.Is(err, exchange.ErrTerms) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A relay passes on what another proves: that one's proof is asked for, and none
	// of the relay's own will do.
	relay, resold := htlcdash.ProviderID{1}, o
	resold.Prover = id
	if err := verify(relay, in(seal), resold, nonce); err != nil {
		t.Errorf("passed on: %v", err)
	}
	resold.Prover = htlcdash.ProviderID{2}
	if err := verify(id, in(seal), resold, nonce); !errors.Is(err, exchange.ErrUnproved) {
		t.Errorf("a proof of another than the prover: %v", err)
	}
	if _, err := (exchange.Salted{}).Prove(vole.Bits80, id, in(seal), salted, key, nonce); !errors.Is(err, proof.ErrFalse) {
		t.Errorf("a false offer is proved: %v", err)
	}
}

func TestTokenSale(t *testing.T) {
	node := newPayee(start)
	shop := till(node)
	request := []byte("request")
	o, err := shop.SellTokens(t.Context(), request, 5000, start)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := shop.SellTokens(t.Context(), request, 5000, start.Add(time.Minute)); err != nil || again != o {
		t.Errorf("asked again: %v, %v", again, err)
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	got, inv, err := exchange.ParseTokenOffer(b, 5000, start)
	if err != nil || got != o || inv.Hash != o.Hash {
		t.Errorf("%v, %v", got, err)
	}
	paid := "Preimage " + hexOf(node.last)
	for _, tc := range []struct {
		name, request, shown string
		after                time.Duration
		want                 error
	}{
		{"paid", "request", paid, 0, nil},
		{"paid, and late", "request", paid, exchange.OfferLife + exchange.Grace, nil},
		{"paid, and too late", "request", paid, 2*exchange.OfferLife + exchange.Grace, exchange.ErrForged},
		{"paid for another", "other", paid, 0, exchange.ErrForged},
		{"nothing", "request", "", 0, exchange.ErrNoCredential},
		{"another scheme", "request", "L402 x:y", 0, exchange.ErrNoCredential},
		{"no preimage", "request", "Preimage 00", 0, exchange.ErrMalformed},
		{"another preimage", "request", "preimage " + strings.Repeat("00", 32), 0, exchange.ErrForged},
	} {
		if err := shop.TokensPaid([]byte(tc.request), tc.shown, start.Add(tc.after)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "no object": "[]", "no hash": `{"price_msat":1,"invoice":"x","expires":1}`,
		"trailing bytes": string(b) + "x", "no price": strings.Replace(string(b), `"price_msat":5000`, `"price_msat":0`, 1),
	} {
		if _, _, err := exchange.ParseTokenOffer([]byte(text), 5000, start); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cheaper := strings.Replace(string(b), `"price_msat":5000`, `"price_msat":4999`, 1)
	for name, err := range map[string]error{
		"dearer than allowed":     second(exchange.ParseTokenOffer(b, 4999, start)),
		"dearer than its invoice": second(exchange.ParseTokenOffer([]byte(cheaper), 5000, start)),
		"expired":                 second(exchange.ParseTokenOffer(b, 5000, start.Add(exchange.OfferLife))),
	} {
		if !errors.Is(err, exchange.ErrTerms) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func hexOf(p lightning.Preimage) string {
	b := p.Reveal()
	return htlcdash.Root(b).String()
}

func second(_ exchange.TokenOffer, _ lightning.Invoice, err error) error { return err }

func FuzzParseProofRequest(f *testing.F) {
	b, _ := json.Marshal(exchange.ProofRequest{Title: htlcdash.TitleID{1}, Nonce: exchange.Nonce{2}, Sales: []exchange.SaleID{{Price: 1}}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := exchange.ParseProofRequest(b); err == nil {
			if n := len(r.Sales); n == 0 || n > exchange.MaxProofs {
				t.Errorf("%d sales", n)
			}
		} else if !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("error without a reason: %v", err)
		}
		if r, err := exchange.ParseKeyRequest(b); err == nil {
			if n := len(r.Sales); n == 0 || n > exchange.MaxSales {
				t.Errorf("%d sales", n)
			}
		} else if !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("error without a reason: %v", err)
		}
	})
}

func FuzzParseKeyResponse(f *testing.F) {
	req := exchange.KeyRequest{Sales: make([]exchange.SaleID, 1)}
	f.Add([]byte(`{"preimages":[""]}`))
	f.Add([]byte(`{"preimages":["` + strings.Repeat("ab", 32) + `"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := exchange.ParseKeyResponse(b, req)
		if err == nil && len(got) != 1 || err != nil && !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%d keys, %v", len(got), err)
		}
	})
}

func FuzzReadProof(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			p, err := exchange.ReadProof(r)
			if err != nil {
				return
			}
			if len(p) > exchange.MaxProofBytes || len(p) > len(b) {
				t.Errorf("a proof of %d bytes", len(p))
			}
		}
	})
}

func FuzzParseTokenOffer(f *testing.F) {
	node := newPayee(start)
	o, err := till(node).SellTokens(f.Context(), []byte("request"), 5000, start)
	if err != nil {
		f.Fatal(err)
	}
	b, _ := json.Marshal(o)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		o, inv, err := exchange.ParseTokenOffer(b, 5000, start)
		switch {
		case err != nil && !errors.Is(err, htlcdash.ErrFormat) && !errors.Is(err, exchange.ErrTerms):
			t.Errorf("error without a reason: %v", err)
		case err == nil && (o.Price > 5000 || inv.Amount != o.Price):
			t.Errorf("an offer over %v, invoice over %v", o.Price, inv.Amount)
		}
	})
}
