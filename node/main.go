// Command htlcdash-node holds lnd, and brings up private networks and light
// clients made of it. The programs of the project start it; people may too.
//
//	htlcdash-node lnd [flags of lnd]       lnd itself
//	htlcdash-node network --dir DIR        a private Bitcoin and Lightning network
//	htlcdash-node light --dir DIR --peer.. lnd as a light client
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
`

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
	}
	return errors.New(usage)
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return network.Serve(ctx, opts, os.Stdin, os.Stdout)
}
