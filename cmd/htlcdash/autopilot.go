package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"htlcdash/buyer"
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// scoredPast is how far back purchases count for a provider's score.
const scoredPast = 30 * 24 * time.Hour

type walletAutopilot struct {
	On     autopilotOn     `cmd:"" help:"Let lnd open channels by itself."`
	Off    autopilotOff    `cmd:"" help:"Do not let lnd open channels by itself."`
	Status autopilotStatus `cmd:"" help:"Say whether it is on."`
	Scores autopilotScores `cmd:"" help:"Tell it which nodes we buy from, so that channels go there."`
}

type (
	autopilotOn     struct{}
	autopilotOff    struct{}
	autopilotStatus struct{}
	autopilotScores struct {
		Market config.ProxyProviders `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
		Books  config.ProxyBooks     `embed:"" prefix:"proxy-" envprefix:"HTLCDASH_PROXY_"`
	}
)

func (autopilotOn) Help() string     { return "Example: htlcdash wallet autopilot on" }
func (autopilotOff) Help() string    { return "Example: htlcdash wallet autopilot off" }
func (autopilotStatus) Help() string { return "Example: htlcdash wallet autopilot status" }
func (autopilotScores) Help() string {
	return "lnd must run with autopilot.heuristic=externalscore:1.0. It forgets scores when it restarts.\n\n" +
		"Example: htlcdash wallet autopilot scores"
}

func (autopilotOn) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error { return switchAutopilot(ctx, t, n, true) })
}

func (autopilotOff) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error { return switchAutopilot(ctx, t, n, false) })
}

func (autopilotStatus) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	return w.use(ctx, log, func(n *lnd.Node) error { return tellAutopilot(ctx, t, n) })
}

func switchAutopilot(ctx context.Context, t terminal, node *lnd.Node, on bool) error {
	if err := node.SetAutopilot(ctx, on); err != nil {
		return err
	}
	return tellAutopilot(ctx, t, node)
}

func tellAutopilot(ctx context.Context, t terminal, node *lnd.Node) error {
	on, err := node.Autopilot(ctx)
	if err != nil {
		return err
	}
	state := "off"
	if on {
		state = "on"
	}
	_, err = fmt.Fprintln(t.out, state)
	return err
}

func (c autopilotScores) Run(ctx context.Context, t terminal, w *walletCommands, log *slog.Logger) error {
	known, err := providerNodes(ctx, c.Market.Providers, log)
	if err != nil {
		return err
	}
	bought, err := boughtFrom(ctx, string(c.Books.Ledger))
	if err != nil {
		return err
	}
	scores := scoreNodes(known, bought)
	if len(scores) == 0 {
		return errors.New("no provider answers, and nothing was bought yet: there is nobody to score")
	}
	return w.use(ctx, log, func(n *lnd.Node) error {
		if err := n.SetScores(ctx, scores); err != nil {
			return err
		}
		return printScores(t, scores)
	})
}

// providerNodes asks the configured providers for their nodes.
func providerNodes(ctx context.Context, addresses []string, log *slog.Logger) ([]lightning.NodeID, error) {
	var nodes []lightning.NodeID
	for _, a := range addresses {
		p, err := buyer.NewProvider(a, nil)
		if err != nil {
			return nil, usageError{err}
		}
		info, err := p.Info(ctx)
		if err != nil {
			log.Warn("provider left out", "err", err)
			continue
		}
		nodes = append(nodes, info.Node)
	}
	return nodes, nil
}

// boughtFrom sums what nodes were paid for keys that came.
func boughtFrom(ctx context.Context, path string) (map[lightning.NodeID]lightning.Msat, error) {
	books, err := ledger.OpenReader(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer books.Close()
	sums := map[lightning.NodeID]lightning.Msat{}
	for p, err := range books.Purchases(ctx, ledger.Filter{Since: time.Now().Add(-scoredPast)}) {
		if err != nil {
			return nil, err
		}
		if p.State == lightning.Paid && !p.Lost {
			sums[p.Payee] += p.Amount
		}
	}
	return sums, nil
}

// scoreNodes gives each node a score from 0 to 1: half for being configured,
// half by its share of what was bought, set against the largest.
func scoreNodes(known []lightning.NodeID, bought map[lightning.NodeID]lightning.Msat) map[lightning.NodeID]float64 {
	scores := map[lightning.NodeID]float64{}
	for _, id := range known {
		scores[id] = 0.5
	}
	if len(bought) == 0 {
		return scores
	}
	most := slices.Max(slices.Collect(maps.Values(bought)))
	for id, amount := range bought {
		scores[id] += 0.5 * float64(amount) / float64(most)
	}
	return scores
}

func printScores(t terminal, scores map[lightning.NodeID]float64) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "node\tscore")
	ids := slices.SortedFunc(maps.Keys(scores), func(a, b lightning.NodeID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		fmt.Fprintf(w, "%v\t%.2f\n", id, scores[id])
	}
	return w.Flush()
}
