package town

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// An Account is what all books together say.
type Account struct {
	Keys       int            // that were bought, by viewers
	Payments   int            // that succeeded, of viewers and relays
	Spent      lightning.Msat // by viewers
	Resold     lightning.Msat // paid by relays upstream
	Income     lightning.Msat // of shops
	Fees       lightning.Msat // of routes
	Unsettled  int            // payments whose outcome the books do not know
	NotGot     int            // paid, without a key that opens its segments
	Twice      int            // keys that one buyer has paid for more than once
	Late       int            // payments whose outcome took more than lateAfter
	Complaints int            // files that say that somebody cheated
}

// lateAfter is how long a payment may take and not count as late.
const lateAfter = 5 * time.Second

// Audit reads all books, opens with every key that was paid for all sealed segments
// that it is for, and holds each resident's books against its node. The error
// says all that does not add up. Nothing may be under way: what is, shows as a
// difference, or as Unsettled.
func (t *Town) Audit(ctx context.Context, film *title.Title, folder string) (a Account, err error) {
	segments := map[[32]byte][]htlcdash.Segment{}
	for _, rep := range film.Manifest.Representations() {
		list, err := film.Segments(ctx, rep.ID)
		if err != nil {
			return a, err
		}
		for _, seg := range list {
			segments[seg.KeyHash] = append(segments[seg.KeyHash], seg)
		}
	}
	errs := []error{t.network.Check()}
	for _, r := range t.all() {
		if err := r.audit(ctx, &a, segments, folder); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.Name, err))
		}
	}
	if a.Spent+a.Resold != a.Income {
		errs = append(errs, fmt.Errorf("viewers paid %v and relays %v, but shops got %v", a.Spent, a.Resold, a.Income))
	}
	return a, errors.Join(errs...)
}

func (r *Resident) audit(ctx context.Context, a *Account, segments map[[32]byte][]htlcdash.Segment, folder string) error {
	books, err := r.openBooks()
	if books == nil || err != nil {
		return err
	}
	defer books.Close()
	errs := []error{books.Check(ctx)}
	out, fees, err := r.bought(ctx, a, books, segments, folder)
	errs = append(errs, err)
	var in lightning.Msat
	sold := map[lightning.Hash]bool{}
	for s, err := range books.Sales(ctx, ledger.Filter{}) {
		if err != nil {
			return err
		}
		if sold[s.Hash] || s.Received != s.Amount {
			errs = append(errs, fmt.Errorf("sale %v of %v brought %v", s.Hash, s.Amount, s.Received))
		}
		sold[s.Hash] = true
		in += s.Received
	}
	a.Income, a.Fees = a.Income+in, a.Fees+fees
	if r.sells {
		a.Resold += out
	} else {
		a.Spent += out
	}
	gain, err := r.Money(ctx)
	if err == nil && gain != in-out-fees {
		err = fmt.Errorf("the books say %v came and %v went, with %v of fees, but the node has gained %v", in, out, fees, gain)
	}
	complaints, _ := filepath.Glob(filepath.Join(r.Folder, "complaints", "*"))
	a.Complaints += len(complaints)
	return errors.Join(append(errs, err)...)
}

// bought counts the payments in a buyer's books.
func (r *Resident) bought(ctx context.Context, a *Account, books *ledger.Ledger, segments map[[32]byte][]htlcdash.Segment, folder string) (out, fees lightning.Msat, _ error) {
	var errs []error
	keys := map[[32]byte]int{}
	for p, err := range books.Purchases(ctx, ledger.Filter{}) {
		if err != nil {
			return out, fees, err
		}
		switch p.State {
		case lightning.Unknown:
			a.Unsettled++
			errs = append(errs, fmt.Errorf("payment %v to %s is unsettled", p.Hash, p.Provider))
		case lightning.Paid:
			a.Payments++
			out, fees = out+p.Amount, fees+p.Fee
			if p.Settled.Sub(p.Created) > lateAfter {
				a.Late++
			}
			if keys[p.KeyHash]++; keys[p.KeyHash] == 2 {
				a.Twice++
				errs = append(errs, fmt.Errorf("segment %d of %s was paid for twice", p.Index, p.Representation))
			}
			if err := opens(ctx, books, p, segments, folder); err != nil {
				a.NotGot++
				errs = append(errs, fmt.Errorf("payment %v to %s for segment %d of %s: %w", p.Hash, p.Provider, p.Index, p.Representation, err))
			}
		}
	}
	if !r.sells {
		a.Keys += len(keys)
	}
	return out, fees, errors.Join(errs...)
}

// opens reports why what was paid for is not what was got.
func opens(ctx context.Context, books *ledger.Ledger, p ledger.Purchase, segments map[[32]byte][]htlcdash.Segment, folder string) error {
	group := segments[p.KeyHash]
	if len(group) == 0 || p.Lost {
		return fmt.Errorf("lost: %v, for %d segments of the title", p.Lost, len(group))
	}
	for _, seg := range group {
		key, err := books.Key(ctx, seg.Seal)
		if err != nil {
			return err
		}
		sealed, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(htlcdash.SealedPath(seg.Sealed))))
		if err != nil {
			return err
		}
		if _, err := seg.Open(key, sealed); err != nil {
			return err
		}
	}
	return nil
}

// openBooks returns nil if there are none.
func (r *Resident) openBooks() (*ledger.Ledger, error) {
	if r.books == "" {
		return nil, nil
	}
	if _, err := os.Stat(r.books); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it never came to anything
	}
	return ledger.OpenReader(r.books)
}
