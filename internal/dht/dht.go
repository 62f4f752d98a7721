// Package dht finds first contacts: who sells a title, when a viewer knows nothing
// but the title's identity and any node of a distributed hash table (BEP 5).
//
// Providers announce the port at which they sell under [Target]; viewers ask for
// it and get addresses. An address is a hint of a stranger and nothing more: what
// it sells, and by which key, is asked of it, and signed. Here is no default
// table: without nodes to begin with there is none.
//
// What it does not protect against: who runs many nodes near a target can hide
// what is announced there, and sees who looks for it. It is the last resort, after
// the addresses in the MPD and the directory.
package dht

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	alog "github.com/anacrolix/log"
	"golang.org/x/time/rate"

	"htlcdash"
)

const (
	domain = "htlcdash/dht-title/v1"

	// MaxFound bounds the addresses that one search gives, of which each teller
	// names at most perTeller: one that lies cannot drown the others.
	MaxFound  = 64
	perTeller = 8
	// Often is how often what is sold is announced: nodes forget it after
	// peerLife, and tell nobody of a node that was silent for a quarter of an hour.
	Often = 10 * time.Minute

	resend      = 500 * time.Millisecond // a lost packet; many nodes of a table are gone
	sendRate    = 1000                   // packets a second, at most: what a flood makes a node answer
	announceAll = 8                      // announcements under way at once
	pingsAtOnce = 16                     // to who asked first
	pingAgain   = 10 * time.Minute       // to one address
	maxMet      = 4096                   // addresses remembered for that
	enough      = 8                      // nodes to begin a search with: K of BEP 5
	firstRetry  = time.Second            // when no node answers yet
	awaitOthers = 15 * time.Second       // between looks for who came to the first node
)

// ErrAlone means that no node of the table answers.
var ErrAlone = errors.New("dht: no node answers: give others to begin with")

// Target is the key under which a title is announced: the first 20 bytes of
// SHA-256("htlcdash/dht-title/v1" || id).
func Target(id htlcdash.TitleID) (target [20]byte) {
	sum := sha256.Sum256(append([]byte(domain), id[:]...))
	return [20]byte(sum[:])
}

// A Config says how a node takes part.
type Config struct {
	Listen    string   // UDP address
	Bootstrap []string // "host:port" of nodes to begin with, such as those of providers
	// Passive nodes ask and answer nothing: viewers, who come and go.
	Passive bool
	// Self is the address at which others reach this host, if that is known: who asks
	// this very node is told of what it announces, too.
	Self netip.Addr
	Log  *slog.Logger // nil: none
}

// A Node takes part in the table. Its methods may be called at once.
type Node struct {
	server *dht.Server
	peers  *peers
	self   netip.Addr
	ready  chan struct{} // closed when server is set: it answers before that
	log    *slog.Logger

	pings chan struct{} // a place for each that is under way

	mu    sync.Mutex
	begin []string
	met   map[string]time.Time // who was pinged lately
}

// quiet keeps the library from writing what strangers sent to standard error.
var quiet = sync.OnceFunc(func() { alog.Default.SetHandlers(alog.DiscardHandler) })

// New opens a node. It asks nobody before it is used.
func New(c Config) (*Node, error) { return open(c, sendRate) }

func open(c Config, packets rate.Limit) (*Node, error) {
	quiet()
	for _, b := range c.Bootstrap {
		if err := checkAddress(b); err != nil {
			return nil, err
		}
	}
	conn, err := net.ListenPacket("udp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("dht: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{peers: newPeers(time.Now), self: c.Self, ready: make(chan struct{}), log: c.Log, begin: slices.Clone(c.Bootstrap), pings: make(chan struct{}, pingsAtOnce), met: map[string]time.Time{}}
	n.server, err = dht.NewServer(&dht.ServerConfig{
		Conn:             conn,
		NoSecurity:       true, // BEP 42 wants the public address, which a node does not know
		Passive:          c.Passive,
		StartingNodes:    n.starting,
		DefaultWant:      []krpc.Want{krpc.WantNodes},
		QueryResendDelay: func() time.Duration { return resend },
		PeerStore:        n.peers,
		OnQuery:          n.asked,
		Store:            nothing{},
		Logger:           alog.Default,
		SendLimiter:      rate.NewLimiter(packets, sendRate),
	})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("dht: %w", err)
	}
	close(n.ready)
	return n, nil
}

