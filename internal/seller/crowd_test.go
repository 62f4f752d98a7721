package seller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/seller"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// keys are those of the provider at a time, as it derives them.
func (s *shop) keys(t *testing.T, at time.Time) (current, before credential.IssuerKey) {
	t.Helper()
	ring, err := credential.NewKeyring(exchange.NewSecret([32]byte{42}).Issuer(), seller.EpochLength)
	if err != nil {
		t.Fatal(err)
	}
	return must(ring.Current(at)), must(ring.Current(at.Add(-seller.EpochLength)))
}

func minted(key credential.IssuerKey, nonce byte) credential.Credential {
	token := credential.Token{Nonce: [32]byte{31: nonce}, KeyID: key.ID()}
	return credential.Credential{Token: token, Shared: key.Redeem(token)}
}

// Who has a credential of each of the two keys with one nonce, which it may
// choose, has the rations of each once, not anew with each change.
func TestOneNonceUnderTwoKeys(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Rations.Bytes = 100_000 })
	now, before := s.keys(t, time.Now())
	path := "/sealed/" + s.title.Segments(t, "v0")[0].Sealed.String()
	got := 0
	for range 10 {
		for _, key := range []credential.IssuerKey{now, before} {
			a := s.get(t, path, "Authorization", minted(key, 1).Authorization("GET", path, nil, time.Now()))
			if a.StatusCode == http.StatusOK {
				got += len(a.body)
			}
		}
	}
	if got == 0 || got > 2*100_000 {
		t.Errorf("two credentials got %d sealed bytes, may have 100000 each", got)
	}
}

// Of the rations of offers, whoever comes first takes much. Who comes after
// many of those can still begin, and who has paid goes on.
func TestGreedyGuestsLeaveRoom(t *testing.T) {
	const limit, guests = 1000, 120
	s := open(t, func(c *seller.Config) {
		c.MaxOpenOffers, c.Rations.OpenOffers = limit, 60
		c.OfferBurst, c.Rations.Answers = 1<<20, 1<<20
	})
	segs := append(s.title.Segments(t, "v0"), s.title.Segments(t, "v1")...)
	key, _ := s.keys(t, time.Now())
	grab := func(c credential.Credential) (open int) {
		req, guest := s.request(segs...), s.Guest(c)
		for try := range 20 {
			req.Try = exchange.Try(try)
			r, err := s.OfferTo(t.Context(), guest, req)
			if err != nil {
				t.Fatal(err)
			}
			busy := slices.ContainsFunc(r.Offers, func(o exchange.Offer) bool { return o.Error == exchange.RefusedBusy })
			for _, o := range r.Offers {
				if o.Error == "" {
					open++
				}
			}
			if busy {
				return open
			}
		}
		t.Error("there is no end to what one gets")
		return open
	}
	payer := s.guest(t)
	s.buy(t, segs[0], s.offers(t, payer, segs[0])[0])
	s.settled(t, 1)
	first := grab(minted(key, 0))
	if first > 30 {
		t.Errorf("the first took %d: more than half of what one may have", first)
	}
	for i := range byte(guests - 1) {
		if n := grab(minted(key, 1+i)); n == 0 {
			t.Fatalf("greedy one %d got nothing", i)
		}
	}
	if o := s.offers(t, payer, segs...); slices.ContainsFunc(o, func(o exchange.Offer) bool { return o.Error != "" }) {
		t.Errorf("who has paid gets no offers while %d who have not hold theirs: %+v", guests, o)
	}
}

// slowNode makes an invoice when it is told to.
type slowNode struct {
	lightning.Payee
	calls chan lightning.Msat
	next  chan struct{}
}

func (n *slowNode) Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	n.calls <- t.Amount
	select {
	case <-n.next:
		return n.Payee.Invoice(ctx, p, t)
	case <-ctx.Done():
		return lightning.Invoice{}, ctx.Err()
	}
}

