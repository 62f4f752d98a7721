package ledger_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

func TestResales(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := ledger.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Millisecond)
	resale := func(n byte) ledger.Resale {
		return ledger.Resale{
			Hash: lightning.Hash{n}, Guest: [32]byte{7}, Counter: -int64(n), Title: htlcdash.TitleID{1}, Sealed: htlcdash.Root{n}, KeyHash: [32]byte{n, 1},
			Salt: htlcdash.Salt{n}, Amount: 2000, Most: 1500, Quote: []byte{n}, Expires: now.Add(time.Minute), Created: now,
		}
	}
	ctx := t.Context()
	if err := l.Resell(ctx, []ledger.Resale{resale(1), resale(2), resale(3)}); err != nil {
		t.Fatal(err)
	}
	// All or nothing: the fourth is not in the books either.
	if err := l.Resell(ctx, []ledger.Resale{resale(4), resale(2)}); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("a hash twice: %v", err)
	}
	if err := l.EndResale(ctx, lightning.Hash{1}, ledger.ResaleSettled, ""); err != nil {
		t.Fatal(err)
	}
	if err := l.EndResale(ctx, lightning.Hash{1}, ledger.ResaleCancelled, "again"); err != nil {
		t.Fatal(err)
	}
	if err := l.EndResale(ctx, lightning.Hash{2}, ledger.ResaleCancelled, "nobody paid"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = ledger.Open(path); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open, err := l.OpenResales(ctx)
	if err != nil || len(open) != 1 {
		t.Fatalf("%d open, %v", len(open), err)
	}
	want := resale(3)
	got := open[0]
	if got.Hash != want.Hash || got.Guest != want.Guest || got.Counter != -3 || got.Sealed != want.Sealed || got.KeyHash != want.KeyHash ||
		got.Salt != want.Salt || got.Amount != 2000 || got.Most != 1500 || string(got.Quote) != "\x03" || !got.Expires.Equal(want.Expires) || !got.Created.Equal(now) {
		t.Errorf("got %+v", got)
	}
	first, err := l.Resale(ctx, [32]byte{7}, -1)
	if err != nil || first.State != ledger.ResaleSettled || first.Reason != "" || first.Ended.IsZero() {
		t.Errorf("got %+v, %v", first, err)
	}
	if _, err := l.Resale(ctx, [32]byte{8}, -1); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("another's: %v", err)
	}
	if err := l.ForgetResales(ctx, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Resale(ctx, [32]byte{7}, -2); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("not forgotten: %v", err)
	}
	if _, err := l.Resale(ctx, [32]byte{7}, -1); err != nil {
		t.Errorf("a settled one was forgotten: %v", err)
	}
}

// What a key cost that was bought for a sale stands beside what it earned.
func TestCostOfASale(t *testing.T) {
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, title := t.Context(), htlcdash.TitleID{1}
	key := htlcdash.NewKey([32]byte{5})
	for i, h := range []lightning.Hash{{1}, {2}} { // the second is sold from the shelf
		if err := l.Offered(ctx, []ledger.Sale{{Hash: h, Title: title, Scheme: "salted", Amount: 2000, Created: time.Now()}}); err != nil {
			t.Fatal(err)
		}
		if err := l.Settle(ctx, ledger.FromNode, lightning.Receipt{Index: uint64(i + 1), Hash: h, Amount: 2000, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	prover := htlcdash.ProviderID{9}
	if err := l.Intend(ctx, ledger.Purchase{Hash: lightning.Hash{1}, Title: title, Provider: "up", Amount: 1500, MaxFee: 20, Prover: prover}); err != nil {
		t.Fatal(err)
	}
	cost := func(h lightning.Hash) lightning.Msat {
		s, err := l.Sale(ctx, h)
		if err != nil {
			t.Fatal(err)
		}
		return s.Cost
	}
	if c := cost(lightning.Hash{1}); c != 0 {
		t.Errorf("not paid yet, it cost %v", c)
	}
	if err := l.Conclude(ctx, lightning.Hash{1}, lightning.Payment{State: lightning.Paid, Amount: 1500, Fee: 3}, key); err != nil {
		t.Fatal(err)
	}
	if a, b := cost(lightning.Hash{1}), cost(lightning.Hash{2}); a != 1503 || b != 0 {
		t.Errorf("they cost %v and %v, want 1503 msat and nothing", a, b)
	}
	p, err := l.Purchase(ctx, lightning.Hash{1})
	if err != nil || p.State != lightning.Paid || p.Prover != prover {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := l.Purchase(ctx, lightning.Hash{2}); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("never bought: %v", err)
	}
}
