// Package town is a market of many real programs on one machine: providers, relays
// and viewers, each a process of its own with its own folder, books and Lightning
// node, that can be killed and started again in the middle of anything. The nodes
// are simulated, in this process (lightning/simlnd), so killing a program leaves its
// node alone, as a crash on one's own machine does.
//
//	viewer  --.                    .--  shop
//	viewer  ----  roundabout  --------  shop
//	relay   --'                    '--
//
// Every node has one channel, to the roundabout, which forwards for nothing: so what
// one node lacks, another has, to the msat. [Town.Audit] reads all books and holds
// them against the nodes.
//
// It is for tests and measurements, never for money.
package town

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"htlcdash/lightning"
	"htlcdash/lightning/sim"
	"htlcdash/lightning/simlnd"
)

// Config says what town to build.
type Config struct {
	Program string        // htlcdash itself
	Folder  string        // of all residents; it stays
	Latency time.Duration // of a payment, one way over one hop
}

// A Town is a market. Its methods may be called at once.
type Town struct {
	c          Config
	network    *sim.Network
	roundabout *sim.Node
	net        [2]byte // the town's part of 127.0.0.0/8

	mu        sync.Mutex
	residents []*Resident // all that moved in, in this order
}

// New returns a town without residents. The caller closes it.
func New(c Config) (*Town, error) {
	if err := os.MkdirAll(c.Folder, 0o755); err != nil {
		return nil, err
	}
	t := &Town{
		c: c, network: sim.New(sim.Config{Latency: c.Latency}),
		// Ports of addresses that no client connects from stay free while a shop is
		// down. Two towns on one machine keep out of each other's way, most likely.
		net: [2]byte{byte(64 + rand.IntN(128)), byte(rand.IntN(256))},
	}
	t.roundabout = t.network.Node("roundabout")
	return t, nil
}

// Close ends all programs and nodes.
func (t *Town) Close() error {
	var errs []error
	var work sync.WaitGroup
	for _, r := range t.all() {
		work.Go(r.Stop)
	}
	work.Wait()
	for _, r := range t.all() {
		errs = append(errs, r.door.Close())
		r.face.Close()
	}
	return errors.Join(errs...)
}

// Network is the simulated network, to order faults and to look into.
func (t *Town) Network() *sim.Network { return t.network }

func (t *Town) all() []*Resident {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*Resident(nil), t.residents...)
}

// A Resident is somebody with a node, a folder, and a program that runs now and
// then.
type Resident struct {
	Name   string
	Folder string    // its home; books are in it
	Node   *sim.Node // its node, which no kill touches
	IP     net.IP    // where it may listen

	town  *Town
	face  *simlnd.Face
	door  *http.Server
	api   string         // the node's, for programs
	start lightning.Msat // what its channel held at first
	books string         // file; empty: it has none
	sells bool

	mu      sync.Mutex
	program *Process // runs, or ran last
	worked  time.Duration
}

// purse is what each side of a channel holds at first.
const purse = 10_000_000 * lightning.Sat

// Move lets somebody in, with a channel that holds as much on each side.
func (t *Town) Move(name string) (*Resident, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.residents) + 1
	r := &Resident{
		Name: name, Folder: filepath.Join(t.c.Folder, name), Node: t.network.Node(name),
		IP: net.IPv4(127, t.net[0], t.net[1]+byte(n/250), byte(1+n%250)), town: t, start: purse,
	}
	if err := os.MkdirAll(r.Folder, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(r.IP.String(), "8080"))
	if err != nil {
		return nil, fmt.Errorf("node of %s: %w", name, err)
	}
	t.network.Connect(r.Node, t.roundabout, purse, purse)
	r.api = "http://" + l.Addr().String()
	r.face = simlnd.New(r.Node)
	r.door = &http.Server{Handler: r.face}
	go func() { _ = r.door.Serve(l) }() // ends when it is closed
	t.residents = append(t.residents, r)
	return r, nil
}

// Launch starts the program, which must not run, with these arguments; its books and
// all else are in the resident's folder. It does not wait until it is ready.
func (r *Resident) Launch(args ...string) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.program != nil && r.program.running() {
		return nil, fmt.Errorf("%s runs already", r.Name)
	}
	p, err := launch(r.Name, filepath.Join(r.Folder, "log"), r.town.c.Program, []string{"HOME=" + r.Folder}, args...)
	if err != nil {
		return nil, err
	}
	if r.program != nil {
		r.worked += r.program.work()
	}
	r.program = p
	return p, nil
}

// Work is the processor time of all programs that the resident has run and that
// have ended.
func (r *Resident) Work() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.program == nil || r.program.running() {
		return r.worked
	}
	return r.worked + r.program.work()
}

// Kill ends the program as a power cut does. It reports whether it ran.
func (r *Resident) Kill() bool { return r.end((*Process).Kill) }

// Stop asks the program to end, and makes it.
func (r *Resident) Stop() { r.end((*Process).Stop) }

func (r *Resident) end(how func(*Process)) bool {
	r.mu.Lock()
	p := r.program
	r.mu.Unlock()
	if p == nil || !p.running() {
		return false
	}
	how(p)
	return true
}

// Money is what the resident's node has gained, or lost if it is negative, since it
// moved in. What is in flight is nobody's.
func (r *Resident) Money(ctx context.Context) (lightning.Msat, error) {
	b, err := r.Node.Balance(ctx)
	return b.Outbound - r.start, err
}
