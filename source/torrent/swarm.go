package torrent

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	g "github.com/anacrolix/generics"
	bt "github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/bencode"
	"github.com/anacrolix/torrent/metainfo"
	infohash_v2 "github.com/anacrolix/torrent/types/infohash-v2"

	"htlcdash"
	"htlcdash/internal/bittorrent"
)

// lookEvery is how often a fetch looks whether its swarm is still worth waiting
// for, and knocks at its peers again.
const (
	lookEvery  = 100 * time.Millisecond
	knockEvery = time.Second
	// strangersEvery is for those that others named: it may be a lie about somebody
	// who has nothing to do with it.
	strangersEvery = 10 * time.Second
)

// lonely is how long a swarm that had no peers counts as having none.
const lonely = 10 * time.Second

// A swarm is one torrent, joined or not.
type swarm struct {
	c       *Client
	torrent Torrent
	info    []byte            // known in advance; nil: peers tell it
	files   Files             // what is seeded; nil: nothing
	layers  map[string]string // of what is seeded, until it is

	// These are guarded by Client.mu.
	blobs  []htlcdash.Blob       // in the order of the torrent; nil: not known
	places map[htlcdash.Blob]int // in blobs
	peers  []string
	run    *run      // nil: not joined
	used   time.Time // last
	empty  time.Time // until then it is said to have no peers
}

// A run is a swarm from when it is joined until it is left.
type run struct {
	t     *bt.Torrent
	store *store
	live  int           // readers; guarded by Client.mu
	ended chan struct{} // closed when it is left
	seeds bool          // to stay

	mu       sync.Mutex
	bad      error // what the metadata is refused for
	knocked  time.Time
	bothered time.Time // strangers
}

// know takes the blobs of the torrent. c.mu is held.
func (s *swarm) know(blobs []htlcdash.Blob) {
	s.blobs, s.places = bittorrent.Order(blobs), map[htlcdash.Blob]int{}
	for i, b := range s.blobs {
		s.places[b] = i
	}
}

// also takes further peers. c.mu is held.
func (s *swarm) also(peers []string) {
	for _, p := range peers {
		if !slices.Contains(s.peers, p) && len(s.peers) < maxNamed {
			s.peers = append(s.peers, p)
			s.empty = time.Time{}
			if s.run != nil {
				s.run.mu.Lock()
				s.run.bothered = time.Time{}
				s.run.mu.Unlock()
			}
		}
	}
}

// maxNamed bounds the peers that are named for one torrent.
const maxNamed = 64

// check holds metadata, as the library has read it, against the blobs that the
// publisher signed.
func (s *swarm) check(r *run, info *metainfo.Info) error {
	b, err := bencode.Marshal(info)
	if err == nil {
		err = bittorrent.Check(b, s.blobs)
	}
	if err != nil {
		r.mu.Lock()
		r.bad = err
		r.mu.Unlock()
	}
	return err
}

// join returns the run of s, which begins if there is none. c.mu is held.
func (s *swarm) join() (*run, error) {
	s.used = time.Now()
	if s.run != nil {
		return s.run, nil
	}
	if s.files == nil {
		if err := s.c.makeRoom(); err != nil {
			return nil, err
		}
	}
	r := &run{ended: make(chan struct{}), seeds: s.files != nil}
	files := s.files
	if files == nil {
		files = s.c.o.Held
	}
	r.store = newStore(s.blobs, files, func(info *metainfo.Info) error { return s.check(r, info) })
	r.t, _ = s.c.bt.AddTorrentOpt(bt.AddTorrentOpts{
		InfoHashV2: g.Some(infohash_v2.T(s.torrent.InfoHash)), InfoBytes: s.info, Storage: r.store,
		DisableInitialPieceCheck: true,
	})
	if s.layers != nil {
		s.c.trees.Store(r.t, plant(r.store, s.layers))
		s.layers = nil
	}
	for _, tracker := range s.c.o.Trackers {
		r.t.AddTrackers([][]string{{tracker}})
	}
	s.run = r
	if !r.seeds {
		s.c.joined[s] = struct{}{}
	}
	return r, nil
}

