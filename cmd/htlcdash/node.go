package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"htlcdash/internal/config"
	"htlcdash/lightning/lnd"
)

// askNode bounds a first question to the node, so that a wrong address is an
// error and no silence.
const askNode = 10 * time.Second

// openNode reaches the node with one of its macaroons, and makes sure that it
// answers. The caller closes it.
func openNode(ctx context.Context, c config.Node, macaroon config.Path, log *slog.Logger) (*lnd.Node, lnd.Info, error) {
	node, err := lnd.New(lnd.Config{
		Addr:         c.Address,
		TLSCertFile:  string(c.TLSCert),
		MacaroonFile: string(macaroon),
		RouteHints:   c.RouteHints,
		Log:          log,
	})
	if err != nil {
		return nil, lnd.Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askNode)
	defer cancel()
	info, err := node.Info(ctx)
	if err != nil {
		_ = node.Close()
		return nil, lnd.Info{}, fmt.Errorf("node at %s: %w\nhtlcdash doctor says what to do", c.Address, err)
	}
	return node, info, nil
}
