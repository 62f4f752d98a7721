package seller_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof/zkb"
	"htlcdash/internal/seller"
	"htlcdash/lightning"
)

// wantRefused checks a refusal and what it says.
func wantRefused(t *testing.T, a answer, status int, detail string) {
	t.Helper()
	if p := a.problem(t); a.StatusCode != status || !strings.Contains(p.Detail, detail) {
		t.Errorf("%s: %s; want %d and %q", a.Status, a.body, status, detail)
	}
	if challenge := a.Header.Get("WWW-Authenticate"); (status == http.StatusUnauthorized) != strings.HasPrefix(challenge, "PrivateToken challenge=") {
		t.Errorf("%d with WWW-Authenticate %q", status, challenge)
	}
	if limited := status == http.StatusTooManyRequests; limited != (a.Header.Get("Retry-After") != "") {
		t.Errorf("%d with Retry-After %q", status, a.Header.Get("Retry-After"))
	}
}

// rows counts what is in the books, paid or not.
func (s *shop) rows(t testing.TB) (n int) {
	t.Helper()
	for _, unsettled := range []bool{false, true} {
		for _, err := range s.books.Sales(t.Context(), ledger.Filter{Unsettled: unsettled}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	return n
}

func TestStrangersAreToldWhereToBegin(t *testing.T) {
	var node *busyNode
	s := open(t, func(c *seller.Config) {
		node = &busyNode{Payee: c.Payee}
		c.Payee = node
	})
	good := s.guest(t)
	sign := func(c credential.Credential, path string, at time.Time) string {
		return c.Authorization(http.MethodPost, path, []byte("{}"), at)
	}
	forged := good
	forged.Nonce[0] ^= 1
	old, err := credential.NewIssuerKey([32]byte{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	token := credential.Token{Nonce: [32]byte{1}, KeyID: old.ID()}
	foreign := credential.Credential{Token: token, Shared: old.Redeem(token)}
	for _, path := range []string{"/v1/offers", "/v1/proofs", "/v1/keys"} {
		for _, tc := range []struct {
			name, authorization string
			status              int
			detail              string
		}{
			{"no credential", "", 401, "a credential is needed"},
			{"another scheme", "Bearer x", 401, "a credential is needed"},
			{"malformed", "PrivateToken token=x", 401, "malformed"},
			{"a token that was never issued", sign(forged, path, time.Now()), 401, "does not verify"},
			{"another provider's", sign(foreign, path, time.Now()), 401, "key is not in use"},
			{"for another path", sign(good, "/v1/other", time.Now()), 401, "does not verify"},
			{"of an hour ago", sign(good, path, time.Now().Add(-time.Hour)), 401, "not for this time"},
		} {
			t.Run(path+" "+tc.name, func(t *testing.T) {
				var header []string
				if tc.authorization != "" {
					header = []string{"Authorization", tc.authorization}
				}
				wantRefused(t, s.do(t, http.MethodPost, path, "{}", header...), tc.status, tc.detail)
			})
		}
	}
	if n := node.calls.Load(); n != 0 || s.rows(t) != 0 {
		t.Errorf("strangers cost %d invoices and %d rows", n, s.rows(t))
	}
}

func TestCredentialsAreLimited(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Issue = seller.IssueLimited })
	if info := s.info(t); info.Credentials.Issue != "limited" || info.Credentials.Life != 3600 {
		t.Errorf("%+v", info.Credentials)
	}
	codes := map[int]int{}
	for range 12 {
		request, _ := s.blind(t, 1)
		codes[s.do(t, http.MethodPost, "/v1/credentials", string(request)).StatusCode]++
	}
	if codes[200] != 8 || codes[429] != 4 {
		t.Errorf("answers %v, want 8 batches for one address", codes)
	}
}

func TestCredentialsAreSold(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Issue, c.IssuePrice = seller.IssueSold, 10*lightning.Sat })
	request, pending := s.blind(t, 32)
	a := s.do(t, http.MethodPost, "/v1/credentials", string(request))
	if a.StatusCode != http.StatusPaymentRequired {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	if _, _, err := exchange.ParseTokenOffer(a.body, 9*lightning.Sat, time.Now()); !errors.Is(err, exchange.ErrTerms) {
		t.Errorf("more than was allowed: %v", err)
	}
	_, inv, err := exchange.ParseTokenOffer(a.body, 10*lightning.Sat, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	paid, err := s.viewer.Pay(t.Context(), inv, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := paid.Preimage.Reveal()
	shown := exchange.SchemePreimage + " " + hex.EncodeToString(b[:])
	first := s.do(t, http.MethodPost, "/v1/credentials", string(request), "Authorization", shown)
	again := s.do(t, http.MethodPost, "/v1/credentials", string(request), "Authorization", shown)
	if first.StatusCode != http.StatusOK || again.StatusCode != http.StatusOK {
		t.Fatalf("%s, and again %s: what is paid for may be asked for twice", first.Status, again.Status)
	}
	got, err := pending.Finish(first.body)
	if err != nil || len(got) != 32 {
		t.Fatalf("%d credentials, %v", len(got), err)
	}
	if o := s.offers(t, got[0], s.title.Segments(t, "v0")[0]); o[0].Error != "" {
		t.Errorf("a bought credential gets %+v", o[0])
	}
	other, _ := s.blind(t, 32)
	wantRefused(t, s.do(t, http.MethodPost, "/v1/credentials", string(other), "Authorization", shown), 401, "does not verify")
	wantRefused(t, s.do(t, http.MethodPost, "/v1/credentials", string(request), "Authorization", "Preimage 00"), 401, "malformed")
}

func TestIssueThatCannotBe(t *testing.T) {
	for _, c := range []seller.Config{{Issue: "gladly"}, {Issue: seller.IssueSold}, {Issue: seller.IssueFree, IssuePrice: 1}} {
		s := open(t, nil)
		c.Titles, c.Payee, c.Secret, c.Books = []string{s.title.Dir}, s.node, exchange.NewSecret([32]byte{1}), s.books
		if _, err := seller.New(t.Context(), c); err == nil {
			t.Errorf("%q at %v is accepted", c.Issue, c.IssuePrice)
		}
	}
}

func TestCredentialServesItsTime(t *testing.T) {
	s := open(t, nil)
	seg := s.title.Segments(t, "v0")[0]
	guest := s.guest(t)
	o := s.offers(t, guest, seg)[0]
	s.buy(t, seg, o)
	s.settled(t, 1)
	s.stop()
	// Another run, an hour later: the books know when it was shown first.
	s.serve(t, func(c *seller.Config) { c.Rations.Life = time.Nanosecond })
	wantRefused(t, s.post(t, guest, "/v1/offers", s.request(seg)), 401, "has served its time")
	wantRefused(t, s.get(t, "/sealed/"+seg.Sealed.String(), "Authorization",
		guest.Authorization(http.MethodGet, "/sealed/"+seg.Sealed.String(), nil, time.Now())), 401, "has served its time")
	// What it bought can still be asked for.
	if got := s.recall(t, guest, o.ID()); !got.Opens(o.Hash) {
		t.Error("the key that was bought is not told again")
	}
}

// recall asks again for what was sold.
func (s *shop) recall(t *testing.T, c credential.Credential, id exchange.SaleID) lightning.Preimage {
	t.Helper()
	req := exchange.KeyRequest{Title: s.title.ID, Sales: []exchange.SaleID{id}}
	a := s.post(t, c, "/v1/keys", req)
	if a.StatusCode != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	got, err := exchange.ParseKeyResponse(a.body, req)
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

func TestKeysAreToldAgainToTheBuyerOnly(t *testing.T) {
	s := open(t, nil)
	segs := s.title.Segments(t, "v0")
	buyer, other := s.guest(t), s.guest(t)
	offers := s.offers(t, buyer, segs[:2]...)
	if got := s.recall(t, buyer, offers[0].ID()); !got.IsZero() {
		t.Error("a key is told that was not paid for")
	}
	s.buy(t, segs[0], offers[0])
	s.settled(t, 1)
	if got := s.recall(t, buyer, offers[0].ID()); !got.Opens(offers[0].Hash) {
		t.Error("a key that was paid for is not told again")
	}
	for name, got := range map[string]lightning.Preimage{
		"another credential":                s.recall(t, other, offers[0].ID()),
		"another segment":                   s.recall(t, buyer, offers[1].ID()),
		"a segment that is not here":        s.recall(t, buyer, exchange.SaleID{Sealed: htlcdash.Root{1}, Price: 1}),
		"the same segment at another price": s.recall(t, buyer, exchange.SaleID{Sealed: segs[0].Sealed, Price: offers[0].Price - 1, Counter: offers[0].Counter}),
	} {
		if !got.IsZero() {
			t.Errorf("%s: a key is told", name)
		}
	}
	if strings.Contains(s.log.String(), hexOf(s.recall(t, buyer, offers[0].ID()))) {
		t.Error("the log holds a preimage")
	}
}

func hexOf(p lightning.Preimage) string {
	b := p.Reveal()
	return hex.EncodeToString(b[:])
}

// prove asks for the proof of an offer and verifies it.
func (s *shop) prove(t *testing.T, c credential.Credential, seg htlcdash.Segment, o exchange.Offer) error {
	t.Helper()
	nonce := exchange.NewNonce()
	a := s.post(t, c, "/v1/proofs", exchange.ProofRequest{
		Title: s.title.ID, System: "zkb-80", Nonce: nonce, Sales: []exchange.SaleID{o.ID()},
	})
	if a.StatusCode != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	pf, err := exchange.ReadProof(bytes.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	return exchange.Salted{}.Verify(zkb.Bits80(), s.info(t).Key, seg, o, nonce, pf)
}

func TestOffersAreProved(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Rations.Proofs = 2 })
	segs := s.title.Segments(t, "v0")
	guest := s.guest(t)
	offers := s.offers(t, guest, segs[:2]...)
	if err := s.prove(t, guest, segs[0], offers[0]); err != nil {
		t.Error(err)
	}
	if err := s.prove(t, guest, segs[1], offers[0]); !errors.Is(err, exchange.ErrUnproved) {
		t.Errorf("a proof for another segment: %v", err)
	}
	request := exchange.ProofRequest{Title: s.title.ID, System: "zkb-80", Nonce: exchange.NewNonce(), Sales: []exchange.SaleID{offers[0].ID()}}
	wantRefused(t, s.post(t, guest, "/v1/proofs", request), 429, "pay for what you have first")
	s.buy(t, segs[0], offers[0])
	s.settled(t, 1)
	if err := s.prove(t, guest, segs[1], offers[1]); err != nil {
		t.Errorf("after a payment: %v", err)
	}
	for _, tc := range []struct {
		name   string
		change func(*exchange.ProofRequest)
		status int
		detail string
	}{
		{"a system that is not spoken", func(r *exchange.ProofRequest) { r.System = "zkb-1" }, 400, "not made here"},
		{"a title that is not sold", func(r *exchange.ProofRequest) { r.Title[0] ^= 1 }, 404, "not found"},
		{"a segment that is not sold", func(r *exchange.ProofRequest) { r.Sales[0].Sealed[0] ^= 1 }, 404, "not found"},
		{"no nonce", func(r *exchange.ProofRequest) { r.Nonce = exchange.Nonce{} }, 400, "without a nonce"},
		{"no sale", func(r *exchange.ProofRequest) { r.Sales = nil }, 400, "0 sales"},
	} {
		r := request
		r.Sales = []exchange.SaleID{offers[0].ID()}
		tc.change(&r)
		wantRefused(t, s.post(t, s.guest(t), "/v1/proofs", r), tc.status, tc.detail)
	}
}

// Several proofs are sent one by one.
func TestProofsInABatch(t *testing.T) {
	s := open(t, nil)
	segs, guest := s.title.Segments(t, "v0"), s.guest(t)
	offers := s.offers(t, guest, segs...)
	r := exchange.ProofRequest{Title: s.title.ID, System: "zkb-80", Nonce: exchange.NewNonce()}
	for _, o := range offers {
		r.Sales = append(r.Sales, o.ID())
	}
	body := bytes.NewReader(s.post(t, guest, "/v1/proofs", r).body)
	for i, o := range offers {
		pf, err := exchange.ReadProof(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := (exchange.Salted{}).Verify(zkb.Bits80(), s.info(t).Key, segs[i], o, r.Nonce, pf); err != nil {
			t.Errorf("proof %d: %v", i, err)
		}
	}
	if body.Len() > 0 {
		t.Errorf("%d bytes follow", body.Len())
	}
}

func TestSealedBytesAreRationed(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Rations.Bytes, c.StrangerBytes = 72<<10, 72<<10 })
	segs := s.title.Segments(t, "v0") // of 32 KiB each
	get := func(path string, header ...string) answer { return s.get(t, path, header...) }
	path := func(i int) string { return "/" + htlcdash.SealedPath(segs[i].Sealed) }
	guest := s.guest(t)
	shown := func(i int) []string {
		return []string{"Authorization", guest.Authorization(http.MethodGet, path(i), nil, time.Now())}
	}
	for i := range 2 {
		if a := get(path(i)); a.StatusCode != http.StatusOK {
			t.Errorf("a stranger's first: %s", a.Status)
		}
		if a := get(path(i), shown(i)...); a.StatusCode != http.StatusOK {
			t.Errorf("a guest's first: %s", a.Status)
		}
	}
	wantRefused(t, get(path(2)), 429, "too many requests from this address")
	wantRefused(t, get(path(2), shown(2)...), 429, "pay for what you have first")
	if a := get(path(2), append(shown(2), "Range", "bytes=0-0")...); a.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a range of what is refused: %s", a.Status)
	}
	s.buy2(t, guest, segs[0])
	s.settled(t, 1)
	if a := get(path(2), shown(2)...); a.StatusCode != http.StatusOK {
		t.Errorf("after a payment: %s", a.Status)
	}
	// What is not sent does not count.
	other := s.guest(t)
	for range 20 {
		a := get(path(0), "Authorization", other.Authorization(http.MethodGet, path(0), nil, time.Now()), "Range", "bytes=0-99")
		if a.StatusCode != http.StatusPartialContent {
			t.Fatalf("a hundred bytes: %s", a.Status)
		}
	}
}

// buy2 pays an offer without fetching the sealed bytes.
func (s *shop) buy2(t *testing.T, c credential.Credential, seg htlcdash.Segment) {
	t.Helper()
	inv, err := exchange.Salted{}.Check(s.offers(t, c, seg)[0], s.info(t).Key, seg, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.viewer.Pay(t.Context(), inv, 0); err != nil {
		t.Fatal(err)
	}
}

func TestOpenOffersOfOneCredentialAreBounded(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Rations.OpenOffers = 5 })
	segs, guest := s.title.Segments(t, "v0"), s.guest(t)
	count := func(offers []exchange.Offer) (busy int) {
		for _, o := range offers {
			if o.Error == exchange.RefusedBusy {
				busy++
			}
		}
		return busy
	}
	if busy := count(s.offers(t, guest, segs...)); busy != len(segs)-2 {
		t.Errorf("%d of %d refused, half of 5 may be open for who has not paid", busy, len(segs))
	}
	if busy := count(s.offers(t, s.guest(t), segs[:2]...)); busy != 0 {
		t.Error("another guest pays for it")
	}
	// Strangers have a bound of their own.
	if a := s.get(t, "/t/title/v1/1.m4s"); a.params()["invoice"] == "" {
		t.Error("a stranger gets no invoice")
	}
	if s.OpenInvoices() != 1 {
		t.Errorf("%d invoices of strangers", s.OpenInvoices())
	}
}