// makeRoom leaves the swarm that was used least recently if there are as many as
// may be. c.mu is held.
func (c *Client) makeRoom() error {
	if len(c.joined) < c.o.MaxSwarms {
		return nil
	}
	var idle *swarm
	for s := range maps.Keys(c.joined) {
		if s.run.live == 0 && (idle == nil || s.used.Before(idle.used)) {
			idle = s
		}
	}
	if idle == nil {
		return fmt.Errorf("%d swarms: %w", len(c.joined), ErrBusy)
	}
	idle.leave()
	return nil
}

// leave ends the run of s. c.mu is held.
func (s *swarm) leave() {
	s.run.t.Drop()
	s.end()
	delete(s.c.joined, s)
}

// end tells those who wait. c.mu is held.
func (s *swarm) end() {
	close(s.run.ended)
	s.run = nil
}

// knock asks peers to talk to us, those again that did not or have gone.
func (s *swarm) knock(r *run) {
	r.mu.Lock()
	now := time.Now()
	if now.Sub(r.knocked) < knockEvery {
		r.mu.Unlock()
		return
	}
	r.knocked = now
	strangers := now.Sub(r.bothered) >= strangersEvery
	if strangers {
		r.bothered = now
	}
	r.mu.Unlock()
	all := s.c.o.Peers
	if strangers {
		s.c.mu.Lock()
		all = slices.Concat(all, s.peers)
		s.c.mu.Unlock()
	}
	infos := make([]bt.PeerInfo, len(all))
	for i, p := range all {
		infos[i] = bt.PeerInfo{Addr: bt.StringAddr(p), Source: bt.PeerSourceDirect}
	}
	r.t.AddPeers(infos)
}

// Open implements source.Source. The error matches htlcdash.ErrNotFound if no
// torrent has b, or none of its peers; [ErrBusy] if too much is on its way;
// htlcdash.ErrCorrupt if what peers say of the torrent is not what the publisher
// signed. The reader gives pieces as they are checked.
func (c *Client) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, ok := c.find(b)
	if !ok {
		return nil, fmt.Errorf("blob %s is in no torrent: %w", b.Root, htlcdash.ErrNotFound)
	}
	f, err := s.open(b)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", b.Root, err)
	}
	f.ctx = ctx
	if err := f.begin(); err != nil {
		f.Close()
		return nil, fmt.Errorf("blob %s: %w", b.Root, err)
	}
	return f, nil
}

// open begins to read b.
func (s *swarm) open(b htlcdash.Blob) (*fetch, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.o.Peers)+len(s.peers)+len(c.o.Trackers) == 0 && c.lis == nil || time.Now().Before(s.empty) && s.run == nil {
		return nil, fmt.Errorf("no peers: %w", htlcdash.ErrNotFound)
	}
	r, err := s.join()
	if err != nil {
		return nil, err
	}
	blob := s.places[b]
	p := r.store.parcel(blob)
	if p == nil {
		if c.memory+b.Length > c.o.Memory {
			return nil, ErrBusy
		}
		c.memory += b.Length
		p = r.store.put(blob)
	}
	p.readers++
	r.live++
	return &fetch{s: s, run: r, blob: blob, parcel: p}, nil
}

// A fetch is a reader of a parcel, which it keeps there.
type fetch struct {
	s      *swarm
	run    *run
	parcel *parcel
	blob   int

	ctx   context.Context //nolint:containedctx // the reader is that call of Open
	file  *bt.File
	off   int64
	close sync.Once
}

