package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// claim is of an HTLC on a channel whose number is above what SQLite counts to.
func claim(id uint64) lightning.Claim {
	return lightning.Claim{
		HTLC: lightning.HTLC{Channel: 16_000_000 << 40, ID: id}, Hash: random(), Amount: 1000,
		Note: []byte("note"), At: time.UnixMilli(1_700_000_000_123),
	}
}

func TestClaims(t *testing.T) {
	l, path := fresh(t)
	ctx := t.Context()
	taken, failed, open1 := claim(1), claim(2), claim(3)
	for _, c := range []lightning.Claim{taken, failed, open1, taken} {
		must(t, l.Claim(ctx, c))
	}
	other := claim(4)
	other.Hash = taken.Hash
	moved := claim(3) // another payment, says another node
	for _, c := range []lightning.Claim{other, moved} {
		if err := l.Claim(ctx, c); !errors.Is(err, lightning.ErrHashUsed) {
			t.Errorf("claimed %v twice: %v", c.HTLC, err)
		}
	}
	at := time.UnixMilli(1_700_000_005_000)
	must(t, l.Final(ctx, taken.HTLC, true, at), l.Final(ctx, taken.HTLC, true, at), l.Final(ctx, taken.HTLC, false, at))
	must(t, l.Final(ctx, failed.HTLC, false, at), l.Final(ctx, lightning.HTLC{ID: 9}, true, at))
	must(t, l.Close())

	l = open(t, path)
	left, err := l.Claims(ctx)
	must(t, err)
	if len(left) != 1 || fmt.Sprint(left[0]) != fmt.Sprint(open1) {
		t.Errorf("open claims %+v, want %+v", left, open1)
	}
	got, err := l.Receipts(ctx, 0, 10)
	must(t, err)
	if len(got) != 1 || got[0].Index != 1 || got[0].Hash != taken.Hash || got[0].Amount != 1000 ||
		!got[0].At.Equal(at) || !bytes.Equal(got[0].Note, taken.Note) {
		t.Errorf("receipts %+v", got)
	}
	if got, err := l.Receipts(ctx, 1, 10); err != nil || len(got) != 0 {
		t.Errorf("after the last: %+v, %v", got, err)
	}
	other.Hash = failed.Hash // may be paid anew
	must(t, l.Claim(ctx, other))
	if err := l.Claim(ctx, lightning.Claim{HTLC: lightning.HTLC{ID: 7}, Hash: taken.Hash}); !errors.Is(err, lightning.ErrHashUsed) {
		t.Errorf("paid twice: %v", err)
	}
}

// Receipts are numbered without gaps, however many become final at once.
func TestReceiptsAreInOrder(t *testing.T) {
	l, _ := fresh(t)
	const n = 100
	var wg sync.WaitGroup
	for i := range uint64(n) {
		wg.Go(func() {
			c := claim(i)
			if err := errors.Join(l.Claim(t.Context(), c), l.Final(t.Context(), c.HTLC, true, time.Now())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[lightning.Hash]bool{}
	for after := uint64(0); after < n; {
		page, err := l.Receipts(t.Context(), after, 7)
		must(t, err)
		if len(page) == 0 {
			t.Fatalf("nothing after %d", after)
		}
		for _, r := range page {
			if r.Index != after+1 || seen[r.Hash] {
				t.Fatalf("receipt %d of %v follows %d", r.Index, r.Hash, after)
			}
			after, seen[r.Hash] = r.Index, true
		}
	}
}

// What is forgotten was booked; the newest stays, for its number.
func TestForgetClaims(t *testing.T) {
	l, _ := fresh(t)
	ctx := t.Context()
	for i := range uint64(3) {
		c := claim(i)
		must(t, l.Claim(ctx, c), l.Final(ctx, c.HTLC, true, time.UnixMilli(1000)))
	}
	count := func() int {
		all, err := l.Receipts(ctx, 0, 10)
		must(t, err)
		return len(all)
	}
	must(t, l.Settle(ctx, ledger.FromNode, lightning.Receipt{Index: 50}), l.Forget(ctx, time.Now()))
	if n := count(); n != 3 {
		t.Errorf("%d receipts left, none was booked", n)
	}
	must(t, l.Settle(ctx, ledger.FromTill, lightning.Receipt{Index: 2}), l.Forget(ctx, time.UnixMilli(1000)))
	if n := count(); n != 3 {
		t.Errorf("%d receipts left, none is old", n)
	}
	must(t, l.Settle(ctx, ledger.FromTill, lightning.Receipt{Index: 3}), l.Forget(ctx, time.Now()))
	if n := count(); n != 1 {
		t.Errorf("%d receipts left, want the newest", n)
	}
	c := claim(9)
	must(t, l.Claim(ctx, c), l.Final(ctx, c.HTLC, true, time.Now()))
	if got, err := l.Receipts(ctx, 3, 10); err != nil || len(got) != 1 || got[0].Index != 4 {
		t.Errorf("got %+v, %v, want receipt 4", got, err)
	}
}
