//go:build itest

package itest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash/buyer"
	"htlcdash/internal/devnet"
	"htlcdash/internal/ledger"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
	"htlcdash/lightning/nodetest"
)

// tillFlags are what a node beside which a till stands is run with.
var tillFlags = []string{"--" + lnd.TillOptions[0], "--" + lnd.TillOptions[1]}

// A keeper is a till whose seller keeps preimages, for tests that draw them.
// What a till cannot do, its node does.
type keeper struct {
	*lnd.Till
	lightning.Holder

	mu   sync.Mutex
	kept map[lightning.Hash]lightning.Preimage
}

func (k *keeper) Invoice(ctx context.Context, p lightning.Preimage, terms lightning.Terms) (lightning.Invoice, error) {
	inv, err := k.Till.Invoice(ctx, p, terms)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.kept[inv.Hash] = p
	}
	return inv, err
}

func (k *keeper) preimage(_ context.Context, _ []byte, h lightning.Hash) (lightning.Preimage, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p, ok := k.kept[h]; ok {
		return p, nil
	}
	return lightning.Preimage{}, lightning.ErrNoInvoice
}

// keep opens a till at a node, with no more rights than it needs.
func keep(t *testing.T, network *devnet.Network, name string) *keeper {
	t.Helper()
	m, err := admin(t, network, name).Bake(t.Context(), lnd.TillRights, 7)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, name+".macaroon")
	if err := m.Write(file); err != nil {
		t.Fatal(err)
	}
	node := connect(t, network.Node(name), file)
	books, err := ledger.Open(filepath.Join(dir, "books.db"))
	if err != nil {
		t.Fatal(err)
	}
	till, err := lnd.NewTill(t.Context(), node, [32]byte{1}, books)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{Till: till, Holder: node, kept: map[lightning.Hash]lightning.Preimage{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- till.Run(ctx, k.preimage) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := books.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// opened returns once a till settles payments.
func opened(t *testing.T, payer lightning.Payer, till lightning.Payee) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		inv, err := till.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: 1000})
		if err == nil {
			_, err = payer.Pay(t.Context(), inv, 100*lightning.Sat)
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestTillSuite holds a till at a real lnd against the suite that nodes pass.
func TestTillSuite(t *testing.T) {
	network := startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{
			{Name: "payer", SQLite: true, Fund: 20 * million},
			{Name: "payee", SQLite: true, Flags: tillFlags},
			{Name: "router", Fund: 20 * million, BaseFee: lightning.Sat, FeeRate: 100},
			{Name: "far", Flags: tillFlags},
		},
		Channels: []devnet.ChannelSpec{
			{From: "payer", To: "payee", Capacity: 4 * million, Push: million},
			{From: "payer", To: "router", Capacity: 2 * million, Push: million},
			{From: "router", To: "far", Capacity: 4 * million, Push: million},
		},
	})
	payer := admin(t, network, "payer")
	payee, far := keep(t, network, "payee"), keep(t, network, "far")
	opened(t, payer, payee)
	opened(t, payer, far)
	nodetest.Run(t, func(t *testing.T) nodetest.Pair {
		return nodetest.Pair{
			Payer: payer, Payee: payee, Far: far, Forgetful: true,
			Stop: func(t *testing.T) {
				t.Helper()
				if err := network.Kill(t.Context(), "payer"); err != nil {
					t.Fatal(err)
				}
			},
			Start: func(t *testing.T) {
				t.Helper()
				if err := network.Restart(t.Context(), "payer"); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
	if _, err := lnd.NewTill(t.Context(), admin(t, network, "router"), [32]byte{1}, nil); err == nil {
		t.Error("a till at a node that forgets")
	}
	keep(t, network, "payee") // it waits for the first to go away, and does not disturb it
	for range 5 {
		opened(t, payer, payee)
	}
}

// A tillTable is a provider with a till, and buyers one and two hops away.
type tillTable struct {
	*crashTable
	all  *testing.T     // outlives the rows, as programs do
	had  lightning.Msat // what the provider's node had before the first sale
	sold int
}

func (c *tillTable) serve(env ...string) {
	c.all.Helper()
	c.provider = c.serveWith(c.all, c.provider.url[len("http://"):], env, "--till", "interceptor")
}

// TestTillCrashes kills -9 the seller's program and its node at each step of a
// sale. Whoever pays gets the key, for one price, and the seller's books hold
// each sale once and say what its node has.
func TestTillCrashes(t *testing.T) {
	title := titletest.Make(t, titletest.Options{Segments: 40})
	s := &stage{dir: t.TempDir(), titles: title.Dir}
	s.network = startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{
			{Name: "viewer", SQLite: true, Fund: 20 * million},
			{Name: "remote", SQLite: true, Fund: 20 * million},
			{Name: "router", Fund: 20 * million},
			{Name: "provider", Flags: tillFlags},
		},
		Channels: []devnet.ChannelSpec{
			{From: "viewer", To: "provider", Capacity: 10 * million, Push: million},
			{From: "remote", To: "router", Capacity: 10 * million, Push: million},
			{From: "router", To: "provider", Capacity: 10 * million, Push: million},
		},
	})
	s.selling = filepath.Join(s.dir, "sell.macaroon")
	s.command(t, append([]string{"wallet", "bake", "sell", "--till", "--serve-macaroon", s.selling}, s.owner("provider")...)...)
	s.examined(t, "provider", "ok")
	s.examined(t, "viewer", "fail") // its lnd knows nothing of tills
	c := &tillTable{all: t, crashTable: &crashTable{stage: s, title: title, provider: &process{url: "http://" + freeAddress(t)}, pids: map[string]int{}}}
	c.had = c.has(t)
	c.serve()
	for _, viewer := range []string{"viewer", "remote"} {
		c.viewer, c.buying = viewer, s.bake(t, viewer, lnd.BuyingRights)
		t.Run(viewer+" without a crash", func(t *testing.T) { c.row(t, func(string) {}, func(*testing.T) {}) })
		t.Run(viewer+", seller before the payment", func(t *testing.T) {
			var once sync.Once
			c.row(t, func(at string) {
				if at == "intent" {
					once.Do(c.provider.kill)
				}
			}, func(*testing.T) { c.serve() })
		})
		for _, step := range []string{"offered", "claimed", "settled", "final"} {
			t.Run(viewer+", seller at "+step, func(t *testing.T) {
				c.provider.stop()
				c.serve("HTLCDASH_CRASH_AT=" + step)
				c.row(t, func(string) {}, func(t *testing.T) {
					c.dead(t)
					c.serve()
				})
			})
			t.Run(viewer+", seller at "+step+" and its node", func(t *testing.T) {
				c.provider.stop()
				c.serve("HTLCDASH_CRASH_AT=" + step)
				c.row(t, func(string) {}, func(t *testing.T) {
					c.dead(t)
					c.killNode(t, "provider")
					c.restartNode(t, "provider")
					c.serve()
				})
			})
		}
		t.Run(viewer+", the node after the preimage", func(t *testing.T) {
			var once sync.Once
			c.row(t, func(at string) {
				if at == "paid" {
					once.Do(func() { c.killNode(t, "provider") })
				}
			}, func(t *testing.T) { c.restartNode(t, "provider") })
		})
	}
}

// owner are the flags of who may do all with a node.
func (s *stage) owner(name string) []string {
	node := s.network.Node(name)
	return []string{"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--node-macaroon", node.MacaroonFile}
}

// examined asserts what the doctor says of a node for a till.
func (s *stage) examined(t *testing.T, name, grade string) {
	t.Helper()
	selling := s.network.Node(name).MacaroonFile
	if name == "provider" {
		selling = s.selling
	}
	out, _ := s.try(t, append([]string{
		"doctor", "serve", "--json", "--serve-till", "interceptor", "--serve-macaroon", selling, "--titles-folder", s.titles,
		"--serve-ledger", filepath.Join(s.dir, "provider.db"), "--serve-secret", filepath.Join(s.dir, "provider.secret"),
		"--serve-listen", freeAddress(t), "--serve-page", "",
	}, s.owner(name)...)...)
	var findings []struct{ Check, Grade, Detail, Next string }
	if err := json.Unmarshal([]byte(out), &findings); err != nil {
		t.Fatalf("the doctor said %q: %v", out, err)
	}
	lines := 0
	for _, f := range findings {
		if f.Check == "till" {
			lines++
			if f.Grade != grade {
				t.Errorf("%s: %+v", name, f)
			}
			for _, option := range lnd.TillOptions {
				if strings.Contains(f.Next, option+"=true") {
					lines++
				}
			}
		}
		if f.Check == "selling macaroon" && name == "provider" && f.Grade != "ok" {
			t.Errorf("%+v", f)
		}
	}
	if want := map[string]int{"ok": 1, "fail": 4}[grade]; lines != want {
		t.Errorf("%s: of the till the doctor says %+v", name, findings)
	}
}

// dead waits until the seller's program has crashed.
func (c *tillTable) dead(t *testing.T) {
	t.Helper()
	select {
	case <-c.provider.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the seller did not come to the step at which it was to crash")
	}
}

// row buys a segment while something crashes, and again once it is back.
func (c *tillTable) row(t *testing.T, hook func(string), revive func(*testing.T)) {
	seg := c.next(t)
	file := c.books(fmt.Sprintf("%s-%d", c.viewer, c.rows))
	b, end := c.buyer(t, file, hook)
	ask := func(ctx context.Context) ([]byte, error) { return b.Segment(ctx, seg) }
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	_, err := ask(ctx)
	for errors.Is(err, buyer.ErrNoOffer) && ctx.Err() == nil { // the till is not open yet
		time.Sleep(50 * time.Millisecond)
		_, err = ask(ctx)
	}
	cancel()
	t.Logf("during the crash: %v", err)
	if err != nil && !known(err) {
		t.Errorf("the error says nothing that a caller can decide on: %v", err)
	}
	revive(t)
	c.obtain(t, seg, ask)
	end()
	if cost := spent(t, purchases(t, file)); cost != seg.Price {
		t.Errorf("the books say %v for a segment of %v", cost, seg.Price)
	}
	c.paid += seg.Price
	c.sold++
	c.agree(t)
}

// has is what the provider's node has in its channels.
func (c *tillTable) has(t *testing.T) lightning.Msat {
	t.Helper()
	b, err := admin(t, c.network, "provider").Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b.Outbound
}

// agree waits until the seller's books hold what was paid in all rows so far,
// and holds them against its node.
func (c *tillTable) agree(t *testing.T) {
	t.Helper()
	books, err := ledger.OpenReader(filepath.Join(c.dir, "provider.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	var earned lightning.Msat
	var sales int
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		earned, sales = 0, 0
		for sale, err := range books.Sales(t.Context(), ledger.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			earned += sale.Received
			sales++
		}
		open, err := books.Claims(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if earned == c.paid && sales == c.sold && len(open) == 0 || time.Now().After(deadline) {
			break
		}
	}
	if got := c.has(t) - c.had; earned != c.paid || sales != c.sold || got != c.paid {
		t.Errorf("viewers paid %v for %d keys; the seller's books say %v for %d, and its node has got %v", c.paid, c.sold, earned, sales, got)
	}
	if open, err := books.Claims(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("claims without an outcome: %v, %v", open, err)
	}
}
