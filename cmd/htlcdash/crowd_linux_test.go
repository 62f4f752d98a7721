package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// The crowd. All of it is on this machine: on Linux each 127.x.y.z is an
// address of its own.
const (
	crowdStrangers = 10_000
	crowdGreedy    = 100
	crowdFilm      = 14              // segments
	crowdBuffer    = 6               // segments that the player keeps before it
	crowdSegment   = 2 * time.Second // of film
	crowdDoors     = 8               // requests of strangers at once
)

// What the provider gives. Small numbers, so that greed meets them soon.
const (
	crowdOpen   = 800
	crowdOffers = 24
	crowdProofs = 3
	crowdBytes  = 400_000
)

// workedNode counts the invoices that a provider has its node make.
type workedNode struct {
	*sim.Node
	made atomic.Int64
}

func (n *workedNode) Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	n.made.Add(1)
	return n.Node.Invoice(ctx, p, t)
}

// A fair is a provider with a crowd before its door.
type fair struct {
	*street
	node     *workedNode
	segments []htlcdash.Segment
	provider struct {
		Credentials struct {
			Keys []struct{ Key credential.PublicKey }
		}
	}

	tokens  []byte       // a request for tokens
	granted atomic.Int64 // offers that the greedy got
	proved  atomic.Int64 // proofs that the greedy got
	mu      sync.Mutex
	told    map[string]int  // answers, by who got them and what they were
	asked   map[string]bool // invoices that strangers were shown
}

// Ten thousand strangers and a hundred who show credentials, take all that
// they get and never pay, stand before one provider while a viewer plays a
// film: the picture never stops, and nobody gets more than a ration.
func TestCrowd(t *testing.T) {
	f := openFair(t)
	before := heap()
	greedy := f.credentials(t, crowdGreedy)
	f.play(t)
	f.piece(t, "v0", 0) // it has credentials: for those a crowd does compete
	var crowd sync.WaitGroup
	defer crowd.Wait() // also if the film ends early
	for i, c := range greedy {
		crowd.Go(func() { f.grab(t, i, c, greedy[(i+1)%len(greedy)]) })
	}
	crowd.Go(func() { f.pass(t) })
	least := f.watchInTime(t)
	crowd.Wait()
	t.Logf("the least that lay before the player: %.1f of %v; invoices %d, offers to the greedy %d, proofs %d; answers %v",
		least, crowdBuffer*crowdSegment, f.node.made.Load(), f.granted.Load(), f.proved.Load(), f.told)
	if least <= 0 {
		t.Errorf("the film stopped: the player lacked %.1f s", -least)
	}
	f.check(t)
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Errorf("the crowd left %d MiB behind", grown>>20)
	}
}

func openFair(t *testing.T) *fair {
	t.Helper()
	f := &fair{street: streetFor(t, titletest.Make(t, titletest.Options{Segments: crowdFilm})), told: map[string]int{}, asked: map[string]bool{}}
	f.log = slog.New(slog.DiscardHandler)
	f.node = &workedNode{Node: f.street.provider}
	public := door(t)
	f.shop = "http://" + public.Addr().String()
	c := f.parse(t, "serve", "--max-open-offers", fmt.Sprint(crowdOpen),
		"--credential-offers", fmt.Sprint(crowdOffers), "--credential-proofs", fmt.Sprint(crowdProofs), "--credential-bytes", fmt.Sprint(crowdBytes/1000)+" kB")
	f.open(t, func(ctx context.Context) error {
		return c.Serve.sell(ctx, public, nil, f.node, f.node.ID(), f.log)
	})
	if code, b := f.ask(t, 0, http.MethodGet, "/v1/provider", "", nil); code.StatusCode != http.StatusOK || json.Unmarshal(b, &f.provider) != nil {
		t.Fatalf("the provider does not say who it is: %s", b)
	}
	for _, rep := range []string{"v0", "v1", "a0"} {
		f.segments = append(f.segments, f.title.Segments(t, rep)...)
	}
	f.tokens, _ = f.blind(t, 1)
	return f
}

