package lnd

import (
	"context"
	"fmt"

	"htlcdash/lightning"
)

// Autopilot reports whether lnd opens channels by itself.
func (n *Node) Autopilot(ctx context.Context) (on bool, err error) {
	var r struct {
		Active bool `json:"active"`
	}
	if err := n.rest.get(ctx, "/v2/autopilot/status", &r); err != nil {
		return false, fmt.Errorf("status of the autopilot: %w", err)
	}
	return r.Active, nil
}

// SetAutopilot switches the autopilot on or off. lnd needs its heuristic
// "externalscore" (autopilot.heuristic=externalscore:1.0) to heed SetScores.
func (n *Node) SetAutopilot(ctx context.Context, on bool) error {
	req := struct {
		Enable bool `json:"enable"`
	}{on}
	if err := n.rest.post(ctx, "/v2/autopilot/modify", req, nil); err != nil {
		return fmt.Errorf("switch the autopilot: %w", err)
	}
	return nil
}

// SetScores tells the autopilot how much a channel with each node is worth to
// us, from 0 to 1, such as the providers that a viewer buys from. It replaces
// all scores told before; lnd forgets them when it restarts.
func (n *Node) SetScores(ctx context.Context, scores map[lightning.NodeID]float64) error {
	req := struct {
		Heuristic string                       `json:"heuristic"`
		Scores    map[lightning.NodeID]float64 `json:"scores"`
	}{"externalscore", scores}
	if err := n.rest.post(ctx, "/v2/autopilot/scores", req, nil); err != nil {
		return fmt.Errorf("tell the autopilot scores: %w", err)
	}
	return nil
}
