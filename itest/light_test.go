//go:build itest

package itest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/devnet"
	"htlcdash/lightning"
)

// TestLightClient makes a viewer of somebody who has no Bitcoin node, by
// commands alone: a light client, coins, a channel, a payment, a close.
func TestLightClient(t *testing.T) {
	network := startNetwork(t, devnet.Config{Nodes: []devnet.NodeSpec{{Name: "provider"}}})
	s := &stage{dir: t.TempDir(), network: network}
	status, err := network.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	light := s.launch(t, "light", nil, "node", "--light", "--network", "simnet", "--peers", status.ChainP2P,
		"--folder", filepath.Join(s.dir, "lnd"), "--rest", freeAddress(t), "--grpc", freeAddress(t))
	config := filepath.Join(s.dir, "light.toml")
	if err := os.WriteFile(config, s.awaitConfig(t, light), 0o600); err != nil {
		t.Fatal(err)
	}
	wallet := func(args ...string) string {
		t.Helper()
		return s.command(t, append([]string{"wallet", "--config", config}, args...)...)
	}

	if err := network.Send(t.Context(), strings.TrimSpace(wallet("address")), 3*million); err != nil {
		t.Fatal(err)
	}
	until(t, "the coins arrive", func() bool { return strings.Contains(wallet("balance"), "3000000 sat") })
	node := network.Node("provider")
	wallet("open", node.ID+"@"+node.P2P, "1000000 sat")
	if _, err := network.Mine(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	until(t, "the channel is active", func() bool { return strings.Contains(wallet("balance"), "active") })

	provider := admin(t, network, "provider")
	inv, err := provider.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: 21 * lightning.Sat})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the payment goes through", func() bool {
		_, err := s.try(t, "wallet", "pay", "--config", config, inv.Bolt11)
		return err == nil
	})
	if got := received(t, provider, 21*lightning.Sat); got != 21*lightning.Sat {
		t.Errorf("the provider received %v", got)
	}
	point := regexp.MustCompile(`[0-9a-f]{64}:\d+`).FindString(wallet("balance"))
	if out := wallet("close", point); !strings.Contains(out, "closing with transaction") {
		t.Errorf("close said %q", out)
	}
}

// awaitConfig reads the keys that `htlcdash node` prints once it is ready.
func (s *stage) awaitConfig(t *testing.T, p *process) (config []byte) {
	t.Helper()
	until(t, "the light client is ready", func() bool {
		_, keys, ready := strings.Cut(string(readFile(t, p.log)), "[node]\n")
		config = []byte("[node]\n" + keys)
		return ready && strings.Contains(keys, "macaroon = ") && strings.HasSuffix(keys, "\n")
	})
	return config
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happens that %s", what)
		}
	}
}
