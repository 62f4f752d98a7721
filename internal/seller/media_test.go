package seller_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/publish"
	"htlcdash/internal/seller"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// wallet is a foreign client's: it knows invoices and preimages, nothing of us.
func (s *shop) wallet(t testing.TB, bolt11 string) (preimage string) {
	t.Helper()
	inv, err := lightning.DecodeInvoice(bolt11)
	if err != nil {
		t.Fatal(err)
	}
	paid, err := s.viewer.Pay(t.Context(), inv, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := paid.Preimage.Reveal()
	return hex.EncodeToString(b[:])
}

// params reads challenges as a widely used client does: by one regular
// expression over the joined header.
func (a answer) params() map[string]string {
	found := map[string]string{}
	joined := strings.Join(a.Header.Values("WWW-Authenticate"), ", ")
	for _, m := range regexp.MustCompile(`(\w+)=("([^"]*)"|'([^']*)'|([^,]*))`).FindAllStringSubmatch(joined, -1) {
		found[m[1]] = m[3] + m[4] + m[5]
	}
	return found
}

// payL402 pays a 402 as the L402 specification says.
func (s *shop) payL402(t testing.TB, a answer) string {
	t.Helper()
	p := a.params()
	return "L402 " + p["token"] + ":" + s.wallet(t, p["invoice"])
}

// payPayment pays a 402 as draft-lightning-charge-00 says.
func (s *shop) payPayment(t testing.TB, a answer) string {
	t.Helper()
	p := a.params()
	b, err := base64.RawURLEncoding.DecodeString(p["request"])
	if err != nil {
		t.Fatal(err)
	}
	var request struct {
		MethodDetails struct{ Invoice string }
	}
	if err := json.Unmarshal(b, &request); err != nil {
		t.Fatal(err)
	}
	challenge := map[string]string{}
	for _, k := range []string{"id", "realm", "method", "intent", "request", "expires"} {
		challenge[k] = p[k]
	}
	j, _ := json.Marshal(map[string]any{
		"challenge": challenge,
		"payload":   map[string]string{"preimage": s.wallet(t, request.MethodDetails.Invoice)},
	})
	return "Payment " + base64.RawURLEncoding.EncodeToString(j)
}

type problem struct {
	Type   string
	Status int
	Detail string
	Offer  *struct {
		Title     htlcdash.TitleID
		Segment   int
		Sealed    htlcdash.Root
		SealedURL string `json:"sealed_url"`
		Opens     int
		Price     lightning.Msat `json:"price_msat"`
		OffersURL string         `json:"offers_url"`
		Schemes   []string
	}
}

func (a answer) problem(t testing.TB) (p problem) {
	t.Helper()
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s as %q", a.Status, got)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("%s may be cached: %q", a.Status, got)
	}
	a.json(t, &p)
	if p.Status != a.StatusCode {
		t.Errorf("problem says %d in a %s", p.Status, a.Status)
	}
	return p
}