// A slow node is shared: the one offer of a guest does not wait for the
// hundreds of another.
func TestNodeIsSharedByTurns(t *testing.T) {
	const many, dear = 60, 3000
	made := titletest.Make(t, titletest.Options{Segments: many, Reps: []titletest.Rep{
		{ID: "v0", Kind: "video", Height: 240, Sizes: []int{100}, Price: 1000},
		{ID: "v1", Kind: "video", Height: 480, Sizes: []int{200}, Price: dear},
	}})
	books, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	cheap, other := made.Segments(t, "v0"), made.Segments(t, "v1")
	synctest.Test(t, func(t *testing.T) {
		node := &slowNode{Payee: sim.New(sim.Config{}).Node("provider"), calls: make(chan lightning.Msat, 10*many), next: make(chan struct{})}
		s, err := seller.New(t.Context(), seller.Config{
			Titles: []string{made.Dir}, Payee: node, Secret: exchange.NewSecret([32]byte{42}), Books: books,
		})
		if err != nil {
			t.Fatal(err)
		}
		key, _ := new(shop).keys(t, time.Now())
		ask := func(nonce byte, try exchange.Try, segs ...htlcdash.Segment) {
			req := exchange.OfferRequest{Title: made.ID, Scheme: exchange.SchemeSalted, Try: try}
			for _, seg := range segs {
				req.Sealed = append(req.Sealed, seg.Sealed)
			}
			go func() { _, _ = s.OfferTo(t.Context(), s.Guest(minted(key, nonce)), req) }()
		}
		for try := range exchange.Try(4) {
			ask(1, try, cheap...)
		}
		synctest.Wait() // the node has all that it takes at once, and others wait
		for len(node.calls) > 0 {
			<-node.calls
		}
		ask(2, 0, other[0])
		synctest.Wait()
		for turn := 1; ; turn++ {
			node.next <- struct{}{}
			synctest.Wait()
			if got := <-node.calls; got == dear {
				break
			} else if turn > 4 {
				t.Fatal("one offer waits for more than one of each of four lanes")
			}
		}
		close(node.next)
	})
}

// What is answered costs a signature and a look into the books each time: it
// is rationed, also where it is the same again. Payments earn more.
func TestAnswersAreRationed(t *testing.T) {
	for _, path := range []string{"/v1/offers", "/v1/keys"} {
		t.Run(path, func(t *testing.T) {
			s := open(t, func(c *seller.Config) { c.Rations.Answers = 50 })
			c, seg := s.guest(t), s.title.Segments(t, "v0")[0]
			var message any = s.request(seg)
			answers := 1 // of a request
			if path == "/v1/keys" {
				answers = 20
				message = exchange.KeyRequest{Title: s.title.ID, Sales: slices.Repeat([]exchange.SaleID{{Sealed: seg.Sealed, Price: 1000, Counter: 1}}, 20)}
			}
			codes := map[int]int{}
			begun := time.Now()
			for range 200 {
				a := s.post(t, c, path, message)
				codes[a.StatusCode]++
				if a.StatusCode == http.StatusTooManyRequests && !strings.Contains(string(a.body), "pay for what you have first") {
					t.Errorf("refused for another reason: %s", a.body)
				}
				if codes[http.StatusTooManyRequests] > 3 {
					break
				}
			}
			most := 50 + 32*time.Since(begun).Seconds() // as many come back in a second
			if codes[http.StatusOK] == 0 || float64(answers*codes[http.StatusOK]) > most {
				t.Errorf("answers of %d each: %v, want %.0f at most", answers, codes, most)
			}
		})
	}
}

// Many ranges in one request would make an answer of many times the file, past
// what is counted.
func TestOnlyTheFirstRange(t *testing.T) {
	s := open(t, nil)
	seg := s.title.Segments(t, "v0")[0]
	for _, path := range []string{"/sealed/" + seg.Sealed.String(), "/t/title/manifest.mpd"} {
		a := s.get(t, path, "Range", "bytes=0-0"+strings.Repeat(",0-0", 500))
		if a.StatusCode != http.StatusPartialContent || len(a.body) != 1 {
			t.Errorf("%s: %s, %d bytes for 501 ranges of one byte", path, a.Status, len(a.body))
		}
	}
}

