package exchange_test

import (
	"testing"

	"htlcdash"
	"htlcdash/internal/exchange"
)

func TestProviderKeyComesFromTheSecret(t *testing.T) {
	a, b := exchange.NewSecret([32]byte{1}), exchange.NewSecret([32]byte{2})
	if a.ProviderKey().ID() != exchange.NewSecret([32]byte{1}).ProviderKey().ID() {
		t.Error("the same secret gives another key")
	}
	if a.ProviderKey().ID() == b.ProviderKey().ID() {
		t.Error("two secrets give one key")
	}
	want, err := htlcdash.NewProviderKey([32]byte(hmacOf(append([]byte{1}, make([]byte, 31)...), []byte("htlcdash/provider-key/v1"), []byte{0})))
	if err != nil || a.ProviderKey().ID() != want.ID() {
		t.Errorf("not the derivation of spec/05, %v", err)
	}
}
