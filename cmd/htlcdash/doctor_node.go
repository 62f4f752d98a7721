package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"htlcdash/internal/config"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// checkNode goes from the wire up: address, certificate, clock, then with each
// macaroon that is set up what it may do, and the channels.
func (c doctorCommand) checkNode(ctx context.Context, r *report, log *slog.Logger) {
	if !c.checkAddress(ctx, r) {
		return
	}
	told, till, bakeSell := false, c.Serve.Till == tillInterceptor, "htlcdash wallet bake sell"
	if till {
		bakeSell += " --till"
	}
	for _, side := range []nodeSide{
		{"proxy", "buying", c.Proxy.Macaroon, lnd.BuyingRights, "htlcdash wallet bake buy --budget '50000 sat'"},
		c.sellingSide(till, bakeSell),
	} {
		if !c.wants(side.role) {
			continue
		}
		if _, err := os.Stat(string(side.file)); errors.Is(err, fs.ErrNotExist) {
			r.bad(c.asks(side.role), side.name+" macaroon", "none at "+string(side.file), side.bake)
			continue
		}
		node, info, err := openNode(ctx, c.Node, side.file, log)
		if err != nil {
			r.fail(side.name+" macaroon", firstLine(err), macaroonRemedy(err, side.bake))
			continue
		}
		r.ok(side.name+" macaroon", "%s is accepted", side.file)
		c.checkRights(ctx, r, side.name+" macaroon", side.file, side.need, side.bake, log)
		if !told {
			told = true
			c.checkInfo(r, info)
			c.checkChannels(ctx, r, node)
		}
		if side.role == "serve" && till {
			c.checkTill(ctx, r, info, log)
		}
		_ = node.Close()
	}
}

// A nodeSide is one who asks the node, and with what.
type nodeSide struct {
	role, name string
	file       config.Path
	need       []lnd.Right
	bake       string // how the macaroon is made
}

// sellingSide is the provider, who also pays if it has an upstream.
func (c doctorCommand) sellingSide(till bool, bake string) nodeSide {
	if !c.resells() {
		return nodeSide{"serve", "selling", c.Serve.Macaroon, sellingRights(till), bake}
	}
	bake = "htlcdash wallet bake relay --budget '200000 sat'"
	if till {
		bake += " --till"
	}
	return nodeSide{"serve", "reselling", c.Serve.UpstreamMacaroon, lnd.Relaying(sellingRights(till)), bake}
}

func (c doctorCommand) resells() bool { return len(c.Serve.Upstream) > 0 }

// checkTill asks for the two options of lnd without which a till beside it could
// lose money, or its customers theirs for a day.
func (c doctorCommand) checkTill(ctx context.Context, r *report, info lnd.Info, log *slog.Logger) {
	const check = "till"
	if !info.KeepsFinal {
		r.fail(check, "lnd forgets what became of payments", "add the line store-final-htlc-resolutions=true to lnd.conf and restart lnd")
	}
	const ask = "set node.macaroon to lnd's admin.macaroon for this check, or look yourself for the line requireinterceptor=true in lnd.conf"
	judge, _, err := openNode(ctx, c.Node, c.Node.Macaroon, log)
	if err != nil {
		r.warn(check, "cannot tell whether lnd holds payments while we are away: "+firstLine(err), ask)
		return
	}
	defer judge.Close()
	value, ok, err := judge.Configured(ctx, "requireinterceptor")
	switch {
	case err != nil:
		r.warn(check, "cannot tell whether lnd holds payments while we are away: "+err.Error(), ask)
	case !ok || value != "true":
		r.fail(check, "lnd does not hold payments while we are away", "add the line requireinterceptor=true to lnd.conf and restart lnd")
	case info.KeepsFinal:
		r.ok(check, "lnd holds payments while we are away, and remembers them")
	}
}

// checkRights asks with the wallet's macaroon, which may judge others, what
// the one in file allows.
func (c doctorCommand) checkRights(ctx context.Context, r *report, check string, file config.Path, need []lnd.Right, bake string, log *slog.Logger) {
	judge, _, err := openNode(ctx, c.Node, c.Node.Macaroon, log)
	if err != nil {
		r.warn(check, "cannot tell what it allows: "+firstLine(err), "set node.macaroon to lnd's admin.macaroon for this check")
		return
	}
	defer judge.Close()
	m, err := lnd.ReadMacaroon(string(file))
	if err != nil {
		r.fail(check, err.Error(), bake)
		return
	}
	missing, tooMuch, err := judge.Audit(ctx, m, need)
	switch {
	case err != nil:
		r.warn(check, "cannot tell what it allows: "+err.Error(), "set node.macaroon to lnd's admin.macaroon for this check")
	case len(missing) > 0:
		r.fail(check, fmt.Sprintf("does not allow %v", missing), "remove the file and bake it again: "+bake)
	case len(tooMuch) > 0:
		r.warn(check, fmt.Sprintf("allows more than is needed: %v", tooMuch), "remove the file and bake a weaker one: "+bake)
	default:
		r.ok(check, "allows what is needed, and spends no other way")
	}
}

