package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"htlcdash"
	"htlcdash/internal/devnet"
	"htlcdash/lightning/lnd"
)

// reseller is the node of a relay: one channel from the viewer, one to the
// provider.
const reseller = "relay"

// Where a segment is bought.
const (
	fromOrigin = "origin"
	passedOn   = "passed on"
	ownShelf   = "own shelf"
)

// relays buys the same segments of their publisher's provider, of a relay that has not
// got the key, and of the relay again, once it has.
func relays(ctx context.Context, s *stage, r *Report) (err error) {
	r.Rounds = s.rounds(20)
	hows := []string{nothingAhead, proofAhead}
	s.Progress("publishing a title")
	titles, err := s.made(ctx, "resold", noise("1m", len(hows)*r.Rounds, 1<<20))
	if err != nil {
		return err
	}
	sold, err := s.serve(ctx, titles, "--price-factor", "0.5")
	if err != nil {
		return err
	}
	resold, err := s.relay(ctx, sold)
	if err != nil {
		return err
	}
	ways := []string{fromOrigin, passedOn, ownShelf} // in this order, for each segment
	shops := map[string]patron{}
	var segs []htlcdash.Segment
	for _, way := range ways {
		from := resold
		if way == fromOrigin {
			from = sold
		}
		c, err := s.customer(ctx, from, proved)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		name, err := c.onlyTitle(ctx)
		if err != nil {
			return err
		}
		t, err := c.open(ctx, name)
		if err != nil {
			return err
		}
		shops[way], segs = patron{c}, t.segments["1m"]
	}
	for round := range r.Rounds {
		s.Progress(fmt.Sprintf("round %d of %d", round+1, r.Rounds))
		if err := s.quiet(ctx); err != nil {
			return err
		}
		for i, how := range hows {
			seg := segs[len(hows)*round+i]
			for _, way := range ways {
				took, err := shops[way].timed(ctx, seg, how)
				if err != nil {
					return fmt.Errorf("%s: %w", way, err)
				}
				r.sample(way+", "+how+", ms", ms(took))
			}
		}
	}
	for _, how := range hows {
		origin := r.Samples[fromOrigin+", "+how+", ms"]
		r.fact("1 MiB of the origin, "+how, "ms", median(origin))
		r.fact("  95 of 100 within", "ms", quantile(origin, 0.95))
		for _, way := range []string{passedOn, ownShelf} {
			mine := r.Samples[way+", "+how+", ms"]
			r.add(Row{What: way + " by a relay, " + how + ": added", Unit: "ms", Ours: median(mine) - median(origin), Baseline: median(origin), Of: "of the origin"})
			r.add(Row{What: "  95 of 100 within: added", Unit: "ms", Ours: quantile(mine, 0.95) - quantile(origin, 0.95), Baseline: quantile(origin, 0.95), Of: "of the origin"})
		}
	}
	r.note("all from wanting a segment to having it plain; every node is one channel away; sealed bytes that the relay passes on were fetched through it")
	return nil
}

// timed buys seg, once what goes ahead is done.
func (p patron) timed(ctx context.Context, seg htlcdash.Segment, how string) (time.Duration, error) {
	if err := p.ahead(ctx, seg, how); err != nil {
		return 0, err
	}
	time.Sleep(settling)
	began := time.Now()
	if err := p.have(ctx, seg); err != nil {
		return 0, err
	}
	took := time.Since(began)
	time.Sleep(settling)
	return took, nil
}

// onlyTitle is the name of what a provider sells.
func (c *customer) onlyTitle(ctx context.Context) (string, error) {
	for {
		titles, err := c.provider.Titles(ctx)
		if err != nil {
			return "", err
		}
		if len(titles) == 1 {
			return titles[0].Name, nil
		}
		select { // a relay has to copy it first
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// relay starts a provider that sells on what another sells, with a node of its own.
func (s *stage) relay(ctx context.Context, upstream *process) (*process, error) {
	at, err := s.network.Add(ctx, devnet.NodeSpec{Name: reseller, SQLite: true, Fund: 40 * million})
	if err != nil {
		return nil, err
	}
	for _, c := range []devnet.ChannelSpec{
		{From: viewer, To: reseller, Capacity: 10 * million, Push: million},
		{From: reseller, To: provider, Capacity: 10 * million, Push: million},
	} {
		if _, err := s.network.Open(ctx, c); err != nil {
			return nil, err
		}
	}
	s.nodes[reseller], err = lnd.New(lnd.Config{Addr: at.REST, TLSCertFile: at.CertFile, MacaroonFile: at.MacaroonFile, Log: s.Log})
	if err != nil {
		return nil, err
	}
	macaroon, err := s.macaroon(ctx, reseller, lnd.Relaying(lnd.SellingRights))
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(s.dir, "relay."+name) }
	return s.launch(ctx, "relay", "http://"+address, "/v1/provider", s.Program,
		"serve", "--listen", address, "--page", "", "--titles-folder", in("none"), "--upstream-ahead", "0", "--upstream", upstream.url,
		"--upstream-mirror", in("mirror"), "--cache", in("cache"), "--upstream-complaints", "",
		"--node-address", at.REST, "--node-tls-cert", at.CertFile, "--macaroon", macaroon, "--upstream-macaroon", macaroon,
		"--ledger", in("db"), "--secret", in("secret"),
		"--offer-rate", "1000000", "--max-open-offers", "1000000", "--invoice-rate", "1000000", "--credentials", "free", "--log-level", "warn",
	)
}
