package seller_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/seller"
	"htlcdash/lightning"
)

// bytePrice makes a leaf cost a satoshi.
const bytePrice = 64 * lightning.Sat

// carrier opens a shop that takes money for sealed bytes, with so many leaves on
// credit.
func carrier(t testing.TB, leaves int64, change func(*seller.Config)) *shop {
	t.Helper()
	return open(t, func(c *seller.Config) {
		c.BytePrice, c.ByteStep = bytePrice, leaves*htlcdash.LeafSize
		if change != nil {
			change(c)
		}
	})
}

// fetch asks for sealed bytes as the holder of a credential.
func (s *shop) fetch(t testing.TB, c credential.Credential, seg htlcdash.Segment, header ...string) answer {
	t.Helper()
	path := "/" + htlcdash.SealedPath(seg.Sealed)
	return s.get(t, path, append(header, "Authorization", c.Authorization(http.MethodGet, path, nil, time.Now()))...)
}

// bill asks for a bill for at most n bytes, or shows that one was paid.
func (s *shop) bill(t testing.TB, c credential.Credential, req exchange.CarriageRequest) (exchange.CarriageBill, lightning.Invoice) {
	t.Helper()
	a := s.post(t, c, "/v1/carriage", req)
	if a.StatusCode != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	bill, inv, err := exchange.ParseCarriageBill(a.body, req, exchange.Carriage{Price: bytePrice, Step: 1 << 30}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return bill, inv
}

// pay pays for what is owed and returns the preimage.
func (s *shop) pay(t testing.TB, c credential.Credential, number uint32, want int64) lightning.Preimage {
	t.Helper()
	bill, inv := s.bill(t, c, exchange.CarriageRequest{Number: number, Bytes: 1 << 30})
	if bill.Bytes != want || bill.Owed != want || inv.Amount != lightning.Msat(want)*bytePrice/(1<<20) {
		t.Fatalf("a bill for %d bytes, %v; %d owed, want %d", bill.Bytes, inv.Amount, bill.Owed, want)
	}
	paid, err := s.viewer.Pay(t.Context(), inv, 0)
	if err != nil {
		t.Fatal(err)
	}
	return paid.Preimage
}

// lengthOf is the sealed length of a segment.
func lengthOf(seg htlcdash.Segment) int64 { return htlcdash.SealedLength(seg.Length) }

// booked waits until the books have so much for carriage.
func (s *shop) booked(t testing.TB, want lightning.Msat) seller.Report {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		r, err := s.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Carriage >= want || time.Now().After(deadline) {
			if r.Carriage != want {
				t.Fatalf("%v for carriage in the books, want %v", r.Carriage, want)
			}
			return r
		}
	}
}

// credited waits until nothing is owed: the account hears of a receipt after the books.
func (s *shop) credited(t testing.TB, c credential.Credential) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1 << 31}) // for nothing
		if bill.Owed == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are owed still", bill.Owed)
		}
	}
}

