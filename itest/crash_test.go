//go:build itest

package itest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/ledger"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
	"htlcdash/source"
	"htlcdash/source/web"
)

// The steps of a purchase at which something is killed. At "htlc" the payment
// is out and stays out, since the provider's node is stopped meanwhile.
var steps = []string{"before-intent", "intent", "htlc", "paid", "key"}

// TestCrashTable kills -9 each party at each step of a purchase, a row each.
// Afterwards the party is started again and the segment asked for once more:
// it must play, be paid for once, and all books must agree.
func TestCrashTable(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 40})
	s := newStage(t, title.Dir)
	table := &crashTable{stage: s, title: title, provider: s.serve(t, freeAddress(t)), pids: map[string]int{}}
	for _, step := range steps {
		t.Run("the proxy at "+step, func(t *testing.T) { table.killProxy(t, step) })
	}
	victims := []struct {
		name   string
		kill   func(*testing.T)
		revive func(*testing.T)
	}{
		{"the provider", func(*testing.T) { table.provider.kill() }, func(*testing.T) { table.provider = s.serve(t, table.provider.url[len("http://"):]) }},
		{"the viewer's node", func(t *testing.T) { table.killNode(t, "viewer") }, func(t *testing.T) { table.restartNode(t, "viewer") }},
		{"the provider's node", func(t *testing.T) { table.killNode(t, "provider") }, func(t *testing.T) { table.restartNode(t, "provider") }},
	}
	for _, victim := range victims {
		for _, step := range steps {
			t.Run(victim.name+" at "+step, func(t *testing.T) { table.killOther(t, step, victim.kill, victim.revive) })
		}
	}
}

type crashTable struct {
	*stage
	title    *titletest.Title
	provider *process
	viewer   string // node that pays, by name; empty: "viewer"

	pids map[string]int // of nodes that were told to stand still
	rows int
	paid lightning.Msat // of all rows before
}

// next is a segment that no row has touched.
func (c *crashTable) next(t *testing.T) htlcdash.Segment {
	t.Helper()
	c.rows++
	return c.title.Segments(t, "v0")[c.rows]
}

// killProxy crashes the real proxy while it buys for a player.
func (c *crashTable) killProxy(t *testing.T, step string) {
	seg := c.next(t)
	name := "proxy-" + step
	flags := []string{"--ahead", "0s", "--ahead-money", "1 msat"}
	crash := func(viewer *process) { <-viewer.done }
	env, provider := []string{"HTLCDASH_CRASH_AT=" + step}, c.provider
	if step == "htlc" {
		env, provider = nil, c.freezeAfterOffers(t)
		crash = func(viewer *process) {
			c.awaitHTLC(t, c.books(name))
			viewer.kill()
			c.signal(t, "provider", syscall.SIGCONT)
		}
	}
	viewer := c.proxy(t, name, provider, env, flags...)
	asked := make(chan error, 1)
	go func() {
		_, err := fetchSegment(t.Context(), viewer.url, c.title, seg)
		asked <- err
	}()
	crash(viewer)
	if err := <-asked; err == nil {
		t.Fatal("the player got its segment from a proxy that was to crash")
	}
	viewer = c.proxy(t, name, c.provider, nil, flags...)
	c.obtain(t, seg, func(ctx context.Context) ([]byte, error) { return fetchSegment(ctx, viewer.url, c.title, seg) })
	viewer.stop()
	c.reconcile(t, c.books(name), seg)
}

// freezeAfterOffers stands before the provider. Once it has made offers its
// node stands still, so that the payment goes out and no further.
func (c *crashTable) freezeAfterOffers(t *testing.T) *process {
	target, err := url.Parse(c.provider.url)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	front := httputil.NewSingleHostReverseProxy(target)
	front.ModifyResponse = func(r *http.Response) error {
		if strings.HasSuffix(r.Request.URL.Path, "/v1/offers") {
			once.Do(func() { c.signal(t, "provider", syscall.SIGSTOP) })
		}
		return nil
	}
	server := httptest.NewServer(front)
	t.Cleanup(server.Close)
	return &process{url: server.URL}
}

// killOther crashes another party while a buyer in this process, with the same
// real provider and nodes, stands at a step.
func (c *crashTable) killOther(t *testing.T, step string, kill, revive func(*testing.T)) {
	seg := c.next(t)
	file := c.books(fmt.Sprintf("row-%d", c.rows))
	var once sync.Once
	hook := func(at string) {
		switch {
		case at == step:
			once.Do(func() { kill(t) })
		case at == "intent" && step == "htlc":
			once.Do(func() {
				c.signal(t, "provider", syscall.SIGSTOP)
				go func() {
					c.awaitHTLC(t, file)
					kill(t)
					c.signal(t, "provider", syscall.SIGCONT)
				}()
			})
		}
	}
	b, end := c.buyer(t, file, hook)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	_, err := b.Segment(ctx, seg)
	cancel()
	t.Logf("during the crash: %v", err)
	if err != nil && !known(err) {
		t.Errorf("the error says nothing that a caller can decide on: %v", err)
	}
	revive(t)
	// The same buyer goes on, as a proxy would.
	ask := func(ctx context.Context) ([]byte, error) { return b.Segment(ctx, seg) }
	c.obtain(t, seg, ask)
	end()
	// And so does one that is started again.
	b, end = c.buyer(t, file, nil)
	c.obtain(t, seg, ask)
	end()
	c.reconcile(t, file, seg)
}

