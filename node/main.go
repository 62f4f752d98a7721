// Command htlcdash-node holds lnd, and brings up private networks and light
// clients made of it. The programs of the project start it; people may too.
//
//	htlcdash-node lnd [flags of lnd]       lnd itself
//	htlcdash-node network --dir DIR        a private Bitcoin and Lightning network
//	htlcdash-node light --dir DIR          lnd as a light client
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"htlcdash/node/network"
)

const usage = `usage: htlcdash-node lnd [flags of lnd]
       htlcdash-node network --dir DIR [--spec JSON] [--block-every 10m]
       htlcdash-node light --dir DIR --network NETWORK --peer HOST:PORT... [-- flags of lnd]`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "htlcdash-node:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	switch args[0] {
	case "lnd":
		return runLnd(args[1:])
	case "network":
		return runNetwork(args[1:])
	case "light":
		return runLight(args[1:])
	}
	return errors.New(usage)
}

// runLight is lnd in this process, which a signal stops in order.
func runLight(args []string) error {
	light := network.NewLight()
	f := flag.NewFlagSet("light", flag.ContinueOnError)
	f.StringVar(&light.Dir, "dir", "", "data folder")
	f.StringVar(&light.Chain, "network", light.Chain, "mainnet, signet, testnet, testnet4, regtest or simnet")
	f.StringVar(&light.Alias, "alias", light.Alias, "name of the node")
	f.StringVar(&light.REST, "rest", light.REST, "address of the REST interface")
	f.StringVar(&light.GRPC, "grpc", light.GRPC, "address of the gRPC interface")
	f.StringVar(&light.P2P, "listen", "", "address for other nodes to connect to; empty: none")
	f.Func("peer", "Bitcoin node with compact filters, host:port; may be repeated; none: found by DNS", func(s string) error {
		light.Peers = append(light.Peers, s)
		return nil
	})
	if err := f.Parse(args); err != nil {
		return err
	}
	light.Flags = f.Args()
	lndFlags, err := light.Prepare()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		light.Watch(ctx, os.Stdout)
	}()
	err = runLnd(lndFlags)
	stop()
	<-watched
	return err
}

func runNetwork(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	opts := network.Binaries(self)
	f := flag.NewFlagSet("network", flag.ContinueOnError)
	f.StringVar(&opts.Dir, "dir", "", "data folder; a later run goes on with what is in it")
	f.StringVar(&opts.Btcd, "btcd", opts.Btcd, "the btcd binary")
	f.DurationVar(&opts.BlockEvery, "block-every", 10*time.Minute, "mine a block this often, 0: never")
	f.Func("spec", "nodes and channels, as JSON", func(s string) error { return json.Unmarshal([]byte(s), &opts.Spec) })
	if err := f.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return network.Serve(ctx, opts, os.Stdin, os.Stdout)
}
