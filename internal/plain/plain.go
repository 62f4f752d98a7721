// Package plain fetches titles that nobody has sealed, from any web server.
//
// It asks for nothing but what the MPD names beside itself, or below one absolute
// BaseURL of the whole MPD; another host than the MPD's must lie outside of local
// networks then. It follows no redirect to another host, and bounds all it takes.
// It does not choose what to fetch, nor try again.
package plain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/reach"
)

// Bounds on what is taken at once. Of an MPD it is [dash.MaxSize].
const (
	MaxSegment = htlcdash.MaxSegmentLength // bytes
	MaxInit    = 16 << 20                  // bytes of an init segment, or of the head of an on-demand file
)

// silence is how long a server may send nothing in the middle of a file.
const silence = 30 * time.Second

// ErrSilence means that a server stopped in the middle of a file.
var ErrSilence = fmt.Errorf("nothing more came for %v", silence)

// ErrPaid means that a server wants to be paid for a file.
var ErrPaid = errors.New("it is sold, not free")

// NewClient returns a client for the servers of plain titles. It has timeouts,
// keeps connections, and does not follow redirects to other hosts.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	t.ResponseHeaderTimeout = 30 * time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{Transport: t, CheckRedirect: stayAtHome}
}

// stayAtHome keeps a server from making us knock at doors of our own network.
// One of them is the viewer's proxy, which spends money for who knocks. What was
// asked for under TLS is not asked for in the clear.
func stayAtHome(r *http.Request, via []*http.Request) error {
	if len(via) > 3 || r.URL.Host != via[0].URL.Host || via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
		return http.ErrUseLastResponse
	}
	return nil
}

// A Title is a plain title. Its fields are not to be changed; its methods may be
// called from many goroutines at once.
type Title struct {
	MPD      []byte // as it came
	Manifest *dash.Manifest

	base   *url.URL     // of the files
	client *http.Client // for them
}

// openLimit is how long a server may take until a title can be played.
const openLimit = 2 * time.Minute

// Open fetches and reads the MPD at an http or https address, and the indexes
// that it names, within two minutes. A nil client is that of [NewClient].
func Open(ctx context.Context, address string, client *http.Client) (*Title, error) {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address of an MPD", address)
	}
	if client == nil {
		client = NewClient()
	}
	return open(ctx, base, client, reach.Client(false, 0))
}

// open is Open with a client for hosts that the MPD names.
func open(ctx context.Context, base *url.URL, client, abroad *http.Client) (t *Title, err error) {
	t = &Title{base: base, client: client}
	if t.MPD, err = t.get(ctx, base, dash.Resource{}, dash.MaxSize, nil); err != nil {
		return nil, err
	}
	if t.Manifest, err = dash.Parse(t.MPD); err != nil {
		return nil, fmt.Errorf("%s: %w", base, err)
	}
	if t.base, err = files(base, t.Manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", base.Redacted(), err)
	}
	if t.base.Host != base.Host {
		t.client = abroad
	}
	return t, t.Manifest.Resolve(ctx, func(ctx context.Context, path string, offset, length int64) ([]byte, error) {
		return t.Fetch(ctx, dash.Resource{Path: path, Offset: offset, Length: length}, nil)
	})
}

// files is where the files of an MPD lie.
func files(base *url.URL, m *dash.Manifest) (*url.URL, error) {
	ref, apart := m.Elsewhere()
	at, err := base.Parse(ref)
	if err != nil {
		return nil, fmt.Errorf("BaseURL %.100q is no address: %w", ref, htlcdash.ErrFormat)
	}
	switch {
	case at.Scheme != base.Scheme && at.Scheme != "https":
		return nil, fmt.Errorf("BaseURL %.100q: what was asked for by %s is asked for by that or https alone: %w", ref, base.Scheme, htlcdash.ErrFormat)
	case at.Host != base.Host && (at.Host == "" || reach.IsLocal(at.Hostname())):
		return nil, fmt.Errorf("BaseURL %.100q: %w", ref, reach.ErrLocal)
	}
	for _, a := range apart { // one that changes nothing does no harm
		if other, err := at.Parse(a); err != nil || other.Host != at.Host || other.Scheme != at.Scheme || folder(other) != folder(at) {
			return nil, fmt.Errorf("BaseURL %.100q of a part of the MPD is absolute: only one for the whole MPD is followed, so make it relative: %w", a, htlcdash.ErrFormat)
		}
	}
	return at, nil
}

