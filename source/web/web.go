// Package web is a source behind HTTP: a provider, a CDN, a public bucket, the
// read side of a Gaia hub. It asks for BASE/sealed/ab/ab..., as
// spec/04-provider.md says, so any copy of a title's folder serves. It asks for
// whole files, since not every store knows ranges.
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
	"net/url"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/reach"
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
	u, err := parse(base)
	if err != nil {
		return nil, err
	}
	if client == nil {
		client = &http.Client{Transport: travel{u.Host, NewTransport(), newPublicTransport()}, CheckRedirect: checkRedirect}
	}
	return &Web{base: u, client: client}, nil
}

// NewPublic is New for a base that a stranger names: it never reaches into a
// private network, whatever base or a name in it leads to, and goes through no
// proxy. Open then gives an error that matches [ErrPrivate].
func NewPublic(base string) (*Web, error) {
	u, err := parse(base)
	if err != nil {
		return nil, err
	}
	return &Web{base: u, client: &http.Client{Transport: newPublicTransport(), CheckRedirect: checkRedirect}}, nil
}

func parse(base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("source: want a URL such as https://provider.example") // what was given may hold a password
	}
	return u, nil
}

// ErrPrivate means that a stranger's address, or a redirect, leads to what only
// this machine or its network can reach.
var ErrPrivate = reach.ErrLocal

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

// newPublicTransport reaches public addresses only.
func newPublicTransport() *http.Transport {
	t := NewTransport()
	t.Proxy = nil // it would look up names in our place
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, Control: reach.OnlyPublic}).DialContext
	return t
}

// NewTransport returns what sources of sealed bytes go by: it keeps connections
// and asks for no compression.
func NewTransport() *http.Transport {
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

// Open implements source.Source. An answer of another length than b's, or with
// any encoding, matches htlcdash.ErrCorrupt before a byte of it is read. A store
// may leave the length unsaid.
func (w *Web) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	resp, err := w.ask(ctx, http.MethodGet, htlcdash.SealedPath(b.Root))
	if err != nil {
		return nil, err
	}
	if err := fits(resp, b); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

// Has implements source.Prober by a HEAD request.
func (w *Web) Has(ctx context.Context, b htlcdash.Blob) error {
	resp, err := w.ask(ctx, http.MethodHead, htlcdash.SealedPath(b.Root))
	if err != nil {
		return err
	}
	return errors.Join(fits(resp, b), resp.Body.Close())
}

func fits(resp *http.Response, b htlcdash.Blob) error {
	if resp.ContentLength >= 0 && resp.ContentLength != b.Length {
		return fmt.Errorf("content length %d, want %d: %w", resp.ContentLength, b.Length, htlcdash.ErrCorrupt)
	}
	return nil
}

// Length returns the length of the file at a path below the base.
func (w *Web) Length(ctx context.Context, path string) (int64, error) {
	resp, err := w.ask(ctx, http.MethodHead, path)
	if err != nil {
		return 0, err
	}
	if err := resp.Body.Close(); err != nil {
		return 0, err
	}
	if resp.ContentLength < 0 {
		return 0, fmt.Errorf("%s: its length is not told", path)
	}
	return resp.ContentLength, nil
}

// Get returns the file at a path below the base. One of more than limit bytes is
// an error that matches htlcdash.ErrCorrupt.
func (w *Web) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	resp, err := w.ask(ctx, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes: %w", path, limit, htlcdash.ErrCorrupt)
	}
	return data, err
}

// ask returns a good answer, whose body the caller closes.
func (w *Web) ask(ctx context.Context, method, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.base.JoinPath(path).String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept-Encoding", "identity")
	if w.Authorization != nil {
		if v := w.Authorization(ctx, "/"+path); v != "" {
			r.Header.Set("Authorization", v)
		}
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return nil, err
	}
	if err := check(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func check(resp *http.Response) error {
	encoding := resp.Header.Get("Content-Encoding")
	switch {
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return htlcdash.ErrNotFound
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("answered %q", resp.Status)
	case encoding != "" && encoding != "identity" && encoding != "aws-chunked": // which is how some objects came, not how they leave
		return fmt.Errorf("content encoding %q was not asked for: %w", encoding, htlcdash.ErrCorrupt)
	}
	return nil
}
