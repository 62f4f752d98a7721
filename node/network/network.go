// Package network runs a private Bitcoin and Lightning network of real
// daemons: one btcd on simnet and some lnd as child processes, funded, with
// open channels that everybody knows. It is for demonstrations and tests, and
// its coins are worth nothing.
//
// It speaks JSON lines with the program that started it (wire.go) and keeps
// everything in one folder (folder.go), from which the next run goes on in
// seconds.
package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire"
	"github.com/lightningnetwork/lnd/lnrpc"
	"golang.org/x/sync/errgroup"
)

const (
	startTimeout = 3 * time.Minute // a loaded machine is slow; a stuck one should say so
	lndGrace     = 3 * time.Second // both together stay under 5 s
	btcdGrace    = time.Second
	maxRevivals  = 20 // of btcd in one run
)

// Options are what a network needs.
type Options struct {
	Dir  string // data folder, made if missing
	Spec Spec   // zero: what the folder holds, or Default
	Btcd string // the btcd binary
	Self string // our own binary, which is lnd when its first argument is "lnd"
	// BlockEvery mines a block now and then, since lnd takes itself for out of
	// sync two hours after the last one. 0: never.
	BlockEvery time.Duration
}

// A Network is the running whole.
type Network struct {
	opts   Options
	folder *folder
	chain  *chain
	report func(any)     // writes one line
	ready  chan struct{} // closed when all is up
	over   chan error    // the chain is gone for good: nothing works any more

	mu    sync.Mutex // guards nodes and done
	nodes []*node
	done  float64 // of the start

	joining sync.Mutex // one new node at a time; guards the folder's state once ready
	mining  sync.Mutex // no command mines while btcd is brought back
	opening sync.Mutex // one opening of channels at a time: each waits for its own blocks

	busy sync.WaitGroup // all that must end before the children do
}

// up brings everything to the state that Ready tells of.
func (n *Network) up(ctx context.Context) (*Ready, error) {
	begin := time.Now()
	startCtx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %v", startTimeout))
	defer cancel()
	n.progress("chain", 0.02, "starting the chain")
	if err := n.chain.start(startCtx, n.opts.Btcd); err != nil {
		return nil, err
	}
	n.busy.Go(func() { n.guard(ctx) })
	fresh := !n.folder.state.Complete
	bring := n.wake
	if fresh {
		bring = n.found
	}
	if err := bring(startCtx); err != nil {
		return nil, err
	}
	if err := n.folder.complete(); err != nil {
		return nil, err
	}
	ready, err := n.status(startCtx)
	if err != nil {
		return nil, err
	}
	ready.Event, ready.Fresh, ready.Seconds = "ready", fresh, time.Since(begin).Seconds()
	return ready, nil
}

// found makes a network out of nothing.
func (n *Network) found(ctx context.Context) error {
	// Before the nodes start: see startPatience.
	err := n.chain.grow(ctx, firstBlocks, func(have int64) {
		n.progress("chain", 0.05+0.35*float64(have)/firstBlocks, fmt.Sprintf("mined %d of %d blocks", have, firstBlocks))
	})
	if err != nil {
		return err
	}
	if err := n.startNodes(ctx); err != nil {
		return err
	}
	n.progress("nodes", 0.45, "waiting until all nodes know the chain")
	if err := n.synced(ctx, firstBlocks); err != nil {
		return err
	}
	n.progress("funds", 0.55, "giving each node coins")
	if err := n.fund(ctx, n.all()...); err != nil {
		return err
	}
	n.progress("channels", 0.65, fmt.Sprintf("opening %d channels and waiting until all nodes know them", len(n.folder.state.Spec.Channels)))
	_, err = n.open(ctx, n.folder.state.Spec.Channels...)
	return err
}

