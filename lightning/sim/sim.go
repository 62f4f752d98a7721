// Package sim is a Lightning network in one process: nodes, channels with a
// balance on each side, routes of several hops with fees, HTLC slots, latency,
// hold invoices, and faults that a test orders. Each [Node] implements the
// same interfaces as a real one and passes the same suite (nodetest).
//
// Amounts are exact to the msat and no money is ever lost: see [Network.Check].
// What it leaves out: the chain (channels open and close at once, for free),
// onions, gossip, on-chain settlement. HTLCs time out by [Network.Mine]. It never stands in
// for a real node in a demo.
package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash/lightning"
)

// Config describes a network. The zero value is fast and free.
type Config struct {
	Latency time.Duration     // one way over one hop
	Slots   int               // HTLCs in flight over a channel, each way; 0: 483, as BOLT 2 allows
	Network lightning.Network // of the invoices; empty: simnet
}

// Network is a Lightning network. Its methods may be called at once.
type Network struct {
	cfg Config

	mu       sync.Mutex
	nodes    map[lightning.NodeID]*Node
	channels []*channel
	minted   lightning.Msat // all money there is
	opened   int            // channels ever opened, to name them
	stalled  map[lightning.Hash]*payment
	height   int      // of the chain
	parked   []func() // what waits for a node to come up
	moving   motion
}

// A motion counts what moves. Unlike a WaitGroup it lets things begin to move
// while somebody waits for the others.
type motion struct {
	mu     sync.Mutex
	count  int
	silent chan struct{} // closed when nothing moves any more; nil while nothing does
}

func (m *motion) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count++; m.count == 1 {
		m.silent = make(chan struct{})
	}
}

func (m *motion) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count--; m.count == 0 {
		close(m.silent)
		m.silent = nil
	}
}

func (m *motion) wait() {
	m.mu.Lock()
	silent := m.silent
	m.mu.Unlock()
	if silent != nil {
		<-silent
	}
}

// New returns a network without nodes.
func New(cfg Config) *Network {
	if cfg.Slots == 0 {
		cfg.Slots = 483
	}
	if cfg.Network == "" {
		cfg.Network = lightning.Simnet
	}
	return &Network{cfg: cfg, nodes: make(map[lightning.NodeID]*Node), stalled: make(map[lightning.Hash]*payment)}
}

// Node adds a node. Its key is derived from its name, which must be new.
func (w *Network) Node(name string) *Node {
	seed := sha256.Sum256([]byte("htlcdash/sim/node/v1:" + name))
	key, public := btcec.PrivKeyFromBytes(seed[:])
	n := &Node{
		net: w, name: name, key: key, id: lightning.NodeID(public.SerializeCompressed()),
		payments: make(map[lightning.Hash]*payment), invoices: make(map[lightning.Hash]*invoice),
		gone: make(chan struct{}), receipted: make(chan struct{}),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[n.id] != nil {
		panic("sim: two nodes named " + name)
	}
	w.nodes[n.id] = n
	return n
}

// Connect gives a and b money and opens a channel between them that holds left
// on a's side and right on b's.
func (w *Network) Connect(a, b *Node, left, right lightning.Msat) lightning.ChannelPoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.minted += left + right
	return w.open(a, b, left, right, false)
}

// open adds a channel; the caller has taken the money from somewhere.
func (w *Network) open(a, b *Node, left, right lightning.Msat, private bool) lightning.ChannelPoint {
	w.opened++
	id := sha256.Sum256(fmt.Appendf(nil, "htlcdash/sim/channel/v1:%d", w.opened))
	c := &channel{
		point: lightning.ChannelPoint(hex.EncodeToString(id[:]) + ":0"), private: private, capacity: left + right,
		ends: [2]*Node{a, b}, balance: [2]lightning.Msat{left, right},
	}
	w.channels = append(w.channels, c)
	return c.point
}

// Wait returns when no payment moves. Held, stalled and parked ones do not
// move.
func (w *Network) Wait() { w.moving.wait() }