func folder(u *url.URL) string { return u.Path[:strings.LastIndexByte(u.Path, '/')+1] }

// Fetch returns the bytes of r. The error matches [htlcdash.ErrNotFound] if there
// are none, [ErrPaid] if they are not free, [htlcdash.ErrCorrupt] if they end too
// early, [ErrSilence] if they stop to come, and [htlcdash.ErrFormat] if they are more
// than [MaxSegment]; where the MPD says so, nothing is asked for. As they come, came
// is told how many more are here, unless it is nil.
func (t *Title) Fetch(ctx context.Context, r dash.Resource, came func(n int)) ([]byte, error) {
	return t.fetch(ctx, r, MaxSegment, came)
}

// Init is Fetch of what a decoder needs before the first segment of rep: at most
// [MaxInit]. Without a path there is none.
func (t *Title) Init(ctx context.Context, rep *dash.Representation) ([]byte, error) {
	if rep.Init.Path == "" {
		return nil, fmt.Errorf("init segment: %w", htlcdash.ErrNotFound)
	}
	return t.fetch(ctx, rep.Init, MaxInit, nil)
}

// fetch takes at most limit bytes.
func (t *Title) fetch(ctx context.Context, r dash.Resource, limit int64, came func(n int)) ([]byte, error) {
	if r.Length > limit {
		return nil, fmt.Errorf("%s: a range of %d bytes, at most %d are taken: %w", r.Path, r.Length, limit, htlcdash.ErrFormat)
	}
	if r.Length > 0 {
		limit = r.Length
	}
	b, err := t.get(ctx, t.base.ResolveReference(&url.URL{Path: escapeColon(r.Path)}), r, limit, came)
	if err == nil && r.Length > 0 && int64(len(b)) != r.Length {
		err = fmt.Errorf("%s ends before byte %d: %w", r.Path, r.Offset+r.Length, htlcdash.ErrCorrupt)
	}
	return b, err
}

// get fetches at most limit bytes.
func (t *Title) get(ctx context.Context, from *url.URL, r dash.Resource, limit int64, came func(n int)) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if r.Length > 0 {
		want = http.StatusPartialContent
		req.Header.Set("Range", "bytes="+strconv.FormatInt(r.Offset, 10)+"-"+strconv.FormatInt(r.Offset+r.Length-1, 10))
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := status(resp, want); err != nil {
		return nil, fmt.Errorf("%s: %w", from.Redacted(), err)
	}
	if came != nil {
		resp.Body = &counted{resp.Body, came}
	}
	alarm := time.AfterFunc(silence, func() { cancel(ErrSilence) })
	defer alarm.Stop()
	resp.Body = &watched{resp.Body, alarm}
	b, err := readAll(resp, limit)
	if err != nil {
		if cause := context.Cause(ctx); cause == ErrSilence {
			err = cause
		}
		return nil, fmt.Errorf("%s: %w", from.Redacted(), err)
	}
	return b, nil
}

func status(resp *http.Response, want int) error {
	switch resp.StatusCode {
	case want:
		return nil
	case http.StatusNotFound, http.StatusGone:
		return htlcdash.ErrNotFound
	case http.StatusPaymentRequired:
		return ErrPaid
	}
	return fmt.Errorf("it answers %s, want %d", resp.Status, want)
}

// counted tells how many bytes came.
type counted struct {
	io.ReadCloser
	came func(n int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.came(n)
	return n, err
}

// watched puts an alarm off with each byte that comes.
type watched struct {
	io.ReadCloser
	alarm *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.alarm.Reset(silence)
	}
	return n, err
}

// readAll reads a body of at most limit bytes in one piece of memory.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	if n := resp.ContentLength; n > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are taken: %w", n, limit, htlcdash.ErrFormat)
	} else if n >= 0 {
		b := make([]byte, n)
		_, err := io.ReadFull(resp.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d bytes: %w", limit, htlcdash.ErrFormat)
	}
	return b, err
}

// escapeColon keeps a path with a colon in its first part from reading as a
// URL with a scheme (RFC 3986, 4.2).
func escapeColon(path string) string {
	if strings.Contains(path, ":") {
		return "./" + path
	}
	return path
}