// A stranger's invoice costs no row. What it sold is booked when it is paid;
// and if nobody remembers by then, when the credential is shown.
func TestInvoicesOfStrangersCostNoRow(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			s := open(t, nil)
			path := "/t/title/v0/1.m4s"
			p := s.get(t, path).params()
			if n := s.rows(t); n != 0 {
				t.Errorf("a question cost %d rows", n)
			}
			if restart {
				s.stop()
				s.serve(t, nil)
			}
			inv, err := lightning.DecodeInvoice(p["invoice"])
			if err != nil {
				t.Fatal(err)
			}
			paid, err := s.viewer.Pay(t.Context(), inv, 0)
			if err != nil {
				t.Fatal(err)
			}
			b := paid.Preimage.Reveal()
			for range 3 {
				a := s.get(t, path, "Authorization", "L402 "+p["token"]+":"+hex.EncodeToString(b[:]))
				if a.StatusCode != http.StatusOK {
					t.Fatalf("%s: %s", a.Status, a.body)
				}
			}
			report := s.settled(t, 1)
			if report.Earned != 1_000 || report.Sales != 1 || s.rows(t) != 1 {
				t.Errorf("earned %v by %d sales in %d rows", report.Earned, report.Sales, s.rows(t))
			}
		})
	}
}