func TestBytesArePaidAfterTheyCame(t *testing.T) {
	s := carrier(t, 2, nil)
	segs := s.title.Segments(t, "a0") // one leaf each
	c := s.guest(t)
	var info struct{ Carriage exchange.Carriage }
	s.get(t, "/v1/provider").json(t, &info)
	if info.Carriage != (exchange.Carriage{Price: bytePrice, Step: 2 * htlcdash.LeafSize}) {
		t.Errorf("it says %+v", info.Carriage)
	}
	for i := range 2 {
		a := s.fetch(t, c, segs[i])
		if a.StatusCode != http.StatusOK || !bytes.Equal(a.body, s.title.Sealed(t, segs[i])) || !strings.HasPrefix(a.Header.Get("Cache-Control"), "private") {
			t.Fatalf("segment %d on credit: %s", i, a.Status)
		}
	}
	owed := lengthOf(segs[0]) + lengthOf(segs[1])
	for range 2 { // what is refused does not count
		a := s.fetch(t, c, segs[2])
		want := fmt.Sprintf(`"carriage":{"owed_bytes":%d,"price_msat_per_mib":%d,"step":%d,"url":"/v1/carriage"}`, owed, int64(bytePrice), 2*htlcdash.LeafSize)
		if a.StatusCode != http.StatusPaymentRequired || !strings.Contains(string(a.body), want) {
			t.Fatalf("beyond the step: %s: %s, want %s", a.Status, a.body, want)
		}
	}
	preimage := s.pay(t, c, 1, owed)
	for range 3 { // counts once, as often as it is shown
		if bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1, Preimage: preimage}); bill.Owed != 0 {
			t.Errorf("%d bytes are owed after the payment was shown", bill.Owed)
		}
	}
	report := s.booked(t, 2*lightning.Sat) // and not again with the receipt
	if bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 2, Bytes: 1 << 30}); bill.Owed != 0 || bill.Bytes != 0 {
		t.Errorf("after the receipt: %+v", bill)
	}
	if report.Sales != 0 || report.Earned != 2*lightning.Sat || report.Titles[0].Carriage != 2*lightning.Sat || report.Titles[0].Earned != 0 ||
		report.Recent[0].Scheme != exchange.SchemeCarriage || report.BytePrice != bytePrice {
		t.Errorf("report %+v", report)
	}
	if a := s.fetch(t, c, segs[2]); a.StatusCode != http.StatusOK {
		t.Errorf("once paid: %s", a.Status)
	}
	if err := s.books.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// The receipt alone is enough, for wallets that give no preimage.
func TestReceiptsPayForBytes(t *testing.T) {
	s := carrier(t, 1, nil)
	segs := s.title.Segments(t, "a0")
	c := s.guest(t)
	s.fetch(t, c, segs[0])
	s.pay(t, c, 1, lengthOf(segs[0]))
	s.credited(t, c)
	s.booked(t, lightning.Sat)
	if a := s.fetch(t, c, segs[1]); a.StatusCode != http.StatusOK {
		t.Errorf("once the receipt came: %s: %s", a.Status, a.body)
	}
}

func TestBillsAreTheSameWhenAskedAgain(t *testing.T) {
	s := carrier(t, 4, nil)
	segs := s.title.Segments(t, "a0")
	c := s.guest(t)
	if bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1, Bytes: 5}); bill.Bytes != 0 || bill.Owed != 0 {
		t.Errorf("a bill for nothing: %+v", bill)
	}
	s.fetch(t, c, segs[0])
	first, inv := s.bill(t, c, exchange.CarriageRequest{Number: 1, Bytes: 1 << 30})
	s.fetch(t, c, segs[1])
	again, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1, Bytes: 1 << 31})
	if again.Invoice != first.Invoice || again.Bytes != first.Bytes || first.Bytes == 0 {
		t.Errorf("number 1: %+v, then %+v", first, again)
	}
	other, second := s.bill(t, c, exchange.CarriageRequest{Number: 7, Bytes: 5})
	if other.Hash == first.Hash || other.Bytes != 5 {
		t.Errorf("number 7: %+v", other)
	}
	if old, _ := s.bill(t, c, exchange.CarriageRequest{Number: 3, Bytes: 5}); old.Bytes != 0 {
		t.Errorf("a number below the last: %+v", old)
	}
	// Both are paid: nothing of it is lost.
	for _, i := range []lightning.Invoice{inv, second} {
		paid, err := s.viewer.Pay(t.Context(), i, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.bill(t, c, exchange.CarriageRequest{Number: 1, Preimage: paid.Preimage})
	}
	bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1, Bytes: 1 << 30}) // paid: no invoice for it
	if want := lengthOf(segs[1]) - 5; bill.Owed != want || bill.Bytes != 0 {
		t.Errorf("after both: %+v, want %d owed", bill, want)
	}
	n := 0
	for ; n < 20; n++ {
		if a := s.post(t, c, "/v1/carriage", exchange.CarriageRequest{Number: 100 + uint32(n), Bytes: 1}); a.StatusCode != http.StatusOK {
			wantRefused(t, a, http.StatusTooManyRequests, "bills")
			break
		}
	}
	if n > 8 {
		t.Errorf("%d bills that can be paid", n)
	}
}

