package network

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// A Spec says what a network is made of. The zero Spec stands for [Default].
type Spec struct {
	Nodes    []NodeSpec    `json:"nodes"`
	Channels []ChannelSpec `json:"channels"`
}

// A NodeSpec is one lnd.
type NodeSpec struct {
	Name string `json:"name"`
	// DB is "bolt", which carries more payments a second, or "sqlite", which
	// halves the time of a single one. Empty: bolt.
	DB string `json:"db,omitempty"`
	// Fund is what its wallet gets, in satoshi, in four coins. 0: nothing.
	Fund int64 `json:"fund_sat,omitempty"`
	// BaseFee and FeeRate are what it asks for forwarding, in msat and in
	// millionths of the amount.
	BaseFee int64 `json:"base_fee_msat,omitempty"`
	FeeRate int64 `json:"fee_rate_ppm,omitempty"`
	// Flags are further flags of lnd.
	Flags []string `json:"flags,omitempty"`
}

// A ChannelSpec is a channel that From funds.
type ChannelSpec struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Capacity int64  `json:"capacity_sat"`
	Push     int64  `json:"push_sat,omitempty"` // given to To at the start
	Private  bool   `json:"private,omitempty"`  // not announced
}

// Default is a viewer with a direct way to a provider and one over a router.
func Default() Spec {
	const fund, capacity, push = 200_000_000, 10_000_000, 1_000_000
	return Spec{
		Nodes: []NodeSpec{
			{Name: "viewer", DB: "sqlite", Fund: fund},
			{Name: "router", DB: "bolt", Fund: fund, BaseFee: 100, FeeRate: 100},
			{Name: "provider", DB: "bolt", Fund: fund},
		},
		Channels: []ChannelSpec{
			{From: "viewer", To: "provider", Capacity: capacity, Push: push},
			{From: "viewer", To: "router", Capacity: capacity, Push: push},
			{From: "router", To: "provider", Capacity: capacity, Push: push},
		},
	}
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)

func (s Spec) check() error {
	if len(s.Nodes) == 0 {
		return errors.New("network: no nodes")
	}
	names := map[string]bool{}
	for _, n := range s.Nodes {
		if err := n.check(); err != nil {
			return err
		}
		if names[n.Name] {
			return fmt.Errorf("node %q: twice", n.Name)
		}
		names[n.Name] = true
	}
	for _, c := range s.Channels {
		if !names[c.From] || !names[c.To] || c.From == c.To {
			return fmt.Errorf("channel %s-%s: needs two nodes of the network", c.From, c.To)
		}
	}
	return nil
}

func (n NodeSpec) check() error {
	if !validName.MatchString(n.Name) || n.Name == chainName {
		return fmt.Errorf("node %q: a name is 1 to 20 of a-z, 0-9 and -, and not %q", n.Name, chainName)
	}
	if !slices.Contains([]string{"", "bolt", "sqlite"}, n.DB) {
		return fmt.Errorf("node %q: db is %q, not bolt or sqlite", n.Name, n.DB)
	}
	if n.Fund < 0 || n.BaseFee < 0 || n.FeeRate < 0 {
		return fmt.Errorf("node %q: less than nothing", n.Name)
	}
	return nil
}

// sameShape reports, by an error that says what differs, whether a folder made
// for s serves want. Flags and fees may change between two runs; a database
// may not.
func (s Spec) sameShape(want Spec) error {
	for _, n := range want.Nodes {
		i := slices.IndexFunc(s.Nodes, func(o NodeSpec) bool { return o.Name == n.Name })
		if i < 0 {
			return fmt.Errorf("it has no node %q", n.Name)
		}
		if s.Nodes[i].DB != n.DB {
			return fmt.Errorf("its node %q is on %q, not %q", n.Name, s.Nodes[i].DB, n.DB)
		}
	}
	return nil
}
