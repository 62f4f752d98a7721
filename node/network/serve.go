package network

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"
)

// Serve brings a network up and runs it until ctx or in ends, or the chain
// dies. It answers the commands on in and writes events to out. On return no
// child is left.
func Serve(ctx context.Context, opts Options, in io.Reader, out io.Writer) error {
	lines := &lines{enc: json.NewEncoder(out)}
	err := serve(ctx, opts, in, lines.write)
	if err != nil {
		lines.write(failed{"failed", err.Error()})
	}
	return err
}

func serve(ctx context.Context, opts Options, in io.Reader, report func(any)) (err error) {
	if err := opts.checkBinaries(); err != nil {
		return err
	}
	n := &Network{opts: opts, report: report, ready: make(chan struct{}), over: make(chan error, 1)}
	if n.folder, err = openFolder(opts.Dir, opts.Spec); err != nil {
		return err
	}
	defer n.folder.close()
	if n.chain, err = newChain(n.folder.path(chainName), n.folder.state.Chain); err != nil {
		return err
	}
	defer n.down()
	defer n.busy.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errStopped)
	commands := make(chan Command, 64)
	go func() { // ends with in, which may be after us
		n.listen(ctx, in, commands)
		cancel(errStopped)
	}()
	n.busy.Go(func() {
		select {
		case err := <-n.over:
			cancel(fmt.Errorf("the network ends without its chain: %w", err))
		case <-ctx.Done():
		}
	})
	status, err := n.up(ctx)
	if err != nil {
		return whyEnded(ctx, err)
	}
	report(status)
	close(n.ready)
	n.run(ctx, commands)
	return whyEnded(ctx, nil)
}

// errStopped is how a network ends that was told to.
var errStopped = errors.New("stopped")

// whyEnded prefers the reason for which ctx ended to what followed from it.
func whyEnded(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(cause, errStopped) || errors.Is(cause, context.Canceled):
		return nil
	}
	return cause
}

// run carries out commands, each on its own, and mines a block now and then,
// until ctx ends.
func (n *Network) run(ctx context.Context, commands <-chan Command) {
	var due <-chan time.Time
	if n.opts.BlockEvery > 0 {
		t := time.NewTicker(n.opts.BlockEvery)
		defer t.Stop()
		due = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-commands:
			n.busy.Go(func() { n.report(n.answer(ctx, c)) })
		case <-due:
			n.busy.Go(func() { _, _ = n.mine(ctx, 1) }) // guard tells when the chain is gone
		}
	}
}

// listen reads commands until in or ctx ends.
func (n *Network) listen(ctx context.Context, in io.Reader, commands chan<- Command) {
	scanner := bufio.NewScanner(in)
	for scanner.Scan() {
		var c Command
		if err := json.Unmarshal(scanner.Bytes(), &c); err != nil {
			n.report(answer{Event: "answer", Error: fmt.Sprintf("not a command: %v", err)})
			continue
		}
		select {
		case commands <- c:
		case <-ctx.Done():
			return
		}
	}
}

func (n *Network) answer(ctx context.Context, c Command) answer {
	result, err := n.do(ctx, c)
	if err != nil {
		return answer{Event: "answer", ID: c.ID, Error: err.Error()}
	}
	return answer{Event: "answer", ID: c.ID, Result: result}
}

const commandTimeout = time.Minute

// do carries out one command.
func (n *Network) do(ctx context.Context, c Command) (any, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, fmt.Errorf("not done after %v", commandTimeout))
	defer cancel()
	switch c.Command {
	case "status": // the whole, as in "ready"
		return n.status(ctx)
	case "mine": // blocks; result: the height that all running nodes have seen
		if c.Blocks < 1 || c.Blocks > 10_000 {
			return nil, fmt.Errorf("mine %d blocks: 1 to 10000", c.Blocks)
		}
		height, err := n.mine(ctx, c.Blocks)
		return map[string]int64{"height": height}, err
	case "send": // address, amount_sat: coins of the miner, confirmed
		return nil, n.send(ctx, c.Address, c.Amount)
	case "open": // channel_spec; result: the channel, active and known to all
		return n.openOne(ctx, c.ChannelSpec)
	case "add": // node_spec; result: the node, with its coins confirmed
		if c.NodeSpec == nil {
			return nil, errors.New("no node_spec")
		}
		return n.join(ctx, *c.NodeSpec)
	}
	node, err := n.node(c.Node)
	if err != nil {
		return nil, err
	}
	switch c.Command {
	case "kill": // node: SIGKILL
		node.kill()
		return nil, nil
	case "stop": // node: asks it to end
		node.stop(lndGrace)
		return nil, nil
	case "restart": // node: stops it if it runs, starts it, waits for its channels
		node.stop(lndGrace)
		return n.startAgain(ctx, node)
	case "balance": // node
		return node.balance(ctx)
	}
	return nil, fmt.Errorf("command %q: not known", c.Command)
}

func (n *Network) openOne(ctx context.Context, spec *ChannelSpec) (any, error) {
	if spec == nil {
		return nil, errors.New("no channel_spec")
	}
	channels, err := n.open(ctx, *spec)
	if err != nil {
		return nil, err
	}
	return channels[0], nil
}

func (n *Network) startAgain(ctx context.Context, node *node) (any, error) {
	if err := node.start(ctx, n.died); err != nil {
		return nil, err
	}
	if err := n.rejoin(ctx, node); err != nil {
		return nil, err
	}
	return node.info(), nil
}

// lines writes JSON objects, one a line. Many may write at once.
type lines struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (l *lines) write(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.enc.Encode(v) // nobody listens any more: the end of stdin will tell
}

// Binaries returns Options with the binaries that lie beside executable.
func Binaries(executable string) Options {
	return Options{Self: executable, Btcd: filepath.Join(filepath.Dir(executable), "htlcdash-btcd")}
}