// Blobs longer than a step are fetched by ranges; what is not sent is not owed.
func TestRangesOnCredit(t *testing.T) {
	s := carrier(t, 1, nil)
	var long htlcdash.Segment
	for _, seg := range s.title.Segments(t, "v1") {
		if lengthOf(seg) > lengthOf(long) {
			long = seg
		}
	}
	const leaf = htlcdash.LeafSize
	if lengthOf(long) < 2*leaf {
		t.Fatalf("the longest blob has %d bytes", lengthOf(long))
	}
	c, etag := s.guest(t), `"`+long.Sealed.String()+`"`
	steps := []struct {
		header []string
		status int
		owed   int64
	}{
		{nil, http.StatusPaymentRequired, 0},
		{[]string{"If-None-Match", etag, "Range", "bytes=0-9"}, http.StatusNotModified, 0},
		{[]string{"Range", "bytes=99999999-"}, http.StatusRequestedRangeNotSatisfiable, 0},
		{[]string{"Range", fmt.Sprintf("bytes=0-%d", leaf)}, http.StatusPaymentRequired, 0},
		{[]string{"Range", "bytes=0-99"}, http.StatusPartialContent, 100},
		{[]string{"Range", "bytes=-100"}, http.StatusPartialContent, 200},
		{[]string{"Range", "bytes=0-99,200-299,5-"}, http.StatusPartialContent, 300},
		{[]string{"Range", "bytes=10-19", "If-Range", etag}, http.StatusPartialContent, 310},
		{[]string{"Range", "bytes=10-19", "If-Range", `"other"`}, http.StatusPaymentRequired, 310},
		{[]string{"Range", fmt.Sprintf("bytes=0-%d", leaf-311)}, http.StatusPartialContent, leaf},
		{[]string{"Range", "bytes=0-0"}, http.StatusPaymentRequired, leaf},
	}
	for _, step := range steps {
		a := s.fetch(t, c, long, step.header...)
		bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1})
		if a.StatusCode != step.status || bill.Owed != step.owed {
			t.Errorf("%v: %s, %d owed; want %d and %d", step.header, a.Status, bill.Owed, step.status, step.owed)
		}
	}
	path := "/" + htlcdash.SealedPath(long.Sealed)
	if a := s.do(t, http.MethodHead, path, ""); a.StatusCode != http.StatusOK {
		t.Errorf("HEAD: %s", a.Status)
	}
	wantRefused(t, s.get(t, path), http.StatusUnauthorized, "a credential is needed")
}

// However many ask at once on one account, no more than a step is owed; and a
// credential that pays nothing gets no more than that, ever.
func TestManyAtOnceOnOneAccount(t *testing.T) {
	s := carrier(t, 3, nil)
	segs := s.title.Segments(t, "a0")
	c := s.guest(t)
	var got atomic.Int64
	var work sync.WaitGroup
	for i := range 40 {
		work.Go(func() {
			a := s.fetch(t, c, segs[i%len(segs)])
			switch a.StatusCode {
			case http.StatusOK:
				got.Add(int64(len(a.body)))
			case http.StatusPaymentRequired:
			default:
				t.Errorf("%s: %s", a.Status, a.body)
			}
		})
	}
	work.Wait()
	if n := got.Load(); n != 3*htlcdash.LeafSize {
		t.Errorf("%d bytes without a payment, want a step of %d", n, 3*htlcdash.LeafSize)
	}
}

// An account is paid step after step, as long as the film lasts.
func TestManyStepsOnOneAccount(t *testing.T) {
	s := carrier(t, 1, nil)
	seg, c := s.title.Segments(t, "a0")[0], s.guest(t)
	for i := range uint32(30) {
		if a := s.fetch(t, c, seg); a.StatusCode != http.StatusOK {
			t.Fatalf("step %d: %s: %s", i, a.Status, a.body)
		}
		s.bill(t, c, exchange.CarriageRequest{Number: i + 1, Preimage: s.pay(t, c, i+1, htlcdash.LeafSize)})
	}
	s.booked(t, 30*lightning.Sat)
}

