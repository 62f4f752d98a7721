package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"htlcdash/lightning"
)

// Balance sums up the wallet, as [lightning.Wallet] says.
func (n *Node) Balance(ctx context.Context) (lightning.Balance, error) {
	channels, err := n.Channels(ctx)
	if err != nil {
		return lightning.Balance{}, err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	b := lightning.Balance{Chain: n.chain}
	for _, c := range channels {
		if c.Active {
			b.Outbound += c.Local
			b.Inbound += c.Remote
		}
	}
	return b, nil
}

// Channels lists the open channels.
func (n *Node) Channels(ctx context.Context) ([]lightning.Channel, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.down {
		return nil, fmt.Errorf("list channels: %w", lightning.ErrUnavailable)
	}
	var out []lightning.Channel
	for _, c := range n.net.channels {
		if side := c.side(n); side >= 0 {
			out = append(out, lightning.Channel{
				Point: c.point, Peer: c.ends[1-side].id, Capacity: c.capacity, Local: c.balance[side], Remote: c.balance[1-side],
				InFlight: c.htlcs[0] + c.htlcs[1], Active: c.active(), Private: c.private,
			})
		}
	}
	return out, nil
}

// OpenChannel opens a channel from n's wallet, as [lightning.Wallet] says. It
// is active at once.
func (n *Node) OpenChannel(ctx context.Context, r lightning.OpenRequest) (lightning.ChannelPoint, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	capacity := r.Capacity - r.Capacity%lightning.Sat
	peer := n.net.nodes[r.Peer]
	var err error
	switch {
	case n.down:
		err = lightning.ErrUnavailable
	case peer == nil || peer.down || peer == n:
		err = errors.New("peer is not online")
	case capacity <= 0 || r.Push < 0 || r.Push > capacity:
		err = errors.New("want a capacity above zero and what is pushed within it")
	case n.chain < capacity:
		err = fmt.Errorf("the wallet holds %v, the channel needs %v", n.chain, capacity)
	}
	if err != nil {
		return "", fmt.Errorf("open a channel with %v: %w", r.Peer, err)
	}
	n.chain -= capacity
	return n.net.open(n, peer, capacity-r.Push, r.Push, r.Private), nil
}

// CloseChannel closes a channel, as [lightning.Wallet] says. The money is in
// the wallets at once; HTLCs in flight are refused even with force.
func (n *Node) CloseChannel(ctx context.Context, p lightning.ChannelPoint, force bool) (string, error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	at := slices.IndexFunc(n.net.channels, func(c *channel) bool { return c.point == p && c.side(n) >= 0 })
	var err error
	switch {
	case n.down:
		err = lightning.ErrUnavailable
	case at < 0:
		err = errors.New("no such channel")
	case n.net.channels[at].htlcs != [2]int{}:
		err = errors.New("payments are in flight")
	case !force && !n.net.channels[at].active():
		err = errors.New("peer is not online")
	}
	if err != nil {
		return "", fmt.Errorf("close channel %s: %w", p, err)
	}
	c := n.net.channels[at]
	for side, end := range c.ends {
		end.chain += c.balance[side]
	}
	n.net.channels = slices.Delete(n.net.channels, at, at+1)
	return "closing " + string(p), nil
}
