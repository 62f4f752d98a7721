package exchange_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// payee makes real BOLT 11 invoices as a node does: one for each hash.
type payee struct {
	key  *btcec.PrivateKey
	now  time.Time
	made map[lightning.Hash]lightning.Invoice
	last lightning.Preimage
	note []byte // of the last invoice asked for
	err  error
}

func newPayee(now time.Time) *payee {
	key, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32))
	return &payee{key: key, now: now, made: map[lightning.Hash]lightning.Invoice{}}
}

func (p *payee) Invoice(_ context.Context, pre lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	if p.err != nil {
		return lightning.Invoice{}, p.err
	}
	p.last, p.note = pre, t.Note
	if inv, ok := p.made[pre.Hash()]; ok {
		if inv.Amount != t.Amount {
			return inv, lightning.ErrHashUsed
		}
		return inv, nil
	}
	inv, err := p.sign(lightning.Invoice{Hash: pre.Hash(), Amount: t.Amount, Expiry: t.Expiry, Memo: t.Memo, Created: p.now})
	p.made[pre.Hash()] = inv
	return inv, err
}

func (p *payee) sign(inv lightning.Invoice) (lightning.Invoice, error) {
	inv.Network = lightning.Regtest
	return lightning.EncodeInvoice(inv, sha256.Sum256([]byte("payment secret")), p.key)
}

// start is the beginning of an epoch of salts.
var start = time.Unix(1_800_000_000, 0).UTC()

func segment(t testing.TB, text string, price lightning.Msat) (htlcdash.Seal, htlcdash.Key) {
	t.Helper()
	_, seal, key := htlcdash.SealSegment([]byte("seal secret"), []byte(text))
	seal.Price = price
	return seal, key
}

func till(p *payee) exchange.Till {
	return exchange.NewTill(p, exchange.NewSecret([32]byte{1, 2, 3}), 0)
}

// A salter is a credential in place of which a seed stands.
type salter byte

func (s salter) Salt(q htlcdash.Root, price lightning.Msat, counter int64) htlcdash.Salt {
	return sha256.Sum256(fmt.Appendf(nil, "%d %v %d %d", s, q, int64(price), counter))
}

// in makes a segment of a seal.
func in(seal htlcdash.Seal) htlcdash.Segment {
	return htlcdash.Segment{Title: htlcdash.TitleID{7}, Representation: "v1", Seal: seal}
}

func TestSaltedSellsTheKey(t *testing.T) {
	node := newPayee(start)
	seal, key := segment(t, "one", 2500)
	offer, err := exchange.Salted{}.Sell(t.Context(), till(node), salter(9), in(seal), key, 2400, 0, start)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := exchange.Salted{}.Check(offer, till(node).Key.ID(), in(seal), start)
	if err != nil {
		t.Fatal(err)
	}
	if inv.Amount != 2400 || inv.Memo != exchange.Memo || inv.Expiry != exchange.OfferLife {
		t.Errorf("invoice over %v for %q within %v", inv.Amount, inv.Memo, inv.Expiry)
	}
	got, err := exchange.Salted{}.Key(node.last, offer.Salt, seal)
	if err != nil || !got.Opens(seal) {
		t.Errorf("key: %v, %v", got, err)
	}
	again, preimage := exchange.Salted{}.Resold(salter(9), offer.ID(), key)
	if again.Hash != offer.Hash || again.Salt != offer.Salt || !preimage.Opens(offer.Hash) {
		t.Error("the sale cannot be derived again")
	}
}

func TestSaltedOfferIsTheSameWhileItIsYoung(t *testing.T) {
	node := newPayee(start)
	seal, key := segment(t, "one", 2500)
	sell := func(buyer salter, price lightning.Msat, try exchange.Try, after time.Duration) exchange.Offer {
		t.Helper()
		node.now = start.Add(after)
		o, err := exchange.Salted{}.Sell(t.Context(), till(node), buyer, in(seal), key, price, try, node.now)
		if err != nil {
			t.Fatal(err)
		}
		if left := o.Expires.Sub(node.now); left < exchange.OfferLife/2 {
			t.Errorf("offer can be paid for only %v", left)
		}
		return o
	}
	first := sell(salter(1), 2000, 0, 0)
	for _, tc := range []struct {
		name  string
		buyer salter
		price lightning.Msat
		try   exchange.Try
		after time.Duration
		same  bool
	}{
		{"at once", salter(1), 2000, 0, 0, true},
		{"later in its life", salter(1), 2000, 0, exchange.OfferLife/2 - time.Second, true},
		{"when it is old", salter(1), 2000, 0, exchange.OfferLife / 2, false},
		{"for another buyer", salter(2), 2000, 0, 0, false},
		{"at another try", salter(1), 2000, 1, 0, false},
		{"at another price", salter(1), 1999, 0, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := sell(tc.buyer, tc.price, tc.try, tc.after)
			if got := o.Hash == first.Hash; got != tc.same {
				t.Errorf("same offer: %v, want %v", got, tc.same)
			}
			if got := o == first; got != tc.same {
				t.Errorf("same to the last byte: %v, want %v", got, tc.same)
			}
		})
	}
}