func TestFreeFiles(t *testing.T) {
	s := open(t, nil)
	for path, want := range map[string][]byte{
		title.MPDFile:       s.title.MPD,
		title.SignatureFile: s.title.Signature,
		"v0/init.mp4":       must(s.title.Init(t.Context(), "v0")),
		s.title.Manifest.Representations()[0].Pay.List: must(os.ReadFile(filepath.Join(s.title.Dir, s.title.Manifest.Representations()[0].Pay.List))),
	} {
		path = "/t/title/" + path
		a := s.get(t, path)
		if a.StatusCode != http.StatusOK || !bytes.Equal(a.body, want) {
			t.Errorf("%s: %s, %d bytes, want %d", path, a.Status, len(a.body), len(want))
		}
		etag := a.Header.Get("ETag")
		if again := s.get(t, path, "If-None-Match", etag); etag == "" || again.StatusCode != http.StatusNotModified {
			t.Errorf("%s again: %s, ETag %q", path, again.Status, etag)
		}
		if part := s.get(t, path, "Range", "bytes=5-9"); part.StatusCode != http.StatusPartialContent || !bytes.Equal(part.body, want[5:10]) {
			t.Errorf("range of %s: %s", path, part.Status)
		}
		head := s.do(t, http.MethodHead, path, "")
		if head.ContentLength != int64(len(want)) || len(head.body) != 0 {
			t.Errorf("HEAD %s: %d bytes", path, head.ContentLength)
		}
		if post := s.do(t, http.MethodPost, path, ""); post.StatusCode != http.StatusMethodNotAllowed || post.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("POST %s: %s, Allow %q", path, post.Status, post.Header.Get("Allow"))
		}
	}
	for _, path := range []string{
		"/", "/t/", "/t/other/manifest.mpd", "/t/title/", "/t/title/other.mp4", "/t/title/seals", "/t/title/v0/99.m4s",
		"/t/title/..%2ftitle.keys", "/t/title/%2e%2e/title.keys", "/t/title/sealed/", "/t/title.keys", "/v1/other",
	} {
		if a := s.get(t, path); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestSealedBytes(t *testing.T) {
	s := open(t, nil)
	seg := s.title.Segments(t, "v1")[2]
	want := s.title.Sealed(t, seg)
	path := "/sealed/" + seg.Sealed.String()
	etag := `"` + seg.Sealed.String() + `"`
	for _, tc := range []struct {
		name, method, path string
		header             []string
		status             int
		body               []byte
	}{
		{"whole", "GET", path, nil, 200, want},
		{"as in the folder", "GET", "/sealed/" + seg.Sealed.String()[:2] + "/" + seg.Sealed.String(), nil, 200, want},
		{"range", "GET", path, []string{"Range", "bytes=16384-32767"}, 206, want[16384:32768]},
		{"open range", "GET", path, []string{"Range", "bytes=16384-"}, 206, want[16384:]},
		{"last bytes", "GET", path, []string{"Range", "bytes=-10"}, 206, want[len(want)-10:]},
		{"range outside", "GET", path, []string{"Range", "bytes=99999999-"}, 416, nil},
		{"known", "GET", path, []string{"If-None-Match", etag}, 304, []byte{}},
		{"changed since", "GET", path, []string{"Range", "bytes=0-9", "If-Range", `"x"`}, 200, want},
		{"head", "HEAD", path, nil, 200, []byte{}},
		{"head of a range", "HEAD", path, []string{"Range", "bytes=0-9"}, 206, []byte{}},
		{"unknown", "GET", "/sealed/" + strings.Repeat("00", 32), nil, 404, nil},
		{"no root", "GET", "/sealed/x", nil, 400, nil},
		{"by POST", "POST", path, nil, 405, nil},
	} {
		a := s.do(t, tc.method, tc.path, "", tc.header...)
		if a.StatusCode != tc.status || tc.body != nil && !bytes.Equal(a.body, tc.body) {
			t.Errorf("%s: %s, %d bytes", tc.name, a.Status, len(a.body))
		}
		if a.StatusCode < 400 && (a.Header.Get("ETag") != etag || !strings.Contains(a.Header.Get("Cache-Control"), "immutable")) {
			t.Errorf("%s: ETag %q, Cache-Control %q", tc.name, a.Header.Get("ETag"), a.Header.Get("Cache-Control"))
		}
	}
	if a := s.do(t, "HEAD", path, ""); a.ContentLength != int64(len(want)) || a.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %d bytes, ranges in %q", a.ContentLength, a.Header.Get("Accept-Ranges"))
	}
}

// sink notes what a handler hands over to be copied by the kernel.
type sink struct {
	*httptest.ResponseRecorder
	file bool
}

func (s *sink) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		_, s.file = l.R.(*os.File)
	}
	return io.Copy(s.ResponseRecorder, r)
}

func TestSealedBytesDoNotPassThroughMemory(t *testing.T) {
	s := open(t, nil)
	seg := s.title.Segments(t, "v1")[0]
	w := &sink{ResponseRecorder: httptest.NewRecorder()}
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/sealed/"+seg.Sealed.String(), nil))
	if w.Code != http.StatusOK || !w.file {
		t.Errorf("status %d, handed to the kernel: %v", w.Code, w.file)
	}
}

