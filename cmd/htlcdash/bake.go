package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"htlcdash/internal/config"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// Root keys of our macaroons in lnd: deleting one (lncli deletemacaroonid)
// revokes all that was baked for buying, or for selling.
const (
	buyingRootKey   = 4021
	sellingRootKey  = 4022
	relayingRootKey = 4023
)

type walletBake struct {
	Buy  bakeBuy  `cmd:"" help:"Make the macaroon for htlcdash proxy: it may pay and nothing else."`
	Sell bakeSell `cmd:"" help:"Make the macaroon for htlcdash serve: it may receive and nothing else."`

	Relay bakeRelay `cmd:"" help:"Make the macaroon for htlcdash serve --upstream: it may receive and pay, and nothing else."`
}

type bakeBuy struct {
	Budget lightning.Msat `default:"0" help:"Most that can be spent with it in all its life, fees included, while htlcdash wallet guard runs; without the guard nothing can. 0: no limit and no guard."`

	config.ProxyMacaroon `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
}

func (bakeBuy) Help() string {
	return "Whoever steals a macaroon with a budget can spend that much and no more.\n\nExample: htlcdash wallet bake buy --budget '50000 sat'"
}

func (c bakeBuy) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error {
		if err := bake(ctx, n, lnd.BuyingRights, buyingRootKey, c.Budget, c.Macaroon); err != nil {
			return err
		}
		tellRights(t.out, c.Macaroon, lnd.BuyingRights)
		if c.Budget > 0 {
			fmt.Fprintln(t.out, "it works while this runs: htlcdash wallet guard")
		}
		return nil
	})
}

type bakeSell struct {
	Till bool `help:"For serve.till = \"interceptor\": it may also take and refuse payments that the node forwards."`

	config.ServeMacaroon `embed:"" prefix:"serve-" envprefix:"HTLCDASH_SERVE_"`
}

func (bakeSell) Help() string { return "Example: htlcdash wallet bake sell" }

// sellingRights are what serve needs with its till.
func sellingRights(till bool) []lnd.Right {
	if till {
		return lnd.TillRights
	}
	return lnd.SellingRights
}

func (c bakeSell) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error {
		rights := sellingRights(c.Till)
		if err := bake(ctx, n, rights, sellingRootKey, 0, c.Macaroon); err != nil {
			return err
		}
		tellRights(t.out, c.Macaroon, rights)
		return nil
	})
}

type bakeRelay struct {
	Budget lightning.Msat `default:"0" help:"Most that can be spent with it in all its life, fees included, while htlcdash wallet guard runs; without the guard nothing can. What is sold does not refill it. 0: no limit and no guard."`
	Till   bool           `help:"For serve.till = \"interceptor\": it may also take and refuse payments that the node forwards."`

	config.ServeRelayMacaroon `embed:"" prefix:"serve-" envprefix:"HTLCDASH_SERVE_"`
}

func (bakeRelay) Help() string {
	return "Whoever steals it can spend its budget, and take no channel and no coin.\n\nExample: htlcdash wallet bake relay --budget '200000 sat'"
}

func (c bakeRelay) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error {
		rights := lnd.Relaying(sellingRights(c.Till))
		if err := bake(ctx, n, rights, relayingRootKey, c.Budget, c.UpstreamMacaroon); err != nil {
			return err
		}
		tellRights(t.out, c.UpstreamMacaroon, rights)
		if c.Budget > 0 {
			fmt.Fprintln(t.out, "it works while this runs: htlcdash wallet guard")
		}
		return nil
	})
}

// bake writes a macaroon that allows rights, and what it spends up to budget
// if that is not 0.
func bake(ctx context.Context, node *lnd.Node, rights []lnd.Right, rootKey uint64, budget lightning.Msat, file config.Path) error {
	m, err := node.Bake(ctx, rights, rootKey)
	if err != nil {
		return err
	}
	if budget > 0 {
		if m, err = m.WithBudget(budget); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(string(file)), 0o700); err != nil {
		return err
	}
	return m.Write(string(file))
}

func tellRights(out io.Writer, file config.Path, rights []lnd.Right) {
	fmt.Fprintf(out, "wrote %s, which may call:\n", file)
	for _, r := range rights {
		fmt.Fprintln(out, "  ", r)
	}
}