// wake goes on with the network of the last run.
func (n *Network) wake(ctx context.Context) error {
	if err := n.chain.freshen(ctx); err != nil {
		return err
	}
	n.progress("nodes", 0.3, "starting the nodes")
	if err := n.startNodes(ctx); err != nil {
		return err
	}
	if err := n.synced(ctx, n.chain.log.height()); err != nil {
		return err
	}
	n.progress("channels", 0.8, "waiting until all channels are active")
	return n.rejoin(ctx, n.all()...)
}

// guard starts btcd again when it dies, until ctx ends. While the network is
// not ready, that is not worth the trouble.
func (n *Network) guard(ctx context.Context) {
	for range maxRevivals {
		proc := n.chain.process()
		select {
		case <-proc.exited:
		case <-ctx.Done():
			return
		}
		death := proc.obituary()
		select {
		case <-n.ready:
		default:
			n.over <- death
			return
		}
		if err := n.revive(ctx, death); err != nil {
			n.over <- err
			return
		}
	}
	n.over <- fmt.Errorf("btcd died %d times", maxRevivals)
}

// revive starts btcd again and brings the nodes back to it. Their lnd connects
// again by itself, but learns of a block that came meanwhile only with the next.
func (n *Network) revive(ctx context.Context, death error) error {
	const patience = 2 * time.Second
	n.mining.Lock() // before the death is told, so that who hears of it and mines waits
	defer n.mining.Unlock()
	n.report(died{"died", chainName, "the chain is brought back: " + death.Error()})
	if err := n.chain.start(ctx, n.opts.Btcd); err != nil {
		return err
	}
	for {
		height, err := n.chain.mine(ctx, 1)
		if err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, patience)
		err = n.synced(short, height)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// startNodes starts the nodes of the folder side by side.
func (n *Network) startNodes(ctx context.Context) error {
	for _, spec := range n.folder.state.Spec.Nodes {
		n.add(spec)
	}
	work, ctx := errgroup.WithContext(ctx)
	for _, node := range n.all() {
		work.Go(func() error {
			if err := node.start(ctx, n.died); err != nil {
				return err
			}
			n.progress("nodes", 0.42, "node "+node.Name+" is up")
			return nil
		})
	}
	return work.Wait()
}

func (n *Network) add(spec NodeSpec) *node {
	n.mu.Lock()
	defer n.mu.Unlock()
	node := &node{
		NodeSpec: spec, dir: n.folder.nodeDir(spec.Name), ports: n.folder.state.Nodes[spec.Name],
		chain: n.chain, self: n.opts.Self,
	}
	n.nodes = append(n.nodes, node)
	return node
}

// join adds a node to a network that runs, and gives it its coins. Only then
// does it belong to the folder.
func (n *Network) join(ctx context.Context, spec NodeSpec) (NodeInfo, error) {
	n.joining.Lock()
	defer n.joining.Unlock()
	if err := n.folder.admit(spec); err != nil {
		return NodeInfo{}, err
	}
	node := n.add(spec)
	err := node.start(ctx, n.died)
	if err == nil {
		err = n.fund(ctx, node)
	}
	if err != nil {
		n.expel(node)
		return NodeInfo{}, err
	}
	return node.info(), n.folder.keep(spec)
}

func (n *Network) expel(gone *node) {
	gone.kill()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes = slices.DeleteFunc(n.nodes, func(node *node) bool { return node == gone })
}

func (n *Network) died(p *process) {
	n.report(died{"died", p.owner, p.obituary().Error()})
}

// progress tells how far the start is. What works side by side does not make it
// go back.
func (n *Network) progress(step string, done float64, text string) {
	n.mu.Lock()
	n.done = max(n.done, done)
	done = n.done
	n.mu.Unlock()
	n.report(Progress{"progress", step, text, done})
}

// all returns the nodes, running or not.
func (n *Network) all() []*node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.nodes)
}

func (n *Network) node(name string) (*node, error) {
	for _, node := range n.all() {
		if node.Name == name {
			return node, nil
		}
	}
	return nil, fmt.Errorf("node %q: not of this network", name)
}

