// Package devnet starts a private Bitcoin and Lightning network for the demo
// and the integration tests: real btcd and lnd, run by the program
// htlcdash-node (nested module node), which this package finds, starts and
// talks to over its stdin and stdout. Its coins are worth nothing.
//
//	we:  {"id":1,"command":"mine","blocks":6}
//	it:  {"event":"progress",...} {"event":"ready",...} {"event":"answer","id":1,...} {"event":"died",...} {"event":"failed",...}
//
// The lines are described in node/network/wire.go. The end of its stdin ends
// the network, so no daemon outlives this process, however that ends.
package devnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"htlcdash/lightning"
)

// Errors that callers decide on.
var (
	// ErrMissing means that htlcdash-node or htlcdash-btcd is not built.
	ErrMissing = errors.New("run `make node` to build it")
	// ErrClosed means that the network has ended.
	ErrClosed = errors.New("the private network has ended")
)

// Config says what to start.
type Config struct {
	Dir      string        // data folder; a later run goes on with what is in it
	Binary   string        // htlcdash-node; empty: Find
	Nodes    []NodeSpec    // none: what the folder holds, else viewer, router and provider
	Channels []ChannelSpec // opened when the folder is new; needs Nodes

	Progress func(Progress) // told while Start works; may be nil
	// Died is told when a daemon ends that nobody ended; may be nil. It runs
	// on the goroutine that reads answers, so it must not call the network.
	Died func(Death)
}

// A NodeSpec is one lnd.
type NodeSpec struct {
	Name    string         // a-z, 0-9 and -
	SQLite  bool           // halves the time of a single payment; bolt carries more a second
	Fund    lightning.Msat // on the chain, in whole satoshi; 0: nothing
	BaseFee lightning.Msat // for forwarding a payment
	FeeRate int64          // for forwarding, millionths of the amount
	Flags   []string       // further flags of lnd
}

// A ChannelSpec is a channel that From funds. Amounts are whole satoshi.
type ChannelSpec struct {
	From, To string
	Capacity lightning.Msat
	Push     lightning.Msat // given to To at the start
	Private  bool           // not announced
}

// Progress tells how far the start is.
type Progress struct {
	Step string  // "chain", "nodes", "funds", "channels"
	Text string  // for people
	Done float64 // of the whole start, 0 to 1
}

// A Death is the end of a daemon that nobody ended. The network goes on
// without a node, which Restart brings back. The chain ("chain") comes back by
// itself within seconds; that mines a block or more.
type Death struct {
	Name string
	Text string // how it ended, where its log is, and the log's last lines
}

// A Node is how to reach one lnd. Its addresses and files stay the same when it
// is restarted.
type Node struct {
	Name         string
	ID           string // public key, hexadecimal
	REST         string // https://host:port
	GRPC         string // host:port
	P2P          string // host:port
	CertFile     string
	MacaroonFile string // the admin's
	LogFile      string
	PID          int // 0: not running when asked
}

// A Channel is as its funder sees it.
type Channel struct {
	Point    string // txid:index
	ID       uint64 // short channel id
	From, To string // names, or public keys of nodes from outside
	Capacity lightning.Msat
	Local    lightning.Msat // of From
	Remote   lightning.Msat // of To
	Private  bool
	Active   bool // all its ends that run say so
}

// Balance is what a node owns.
type Balance struct {
	Wallet      lightning.Msat // confirmed, on the chain
	Unconfirmed lightning.Msat // on the chain
	Local       lightning.Msat // in its open channels
	Remote      lightning.Msat // of the others in them
}

// Status is the network at a moment.
type Status struct {
	Fresh    bool   // it was made anew in this run
	ChainP2P string // host:port of btcd, for light clients
	ChainPID int
	Height   int64
	Nodes    []Node
	Channels []Channel
}

// A Network runs. Its methods may be called by many at once.
type Network struct {
	start Status
	stdin io.WriteCloser
	cmd   *exec.Cmd
	log   string
	died  func(Death)

	done chan struct{} // closed after the end
	err  error         // why it ended; read after done

	mu     sync.Mutex // guards what follows, and writing to stdin
	nextID uint64
	waits  map[uint64]chan<- answer
}

