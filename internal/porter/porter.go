// Package porter serves HTTP on a listener until it is told to stop, and then
// stops without a wait for those who only stand there.
package porter

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Serve serves l until ctx is done. Then it lets running requests end for at
// most grace, closes all connections, and returns nil. It returns an error only
// if l failed. The server must have no ConnState.
//
// http.Server.Shutdown alone waits 5 s for connections on which nothing was
// asked yet, such as a browser opens ahead of need.
func Serve(ctx context.Context, l net.Listener, s *http.Server, grace time.Duration) error {
	var fresh silent
	s.ConnState = fresh.note
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }() // ends with Shutdown or Close
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	s.RegisterOnShutdown(fresh.close) // after the listener was closed
	if err := s.Shutdown(ctx); err != nil {
		_ = s.Close()
	}
	<-failed
	return nil
}

// silent keeps the connections on which nothing was asked yet.
type silent struct {
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

// note is a http.Server.ConnState.
func (f *silent) note(c net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(f.conns, c)
	case f.closed:
		_ = c.Close()
	default:
		if f.conns == nil {
			f.conns = map[net.Conn]bool{}
		}
		f.conns[c] = true
	}
}

func (f *silent) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		_ = c.Close()
	}
}