// known reports whether err is one of the outcomes that a caller can tell.
func known(err error) bool {
	for _, target := range []error{
		lightning.ErrInFlight, lightning.ErrFailed, lightning.ErrUnavailable,
		buyer.ErrNoOffer, htlcdash.ErrNotFound, context.DeadlineExceeded,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// obtain asks until the segment is there, as a player does.
func (c *crashTable) obtain(t *testing.T, seg htlcdash.Segment, ask func(context.Context) ([]byte, error)) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		got, err := ask(ctx)
		cancel()
		if err == nil {
			if !slices.Equal(got, c.title.Plain("v0", seg.Index)) {
				t.Error("these are other bytes")
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the segment never came: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// reconcile holds the viewer's books against the provider's node: the segment
// was paid for once, nothing is open, no sum differs.
func (c *crashTable) reconcile(t *testing.T, file string, seg htlcdash.Segment) {
	t.Helper()
	bought := purchases(t, file)
	cost := spent(t, bought)
	if cost != seg.Price {
		t.Errorf("the books say %v for a segment of %v", cost, seg.Price)
	}
	books, err := ledger.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	if key, err := books.Key(t.Context(), seg.Seal); err != nil || !key.Opens(seg.Seal) {
		t.Errorf("the key is not in the books: %v", err)
	}
	c.paid += cost
	if got := received(t, admin(t, c.network, "provider"), c.paid); got != c.paid {
		t.Errorf("viewers paid %v in all rows so far, the provider's node received %v", c.paid, got)
	}
}

// buyer is what the proxy has inside, with a hook at each step.
func (c *crashTable) buyer(t *testing.T, file string, hook func(string)) (b *buyer.Buyer, end func()) {
	t.Helper()
	books, err := ledger.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	node := c.network.Node(cmp.Or(c.viewer, "viewer"))
	payer, err := lnd.New(lnd.Config{Addr: node.REST, TLSCertFile: node.CertFile, MacaroonFile: c.buying, LostAfter: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := web.New(c.provider.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := source.NewLibrary(source.Options{Memory: 1 << 20}, bytes)
	if err != nil {
		t.Fatal(err)
	}
	b, err = buyer.New(buyer.Config{
		Ledger: books, Payer: payer, Sealed: sealed, Step: hook, Proofs: []string{"vole-80"},
		Limits: buyer.Limits{Segment: buyer.NoLimit, Title: buyer.NoLimit, Day: buyer.NoLimit},
	})
	if err != nil {
		t.Fatal(err)
	}
	provider, err := buyer.NewProvider(c.provider.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddTitle(t.Context(), c.title.ID, c.title.Dearest(), []*buyer.Provider{provider}); err != nil {
		t.Fatal(err)
	}
	return b, func() {
		b.Close()
		if err := errors.Join(payer.Close(), books.Close()); err != nil {
			t.Error(err)
		}
	}
}

func (c *crashTable) killNode(t *testing.T, name string) {
	if err := c.network.Kill(t.Context(), name); err != nil {
		t.Error(err)
	}
}

func (c *crashTable) restartNode(t *testing.T, name string) {
	t.Helper()
	if err := c.network.Restart(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// signal stops a node where it stands, or lets it go on. A node that stands
// answers nobody, so its process is found before.
func (c *crashTable) signal(t *testing.T, name string, signal syscall.Signal) {
	if signal == syscall.SIGSTOP {
		status, err := c.network.Status(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Error(err)
		}
		for _, n := range status.Nodes {
			c.pids[n.Name] = n.PID
		}
	}
	if err := syscall.Kill(c.pids[name], signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
}

// awaitHTLC returns when the viewer's node has sent out the payment that is
// open in the books.
func (c *crashTable) awaitHTLC(t *testing.T, file string) {
	books, err := ledger.OpenReader(file)
	if err != nil {
		t.Error(err)
		return
	}
	defer books.Close()
	ctx := context.WithoutCancel(t.Context())
	node := admin(t, c.network, "viewer")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		open, err := books.Unsettled(ctx)
		if err != nil || len(open) == 0 {
			continue
		}
		if out, err := node.Lookup(ctx, open[0].Hash); err == nil && out.State == lightning.Unknown {
			return
		}
	}
	t.Error("no payment went out")
}

// fetchSegment is a player's request.
func fetchSegment(ctx context.Context, proxy string, title *titletest.Title, seg htlcdash.Segment) ([]byte, error) {
	address := fmt.Sprintf("%s/t/%s/%s", proxy, title.ID, mediaPath(title, seg))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", address, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// mediaPath is a segment's name in the MPD.
func mediaPath(title *titletest.Title, seg htlcdash.Segment) string {
	for _, rep := range title.Manifest.Representations() {
		if rep.ID == seg.Representation {
			return rep.Segments[seg.Index].Path
		}
	}
	panic("itest: no Representation " + seg.Representation)
}