func TestSaltedNeverSellsAboveTheCeiling(t *testing.T) {
	seal, key := segment(t, "one", 2500)
	for _, price := range []lightning.Msat{2501, 0, -1} {
		node := newPayee(start)
		_, err := exchange.Salted{}.Sell(t.Context(), till(node), salter(1), in(seal), key, price, 0, start)
		if !errors.Is(err, exchange.ErrTerms) || len(node.made) != 0 {
			t.Errorf("price %d: %v, %d invoices", price, err, len(node.made))
		}
	}
}

func TestSaltedCheckRefuses(t *testing.T) {
	node := newPayee(start)
	seal, key := segment(t, "one", 2500)
	other, _ := segment(t, "two", 2500)
	good, err := exchange.Salted{}.Sell(t.Context(), till(node), salter(9), in(seal), key, 2500, 0, start)
	if err != nil {
		t.Fatal(err)
	}
	// with is an offer that its provider stands by.
	with := func(change func(*exchange.Offer)) exchange.Offer {
		o := good
		change(&o)
		if o.Signature, err = exchange.SignOffer(till(node).Key, in(seal).Title, seal, o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	forged := good
	forged.Expires = forged.Expires.Add(time.Second)
	invoice := func(inv lightning.Invoice) string {
		inv, err := node.sign(inv)
		if err != nil {
			t.Fatal(err)
		}
		return inv.Bolt11
	}
	standard := lightning.Invoice{Hash: good.Hash, Amount: 2500, Expiry: time.Hour, Created: start}
	for _, tc := range []struct {
		name  string
		offer exchange.Offer
		after time.Duration
		want  error
	}{
		{"good", good, 0, nil},
		{"another segment", with(func(o *exchange.Offer) { o.Sealed = other.Sealed }), 0, exchange.ErrTerms},
		{"above the ceiling", with(func(o *exchange.Offer) { o.Price = 2501 }), 0, exchange.ErrTerms},
		{"no price", with(func(o *exchange.Offer) { o.Price = 0 }), 0, exchange.ErrTerms},
		{"negative price", with(func(o *exchange.Offer) { o.Price = -1 }), 0, exchange.ErrTerms},
		{"price below the invoice", with(func(o *exchange.Offer) { o.Price = 2499 }), 0, exchange.ErrTerms},
		{"another hash", with(func(o *exchange.Offer) { o.Hash[0] ^= 1 }), 0, exchange.ErrTerms},
		{"no invoice", with(func(o *exchange.Offer) { o.Invoice = "" }), 0, exchange.ErrTerms},
		{"broken invoice", with(func(o *exchange.Offer) { o.Invoice = o.Invoice[:len(o.Invoice)-1] + "q" }), 0, exchange.ErrTerms},
		{"invoice over more", with(func(o *exchange.Offer) {
			inv := standard
			inv.Amount = 9999
			o.Invoice = invoice(inv)
		}), 0, exchange.ErrTerms},
		{"invoice over any sum", with(func(o *exchange.Offer) {
			inv := standard
			inv.Amount = 0
			o.Invoice = invoice(inv)
		}), 0, exchange.ErrTerms},
		{"invoice that may be held for long", with(func(o *exchange.Offer) {
			inv := standard
			inv.FinalDelta = exchange.MaxLock + 1
			o.Invoice = invoice(inv)
		}), 0, exchange.ErrTerms},
		{"invoice that may be held for two days", with(func(o *exchange.Offer) {
			inv := standard
			inv.FinalDelta = exchange.MaxLock
			o.Invoice = invoice(inv)
		}), 0, nil},
		{"hash without salt", with(func(o *exchange.Offer) {
			inv := standard
			inv.Hash = lightning.Hash(seal.KeyHash)
			o.Hash, o.Invoice = inv.Hash, invoice(inv)
		}), 0, exchange.ErrTerms},
		{"expired invoice behind a fresh offer", with(func(o *exchange.Offer) {
			inv := standard
			inv.Expiry = time.Second
			o.Invoice = invoice(inv)
		}), time.Second, exchange.ErrTerms},
		{"offer that its provider did not sign", forged, 0, htlcdash.ErrSignature},
		{"expired offer", good, exchange.OfferLife, exchange.ErrTerms},
		{"no offer", exchange.Offer{Sealed: seal.Sealed, Error: exchange.RefusedBusy}, 0, exchange.ErrRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := exchange.Salted{}.Check(tc.offer, till(node).Key.ID(), in(seal), start.Add(tc.after))
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestSaltedKeyShowsTheCheat(t *testing.T) {
	seal, _ := segment(t, "one", 2500)
	for name, p := range map[string]lightning.Preimage{"another preimage": lightning.RandomPreimage(), "none": {}} {
		if _, err := (exchange.Salted{}).Key(p, htlcdash.Salt{1}, seal); !errors.Is(err, exchange.ErrCheated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	secret := exchange.NewSecret([32]byte([]byte("0123456789abcdef0123456789abcdef")))
	held := struct{ S exchange.Secret }{secret}
	for _, s := range []string{fmt.Sprint(secret), fmt.Sprintf("%v %+v %#v %x", held, held, held, held)} {
		if strings.Contains(s, "0123") || strings.Contains(s, "30313233") {
			t.Errorf("printed %q", s)
		}
	}
}

func TestOffersOnTheWire(t *testing.T) {
	req := exchange.OfferRequest{
		Title: htlcdash.TitleID{1}, Scheme: exchange.SchemeSalted, Try: 5,
		Sealed: []htlcdash.Root{{3}, {4}},
	}
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	back, err := exchange.ParseOfferRequest(b)
	if err != nil || fmt.Sprint(back) != fmt.Sprint(req) {
		t.Errorf("request came back as %+v, %v", back, err)
	}
	resp := exchange.OfferResponse{Offers: []exchange.Offer{
		{Sealed: htlcdash.Root{3}, Price: 5, Hash: lightning.Hash{6}, Invoice: "lnbcrt1", Salt: htlcdash.Salt{7}, Counter: 8, Expires: start, Signature: [64]byte{9}},
		{Sealed: htlcdash.Root{4}, Error: exchange.RefusedUnknown},
	}}
	if b, err = json.Marshal(resp); err != nil {
		t.Fatal(err)
	}
	got, err := exchange.ParseOfferResponse(b, req)
	if err != nil || got.Offers[0] != resp.Offers[0] || got.Offers[1] != resp.Offers[1] {
		t.Errorf("response came back as %+v, %v", got, err)
	}
}

func TestParseRefusesWhatIsNoRequest(t *testing.T) {
	hex := func(n int) string { return strings.Repeat("ab", n) }
	request := func(title string, sealed ...string) string {
		b, _ := json.Marshal(map[string]any{"title": title, "scheme": "salted", "sealed": sealed})
		return string(b)
	}
	many := make([]string, exchange.MaxBatch+1)
	for i := range many {
		many[i] = hex(32)
	}
	for name, s := range map[string]string{
		"nothing":        "",
		"no object":      "[]",
		"no segments":    request(hex(32)),
		"too many":       request(hex(32), many...),
		"short title":    request(hex(31), hex(32)),
		"no title":       request(strings.Repeat("0", 64), hex(32)),
		"no hexadecimal": request(hex(32), strings.Repeat("zz", 32)),
		"try too high":   strings.Replace(request(hex(32), hex(32)), "{", `{"try":16777216,`, 1),
		"trailing bytes": request(hex(32), hex(32)) + "{}",
		"too long":       request(hex(32), hex(32)) + strings.Repeat(" ", exchange.MaxRequestBytes),
		"deep":           strings.Repeat("[", 8000),
	} {
		if _, err := exchange.ParseOfferRequest([]byte(s)); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseRefusesWhatIsNoAnswer(t *testing.T) {
	req := exchange.OfferRequest{Sealed: []htlcdash.Root{{3}}}
	q, h, s := strings.Repeat("00", 31), strings.Repeat("11", 32), strings.Repeat("22", 32)
	q = "03" + q
	offer := func(format string, args ...any) string { return `{"offers":[` + fmt.Sprintf(format, args...) + `]}` }
	good := fmt.Sprintf(`{"sealed":"%s","price_msat":1,"hash":"%s","invoice":"x","salt":"%s","expires":1,"signature":"%s"}`, q, h, s, strings.Repeat("33", 64))
	if _, err := exchange.ParseOfferResponse([]byte(offer("%s", good)), req); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"none":             `{"offers":[]}`,
		"one too many":     offer("%s,%s", good, good),
		"other segment":    offer("%s", strings.Replace(good, "03", "04", 1)),
		"no hash":          offer(`{"sealed":"%s","price_msat":1,"invoice":"x","salt":"%s","expires":1,"signature":"%s"}`, q, s, strings.Repeat("33", 64)),
		"negative price":   offer("%s", strings.Replace(good, `"price_msat":1`, `"price_msat":-1`, 1)),
		"price of 0":       offer("%s", strings.Replace(good, `"price_msat":1`, `"price_msat":0`, 1)),
		"fractional price": offer("%s", strings.Replace(good, `"price_msat":1`, `"price_msat":1.5`, 1)),
		"huge price":       offer("%s", strings.Replace(good, `"price_msat":1`, `"price_msat":99999999999999999999`, 1)),
		"short salt":       offer("%s", strings.Replace(good, s, s[2:], 1)),
		"no signature":     offer("%s", strings.Replace(good, "33", "", 1)),
		"never expires":    offer("%s", strings.Replace(good, `"expires":1`, `"expires":9223372036854775807`, 1)),
		"long invoice":     offer("%s", strings.Replace(good, `"x"`, `"`+strings.Repeat("x", 4000)+`"`, 1)),
		"long error":       offer(`{"sealed":"%s","error":"%s"}`, q, strings.Repeat("x", 100)),
		"trailing bytes":   offer("%s", good) + "x",
		"too long":         offer("%s", good) + strings.Repeat(" ", exchange.MaxResponseBytes),
	} {
		if _, err := exchange.ParseOfferResponse([]byte(text), req); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseOfferRequest(f *testing.F) {
	b, _ := json.Marshal(exchange.OfferRequest{Title: htlcdash.TitleID{1}, Sealed: []htlcdash.Root{{3}}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := exchange.ParseOfferRequest(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		if n := len(r.Sealed); n == 0 || n > exchange.MaxBatch {
			t.Errorf("%d segments", n)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := exchange.ParseOfferRequest(again); err != nil || fmt.Sprint(back) != fmt.Sprint(r) {
			t.Errorf("came back as %v, %v", back, err)
		}
	})
}

func FuzzParseOfferResponse(f *testing.F) {
	req := exchange.OfferRequest{Sealed: []htlcdash.Root{{}, {}}}
	b, _ := json.Marshal(exchange.OfferResponse{Offers: []exchange.Offer{{Price: 1, Invoice: "x", Expires: start}, {Error: "busy"}}})
	f.Add(b)
	b, _ = json.Marshal(exchange.OfferResponse{Offers: []exchange.Offer{{Price: 1, Invoice: "x", Counter: -5, Prover: htlcdash.ProviderID{2}, Expires: start}, {Error: "busy"}}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := exchange.ParseOfferResponse(b, req)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		for _, o := range r.Offers {
			if o.Error == "" && (o.Price <= 0 || o.Invoice == "") {
				t.Errorf("offer without a price or an invoice: %+v", o)
			}
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := exchange.ParseOfferResponse(again, req); err != nil {
			t.Errorf("does not come back: %v", err)
		}
	})
}

// A question that was handed on says so, and who lies about it cannot make the
// count begin anew.
func TestHops(t *testing.T) {
	for sent, want := range map[uint8]uint8{0: 0, 1: 1, exchange.MaxHops: exchange.MaxHops, 255: exchange.MaxHops} {
		b, err := json.Marshal(exchange.OfferRequest{Title: htlcdash.TitleID{1}, Scheme: exchange.SchemeSalted, Sealed: []htlcdash.Root{{2}}, Hops: sent})
		if err != nil {
			t.Fatal(err)
		}
		req, err := exchange.ParseOfferRequest(b)
		if err != nil || req.Hops != want || sent == 0 && bytes.Contains(b, []byte("hops")) {
			t.Errorf("%d hops are read as %d: %v", sent, req.Hops, err)
		}
	}
	if n := exchange.Hops(exchange.WithHops(t.Context(), 3)); n != 3 || exchange.Hops(t.Context()) != 0 {
		t.Errorf("%d hops", n)
	}
}
