// Package playertest is for tests of what plays: a recorded network on loopback,
// and how what was played over it stands beside what the simulator foretells.
package playertest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"htlcdash/agent/replay"
)

// A Shaper is a way to a server through a recorded network: what the server sends
// comes at the rates and with the latencies of a link, over all connections
// together. What is asked goes through at once.
type Shaper struct {
	Address string // to ask in place of the server's

	listener net.Listener
	target   string
	link     *replay.Link // as recorded
	pure     *replay.Link // without latencies
	closed   chan struct{}
	work     sync.WaitGroup

	line  sync.Mutex    // who sends
	began time.Time     // guarded by line
	free  time.Duration // when the line is, since it began; guarded by line
}

// NewLink is [replay.NewLink] in a test.
func NewLink(t testing.TB, steps ...replay.Stretch) *replay.Link {
	t.Helper()
	l, err := replay.NewLink("test", steps)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Shape opens a way to a server's host and port that is not shaped before Begin.
// It is closed after the test.
func Shape(t testing.TB, target string, steps []replay.Stretch) *Shaper {
	t.Helper()
	pure := make([]replay.Stretch, len(steps))
	for i, s := range steps {
		pure[i] = replay.Stretch{Duration: s.Duration, Rate: s.Rate}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Shaper{
		Address: l.Addr().String(), closed: make(chan struct{}), listener: l, target: target,
		link: NewLink(t, steps...), pure: NewLink(t, pure...),
	}
	s.work.Go(s.accept)
	t.Cleanup(func() {
		l.Close()
		close(s.closed)
		s.work.Wait()
	})
	return s
}

// Begin starts the recording.
func (s *Shaper) Begin() {
	s.line.Lock()
	defer s.line.Unlock()
	if s.began.IsZero() {
		s.began = time.Now()
	}
}

func (s *Shaper) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.work.Go(func() { s.carry(c) })
	}
}

// A chunk is what the server sent at once.
type chunk struct {
	data []byte
	came time.Time
}

// Of a chunk: small, so that what goes over several connections mixes.
const chunkSize = 8 << 10

// carry is one connection. It ends when either side does, or the test.
func (s *Shaper) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", s.target)
	if err != nil {
		return
	}
	gone := make(chan struct{}) // the client
	s.work.Go(func() {
		select {
		case <-s.closed:
		case <-gone:
		}
		server.Close()
		client.Close()
	})
	s.work.Go(func() { // what is asked
		defer close(gone)
		_, _ = io.Copy(server, client)
	})
	chunks := make(chan chunk, 8192)
	s.work.Go(func() {
		defer client.Close()
		for c := range chunks {
			s.send(client, c, gone)
		}
	})
	defer close(chunks)
	for {
		b := make([]byte, chunkSize)
		n, err := server.Read(b)
		if n > 0 {
			chunks <- chunk{b[:n], time.Now()}
		}
		if err != nil {
			return
		}
	}
}

// send waits for the line, and takes it for as long as the link needs for a chunk.
// For who has gone nothing is sent, and the line is free for others.
func (s *Shaper) send(to net.Conn, c chunk, gone <-chan struct{}) {
	s.line.Lock()
	defer s.line.Unlock()
	select {
	case <-gone:
		return
	default:
	}
	if !s.began.IsZero() {
		came := max(c.came.Sub(s.began), 0)
		s.free = s.pure.Arrival(max(came+s.link.At(came).Latency, s.free), int64(len(c.data)))
		select {
		case <-time.After(s.free - time.Since(s.began)):
		case <-s.closed:
		}
	}
	_, _ = to.Write(c.data) // it may have gone by now
}
