package htlcdash_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"htlcdash"
)

func providerKey(t *testing.T, b byte) htlcdash.ProviderKey {
	t.Helper()
	k, err := htlcdash.NewProviderKey([32]byte{b})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestProviderSignature(t *testing.T) {
	key, other := providerKey(t, 1), providerKey(t, 2)
	msg := []byte("an offer")
	sig, err := key.Sign("htlcdash/test/v1", msg)
	if err != nil {
		t.Fatal(err)
	}
	flipped := sig
	flipped[40] ^= 1
	for _, tt := range []struct {
		name string
		id   htlcdash.ProviderID
		tag  string
		msg  string
		sig  [64]byte
		want error
	}{
		{"as signed", key.ID(), "htlcdash/test/v1", "an offer", sig, nil},
		{"another provider", other.ID(), "htlcdash/test/v1", "an offer", sig, htlcdash.ErrSignature},
		{"another kind", key.ID(), "htlcdash/test/v2", "an offer", sig, htlcdash.ErrSignature},
		{"another message", key.ID(), "htlcdash/test/v1", "an offes", sig, htlcdash.ErrSignature},
		{"a changed bit", key.ID(), "htlcdash/test/v1", "an offer", flipped, htlcdash.ErrSignature},
		{"no point of the curve", htlcdash.ProviderID{31: 5}, "htlcdash/test/v1", "an offer", sig, htlcdash.ErrSignature},
		{"no signature", key.ID(), "htlcdash/test/v1", "an offer", [64]byte{}, htlcdash.ErrSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.id.Verify(tt.tag, []byte(tt.msg), tt.sig); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
	again, err := key.Sign("htlcdash/test/v1", msg)
	if err != nil || again != sig {
		t.Errorf("another signature for the same message, %v", err)
	}
}

func TestProviderKeyIsBelowTheOrder(t *testing.T) {
	var ones [32]byte
	for i := range ones {
		ones[i] = 0xff
	}
	for name, b := range map[string][32]byte{"zero": {}, "above the order": ones} {
		if _, err := htlcdash.NewProviderKey(b); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProviderKeyDoesNotPrint(t *testing.T) {
	key := providerKey(t, 0xab)
	holder := struct{ hidden htlcdash.ProviderKey }{key}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", key)
	for _, s := range []string{fmt.Sprint(key), fmt.Sprintf("%+v %#v", holder, key.String()), log.String()} {
		if strings.Contains(s, "[171 0") || strings.Contains(strings.ToLower(s), "ab00") {
			t.Errorf("prints %s", s)
		}
	}
}