// begin waits for the metadata, says what is wanted, and waits for the first
// piece.
func (f *fetch) begin() error {
	f.s.knock(f.run)
	if err := f.wait(f.run.t.GotInfo(), f.anybody); err != nil {
		return err
	}
	f.file = f.run.t.Files()[f.run.store.file(f.blob)]
	f.update()
	f.s.c.mu.Lock() // else a reader that goes now could take it back
	f.file.SetPriority(bt.PiecePriorityNow)
	f.s.c.mu.Unlock()
	_, err := f.next()
	return err
}

// update tells the library which pieces are here: those of an earlier parcel may
// count as complete still.
func (f *fetch) update() {
	for i := range f.parcel.done {
		f.run.t.Piece(f.parcel.first + i).UpdateCompletion()
	}
}

// next returns bytes that were checked, and are not empty.
func (f *fetch) next() ([]byte, error) {
	for {
		b, more := f.parcel.ready(f.off)
		if more == nil {
			return b, nil
		}
		if err := f.wait(more, f.has); err != nil {
			return nil, err
		}
	}
}

// wait returns when there is news, or when the swarm is not worth waiting for.
func (f *fetch) wait(news <-chan struct{}, hope func() bool) error {
	select {
	case <-news:
		return nil
	default:
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	hopeful := time.Now()
	for {
		select {
		case <-news:
			return nil
		case <-f.ctx.Done():
			return f.ctx.Err()
		case <-f.run.ended:
			return fmt.Errorf("the swarm was left: %w", htlcdash.ErrNotFound)
		case now := <-tick.C:
			f.run.mu.Lock()
			bad := f.run.bad
			f.run.mu.Unlock()
			if bad != nil {
				return bad
			}
			f.s.knock(f.run)
			if f.file != nil {
				f.sync()
			}
			if hope() {
				hopeful = now
			} else if now.Sub(hopeful) >= f.s.c.o.Patience {
				return f.s.giveUp(f)
			}
		}
	}
}

// sync mends what the library believes of pieces that were let go of while they
// were being booked as complete.
func (f *fetch) sync() {
	f.parcel.mu.Lock()
	done := slices.Clone(f.parcel.done)
	f.parcel.mu.Unlock()
	for i, d := range done {
		if p := f.run.t.Piece(f.parcel.first + i); !d && p.State().Complete {
			p.UpdateCompletion()
		}
	}
}

// giveUp remembers for a while that a swarm without peers has none.
func (s *swarm) giveUp(f *fetch) error {
	if f.anybody() {
		return fmt.Errorf("no peer has it: %w", htlcdash.ErrNotFound)
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.empty = time.Now().Add(lonely)
	if s.run == f.run && !f.run.seeds && f.run.live == 1 {
		s.leave()
	}
	return fmt.Errorf("no peer answers: %w", htlcdash.ErrNotFound)
}

// anybody reports whether somebody is connected.
func (f *fetch) anybody() bool { return len(f.run.t.PeerConns()) > 0 }

// has reports whether somebody who is connected has the next piece.
func (f *fetch) has() bool {
	next := uint32(f.parcel.first + int(f.off/bittorrent.PieceLength))
	for _, p := range f.run.t.PeerConns() {
		if p.PeerPieces().Contains(next) {
			return true
		}
	}
	return false
}

// Read implements io.Reader.
func (f *fetch) Read(b []byte) (int, error) {
	if f.off == f.run.store.blobs[f.blob].Length {
		return 0, io.EOF
	}
	data, err := f.next()
	if err != nil {
		return 0, err
	}
	n := copy(b, data)
	f.off += int64(n)
	return n, nil
}

// Close implements io.Closer. When nobody reads a segment any more its memory is
// let go of.
func (f *fetch) Close() error {
	f.close.Do(func() { f.s.release(f) })
	return nil
}

func (s *swarm) release(f *fetch) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.used = time.Now()
	f.run.live--
	if f.parcel.readers--; f.parcel.readers > 0 {
		return
	}
	c.memory -= int64(len(f.parcel.data))
	f.run.store.drop(f.blob)
	if s.run == f.run && f.file != nil {
		f.file.SetPriority(bt.PiecePriorityNone)
		f.update()
	}
}
