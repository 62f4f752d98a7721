// Package web is a source behind HTTP: a provider, a CDN, a bucket. It asks
// for BASE/sealed/Q, as spec/04-provider.md says.
//
// Deadlines are the library's: a fetch ends when its context does.
package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"htlcdash"
)

// A Web is a base URL. It implements source.Source.
type Web struct {
	base   *url.URL
	client *http.Client
}

// New returns the source below base, an http or https URL. A nil client means
// one made by [NewClient].
func New(base string, client *http.Client) (*Web, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("source %q: want a URL such as https://provider.example", base)
	}
	if client == nil {
		client = NewClient()
	}
	return &Web{u, client}, nil
}

// NewClient returns a client for bytes that are checked by their root: it keeps
// connections, asks for no compression, and follows at most three redirects.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // sealed bytes do not compress, and lengths must be exact
	t.MaxIdleConnsPerHost = 32  // a player's parallel fetches, without new handshakes
	t.IdleConnTimeout = 90 * time.Second
	t.ResponseHeaderTimeout = 10 * time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	t.ReadBufferSize = 64 << 10
	return &http.Client{Transport: t, CheckRedirect: checkRedirect}
}

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
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base.JoinPath("sealed", b.Root.String()).String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept-Encoding", "identity")
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
