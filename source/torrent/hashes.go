package torrent

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	bt "github.com/anacrolix/torrent"
	pp "github.com/anacrolix/torrent/peer_protocol"

	"htlcdash"
	"htlcdash/internal/bittorrent"
)

// Who comes by the infohash of BitTorrent v2 alone asks for piece layers. The
// library, which looks at our torrents as v1 does (see store.OpenTorrent), would
// take that for a fault, so it is answered here, between two of its messages.

// The trees of a torrent are the piece layers of its files.
type trees struct {
	blobs  []htlcdash.Blob // in the order of the torrent
	first  []int32         // piece of each
	layers []byte          // 32 bytes for each piece
}

// layer is the piece layer of a file; none if it has only one piece, or is no file
// of the torrent.
func (t *trees) layer(root htlcdash.Root) []byte {
	i, ok := slices.BinarySearchFunc(t.blobs, root, func(b htlcdash.Blob, root htlcdash.Root) int { return bytes.Compare(b.Root[:], root[:]) })
	if !ok || t.blobs[i].Length <= bittorrent.PieceLength {
		return nil
	}
	return t.layers[len(root)*int(t.first[i]):][:len(root)*int(pieces(t.blobs[i]))]
}

// plant keeps the piece layers of a torrent, which are by root.
func plant(s *store, layers map[string]string) *trees {
	t := &trees{s.blobs, s.first, make([]byte, len(htlcdash.Root{})*len(s.owner))}
	for _, b := range s.blobs {
		copy(t.layer(b.Root), layers[string(b.Root[:])])
	}
	return t
}

// maxAsked bounds the requests for hashes of one peer that wait to be answered. One
// that reads no answers gets none to more.
const maxAsked = 64

// A wire is a connection that a peer has opened.
type wire struct {
	net.Conn
	c      *Client
	closed chan struct{}
	close  func() error // does it once
	answer func()       // begins to answer, once
	asked  chan question

	// writing is held while the library, or we, write whole messages: for as long as a
	// peer that reads nothing likes.
	writing sync.Mutex
	plain   atomic.Bool // they are not encrypted
}

type question struct {
	trees   *trees
	message pp.Message
}

// A doorman wraps the connections that a listener accepts.
type doorman struct {
	net.Listener
	c *Client
}

func (d doorman) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, c: d.c, closed: make(chan struct{}), asked: make(chan question, maxAsked)}
	w.close = sync.OnceValue(func() error {
		d.c.wires.CompareAndDelete(conn.RemoteAddr().String(), w)
		close(w.closed)
		return conn.Close()
	})
	w.answer = sync.OnceFunc(func() { d.c.answer(w) })
	d.c.wires.Store(conn.RemoteAddr().String(), w)
	return w, nil
}

// Close implements net.Conn.
func (w *wire) Close() error { return w.close() }

// Write implements net.Conn. The library hands over whole messages, but for the
// handshakes at the begin; what is not encrypted shows by the latter.
func (w *wire) Write(b []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	if !w.plain.Load() && bytes.HasPrefix(b, []byte(pp.Protocol)) {
		w.plain.Store(true)
	}
	return w.Conn.Write(b)
}

// run answers until the connection is closed.
func (w *wire) run() {
	for {
		select {
		case q := <-w.asked:
			if w.say(q) != nil {
				_ = w.Close() // the library sees it when it reads
				return
			}
		case <-w.closed:
			return
		}
	}
}

// answer begins to answer what w is asked, unless the client ends.
func (c *Client) answer(w *wire) {
	c.ending.Lock()
	defer c.ending.Unlock()
	if !c.ended {
		c.answering.Go(w.run)
	}
}

// hangUp closes the connections that others have opened, and waits for what answers.
func (c *Client) hangUp() {
	c.ending.Lock()
	c.ended = true
	c.ending.Unlock()
	c.wires.Range(func(_, w any) bool { _ = w.(*wire).Close(); return true })
	c.answering.Wait()
}

// say answers one request.
func (w *wire) say(q question) error {
	m := q.message
	r := bittorrent.HashRequest{
		BaseLayer: uint32(m.BaseLayer), Index: uint32(m.Index), Length: uint32(m.Length), ProofLayers: uint32(m.ProofLayers),
	}
	m.Type = pp.HashReject
	if hashes, ok := r.Answer(q.trees.layer(m.PiecesRoot)); ok {
		m.Type = pp.Hashes
		for _, h := range hashes {
			m.Hashes = append(m.Hashes, h)
		}
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return err
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	_, err = w.Conn.Write(b)
	return err
}

// read sees what a peer says before the library does, which holds its one lock
// meanwhile: it must not wait.
func (c *Client) read(from *bt.PeerConn, m *pp.Message) {
	if m.Keepalive || m.Type != pp.HashRequest {
		return
	}
	t, known := c.trees.Load(from.Torrent())
	found, ok := c.wires.Load(from.RemoteAddr.String())
	if !known || !ok {
		return
	}
	w := found.(*wire)
	if !w.plain.Load() {
		return
	}
	select {
	case w.asked <- question{t.(*trees), *m}:
		w.answer()
	default:
	}
	m.Type = pp.HashReject // of which the library thinks nothing
}
