package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"htlcdash/internal/config"
	"htlcdash/lightning"
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

// How long is waited until a silent node is asked again: twice as long each time.
const firstPause, lastPause = time.Second, time.Minute

// awaitNode is openNode for a program that runs for long: where the node does not
// answer, or is not ready, it asks again until it is, or ctx is done. silent is
// called once, when the wait begins. What no waiting mends is an error at once.
func awaitNode(ctx context.Context, c config.Node, macaroon config.Path, log *slog.Logger, silent func()) (*lnd.Node, lnd.Info, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		node, info, err := openNode(ctx, c, macaroon, log)
		if err == nil || ctx.Err() != nil || !mayMend(err) {
			return node, info, err
		}
		if silent != nil {
			silent()
			silent = nil
		}
		log.Warn("the node does not answer or is not ready yet: asked again until it is", "node", c.Address, "err", errors.Unwrap(err), "after", pause,
			"mend", "start it, unlock its wallet, or correct address in [node]; htlcdash doctor says more")
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, lnd.Info{}, err
		}
	}
}

// mayMend reports whether a node that gave err may be reached later without
// anybody changing the configuration: it is silent or starting, and neither refuses
// the macaroon nor shows another certificate, nor speaks plain HTTP.
func mayMend(err error) bool {
	if !errors.Is(err, lightning.ErrUnavailable) || errors.Is(err, lightning.ErrDenied) {
		return false
	}
	_, foreign := errors.AsType[*tls.CertificateVerificationError](err)
	return !foreign && !errors.Is(err, http.ErrSchemeMismatch)
}
