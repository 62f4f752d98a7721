//go:build itest

package itest

import (
	"strings"
	"testing"
	"time"

	"htlcdash/internal/devnet"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

func nodeID(t *testing.T, n devnet.Node) lightning.NodeID {
	t.Helper()
	id, err := lightning.ParseNodeID(n.ID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// channel waits until a channel is there and active, mining meanwhile.
func waitChannel(t *testing.T, network *devnet.Network, n *lnd.Node, is func(lightning.Channel) bool) lightning.Channel {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		channels, err := n.Channels(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range channels {
			if c.Active && is(c) {
				return c
			}
		}
		mine(t, network, 1)
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatal("no such channel within a minute")
	return lightning.Channel{}
}

func mine(t *testing.T, network *devnet.Network, blocks int) {
	t.Helper()
	if _, err := network.Mine(t.Context(), blocks); err != nil {
		t.Fatal(err)
	}
}

// waitChain mines until the wallet holds at least amount.
func waitChain(t *testing.T, network *devnet.Network, n *lnd.Node, amount lightning.Msat, blocks, step int) lightning.Balance {
	t.Helper()
	var b lightning.Balance
	for range blocks / step {
		var err error
		if b, err = n.Balance(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b.Chain >= amount {
			return b
		}
		mine(t, network, step)
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the wallet holds %v after %d blocks, want %v", b.Chain, blocks, amount)
	return b
}

func TestWallet(t *testing.T) {
	network := startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{{Name: "alice", SQLite: true, Fund: 20 * million}, {Name: "bob"}},
	})
	alice, bob := admin(t, network, "alice"), admin(t, network, "bob")
	peer := network.Node("bob")

	info, err := bob.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != nodeID(t, peer) || info.Network != lightning.Simnet || !info.Synced || info.Version == "" || info.BlockHeight == 0 {
		t.Errorf("got %+v", info)
	}
	if b, err := alice.Balance(t.Context()); err != nil || b != (lightning.Balance{Chain: 20 * million}) {
		t.Fatalf("got %+v, %v", b, err)
	}

	open := func(capacity lightning.Msat) lightning.Channel {
		t.Helper()
		point, err := alice.OpenChannel(t.Context(), lightning.OpenRequest{
			Peer: nodeID(t, peer), Addr: peer.P2P, Capacity: capacity + 999, Push: million / 10,
		})
		if err != nil {
			t.Fatal(err)
		}
		c := waitChannel(t, network, alice, func(c lightning.Channel) bool { return c.Point == point })
		if c.Capacity != capacity || c.Peer != nodeID(t, peer) || c.Remote != million/10 || c.Private {
			t.Errorf("got %+v", c)
		}
		return c
	}
	pay := func() {
		t.Helper()
		inv, err := bob.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: 100 * lightning.Sat})
		if err != nil {
			t.Fatal(err)
		}
		// lnd takes a second to route over a channel that it calls active
		if err := eventually(t, func() error {
			_, err := alice.Pay(t.Context(), inv, 0)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}

	c := open(2 * million)
	pay()
	if _, err := alice.CloseChannel(t.Context(), lightning.ChannelPoint(strings.Repeat("0", 64)+":0"), false); err == nil {
		t.Error("closed a channel that is not there")
	}
	for _, p := range []lightning.ChannelPoint{"", "x:0", lightning.ChannelPoint(strings.Repeat("z", 64) + ":0"), lightning.ChannelPoint(strings.Repeat("0", 64) + ":x")} {
		if _, err := alice.CloseChannel(t.Context(), p, false); err == nil || !strings.Contains(err.Error(), "txid:index") {
			t.Errorf("close %q: %v", p, err)
		}
	}
	id, err := alice.CloseChannel(t.Context(), c.Point, false)
	if err != nil || len(id) != 64 {
		t.Fatalf("got %q, %v", id, err)
	}
	waitChain(t, network, alice, 19*million+700_000*lightning.Sat, 6, 1) // all but fees and what was pushed

	c = open(2 * million)
	pay()
	if id, err = alice.CloseChannel(t.Context(), c.Point, true); err != nil || len(id) != 64 {
		t.Fatalf("got %q, %v", id, err)
	}
	mine(t, network, 1)
	if b, err := alice.Balance(t.Context()); err != nil || b.Outbound != 0 {
		t.Errorf("after the force close: %+v, %v", b, err)
	}
	waitChain(t, network, alice, 19*million+300_000*lightning.Sat, 600, 20) // locked for a while, BOLT 5
}

// TestAutopilotFollowsScores lets the autopilot choose among nodes of which our
// market likes one.
func TestAutopilotFollowsScores(t *testing.T) {
	network := startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{
			{Name: "viewer", SQLite: true, Fund: 20 * million},
			{Name: "router", Fund: 20 * million},
			{Name: "provider", Fund: 20 * million},
			{Name: "other"},
		},
		Channels: []devnet.ChannelSpec{
			{From: "viewer", To: "router", Capacity: million},
			{From: "router", To: "provider", Capacity: 4 * million, Push: million},
			{From: "router", To: "other", Capacity: 4 * million, Push: million},
			{From: "provider", To: "other", Capacity: 4 * million, Push: million},
		},
	})
	viewer := admin(t, network, "viewer")
	provider := nodeID(t, network.Node("provider"))
	if on, err := viewer.Autopilot(t.Context()); err != nil || on {
		t.Fatalf("at first: %v, %v", on, err)
	}
	if err := viewer.SetScores(t.Context(), map[lightning.NodeID]float64{provider: 1}); err != nil {
		t.Fatal(err)
	}
	if err := viewer.SetAutopilot(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if on, err := viewer.Autopilot(t.Context()); err != nil || !on {
		t.Fatalf("switched on: %v, %v", on, err)
	}
	waitChannel(t, network, viewer, func(c lightning.Channel) bool { return c.Peer == provider })
	if err := viewer.SetAutopilot(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	channels, err := viewer.Channels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range channels {
		if c.Peer != provider && c.Peer != nodeID(t, network.Node("router")) {
			t.Errorf("a channel with %v, which nobody scored", c.Peer)
		}
	}
}