// One payment shown by many at once, while its receipt comes, counts once.
func TestNoDoubleCredit(t *testing.T) {
	s := carrier(t, 2, nil)
	segs := s.title.Segments(t, "a0")
	c := s.guest(t)
	s.fetch(t, c, segs[0])
	s.fetch(t, c, segs[1])
	preimage := s.pay(t, c, 1, 2*htlcdash.LeafSize)
	var work sync.WaitGroup
	for range 16 {
		work.Go(func() { s.bill(t, c, exchange.CarriageRequest{Number: 1, Preimage: preimage}) })
	}
	work.Wait()
	s.booked(t, 2*lightning.Sat)
	bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1, Preimage: preimage})
	if bill.Owed != 0 {
		t.Errorf("%d owed, want 0", bill.Owed)
	}
	// Nor does it count for another credential.
	other := s.guest(t)
	s.fetch(t, other, segs[0])
	if bill, _ := s.bill(t, other, exchange.CarriageRequest{Number: 1, Preimage: preimage}); bill.Owed != htlcdash.LeafSize {
		t.Errorf("another's payment paid: %d owed", bill.Owed)
	}
}

// A restart forgets what was owed, and what was paid before it does not count again.
func TestAccountsBeginAnewAfterARestart(t *testing.T) {
	price := func(c *seller.Config) { c.BytePrice, c.ByteStep = bytePrice, 2*htlcdash.LeafSize }
	s := carrier(t, 2, nil)
	segs := s.title.Segments(t, "a0")
	c := s.guest(t)
	s.fetch(t, c, segs[0])
	s.fetch(t, c, segs[1])
	preimage := s.pay(t, c, 1, 2*htlcdash.LeafSize)
	s.booked(t, 2*lightning.Sat)
	s.fetch(t, c, segs[2])
	_, open := s.bill(t, c, exchange.CarriageRequest{Number: 2, Bytes: 1 << 30})
	s.stop()
	s.serve(t, price)
	s.fetch(t, c, segs[0])
	if bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1, Preimage: preimage}); bill.Owed != htlcdash.LeafSize {
		t.Errorf("an old payment counted again: %d owed", bill.Owed)
	}
	// What is paid late is income all the same.
	if _, err := s.viewer.Pay(t.Context(), open, 0); err != nil {
		t.Fatal(err)
	}
	s.booked(t, 3*lightning.Sat)
	if bill, _ := s.bill(t, c, exchange.CarriageRequest{Number: 1}); bill.Owed != htlcdash.LeafSize {
		t.Errorf("a payment for another account counted: %d owed", bill.Owed)
	}
}

// Who takes a step and goes needs addresses for more.
func TestAccountsAreRationed(t *testing.T) {
	s := carrier(t, 1, nil)
	seg := s.title.Segments(t, "a0")[0]
	codes := map[int]int{}
	for _, c := range s.guests(t, 20) {
		codes[s.fetch(t, c, seg).StatusCode]++
	}
	if codes[http.StatusOK] < 16 || codes[http.StatusOK] > 17 || codes[http.StatusOK]+codes[http.StatusTooManyRequests] != 20 {
		t.Errorf("answers %v, want 16 accounts for one address", codes)
	}
}

// Who pays for a step may come again with another credential, as often as it does so.
func TestAccountsThatPayAreNotRationed(t *testing.T) {
	s := carrier(t, 1, nil)
	seg := s.title.Segments(t, "a0")[0]
	guests := s.guests(t, 20)
	for i, c := range guests {
		if a := s.fetch(t, c, seg); a.StatusCode != http.StatusOK {
			t.Fatalf("account %d of one address, which has paid for the others: %s", i, a.Status)
		}
		preimage := s.pay(t, c, 1, htlcdash.LeafSize)
		s.bill(t, c, exchange.CarriageRequest{Number: 1, Preimage: preimage})
	}
	s.booked(t, 20*lightning.Sat)
	// What is less than a step does not count.
	codes := map[int]int{}
	for range 5 {
		for _, c := range s.guests(t, 4) {
			a := s.fetch(t, c, seg)
			if codes[a.StatusCode]++; a.StatusCode == http.StatusOK {
				_, inv := s.bill(t, c, exchange.CarriageRequest{Number: 1, Bytes: htlcdash.LeafSize - 1})
				paid, err := s.viewer.Pay(t.Context(), inv, 0)
				if err != nil {
					t.Fatal(err)
				}
				s.bill(t, c, exchange.CarriageRequest{Number: 1, Preimage: paid.Preimage})
			}
		}
	}
	if codes[http.StatusOK] != 16 || codes[http.StatusTooManyRequests] != 4 {
		t.Errorf("answers %v, want 16 accounts that did not pay for a step", codes)
	}
}