func TestPaymentRequired(t *testing.T) {
	s := open(t, nil)
	seg := s.title.Segments(t, "v0")[1]
	a := s.get(t, "/t/title/v0/2.m4s")
	if a.StatusCode != http.StatusPaymentRequired {
		t.Fatal(a.Status)
	}
	p := a.problem(t)
	if o := p.Offer; o == nil || o.Title != s.title.ID || o.Segment != 1 || o.Sealed != seg.Sealed || o.Price != seg.Price ||
		fmt.Sprint(o.Schemes) != "[salted prepaid]" || o.OffersURL != "/v1/offers" || s.get(t, o.SealedURL).StatusCode != 200 {
		t.Errorf("offer in the 402: %s", a.body)
	}
	lines := a.Header.Values("WWW-Authenticate")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], `L402 version="0", token="`) || !strings.HasPrefix(lines[1], `Payment id="`) {
		t.Errorf("challenges: %q", lines)
	}
	for name, pay := range map[string]func(testing.TB, answer) string{"L402": s.payL402, "Payment": s.payPayment} {
		t.Run(name, func(t *testing.T) {
			path := "/t/title/v1/1.m4s"
			if name == "Payment" {
				path = "/t/title/v1/2.m4s"
			}
			want := s.title.Plain("v1", int(path[len(path)-5]-'1'))
			credential := pay(t, s.get(t, path))
			got := s.get(t, path, "Authorization", credential)
			if got.StatusCode != http.StatusOK || !bytes.Equal(got.body, want) {
				t.Fatalf("paid for: %s %s", got.Status, got.body[:min(300, len(got.body))])
			}
			if cc := got.Header.Get("Cache-Control"); !strings.HasPrefix(cc, "private") || got.Header.Get("Vary") != "Authorization" {
				t.Errorf("Cache-Control %q, Vary %q", cc, got.Header.Get("Vary"))
			}
			if receipt := got.Header.Get("Payment-Receipt"); (receipt != "") != (name == "Payment") {
				t.Errorf("receipt %q", receipt)
			}
			// Again, from where the connection was cut.
			got = s.get(t, path, "Authorization", credential, "Range", "bytes=1000-")
			if got.StatusCode != http.StatusPartialContent || !bytes.Equal(got.body, want[1000:]) {
				t.Errorf("the rest: %s", got.Status)
			}
			if other := s.get(t, "/t/title/v1/5.m4s", "Authorization", credential); other.StatusCode != http.StatusPaymentRequired {
				t.Errorf("another segment by the same payment: %s", other.Status)
			} else if p := other.problem(t); !strings.HasSuffix(p.Type, "payment-expired") {
				t.Errorf("another segment by the same payment: %s", p.Type)
			}
		})
	}
	report := s.settled(t, 2)
	if report.Earned != 6_000 || report.Recent[0].Scheme != exchange.SchemePrepaid {
		t.Errorf("earned %v, %+v", report.Earned, report.Recent)
	}
}

func TestStatusOfBadCredentials(t *testing.T) {
	s := open(t, nil)
	path := "/t/title/v0/1.m4s"
	p := s.get(t, path).params()
	unpaid := p["token"] + ":" + strings.Repeat("00", 32)
	for _, tc := range []struct {
		credential string
		status     int
		kind       string
	}{
		{"Basic QWxhZGRpbg==", 402, "payment-required"},
		{"L402 x", 401, "malformed-credential"},
		{"L402 " + unpaid, 401, "verification-failed"},
		{"LSAT " + unpaid, 401, "verification-failed"},
		{"Payment e30", 402, "malformed-credential"},
	} {
		a := s.get(t, path, "Authorization", tc.credential)
		if a.StatusCode != tc.status || !strings.HasSuffix(a.problem(t).Type, "/"+tc.kind) {
			t.Errorf("%.10s: %s, %s", tc.credential, a.Status, a.body)
		}
		if again := a.params(); again["invoice"] != p["invoice"] {
			t.Errorf("%.10s: no challenge, or another invoice", tc.credential)
		}
	}
}