// asked reports whether a query is answered at all. Those of BEP 44 are not, and
// the library dereferences arguments that a stranger left out.
func (n *Node) asked(q *krpc.Msg, from net.Addr) bool {
	if q.A == nil || !slices.Contains([]string{"ping", "find_node", "get_peers", "announce_peer"}, q.Q) {
		return false
	}
	if !q.ReadOnly {
		n.meet(from)
	}
	return true
}

// meet pings who asked: the library tells others only of nodes that have answered.
// Who sends a false address causes one ping to it.
func (n *Node) meet(from net.Addr) {
	at, ok := from.(*net.UDPAddr)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if last, ok := n.met[at.String()]; ok && now.Sub(last) < pingAgain {
		return
	}
	select {
	case n.pings <- struct{}{}:
	default:
		return // it will ask again
	}
	if len(n.met) >= maxMet {
		clear(n.met)
	}
	n.met[at.String()] = now
	go func() {
		defer func() { <-n.pings }()
		<-n.ready
		n.server.Ping(at)
	}()
}

func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("dht node %q: want host:port", s)
	}
	return nil
}

// Addr is where the node listens.
func (n *Node) Addr() net.Addr { return n.server.Addr() }

// Close ends the node.
func (n *Node) Close() { n.server.Close() }

// Know adds a node to begin with, "host:port".
func (n *Node) Know(node string) error {
	if err := checkAddress(node); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.begin, node) && len(n.begin) < MaxFound {
		n.begin = append(n.begin, node)
	}
	return nil
}

func (n *Node) starting() ([]dht.Addr, error) {
	n.mu.Lock()
	begin := slices.Clone(n.begin)
	n.mu.Unlock()
	var out []dht.Addr
	for _, s := range begin {
		if a, err := net.ResolveUDPAddr("udp", s); err == nil { // else a name that is not known today
			out = append(out, dht.NewAddr(a))
		}
	}
	return out, nil
}

// Join asks its way to the nodes near this one, so that they know it. The error
// matches [ErrAlone] if nobody answers.
func (n *Node) Join(ctx context.Context) error {
	stats, err := n.server.BootstrapContext(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%w: %w", ErrAlone, err)
	case stats.NumResponses == 0:
		return ErrAlone
	}
	return nil
}

