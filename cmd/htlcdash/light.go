package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"

	"htlcdash/internal/config"
	"htlcdash/internal/devnet"
)

type nodeCommand struct {
	AsLight bool     `name:"light" required:"" help:"As a light client, which asks Bitcoin nodes for what concerns it (neutrino). There is no other way yet."`
	Flags   []string `arg:"" optional:"" passthrough:"" help:"Further flags of lnd, after --."`

	config.Light `embed:"" envprefix:"HTLCDASH_LIGHT_"`
}

func (nodeCommand) Help() string {
	return "It runs lnd, which make node has built. A new wallet's seed is shown once. Then set node.address, node.tls_cert and node.macaroon to what it prints.\n\n" +
		"Example: htlcdash node --light --peers btcd.example:8333"
}

// Run is lnd's own life: it ends when ctx does, and in order.
func (c nodeCommand) Run(ctx context.Context, t terminal) error {
	binary, err := devnet.Find()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, c.args()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.in, t.out, t.err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * stopGrace // it writes its channels' state
	apart(cmd)
	err = cmd.Run()
	if ctx.Err() != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// args are those of htlcdash-node light.
func (c nodeCommand) args() []string {
	args := []string{
		"light", "--dir", string(c.Folder), "--network", c.Network, "--alias", c.Alias,
		"--rest", c.REST, "--grpc", c.GRPC, "--listen", c.Listen,
	}
	for _, p := range c.Peers {
		args = append(args, "--peer", p)
	}
	if len(c.Flags) > 0 && c.Flags[0] != "--" {
		args = append(args, "--")
	}
	return append(args, c.Flags...)
}
