package exchange_test

import (
	"errors"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// promised makes an honest salted offer and the provider's signature over it.
func promised(t *testing.T) (key htlcdash.ProviderKey, title htlcdash.TitleID, seal htlcdash.Seal, o exchange.Offer, sig [64]byte, preimage lightning.Preimage) {
	t.Helper()
	node := newPayee(start)
	seal, content := segment(t, "promised", 2500)
	o, err := exchange.Salted{}.Sell(t.Context(), till(node), salter(1), in(seal), content, 2400, 0, start)
	if err != nil {
		t.Fatal(err)
	}
	return till(node).Key, in(seal).Title, seal, o, o.Signature, node.last
}

func TestOfferSignatureCoversTheOffer(t *testing.T) {
	key, title, seal, offer, sig, _ := promised(t)
	other := exchange.NewSecret([32]byte{8}).ProviderKey()
	for _, tt := range []struct {
		name   string
		change func(id *htlcdash.ProviderID, title *htlcdash.TitleID, seal *htlcdash.Seal, o *exchange.Offer)
		want   error
	}{
		{"as signed", func(*htlcdash.ProviderID, *htlcdash.TitleID, *htlcdash.Seal, *exchange.Offer) {}, nil},
		{"provider", func(id *htlcdash.ProviderID, _ *htlcdash.TitleID, _ *htlcdash.Seal, _ *exchange.Offer) {
			*id = other.ID()
		}, htlcdash.ErrSignature},
		{"title", func(_ *htlcdash.ProviderID, t *htlcdash.TitleID, _ *htlcdash.Seal, _ *exchange.Offer) { t[0]++ }, htlcdash.ErrSignature},
		{"sealed", func(_ *htlcdash.ProviderID, _ *htlcdash.TitleID, s *htlcdash.Seal, _ *exchange.Offer) { s.Sealed[0]++ }, htlcdash.ErrSignature},
		{"key hash", func(_ *htlcdash.ProviderID, _ *htlcdash.TitleID, s *htlcdash.Seal, _ *exchange.Offer) { s.KeyHash[0]++ }, htlcdash.ErrSignature},
		{"price", func(_ *htlcdash.ProviderID, _ *htlcdash.TitleID, _ *htlcdash.Seal, o *exchange.Offer) { o.Price++ }, htlcdash.ErrSignature},
		{"hash", func(_ *htlcdash.ProviderID, _ *htlcdash.TitleID, _ *htlcdash.Seal, o *exchange.Offer) { o.Hash[0]++ }, htlcdash.ErrSignature},
		{"salt", func(_ *htlcdash.ProviderID, _ *htlcdash.TitleID, _ *htlcdash.Seal, o *exchange.Offer) { o.Salt[0]++ }, htlcdash.ErrSignature},
		{"expiry", func(_ *htlcdash.ProviderID, _ *htlcdash.TitleID, _ *htlcdash.Seal, o *exchange.Offer) {
			o.Expires = o.Expires.Add(time.Second)
		}, htlcdash.ErrSignature},
		{"prover", func(_ *htlcdash.ProviderID, _ *htlcdash.TitleID, _ *htlcdash.Seal, o *exchange.Offer) {
			o.Prover = other.ID()
		}, htlcdash.ErrSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, title, seal, o := key.ID(), title, seal, offer
			tt.change(&id, &title, &seal, &o)
			if err := exchange.VerifyOffer(id, title, seal, o, sig); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestPromiseIsKeptOrBroken(t *testing.T) {
	_, title, seal, o, _, preimage := promised(t)
	p := exchange.PromiseOf(title, seal, o)
	lie := p
	lie.KeyHash[0]++
	resold := lie
	resold.Prover[0]++
	for _, tt := range []struct {
		name     string
		p        exchange.Promise
		preimage lightning.Preimage
		want     error
	}{
		{"honest", p, preimage, nil},
		{"another key was promised", lie, preimage, exchange.ErrCheated},
		{"another preimage", lie, lightning.NewPreimage([32]byte{1}), exchange.ErrTerms},
		{"passed on, which promises no key", resold, preimage, exchange.ErrTerms},
		{"no preimage", lie, lightning.Preimage{}, exchange.ErrTerms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.p.Kept(tt.preimage); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func FuzzParsePromise(f *testing.F) {
	seal, _ := segment(f, "promised", 2500)
	p := exchange.PromiseOf(htlcdash.TitleID{1}, seal, exchange.Offer{Price: 1, Expires: start})
	f.Add(p.Encode())
	f.Add(append(p.Encode(), 0))
	f.Add([]byte{0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := exchange.ParsePromise(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		if string(p.Encode()) != string(b) {
			t.Error("read in one way, written in another")
		}
	})
}
