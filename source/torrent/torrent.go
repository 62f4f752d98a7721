// Package torrent is a source in BitTorrent swarms, and our end of them: it
// fetches single segments out of the hybrid torrents of titles, and seeds what a
// folder holds. Which torrents these are is told in spec/12-torrent.md.
//
//	library -> Open -> swarm: the torrent of a Representation -> peers (TCP)
//	                     `-> memory, one segment at a time
//	peers -> Client (if it listens) -> the files of a folder, in place
//
// A swarm is joined when the first blob of it is asked for, and left when others
// are asked for and it is not. Peers are those that the options and the callers
// name, and those that named trackers name; of these all but the first are reached
// at public addresses only, unless Local is set. There is no public bootstrap, no
// DHT, no peer exchange, no uTP. Nothing is accepted from anybody unless Listen
// says so, and nothing is sent to others without it.
//
// Who is in a swarm shows its address to all the others in it, and what it is
// about to watch.
package torrent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	bt "github.com/anacrolix/torrent"
	"golang.org/x/time/rate"

	"htlcdash"
	"htlcdash/internal/reach"
)

// Options say how far a [Client] goes. The zero value reaches nobody.
type Options struct {
	// Listen is where other clients are let in, such as ":6881"; empty: nowhere,
	// and nothing is uploaded.
	Listen string
	// Peers are asked for every torrent: host:port each.
	Peers []string
	// Local lets others than these be in local networks, too. Who named them may be
	// a stranger: an announcement, a tracker.
	Local bool
	// Trackers are told of every torrent that is joined, and asked for peers:
	// http, https or udp URLs. BitTorrent speaks of it to whoever runs them.
	Trackers []string
	// MaxSwarms bounds the torrents that are joined at once to fetch; 0: 12.
	// What is seeded does not count.
	MaxSwarms int
	// MaxPeers bounds the connections for each torrent; 0: 24.
	MaxPeers int
	// Memory bounds the bytes of segments that are on their way; 0: 64 MiB.
	Memory int64
	// Patience is how long a swarm may show no peer that has a segment until it
	// counts as not found; 0: 1.5 s.
	Patience time.Duration
	// Held are files that other clients get too, of the torrents that are joined
	// to fetch. It is looked up when one is joined; nil: none.
	Held Files
	Log  *slog.Logger // nil: none
}

// What the zero of an option means.
const (
	defaultSwarms   = 12
	defaultPeers    = 24
	defaultMemory   = 64 << 20
	defaultPatience = 1500 * time.Millisecond
)

// ErrBusy means that the memory for segments on their way is used up.
var ErrBusy = errors.New("too many segments are being fetched from swarms")

// A Torrent is the sealed segments of one Representation.
type Torrent struct {
	// InfoHash is the BitTorrent v2 infohash of the hybrid torrent; zero: there is
	// none.
	InfoHash [32]byte
	// Blobs returns the segments once they are known. It is called often, and
	// must not wait.
	Blobs func() ([]htlcdash.Blob, bool)
	// Peers are asked for this torrent, beside those of the options. They are a
	// stranger's word: who does not answer is asked less often.
	Peers []string
}

// Files are sealed bytes that are here. The error of File matches
// htlcdash.ErrNotFound for those that are not; the caller closes the file. See
// package source/dir.
type Files interface {
	File(htlcdash.Root) (*os.File, error)
}

// A Client is one end of any number of swarms. It implements source.Source. Its
// methods may be called from many goroutines at once.
type Client struct {
	o   Options
	bt  *bt.Client
	lis net.Listener // nil: none

	trees     sync.Map       // of *trees, by *bt.Torrent
	wires     sync.Map       // of *wire, by the address of the peer
	answering sync.WaitGroup // wires that answer
	ending    sync.Mutex
	ended     bool // guarded by ending

	mu     sync.Mutex
	unread []*swarm                 // whose blobs are not known yet
	swarms map[htlcdash.Blob]*swarm // that have a blob
	known  map[[32]byte]*swarm      // by infohash
	joined map[*swarm]struct{}      // to fetch
	memory int64                    // bytes of segments on their way
}

// New starts a client. Close ends it.
func New(o Options) (*Client, error) {
	o.MaxSwarms = cmp.Or(o.MaxSwarms, defaultSwarms)
	o.MaxPeers = cmp.Or(o.MaxPeers, defaultPeers)
	o.Memory = cmp.Or(o.Memory, defaultMemory)
	o.Patience = cmp.Or(o.Patience, defaultPatience)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	for _, p := range o.Peers {
		if err := checkPeer(p); err != nil {
			return nil, err
		}
	}
	c := &Client{
		o: o, swarms: map[htlcdash.Blob]*swarm{}, known: map[[32]byte]*swarm{}, joined: map[*swarm]struct{}{},
	}
	if o.Listen != "" {
		var err error
		if c.lis, err = net.Listen("tcp", o.Listen); err != nil {
			return nil, fmt.Errorf("torrents: %w", err)
		}
	}
	var err error
	if c.bt, err = bt.NewClient(c.config()); err != nil {
		if c.lis != nil {
			err = errors.Join(err, c.lis.Close())
		}
		return nil, fmt.Errorf("torrents: %w", err)
	}
	c.bt.AddDialer(dialer{o})
	if c.lis != nil {
		c.bt.AddListener(doorman{c.lis, c})
	}
	return c, nil
}

