//go:build itest

package itest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"htlcdash"
	"htlcdash/internal/directory"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/internal/nostr"
	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
	"htlcdash/internal/seller"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
	"htlcdash/lightning/simlnd"
)

// An agora is a market in which nobody knows whom to trust: the honest ones are
// processes of the program, with simulated nodes that they take for lnd; who
// attacks is code of the test.
type agora struct {
	*stage
	film  *titletest.Title
	net   *sim.Network
	buyer *sim.Node
	face  string // of the buyer
}

// purse is what each who pays has towards who is paid.
const purse = 1_000_000 * lightning.Sat

func newAgora(t *testing.T, o titletest.Options) *agora {
	t.Helper()
	film := titletest.Make(t, o)
	a := &agora{stage: &stage{dir: t.TempDir(), titles: film.Dir}, film: film, net: sim.New(sim.Config{})}
	a.buyer = a.net.Node("viewer")
	a.face = a.openFace(t, a.buyer)
	return a
}

// openFace lets a process pay and be paid by a node.
func (a *agora) openFace(t *testing.T, n *sim.Node) string {
	t.Helper()
	face := simlnd.New(n)
	server := httptest.NewServer(face)
	t.Cleanup(func() {
		face.Close()
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// payee adds a node that the viewer can pay.
func (a *agora) payee(name string) *sim.Node {
	n := a.net.Node(name)
	a.net.Connect(a.buyer, n, purse, 0)
	return n
}

// A shop is a provider's process, and its node.
type shop struct {
	*process
	node   *sim.Node
	secret string // file
}

// sell opens a provider of the film at an address. It is named, and paid, as name.
func (a *agora) sell(t *testing.T, name, address string, flags ...string) *shop {
	t.Helper()
	return a.open(t, a.payee(name), address, append([]string{"--titles-folder", a.titles}, flags...)...)
}

// carry opens a provider that sells nothing, and tells of others.
func (a *agora) carry(t *testing.T, name string, flags ...string) *shop {
	t.Helper()
	empty := t.TempDir()
	address := freeAddress(t)
	return a.open(t, a.payee(name), address, append([]string{"--titles-folder", empty, "--files", empty, "--public-url", "http://" + address}, flags...)...)
}

// resell opens a relay that has no title of its own.
func (a *agora) resell(t *testing.T, name, upstream string, flags ...string) *shop {
	t.Helper()
	s := a.open(t, a.payee(name), freeAddress(t), append([]string{
		"--titles-folder", filepath.Join(a.dir, "none"), "--upstream", upstream, "--upstream-macaroon", "", "--upstream-complaints", "",
		"--upstream-mirror", filepath.Join(a.dir, name+".mirror"), "--cache", filepath.Join(a.dir, name+".cache"),
	}, flags...)...)
	soon(t, "the relay sells the film", func() bool {
		resp, err := http.Get(s.url + "/v1/titles")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return strings.Contains(string(b), a.film.ID.String())
	})
	return s
}

func (a *agora) open(t *testing.T, node *sim.Node, address string, flags ...string) *shop {
	t.Helper()
	name := node.String()
	s := &shop{node: node, secret: filepath.Join(a.dir, name+".secret")}
	s.process = a.launch(t, name, nil, append([]string{
		"serve", "--credentials", "free", "--listen", address, "--page", "", "--name", name,
		"--node-address", a.openFace(t, node), "--node-tls-cert", "", "--macaroon", "",
		"--ledger", a.books(name), "--secret", s.secret,
	}, flags...)...)
	s.url = "http://" + address
	s.await(t, "/v1/provider")
	return s
}

// key is what the shop signs with.
func (s *shop) key(t *testing.T) htlcdash.ProviderKey {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimSpace(string(readFile(t, s.secret))))
	if err != nil || len(b) != 32 {
		t.Fatal("no secret", err)
	}
	return exchange.NewSecret([32]byte(b)).ProviderKey()
}

// view starts a viewer's proxy that buys no more than it is asked for.
func (a *agora) view(t *testing.T, name string, flags ...string) *process {
	t.Helper()
	address := freeAddress(t)
	p := a.launch(t, name, nil, append([]string{
		"proxy", "--listen", address, "--node-address", a.face, "--node-tls-cert", "", "--macaroon", "",
		"--ledger", a.books(name), "--cache", filepath.Join(a.dir, name+".cache"), "--complaints", "", "--ahead", "0s", "--ahead-money", "1 msat",
	}, flags...)...)
	p.url = "http://" + address
	p.await(t, "/api/titles")
	return p
}

// obtain asks for a segment as a player does, again when it is told to wait, and
// reports whether it came within a number of tries.
func (a *agora) obtain(t *testing.T, viewer *process, rep string, i, tries int) bool {
	t.Helper()
	var last error
	for range tries {
		b, err := fetchSegment(t.Context(), viewer.url, a.film, a.film.Segments(t, rep)[i])
		if err == nil {
			if !bytes.Equal(b, a.film.Plain(rep, i)) {
				t.Fatalf("segment %d of %s: %d wrong bytes", i, rep, len(b))
			}
			return true
		}
		last = err
		select {
		case <-time.After(200 * time.Millisecond):
		case <-viewer.done:
			t.Fatal("the viewer ended")
		}
	}
	t.Logf("segment %d of %s: %v", i, rep, last)
	return false
}

// watch plays a Representation to its end.
func (a *agora) watch(t *testing.T, viewer *process, rep string, at func(i int)) {
	t.Helper()
	for i := range a.film.Segments(t, rep) {
		at(i)
		if !a.obtain(t, viewer, rep, i, 300) {
			t.Fatal("the film ends early")
		}
	}
}

func always(int) {}

// income is what a node was paid.
func (a *agora) income(t *testing.T, n *sim.Node) lightning.Msat {
	t.Helper()
	b, err := n.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b.Outbound
}

// account holds a viewer's books against the nodes: each key of a Representation
// was paid once, to those named, and not above what the publisher asks.
func (a *agora) account(t *testing.T, viewer, rep string, paid ...*sim.Node) []ledger.Purchase {
	t.Helper()
	a.net.Wait()
	all := purchases(t, a.books(viewer))
	sum := spent(t, all)
	var got lightning.Msat
	for _, n := range paid {
		got += a.income(t, n)
	}
	if got != sum || a.income(t, a.buyer) != purse*lightning.Msat(a.channels(t))-sum {
		t.Errorf("the books say %v, those who may be paid got %v, the viewer's node lacks %v", sum, got, purse*lightning.Msat(a.channels(t))-a.income(t, a.buyer))
	}
	segs, keys := a.film.Segments(t, rep), 0
	for _, p := range all {
		if p.State != lightning.Paid || p.Representation != rep {
			continue
		}
		if keys++; p.Amount > segs[p.Index].Price {
			t.Errorf("segment %d cost %v, the publisher asks %v", p.Index, p.Amount, segs[p.Index].Price)
		}
	}
	if keys != len(segs) {
		t.Errorf("%d keys were paid for, the film has %d", keys, len(segs))
	}
	if err := a.net.Check(); err != nil {
		t.Error(err)
	}
	return all
}

func (a *agora) channels(t *testing.T) int {
	t.Helper()
	all, err := a.buyer.Channels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// unpaid fails the test if a node was paid.
func (a *agora) unpaid(t *testing.T, nodes ...*sim.Node) {
	t.Helper()
	for _, n := range nodes {
		if got := a.income(t, n); got != 0 {
			t.Errorf("%v got %v", n, got)
		}
	}
}

// after is a door to a shop that makes no offers until something has happened, so
// that whoever attacks is heard first.
func after(t *testing.T, behind string, ready func() bool) *front {
	t.Helper()
	f := newFront(t, behind)
	f.lie = func(_ http.ResponseWriter, r *http.Request) bool {
		for strings.HasPrefix(r.URL.Path, "/v1/offers") && !ready() {
			select {
			case <-r.Context().Done():
				return true
			case <-time.After(10 * time.Millisecond):
			}
		}
		return false
	}
	return f
}

// A rogue has the film, its keys and a node, and does what its attack says in
// place of what an honest provider would. The attack returns false where it
// leaves a request to the honest part.
type rogue struct {
	url    string
	node   *sim.Node
	secret exchange.Secret
	honest http.Handler
	film   *titletest.Title
	tried  atomic.Int64 // answers of the attack
}

type attack func(r *rogue, w http.ResponseWriter, req *http.Request) bool

func (a *agora) rogue(t *testing.T, name string, price func(htlcdash.Segment) lightning.Msat, do attack) *rogue {
	t.Helper()
	r := &rogue{node: a.payee(name), film: a.film}
	copy32 := [32]byte{1}
	copy(copy32[1:], name)
	r.secret = exchange.NewSecret(copy32)
	books, err := ledger.Open(a.books(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { books.Close() })
	s, err := seller.New(t.Context(), seller.Config{
		Titles: []string{a.film.Dir}, Payee: r.node, Node: r.node.ID(), Books: books, Secret: r.secret, Issue: seller.IssueFree,
		Proofs: []proof.System{vole.Bits80}, Price: price,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.honest = s.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if do(r, w, req) {
			r.tried.Add(1)
			return
		}
		r.honest.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	r.url = server.URL
	return r
}

// changeOffers changes the offers that an answer holds, and signs them again.
func changeOffers(answer []byte, film *titletest.Title, key htlcdash.ProviderKey, change func(seg htlcdash.Segment, o *exchange.Offer)) []byte {
	var resp exchange.OfferResponse
	if json.Unmarshal(answer, &resp) != nil {
		return answer
	}
	for i := range resp.Offers {
		o := &resp.Offers[i]
		for _, rep := range film.Manifest.Representations() {
			segs, err := film.Title.Segments(context.Background(), rep.ID)
			if err != nil {
				panic(err)
			}
			for _, seg := range segs {
				if seg.Sealed == o.Sealed && o.Error == "" {
					change(seg, o)
					o.Signature, _ = exchange.SignOffer(key, seg.Title, seg.Seal, *o)
				}
			}
		}
	}
	b, err := json.Marshal(resp)
	if err != nil {
		panic(err)
	}
	return b
}

// lies is an attack on the offers of a rogue.
func lies(change func(r *rogue, seg htlcdash.Segment, o *exchange.Offer)) attack {
	return func(r *rogue, w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path != "/v1/offers" {
			return false
		}
		rec := httptest.NewRecorder()
		r.honest.ServeHTTP(rec, req)
		w.WriteHeader(rec.Code)
		_, _ = w.Write(changeOffers(rec.Body.Bytes(), r.film, r.secret.ProviderKey(), func(seg htlcdash.Segment, o *exchange.Offer) { change(r, seg, o) }))
		return true
	}
}

// wanting answers paths that begin so with what is said.
func wanting(prefix string, status int, body []byte) attack {
	return func(_ *rogue, w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasPrefix(req.URL.Path, prefix) {
			return false
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
		return true
	}
}

// oneOf tries attacks in turn.
func oneOf(all ...attack) attack {
	return func(r *rogue, w http.ResponseWriter, req *http.Request) bool {
		return slices.ContainsFunc(all, func(a attack) bool { return a(r, w, req) })
	}
}

func part(share float64) func(htlcdash.Segment) lightning.Msat {
	return func(s htlcdash.Segment) lightning.Msat { return lightning.Msat(float64(s.Price) * share) }
}

// says publishes events at a relay and reports how many it did not refuse.
func says(t *testing.T, relay string, events ...nostr.Event) (taken int) {
	t.Helper()
	c, err := nostr.NewClient("ws"+strings.TrimPrefix(relay, "http")+"/v1/relay", nostr.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { c.Run(ctx) })
	defer work.Wait()
	defer cancel()
	for _, e := range events {
		switch err := c.Publish(ctx, e); {
		case err == nil:
			taken++
		case !errors.Is(err, nostr.ErrRefused):
			t.Fatal(err)
		}
	}
	return taken
}

// claim is an announcement of the film by a fresh key.
func (a *agora) claim(t *testing.T, n uint16, made time.Time, life time.Duration, addresses ...string) nostr.Event {
	t.Helper()
	key, err := htlcdash.NewProviderKey([32]byte{1: 7, 30: byte(n >> 8), 31: byte(n)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := directory.Announcement{
		Title: a.film.ID, Publisher: a.film.Publisher, Name: "title", Label: "Film", Factor: directory.PPM / 10,
		At: made.Truncate(time.Second), Expires: made.Truncate(time.Second).Add(life), Addresses: addresses,
	}.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// told reports whether who asks only one relay is led to an address.
func (a *agora) told(t *testing.T, relay, address string) bool {
	t.Helper()
	d, err := directory.New(directory.Config{Relays: []string{relay}, KeyAt: keyAt, Local: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	found, _ := d.Find(t.Context(), a.film.ID)
	return slices.ContainsFunc(found, func(s directory.Seller) bool { return s.Address == address })
}

// TestSybils floods the relay that a viewer asks with announcements by fresh
// keys, most of them of nobody, and opens providers that quote little and deliver
// nothing. The viewer, which knows the title's id and no more, plays to the end.
func TestSybils(t *testing.T) {
	a := newAgora(t, titletest.Options{Segments: 12})
	carrier := a.carry(t, "carrier")
	stranger := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	nobody := freeAddress(t)

	// Some deliver nothing, each a process with a key of its own.
	var waits atomic.Int64
	silent := func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v1/proofs") || strings.HasPrefix(r.URL.Path, "/sealed/") {
			waits.Add(1)
			<-r.Context().Done()
			return true
		}
		return false
	}
	var sybils []*shop
	for i := range 3 {
		address := freeAddress(t)
		f := newFront(t, "http://"+address)
		f.lie = silent
		sybils = append(sybils, a.sell(t, fmt.Sprintf("sybil%d", i), address, "--price-factor", "0.2", "--public-url", f.url, "--relays", carrier.url))
	}
	address := freeAddress(t)
	door := after(t, "http://"+address, func() bool { return waits.Load() > 0 })
	var flood []nostr.Event
	for n := range uint16(300) {
		at := "http://" + nobody + fmt.Sprintf("/%d", n)
		switch n % 10 {
		case 0:
			at = stranger.URL
		case 1:
			at = door.url // of another's key
		}
		flood = append(flood, a.claim(t, n, time.Now(), time.Hour, at))
	}
	taken := says(t, carrier.url, flood...)
	t.Logf("the relay carries %d of %d", taken, len(flood))
	if taken < 100 {
		t.Error("no flood")
	}
	honest := a.sell(t, "honest", address, "--public-url", door.url, "--relays", carrier.url)
	for _, s := range append(slices.Clone(sybils), honest) {
		soon(t, s.name+" is found", func() bool {
			return a.carries(t, carrier.url, s.key(t).ID())
		})
	}

	viewer := a.view(t, "viewer", "--relays", carrier.url, "--title", a.film.ID.String(), "--budget-title", "10000 sat")
	a.watch(t, viewer, "v0", always)
	viewer.stop()
	a.account(t, "viewer", "v0", honest.node)
	for _, s := range sybils {
		a.unpaid(t, s.node)
	}
}

// carries reports whether a relay has an announcement by a key.
func (a *agora) carries(t *testing.T, relay string, key htlcdash.ProviderID) bool {
	t.Helper()
	for _, e := range a.events(t, relay) {
		if e.PubKey == nostr.Key(key) {
			return true
		}
	}
	return false
}

// events are what a relay carries about the film.
func (a *agora) events(t *testing.T, relay string) (all []nostr.Event) {
	t.Helper()
	resp, err := http.Get(relay + "/v1/announcements?title=" + a.film.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list struct{ Announcements []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	for _, raw := range list.Announcements {
		e, err := nostr.ParseEvent(raw)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// TestPriceWar has two providers undercut each other below cost until all others
// are out of the market, and then ask more than the publisher allows. The viewer
// takes what is cheap, never pays above the publisher's price, and has a budget of
// exactly what the film costs by that.
func TestPriceWar(t *testing.T) {
	a := newAgora(t, titletest.Options{Segments: 16})
	var step atomic.Int64
	war := func(turn int64) func(htlcdash.Segment) lightning.Msat {
		return func(s htlcdash.Segment) lightning.Msat {
			n := step.Load()
			if n%2 == turn { // its turn to undercut
				n++
			}
			return s.Price / lightning.Msat(2+n)
		}
	}
	var raised atomic.Bool
	raise := func(r *rogue, w http.ResponseWriter, req *http.Request) bool {
		return raised.Load() && lies(func(r *rogue, seg htlcdash.Segment, o *exchange.Offer) {
			inv, err := r.node.Invoice(context.Background(), lightning.RandomPreimage(), lightning.Terms{Amount: 3 * seg.Price})
			if err != nil {
				panic(err)
			}
			o.Price, o.Hash, o.Invoice = inv.Amount, inv.Hash, inv.Bolt11
		})(r, w, req)
	}
	one, two := a.rogue(t, "one", war(0), raise), a.rogue(t, "two", war(1), raise)
	honest := a.sell(t, "honest", freeAddress(t))

	var full lightning.Msat
	for _, s := range a.film.Segments(t, "v0") {
		full += s.Price
	}
	viewer := a.view(t, "viewer", "--providers", one.url+","+two.url+","+honest.url, "--budget-title", fmt.Sprintf("%d msat", full), "--max-fee", "0", "--max-fee-percent", "0")
	const half = 8
	var cheap lightning.Msat
	a.watch(t, viewer, "v0", func(i int) {
		step.Store(int64(i))
		if i == half {
			a.net.Wait()
			cheap = a.income(t, one.node) + a.income(t, two.node)
			raised.Store(true)
		}
	})
	viewer.stop()
	all := a.account(t, "viewer", "v0", one.node, two.node, honest.node)
	// Offers from before the raise may still be taken up.
	if one.tried.Load()+two.tried.Load() == 0 || a.income(t, honest.node) == 0 {
		t.Errorf("they asked too much %d times, the honest one got %v", one.tried.Load()+two.tried.Load(), a.income(t, honest.node))
	}
	if cheap == 0 {
		t.Error("nobody bought while it was cheap")
	}
	if sum := spent(t, all); sum >= full {
		t.Errorf("paid %v, the publisher asks %v", sum, full)
	}
}

// TestOffersOfNothing has providers announce, list and offer a title of which they
// have nothing to sell: no key, so that no proof is true, or no bytes either.
func TestOffersOfNothing(t *testing.T) {
	a := newAgora(t, titletest.Options{Segments: 10})
	carrier := a.carry(t, "carrier")
	madeUp := lies(func(r *rogue, _ htlcdash.Segment, o *exchange.Offer) {
		inv, err := r.node.Invoice(context.Background(), lightning.RandomPreimage(), lightning.Terms{Amount: o.Price})
		if err != nil {
			panic(err)
		}
		o.Hash, o.Invoice = inv.Hash, inv.Bolt11
	})
	noBytes := wanting("/sealed/", http.StatusNotFound, nil)
	rogues := []*rogue{
		a.rogue(t, "unproved", part(0.2), oneOf(madeUp, noBytes, wanting("/v1/proofs", http.StatusNotFound, nil))),
		a.rogue(t, "garbled", part(0.3), oneOf(madeUp, wanting("/v1/proofs", http.StatusOK, bytes.Repeat([]byte{5}, 40_000)))),
		a.rogue(t, "keyless", part(0.4), oneOf(madeUp, noBytes)), // proves what is not so
	}
	judged := func() bool {
		return !slices.ContainsFunc(rogues, func(r *rogue) bool { return r.tried.Load() == 0 })
	}
	address := freeAddress(t)
	door := after(t, "http://"+address, judged)
	honest := a.sell(t, "honest", address, "--public-url", door.url, "--relays", carrier.url)
	for _, r := range rogues {
		e, err := directory.Announcement{
			Title: a.film.ID, Publisher: a.film.Publisher, Name: "title", Factor: directory.PPM / 5,
			At: time.Now().Truncate(time.Second), Expires: time.Now().Truncate(time.Second).Add(time.Hour), Addresses: []string{r.url},
		}.Sign(r.secret.ProviderKey())
		if err != nil {
			t.Fatal(err)
		}
		if says(t, carrier.url, e) != 1 {
			t.Fatal("not carried")
		}
	}
	soon(t, "the honest one is found", func() bool { return a.told(t, carrier.url, door.url) })

	viewer := a.view(t, "viewer", "--relays", carrier.url, "--title", a.film.ID.String())
	a.watch(t, viewer, "v0", always)
	viewer.stop()
	a.account(t, "viewer", "v0", honest.node)
	for _, r := range rogues {
		t.Logf("%v was asked, and lied, %d times", r.node, r.tried.Load())
		a.unpaid(t, r.node)
	}
}

// A holder takes payments for others' hashes into its hands, and never settles.
type holder struct {
	node   *sim.Node
	mu     sync.Mutex
	hashes []lightning.Hash
}

// hold has the very hash that is proved paid at a node that knows no preimage.
func (h *holder) hold(_ *rogue, _ htlcdash.Segment, o *exchange.Offer) {
	inv, err := h.node.HoldInvoice(context.Background(), o.Hash, lightning.Terms{Amount: o.Price})
	if err != nil {
		panic(err)
	}
	o.Invoice = inv.Bolt11
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hashes = append(h.hashes, o.Hash)
}

// giveBack ends what is held, as the end of the HTLCs would.
func (h *holder) giveBack(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, hash := range h.hashes {
		_ = h.node.Cancel(t.Context(), hash)
	}
}

// underway sums up what is under way by a process's books.
func (a *agora) underway(t *testing.T, name string) (n int, sum lightning.Msat) {
	t.Helper()
	for _, p := range purchases(t, a.books(name)) {
		if p.State == lightning.Unknown {
			n, sum = n+1, sum+p.Amount
		}
	}
	return n, sum
}

// skip plays on beyond what hangs, and returns the segments that did not come.
func (a *agora) skip(t *testing.T, viewer *process, rep string, meanwhile func(i int)) (missing []int) {
	t.Helper()
	for i := range a.film.Segments(t, rep) {
		tries := 300
		if i == 0 {
			tries = 1
		}
		if !a.obtain(t, viewer, rep, i, tries) {
			missing = append(missing, i)
		}
		meanwhile(i)
	}
	return missing
}

func dearest(t *testing.T, film *titletest.Title) (most lightning.Msat) {
	t.Helper()
	for _, rep := range film.Manifest.Representations() {
		for _, s := range film.Segments(t, rep.ID) {
			most = max(most, s.Price)
		}
	}
	return most
}

// TestWithheldSettlements has a provider whose node takes the viewer's payment
// into its hands and never settles. One key's price is locked; the film goes on,
// from another; when the HTLC ends, the segment is bought elsewhere.
func TestWithheldSettlements(t *testing.T) {
	a := newAgora(t, titletest.Options{Segments: 8})
	h := &holder{node: a.payee("holder")}
	r := a.rogue(t, "withholding", part(0.3), lies(h.hold))
	var held atomic.Bool
	honest := a.sell(t, "honest", freeAddress(t))
	viewer := a.view(t, "viewer", "--providers", r.url+","+after(t, honest.url, held.Load).url)
	missing := a.skip(t, viewer, "v0", func(int) { held.Store(true) })
	n, locked := a.underway(t, "viewer")
	if !slices.Equal(missing, []int{0}) || n != 1 || locked > dearest(t, a.film) {
		t.Errorf("%v did not come; %d payments hang, of %v, a key costs at most %v", missing, n, locked, dearest(t, a.film))
	}
	h.giveBack(t)
	a.watch(t, viewer, "v0", always)
	viewer.stop()
	a.account(t, "viewer", "v0", honest.node)
	a.unpaid(t, h.node, r.node)
}

// TestWithheldUpstream puts the same provider behind an honest relay: what the
// relay has under way to it is one key, and its viewer has the rest of the film
// elsewhere. In the end nobody has lost a msat.
func TestWithheldUpstream(t *testing.T) {
	a := newAgora(t, titletest.Options{Segments: 8})
	h := &holder{node: a.payee("holder")}
	r := a.rogue(t, "withholding", part(0.3), lies(h.hold))
	relay := a.resell(t, "relay", r.url)
	a.net.Connect(relay.node, h.node, purse, 0)
	var held atomic.Bool
	honest := a.sell(t, "honest", freeAddress(t))
	viewer := a.view(t, "viewer", "--providers", relay.url+","+after(t, honest.url, held.Load).url)
	missing := a.skip(t, viewer, "v0", func(int) { held.Store(true) })
	if n, locked := a.underway(t, "viewer"); !slices.Equal(missing, []int{0}) || n != 1 || locked > dearest(t, a.film) {
		t.Errorf("%v did not come; %d payments of the viewer hang, of %v", missing, n, locked)
	}
	if n, locked := a.underway(t, "relay"); n != 1 || locked > dearest(t, a.film) {
		t.Errorf("%d payments of the relay hang, of %v", n, locked)
	}
	h.giveBack(t)
	a.watch(t, viewer, "v0", always)
	viewer.stop()
	relay.stop()
	a.account(t, "viewer", "v0", honest.node)
	a.unpaid(t, h.node, r.node)
	if got := a.income(t, relay.node); got != purse {
		t.Errorf("the relay has %v of %v", got, purse)
	}
}

// A gate is an address of a BitTorrent peer, and counts what that sends.
type gate struct {
	address string
	sent    atomic.Int64 // bytes
}

// newGate opens one at a host that lets nobody in before ready. Where behind is
// empty nobody answers.
func newGate(t *testing.T, host, behind string, ready func() bool) *gate {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{address: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		l.Close()
		work.Wait()
	})
	pass := func(in net.Conn) {
		defer in.Close()
		for behind == "" || !ready() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
		out, err := net.Dial("tcp", behind)
		if err != nil {
			return
		}
		defer out.Close()
		defer context.AfterFunc(ctx, func() {
			in.Close()
			out.Close()
		})()
		work.Go(func() { _, _ = io.Copy(out, in) })
		_, _ = io.Copy(in, io.TeeReader(out, (*tap)(&g.sent)))
	}
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { pass(c) })
		}
	})
	return g
}

// A tap counts what is written to it.
type tap atomic.Int64

func (m *tap) Write(b []byte) (int, error) {
	(*atomic.Int64)(m).Add(int64(len(b)))
	return len(b), nil
}

// seed opens a provider that seeds a folder, and returns where.
func (a *agora) seed(t *testing.T, name, folder string) (address string) {
	t.Helper()
	address = freeAddress(t)
	s := a.open(t, a.payee(name), freeAddress(t), "--titles-folder", folder, "--seed", address)
	soon(t, name+" seeds", func() bool { return strings.Contains(string(readFile(t, s.log)), "msg=seeding ") })
	return address
}

// copied is a copy of the film, with its keys.
func (a *agora) copied(t *testing.T) (folder string) {
	t.Helper()
	dir, from := t.TempDir(), filepath.Dir(a.film.Dir)
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Rel(from, a.film.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, keys), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, filepath.Base(a.film.Dir))
}

// TestSwarmOfLiars lets a viewer ask a BitTorrent swarm of which some send
// garbage, some accept and are silent, some are nobody, and one is honest, since
// its provider sells keys and has no bytes to give. No wrong byte is played, and
// no key is bought twice for it.
func TestSwarmOfLiars(t *testing.T) {
	a := newAgora(t, titletest.Options{Segments: 8})
	segs := a.film.Segments(t, "v0")
	open := func() bool { return true }
	liars := map[string]*gate{}
	for i := range 2 {
		name, folder := fmt.Sprintf("liar%d", i), a.copied(t)
		liars[name] = newGate(t, fmt.Sprintf("127.0.0.%d", 2+i), a.seed(t, name, folder), open)
		for _, s := range segs { // what it has looked at once, and will not again
			path := filepath.Join(folder, filepath.FromSlash(htlcdash.SealedPath(s.Sealed)))
			if err := os.WriteFile(path, bytes.Repeat([]byte{byte(i)}, len(readFile(t, path))), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	least := int64(len(a.film.Sealed(t, segs[0])))
	lied := func() bool { // a segment's worth of garbage
		var sum int64
		for _, g := range liars {
			sum += g.sent.Load()
		}
		return sum >= least
	}
	friend := newGate(t, "127.0.0.5", a.seed(t, "friend", a.film.Dir), lied)
	silent := newGate(t, "127.0.0.4", "", open)
	peers := []string{silent.address, liars["liar0"].address, freeAddress(t), liars["liar1"].address, friend.address}

	honest := a.sell(t, "honest", freeAddress(t))
	bare := newFront(t, honest.url)
	bare.lie = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/sealed/") {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	viewer := a.view(t, "viewer", "--providers", bare.url, "--torrent-peers", strings.Join(peers, ","))
	a.watch(t, viewer, "v0", always)
	viewer.stop()
	a.account(t, "viewer", "v0", honest.node)
	t.Logf("the liars sent %d and %d bytes, the friend %d", liars["liar0"].sent.Load(), liars["liar1"].sent.Load(), friend.sent.Load())
	if !lied() || friend.sent.Load() < least {
		t.Error("not all were asked")
	}
}

// A gossip is a Nostr relay that says the same to all, whatever they ask and
// whatever is true.
type gossip struct {
	url    string
	mu     sync.Mutex
	events []nostr.Event
	told   atomic.Int64
}

func newGossip(t *testing.T) *gossip {
	t.Helper()
	g := &gossip{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		send := func(v ...any) {
			b, err := json.Marshal(v)
			if err == nil {
				_ = c.Write(r.Context(), websocket.MessageText, b)
			}
		}
		for {
			_, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			var m []json.RawMessage
			if json.Unmarshal(b, &m) != nil || len(m) < 2 || string(m[0]) != `"REQ"` {
				continue
			}
			g.mu.Lock()
			for _, e := range g.events {
				send("EVENT", m[1], e)
			}
			g.mu.Unlock()
			send("EOSE", m[1])
			g.told.Add(1)
		}
	}))
	t.Cleanup(server.Close)
	g.url = "ws" + strings.TrimPrefix(server.URL, "http")
	return g
}

// TestOldNews plays events again that have expired, that are ahead of time, that
// were taken back, or changed, to two providers that are federated, and lets a
// public relay tell them to viewers. They lead nobody anywhere; who sells now is
// found all the same.
func TestOldNews(t *testing.T) {
	a := newAgora(t, titletest.Options{Segments: 6})
	one := a.carry(t, "one")
	two := a.carry(t, "two", "--relays", one.url)
	public := newGossip(t)

	goneAt := freeAddress(t)
	gone := a.sell(t, "gone", goneAt, "--public-url", "http://"+goneAt, "--relays", one.url)
	for _, relay := range []*shop{one, two} {
		soon(t, "it is found", func() bool { return a.told(t, relay.url, gone.url) })
	}
	key := gone.key(t)
	var was nostr.Event
	for _, e := range a.events(t, two.url) {
		if e.PubKey == nostr.Key(key.ID()) {
			was = e
		}
	}
	gone.stop()
	for _, relay := range []*shop{one, two} {
		soon(t, "it is withdrawn", func() bool {
			return slices.ContainsFunc(a.events(t, relay.url), func(e nostr.Event) bool {
				read, err := directory.Read(e)
				return err == nil && read.Provider == key.ID() && read.Withdrawn()
			})
		})
	}

	// Somebody waits where it was, with its key.
	var led atomic.Int64
	l, err := net.Listen("tcp", goneAt)
	if err != nil {
		t.Fatal(err)
	}
	trap := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/provider" {
			fmt.Fprintf(w, `{"version":1,"key":%q}`, key.ID())
			return
		}
		if !strings.HasPrefix(r.URL.Path, "/v1/announcements") && !strings.HasPrefix(r.URL.Path, "/v1/relay") {
			led.Add(1)
		}
		http.NotFound(w, r)
	})}}
	trap.Start()
	t.Cleanup(trap.Close)

	now := time.Now()
	changed := was
	changed.CreatedAt = now.Add(time.Minute).Unix() // its signature is for another time
	old := []nostr.Event{
		was,
		a.claim(t, 1, now.Add(-3*time.Hour), time.Hour, trap.URL),
		a.claim(t, 2, now.Add(time.Hour), time.Hour, trap.URL),
		changed,
	}
	for _, relay := range []*shop{one, two} {
		says(t, relay.url, old...)
		for _, e := range a.events(t, relay.url) {
			if slices.ContainsFunc(old, func(o nostr.Event) bool { return o.ID == e.ID }) {
				t.Errorf("%s carries %s", relay.name, e.ID)
			}
		}
		if a.told(t, relay.url, trap.URL) {
			t.Errorf("%s leads to who is gone", relay.name)
		}
	}
	public.mu.Lock()
	public.events = old
	public.mu.Unlock()

	relays := strings.Join([]string{public.url, one.url, two.url}, ",")
	out, err := a.try(t, "play", a.film.ID.String(), "--proxy-relays", relays, "--node-address", a.face, "--node-tls-cert", "", "--proxy-macaroon", "",
		"--proxy-ledger", a.books("player"), "--proxy-cache", filepath.Join(a.dir, "player.cache"), "--quiet", "--fast")
	if err == nil || !strings.Contains(err.Error(), "knows a provider that answers") {
		t.Errorf("it plays: %v\n%s", err, out)
	}
	if n := led.Load(); n > 0 || public.told.Load() == 0 {
		t.Errorf("%d requests where nobody sells; the public relay was asked %d times", n, public.told.Load())
	}

	// A viewer that waits for news is not led there either, and finds who begins to
	// sell.
	viewer := a.view(t, "viewer", "--relays", relays, "--title", a.film.ID.String())
	asked := public.told.Load()
	soon(t, "the viewer listens to the public relay", func() bool { return public.told.Load() > asked })
	address := freeAddress(t)
	fresh := a.sell(t, "fresh", address, "--public-url", "http://"+address, "--relays", two.url)
	a.watch(t, viewer, "v0", always)
	viewer.stop()
	a.account(t, "viewer", "v0", fresh.node)
	if n := led.Load(); n > 0 {
		t.Errorf("%d requests where nobody sells", n)
	}
}

// TestRelayBetween puts somebody with a relay's own secret between it and a viewer,
// who changes what the relay passes on. Nothing is paid for that.
func TestRelayBetween(t *testing.T) {
	a := newAgora(t, titletest.Options{Segments: 10})
	origin := a.sell(t, "origin", freeAddress(t), "--price-factor", "0.5")
	relay := a.resell(t, "relay", origin.url)
	a.net.Connect(relay.node, origin.node, purse, 0)
	honest := a.sell(t, "honest", freeAddress(t))
	key := relay.key(t)

	var mu sync.Mutex
	var proof []byte // that somebody else was given
	forward := func(r *http.Request) (int, []byte) {
		body, _ := io.ReadAll(r.Body)
		ask, err := http.NewRequestWithContext(r.Context(), r.Method, relay.url+r.URL.RequestURI(), bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		ask.Header = r.Header.Clone()
		ask.Header.Del("Accept-Encoding")
		resp, err := http.DefaultClient.Do(ask)
		if err != nil {
			return http.StatusBadGateway, nil
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, b
	}
	own := func(seg htlcdash.Segment, o *exchange.Offer, price lightning.Msat) {
		inv, err := relay.node.Invoice(context.Background(), lightning.RandomPreimage(), lightning.Terms{Amount: price})
		if err != nil {
			panic(err)
		}
		o.Price, o.Hash, o.Invoice = price, inv.Hash, inv.Bolt11
	}
	for n, c := range []struct {
		name   string
		change func(seg htlcdash.Segment, o *exchange.Offer) // nil: the proof is what is changed
	}{
		{"honest, and keeps the proof", nil},
		{"another's proof", nil},
		{"another salt", func(_ htlcdash.Segment, o *exchange.Offer) { o.Salt[0]++ }},
		{"itself as prover", func(_ htlcdash.Segment, o *exchange.Offer) { o.Prover = key.ID() }},
		{"another prover", func(_ htlcdash.Segment, o *exchange.Offer) { o.Prover = honest.key(t).ID() }},
		{"more than in its invoice", func(_ htlcdash.Segment, o *exchange.Offer) { o.Price -= 100 }},
		{"more than the publisher", func(seg htlcdash.Segment, o *exchange.Offer) { own(seg, o, seg.Price+1) }},
		{"a hash of its own", func(seg htlcdash.Segment, o *exchange.Offer) { own(seg, o, o.Price) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tried atomic.Int64
			f := newFront(t, relay.url)
			f.lie = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case c.change != nil && r.URL.Path == "/v1/offers":
					code, b := forward(r)
					if code == http.StatusOK {
						b = changeOffers(b, a.film, key, c.change)
						tried.Add(1)
					}
					w.WriteHeader(code)
					_, _ = w.Write(b)
				case c.change == nil && r.URL.Path == "/v1/proofs":
					code, b := forward(r)
					mu.Lock()
					defer mu.Unlock()
					if n == 0 && code == http.StatusOK {
						proof = b
					} else if code == http.StatusOK {
						b = proof
					}
					tried.Add(1)
					w.WriteHeader(code)
					_, _ = w.Write(b)
				default:
					return false
				}
				return true
			}
			lied := func() bool { return tried.Load() > 0 }
			name := fmt.Sprintf("viewer%d", n)
			viewer := a.view(t, name, "--providers", f.url+","+after(t, honest.url, lied).url)
			first := 0
			if n > 0 {
				first = 4 // the relay has sold it to nobody, and passes it on
			}
			for i := range 2 {
				if !a.obtain(t, viewer, "v0", first+i, 300) {
					t.Fatal("it never comes")
				}
			}
			viewer.stop()
			a.net.Wait()
			if !lied() {
				t.Error("nothing was tried")
			}
			paid := 0
			for _, p := range purchases(t, a.books(name)) {
				if p.State == lightning.Unknown || p.Lost {
					t.Errorf("%s %d is %v, lost: %v", p.Representation, p.Index, p.State, p.Lost)
				}
				if p.State == lightning.Paid && p.Provider == f.url {
					paid++
				}
			}
			if n == 0 && paid == 0 || n > 0 && paid > 0 {
				t.Errorf("it sold %d keys", paid)
			}
			if n == 0 && len(proof) == 0 {
				t.Error("no proof was kept")
			}
		})
	}
	if err := a.net.Check(); err != nil {
		t.Error(err)
	}
}
