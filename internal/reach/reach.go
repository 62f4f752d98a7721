// Package reach says to whom one may go on a stranger's word: which addresses
// belong together, which lie in networks that strangers have no business in, and
// how to connect to none of those.
package reach

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrLocal means that a stranger's address leads into a local network.
var ErrLocal = errors.New("address in a local network")

// Group names what one operator cannot have many of for nothing: the network
// of an address, or the last two parts of a name. On this machine and in its
// network there is nobody to fear: each address is alone.
func Group(u *url.URL) string {
	host := u.Hostname()
	a, err := netip.ParseAddr(host)
	switch {
	case IsLocal(host):
		return strings.TrimSuffix(u.Redacted(), "/")
	case err == nil && a.Unmap().Is4():
		return netip.PrefixFrom(a.Unmap(), 24).Masked().String()
	case err == nil:
		return netip.PrefixFrom(a, 48).Masked().String()
	}
	parts := strings.Split(strings.ToLower(strings.TrimSuffix(host, ".")), ".")
	return strings.Join(parts[max(0, len(parts)-2):], ".")
}

// IsLocal reports whether a host is this machine or one of its network, as far
// as its name says. What a name of the DNS leads to is seen by [Client].
func IsLocal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		return local(a)
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local")
}

// shared is what carriers number their customers by, RFC 6598.
var shared = netip.MustParsePrefix("100.64.0.0/10")

func local(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsGlobalUnicast() || a.IsPrivate() || shared.Contains(a)
}

// OnlyPublic is the Control of a [net.Dialer] that connects to no local network. It
// looks at the address itself, after names were resolved. Its error matches
// [ErrLocal].
func OnlyPublic(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || local(ap.Addr().WithZone("")) {
		return fmt.Errorf("%s: %w", address, ErrLocal)
	}
	return nil
}

// CheckHostPort reports an address that is not host:port, with a name of the DNS
// or an IP address as host and a number as port.
func CheckHostPort(address string) error {
	host, number, err := net.SplitHostPort(address)
	port, bad := strconv.ParseUint(number, 10, 16)
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}
	ip, noIP := netip.ParseAddr(host)
	if err != nil || bad != nil || port == 0 || host == "" || len(host) > maxHost || ip.Zone() != "" || noIP != nil && strings.ContainsFunc(host, strange) {
		return fmt.Errorf("address %.80q: want host:port", address)
	}
	return nil
}

const maxHost = 253 // bytes of a name of the DNS

// Dialer is for addresses that strangers named. Unless local is set it connects to
// no local network, whatever a name leads to.
func Dialer(localToo bool) *net.Dialer {
	d := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	if !localToo {
		d.Control = OnlyPublic
	}
	return d
}

// Client is for addresses that strangers named, which it connects to as [Dialer]
// does. It follows no redirects. A timeout of 0 is none, as a websocket needs.
func Client(localToo bool, timeout time.Duration) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = Dialer(localToo).DialContext
	t.MaxIdleConnsPerHost = 8
	t.ResponseHeaderTimeout = 10 * time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	t.DisableCompression = true // a few bytes must not become many
	return &http.Client{
		Transport: t, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
