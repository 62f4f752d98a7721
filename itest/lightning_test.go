//go:build itest

package itest

import (
	"testing"

	"htlcdash/internal/devnet"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
	"htlcdash/lightning/nodetest"
)

const million = 1_000_000 * lightning.Sat

// startNetwork brings up real nodes and takes them down after the test.
func startNetwork(t *testing.T, c devnet.Config) *devnet.Network {
	t.Helper()
	c.Dir = t.TempDir()
	c.Died = func(d devnet.Death) { t.Errorf("%s died: %s", d.Name, d.Text) }
	network, err := devnet.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	return network
}

// admin is a node with all rights.
func admin(t *testing.T, network *devnet.Network, name string) *lnd.Node {
	t.Helper()
	return connect(t, network.Node(name), network.Node(name).MacaroonFile)
}

func connect(t *testing.T, node devnet.Node, macaroon string) *lnd.Node {
	t.Helper()
	n, err := lnd.New(lnd.Config{Addr: node.REST, TLSCertFile: node.CertFile, MacaroonFile: macaroon})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// TestLightningSuite holds real lnd against the suite that the simulated
// network passes, with macaroons that allow nothing beyond what is needed.
func TestLightningSuite(t *testing.T) {
	network := startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{
			{Name: "payer", SQLite: true, Fund: 20 * million},
			{Name: "payee", SQLite: true},
			{Name: "router", Fund: 20 * million, BaseFee: lightning.Sat, FeeRate: 100},
			{Name: "far"},
		},
		Channels: []devnet.ChannelSpec{
			{From: "payer", To: "payee", Capacity: 4 * million, Push: million},
			{From: "payer", To: "router", Capacity: 2 * million, Push: million},
			{From: "router", To: "far", Capacity: 4 * million, Push: million},
		},
	})
	baked := func(name string, rights []lnd.Right) *lnd.Node {
		m, err := admin(t, network, name).Bake(t.Context(), rights, 7)
		if err != nil {
			t.Fatal(err)
		}
		file := t.TempDir() + "/" + name + ".macaroon"
		if err := m.Write(file); err != nil {
			t.Fatal(err)
		}
		return connect(t, network.Node(name), file)
	}
	payer, payee, far := baked("payer", lnd.BuyingRights), baked("payee", lnd.SellingRights), baked("far", lnd.SellingRights)

	nodetest.Run(t, func(t *testing.T) nodetest.Pair {
		return nodetest.Pair{
			Payer: payer, Payee: payee, Far: far,
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
}
