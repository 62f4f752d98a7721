// Package web is a source behind HTTP: a provider, a CDN, a bucket. It asks
// for BASE/sealed/ab/ab..., as spec/04-provider.md says, so any copy of a
// title's folder serves.
//
// Deadlines are the library's: a fetch ends when its context does.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"htlcdash"
)

// A Web is a base URL. It implements source.Source.
type Web struct {
	base   *url.URL
	client *http.Client

	// Authorization, unless nil, returns what a request for path below the base
	// URL shows in the header of that name; empty: nothing. The context is that
	// of Open. It may be set before the first call.
	Authorization func(ctx context.Context, path string) string
}

// New returns the source below base, an http or https URL. A nil client means
// one for bytes that are checked by their root: it follows at most three
// redirects, and none of them into a private network.
func New(base string, client *http.Client) (*Web, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("source %q: want a URL such as https://provider.example", base)
	}
	if client == nil {
		home, abroad := newTransport(), newTransport()
		abroad.Proxy = nil // it would look up names in our place
		abroad.DialContext = (&net.Dialer{Timeout: 10 * time.Second, Control: onlyPublic}).DialContext
		client = &http.Client{Transport: travel{u.Host, home, abroad}, CheckRedirect: checkRedirect}
	}
	return &Web{base: u, client: client}, nil
}

// ErrPrivate means that a source sends its visitors to an address that only
// this machine or its network can reach.
var ErrPrivate = errors.New("redirect into a private network")

// travel takes redirects away from home to public addresses only: a source
// must not make us knock at doors that it cannot reach itself. One such door
// is the viewer's own proxy, which would spend money.
type travel struct {
	home         string // host and port
	own, foreign http.RoundTripper
}

func (t travel) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == t.home {
		return t.own.RoundTrip(r)
	}
	return t.foreign.RoundTrip(r)
}

// shared is the address space of carriers (RFC 6598), which is not public.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// onlyPublic looks at the address itself, after names were resolved.
func onlyPublic(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s: %w", address, ErrPrivate)
	}
	if ip := a.Addr().Unmap(); !ip.IsGlobalUnicast() || ip.IsPrivate() || shared.Contains(ip) {
		return fmt.Errorf("%s: %w", address, ErrPrivate)
	}
	return nil
}

// newTransport keeps connections and asks for no compression.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // sealed bytes do not compress, and lengths must be exact
	t.MaxIdleConnsPerHost = 32  // a player's parallel fetches, without new handshakes
	t.IdleConnTimeout = 90 * time.Second
	t.ResponseHeaderTimeout = 10 * time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	t.ReadBufferSize = 64 << 10
	return t
}

// checkRedirect follows three, and none that drops the encryption.
func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > 3 || (via[0].URL.Scheme == "https" && r.URL.Scheme != "https") {
		return http.ErrUseLastResponse
	}
	return nil
}

func (w *Web) String() string { return strings.TrimSuffix(w.base.Redacted(), "/") }

// Open implements source.Source. An answer without the exact length, or with
// any encoding, matches htlcdash.ErrCorrupt before a byte of it is read.
func (w *Web) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base.JoinPath(htlcdash.SealedPath(b.Root)).String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept-Encoding", "identity")
	if w.Authorization != nil {
		if v := w.Authorization(ctx, "/"+htlcdash.SealedPath(b.Root)); v != "" {
			r.Header.Set("Authorization", v)
		}
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return nil, err
	}
	if err := check(resp, b); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

func check(resp *http.Response, b htlcdash.Blob) error {
	encoding := resp.Header.Get("Content-Encoding")
	switch {
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return htlcdash.ErrNotFound
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("answered %q", resp.Status)
	case encoding != "" && encoding != "identity":
		return fmt.Errorf("content encoding %q was not asked for: %w", encoding, htlcdash.ErrCorrupt)
	case resp.ContentLength != b.Length:
		return fmt.Errorf("content length %d, want %d: %w", resp.ContentLength, b.Length, htlcdash.ErrCorrupt)
	}
	return nil
}
