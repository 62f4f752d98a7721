package lnd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"htlcdash/lightning"
)

// Balance sums up the wallet, as [lightning.Wallet] says.
func (n *Node) Balance(ctx context.Context) (lightning.Balance, error) {
	type amount struct {
		Msat int64 `json:"msat,string"`
	}
	var channels struct {
		Local  amount `json:"local_balance"`
		Remote amount `json:"remote_balance"`
	}
	var chain struct {
		Confirmed int64 `json:"confirmed_balance,string"`
	}
	if err := n.rest.get(ctx, "/v1/balance/channels", &channels); err != nil {
		return lightning.Balance{}, fmt.Errorf("balance of channels: %w", err)
	}
	if err := n.rest.get(ctx, "/v1/balance/blockchain", &chain); err != nil {
		return lightning.Balance{}, fmt.Errorf("balance on the chain: %w", err)
	}
	all, err := n.Channels(ctx)
	if err != nil {
		return lightning.Balance{}, err
	}
	b := lightning.Balance{
		Outbound: lightning.Msat(channels.Local.Msat), Inbound: lightning.Msat(channels.Remote.Msat), Chain: sat(chain.Confirmed),
	}
	for _, c := range all { // lnd counts the inactive too; their share is known in whole satoshis
		if !c.Active {
			b.Outbound = max(b.Outbound-c.Local, 0)
			b.Inbound = max(b.Inbound-c.Remote, 0)
		}
	}
	return b, nil
}

// Channels lists the open channels.
func (n *Node) Channels(ctx context.Context) ([]lightning.Channel, error) {
	list, err := n.channels(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]lightning.Channel, 0, len(list))
	for _, c := range list {
		out = append(out, lightning.Channel{
			Point: c.Point, Peer: c.Peer, Active: c.Active, Private: c.Private, InFlight: len(c.Pending),
			Capacity: sat(c.Capacity), Local: sat(c.Local), Remote: sat(c.Remote),
		})
	}
	return out, nil
}

// channel is lnrpc.Channel.
type channel struct {
	Active   bool                   `json:"active"`
	Private  bool                   `json:"private"`
	Peer     lightning.NodeID       `json:"remote_pubkey"`
	Point    lightning.ChannelPoint `json:"channel_point"`
	ID       string                 `json:"chan_id"`
	Capacity int64                  `json:"capacity,string"`
	Local    int64                  `json:"local_balance,string"`
	Remote   int64                  `json:"remote_balance,string"`
	Pending  []struct {
		Hash []byte `json:"hash_lock"`
	} `json:"pending_htlcs"`
}

func (n *Node) channels(ctx context.Context) ([]channel, error) {
	var r struct {
		Channels []channel `json:"channels"`
	}
	if err := n.rest.get(ctx, "/v1/channels", &r); err != nil {
		return nil, fmt.Errorf("list channels: %w", err)
	}
	return r.Channels, nil
}

func sat(n int64) lightning.Msat { return lightning.Msat(n) * lightning.Sat }

// Address returns a fresh address of the chain (SegWit version 1) to send coins
// to, which channels are made of.
func (n *Node) Address(ctx context.Context) (string, error) {
	var r struct {
		Address string `json:"address"`
	}
	if err := n.rest.get(ctx, "/v1/newaddress?type=TAPROOT_PUBKEY", &r); err != nil {
		return "", fmt.Errorf("new address: %w", err)
	}
	return r.Address, nil
}

// OpenChannel opens a channel, as [lightning.Wallet] says.
func (n *Node) OpenChannel(ctx context.Context, r lightning.OpenRequest) (lightning.ChannelPoint, error) {
	point, err := n.open(ctx, r)
	if err != nil {
		return "", fmt.Errorf("open a channel with %v: %w", r.Peer, err)
	}
	return point, nil
}

func (n *Node) open(ctx context.Context, r lightning.OpenRequest) (lightning.ChannelPoint, error) {
	if r.Addr != "" {
		if err := n.connect(ctx, r.Peer, r.Addr); err != nil {
			return "", err
		}
	}
	s, err := n.rest.stream(ctx, http.MethodPost, "/v1/channels/stream", struct {
		Peer    []byte `json:"node_pubkey"`
		Amount  int64  `json:"local_funding_amount,string"`
		Push    int64  `json:"push_sat,string"`
		Private bool   `json:"private"`
	}{r.Peer[:], int64(r.Capacity / lightning.Sat), int64(r.Push / lightning.Sat), r.Private})
	if err != nil {
		return "", err
	}
	defer s.body.Close() // the rest of the stream waits for confirmations
	var m struct {
		Pending struct {
			TxID  []byte `json:"txid"`
			Index uint32 `json:"output_index"`
		} `json:"chan_pending"`
	}
	if err := s.next(&m); err != nil {
		return "", err
	}
	id, err := txid(m.Pending.TxID)
	if err != nil {
		return "", err
	}
	return lightning.ChannelPoint(id + ":" + strconv.FormatUint(uint64(m.Pending.Index), 10)), nil
}

// connect is done when the peers are connected, also if they were before.
func (n *Node) connect(ctx context.Context, peer lightning.NodeID, addr string) error {
	type address struct {
		Key  lightning.NodeID `json:"pubkey"`
		Host string           `json:"host"`
	}
	err := n.rest.post(ctx, "/v1/peers", struct {
		Addr    address `json:"addr"`
		Timeout uint64  `json:"timeout,string"`
	}{address{peer, addr}, 15}, nil)
	var said *answer
	if errors.As(err, &said) && said.says("already connected to peer") {
		return nil
	}
	return err
}

// txid writes a transaction id, which lnd sends as it is hashed, the way that
// people read it.
func txid(b []byte) (string, error) {
	if len(b) != 32 {
		return "", errors.New("lnd names no transaction")
	}
	b = slices.Clone(b)
	slices.Reverse(b)
	return hex.EncodeToString(b), nil
}

// CloseChannel closes a channel, as [lightning.Wallet] says.
func (n *Node) CloseChannel(ctx context.Context, p lightning.ChannelPoint, force bool) (string, error) {
	id, err := n.close(ctx, p, force)
	if err != nil {
		return "", fmt.Errorf("close channel %s: %w", p, err)
	}
	return id, nil
}

func (n *Node) close(ctx context.Context, p lightning.ChannelPoint, force bool) (string, error) {
	funding, index, ok := strings.Cut(string(p), ":")
	if _, err := strconv.ParseUint(index, 10, 32); !ok || err != nil || len(funding) != 64 {
		return "", errors.New("want txid:index")
	}
	if _, err := hex.DecodeString(funding); err != nil {
		return "", errors.New("want txid:index")
	}
	s, err := n.rest.stream(ctx, http.MethodDelete, fmt.Sprintf("/v1/channels/%s/%s?force=%t&no_wait=true", funding, index, force), nil)
	if err != nil {
		return "", err
	}
	defer s.body.Close() // the rest of the stream waits for confirmations
	for {
		var m struct {
			Instant *struct{} `json:"close_instant"` // HTLCs must end first
			Pending struct {
				TxID []byte `json:"txid"`
			} `json:"close_pending"`
		}
		if err := s.next(&m); err != nil {
			return "", err
		}
		if m.Instant == nil {
			return txid(m.Pending.TxID)
		}
	}
}