func TestOneInvoiceForOneClientAndSegment(t *testing.T) {
	s := open(t, func(c *seller.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	path := "/t/title/v0/1.m4s"
	invoice := func(from string) string { return s.get(t, path, "X-Forwarded-For", from).params()["invoice"] }
	first := invoice("192.0.2.1")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := invoice("192.0.2.1"); got != first {
				t.Error("another invoice for the same client")
			}
		})
	}
	wg.Wait()
	s.do(t, http.MethodHead, path, "", "X-Forwarded-For", "192.0.2.77") // makes none
	if n := s.OpenInvoices(); n != 1 {
		t.Errorf("%d invoices, want 1", n)
	}
	for name, tc := range map[string]struct {
		from string
		same bool
	}{
		"behind a second proxy":  {"192.0.2.1, 10.0.0.9", true},
		"forged first hop":       {"203.0.113.5, 192.0.2.1", true},
		"another client":         {"192.0.2.2", false},
		"same network of IPv6":   {"2001:db8::1", false},
		"nonsense is the proxy":  {"x", false},
		"more hops than allowed": {strings.Repeat("192.0.2.9,", 100) + "192.0.2.1", true},
	} {
		if got := invoice(tc.from); (got == first) != tc.same {
			t.Errorf("%s: same invoice %v", name, got == first)
		}
	}
	if invoice("2001:db8::1") != invoice("2001:db8::2") {
		t.Error("one IPv6 network got two invoices")
	}
	// Once it is paid, the next client behind this address needs its own.
	s.wallet(t, first)
	s.settled(t, 1)
	if invoice("192.0.2.1") == first {
		t.Error("a paid invoice was handed out again")
	}
}

func TestInvoicesAreRationed(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.InvoiceBurst = 2; c.InvoiceRate = 0.01 })
	for i := 1; i <= 5; i++ {
		a := s.get(t, fmt.Sprintf("/t/title/v0/%d.m4s", i))
		asked := a.Header.Get("WWW-Authenticate") != ""
		if a.StatusCode != http.StatusPaymentRequired || asked != (i <= 2) || asked == (a.Header.Get("Retry-After") != "") {
			t.Errorf("request %d: %s, challenge %v, Retry-After %q", i, a.Status, asked, a.Header.Get("Retry-After"))
		}
		if p := a.problem(t); p.Offer == nil || p.Offer.Segment != i-1 {
			t.Errorf("request %d without a machine-readable offer: %s", i, a.body)
		}
	}
}

func TestForeignClientsCanBeTurnedAway(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Prepaid = func(name string) bool { return name != "title" } })
	a := s.get(t, "/t/title/v0/1.m4s", "Authorization", "L402 x")
	if a.StatusCode != http.StatusPaymentRequired || a.Header.Get("WWW-Authenticate") != "" || a.Header.Get("Retry-After") != "" {
		t.Errorf("%s, %q", a.Status, a.Header)
	}
	if p := a.problem(t); p.Offer == nil || fmt.Sprint(p.Offer.Schemes) != "[salted]" {
		t.Errorf("offer: %s", a.body)
	}
	if n := s.OpenInvoices(); n != 0 {
		t.Errorf("%d invoices", n)
	}
}

func TestNoMoneyForWhatCannotBeGiven(t *testing.T) {
	s := open(t, nil)
	seg := s.title.Segments(t, "v0")[0]
	sealed := s.title.Sealed(t, seg)
	sealed[5] ^= 1
	if err := os.WriteFile(filepath.Join(s.title.Dir, htlcdash.SealedPath(seg.Sealed)), sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := s.get(t, "/t/title/v0/1.m4s"); a.StatusCode != http.StatusPaymentRequired || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("asks %q for a broken segment", a.Header.Get("WWW-Authenticate"))
	}
}

