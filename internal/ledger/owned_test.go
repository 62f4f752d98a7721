package ledger_test

import (
	"errors"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// What a key cost is all that was paid for it, also to who gave none.
func TestOwned(t *testing.T) {
	l, _ := fresh(t)
	ctx := t.Context()
	key := htlcdash.NewKey(random())
	cheat, good, other, unpaid := purchase(alice), purchase(alice), purchase(bob), purchase(bob)
	cheat.KeyHash, good.KeyHash = key.Hash(), key.Hash()
	good.Sealed = cheat.Sealed
	token, carried := purchase(bob), purchase(bob) // are no keys
	token.Representation, carried.Representation = ledger.Credentials, ledger.Carriage
	token.Signer, carried.Signer = htlcdash.ProviderID{}, htlcdash.ProviderID{}
	for _, p := range []ledger.Purchase{cheat, good, other, unpaid, token, carried} {
		must(t, l.Intend(ctx, p))
	}
	must(t, l.Conclude(ctx, cheat.Hash, paid(3), htlcdash.Key{}), l.Conclude(ctx, unpaid.Hash, failed, htlcdash.Key{}))
	seal := htlcdash.Seal{KeyHash: key.Hash()}
	if _, err := l.OwnedKey(ctx, seal); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("a key that nobody gave is owned: %v", err)
	}
	must(t, l.Conclude(ctx, good.Hash, paid(7), key), l.Conclude(ctx, other.Hash, paid(0), htlcdash.NewKey(random())))
	for _, p := range []ledger.Purchase{token, carried} {
		must(t, l.Conclude(ctx, p.Hash, paid(0), htlcdash.NewKey(random())))
	}
	one, err := l.OwnedKey(ctx, seal)
	must(t, err)
	if one.Cost != 2010 || one.KeyHash != key.Hash() || one.Sealed != good.Sealed || one.Bought.IsZero() {
		t.Errorf("owned: %+v", one)
	}
	all, err := l.Owned(ctx)
	must(t, err)
	var sum lightning.Msat
	for _, o := range all {
		sum += o.Cost
	}
	if len(all) != 2 || sum != 3010 {
		t.Errorf("%d keys for %v are owned, want 2 for 3010 msat", len(all), sum)
	}
	spent, err := l.SpentByTitle(ctx, time.Time{})
	must(t, err)
	if spent[alice] != 2010 || spent[bob] != 3000 || len(spent) != 2 {
		t.Errorf("spent by title: %v", spent)
	}
	if later, err := l.SpentByTitle(ctx, time.Now().Add(2*time.Hour)); err != nil || len(later) != 0 {
		t.Errorf("spent in the future: %v, %v", later, err)
	}
}
