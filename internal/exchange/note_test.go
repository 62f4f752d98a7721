package exchange_test

import (
	"bytes"
	"errors"
	"testing"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// Whatever is sold, its invoice's note leads to the preimage again, and says
// nothing to who has another secret.
func TestNotesLeadToPreimages(t *testing.T) {
	node, secret, other := newPayee(start), exchange.NewSecret([32]byte{1, 2, 3}), exchange.NewSecret([32]byte{4})
	seal, key := segment(t, "one", 2500)
	keys := func(q htlcdash.Root) (htlcdash.Key, error) {
		if q != seal.Sealed {
			return htlcdash.Key{}, htlcdash.ErrNotFound
		}
		return key, nil
	}
	for _, sale := range []struct {
		name   string
		make   func() error
		scheme string
	}{
		{"salted", func() error {
			_, err := exchange.Salted{}.Sell(t.Context(), till(node), salter(9), in(seal), key, 2400, 0, start)
			return err
		}, exchange.SchemeSalted},
		{"prepaid", func() error {
			_, err := prepaid(node).Invoice(t.Context(), seal.Sealed, 2400)
			return err
		}, exchange.SchemePrepaid},
		{"tokens", func() error {
			_, err := till(node).SellTokens(t.Context(), []byte("blinded"), 2400, start)
			return err
		}, ""},
		{"keyed", func() error {
			cut := exchange.Cut{File: htlcdash.Blob{Root: htlcdash.Root{1}, Length: 1 << 20}, Leaves: 1}
			_, err := exchange.Keyed{}.Sell(t.Context(), till(node), keyer{}, cut, 0, exchange.Nonce{9}, 77, start)
			return err
		}, ""},
		{"carriage", func() error {
			_, err := till(node).SellCarriage(t.Context(), [32]byte{3}, 7, 1<<20, 2400)
			return err
		}, ""},
	} {
		t.Run(sale.name, func(t *testing.T) {
			if err := sale.make(); err != nil {
				t.Fatal(err)
			}
			h, note := node.last.Hash(), node.note
			if len(note) == 0 || len(note) > lightning.MaxNote {
				t.Fatalf("a note of %d bytes", len(note))
			}
			got, err := secret.Preimage(note, keys)
			if err != nil || !got.Opens(h) {
				t.Errorf("got %v, %v", got, err)
			}
			q, scheme, ok := exchange.Noted(note)
			if ok != (sale.scheme != "") || ok && (q != seal.Sealed || scheme != sale.scheme) {
				t.Errorf("it sells %v by %q, %v", q, scheme, ok)
			}
			if sale.name == "prepaid" || sale.name == "tokens" || sale.name == "carriage" { // else the secret is another one
				if got, err := other.Preimage(note, keys); err != nil || got.Opens(h) {
					t.Errorf("another's secret: %v, %v", got, err)
				}
			}
			for _, bad := range [][]byte{note[:len(note)-1], append(bytes.Clone(note), 0), append([]byte{9}, note[1:]...)} {
				if _, err := secret.Preimage(bad, keys); !errors.Is(err, exchange.ErrNote) {
					t.Errorf("%x: got %v", bad, err)
				}
			}
		})
	}
	if _, err := secret.Preimage(nil, keys); !errors.Is(err, exchange.ErrNote) {
		t.Errorf("no note: got %v", err)
	}
	foreign := append([]byte{1}, make([]byte, 64)...)
	if _, err := secret.Preimage(foreign, keys); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("a segment that is not here: got %v", err)
	}
}

func TestPrepaidPreimagesAreFresh(t *testing.T) {
	node := newPayee(start)
	seal, _ := segment(t, "one", 2500)
	seen := map[lightning.Hash]bool{}
	for range 10 {
		inv, err := prepaid(node).Invoice(t.Context(), seal.Sealed, 2400)
		if err != nil || seen[inv.Hash] {
			t.Fatalf("hash %v again, or %v", inv.Hash, err)
		}
		seen[inv.Hash] = true
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte{1})
	f.Add(append([]byte{1}, make([]byte, 64)...))
	f.Add(append([]byte{2}, make([]byte, 48)...))
	f.Add(append([]byte{3}, make([]byte, 40)...))
	f.Add(append([]byte{5}, make([]byte, 44)...))
	secret := exchange.NewSecret([32]byte{1})
	f.Fuzz(func(t *testing.T, note []byte) {
		p, err := secret.Preimage(note, func(htlcdash.Root) (htlcdash.Key, error) { return htlcdash.NewKey([32]byte{1}), nil })
		if err == nil == p.IsZero() {
			t.Fatalf("%x: %v, %v", note, p, err)
		}
		_, _, _ = exchange.Noted(note)
	})
}