func (f *fair) blind(t *testing.T, n int) ([]byte, *credential.Pending) {
	request, pending, err := credential.Blind(f.provider.Credentials.Keys[0].Key, n, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return request, pending
}

// address is the i-th of many, four to a network.
func address(i int) *net.TCPAddr {
	return &net.TCPAddr{IP: net.IPv4(127, byte(1+i/1024), byte(i/4), byte(1+i%4))}
}

// ask sends a request from the i-th address over a connection of its own.
func (f *fair) ask(t *testing.T, i int, method, path, authorization string, body []byte) (*http.Response, []byte) {
	r, err := http.NewRequestWithContext(t.Context(), method, f.shop+path, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return &http.Response{}, nil
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	r.Close = true
	conn, err := (&net.Dialer{LocalAddr: address(i)}).DialContext(t.Context(), "tcp", r.URL.Host)
	if err != nil {
		t.Error(err)
		return &http.Response{}, nil
	}
	defer conn.Close()
	_ = r.Write(conn) // an answer may come before all is sent
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return &http.Response{}, nil
	}
	b, _ := io.ReadAll(resp.Body)
	return resp, b
}

// tell notes an answer, for the log.
func (f *fair) tell(who string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told[fmt.Sprintf("%s: %d", who, code)]++
}

func (f *fair) credentials(t *testing.T, n int) (all []credential.Credential) {
	t.Helper()
	for i := 0; len(all) < n; i++ {
		request, pending := f.blind(t, credential.MaxBatch)
		resp, b := f.ask(t, 20_000+i, http.MethodPost, "/v1/credentials", "", request)
		got, err := pending.Finish(b)
		if err != nil {
			t.Fatalf("credentials: %s: %v", resp.Status, err)
		}
		all = append(all, got...)
	}
	return all[:n]
}

// A nuisance is what a stranger asks for, and what it may get.
type nuisance struct {
	name, method, path string
	authorization      func(path string, body []byte) string
	body               []byte
	answers            []int
	times              int // more than once
}

func (f *fair) nuisances(i int) []nuisance {
	seg := f.segments[i%len(f.segments)]
	media := fmt.Sprintf("/t/%s/%s/%d.m4s", filepath.Base(f.title.Dir), seg.Representation, seg.Index+1)
	key := f.provider.Credentials.Keys[0].Key.ID()
	forged := func(id credential.KeyID, at time.Time) func(string, []byte) string {
		return func(path string, body []byte) string {
			var b [162]byte
			c := credential.Credential{Token: credential.Token{KeyID: id}}
			rand.Read(c.Nonce[:])
			copy(b[:], someCredential.Reveal())
			copy(b[2:34], c.Nonce[:])
			copy(b[66:98], id[:])
			rand.Read(b[98:])
			c, err := credential.ParseCredential(b[:])
			if err != nil {
				panic(err)
			}
			return c.Authorization(http.MethodPost, path, body, at)
		}
	}
	offers := mustJSON(exchange.OfferRequest{Title: f.title.ID, Scheme: exchange.SchemeSalted, Sealed: []htlcdash.Root{seg.Sealed}})
	return []nuisance{
		{name: "media", method: "GET", path: media, answers: []int{402}, times: 1},
		{name: "offers without credential", method: "POST", path: "/v1/offers", body: offers, answers: []int{401}},
		{name: "proofs without credential", method: "POST", path: "/v1/proofs", body: bytes.Repeat([]byte("x"), 4096), answers: []int{401}},
		{name: "forged credential", method: "POST", path: "/v1/offers", body: offers, authorization: forged(key, time.Now()), answers: []int{401, 429}},
		{name: "forged for bytes", method: "GET", path: "/sealed/" + seg.Sealed.String(), authorization: forged(key, time.Now()), answers: []int{401, 429}},
		{name: "foreign credential", method: "POST", path: "/v1/keys", authorization: forged(credential.KeyID{1}, time.Now()), answers: []int{401}},
		{name: "stale credential", method: "POST", path: "/v1/keys", authorization: forged(key, time.Now().Add(-time.Hour)), answers: []int{401}},
		{name: "malformed", method: "POST", path: "/v1/proofs", authorization: func(string, []byte) string { return "PrivateToken token" }, answers: []int{401}},
		{name: "sealed bytes", method: "GET", path: "/sealed/" + seg.Sealed.String(), answers: []int{200}},
		{name: "tokens", method: "POST", path: "/v1/credentials", body: f.tokens, answers: []int{200, 429, 503}},
		{name: "large", method: "POST", path: "/v1/credentials", body: make([]byte, 1<<16), answers: []int{413, 429}},
	}
}

// someCredential is one of no key in use.
var someCredential = sync.OnceValue(func() credential.Credential {
	key, err := credential.NewIssuerKey([32]byte{1}, 1)
	if err != nil {
		panic(err)
	}
	token := credential.Token{KeyID: key.ID()}
	return credential.Credential{Token: token, Shared: key.Redeem(token)}
})()

// pass lets all strangers ask, evenly while the film plays.
func (f *fair) pass(t *testing.T) {
	began := time.Now()
	next := make(chan int)
	var doors sync.WaitGroup
	for range crowdDoors {
		doors.Go(func() {
			for i := range next {
				list := f.nuisances(i)
				n := list[i%len(list)]
				for range n.times + 1 {
					f.nag(t, i, n)
				}
			}
		})
	}
	for i := range crowdStrangers {
		time.Sleep(time.Until(began.Add(time.Duration(i) * (crowdFilm - crowdBuffer) * crowdSegment / crowdStrangers)))
		next <- i
	}
	close(next)
	doors.Wait()
}

func (f *fair) nag(t *testing.T, i int, n nuisance) {
	authorization := ""
	if n.authorization != nil {
		authorization = n.authorization(n.path, n.body)
	}
	resp, b := f.ask(t, i, n.method, n.path, authorization, n.body)
	f.tell(n.name, resp.StatusCode)
	if slices.Contains(n.answers, resp.StatusCode) {
		f.shown(resp)
		return
	}
	t.Errorf("%s: %d, want one of %v: %.200s", n.name, resp.StatusCode, n.answers, b)
}

// shown notes the invoice of a 402.
func (f *fair) shown(resp *http.Response) {
	for _, line := range resp.Header.Values("Www-Authenticate") {
		if _, invoice, ok := strings.Cut(line, `invoice="`); ok {
			f.mu.Lock()
			f.asked[invoice] = true
			f.mu.Unlock()
		}
	}
}

// grab takes what the i-th greedy one gets, until each kind of thing was
// refused for its reason. Then it shows what it overheard of another.
func (f *fair) grab(t *testing.T, i int, mine, other credential.Credential) {
	from := 20_000 + 100 + i
	post := func(c credential.Credential, path string, body []byte) (*http.Response, []byte, string) {
		shown := c.Authorization(http.MethodPost, path, body, time.Now())
		resp, b := f.ask(t, from, http.MethodPost, path, shown, body)
		f.tell("greedy "+path, resp.StatusCode)
		return resp, b, shown
	}
	var ids []exchange.SaleID
	request := exchange.OfferRequest{Title: f.title.ID, Scheme: exchange.SchemeSalted}
	for _, seg := range f.segments[:crowdFilm] {
		request.Sealed = append(request.Sealed, seg.Sealed)
	}
	for busy := false; !busy; request.Try++ {
		resp, b, _ := post(mine, "/v1/offers", mustJSON(request))
		got, err := exchange.ParseOfferResponse(b, request)
		if resp.StatusCode != http.StatusOK || err != nil || request.Try > crowdOpen {
			t.Errorf("offers: %s %.200s", resp.Status, b)
			return
		}
		for _, o := range got.Offers {
			switch o.Error {
			case "":
				f.granted.Add(1)
				ids = append(ids, o.ID())
			case exchange.RefusedBusy:
				busy = true
			case exchange.RefusedUnavailable: // a slow machine: not in time
			default:
				t.Errorf("no offer: %s", o.Error)
			}
		}
	}
	f.grabBytes(t, from, mine)
	f.grabProofs(t, post, mine, other, ids)
}

func (f *fair) grabBytes(t *testing.T, from int, mine credential.Credential) {
	got := 0
	for {
		path := "/sealed/" + f.segments[0].Sealed.String()
		resp, b := f.ask(t, from, http.MethodGet, path, mine.Authorization(http.MethodGet, path, nil, time.Now()), nil)
		f.tell("greedy bytes", resp.StatusCode)
		if resp.StatusCode != http.StatusOK {
			if resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(b), "pay for what you have first") || got > crowdBytes {
				t.Errorf("after %d sealed bytes: %s %.200s", got, resp.Status, b)
			}
			return
		}
		got += len(b)
	}
}