// Find returns the path of htlcdash-node: what HTLCDASH_NODE names, or beside
// this executable, or in .build/bin of this folder or one above it. The error
// matches [ErrMissing].
func Find() (string, error) {
	if file := os.Getenv("HTLCDASH_NODE"); file != "" {
		return file, nil
	}
	var places []string
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Dir(self))
	}
	if dir, err := os.Getwd(); err == nil {
		for ; ; dir = filepath.Dir(dir) {
			places = append(places, filepath.Join(dir, ".build", "bin"))
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	for _, dir := range places {
		if file := filepath.Join(dir, "htlcdash-node"); isFile(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("htlcdash-node: %w", ErrMissing)
}

func isFile(file string) bool {
	st, err := os.Stat(file)
	return err == nil && st.Mode().IsRegular()
}

// Start brings a network up and returns when all its nodes are synced and all
// its channels active: seconds. The end of ctx stops a start, but not a network
// that has started: that is [Network.Close].
func Start(ctx context.Context, c Config) (*Network, error) {
	n, ready, err := launch(c)
	if err != nil {
		return nil, err
	}
	select {
	case n.start = <-ready:
		return n, nil
	case <-n.done:
		return nil, n.err
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), n.Close())
	}
}

func launch(c Config) (*Network, <-chan Status, error) {
	if c.Binary == "" {
		var err error
		if c.Binary, err = Find(); err != nil {
			return nil, nil, err
		}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("private network: %w", err)
	}
	spec, err := json.Marshal(specOf(c))
	if err != nil {
		return nil, nil, fmt.Errorf("private network: %w", err)
	}
	n := &Network{
		log: filepath.Join(c.Dir, "network.log"), died: c.Died,
		done: make(chan struct{}), waits: map[uint64]chan<- answer{},
	}
	log, err := os.Create(n.log)
	if err != nil {
		return nil, nil, fmt.Errorf("private network: %w", err)
	}
	defer log.Close()
	n.cmd = exec.Command(c.Binary, "network", "--dir", c.Dir, "--spec", string(spec))
	n.cmd.Stderr = log
	apart(n.cmd)
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		return nil, nil, fmt.Errorf("private network: %w", err)
	}
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("private network: %w", err)
	}
	if err := n.cmd.Start(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = ErrMissing
		}
		return nil, nil, fmt.Errorf("%s: %w", c.Binary, err)
	}
	ready := make(chan Status, 1)
	go n.read(stdout, c.Progress, ready)
	return n, ready, nil
}

// read handles what the network says until it ends.
func (n *Network) read(stdout io.Reader, progress func(Progress), ready chan<- Status) {
	var last string // its own last words
	lines := json.NewDecoder(stdout)
	for {
		var e event
		if err := lines.Decode(&e); err != nil {
			break
		}
		switch e.Event {
		case "progress":
			if progress != nil {
				progress(Progress{e.Step, e.Text, e.Done})
			}
		case "ready":
			ready <- e.status()
		case "died":
			if n.died != nil {
				n.died(Death{e.Name, e.Text})
			}
		case "answer":
			n.answered(e.answer())
		case "failed":
			last = e.Text
		}
	}
	_, _ = io.Copy(io.Discard, stdout) // after a line that is none
	n.ended(n.cmd.Wait(), last)
}

// ended closes the books: whoever waits for an answer gets none.
func (n *Network) ended(exit error, last string) {
	switch {
	case last != "":
		n.err = fmt.Errorf("%w: %s", ErrClosed, last)
	case exit != nil:
		n.err = fmt.Errorf("%w: htlcdash-node: %w; log %s: %s", ErrClosed, exit, n.log, tail(n.log))
	default:
		n.err = ErrClosed
	}
	close(n.done)
}

