package network

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chaincfg/chainhash"
	"github.com/lightningnetwork/lnd/lnrpc"
	"golang.org/x/sync/errgroup"
)

// lnd loses a channel_update for good when a channel's announcement blocks
// come within about a second of its first confirmation, since its gossiper then
// has not stored the edge yet. So: one block, wait until the channel is
// active, wait this long, five more blocks.
const gossipPause = 1300 * time.Millisecond

// open opens channels and waits until all running nodes know the public ones.
func (n *Network) open(ctx context.Context, specs ...ChannelSpec) ([]ChannelInfo, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	n.opening.Lock()
	defer n.opening.Unlock()
	points, err := n.propose(ctx, specs)
	if err != nil {
		return nil, err
	}
	if err := n.confirm(ctx, points); err != nil {
		return nil, err
	}
	channels, err := n.pick(ctx, points)
	if err != nil {
		return nil, err
	}
	return channels, n.published(ctx, channels)
}

// propose agrees on the channels and returns their funding outputs, whose
// transactions then wait for a block. A funder opens one after another; the
// funders work side by side.
func (n *Network) propose(ctx context.Context, specs []ChannelSpec) ([]string, error) {
	byFunder := map[string][]int{}
	for i, s := range specs {
		byFunder[s.From] = append(byFunder[s.From], i)
	}
	points := make([]string, len(specs))
	work, ctx := errgroup.WithContext(ctx)
	for _, indices := range byFunder {
		work.Go(func() (err error) {
			for _, i := range indices {
				if points[i], err = n.proposeOne(ctx, specs[i]); err != nil {
					return fmt.Errorf("channel %s-%s: %w", specs[i].From, specs[i].To, err)
				}
			}
			return nil
		})
	}
	return points, work.Wait()
}

func (n *Network) proposeOne(ctx context.Context, s ChannelSpec) (string, error) {
	from, err := n.node(s.From)
	if err != nil {
		return "", err
	}
	to, err := n.node(s.To)
	if err != nil {
		return "", err
	}
	if err := connect(ctx, from, to); err != nil {
		return "", err
	}
	rpc, err := from.running()
	if err != nil {
		return "", err
	}
	key, err := hex.DecodeString(to.identity())
	if err != nil {
		return "", err
	}
	point, err := rpc.OpenChannelSync(ctx, &lnrpc.OpenChannelRequest{
		NodePubkey: key, LocalFundingAmount: s.Capacity, PushSat: s.Push, Private: s.Private,
		SatPerVbyte: 5, SpendUnconfirmed: true,
	})
	if err != nil {
		return "", err
	}
	id, err := chainhash.NewHash(point.GetFundingTxidBytes())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%v:%d", id, point.OutputIndex), n.chain.seen(ctx, id)
}

// connect makes a and b peers, if they are not.
func connect(ctx context.Context, a, b *node) error {
	rpc, err := a.running()
	if err != nil {
		return err
	}
	if _, err := b.running(); err != nil {
		return err
	}
	id := b.identity()
	return until(ctx, func() error {
		peers, err := rpc.ListPeers(ctx, &lnrpc.ListPeersRequest{})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(peers.Peers, func(p *lnrpc.Peer) bool { return p.PubKey == id }) {
			return nil
		}
		_, err = rpc.ConnectPeer(ctx, &lnrpc.ConnectPeerRequest{Addr: &lnrpc.LightningAddress{Pubkey: id, Host: b.ports.P2P}})
		return fmt.Errorf("%s does not reach %s: %w", a.Name, b.Name, cmp.Or(err, errors.New("no connection yet")))
	})
}