func checkPeer(address string) error {
	if err := reach.CheckHostPort(address); err != nil {
		return fmt.Errorf("BitTorrent peer: %w", err)
	}
	return nil
}

const dialTimeout = 5 * time.Second

// A dialer connects to those whom the user named, and to others as far as a
// stranger's word may lead. It implements bt.Dialer.
type dialer struct{ o Options }

func (dialer) DialerNetwork() string { return "tcp" }

func (d dialer) Dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return reach.Dialer(d.o.Local || slices.Contains(d.o.Peers, address)).DialContext(ctx, "tcp", address)
}

// config keeps all doors shut that are not asked for.
func (c *Client) config() *bt.ClientConfig {
	f := bt.NewDefaultClientConfig()
	f.Slogger = slog.New(quiet{c.o.Log.Handler()})
	f.DefaultStorage = noStorage{}
	// The listener and the dialer are ours; with its own the library would open a
	// port in any case.
	f.DisableTCP, f.DisableUTP = true, true
	f.NoDHT, f.DisablePEX, f.DisableWebtorrent, f.DisableWebseeds, f.NoDefaultPortForwarding = true, true, true, true, true
	f.DisableTrackers = len(c.o.Trackers) == 0
	f.AcceptPeerConnections = c.lis != nil
	f.Seed, f.NoUpload = c.lis != nil, c.lis == nil
	f.AnonymousMode = true // no version, no name
	// Sealed bytes look like noise, and are checked: to encrypt them again costs
	// time only.
	f.HeaderObfuscationPolicy = bt.HeaderObfuscationPolicy{}
	f.EstablishedConnsPerTorrent = c.o.MaxPeers
	f.HalfOpenConnsPerTorrent = min(c.o.MaxPeers, 8)
	f.TotalHalfOpenConns = 32
	f.TorrentPeersHighWater, f.TorrentPeersLowWater = 4*c.o.MaxPeers, c.o.MaxPeers
	f.NominalDialTimeout, f.MinDialTimeout = dialTimeout, time.Second
	f.MaxAllocPeerRequestDataPerConn = 256 << 10
	f.DialRateLimiter = rate.NewLimiter(20, 20)
	f.PieceHashersPerTorrent = 1
	f.Callbacks.ReadMessage = c.read
	return f
}

// Addr is where other clients are let in; nil: nowhere.
func (c *Client) Addr() net.Addr {
	if c.lis == nil {
		return nil
	}
	return c.lis.Addr()
}

func (c *Client) String() string { return "BitTorrent" }

// Close leaves all swarms. Readers fail.
func (c *Client) Close() error {
	var err error
	if c.lis != nil {
		err = c.lis.Close()
	}
	errs := c.bt.Close()
	c.hangUp()
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.joined {
		s.end()
	}
	clear(c.joined)
	return errors.Join(append(errs, err)...)
}

// Add makes a torrent known, or further peers of one. Nobody is asked for it until a
// blob of it is.
func (c *Client) Add(t Torrent) error {
	for _, p := range t.Peers {
		if err := checkPeer(p); err != nil {
			return err
		}
	}
	if t.InfoHash == [32]byte{} {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.known[t.InfoHash]; s != nil {
		s.also(t.Peers)
		return nil
	}
	s := &swarm{c: c, torrent: t, peers: slices.Clone(t.Peers)}
	c.known[t.InfoHash] = s
	c.unread = append(c.unread, s)
	return nil
}

// find returns the swarm that has b.
func (c *Client) find(b htlcdash.Blob) (*swarm, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.swarms[b]; s != nil {
		return s, true
	}
	c.index()
	s := c.swarms[b]
	return s, s != nil
}

// index reads what the torrents hold whose blobs have become known. c.mu is
// held.
func (c *Client) index() {
	var still []*swarm
	for _, s := range c.unread {
		blobs, ok := s.torrent.Blobs()
		if !ok {
			still = append(still, s)
			continue
		}
		s.know(blobs)
		for _, b := range blobs {
			c.swarms[b] = s
		}
	}
	c.unread = still
}

// quiet lowers what the library says of strangers' faults: it would fill the
// log of who uses it.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, min(l, slog.LevelDebug))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = min(r.Level, slog.LevelDebug)
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(name string) slog.Handler   { return quiet{q.Handler.WithGroup(name)} }