// Who overhears a request for proofs cannot use up what its sender has left by
// sending it again, and proofs that nobody waited for come back.
func TestProofsOverheardAndCancelled(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Rations.Proofs = 2 })
	c, segs := s.guest(t), s.title.Segments(t, "v0")
	o := s.offers(t, c, segs[0])[0]
	ask := func() []byte {
		return must(json.Marshal(exchange.ProofRequest{Title: s.title.ID, System: "zkb-80", Nonce: exchange.NewNonce(), Sales: []exchange.SaleID{o.ID()}}))
	}
	body := ask()
	overheard := c.Authorization("POST", "/v1/proofs", body, time.Now())
	if a := s.do(t, "POST", "/v1/proofs", string(body), "Authorization", overheard); a.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	for range 5 {
		if a := s.do(t, "POST", "/v1/proofs", string(body), "Authorization", overheard); a.StatusCode != http.StatusBadRequest {
			t.Errorf("again: %s: %s", a.Status, a.body)
		}
	}
	unknown := exchange.ProofRequest{Title: s.title.ID, System: "zkb-80", Nonce: exchange.NewNonce(), Sales: []exchange.SaleID{{Sealed: htlcdash.Root{1}, Price: 1}}}
	if a := s.post(t, c, "/v1/proofs", unknown); a.StatusCode != http.StatusNotFound {
		t.Errorf("a proof of nothing: %s", a.Status)
	}
	for i, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		if a := s.postText(t, c, "/v1/proofs", string(ask())); a.StatusCode != want {
			t.Errorf("proof %d after that: %s, want %d: %.200s", i+2, a.Status, want, a.body)
		}
	}
}

// A request that cannot be good is refused before its body comes, and counts
// against nobody: else who shares an address with a fool is locked out.
func TestHopelessRequestsCountForNothing(t *testing.T) {
	s := open(t, nil)
	key, _ := s.keys(t, time.Now())
	foreign := must(credential.NewIssuerKey([32]byte{1}, 1))
	for name, shown := range map[string]string{
		"stale":   minted(key, 1).Authorization("POST", "/v1/offers", nil, time.Now().Add(-time.Hour)),
		"foreign": minted(foreign, 1).Authorization("POST", "/v1/offers", nil, time.Now()),
	} {
		for range 100 {
			r := must(http.NewRequest("POST", s.url+"/v1/offers", endless{}))
			r.Header.Set("Authorization", shown)
			r.Header.Set("Expect", "100-continue") // the body goes when it is wanted
			resp, err := waiting.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Body.Close(); resp.StatusCode != http.StatusUnauthorized {
				t.Fatalf("%s: %s", name, resp.Status)
			}
		}
	}
	if o := s.offers(t, s.guest(t), s.title.Segments(t, "v0")[0]); o[0].Error != "" {
		t.Errorf("a newcomer from the same address: %+v", o[0])
	}
}

// To forge costs an address more than to come with a credential.
func TestForgersAreSoonRefused(t *testing.T) {
	s := open(t, nil)
	key, _ := s.keys(t, time.Now())
	foreign := must(credential.NewIssuerKey([32]byte{1}, 1))
	codes := map[int]int{}
	begun := time.Now()
	for i := range byte(60) {
		forged := credential.Credential{Token: credential.Token{Nonce: [32]byte{i}, KeyID: key.ID()}, Shared: minted(foreign, 1).Shared}
		codes[s.post(t, forged, "/v1/offers", s.request()).StatusCode]++
	}
	most := 15 + 5*time.Since(begun).Seconds()/4 // of which each counts as four of the five that come back in a second
	if float64(codes[http.StatusUnauthorized]) > most || codes[http.StatusUnauthorized]+codes[http.StatusTooManyRequests] != 60 {
		t.Errorf("60 forgeries: %v, want %.0f heard at most", codes, most)
	}
}

// waiting sends no body before it is told to.
var waiting = &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Hour}}

// endless is a body that must never be read.
type endless struct{}

func (endless) Read([]byte) (int, error) { panic("a body was asked for that nobody needs") }