// confirm mines what channels need to become active and then public.
func (n *Network) confirm(ctx context.Context, points []string) error {
	if _, err := n.mine(ctx, 1); err != nil {
		return err
	}
	err := until(ctx, func() error {
		channels, err := n.pick(ctx, points)
		if err != nil {
			return err
		}
		return allActive(channels)
	})
	if err != nil {
		return err
	}
	select {
	case <-time.After(gossipPause):
	case <-ctx.Done():
		return ctx.Err()
	}
	for range 5 {
		if _, err := n.mine(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

func allActive(channels []ChannelInfo) error {
	for _, c := range channels {
		if !c.Active {
			return fmt.Errorf("channel %s-%s is not active", c.From, c.To)
		}
	}
	return nil
}

// rejoin connects nodes to the running nodes that they have channels with, and
// waits until these are active.
func (n *Network) rejoin(ctx context.Context, nodes ...*node) error {
	channels, err := n.channels(ctx)
	if err != nil {
		return err
	}
	var points []string
	for _, c := range channels {
		from, err1 := n.node(c.From)
		to, err2 := n.node(c.To)
		if err1 != nil || err2 != nil || len(running([]*node{from, to})) < 2 {
			continue
		}
		if !slices.Contains(nodes, from) && !slices.Contains(nodes, to) {
			continue
		}
		if err := connect(ctx, from, to); err != nil {
			return err
		}
		points = append(points, c.Point)
	}
	return until(ctx, func() error {
		channels, err := n.pick(ctx, points)
		if err != nil {
			return err
		}
		return allActive(channels)
	})
}

// pick returns the channels with these funding outputs, in that order.
func (n *Network) pick(ctx context.Context, points []string) ([]ChannelInfo, error) {
	all, err := n.channels(ctx)
	if err != nil {
		return nil, err
	}
	picked := make([]ChannelInfo, len(points))
	for i, p := range points {
		j := slices.IndexFunc(all, func(c ChannelInfo) bool { return c.Point == p })
		if j < 0 {
			return nil, fmt.Errorf("channel %s is not open", p)
		}
		picked[i] = all[j]
	}
	return picked, nil
}

// channels lists all channels of running nodes. A channel is active if all of
// its ends that we run say so.
func (n *Network) channels(ctx context.Context) ([]ChannelInfo, error) {
	names := map[string]string{}
	for _, node := range n.all() {
		names[node.identity()] = node.Name
	}
	byPoint := map[string]ChannelInfo{}
	for _, node := range running(n.all()) {
		rpc, err := node.running()
		if err != nil {
			continue // ended just now
		}
		list, err := rpc.ListChannels(ctx, &lnrpc.ListChannelsRequest{})
		if err != nil {
			return nil, fmt.Errorf("channels of %s: %w", node.Name, err)
		}
		for _, c := range list.Channels {
			info := describe(c, node.Name, cmp.Or(names[c.RemotePubkey], c.RemotePubkey))
			if other, ok := byPoint[info.Point]; ok {
				if !c.Initiator {
					info, other = other, info
				}
				info.Active = info.Active && other.Active
			}
			byPoint[info.Point] = info
		}
	}
	all := make([]ChannelInfo, 0, len(byPoint))
	for _, c := range byPoint {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b ChannelInfo) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Point, b.Point)) })
	return all, nil
}

func describe(c *lnrpc.Channel, owner, peer string) ChannelInfo {
	info := ChannelInfo{
		Point: c.ChannelPoint, ID: c.ChanId, From: owner, To: peer, Capacity: c.Capacity,
		Local: c.LocalBalance, Remote: c.RemoteBalance, Private: c.Private, Active: c.Active,
	}
	if !c.Initiator {
		info.From, info.To, info.Local, info.Remote = info.To, info.From, info.Remote, info.Local
	}
	return info
}

// published waits until all running nodes know both ends' terms of the public
// channels, and both ends those of the private ones: before that, lnd takes a
// channel for one without money. Should gossip lose terms, it makes the nodes
// say them again.
func (n *Network) published(ctx context.Context, channels []ChannelInfo) error {
	const patience = 2 * time.Second
	last, nudges := time.Now(), uint32(0)
	return until(ctx, func() error {
		err := n.graphHas(ctx, channels)
		if err != nil && time.Since(last) > patience {
			last, nudges = time.Now(), nudges+1
			return cmp.Or(n.nudge(ctx, nudges), err)
		}
		return err
	})
}

func (n *Network) graphHas(ctx context.Context, channels []ChannelInfo) error {
	for _, node := range running(n.all()) {
		rpc, err := node.running()
		if err != nil {
			return err
		}
		graph, err := rpc.DescribeGraph(ctx, &lnrpc.ChannelGraphRequest{IncludeUnannounced: true})
		if err != nil {
			return fmt.Errorf("graph of %s: %w", node.Name, err)
		}
		known := map[string]bool{}
		for _, e := range graph.Edges {
			known[e.ChanPoint] = e.Node1Policy != nil && e.Node2Policy != nil
		}
		for _, c := range channels {
			concerned := !c.Private || node.Name == c.From || node.Name == c.To
			if concerned && !known[c.Point] {
				return fmt.Errorf("%s does not know channel %s-%s", node.Name, c.From, c.To)
			}
		}
	}
	return nil
}

// nudge changes a detail of every node's terms, so that it sends them anew.
func (n *Network) nudge(ctx context.Context, times uint32) error {
	const timeLock = 80 // lnd's default, in blocks
	for _, node := range running(n.all()) {
		rpc, err := node.running()
		if err != nil {
			return err
		}
		_, err = rpc.UpdateChannelPolicy(ctx, &lnrpc.PolicyUpdateRequest{
			Scope:       &lnrpc.PolicyUpdateRequest_Global{Global: true},
			BaseFeeMsat: node.BaseFee, FeeRatePpm: uint32(node.FeeRate), TimeLockDelta: timeLock + times%2,
		})
		if err != nil {
			return fmt.Errorf("terms of %s: %w", node.Name, err)
		}
	}
	return nil
}