func tail(file string) string {
	b, _ := os.ReadFile(file)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Done is closed when the network has ended, by Close or by itself.
func (n *Network) Done() <-chan struct{} { return n.done }

// Err says why the network ended, once Done is closed. It matches [ErrClosed].
func (n *Network) Err() error {
	<-n.done
	return n.err
}

// closeGrace is how long the network may take to stop its daemons.
const closeGrace = 10 * time.Second

// Close stops all daemons and returns when they are gone. Their data stays. The
// error says that they did not end in order.
func (n *Network) Close() error {
	n.mu.Lock()
	n.stdin.Close() // asks it to end
	n.mu.Unlock()
	select {
	case <-n.done:
		return nil
	case <-time.After(closeGrace):
		_ = n.cmd.Process.Kill() // its children die with it
		<-n.done
		return fmt.Errorf("private network: killed, since it did not end in %v; log: %s", closeGrace, n.log)
	}
}

// Nodes returns the nodes of the start.
func (n *Network) Nodes() []Node { return slices.Clone(n.start.Nodes) }

// Node returns a node of the start by its name, which it panics without.
func (n *Network) Node(name string) Node {
	i := slices.IndexFunc(n.start.Nodes, func(node Node) bool { return node.Name == name })
	if i < 0 {
		panic("devnet: no node " + name)
	}
	return n.start.Nodes[i]
}

// Initial is the network as it was when Start returned.
func (n *Network) Initial() Status { return n.start }

// Status asks how the network is.
func (n *Network) Status(ctx context.Context) (Status, error) {
	var e event
	err := n.do(ctx, command{Command: "status"}, &e)
	return e.status(), err
}

// Mine adds blocks and returns the height, once all running nodes know it.
func (n *Network) Mine(ctx context.Context, blocks int) (height int64, err error) {
	var result struct{ Height int64 }
	err = n.do(ctx, command{Command: "mine", Blocks: blocks}, &result)
	return result.Height, err
}

// Send pays coins of the miner to an address of the chain, and mines a block.
func (n *Network) Send(ctx context.Context, address string, amount lightning.Msat) error {
	return n.do(ctx, command{Command: "send", Address: address, Amount: sat(amount)}, nil)
}

// Open opens a channel and returns once it is active and, unless private, known
// to all running nodes. That takes six blocks.
func (n *Network) Open(ctx context.Context, spec ChannelSpec) (Channel, error) {
	var result wireChannel
	wire := spec.wire()
	err := n.do(ctx, command{Command: "open", ChannelSpec: &wire}, &result)
	return result.channel(), err
}

// Add starts a further node and gives it its coins. It belongs to the folder
// from then on.
func (n *Network) Add(ctx context.Context, spec NodeSpec) (Node, error) {
	var result wireNode
	wire := spec.wire()
	err := n.do(ctx, command{Command: "add", NodeSpec: &wire}, &result)
	return result.node(), err
}

// Balance asks what a node owns.
func (n *Network) Balance(ctx context.Context, node string) (Balance, error) {
	var result wireBalance
	err := n.do(ctx, command{Command: "balance", Node: node}, &result)
	return result.balance(), err
}

// Kill ends a node by SIGKILL and returns when it is gone.
func (n *Network) Kill(ctx context.Context, node string) error {
	return n.do(ctx, command{Command: "kill", Node: node}, nil)
}

// Restart stops a node if it runs, starts it, and returns when its channels
// with running nodes are active again.
func (n *Network) Restart(ctx context.Context, node string) error {
	return n.do(ctx, command{Command: "restart", Node: node}, nil)
}

// do sends a command and waits for its answer, which it decodes into result
// unless that is nil. When ctx ends first, the command goes on.
func (n *Network) do(ctx context.Context, c command, result any) error {
	wait := make(chan answer, 1)
	if err := n.send(c, wait); err != nil {
		return err
	}
	select {
	case a := <-wait:
		return a.into(c, result)
	case <-n.done:
		return n.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Network) send(c command, wait chan<- answer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nextID++
	c.ID = n.nextID
	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("private network: %w", err)
	}
	if _, err := n.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%w (%w)", ErrClosed, err)
	}
	n.waits[c.ID] = wait
	return nil
}

func (n *Network) answered(a answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if wait, ok := n.waits[a.id]; ok {
		delete(n.waits, a.id)
		wait <- a
	}
}