func (f *fair) grabProofs(t *testing.T, post func(credential.Credential, string, []byte) (*http.Response, []byte, string), mine, other credential.Credential, ids []exchange.SaleID) {
	if len(ids) == 0 {
		t.Error("a greedy one got no offer at all: others can lock it out")
		return
	}
	ask := func(id exchange.SaleID) []byte {
		return mustJSON(exchange.ProofRequest{Title: f.title.ID, System: "vole-80", Nonce: exchange.NewNonce(), Sales: []exchange.SaleID{id}})
	}
	for n := 0; ; n++ {
		resp, b, shown := post(mine, "/v1/proofs", ask(ids[n%len(ids)]))
		if resp.StatusCode == http.StatusOK {
			f.proved.Add(1)
			continue
		}
		if n != crowdProofs || resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(b), "pay for what you have first") {
			t.Errorf("after %d proofs: %s %.200s", n, resp.Status, b)
		}
		_ = shown
		break
	}
	// What another's request says of itself is good for that request only.
	theirs := other.Authorization(http.MethodPost, "/v1/proofs", ask(ids[0]), time.Now())
	resp, b := f.ask(t, 30_000, http.MethodPost, "/v1/proofs", theirs, ask(ids[0]))
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("another's authorization under a request of mine: %s %.200s", resp.Status, b)
	}
}

