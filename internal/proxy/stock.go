package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
)

// stock is where the pieces of one title come from. Both kinds, bought and
// free, go through the same code from here on, so that what payment adds can
// be measured.
type stock interface {
	// head returns what a decoder needs before the first segment. It is free.
	head(ctx context.Context, rep *dash.Representation) ([]byte, error)
	// segment returns one segment, whole and verified. It may cost money.
	segment(ctx context.Context, rep *dash.Representation, index int) ([]byte, error)
	// length returns the length of a segment in bytes and costs nothing; 0 if
	// it is not known before the segment is here.
	length(ctx context.Context, rep *dash.Representation, index int) (int64, error)
	// seals returns what the publisher says of all segments; nil for what is
	// free. They are not changed.
	seals(ctx context.Context, rep *dash.Representation) ([]htlcdash.Segment, error)
	// prepare asks for offers for pieces, so that buying them needs no round
	// trip but the payment. It spends nothing.
	prepare(ctx context.Context, pieces []piece)
	// ready does more for a few pieces: it has the offers proved, too. It returns
	// when they are, or could not be.
	ready(ctx context.Context, pieces []piece)
	// ladder returns what the agent may buy, with sound in a language; nil for
	// what is free.
	ladder(ctx context.Context, language string) (*title.Ladder, error)
	// download fetches the sealed bytes of a segment, and spends nothing.
	download(ctx context.Context, rep *dash.Representation, index int) error
}

// sealed is the stock of a sealed title: its keys are bought.
type sealed struct {
	title *title.Title
	buyer Buyer
}

func (s sealed) head(ctx context.Context, rep *dash.Representation) ([]byte, error) {
	return s.title.Init(ctx, rep.ID)
}

func (s sealed) segment(ctx context.Context, rep *dash.Representation, index int) ([]byte, error) {
	seg, err := s.seal(ctx, rep, index)
	if err != nil {
		return nil, err
	}
	return s.buyer.Segment(ctx, seg)
}

func (s sealed) seal(ctx context.Context, rep *dash.Representation, index int) (htlcdash.Segment, error) {
	segs, err := s.title.Segments(ctx, rep.ID)
	if err != nil {
		return htlcdash.Segment{}, err
	}
	return segs[index], nil // title checked that there are as many as in the MPD
}

func (s sealed) length(ctx context.Context, rep *dash.Representation, index int) (int64, error) {
	seg, err := s.seal(ctx, rep, index)
	return seg.Length, err
}

func (s sealed) seals(ctx context.Context, rep *dash.Representation) ([]htlcdash.Segment, error) {
	return s.title.Segments(ctx, rep.ID)
}

func (s sealed) ladder(ctx context.Context, language string) (*title.Ladder, error) {
	return s.title.Ladder(ctx, language)
}

func (s sealed) prepare(ctx context.Context, pieces []piece) {
	var segs []htlcdash.Segment
	for _, p := range pieces {
		if seg, err := s.seal(ctx, p.rep, p.index); err == nil {
			segs = append(segs, seg)
		}
	}
	s.buyer.Prepare(ctx, segs)
}

func (s sealed) ready(ctx context.Context, pieces []piece) {
	var work sync.WaitGroup
	for _, p := range pieces {
		work.Go(func() {
			if seg, err := s.seal(ctx, p.rep, p.index); err == nil {
				_ = s.buyer.Ready(ctx, seg) // else it is asked for when it is bought
			}
		})
	}
	work.Wait()
}

func (s sealed) download(ctx context.Context, rep *dash.Representation, index int) error {
	seg, err := s.seal(ctx, rep, index)
	if err != nil {
		return err
	}
	return s.buyer.Download(ctx, seg)
}

// open is the stock of a plain title on a web server. Nothing is paid.
type open struct {
	base   *url.URL // of the MPD
	client *http.Client
}

func (o open) head(ctx context.Context, rep *dash.Representation) ([]byte, error) {
	if rep.Init.Path == "" {
		return nil, fmt.Errorf("init segment: %w", htlcdash.ErrNotFound)
	}
	return o.fetch(ctx, rep.Init)
}

func (o open) segment(ctx context.Context, rep *dash.Representation, index int) ([]byte, error) {
	return o.fetch(ctx, rep.Segments[index].Resource)
}

func (o open) length(_ context.Context, rep *dash.Representation, index int) (int64, error) {
	return rep.Segments[index].Length, nil
}

func (open) seals(context.Context, *dash.Representation) ([]htlcdash.Segment, error) { return nil, nil }
func (open) ladder(context.Context, string) (*title.Ladder, error)                   { return nil, nil }
func (open) prepare(context.Context, []piece)                                        {}
func (open) ready(context.Context, []piece)                                          {}
func (open) download(context.Context, *dash.Representation, int) error               { return nil }

func (o open) fetch(ctx context.Context, r dash.Resource) ([]byte, error) {
	resp, err := o.do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	limit := int64(htlcdash.MaxSegmentLength)
	if r.Length > 0 {
		limit = r.Length
	}
	b, err := readAll(resp, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Path, err)
	}
	if r.Length > 0 && int64(len(b)) != r.Length {
		return nil, fmt.Errorf("%s ends before byte %d: %w", r.Path, r.Offset+r.Length, htlcdash.ErrCorrupt)
	}
	return b, nil
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

func (o open) do(ctx context.Context, r dash.Resource) (*http.Response, error) {
	u := o.base.ResolveReference(&url.URL{Path: escapeColon(r.Path)})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if r.Length > 0 {
		want = http.StatusPartialContent
		req.Header.Set("Range", "bytes="+strconv.FormatInt(r.Offset, 10)+"-"+strconv.FormatInt(r.Offset+r.Length-1, 10))
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == want {
		return resp, nil
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", u, htlcdash.ErrNotFound)
	}
	return nil, fmt.Errorf("%s answers %s, want %d", u, resp.Status, want)
}

// escapeColon keeps a path with a colon in its first part from reading as a
// URL with a scheme (RFC 3986, 4.2).
func escapeColon(path string) string {
	if strings.Contains(path, ":") {
		return "./" + path
	}
	return path
}

// manifest fetches and reads the MPD of an open title.
func (o open) manifest(ctx context.Context) ([]byte, *dash.Manifest, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.base.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s answers %s", o.base, resp.Status)
	}
	b, err := readAll(resp, dash.MaxSize)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.base, err)
	}
	m, err := dash.Parse(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.base, err)
	}
	return b, m, m.Resolve(ctx, func(ctx context.Context, path string, offset, length int64) ([]byte, error) {
		return o.fetch(ctx, dash.Resource{Path: path, Offset: offset, Length: length})
	})
}
