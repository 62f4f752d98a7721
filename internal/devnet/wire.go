package devnet

import (
	"encoding/json"
	"fmt"
	"strings"

	"htlcdash/lightning"
)

// The lines as node/network/wire.go has them. The two modules share no code,
// so that this one stays free of lnd.

type event struct {
	Event string `json:"event"`

	// progress, died, failed
	Step string  `json:"step"`
	Name string  `json:"name"`
	Text string  `json:"text"`
	Done float64 `json:"done"`

	// ready
	Fresh bool `json:"fresh"`
	Chain struct {
		P2P    string `json:"p2p"`
		Height int64  `json:"height"`
		PID    int    `json:"pid"`
	} `json:"chain"`
	Nodes    []wireNode    `json:"nodes"`
	Channels []wireChannel `json:"channels"`

	// answer
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

func (e event) status() Status {
	s := Status{Fresh: e.Fresh, ChainP2P: e.Chain.P2P, ChainPID: e.Chain.PID, Height: e.Chain.Height}
	for _, n := range e.Nodes {
		s.Nodes = append(s.Nodes, n.node())
	}
	for _, c := range e.Channels {
		s.Channels = append(s.Channels, c.channel())
	}
	return s
}

func (e event) answer() answer { return answer{e.ID, e.Result, e.Error} }

type answer struct {
	id     uint64
	result json.RawMessage
	err    string
}

func (a answer) into(c command, result any) error {
	if a.err != "" {
		return fmt.Errorf("private network: %s: %s", strings.TrimSpace(c.Command+" "+c.Node), a.err)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(a.result, result); err != nil {
		return fmt.Errorf("private network: %s: answer: %w", c.Command, err)
	}
	return nil
}

type wireNode struct {
	Name     string `json:"name"`
	ID       string `json:"id"`
	REST     string `json:"rest"`
	GRPC     string `json:"grpc"`
	P2P      string `json:"p2p"`
	Cert     string `json:"tls_cert"`
	Macaroon string `json:"admin_macaroon"`
	Log      string `json:"log"`
	PID      int    `json:"pid"`
}

func (w wireNode) node() Node {
	return Node{w.Name, w.ID, w.REST, w.GRPC, w.P2P, w.Cert, w.Macaroon, w.Log, w.PID}
}

type wireChannel struct {
	Point    string `json:"point"`
	ID       uint64 `json:"id,string"`
	From     string `json:"from"`
	To       string `json:"to"`
	Capacity int64  `json:"capacity_sat"`
	Local    int64  `json:"local_sat"`
	Remote   int64  `json:"remote_sat"`
	Private  bool   `json:"private"`
	Active   bool   `json:"active"`
}

func (w wireChannel) channel() Channel {
	return Channel{w.Point, w.ID, w.From, w.To, msat(w.Capacity), msat(w.Local), msat(w.Remote), w.Private, w.Active}
}

type wireBalance struct {
	Wallet      int64 `json:"wallet_sat"`
	Unconfirmed int64 `json:"unconfirmed_sat"`
	Local       int64 `json:"local_sat"`
	Remote      int64 `json:"remote_sat"`
}

func (w wireBalance) balance() Balance {
	return Balance{msat(w.Wallet), msat(w.Unconfirmed), msat(w.Local), msat(w.Remote)}
}

type command struct {
	ID          uint64           `json:"id"`
	Command     string           `json:"command"`
	Blocks      int              `json:"blocks,omitempty"`
	Node        string           `json:"node,omitempty"`
	Address     string           `json:"address,omitempty"`
	Amount      int64            `json:"amount_sat,omitempty"`
	NodeSpec    *wireNodeSpec    `json:"node_spec,omitempty"`
	ChannelSpec *wireChannelSpec `json:"channel_spec,omitempty"`
}

type wireSpec struct {
	Nodes    []wireNodeSpec    `json:"nodes"`
	Channels []wireChannelSpec `json:"channels"`
}

func specOf(c Config) wireSpec {
	var s wireSpec
	for _, n := range c.Nodes {
		s.Nodes = append(s.Nodes, n.wire())
	}
	for _, ch := range c.Channels {
		s.Channels = append(s.Channels, ch.wire())
	}
	return s
}

type wireNodeSpec struct {
	Name    string   `json:"name"`
	DB      string   `json:"db"`
	Fund    int64    `json:"fund_sat"`
	BaseFee int64    `json:"base_fee_msat"`
	FeeRate int64    `json:"fee_rate_ppm"`
	Flags   []string `json:"flags"`
}

func (s NodeSpec) wire() wireNodeSpec {
	db := "bolt"
	if s.SQLite {
		db = "sqlite"
	}
	return wireNodeSpec{s.Name, db, sat(s.Fund), int64(s.BaseFee), s.FeeRate, s.Flags}
}

type wireChannelSpec struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Capacity int64  `json:"capacity_sat"`
	Push     int64  `json:"push_sat"`
	Private  bool   `json:"private"`
}

func (s ChannelSpec) wire() wireChannelSpec {
	return wireChannelSpec{s.From, s.To, sat(s.Capacity), sat(s.Push), s.Private}
}

func msat(sat int64) lightning.Msat { return lightning.Msat(sat) * lightning.Sat }

func sat(m lightning.Msat) int64 { return int64(m / lightning.Sat) }
