package ledger_test

import (
	"path/filepath"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// What is paid for carriage is no key, and so none is lost; what a publisher calls
// by that name, and a provider has signed, is one.
func TestCarriageIsNoKey(t *testing.T) {
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	title := htlcdash.TitleID{7}
	for i, p := range []ledger.Purchase{
		{Representation: ledger.Carriage},
		{Representation: ledger.Carriage, Signer: htlcdash.ProviderID{1}},
		{Representation: "v1"},
	} {
		p.Hash, p.Title, p.Amount, p.Created = lightning.Hash{byte(i + 1)}, title, 1000, time.Now()
		if err := l.Intend(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		out := lightning.Payment{State: lightning.Paid, Amount: p.Amount, Fee: 5}
		for range 2 {
			if err := l.Conclude(t.Context(), p.Hash, out, htlcdash.Key{}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := l.Purchase(t.Context(), p.Hash)
		if err != nil || got.Lost != (i > 0) || got.IsCarriage() != (i == 0) || got.State != lightning.Paid {
			t.Errorf("payment %d: %+v, %v", i, got, err)
		}
	}
	if sum, err := l.Unsigned(t.Context(), title, ledger.Carriage); err != nil || sum != 1000 {
		t.Errorf("%v for carriage, %v", sum, err)
	}
	if sum, err := l.Unsigned(t.Context(), htlcdash.TitleID{8}, ledger.Carriage); err != nil || sum != 0 {
		t.Errorf("%v for carriage of another title, %v", sum, err)
	}
	if err := l.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