// watchInTime plays the film in its own time, a second of film in a second, once
// the buffer is full. It returns the least that lay before the player, in seconds; it is
// negative if the film stopped.
func (f *fair) watchInTime(t *testing.T) (least float64) {
	t.Helper()
	least = (crowdBuffer * crowdSegment).Seconds()
	var began time.Time
	for i := range crowdFilm {
		if i >= crowdBuffer { // the buffer is full
			time.Sleep(time.Until(began.Add(time.Duration(i-crowdBuffer) * crowdSegment)))
		}
		f.piece(t, "v0", i)
		switch {
		case i == crowdBuffer-1:
			began = time.Now()
		case i >= crowdBuffer:
			due := began.Add(time.Duration(i) * crowdSegment)
			least = min(least, time.Until(due).Seconds())
		}
	}
	return least
}

// piece gets a segment as players do: again, if there is none yet.
func (f *fair) piece(t *testing.T, rep string, i int) {
	t.Helper()
	var code int
	var got []byte
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		code, got = f.get(t, fmt.Sprintf("/t/%s/%s/%d.m4s", f.title.ID, rep, i+1))
		if code != http.StatusServiceUnavailable && code != http.StatusGatewayTimeout {
			break
		}
		time.Sleep(100 * time.Millisecond) // as players do
	}
	if code != http.StatusOK || !bytes.Equal(got, f.title.Plain(rep, i)) {
		t.Fatalf("segment %d of %s: status %d, %d bytes %.200q", i, rep, code, len(got), got)
	}
}

// check looks into the books, and at what the node had to do.
func (f *fair) check(t *testing.T) {
	t.Helper()
	f.network.Wait()
	if n := f.proved.Load(); n != crowdGreedy*crowdProofs {
		t.Errorf("%d proofs for the greedy, want %d", n, crowdGreedy*crowdProofs)
	}
	if f.granted.Load() > crowdOpen {
		t.Errorf("%d offers were open, at most %d may be", f.granted.Load(), crowdOpen)
	}
	bought, _ := f.sum(t, "bought", "amount_msat")
	if made := f.node.made.Load(); bought < crowdFilm || made > int64(crowdOpen+bought) {
		t.Errorf("the node made %d invoices, %d were paid, and %d may be open", made, bought, crowdOpen)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(f.folder, "provider.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	count := func(what string) (n int64) {
		if err := db.QueryRow("SELECT count(*) FROM " + what).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count("sales WHERE scheme <> 'salted'"); n != 0 || len(f.asked) == 0 {
		t.Errorf("%d rows for %d invoices of strangers, want none", n, len(f.asked))
	}
	// The viewer asks for offers of more than it buys: a few pieces ahead.
	if n := count("sales"); n < f.granted.Load() || n > f.granted.Load()+4*crowdFilm {
		t.Errorf("%d sales in the books, %d for the greedy", n, f.granted.Load())
	}
	if n := count("spent_tokens"); n < crowdGreedy || n > crowdGreedy+2 {
		t.Errorf("%d credentials in the books, want those of the greedy and the viewer's", n)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
