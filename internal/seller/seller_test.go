package seller_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/zkb"
	"htlcdash/internal/seller"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// shop is a provider on a socket, with a viewer's node one channel away.
type shop struct {
	*seller.Seller
	url, operator string
	title         *titletest.Title
	books         *ledger.Ledger
	viewer, node  *sim.Node
	net           *sim.Network
	log           *syncBuffer
	stop          func()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// open opens a shop. Its config can be changed before it opens.
func open(t testing.TB, change func(*seller.Config)) *shop {
	t.Helper()
	s := &shop{title: titletest.Make(t, titletest.Options{}), net: sim.New(sim.Config{Network: lightning.Regtest}), log: &syncBuffer{}}
	s.viewer, s.node = s.net.Node("viewer"), s.net.Node("provider")
	s.net.Connect(s.viewer, s.node, 1_000_000*lightning.Sat, 0)
	var err error
	if s.books, err = ledger.Open(filepath.Join(t.TempDir(), "ledger.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.books.Close() })
	s.serve(t, change)
	return s
}

func (s *shop) serve(t testing.TB, change func(*seller.Config)) {
	t.Helper()
	config := seller.Config{
		Titles:   []string{s.title.Dir},
		Payee:    s.node,
		Secret:   exchange.NewSecret([32]byte{42}),
		Books:    s.books,
		Node:     s.node.ID(),
		Alias:    "cinema",
		Channels: s.node,
		Issue:    seller.IssueFree,
		Proofs:   []proof.System{zkb.Bits80()},
		Prepaid:  func(string) bool { return true },
		Log:      slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&config)
	}
	var err error
	if s.Seller, err = seller.New(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	public, operator := listen(t), listen(t)
	s.url, s.operator = "http://"+public.Addr().String(), "http://"+operator.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, public, operator) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(s.stop)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// answer is a response whose body was read.
type answer struct {
	*http.Response
	body []byte
}

func (a answer) json(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// do sends a request; header is name, value, name, value.
func (s *shop) do(t testing.TB, method, path, body string, header ...string) answer {
	t.Helper()
	url := path
	if strings.HasPrefix(path, "/") {
		url = s.url + path
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, b}
}

func (s *shop) get(t testing.TB, path string, header ...string) answer {
	t.Helper()
	return s.do(t, http.MethodGet, path, "", header...)
}

// guest gets a credential as a viewer does.
func (s *shop) guest(t testing.TB) credential.Credential {
	t.Helper()
	return s.guests(t, 1)[0]
}

func (s *shop) guests(t testing.TB, n int) []credential.Credential {
	t.Helper()
	request, pending := s.blind(t, n)
	a := s.do(t, http.MethodPost, "/v1/credentials", string(request))
	if a.StatusCode != http.StatusOK {
		t.Fatalf("credentials: %s: %s", a.Status, a.body)
	}
	got, err := pending.Finish(a.body)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (s *shop) blind(t testing.TB, n int) ([]byte, *credential.Pending) {
	t.Helper()
	request, pending, err := credential.Blind(s.info(t).Credentials.Keys[0].Key, n, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return request, pending
}

// info is what the shop says of itself.
func (s *shop) info(t testing.TB) (info providerInfo) {
	t.Helper()
	s.get(t, "/v1/provider").json(t, &info)
	return info
}

type providerInfo struct {
	Key         htlcdash.ProviderID
	Proofs      []string
	Credentials struct {
		Issue string
		Price lightning.Msat `json:"price_msat"`
		Life  int64          `json:"life_s"`
		Keys  []struct {
			Key     credential.PublicKey
			Expires int64
		}
	}
}

// post sends a message for the holder of a credential.
func (s *shop) post(t testing.TB, c credential.Credential, path string, message any, header ...string) answer {
	t.Helper()
	b, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return s.postText(t, c, path, string(b), header...)
}

func (s *shop) postText(t testing.TB, c credential.Credential, path, body string, header ...string) answer {
	t.Helper()
	return s.do(t, http.MethodPost, path, body, append(header, "Authorization", c.Authorization(http.MethodPost, path, []byte(body), time.Now()))...)
}

func (s *shop) request(segs ...htlcdash.Segment) exchange.OfferRequest {
	req := exchange.OfferRequest{Title: s.title.ID, Scheme: exchange.SchemeSalted}
	for _, seg := range segs {
		req.Sealed = append(req.Sealed, seg.Sealed)
	}
	return req
}

func (s *shop) offers(t testing.TB, c credential.Credential, segs ...htlcdash.Segment) []exchange.Offer {
	t.Helper()
	req := s.request(segs...)
	a := s.post(t, c, "/v1/offers", req)
	if a.StatusCode != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %s", a.Status, a.body)
	}
	resp, err := exchange.ParseOfferResponse(a.body, req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Offers
}

// buy pays an offer as a viewer does, and returns the segment.
func (s *shop) buy(t testing.TB, seg htlcdash.Segment, o exchange.Offer) []byte {
	t.Helper()
	inv, err := exchange.Salted{}.Check(o, s.info(t).Key, seg, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	paid, err := s.viewer.Pay(t.Context(), inv, 0)
	if err != nil {
		t.Fatal(err)
	}
	key, err := exchange.Salted{}.Key(paid.Preimage, o.Salt, seg.Seal)
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.get(t, "/sealed/"+seg.Sealed.String())
	plain, err := seg.Open(key, sealed.body)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// settled waits until the books have n sales. It looks when the operator's
// page would.
func (s *shop) settled(t testing.TB, n int64) seller.Report {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.operator+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := json.NewDecoder(&dataLines{r: resp.Body})
	for {
		var report seller.Report
		if err := events.Decode(&report); err != nil {
			t.Fatalf("events ended before %d sales: %v", n, err)
		}
		if report.Sales >= n && int64(len(report.Recent)) >= n { // counted after they are booked
			return report
		}
	}
}

// dataLines reads the data of server-sent events.
type dataLines struct {
	r    io.Reader
	rest []byte
}

func (d *dataLines) Read(p []byte) (int, error) {
	buf := make([]byte, 4096)
	for len(d.rest) == 0 {
		n, err := d.r.Read(buf)
		if err != nil {
			return 0, err
		}
		d.rest = bytes.NewBuffer(buf[:n]).Bytes()
		d.rest = bytes.ReplaceAll(d.rest, []byte("event: state\ndata: "), nil)
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func TestSaleFromOfferToBooks(t *testing.T) {
	s := open(t, nil)
	segs := s.title.Segments(t, "v1")
	for i, o := range s.offers(t, s.guest(t), segs...) {
		if got := s.buy(t, segs[i], o); !bytes.Equal(got, s.title.Plain("v1", i)) {
			t.Errorf("segment %d is another one", i)
		}
	}
	report := s.settled(t, int64(len(segs)))
	s.net.Wait()
	balance, err := s.node.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report.Earned != balance.Outbound || report.Earned != 15_000 {
		t.Errorf("earned %v, the node has %v", report.Earned, balance.Outbound)
	}
	if report.OpenOffers != 0 {
		t.Errorf("%d open offers", report.OpenOffers)
	}
	if err := s.net.Check(); err != nil {
		t.Error(err)
	}
	var rung seller.RepresentationReport
	for _, r := range report.Titles[0].Representations {
		if r.ID == "v1" {
			rung = r
		}
	}
	if rung.Sales != 5 || fmt.Sprint(rung.Sold) != "[1 1 1 1 1]" || rung.Price != 15_000 {
		t.Errorf("report of the rung: %+v", rung)
	}
	if len(report.Recent) != 5 || report.Recent[0].Segment != 4 || report.Recent[0].Title != "title" {
		t.Errorf("recent sales: %+v", report.Recent)
	}
	if len(report.Peers) != 1 || report.Peers[0].Node != s.viewer.ID() {
		t.Errorf("peers: %+v", report.Peers)
	}
}

func TestBooksFollowAcrossRestarts(t *testing.T) {
	s := open(t, nil)
	segs := s.title.Segments(t, "a0")
	offers := s.offers(t, s.guest(t), segs...)
	s.buy(t, segs[0], offers[0])
	s.settled(t, 1)
	key := s.info(t).Key
	s.stop()
	// Paid while the provider was away: its node settles alone.
	for i := range 2 {
		inv, err := exchange.Salted{}.Check(offers[1+i], key, segs[1+i], time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.viewer.Pay(t.Context(), inv, 0); err != nil {
			t.Fatal(err)
		}
	}
	s.serve(t, nil)
	report := s.settled(t, 3)
	if report.Earned != 1500 || fmt.Sprint(report.Titles[0].Representations[2].Sold) != "[1 1 1 0 0]" {
		t.Errorf("earned %v, sold %v", report.Earned, report.Titles[0].Representations[2].Sold)
	}
	if n, err := s.books.LastReceipt(t.Context(), ledger.FromNode); err != nil || n != 3 {
		t.Errorf("last receipt %d, %v", n, err)
	}
}

func TestBooksFollowANodeThatWasDown(t *testing.T) {
	s := open(t, nil)
	segs := s.title.Segments(t, "a0")
	offers := s.offers(t, s.guest(t), segs...)
	s.node.Down()
	refused := s.offers(t, s.guest(t), segs[0])
	if refused[0].Error != exchange.RefusedUnavailable {
		t.Errorf("node is down, and the offer is %+v", refused[0])
	}
	s.node.Up()
	s.buy(t, segs[0], offers[0])
	if report := s.settled(t, 1); report.Sales != 1 {
		t.Errorf("%d sales", report.Sales)
	}
}

func TestOffers(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Price = seller.Factor(0.5) })
	segs := s.title.Segments(t, "v0")
	guest := s.guest(t)
	unknown := htlcdash.Segment{Seal: htlcdash.Seal{Sealed: htlcdash.Root{1}}}
	first := s.offers(t, guest, segs[0], unknown, segs[1])
	if first[0].Price != 500 || first[2].Price != 500 {
		t.Errorf("half of 1000 msat is %v and %v", first[0].Price, first[2].Price)
	}
	if first[1].Error != exchange.RefusedUnknown {
		t.Errorf("offer for an unknown segment: %+v", first[1])
	}
	if again := s.offers(t, guest, segs[0]); again[0] != first[0] {
		t.Error("the same request got another offer")
	}
	if other := s.offers(t, s.guest(t), segs[0]); other[0].Hash == first[0].Hash {
		t.Error("two buyers got one payment hash")
	}
	var sales int
	for sale, err := range s.books.Sales(t.Context(), ledger.Filter{Unsettled: true}) {
		if err != nil || sale.Amount != 500 || sale.Scheme != exchange.SchemeSalted {
			t.Errorf("booked %+v, %v", sale, err)
		}
		sales++
	}
	if sales != 3 {
		t.Errorf("%d offers in the books, want 3", sales)
	}
}

func TestPriceStaysBelowTheCeiling(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Price = seller.Factor(7) })
	seg := s.title.Segments(t, "v0")[0]
	if o := s.offers(t, s.guest(t), seg)[0]; o.Price != seg.Price {
		t.Errorf("price of %v, ceiling %v", o.Price, seg.Price)
	}
}

func TestOfferRequestsThatAreRefused(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.OfferBurst = 3; c.OfferRate = 0.001 })
	guest := s.guest(t)
	seg := s.title.Segments(t, "v0")[0]
	request := func(title htlcdash.TitleID, scheme string, n int) string {
		r := exchange.OfferRequest{Title: title, Scheme: scheme}
		for range n {
			r.Sealed = append(r.Sealed, seg.Sealed)
		}
		b, _ := json.Marshal(r)
		return string(b)
	}
	for _, tc := range []struct {
		name, method, body string
		want               int
	}{
		{"by GET", http.MethodGet, "", http.StatusMethodNotAllowed},
		{"no JSON", http.MethodPost, "{", http.StatusBadRequest},
		{"too many segments", http.MethodPost, request(s.title.ID, "salted", 65), http.StatusBadRequest},
		{"too large", http.MethodPost, strings.Repeat(" ", 9<<10), http.StatusRequestEntityTooLarge},
		{"other scheme", http.MethodPost, request(s.title.ID, "direct", 1), http.StatusBadRequest},
		{"other title", http.MethodPost, request(htlcdash.TitleID{1}, "salted", 1), http.StatusNotFound},
		{"more than the burst", http.MethodPost, request(s.title.ID, "salted", 64), http.StatusTooManyRequests},
		{"the last in the bucket", http.MethodPost, request(s.title.ID, "salted", 1), http.StatusOK},
		{"too often", http.MethodPost, request(s.title.ID, "salted", 1), http.StatusTooManyRequests},
	} {
		a := s.postText(t, guest, "/v1/offers", tc.body)
		if tc.method == http.MethodGet {
			a = s.get(t, "/v1/offers")
		}
		if a.StatusCode != tc.want {
			t.Errorf("%s: %s, want %d", tc.name, a.Status, tc.want)
		}
		if a.StatusCode == http.StatusOK {
			continue
		}
		var p struct{ Status int }
		a.json(t, &p)
		if p.Status != tc.want || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: body %s", tc.name, a.body)
		}
		if limited := tc.want == http.StatusTooManyRequests; limited != (a.Header.Get("Retry-After") != "") {
			t.Errorf("%s: Retry-After %q", tc.name, a.Header.Get("Retry-After"))
		}
	}
}

func TestOpenOffersAreBounded(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.MaxOpenOffers = 3 })
	segs := s.title.Segments(t, "v0")
	busy := 0
	for _, o := range s.offers(t, s.guest(t), segs...) {
		if o.Error == exchange.RefusedBusy {
			busy++
		}
	}
	if busy != len(segs)-3 {
		t.Errorf("%d of %d refused, 3 may be open", busy, len(segs))
	}
}

func TestOffersThatExpiredMakeRoom(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	segs := made.Segments(t, "v0")
	file := filepath.Join(t.TempDir(), "ledger.db")
	synctest.Test(t, func(t *testing.T) {
		books, err := ledger.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer books.Close()
		node := sim.New(sim.Config{}).Node("provider")
		s, err := seller.New(t.Context(), seller.Config{
			Titles: []string{made.Dir}, Payee: node, Secret: exchange.NewSecret([32]byte{1}), Books: books, MaxOpenOffers: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := credential.NewIssuerKey([32]byte{1}, 1)
		if err != nil {
			t.Fatal(err)
		}
		guests := map[byte]seller.Guest{}
		for i := range byte(3) {
			token := credential.Token{Nonce: [32]byte{i}, KeyID: keys.ID()}
			guests[i] = s.Guest(credential.Credential{Token: token, Shared: keys.Redeem(token)})
		}
		ask := func(guest byte) exchange.Offer {
			t.Helper()
			r, err := s.OfferTo(t.Context(), guests[guest], exchange.OfferRequest{
				Title: made.ID, Scheme: exchange.SchemeSalted, Sealed: []htlcdash.Root{segs[0].Sealed},
			})
			if err != nil {
				t.Fatal(err)
			}
			return r.Offers[0]
		}
		first := ask(1)
		if o := ask(2); o.Error != exchange.RefusedBusy {
			t.Errorf("a second offer, one may be open: %+v", o)
		}
		if o := ask(1); o != first {
			t.Errorf("the open offer again: %+v", o)
		}
		time.Sleep(exchange.OfferLife)
		if o := ask(2); o.Error != "" {
			t.Errorf("the first offer has expired, and a second gets %+v", o)
		}
	})
}

func TestReload(t *testing.T) {
	s := open(t, nil)
	list := func() string { return string(s.get(t, "/v1/titles").body) }
	more := titletest.Make(t, titletest.Options{Seed: 2})
	shelf := filepath.Join(t.TempDir(), "shelf")
	if err := os.Mkdir(shelf, 0o700); err != nil {
		t.Fatal(err)
	}
	move := func(from *titletest.Title, name string) {
		t.Helper()
		for _, suffix := range []string{"", ".keys"} {
			if err := os.Rename(from.Dir+suffix, filepath.Join(shelf, name+suffix)); err != nil {
				t.Fatal(err)
			}
		}
	}
	move(s.title, "one")
	s.title.Dir = shelf
	s.stop()
	s.serve(t, nil)
	if l := list(); strings.Count(l, `"id"`) != 1 || !strings.Contains(l, `"mpd":"/t/one/manifest.mpd"`) {
		t.Fatalf("titles: %s", l)
	}
	move(more, "two")
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l := list(); strings.Count(l, `"id"`) != 2 {
		t.Fatalf("titles: %s", l)
	}
	// A title that breaks is sold as it was; the error says what is wrong.
	if err := os.WriteFile(filepath.Join(shelf, "two", "manifest.mpd"), []byte("<MPD/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "two") {
		t.Errorf("reload of a broken title: %v", err)
	}
	if l := list(); strings.Count(l, `"id"`) != 2 {
		t.Fatalf("titles: %s", l)
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	s := open(t, nil)
	config := seller.Config{Payee: s.node, Secret: exchange.NewSecret([32]byte{1}), Books: s.books}
	if _, err := seller.New(t.Context(), config); err == nil {
		t.Error("no titles, and no error")
	}
	config.Titles = []string{t.TempDir()}
	if _, err := seller.New(t.Context(), config); err == nil || !strings.Contains(err.Error(), "publish") {
		t.Errorf("empty folder: %v", err)
	}
	config.Titles = []string{s.title.Dir}
	if err := os.Chmod(s.title.KeysFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := seller.New(t.Context(), config); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("keys that all can read: %v", err)
	}
}

func TestSegmentsThatAreNotHereAreNotSold(t *testing.T) {
	s := open(t, nil)
	seg := s.title.Segments(t, "v0")[1]
	if err := os.Truncate(filepath.Join(s.title.Dir, "sealed", seg.Sealed.String()[:2], seg.Sealed.String()), 100); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := s.offers(t, s.guest(t), seg)[0]; o.Error != exchange.RefusedUnknown {
		t.Errorf("offer for a cut-off file: %+v", o)
	}
	if a := s.get(t, "/sealed/"+seg.Sealed.String()); a.StatusCode != http.StatusNotFound {
		t.Errorf("sealed bytes: %s", a.Status)
	}
	if report := s.settled(t, 0); report.Titles[0].Missing != 1 {
		t.Errorf("report says %d are missing", report.Titles[0].Missing)
	}
}
