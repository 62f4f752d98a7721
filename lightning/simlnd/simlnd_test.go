package simlnd_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
	"htlcdash/lightning/nodetest"
	"htlcdash/lightning/sim"
	"htlcdash/lightning/simlnd"
)

const million = 1_000_000 * lightning.Sat

// lndOf reaches a simulated node as a real one is reached.
func lndOf(t *testing.T, n *sim.Node) *lnd.Node {
	t.Helper()
	face := simlnd.New(n)
	t.Cleanup(face.Close)
	server := httptest.NewServer(face)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	node, err := lnd.New(lnd.Config{Addr: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	return node
}

// Through this face a simulated node passes for lnd, whatever is asked of it.
func TestSuite(t *testing.T) {
	nodetest.Run(t, func(t *testing.T) nodetest.Pair {
		network := sim.New(sim.Config{Latency: time.Millisecond})
		payer, payee, router, far := network.Node("payer"), network.Node("payee"), network.Node("router"), network.Node("far")
		network.Connect(payer, payee, 2*million, million)
		network.Connect(payer, router, million, million)
		network.Connect(router, far, million, million)
		router.SetFees(sim.Fees{Base: 1000, PPM: 100})
		t.Cleanup(func() {
			network.Wait()
			if err := network.Check(); err != nil {
				t.Error(err)
			}
		})
		return nodetest.Pair{
			Payer: lndOf(t, payer), Payee: lndOf(t, payee), Far: lndOf(t, far),
			Stop:  func(*testing.T) { payer.Down() },
			Start: func(*testing.T) { payer.Up() },
		}
	})
}

func TestInfo(t *testing.T) {
	network := sim.New(sim.Config{})
	alice, bob := network.Node("alice"), network.Node("bob")
	network.Connect(alice, bob, million, 0)
	node := lndOf(t, alice)
	info, err := node.Info(t.Context())
	if err != nil || info.ID != alice.ID() || info.Network != lightning.Simnet || info.Alias != "alice" {
		t.Errorf("%+v, %v", info, err)
	}
	channels, err := node.Channels(t.Context())
	if err != nil || len(channels) != 1 || channels[0].Peer != bob.ID() || channels[0].Local != million {
		t.Errorf("%+v, %v", channels, err)
	}
}
