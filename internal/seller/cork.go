package seller

import (
	"context"
	"net"
	"net/http"
)

// connKey is where the context of a request holds its connection.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// cork keeps the kernel from sending less than whole packets until uncork is
// called, so that the header of a response does not go ahead of a file, in a
// packet of its own that wakes the client for nothing.
func cork(r *http.Request) (uncork func()) {
	c, ok := r.Context().Value(connKey{}).(*net.TCPConn)
	if !ok {
		return func() {}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return func() {}
	}
	setCork(raw, true)
	return func() { setCork(raw, false) }
}