// Addresses of one network, as one person has them for little money, get
// little more together than a few.
func TestNetworksShareLimits(t *testing.T) {
	for _, tc := range []struct {
		name    string
		address func(i int) string
	}{
		{"IPv6 /48", func(i int) string { return fmt.Sprintf("2001:db8:1:%x::1", i) }},
		{"IPv4 /24", func(i int) string { return fmt.Sprintf("192.0.2.%d", i%256) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t, func(c *seller.Config) {
				c.StrangerBytes = 40 << 10
				c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			})
			path := "/sealed/" + s.title.Segments(t, "v0")[0].Sealed.String() // one for an address
			codes := map[int]int{}
			for i := range 200 {
				codes[s.get(t, path, "X-Forwarded-For", tc.address(i)).StatusCode]++
			}
			if codes[http.StatusOK] < 16 || codes[http.StatusOK] > 32 || codes[http.StatusTooManyRequests] != 200-codes[http.StatusOK] {
				t.Errorf("200 addresses of one network: %v, want what 16 get", codes)
			}
		})
	}
}

// No segment is opened for an invoice that cannot be made.
func TestNoWorkForStrangersWithoutRoom(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.MaxOpenOffers = 1 })
	s.offers(t, s.guest(t), s.title.Segments(t, "v0")[0])
	seg := s.title.Segments(t, "v0")[1]
	sealed := filepath.Join(s.title.Dir, filepath.FromSlash(htlcdash.SealedPath(seg.Sealed)))
	if err := os.Remove(sealed); err != nil {
		t.Fatal(err)
	}
	a := s.get(t, "/t/title/v0/2.m4s")
	if a.StatusCode != http.StatusPaymentRequired || a.Header.Get("Retry-After") != "10" {
		t.Errorf("%s, Retry-After %q: want to hear that too many offers are open, not that the segment is gone", a.Status, a.Header.Get("Retry-After"))
	}
}

// What strangers ask for by ranges is counted by ranges.
func TestStrangersRangesCountAsTheyAre(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.StrangerBytes = 40 << 10 })
	path := "/sealed/" + s.title.Segments(t, "v0")[0].Sealed.String()
	for i := range 10 {
		if a := s.get(t, path, "Range", "bytes=0-99"); a.StatusCode != http.StatusPartialContent {
			t.Fatalf("range %d of 100 bytes, 40 KiB may be had: %s", i, a.Status)
		}
	}
	codes := map[int]int{}
	for range 3 {
		codes[s.get(t, path).StatusCode]++
	}
	if codes[http.StatusTooManyRequests] == 0 {
		t.Errorf("whole segments past the ration: %v", codes)
	}
}

// What strangers do not get is kept free for who has paid.
func TestWorkersKeptForWhoPaid(t *testing.T) {
	q := seller.KeptLanes(2, 1)
	stranger := new(seller.Lane)
	leave := must(q.Enter(t.Context(), stranger))
	waits := make(chan func())
	go func() { waits <- must(q.Enter(t.Context(), stranger)) }()
	for q.Waiting(stranger) == 0 {
		runtime.Gosched()
	}
	must(q.Enter(t.Context(), seller.PaidLane()))() // comes and goes
	if q.Waiting(stranger) != 1 {
		t.Error("a stranger got the worker that is kept")
	}
	leave()
	(<-waits)()
}

// Who has paid is served by turns with those who have not, however many
// credentials those show.
func TestWhoPaidHasEverySecondTurn(t *testing.T) {
	q := seller.NewLanes(1)
	leave, err := q.Enter(t.Context(), new(seller.Lane))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan string, 51)
	wait := func(name string, l *seller.Lane) {
		go func() {
			leave, err := q.Enter(t.Context(), l)
			if err == nil {
				served <- name
				leave()
			}
		}()
		for q.Waiting(l) == 0 {
			runtime.Gosched()
		}
	}
	for range 50 {
		wait("stranger", new(seller.Lane))
	}
	wait("payer", seller.PaidLane())
	leave()
	for i := range 51 {
		if name := <-served; name == "payer" && i > 1 {
			t.Errorf("who paid waited for %d others", i)
		}
	}
}
