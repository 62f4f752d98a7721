package ledger_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// same compares purchases; what is empty may be nil.
func same(a, b ledger.Purchase) bool {
	if len(a.Promise) == 0 {
		a.Promise = b.Promise
	}
	return reflect.DeepEqual(a, b)
}

func TestParcelsAreKeptUntilTheyAreDelivered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := ledger.Open(path)
	must(t, err)
	first, second, other := purchase(alice), purchase(alice), purchase(htlcdash.TitleID{99})
	first.Parcel, first.Promise = []byte("one"), []byte("signed")
	second.Parcel, other.Parcel = []byte("two"), []byte("three")
	for _, p := range []ledger.Purchase{first, second, other, purchase(alice)} {
		must(t, l.Intend(t.Context(), p))
	}
	if err := l.Intend(t.Context(), first); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("intended twice: %v", err)
	}
	must(t, l.Close())

	l, err = ledger.Open(path)
	must(t, err)
	defer l.Close()
	got, err := l.Parcels(t.Context(), alice)
	must(t, err)
	if len(got) != 2 || !same(got[0], first) || string(got[1].Parcel) != "two" {
		t.Fatalf("parcels %v", got)
	}
	must(t, l.Delivered(t.Context(), first.Hash))
	must(t, l.Delivered(t.Context(), first.Hash)) // again
	if got, err = l.Parcels(t.Context(), alice); err != nil || len(got) != 1 || got[0].Hash != second.Hash {
		t.Errorf("parcels %v, %v", got, err)
	}
}

func TestLose(t *testing.T) {
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	must(t, err)
	defer l.Close()
	key := htlcdash.NewKey(random())
	p := purchase(alice)
	p.KeyHash = key.Hash()
	must(t, l.Intend(t.Context(), p))
	if err := l.Lose(t.Context(), p.Hash); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("lost before it was paid: %v", err)
	}
	must(t, l.Conclude(t.Context(), p.Hash, lightning.Payment{State: lightning.Paid, Amount: p.Amount}, key))
	if lost, err := l.Lost(t.Context(), &alice); err != nil || lost != 0 {
		t.Errorf("%v are lost, %v", lost, err)
	}
	must(t, l.Lose(t.Context(), p.Hash))
	if lost, err := l.Lost(t.Context(), &alice); err != nil || lost != p.Amount {
		t.Errorf("%v are lost, %v", lost, err)
	}
	must(t, l.Check(t.Context()))
}

// A preimage that gave no key is kept: it shows that the provider cheated.
func TestPreimageWithoutAKeyIsEvidence(t *testing.T) {
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	must(t, err)
	defer l.Close()
	preimage := lightning.RandomPreimage()
	cheated, honest, silent := purchase(alice), purchase(alice), purchase(alice)
	cheated.Hash = preimage.Hash()
	key := htlcdash.NewKey(random())
	honest.KeyHash = key.Hash()
	for _, p := range []ledger.Purchase{cheated, honest, silent} {
		must(t, l.Intend(t.Context(), p))
	}
	paid := lightning.Payment{State: lightning.Paid, Amount: 1000, Preimage: preimage}
	must(t, l.Conclude(t.Context(), cheated.Hash, paid, htlcdash.Key{}))
	must(t, l.Conclude(t.Context(), honest.Hash, paid, key))
	must(t, l.Conclude(t.Context(), silent.Hash, paid, htlcdash.Key{})) // not its preimage
	got := purchases(t, l, ledger.Filter{Paid: true})
	if len(got) != 3 || !got[0].Preimage.Opens(cheated.Hash) || !got[1].Preimage.IsZero() || !got[2].Preimage.IsZero() {
		t.Errorf("preimages %v", got)
	}
}
