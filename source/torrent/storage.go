package torrent

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/anacrolix/torrent/metainfo"
	"github.com/anacrolix/torrent/storage"

	"htlcdash"
	"htlcdash/internal/bittorrent"
)

// noStorage is for torrents that bring none, of which there are none.
type noStorage struct{}

func (noStorage) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{}, errNoBytes
}

var errNoBytes = errors.New("bytes are not here")

// A parcel is a segment on its way: its bytes, and which pieces of it were
// checked. They are there as long as somebody reads.
type parcel struct {
	first   int // piece
	readers int // guarded by Client.mu

	mu     sync.Mutex
	data   []byte
	leaves []bool        // that were written
	done   []bool        // pieces
	more   chan struct{} // closed and made again when a piece is done
}

// store is the storage.ClientImpl of a swarm: parcels for what is fetched, files
// of a folder for what is held. The library's files would lie elsewhere under
// other names.
type store struct {
	blobs []htlcdash.Blob // in the order of the torrent
	owner []int32         // which of them has a piece
	first []int32         // piece of each
	files Files           // nil: none
	check func(*metainfo.Info) error

	mu      sync.Mutex
	held    []bool          // blobs that files have
	parcels map[int]*parcel // by index of the blob
}

func newStore(blobs []htlcdash.Blob, files Files, check func(*metainfo.Info) error) *store {
	s := &store{blobs: blobs, files: files, check: check, held: make([]bool, len(blobs)), parcels: map[int]*parcel{}}
	for i, b := range blobs {
		s.first = append(s.first, int32(len(s.owner)))
		for range pieces(b) {
			s.owner = append(s.owner, int32(i))
		}
	}
	if files == nil {
		return s
	}
	for i, b := range blobs {
		f, err := files.File(b.Root)
		if err != nil {
			continue
		}
		info, err := f.Stat()
		s.held[i] = err == nil && info.Size() == b.Length
		f.Close()
	}
	return s
}

// pieces is how many pieces a blob has.
func pieces(b htlcdash.Blob) int64 {
	return (b.Length + bittorrent.PieceLength - 1) / bittorrent.PieceLength
}

// OpenTorrent implements storage.ClientImpl. It is called when there is metadata,
// before the library believes it.
func (s *store) OpenTorrent(_ context.Context, info *metainfo.Info, _ metainfo.Hash) (storage.TorrentImpl, error) {
	if err := s.check(info); err != nil {
		return storage.TorrentImpl{}, err
	}
	// The library walks through the file tree of BitTorrent v2 for each block of
	// 16 KiB, which takes the time of all segments for each of them. It looks at
	// the hybrid as BitTorrent v1 does, where a piece is found by its number.
	info.MetaVersion, info.FileTree = 1, metainfo.FileTree{}
	return storage.TorrentImpl{
		Piece:     func(p metainfo.Piece) storage.PieceImpl { return piece{s, p.Index()} },
		Close:     func() error { return nil },
		NewReader: func() storage.TorrentReader { return reader{s} },
	}, nil
}

// file is the index of a blob among the library's files.
func (s *store) file(blob int) int {
	pads := 0
	for _, b := range s.blobs[:blob] {
		if b.Length%bittorrent.PieceLength != 0 {
			pads++
		}
	}
	return blob + pads
}

func (s *store) parcel(blob int) *parcel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parcels[blob]
}