func macaroonRemedy(err error, bake string) string {
	switch {
	case errors.Is(err, lightning.ErrDenied):
		return "if it has a budget, start htlcdash wallet guard; else bake it again: " + bake
	case errors.Is(err, lightning.ErrUnavailable):
		return "look whether lnd is running and unlocked: lncli state"
	}
	return "bake it again: " + bake
}

// checkAddress reaches the node without a macaroon.
func (c doctorCommand) checkAddress(ctx context.Context, r *report) bool {
	client, err := nodeClient(string(c.Node.TLSCert))
	if err != nil {
		r.fail("node's certificate", err.Error(), "set node.tls_cert to lnd's tls.cert")
		return false
	}
	defer client.CloseIdleConnections()
	date, err := dateOf(ctx, client, c.Node.Address+"/")
	if err != nil {
		r.fail("node", err.Error(), addressRemedy(err))
		return false
	}
	r.ok("node", "%s answers, with the right certificate", c.Node.Address)
	checkClock(r, "node's clock", date)
	return true
}

func addressRemedy(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return "the certificate is not lnd's: copy its tls.cert again and set node.tls_cert"
	case errors.As(err, &name):
		return "start lnd with --tlsextraip or --tlsextradomain for this address, and remove its old tls.cert"
	case errors.As(err, &invalid):
		return "the certificate has expired: remove lnd's tls.cert and tls.key and restart it"
	}
	return "look whether lnd is running and node.address is its REST address (restlisten)"
}

// nodeClient trusts the node's own certificate.
func nodeClient(certFile string) (*http.Client, error) {
	var roots *x509.CertPool
	if certFile != "" {
		pem, err := os.ReadFile(certFile)
		if err != nil {
			return nil, err
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", certFile)
		}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, nil
}

func (c doctorCommand) checkInfo(r *report, info lnd.Info) {
	r.ok("node", "%s, %s on %s, block %d", info.Alias, release(info.Version), info.Network, info.BlockHeight)
	if !info.Synced {
		r.fail("chain", "the node is not synced yet", "wait; lncli getinfo shows how far it is")
		return
	}
	r.ok("chain", "synced")
}

func (c doctorCommand) checkChannels(ctx context.Context, r *report, node lightning.Wallet) {
	const next = "open a channel: htlcdash wallet open KEY@HOST:PORT '500000 sat'"
	channels, err := node.Channels(ctx)
	if err != nil {
		r.fail("channels", err.Error(), "")
		return
	}
	active := 0
	for _, ch := range channels {
		if ch.Active {
			active++
		}
	}
	switch {
	case len(channels) == 0:
		r.fail("channels", "none", next)
		return
	case active == 0:
		r.fail("channels", fmt.Sprintf("%d, but none is active", len(channels)), "look whether the peers are online: htlcdash wallet balance")
	case active < len(channels):
		r.warn("channels", fmt.Sprintf("%d of %d are active", active, len(channels)), "look whether the peers are online: htlcdash wallet balance")
	default:
		r.ok("channels", "%d, all active", active)
	}
	c.checkLiquidity(ctx, r, node)
}

func (c doctorCommand) checkLiquidity(ctx context.Context, r *report, node lightning.Wallet) {
	balance, err := node.Balance(ctx)
	if err != nil {
		r.fail("balance", err.Error(), "")
		return
	}
	if c.wants("proxy") || c.wants("serve") && c.resells() {
		if balance.Outbound < c.Outbound {
			r.bad(c.asks("proxy") || c.asks("serve"), "outbound liquidity", fmt.Sprintf("%v, which is little", balance.Outbound), "open a channel: htlcdash wallet open")
		} else {
			r.ok("outbound liquidity", "%v can be spent", balance.Outbound)
		}
	}
	if c.wants("serve") {
		if balance.Inbound < c.Inbound {
			r.bad(c.asks("serve"), "inbound liquidity", fmt.Sprintf("%v, which is little", balance.Inbound), "let somebody open a channel to this node, or spend over yours")
		} else {
			r.ok("inbound liquidity", "%v can be received", balance.Inbound)
		}
	}
}

// release is lnd's version without its commit.
func release(version string) string {
	v, _, _ := strings.Cut(version, " ")
	return v
}
