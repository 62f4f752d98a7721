package main

import (
	"context"
	"fmt"
	"time"

	"htlcdash/buyer"
	"htlcdash/internal/mirror"
)

// checkUpstream looks whether a provider that resells would find something to
// sell, with a margin.
func (c doctorCommand) checkUpstream(ctx context.Context, r *report) {
	if !c.resells() {
		return
	}
	serve := serveCommand{Serve: c.Serve}
	if err := serve.margin().Check(); err != nil {
		r.fail("margin", err.Error(), "set upstream_factor, upstream_margin and upstream_shelf in [serve]")
	} else {
		r.ok("margin", "of a publisher's price of 1000 msat, %v may be paid upstream", serve.margin().Most(1000))
	}
	if c.Serve.UpstreamBudgetDay == 0 || c.Serve.UpstreamBudgetTitle == 0 {
		r.fail("upstream budget", "0: nothing is bought", "set upstream_budget_day and upstream_budget_title in [serve]")
	}
	if c.Serve.UpstreamMode != modePass && c.Serve.UpstreamRisk == 0 {
		r.fail("upstream risk", "0: no key is bought before it is sold", "set upstream_risk in [serve], or upstream_mode to \"pass\"")
	}
	carry, err := mirror.ParseCarry(c.Serve.UpstreamCarry)
	if err != nil {
		r.fail("upstream_carry", err.Error(), "set it to [\"all\"] to sell whatever upstream sells")
		return
	}
	c.checkSpace(r, "mirror", string(c.Serve.UpstreamMirror))
	for _, address := range c.Serve.Upstream {
		c.checkSupplier(ctx, r, address, carry)
	}
}

// checkSupplier asks one provider upstream what it sells.
func (c doctorCommand) checkSupplier(ctx context.Context, r *report, address string, carry mirror.Carry) {
	check := "upstream " + address
	p, err := buyer.NewProvider(address, nil)
	if err != nil {
		r.fail(check, err.Error(), "give an address such as https://films.example in serve.upstream")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, err := p.Info(ctx)
	if err != nil {
		r.fail(check, firstLine(err), "look whether its address is right, and whether it is up")
		return
	}
	list, err := p.Titles(ctx)
	if err != nil {
		r.fail(check, firstLine(err), "look whether its address is right, and whether it is up")
		return
	}
	serve, carried := serveCommand{Serve: c.Serve}, 0
	for _, t := range list {
		if carry.Wants(t.ID, t.Publisher) {
			carried++
		}
	}
	switch {
	case len(info.Proofs) == 0:
		r.warn(check, "it proves nothing before it is paid: nothing is bought there", "choose another provider")
	case info.Credentials.Price > c.Serve.UpstreamTokenPrice:
		r.warn(check, fmt.Sprintf("it sells its credentials, for %v a batch, and upstream_token_price allows %v: nothing is bought there", info.Credentials.Price, c.Serve.UpstreamTokenPrice),
			"set upstream_token_price in [serve], or choose another provider")
	case info.Carriage.Price > serve.bytesMost() && len(c.Serve.Sources) == 0:
		r.warn(check, fmt.Sprintf("it takes %v for a MiB of sealed bytes, and %v leaves your margin: none are bought there", info.Carriage.Price, serve.bytesMost()),
			"set byte_price in [serve], or name sources")
	case carried == 0:
		r.warn(check, fmt.Sprintf("none of its %d titles is carried", len(list)), "add to upstream_carry what is to be sold")
	default:
		r.ok(check, "answers; %d of its %d titles are carried", carried, len(list))
	}
}
