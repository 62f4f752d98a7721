package exchange_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

const mib = 1 << 20

func TestCarriageTerms(t *testing.T) {
	for _, c := range []struct {
		price   lightning.Msat
		longest int64
		step    int64
	}{
		{0, 5 * mib, 0},
		{1000, 16 << 10, 2 * mib}, // a satoshi's worth, and two blobs
		{1000, 3 * mib, 7 * mib},
		{10, 3 * mib, 106 * mib},
		{3, 16 << 10, 334 * mib},
		{5000, 64 * mib, 129 * mib},
		{1, 64 * mib, 1128 * mib},
	} {
		got := exchange.NewCarriage(c.price, c.longest)
		if got.Step != c.step || got.Price != c.price || got.Check() != nil {
			t.Errorf("%d msat, blobs of %d bytes: %+v, %v, want a step of %d", c.price, c.longest, got, got.Check(), c.step)
		}
		if c.price > 0 && got.Cost(got.Step-2*c.longest) < lightning.Sat {
			t.Errorf("%+v: payments below a satoshi", got)
		}
	}
	for _, bad := range []exchange.Carriage{
		{Price: -1, Step: mib},
		{Price: 0, Step: mib},
		{Price: exchange.MaxBytePrice + 1, Step: mib},
		{Price: 10, Step: 0},
		{Price: 10, Step: -mib},
		{Price: 10, Step: htlcdash.LeafSize - 1},
		{Price: 1000, Step: 131 * mib},
		{Price: math.MaxInt64, Step: math.MaxInt64},
	} {
		if err := bad.Check(); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestCarriageCostRoundsUp(t *testing.T) {
	c := exchange.Carriage{Price: 10, Step: mib}
	for n, want := range map[int64]lightning.Msat{-1: 0, 0: 0, 1: 1, mib / 10: 1, mib/10 + 1: 2, mib: 10, mib + 1: 11, 5 * mib: 50} {
		if got := c.Cost(n); got != want {
			t.Errorf("%d bytes: %v, want %v", n, got, want)
		}
	}
	most := exchange.Carriage{Price: exchange.MaxBytePrice}
	if got := most.Cost(1 << 40); got != lightning.Msat(1<<20)*exchange.MaxBytePrice {
		t.Errorf("a tebibyte costs %v", got)
	}
}

// Each payment has a hash of its own, which both sides find again.
func TestCarriageInvoices(t *testing.T) {
	node := newPayee(start)
	seen := map[lightning.Hash]string{}
	for _, c := range []struct {
		account byte
		number  uint32
		bytes   int64
	}{{1, 1, 5}, {1, 2, 5}, {1, 1, 6}, {2, 1, 5}} {
		var hash lightning.Hash
		for range 2 {
			bill, err := till(node).SellCarriage(t.Context(), [32]byte{c.account}, c.number, c.bytes, 700)
			if err != nil {
				t.Fatal(err)
			}
			if hash != (lightning.Hash{}) && bill.Hash != hash {
				t.Errorf("%+v has two hashes", c)
			}
			hash = bill.Hash
			if p := till(node).Secret.CarriagePreimage([32]byte{c.account}, c.number, c.bytes); !p.Opens(hash) {
				t.Errorf("%+v: the preimage is another one", c)
			}
		}
		if other, ok := seen[hash]; ok {
			t.Errorf("%+v has the hash of %s", c, other)
		}
		seen[hash] = fmt.Sprint(c)
	}
}

func TestCarriageBillsAreHeldAgainstTheTerms(t *testing.T) {
	node := newPayee(start)
	terms := exchange.Carriage{Price: 1000, Step: 4 * mib}
	req := exchange.CarriageRequest{Number: 3, Bytes: 2 * mib}
	for i, c := range []struct {
		name  string
		spoil func(*exchange.CarriageBill)
		price lightning.Msat
		bytes int64
		want  error
	}{
		{"as it is", func(*exchange.CarriageBill) {}, 2000, 2 * mib, nil},
		{"for less", func(*exchange.CarriageBill) {}, 1, 1, nil},
		{"cheaper", func(*exchange.CarriageBill) {}, 1500, 2 * mib, nil},
		{"dearer", func(*exchange.CarriageBill) {}, 2001, 2 * mib, exchange.ErrTerms},
		{"for more bytes", func(*exchange.CarriageBill) {}, 2000, 2*mib + 1, exchange.ErrTerms},
		{"another price than the invoice's", func(b *exchange.CarriageBill) { b.Price-- }, 2000, 2 * mib, exchange.ErrTerms},
		{"another hash", func(b *exchange.CarriageBill) { b.Hash[0]++ }, 2000, 2 * mib, exchange.ErrTerms},
		{"no invoice", func(b *exchange.CarriageBill) { b.Invoice = "" }, 2000, 2 * mib, exchange.ErrTerms},
		{"too old", func(b *exchange.CarriageBill) { b.Expires = start }, 2000, 2 * mib, exchange.ErrTerms},
		{"for nothing", func(b *exchange.CarriageBill) { b.Price = 0 }, 2000, 2 * mib, htlcdash.ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			bill, err := till(node).SellCarriage(t.Context(), [32]byte{byte(i)}, req.Number, c.bytes, c.price)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(&bill)
			b, _ := json.Marshal(bill)
			got, inv, err := exchange.ParseCarriageBill(b, req, terms, start)
			if !errors.Is(err, c.want) || c.want == nil && (inv.Amount != c.price || got.Bytes != c.bytes) {
				t.Errorf("got %+v, %v, want %v", got, err, c.want)
			}
		})
	}
	bill, inv, err := exchange.ParseCarriageBill([]byte(`{"owed_bytes":-7}`), req, terms, start)
	if err != nil || bill.Owed != -7 || inv.Bolt11 != "" {
		t.Errorf("a bill for nothing: %+v, %v", bill, err)
	}
}

func TestCarriageRequestsHideThePreimage(t *testing.T) {
	p := lightning.NewPreimage([32]byte{1, 2, 3, 4, 5, 6, 7})
	r := exchange.CarriageRequest{Number: 1, Bytes: 5, Preimage: p}
	if s := fmt.Sprintf("%v %+v %#v", r, r, r); strings.Contains(s, "01020304") || strings.Contains(s, "1, 2, 3, 4") {
		t.Errorf("it prints %s", s)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := exchange.ParseCarriageRequest(b)
	if err != nil || !got.Preimage.Opens(p.Hash()) || got.Number != 1 || got.Bytes != 5 {
		t.Errorf("%s is read as %+v, %v", b, got, err)
	}
	b = bytes.Replace(b, []byte("01020304"), []byte("0102030z"), 1)
	if _, err := exchange.ParseCarriageRequest(b); !errors.Is(err, htlcdash.ErrFormat) || strings.Contains(err.Error(), "0102030z") {
		t.Errorf("a bad preimage: %v", err)
	}
}

func FuzzParseCarriageRequest(f *testing.F) {
	f.Add([]byte(`{"number":1,"bytes":1048576}`))
	f.Add([]byte(`{"number":4294967295,"bytes":0,"preimage":"` + strings.Repeat("ab", 32) + `"}`))
	f.Add([]byte(`{"number":0,"bytes":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := exchange.ParseCarriageRequest(b)
		if err != nil {
			if !errors.Is(err, htlcdash.ErrFormat) {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		if r.Number == 0 || r.Bytes < 0 {
			t.Errorf("%s gives %+v", b, r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := exchange.ParseCarriageRequest(again); err != nil || got.Number != r.Number || got.Bytes != r.Bytes || !r.Preimage.IsZero() && !got.Preimage.Opens(r.Preimage.Hash()) {
			t.Errorf("%s becomes %+v, %v", again, got, err)
		}
	})
}

func FuzzParseCarriageBill(f *testing.F) {
	bill, err := till(newPayee(start)).SellCarriage(f.Context(), [32]byte{1}, 1, mib, 1000)
	if err != nil {
		f.Fatal(err)
	}
	b, _ := json.Marshal(bill)
	f.Add(b)
	f.Add([]byte(`{"owed_bytes":5}`))
	f.Add([]byte(`{"owed_bytes":5,"bytes":9223372036854775807,"price_msat":9223372036854775807}`))
	terms, req := exchange.Carriage{Price: 1000, Step: mib}, exchange.CarriageRequest{Number: 1, Bytes: mib}
	f.Fuzz(func(t *testing.T, b []byte) {
		bill, inv, err := exchange.ParseCarriageBill(b, req, terms, start.Add(time.Second))
		switch {
		case err == nil && (bill.Bytes < 0 || bill.Bytes > req.Bytes || inv.Amount > 1000 || bill.Bytes == 0 != (inv.Bolt11 == "")):
			t.Errorf("%s is taken: %+v", b, bill)
		case err != nil && !errors.Is(err, htlcdash.ErrFormat) && !errors.Is(err, exchange.ErrTerms):
			t.Errorf("error without a reason: %v", err)
		}
	})
}

// Within is the inverse of Cost.
func TestBytesWithinASum(t *testing.T) {
	for _, price := range []lightning.Msat{1, 7, 1000, 1<<20 + 1, exchange.MaxBytePrice} {
		c := exchange.Carriage{Price: price, Step: 1 << 30}
		for _, n := range []int64{0, 1, 16 << 10, 1<<20 - 1, 1 << 20, 1<<27 + 3} {
			for _, m := range []lightning.Msat{-1, 0, 1, 2, 999, 1000, 12_345, c.Cost(n) - 1, c.Cost(n), 1<<63 - 1} {
				got := c.Within(n, m)
				if got < 0 || got > n || got > 0 && c.Cost(got) > m || got < n && c.Cost(got+1) <= m {
					t.Errorf("%v a MiB, %d bytes, %v: %d bytes", price, n, m, got)
				}
			}
		}
	}
}