// Find calls found for each address that somebody has announced for a title, until
// it returns false, [MaxFound] were found, the near nodes were all asked, or ctx is done.
// Of what one machine tells a few count, drawn by lot.
// A stranger cannot point a viewer to its own machine or network: an address that is
// not public counts only if a node told it that is no more public. The error matches
// [ErrAlone] if no node answered.
func (n *Node) Find(ctx context.Context, id htlcdash.TitleID, found func(netip.AddrPort) bool) error {
	// A node that has a few of the addresses names no other nodes (BEP 5), so several
	// must be known first.
	if n.server.NumNodes() < enough {
		if err := n.Join(ctx); err != nil {
			return err
		}
	}
	a, err := n.server.AnnounceTraversal(Target(id))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAlone, err)
	}
	defer a.Close()
	seen, answers, took := map[netip.AddrPort]bool{}, 0, map[netip.AddrPort]int{}
	for {
		select {
		case told, ok := <-a.Peers:
			if !ok {
				return aloneIf(answers == 0)
			}
			answers++
			teller, _ := netip.AddrFromSlice(told.Addr.IP)
			machine := machineOf(teller.Unmap(), told.Addr.Port)
			rand.Shuffle(len(told.Peers), func(i, j int) { told.Peers[i], told.Peers[j] = told.Peers[j], told.Peers[i] })
			for _, p := range told.Peers {
				at, ok := usable(p, teller.Unmap())
				if !ok || seen[at] || took[machine] == perTeller {
					continue
				}
				seen[at] = true
				took[machine]++
				if !found(at) || len(seen) == MaxFound {
					return nil
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// machineOf tells one teller from another. Many nodes may run at one address; only
// on this machine are they taken for many.
func machineOf(teller netip.Addr, port int) netip.AddrPort {
	if !teller.IsLoopback() {
		port = 0
	}
	return netip.AddrPortFrom(teller, uint16(port))
}

func aloneIf(alone bool) error {
	if alone {
		return ErrAlone
	}
	return nil
}

// usable is the address of a peer, unless it could only be meant to lead a viewer
// astray.
func usable(p krpc.NodeAddr, teller netip.Addr) (netip.AddrPort, bool) {
	ip, ok := netip.AddrFromSlice(p.IP)
	if ip = ip.Unmap(); !ok || p.Port <= 0 || p.Port > 65535 || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
		return netip.AddrPort{}, false
	}
	if ip.IsLoopback() && !teller.IsLoopback() || ip.IsPrivate() && !teller.IsPrivate() && !teller.IsLoopback() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip, uint16(p.Port)), true
}

// Announce says, now and then until ctx is done, that the titles that ids gives are
// sold at a TCP port of this host. What fails is tried again.
func (n *Node) Announce(ctx context.Context, port int, ids func() []htlcdash.TitleID) {
	for pause := firstRetry; ; {
		sold := ids()
		n.remember(port, sold)
		err := n.Join(ctx)
		if err == nil {
			err = n.announceAll(ctx, port, sold)
		}
		if ctx.Err() != nil {
			return
		}
		next := Often - rand.N(Often/8) // so that providers do not all speak at once
		if err != nil && n.first() {
			next = awaitOthers
		} else if err != nil {
			n.log.Warn("dht", "err", err, "again in", pause)
			next, pause = pause, min(2*pause, Often)
		} else {
			pause = firstRetry
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return
		}
	}
}

// first reports whether this node begins a table: others will come to it.
func (n *Node) first() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.begin) == 0
}

// remember answers for what is sold here.
func (n *Node) remember(port int, sold []htlcdash.TitleID) {
	if !n.self.IsValid() {
		return
	}
	for _, id := range sold {
		n.peers.AddPeer(Target(id), krpc.NodeAddr{IP: n.self.AsSlice(), Port: port})
	}
}

func (n *Node) announceAll(ctx context.Context, port int, ids []htlcdash.TitleID) error {
	var work sync.WaitGroup
	free := make(chan struct{}, announceAll)
	var mu sync.Mutex
	var errs []error
	for _, id := range ids {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			work.Wait()
			return ctx.Err()
		}
		work.Go(func() {
			defer func() { <-free }()
			if err := n.AnnounceOnce(ctx, port, id); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("title %s: %w", id, err))
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// AnnounceOnce says that a title is sold at a TCP port of this host.
func (n *Node) AnnounceOnce(ctx context.Context, port int, id htlcdash.TitleID) error {
	if port <= 0 || port > 65535 {
		return fmt.Errorf("dht: port %d cannot be announced", port)
	}
	a, err := n.server.AnnounceTraversal(Target(id), dht.AnnouncePeer(dht.AnnouncePeerOpts{Port: port}))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAlone, err)
	}
	defer a.Close()
	answers := 0
	for peers := a.Peers; peers != nil; {
		select {
		case _, ok := <-peers:
			if !ok {
				peers = nil
				break
			}
			answers++
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-a.Finished():
	case <-ctx.Done():
		return ctx.Err()
	}
	return aloneIf(answers == 0)
}
