// Package lnd lets an lnd node pay, be paid and keep channels for us. It
// speaks lnd's REST interface and needs nothing of lnd's own code: a payment
// costs the same over REST as over gRPC, and the binary stays small.
//
//	Pay      POST /v2/router/send         newline JSON, one line: the outcome
//	Lookup   GET  /v2/router/track/{hash} first line only
//	Invoice  POST /v1/invoices            with our preimage
//	Receipts GET  /v1/invoices/subscribe?settle_index=
//	Guard    WSS  /v1/middleware          budget of a macaroon, enforced
//	Till     WSS  /v2/router/htlcinterceptor  invoices of our own, settled by us
//
// What lnd says is believed, for it is our own node. Its answers are bounded
// in size all the same. Interfaces and paths follow lnd v0.21
// (lnrpc/*.yaml); int64 are strings and bytes are base64 in its JSON.
package lnd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"htlcdash/lightning"
)

// Config says how to reach a node. Addr is required; the rest has defaults.
type Config struct {
	Addr         string // https://host:port of lnd's REST listener; http only on loopback
	TLSCertFile  string // the node's own tls.cert; empty: the system's authorities
	MacaroonFile string // empty: none, for a node run with --no-macaroons

	MaxInFlight int           // payments at once, others queue; 0: 250, about half of the HTLCs a channel holds
	MaxParts    int           // HTLCs one payment may be split into; 0: 1, since segments are small
	PayTimeout  time.Duration // how long lnd looks for a route; 0: one minute
	MaxLock     int           // blocks for which a payment may be locked on its whole way; 0: 1008, a week
	LostAfter   time.Duration // a payment in flight that no channel carried for so long has failed; 0: two minutes
	RouteHints  bool          // invoices name our private channels
	Log         *slog.Logger  // nil: silent
}

const (
	defaultInFlight   = 250
	defaultPayTimeout = time.Minute
	defaultMaxLock    = 1008
)

// Node is an lnd node. It implements [lightning.Payer], [lightning.Payee],
// [lightning.Holder] and [lightning.Wallet]. All methods may be called at once.
type Node struct {
	rest  *client
	cfg   Config
	log   *slog.Logger
	slots chan struct{} // one token for each payment in flight
	sure  time.Duration // see certainAfter; shorter in tests

	mu       sync.Mutex
	flights  map[lightning.Hash]*flight // guarded by mu
	absences map[lightning.Hash]absence // guarded by mu
	closed   bool                       // guarded by mu
	ended    sync.WaitGroup             // one for each flight
}

var (
	_ lightning.Locker = (*Node)(nil)
	_ lightning.Payee  = (*Node)(nil)
	_ lightning.Holder = (*Node)(nil)
	_ lightning.Wallet = (*Node)(nil)
)

// New reads the files that cfg names. It does not call the node; [Node.Info]
// does.
func New(cfg Config) (*Node, error) {
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = defaultInFlight
	}
	if cfg.MaxParts <= 0 {
		cfg.MaxParts = 1
	}
	if cfg.MaxLock <= 0 {
		cfg.MaxLock = defaultMaxLock
	}
	if cfg.PayTimeout <= 0 {
		cfg.PayTimeout = defaultPayTimeout
	}
	if cfg.LostAfter <= 0 {
		cfg.LostAfter = defaultLostAfter
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	rest, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	return &Node{
		rest:     rest,
		cfg:      cfg,
		log:      cfg.Log,
		slots:    make(chan struct{}, cfg.MaxInFlight),
		sure:     certainAfter,
		flights:  make(map[lightning.Hash]*flight),
		absences: make(map[lightning.Hash]absence),
	}, nil
}

// Close lets go of the node and waits until nothing of it runs here. What is
// in flight stays in flight in lnd; each waiting Pay returns
// [lightning.ErrInFlight].
func (n *Node) Close() error {
	n.mu.Lock()
	n.closed = true
	for _, f := range n.flights {
		f.cancel()
	}
	n.mu.Unlock()
	n.ended.Wait()
	n.rest.http.CloseIdleConnections()
	return nil
}

// Info is what a node says of itself.
type Info struct {
	ID          lightning.NodeID
	Alias       string
	Version     string
	Network     lightning.Network
	Synced      bool // with the chain
	GraphSynced bool // with the channels of others; never for a node without peers
	BlockHeight uint32
	URIs        []string // id@host:port, as the node announces itself
	KeepsFinal  bool     // it stores what became of incoming HTLCs (store-final-htlc-resolutions)
}

// Configured asks which value one of lnd's own options has, such as
// "requireinterceptor". The macaroon must allow /lnrpc.Lightning/GetDebugInfo,
// which the admin's does. The error matches [lightning.ErrUnavailable] if there
// is no answer; ok is false if lnd has no such option.
func (n *Node) Configured(ctx context.Context, option string) (value string, ok bool, err error) {
	var r struct {
		Config map[string]string `json:"config"`
	}
	if err := n.rest.get(ctx, "/v1/getdebuginfo", &r); err != nil {
		return "", false, fmt.Errorf("ask the node for its configuration: %w", err)
	}
	value, ok = r.Config[option]
	return value, ok, nil
}

// Info asks the node about itself. It is the call to test a connection with.
func (n *Node) Info(ctx context.Context) (Info, error) {
	var r struct {
		ID            lightning.NodeID `json:"identity_pubkey"`
		Alias         string           `json:"alias"`
		Version       string           `json:"version"`
		SyncedToChain bool             `json:"synced_to_chain"`
		SyncedToGraph bool             `json:"synced_to_graph"`
		BlockHeight   uint32           `json:"block_height"`
		URIs          []string         `json:"uris"`
		KeepsFinal    bool             `json:"store_final_htlc_resolutions"`
		Chains        []struct {
			Network lightning.Network `json:"network"`
		} `json:"chains"`
	}
	if err := n.rest.get(ctx, "/v1/getinfo", &r); err != nil {
		return Info{}, fmt.Errorf("ask the node about itself: %w", err)
	}
	if len(r.Chains) == 0 {
		return Info{}, errors.New("the node names no chain")
	}
	return Info{
		ID: r.ID, Alias: r.Alias, Version: r.Version, Network: r.Chains[0].Network,
		Synced: r.SyncedToChain, GraphSynced: r.SyncedToGraph, BlockHeight: r.BlockHeight, URIs: r.URIs, KeepsFinal: r.KeepsFinal,
	}, nil
}
