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
// name, and those that named trackers name: there is no public bootstrap, no
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
	"sync"
	"time"

	bt "github.com/anacrolix/torrent"
	"golang.org/x/time/rate"

	"htlcdash"
)

// Options say how far a [Client] goes. The zero value reaches nobody.
type Options struct {
	// Listen is where other clients are let in, such as ":6881"; empty: nowhere,
	// and nothing is uploaded.
	Listen string
	// Peers are asked for every torrent: host:port each.
	Peers []string
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

// A Torrent is the sealed segments of one Representation, or a single one.
type Torrent struct {
	// InfoHash is the BitTorrent v2 infohash of the hybrid torrent. Zero: there is
	// none, and each segment is looked for as the torrent of a single file that
	// its root and length make up.
	InfoHash [32]byte
	// Blobs returns the segments once they are known. It is called often, and
	// must not wait.
	Blobs func() ([]htlcdash.Blob, bool)
	// Peers are asked for this torrent, beside those of the options.
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

	mu      sync.Mutex
	unread  []*swarm                  // whose blobs are not known yet
	swarms  map[htlcdash.Blob]*swarm  // that have a blob
	known   map[[32]byte]*swarm       // by infohash
	joined  map[*swarm]struct{}       // to fetch
	memory  int64                     // bytes of segments on their way
	singles map[htlcdash.Blob]*single // blobs without a hybrid torrent
}

// A single is a blob that is a torrent of its own, and who may have it.
type single struct {
	peers []string
	swarm *swarm // nil: not looked for yet
}

// New starts a client. Close ends it.
func New(o Options) (*Client, error) {
	o.MaxSwarms = cmp.Or(o.MaxSwarms, defaultSwarms)
	o.MaxPeers = cmp.Or(o.MaxPeers, defaultPeers)
	o.Memory = cmp.Or(o.Memory, defaultMemory)
	o.Patience = cmp.Or(o.Patience, defaultPatience)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	for _, p := range o.Peers {
		if err := CheckPeer(p); err != nil {
			return nil, err
		}
	}
	c := &Client{
		o: o, swarms: map[htlcdash.Blob]*swarm{}, known: map[[32]byte]*swarm{},
		joined: map[*swarm]struct{}{}, singles: map[htlcdash.Blob]*single{},
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
	c.bt.AddDialer(bt.NetworkDialer{Network: "tcp", Dialer: &net.Dialer{Timeout: dialTimeout}})
	if c.lis != nil {
		c.bt.AddListener(c.lis)
	}
	return c, nil
}

// CheckPeer reports an address that is not host:port.
func CheckPeer(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || port == "0" {
		return fmt.Errorf("BitTorrent peer %q: want host:port", address)
	}
	return nil
}

const dialTimeout = 5 * time.Second

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
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.joined {
		s.end()
	}
	clear(c.joined)
	return errors.Join(append(errs, err)...)
}

// Add makes a torrent known. Nobody is asked for it until a blob of it is.
func (c *Client) Add(t Torrent) error {
	for _, p := range t.Peers {
		if err := CheckPeer(p); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.known[t.InfoHash]; s != nil && t.InfoHash != [32]byte{} {
		s.also(t.Peers)
		return nil
	}
	s := newSwarm(c, t)
	if t.InfoHash != [32]byte{} {
		c.known[t.InfoHash] = s
	}
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
	if s := c.swarms[b]; s != nil {
		return s, true
	}
	one := c.singles[b]
	if one == nil {
		return nil, false
	}
	if one.swarm == nil {
		one.swarm = newSingle(c, b, one.peers)
	}
	return one.swarm, true
}

// index reads what the torrents hold whose blobs have become known. c.mu is
// held.
func (c *Client) index() {
	var still []*swarm
	for _, s := range c.unread {
		blobs, ok := s.torrent.Blobs()
		switch {
		case !ok:
			still = append(still, s)
		case s.torrent.InfoHash == [32]byte{}:
			for _, b := range blobs {
				c.singles[b] = &single{peers: s.torrent.Peers}
			}
		default:
			s.know(blobs)
			for _, b := range blobs {
				c.swarms[b] = s
			}
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