// put begins a parcel.
func (s *store) put(blob int) *parcel {
	b := s.blobs[blob]
	p := &parcel{
		first: int(s.first[blob]), data: make([]byte, b.Length), leaves: make([]bool, (b.Length+htlcdash.LeafSize-1)/htlcdash.LeafSize),
		done: make([]bool, pieces(b)), more: make(chan struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parcels[blob] = p
	return p
}

func (s *store) holds(blob int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[blob]
}

func (s *store) drop(blob int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parcels, blob)
}

// readAt reads within a blob and the zeros that fill up its last piece. Bytes that
// did not come are an error: the library then blames nobody, and asks for the piece
// again.
func (s *store) readAt(blob int, b []byte, off int64) (int, error) {
	if rest := s.blobs[blob].Length - off; rest < int64(len(b)) {
		rest = max(rest, 0)
		clear(b[rest:])
		if rest == 0 {
			return len(b), nil
		}
		n, err := s.readBlob(blob, b[:rest], off)
		if int64(n) == rest {
			return len(b), nil
		}
		return n, err
	}
	return s.readBlob(blob, b, off)
}

func (s *store) readBlob(blob int, b []byte, off int64) (int, error) {
	if p := s.parcel(blob); p != nil {
		return p.readAt(b, off)
	}
	if !s.holds(blob) {
		return 0, errNoBytes
	}
	f, err := s.files.File(s.blobs[blob].Root)
	if err != nil { // a cache has let go of it
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held[blob] = false
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(b, off)
}

func (p *parcel) readAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if off < 0 || off >= int64(len(p.data)) {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), int64(len(p.data))-off)]
	for leaf := off / htlcdash.LeafSize; leaf*htlcdash.LeafSize < off+int64(len(b)); leaf++ {
		if !p.leaves[leaf] {
			return 0, errNoBytes
		}
	}
	return copy(b, p.data[off:]), nil
}

// writeAt takes what a peer sent. A leaf counts as written once its last byte
// is: the library writes whole blocks.
func (p *parcel) writeAt(b []byte, off int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if off < 0 || off >= int64(len(p.data)) {
		return
	}
	n := int64(copy(p.data[off:], b))
	for leaf := off / htlcdash.LeafSize; leaf < int64(len(p.leaves)); leaf++ {
		if end := min((leaf+1)*htlcdash.LeafSize, int64(len(p.data))); end > off+n {
			return
		}
		p.leaves[leaf] = true
	}
}

// mark says whether a piece is as its torrent wants it.
func (p *parcel) mark(piece int, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done[piece-p.first] = done
	if done {
		close(p.more)
		p.more = make(chan struct{})
	}
}

// ready returns the bytes from off on that were checked, or a channel that is
// closed when more are.
func (p *parcel) ready(off int64) ([]byte, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := off
	for end < int64(len(p.data)) && p.done[end/bittorrent.PieceLength] {
		end = min((end/bittorrent.PieceLength+1)*bittorrent.PieceLength, int64(len(p.data)))
	}
	if end == off {
		return nil, p.more
	}
	return p.data[off:end], nil
}

// A piece implements storage.PieceImpl.
type piece struct {
	s     *store
	index int
}

func (p piece) place(off int64) (blob int, at int64) {
	blob = int(p.s.owner[p.index])
	return blob, int64(p.index-int(p.s.first[blob]))*bittorrent.PieceLength + off
}

func (p piece) ReadAt(b []byte, off int64) (int, error) {
	blob, at := p.place(off)
	return p.s.readAt(blob, b, at)
}

// WriteAt takes bytes that nobody waits for any more as well, and forgets them:
// an error would stop the whole torrent.
func (p piece) WriteAt(b []byte, off int64) (int, error) {
	blob, at := p.place(off)
	if parcel := p.s.parcel(blob); parcel != nil {
		parcel.writeAt(b, at)
	}
	return len(b), nil
}

func (p piece) MarkComplete() error    { return p.mark(true) }
func (p piece) MarkNotComplete() error { return p.mark(false) }

func (p piece) mark(done bool) error {
	if parcel := p.s.parcel(int(p.s.owner[p.index])); parcel != nil {
		parcel.mark(p.index, done)
	}
	return nil
}

func (p piece) Completion() storage.Completion {
	blob := int(p.s.owner[p.index])
	if parcel := p.s.parcel(blob); parcel != nil {
		parcel.mu.Lock()
		defer parcel.mu.Unlock()
		return storage.Completion{Ok: true, Complete: parcel.done[p.index-parcel.first]}
	}
	return storage.Completion{Ok: true, Complete: p.s.holds(blob)}
}

// A reader reads for peers, at offsets in the torrent. Without it the library
// would walk through all files of the torrent for each block.
type reader struct{ s *store }

func (r reader) ReadAt(b []byte, off int64) (int, error) {
	index := off / bittorrent.PieceLength
	if off < 0 || index >= int64(len(r.s.owner)) {
		return 0, io.EOF
	}
	return piece{r.s, int(index)}.ReadAt(b, off%bittorrent.PieceLength)
}

func (reader) Close() error { return nil }