// Check counts all money: each channel's sides and HTLCs make up its capacity,
// and channels and wallets together hold what was given out.
func (w *Network) Check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var total lightning.Msat
	for _, c := range w.channels {
		sum := c.balance[0] + c.balance[1] + c.pending[0] + c.pending[1]
		if sum != c.capacity || min(c.balance[0], c.balance[1], c.pending[0], c.pending[1]) < 0 {
			return fmt.Errorf("channel %s holds %v + %v and %v + %v in flight, its capacity is %v",
				c.point, c.balance[0], c.balance[1], c.pending[0], c.pending[1], c.capacity)
		}
		total += sum
	}
	for _, n := range w.nodes {
		if n.chain < 0 {
			return fmt.Errorf("node %s has %v in its wallet", n.name, n.chain)
		}
		total += n.chain
	}
	if total != w.minted {
		return fmt.Errorf("there are %v, but %v were given out", total, w.minted)
	}
	return nil
}

// channel holds money between two nodes. All of it is guarded by Network.mu.
type channel struct {
	point    lightning.ChannelPoint
	private  bool
	capacity lightning.Msat
	ends     [2]*Node
	balance  [2]lightning.Msat // what each end can send
	pending  [2]lightning.Msat // what each end has sent in HTLCs not yet resolved
	htlcs    [2]int
}

// side is the index of n's end, or -1.
func (c *channel) side(n *Node) int {
	for i, end := range c.ends {
		if end == n {
			return i
		}
	}
	return -1
}

func (c *channel) active() bool { return !c.ends[0].down && !c.ends[1].down }

// hop is one HTLC of a route: the money that side sends over channel.
type hop struct {
	channel *channel
	side    int
	amount  lightning.Msat
}

func (h hop) add() {
	h.channel.balance[h.side] -= h.amount
	h.channel.pending[h.side] += h.amount
	h.channel.htlcs[h.side]++
}

// resolve gives the money to the end with index to.
func (h hop) resolve(to int) {
	h.channel.pending[h.side] -= h.amount
	h.channel.htlcs[h.side]--
	h.channel.balance[to] += h.amount
}

func (h hop) settle() { h.resolve(1 - h.side) }
func (h hop) fail()   { h.resolve(h.side) }

// route finds the cheapest way to bring amount from one node to another now:
// Dijkstra from the payee, since fees add up towards the payer.
func (w *Network) route(from, to *Node, amount lightning.Msat) []hop {
	type label struct {
		arriving lightning.Msat // what must reach this node
		next     *Node
		by       hop
		done     bool
	}
	labels := map[*Node]*label{to: {arriving: amount}}
	for {
		var here *Node
		for n, l := range labels {
			if !l.done && (here == nil || l.arriving < labels[here].arriving) {
				here = n
			}
		}
		if here == nil {
			return nil
		}
		if here == from {
			break
		}
		at := labels[here]
		at.done = true
		for _, c := range w.channels {
			in := c.side(here)
			if in < 0 || !c.active() {
				continue
			}
			side := 1 - in
			sender, send := c.ends[side], at.arriving
			if c.balance[side] < send || c.htlcs[side] >= w.cfg.Slots {
				continue
			}
			arriving := send
			if sender != from {
				arriving += sender.fees.of(send)
			}
			if l := labels[sender]; l == nil || !l.done && arriving < l.arriving {
				labels[sender] = &label{arriving: arriving, next: here, by: hop{c, side, send}}
			}
		}
	}
	var hops []hop
	for n := from; n != to; n = labels[n].next {
		hops = append(hops, labels[n].by)
	}
	return hops
}

// Fees are what a node takes for forwarding amount (BOLT 7).
type Fees struct {
	Base lightning.Msat
	PPM  int64 // of the amount that it sends on
}

func (f Fees) of(amount lightning.Msat) lightning.Msat {
	return f.Base + amount/1_000_000*lightning.Msat(f.PPM) + amount%1_000_000*lightning.Msat(f.PPM)/1_000_000
}