// What pays for proofs is keys: bytes can be paid for by the msat.
func TestCarriageBuysNoProofs(t *testing.T) {
	s := carrier(t, 4, func(c *seller.Config) { c.Rations.Proofs = 1 })
	segs := s.title.Segments(t, "a0")
	c := s.guest(t)
	offer := s.offers(t, c, segs[0])[0]
	if err := s.prove(t, c, segs[0], offer); err != nil {
		t.Fatal(err)
	}
	s.fetch(t, c, segs[0])
	s.pay(t, c, 1, lengthOf(segs[0]))
	s.credited(t, c)
	s.booked(t, lightning.Sat)
	request := exchange.ProofRequest{Title: s.title.ID, System: "zkb-80", Nonce: exchange.NewNonce(), Sales: []exchange.SaleID{offer.ID()}}
	wantRefused(t, s.post(t, c, "/v1/proofs", request), http.StatusTooManyRequests, "pay for what you have first")
}

// Who has no keys carries, if that costs money, and sells none.
func TestCarrierWithoutKeys(t *testing.T) {
	s := carrier(t, 2, nil)
	s.stop()
	if err := os.Remove(s.title.Dir + ".keys"); err != nil {
		t.Fatal(err)
	}
	if _, err := seller.New(context.Background(), seller.Config{Titles: []string{s.title.Dir}, Payee: s.node, Secret: exchange.NewSecret([32]byte{1}), Books: s.books}); err == nil {
		t.Error("titles without keys are sold where bytes are free")
	}
	s.serve(t, func(c *seller.Config) { c.BytePrice, c.ByteStep = bytePrice, 2*htlcdash.LeafSize })
	var info struct{ Schemes []string }
	if s.get(t, "/v1/provider").json(t, &info); info.Schemes == nil || len(info.Schemes) != 0 {
		t.Errorf("it sells keys by %q", info.Schemes)
	}
	seg, c := s.title.Segments(t, "a0")[0], s.guest(t)
	if a := s.fetch(t, c, seg); a.StatusCode != http.StatusOK || !bytes.Equal(a.body, s.title.Sealed(t, seg)) {
		t.Errorf("sealed bytes: %s", a.Status)
	}
	if o := s.offers(t, c, seg)[0]; o.Error != exchange.RefusedUnknown {
		t.Errorf("offer %+v", o)
	}
	if a := s.get(t, "/t/title/a0/1.m4s"); a.StatusCode == http.StatusOK || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("plain bytes: %s", a.Status)
	}
	if r := s.booked(t, 0); r.Titles[0].Missing != 0 {
		t.Errorf("%d segments are missing", r.Titles[0].Missing)
	}
}

// A provider does not begin with terms that no viewer takes.
func TestCarriageTermsAreChecked(t *testing.T) {
	s := open(t, nil)
	for _, c := range []struct {
		price lightning.Msat
		step  int64
	}{{-1, 0}, {bytePrice, 5}, {bytePrice, 1 << 40}, {0, 1 << 20}} {
		config := seller.Config{Titles: []string{s.title.Dir}, Payee: s.node, Secret: exchange.NewSecret([32]byte{1}), Books: s.books, BytePrice: c.price, ByteStep: c.step}
		if _, err := seller.New(t.Context(), config); err == nil {
			t.Errorf("%v a MiB by steps of %d is taken", c.price, c.step)
		}
	}
	a := s.post(t, s.guest(t), "/v1/carriage", exchange.CarriageRequest{Number: 1})
	wantRefused(t, a, http.StatusNotFound, "free")
}