func TestLanesServeInTurn(t *testing.T) {
	q := seller.NewLanes(1)
	var greedy, modest seller.Lane
	leave, err := q.Enter(t.Context(), &greedy)
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 32)
	enter := func(l *seller.Lane, name string) {
		waiting := q.Waiting(l)
		go func() {
			leave, err := q.Enter(t.Context(), l)
			if err == nil {
				order <- name
				leave()
			}
		}()
		for q.Waiting(l) == waiting {
			time.Sleep(time.Millisecond)
		}
	}
	for range 16 {
		enter(&greedy, "greedy")
	}
	if _, err := q.Enter(t.Context(), &greedy); err == nil {
		t.Error("a seventeenth may wait")
	}
	enter(&modest, "modest")
	leave()
	if first, second := <-order, <-order; first != "greedy" || second != "modest" {
		t.Errorf("served were %s and %s", first, second)
	}
	for range 15 {
		<-order
	}
}

func TestLanesForgetWhoGoesAway(t *testing.T) {
	q := seller.NewLanes(1)
	var l seller.Lane
	leave, err := q.Enter(t.Context(), &l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var gone atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := q.Enter(ctx, &l)
		gone.Store(errors.Is(err, context.Canceled))
	}()
	for q.Waiting(&l) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if !gone.Load() || q.Waiting(&l) != 0 {
		t.Error("it still waits")
	}
	leave()
	if leave, err = q.Enter(t.Context(), &l); err != nil {
		t.Fatal(err)
	}
	leave()
}