func TestNodeDownIsNoReasonToFail(t *testing.T) {
	s := open(t, nil)
	s.node.Down()
	a := s.get(t, "/t/title/v0/1.m4s")
	if a.StatusCode != http.StatusPaymentRequired || a.Header.Get("Retry-After") == "" || a.problem(t).Offer == nil {
		t.Errorf("%s %s", a.Status, a.body)
	}
	var r seller.Report
	s.get(t, s.operator+"/api/provider").json(t, &r)
	if r.Node.Error == "" {
		t.Error("the operator is not told")
	}
}

func TestPagesOfOtherOrigins(t *testing.T) {
	s := open(t, nil)
	for _, path := range []string{"/v1/offers", "/v1/titles", "/t/title/v0/1.m4s", "/sealed/" + strings.Repeat("00", 32)} {
		pre := s.do(t, http.MethodOptions, path, "", "Origin", "https://example.org",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
		h := pre.Header
		if pre.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") ||
			!strings.Contains(h.Get("Access-Control-Allow-Methods"), "HEAD") || h.Get("Access-Control-Max-Age") != "7200" {
			t.Errorf("preflight of %s: %s, %v", path, pre.Status, h)
		}
	}
	a := s.get(t, "/t/title/v0/1.m4s", "Origin", "https://example.org")
	for _, name := range []string{"WWW-Authenticate", "Payment-Receipt", "Content-Range", "ETag", "Retry-After"} {
		if !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), name) {
			t.Errorf("pages cannot read %s", name)
		}
	}
	if o := s.do(t, http.MethodOptions, "/v1/offers", ""); o.StatusCode != http.StatusNoContent || o.Header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("OPTIONS: %s, Allow %q", o.Status, o.Header.Get("Allow"))
	}
}

func TestOperatorsFaceIsForTheOperator(t *testing.T) {
	s := open(t, nil)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "127.0.0.1": 200, "127.0.0.1:80": 200, "[::1]": 200, "[::1]:80": 200,
		"evil.example": 403, "evil.example:80": 403, "localhost.evil.example": 403,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.operator+"/api/provider", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %q: %s", host, resp.Status)
		}
	}
	for _, path := range []string{"/api/provider", "/api/events"} {
		if a := s.get(t, path); a.StatusCode != http.StatusNotFound {
			t.Errorf("viewers can ask for %s: %s", path, a.Status)
		}
	}
	if a := s.get(t, s.operator+"/"); a.StatusCode != http.StatusOK || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
		t.Errorf("page: %s", a.Status)
	}
}

func TestLogHoldsNoSecrets(t *testing.T) {
	s := open(t, nil)
	path := "/t/title/v0/1.m4s"
	a := s.get(t, path)
	credential := s.payL402(t, a)
	s.get(t, path+"?token="+a.params()["token"], "Authorization", credential)
	segs := s.title.Segments(t, "a0")
	o := s.offers(t, s.guest(t), segs[0])[0]
	s.buy(t, segs[0], o)
	s.settled(t, 2)
	key, err := s.title.Keys.Key(t.Context(), segs[0])
	if err != nil {
		t.Fatal(err)
	}
	content := key.Reveal()
	log := s.log.String()
	if !strings.Contains(log, "msg=request") || !strings.Contains(log, "msg=sold") {
		t.Errorf("log is empty: %s", log)
	}
	_, preimage, _ := strings.Cut(credential, ":")
	for name, secret := range map[string]string{
		"token": a.params()["token"], "preimage": preimage, "invoice": o.Invoice,
		"salt": hex.EncodeToString(o.Salt[:]), "key": hex.EncodeToString(content[:]), "secret": hex.EncodeToString([]byte{42, 0, 0, 0, 0}),
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds the %s", name)
		}
	}
}

