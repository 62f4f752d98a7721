package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	return "It runs lnd, which make node has built. A new wallet's seed is in the file wallet-seed in its folder: write it down.\n\n" +
		"Example: htlcdash node --light --peers btcd.example:8333"
}

// Run is lnd's own life: it ends when ctx does, and in order.
func (c nodeCommand) Run(ctx context.Context, t terminal) error {
	binary, err := devnet.Find()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, c.args()...)
	cmd.Stderr = t.err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * stopGrace // it writes its channels' state
	apart(cmd)
	said, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	retell(said, t.out)
	err = cmd.Wait()
	if ctx.Err() != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// retell says for people what htlcdash-node says in lines of JSON, to the end.
func retell(said io.Reader, out io.Writer) {
	lines := json.NewDecoder(said)
	for {
		var e struct {
			Event, Text string
			Node        struct {
				ID       string
				REST     string
				Cert     string `json:"tls_cert"`
				Macaroon string `json:"admin_macaroon"`
			}
		}
		if lines.Decode(&e) != nil {
			_, _ = io.Copy(io.Discard, said) // after a line that is none
			return
		}
		if e.Event == "ready" {
			fmt.Fprintf(out, "ready: node %s\nits keys for the configuration file:\n\n[node]\naddress = %q\ntls_cert = %q\nmacaroon = %q\n",
				e.Node.ID, e.Node.REST, e.Node.Cert, e.Node.Macaroon)
			continue
		}
		fmt.Fprintln(out, e.Text)
	}
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
