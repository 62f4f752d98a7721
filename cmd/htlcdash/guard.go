package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"htlcdash/internal/config"
	"htlcdash/lightning/lnd"
)

// Waits between two tries to stand guard at a node that went away.
const (
	guardRetry    = 500 * time.Millisecond
	guardMaxRetry = 15 * time.Second
)

type walletGuard struct {
	config.Guard `embed:"" prefix:"guard-" envprefix:"HTLCDASH_GUARD_"`
}

func (walletGuard) Help() string {
	return "While it runs, macaroons with a budget work and are held to it; while it does not, lnd refuses them. lnd needs rpcmiddleware.enable=true.\n\n" +
		"Example: htlcdash wallet guard"
}

func (c walletGuard) Run(ctx context.Context, w *walletCommands, log *slog.Logger) (err error) {
	if err := os.MkdirAll(filepath.Dir(string(c.Tally)), 0o700); err != nil {
		return err
	}
	tally, err := lnd.OpenTally(string(c.Tally))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tally.Close()) }()
	return w.use(ctx, log, func(n *lnd.Node) error { return standGuard(ctx, n, tally, log) })
}

// standGuard guards until ctx is done, also over restarts of the node.
func standGuard(ctx context.Context, node *lnd.Node, tally lnd.Tally, log *slog.Logger) error {
	retry := guardRetry
	for {
		err := node.Guard(ctx, tally, func() {
			retry = guardRetry
			log.Info("guarding budgets")
		})
		if ctx.Err() != nil {
			return nil
		}
		log.Warn("budgets are not guarded, so their macaroons do not work", "err", err, "again", retry)
		select {
		case <-time.After(retry):
			retry = min(2*retry, guardMaxRetry)
		case <-ctx.Done():
			return nil
		}
	}
}
