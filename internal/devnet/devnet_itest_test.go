//go:build itest

package devnet_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"htlcdash/internal/devnet"
	"htlcdash/lightning"
)

// TestRealNetwork lives through a network: made, a node killed by others,
// brought back, stopped, started again from its folder.
func TestRealNetwork(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	deaths := make(chan devnet.Death, 10)
	config := devnet.Config{Dir: dir, Died: func(d devnet.Death) { deaths <- d }}
	n := start(t, config)
	if !n.Initial().Fresh || len(n.Nodes()) != 3 || len(n.Initial().Channels) != 3 {
		t.Fatalf("new network: %+v", n.Initial())
	}
	viewer := n.Node("viewer")
	for _, file := range []string{viewer.CertFile, viewer.MacaroonFile, viewer.LogFile} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}

	if err := syscall.Kill(viewer.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d := <-deaths
	if d.Name != "viewer" || !strings.Contains(d.Text, "killed by signal 9") {
		t.Errorf("death: %+v", d)
	}
	if _, err := n.Balance(ctx, "viewer"); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("balance of a dead node: %v", err)
	}
	if err := n.Restart(ctx, "viewer"); err != nil {
		t.Fatal(err)
	}
	if b, err := n.Balance(ctx, "viewer"); err != nil || b.Local == 0 || b.Wallet == 0 {
		t.Errorf("balance: %+v, %v", b, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mine(ctx, 1); !errors.Is(err, devnet.ErrClosed) {
		t.Errorf("mine after the end: %v", err)
	}

	n = start(t, config)
	if n.Initial().Fresh || n.Node("viewer").ID != viewer.ID || n.Node("viewer").REST != viewer.REST {
		t.Errorf("second run: %+v", n.Initial())
	}
	if _, err := n.Add(ctx, devnet.NodeSpec{Name: "carol", Fund: 5_000_000 * lightning.Sat}); err != nil {
		t.Fatal(err)
	}
	c, err := n.Open(ctx, devnet.ChannelSpec{From: "carol", To: "viewer", Capacity: 1_000_000 * lightning.Sat})
	if err != nil || !c.Active || c.Capacity != 1_000_000*lightning.Sat {
		t.Errorf("channel: %+v, %v", c, err)
	}
	status, err := n.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if height, err := n.Mine(ctx, 2); err != nil || height != status.Height+2 {
		t.Errorf("mined from %d to %d: %v", status.Height, height, err)
	}
	if err := syscall.Kill(status.ChainPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if d := <-deaths; d.Name != "chain" || !strings.Contains(d.Text, "btcd was killed by signal 9") {
		t.Errorf("death: %+v", d)
	}
	if height, err := n.Mine(ctx, 1); err != nil || height <= status.Height+3 {
		t.Errorf("after the chain came back: height %d, %v", height, err)
	}
}

func start(t *testing.T, c devnet.Config) *devnet.Network {
	t.Helper()
	c.Progress = func(p devnet.Progress) { t.Logf("%3.0f %% %s", 100*p.Done, p.Text) }
	n, err := devnet.Start(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}