// onDemand is a title whose one Representation is ranges of one file: a head
// of 100 bytes, then segments of 1000, 2000 and 1500.
func onDemand(t testing.TB) (dir string, file []byte) {
	t.Helper()
	sizes := []uint32{1000, 2000, 1500}
	sidx := binary.BigEndian.AppendUint32(nil, uint32(32+12*len(sizes)))
	sidx = append(sidx, "sidx\x00\x00\x00\x00"...)
	for _, v := range []uint32{1, 1, 0, 0, uint32(len(sizes))} { // reference id, timescale, earliest time, first offset, count
		sidx = binary.BigEndian.AppendUint32(sidx, v)
	}
	for _, n := range sizes {
		sidx = binary.BigEndian.AppendUint32(sidx, n)
		sidx = binary.BigEndian.AppendUint32(sidx, 2) // seconds
		sidx = binary.BigEndian.AppendUint32(sidx, 0x90000000)
	}
	init := binary.BigEndian.AppendUint32(nil, uint32(100-len(sidx)))
	init = append(init, "ftyp"...)
	file = append(init, make([]byte, 100-len(sidx)-8)...)
	file = append(file, sidx...)
	for i, n := range sizes {
		file = append(file, bytes.Repeat([]byte{byte('a' + i)}, int(n))...)
	}
	source := t.TempDir()
	mpd := fmt.Sprintf(`<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static" mediaPresentationDuration="PT6S" minBufferTime="PT2S">
  <Period><AdaptationSet contentType="video" mimeType="video/mp4">
    <Representation id="v0" bandwidth="8000" codecs="avc1.640015" width="320" height="180">
      <BaseURL>video.mp4</BaseURL>
      <SegmentBase indexRange="%d-99"><Initialization range="0-%d"/></SegmentBase>
    </Representation>
  </AdaptationSet></Period>
</MPD>`, 100-len(sidx), 99-len(sidx))
	for name, b := range map[string][]byte{title.MPDFile: []byte(mpd), "video.mp4": file} {
		if err := os.WriteFile(filepath.Join(source, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := must(htlcdash.NewPublisherKey([32]byte{9}))
	dir = filepath.Join(t.TempDir(), "title")
	_, err := publish.Run(context.Background(), publish.Options{
		Source: source, Out: dir, Key: key, Price: publish.Policy{Floor: 1000},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func TestByteRanges(t *testing.T) {
	dir, file := onDemand(t)
	s := open(t, func(c *seller.Config) { c.Titles = []string{dir} })
	path := "/t/title/video.mp4"
	paid := map[int]string{} // credentials by segment
	for i, at := range []int{100, 1100, 3100} {
		a := s.get(t, path, "Range", fmt.Sprintf("bytes=%d-", at))
		if p := a.problem(t); p.Offer == nil || p.Offer.Segment != i || a.Header.Get("WWW-Authenticate") == "" {
			t.Fatalf("segment %d: %s", i, a.body)
		}
		paid[i] = s.payL402(t, a)
	}
	for _, tc := range []struct {
		name, span string
		credential int // -1: none
		status     int
		content    string // Content-Range
		segment    int    // of a 402; -1: it asks for no money
	}{
		{"in the head", "bytes=0-9", -1, 206, "bytes 0-9/4600", 0},
		{"the whole head", "bytes=0-99", -1, 206, "bytes 0-99/4600", 0},
		{"beginning in the head", "bytes=50-2000", -1, 206, "bytes 50-99/4600", 0},
		{"everything by a range", "bytes=0-", -1, 206, "bytes 0-99/4600", 0},
		{"no range", "", -1, 402, "", -1},
		{"no range, paid", "", 0, 402, "", -1},
		{"malformed range", "bytes=x-y", -1, 402, "", -1},
		{"backwards", "bytes=200-100", -1, 402, "", -1},
		{"other unit", "lines=1-2", -1, 402, "", -1},
		{"first byte of a segment", "bytes=1100-1100", -1, 402, "", 1},
		{"last byte of a segment", "bytes=1099-1099", -1, 402, "", 0},
		{"part of a paid segment", "bytes=1200-1299", 1, 206, "bytes 1200-1299/4600", 0},
		{"beyond a paid segment", "bytes=1200-", 1, 206, "bytes 1200-3099/4600", 0},
		{"two ranges", "bytes=1200-1201,3200-3201", 1, 206, "bytes 1200-1201/4600", 0},
		{"last bytes", "bytes=-100", 2, 206, "bytes 4500-4599/4600", 0},
		{"more last bytes than there are", "bytes=-99999", -1, 206, "bytes 0-99/4600", 0},
		{"paid for another segment", "bytes=1200-1299", 0, 402, "", 1},
		{"outside", "bytes=4600-", -1, 416, "bytes */4600", 0},
		{"far outside", "bytes=4611686018427387904-", -1, 402, "", -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var header []string
			if tc.span != "" {
				header = append(header, "Range", tc.span)
			}
			if tc.credential >= 0 {
				header = append(header, "Authorization", paid[tc.credential])
			}
			a := s.get(t, path, header...)
			if a.StatusCode != tc.status || a.Header.Get("Content-Range") != tc.content {
				t.Fatalf("%s, Content-Range %q", a.Status, a.Header.Get("Content-Range"))
			}
			switch tc.status {
			case http.StatusPartialContent:
				var first, last, total int
				if _, err := fmt.Sscanf(tc.content, "bytes %d-%d/%d", &first, &last, &total); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(a.body, file[first:last+1]) {
					t.Errorf("wrong bytes: %q", a.body[:min(40, len(a.body))])
				}
			case http.StatusPaymentRequired:
				asks := a.Header.Get("WWW-Authenticate") != ""
				if asks != (tc.segment >= 0) || asks && a.problem(t).Offer.Segment != tc.segment {
					t.Errorf("asks for money: %v; %s", asks, a.body)
				}
			}
		})
	}
	etag := s.get(t, path, "Range", "bytes=0-9").Header.Get("ETag")
	if a := s.get(t, path, "Range", "bytes=5-9", "If-Range", etag); a.StatusCode != http.StatusPartialContent {
		t.Errorf("If-Range with the ETag: %s", a.Status)
	}
	if a := s.get(t, path, "Range", "bytes=5-9", "If-Range", `"x"`); a.StatusCode != http.StatusPaymentRequired {
		t.Errorf("If-Range with another ETag: %s", a.Status)
	}
	if a := s.do(t, http.MethodHead, path, "", "Range", "bytes=0-9"); a.StatusCode != http.StatusPartialContent || a.ContentLength != 10 {
		t.Errorf("HEAD of the head: %s", a.Status)
	}
}

func TestSegmentsCanBeGivenAway(t *testing.T) {
	s := open(t, func(c *seller.Config) { c.Price = seller.Factor(0) })
	if a := s.get(t, "/t/title/v0/1.m4s"); a.StatusCode != http.StatusOK || !bytes.Equal(a.body, s.title.Plain("v0", 0)) {
		t.Errorf("segment without a price: %s", a.Status)
	}
	if o := s.offers(t, s.guest(t), s.title.Segments(t, "v0")[0])[0]; o.Error != exchange.RefusedFree {
		t.Errorf("offer for a segment without a price: %+v", o)
	}
}

// FuzzRequest throws headers at a file of byte ranges. Whatever comes back is
// free, or asks for money.
func FuzzRequest(f *testing.F) {
	dir, file := onDemand(f)
	s := open(f, func(c *seller.Config) {
		c.Titles = []string{dir}
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // httptest's
		c.MaxOpenOffers = 100
		c.Log = nil
	})
	handler := s.Handler()
	f.Add("bytes=0-9", "192.0.2.1, 10.0.0.1", "")
	f.Add("bytes=-1", "::1", `"x"`)
	f.Add("bytes=1100-,3-4", "", "")
	f.Fuzz(func(t *testing.T, span, from, cond string) {
		r := httptest.NewRequest(http.MethodGet, "/t/title/video.mp4", nil)
		for name, v := range map[string]string{"Range": span, "X-Forwarded-For": from, "If-Range": cond} {
			r.Header.Set(name, v)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusPaymentRequired, http.StatusRequestedRangeNotSatisfiable:
		case http.StatusPartialContent:
			if !bytes.Contains(file[:100], w.Body.Bytes()) || w.Body.Len() == 0 {
				t.Errorf("Range %q gave %d bytes that are not in the head", span, w.Body.Len())
			}
		default:
			t.Errorf("Range %q: %d", span, w.Code)
		}
	})
}
