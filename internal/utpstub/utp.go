// Package utp stands where the torrent client expects uTP and says that there is
// none: sealed bytes travel by TCP. It has the names that the client refers to,
// and nothing behind them.
package utp

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// Default names the implementation.
const Default = "no uTP"

// ErrNone is what opening a socket gives.
var ErrNone = errors.New("uTP is not part of this program")

// A Socket is what the client would listen and dial with.
type Socket interface {
	net.PacketConn
	Accept() (net.Conn, error)
	Addr() net.Addr
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	SetFirewallCallback(FirewallCallback)
}

// A FirewallCallback says whether to refuse who knocks.
type FirewallCallback func(net.Addr) bool

// An Option of a Socket.
type Option struct{}

// WithLogger does nothing.
func WithLogger(*slog.Logger) Option { return Option{} }

// NewSocket fails.
func NewSocket(network, addr string, _ ...Option) (Socket, error) { return nil, ErrNone }

// NewSocketFromPacketConn fails.
func NewSocketFromPacketConn(net.PacketConn, ...Option) (Socket, error) { return nil, ErrNone }