// running returns those of nodes that run.
func running(nodes []*node) []*node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { _, err := n.running(); return err != nil })
}

// synced waits until all running nodes have seen block height.
func (n *Network) synced(ctx context.Context, height int64) error {
	work, ctx := errgroup.WithContext(ctx)
	for _, node := range running(n.all()) {
		work.Go(func() error { return node.synced(ctx, height) })
	}
	return work.Wait()
}

// mine adds blocks and waits until the running nodes have seen them.
func (n *Network) mine(ctx context.Context, blocks int) (int64, error) {
	n.mining.Lock()
	height, err := n.chain.mine(ctx, blocks)
	n.mining.Unlock()
	if err != nil {
		return 0, err
	}
	return height, n.synced(ctx, height)
}

// fund gives nodes what their specs say, in a block.
func (n *Network) fund(ctx context.Context, nodes ...*node) error {
	const coins = 4 // so that several channels can be funded before the next block
	var outs []*wire.TxOut
	for _, node := range nodes {
		if node.Fund == 0 {
			continue
		}
		rpc, err := node.running()
		if err != nil {
			return err
		}
		address, err := rpc.NewAddress(ctx, &lnrpc.NewAddressRequest{Type: lnrpc.AddressType_WITNESS_PUBKEY_HASH})
		if err != nil {
			return fmt.Errorf("address of %s: %w", node.Name, err)
		}
		script, err := scriptOf(address.Address)
		if err != nil {
			return err
		}
		for range coins {
			outs = append(outs, wire.NewTxOut(node.Fund/coins, script))
		}
	}
	if len(outs) == 0 {
		return nil
	}
	if err := n.chain.pay(ctx, outs...); err != nil {
		return err
	}
	if _, err := n.mine(ctx, 1); err != nil {
		return err
	}
	return until(ctx, func() error {
		for _, node := range nodes {
			b, err := node.balance(ctx)
			if err != nil {
				return err
			}
			if b.Wallet < node.Fund/coins*coins {
				return fmt.Errorf("lnd %s: %d of %d sat confirmed", node.Name, b.Wallet, node.Fund)
			}
		}
		return nil
	})
}

// send pays coins of the miner to an address, in a block.
func (n *Network) send(ctx context.Context, address string, amount int64) error {
	script, err := scriptOf(address)
	if err != nil {
		return err
	}
	if err := n.chain.pay(ctx, wire.NewTxOut(amount, script)); err != nil {
		return err
	}
	_, err = n.mine(ctx, 1)
	return err
}

// status describes the network as it is.
func (n *Network) status(ctx context.Context) (*Ready, error) {
	height, err := n.chain.height(ctx)
	if err != nil {
		return nil, err
	}
	channels, err := n.channels(ctx)
	if err != nil {
		return nil, err
	}
	s := &Ready{
		Chain:    ChainInfo{P2P: n.chain.ports.P2P, RPC: n.chain.ports.RPC, Height: height, PID: n.chain.process().cmd.Process.Pid},
		Channels: channels,
	}
	for _, node := range n.all() {
		s.Nodes = append(s.Nodes, node.info())
	}
	return s, nil
}

// down ends all children: the nodes side by side, then the chain.
func (n *Network) down() {
	var wg sync.WaitGroup
	for _, node := range n.all() {
		wg.Go(func() { node.stop(lndGrace) })
	}
	wg.Wait()
	n.chain.stop(btcdGrace)
}

// checkBinaries says what to do when something is not built.
func (o Options) checkBinaries() error {
	for _, file := range []string{o.Btcd, o.Self} {
		if st, err := os.Stat(file); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
			return fmt.Errorf("%s is missing or no program: build it with `make node`", file)
		}
	}
	if o.Dir == "" {
		return errors.New("no data folder given")
	}
	return nil
}
