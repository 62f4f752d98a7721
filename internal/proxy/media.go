package proxy

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
)

// writeLimit ends a response to a player that does not read.
const writeLimit = 30 * time.Second

// errHold means that a player waited as long as it may.
var errHold = errors.New("not here yet")

// A span is a run of bytes of one file as the player sees it: a head, or a
// media segment.
type span struct {
	piece
	offset, length int64
}

// file returns the spans of the file at path in order, with their lengths.
// They follow each other without gaps from byte 0, except in a file that is
// broken.
func (f *film) file(ctx context.Context, name string) ([]span, error) {
	rep, index, ok := f.manifest.Find(name, 0)
	if !ok {
		return nil, fmt.Errorf("%q is no part of the title: %w", name, htlcdash.ErrNotFound)
	}
	if part := resource(rep, index); part.Length == 0 {
		n, err := f.length(ctx, rep, index)
		return []span{{piece{rep, index}, 0, n}}, err
	}
	var spans []span
	for at := int64(0); ok; rep, index, ok = f.manifest.Find(name, at) {
		part := resource(rep, index)
		if part.Offset != at || part.Length <= 0 {
			return nil, fmt.Errorf("%q has overlapping segments at byte %d: %w", name, at, htlcdash.ErrFormat)
		}
		spans = append(spans, span{piece{rep, index}, at, part.Length})
		at += part.Length
	}
	return spans, nil
}

func resource(rep *dash.Representation, index int) dash.Resource {
	if index < 0 {
		return rep.Init
	}
	return rep.Segments[index].Resource
}

func (f *film) length(ctx context.Context, rep *dash.Representation, index int) (int64, error) {
	if index >= 0 {
		return f.stock.length(ctx, rep, index)
	}
	b, err := f.stock.head(ctx, rep)
	return int64(len(b)), err
}

// media answers a request for a file of the title or a range of it. Only the
// segments that the range touches are bought, and each only when the player
// has read what is before it.
func (p *Proxy) media(w http.ResponseWriter, r *http.Request, f *film, name string) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(r.Context(), p.patience(r), errHold)
	defer cancel()
	spans, err := f.file(ctx, name)
	if err != nil {
		p.fail(w, r, f, err)
		return
	}
	if r.Method != http.MethodHead && isBrowser(r) && len(spans) == 1 {
		if s, ok := f.mend(spans[0].piece, cmcd(r)); ok {
			p.sendMended(ctx, w, r, f, s)
			return
		}
	}
	last := &spans[len(spans)-1]
	if last.length == 0 { // a free file whose length nobody knows yet
		data, err := f.ask(ctx, last.piece, cmcd(r))
		if err != nil {
			p.fail(w, r, f, err)
			return
		}
		last.length = int64(len(data))
	}
	size := last.offset + last.length
	h := w.Header()
	h.Set("Accept-Ranges", "bytes")
	from, to, partial, err := parseRange(r.Header.Get("Range"), size)
	if err != nil {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "This range is not to be had: "+err.Error()+".")
		return
	}
	spans = within(spans, from, to)
	var first []byte
	if r.Method != http.MethodHead && len(spans) > 0 {
		if first, err = f.ask(ctx, spans[0].piece, cmcd(r)); err != nil {
			p.fail(w, r, f, err)
			return
		}
	}
	h.Set("Content-Type", mediaType(spans, name))
	h.Set("Content-Length", strconv.FormatInt(to-from, 10))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Server-Timing", fmt.Sprintf("hold;dur=%.1f", float64(time.Since(began).Microseconds())/1000))
	status := http.StatusOK
	if partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, size))
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		p.send(w, r, f, spans, first, from, to)
	}
}

// ourPatience is how long our own page may be held: its player waits 20 s. To
// end sooner would mislead it, since what it asks for again is there by then,
// and looks as if it had come fast.
const ourPatience = 15 * time.Second

func (p *Proxy) patience(r *http.Request) time.Duration {
	if r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return max(p.hold, ourPatience)
	}
	return p.hold
}

// send writes bytes from..to-1 of spans. What goes wrong now cannot be told by
// a status any more: the connection is cut, so that no player takes a part for
// the whole.
func (p *Proxy) send(w http.ResponseWriter, r *http.Request, f *film, spans []span, data []byte, from, to int64) {
	out := http.NewResponseController(w)
	for i, s := range spans {
		if i > 0 {
			var err error
			if data, err = f.ask(r.Context(), s.piece, cmcd(r)); err != nil {
				f.note(err)
				panic(http.ErrAbortHandler)
			}
		}
		if int64(len(data)) != s.length {
			p.log.Warn("segment is not as long as the MPD says", "title", f.name, "representation", s.rep.ID, "index", s.index)
			panic(http.ErrAbortHandler)
		}
		out.SetWriteDeadline(time.Now().Add(writeLimit)) // best effort
		n, err := w.Write(data[max(from-s.offset, 0):min(to-s.offset, s.length)])
		if err != nil {
			return // the player is gone
		}
		f.delivered(s.piece, n)
	}
}

// fail tells a player that it cannot have something now.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, f *film, err error) {
	if r.Context().Err() != nil {
		return // nobody listens
	}
	t := f.note(err)
	status, retry := http.StatusServiceUnavailable, "2"
	switch {
	case errors.Is(err, errHold):
		status, retry = http.StatusGatewayTimeout, "1"
	case errors.Is(err, htlcdash.ErrNotFound):
		status, retry = http.StatusNotFound, ""
	}
	if retry != "" {
		w.Header().Set("Retry-After", retry)
	}
	if status == http.StatusNotFound {
		refuse(w, status, "There is no such file in this title.")
		return
	}
	refuse(w, status, t.Text+" "+t.Then)
}

// within returns the spans that bytes from..to-1 touch.
func within(spans []span, from, to int64) []span {
	for len(spans) > 0 && spans[0].offset+spans[0].length <= from {
		spans = spans[1:]
	}
	for len(spans) > 0 && spans[len(spans)-1].offset >= to {
		spans = spans[:len(spans)-1]
	}
	return spans
}

// parseRange reads a Range header for a file of size bytes (RFC 9110, 14.1.2)
// and returns the bytes from..to-1. What is no byte range is ignored, as the
// RFC says; several ranges are refused, because no player asks for them and
// each byte may cost money.
func parseRange(header string, size int64) (from, to int64, partial bool, err error) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok || !dash {
		return 0, size, false, nil
	}
	if strings.Contains(spec, ",") {
		return 0, 0, false, errors.New("several ranges in one request are not served")
	}
	a, errA := strconv.ParseInt(first, 10, 64)
	b, errB := strconv.ParseInt(last, 10, 64)
	switch {
	case first == "" && errB == nil && b > 0: // the last b bytes
		from, to = max(size-b, 0), size
	case errA == nil && last == "":
		from, to = a, size
	case errA == nil && errB == nil && a <= b:
		from, to = a, min(b, size-1)+1
	case first == "" && errB == nil:
		from = size // a suffix of no bytes
	default:
		return 0, size, false, nil
	}
	if from >= size {
		return 0, 0, false, fmt.Errorf("the file has %d bytes", size)
	}
	return from, to, true, nil
}

// mediaType tells what the bytes are. Players judge by the MPD, so this is for
// those who look at a single file; a browser among them would run what an MPD
// calls a page or a script, so it is media or nothing that is told.
func mediaType(spans []span, name string) string {
	if len(spans) > 0 {
		if t := mediaOnly(spans[0].rep.MimeType); t != "" {
			return t
		}
	}
	if ext := path.Ext(name); ext == ".mp4" || ext == ".m4s" {
		return "video/mp4"
	}
	return "application/octet-stream"
}

// mediaOnly returns a media type as it is written plainly; "" if it is none.
func mediaOnly(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil {
		return ""
	}
	if top, _, _ := strings.Cut(t, "/"); top == "video" || top == "audio" {
		return t
	}
	switch t {
	case "application/mp4", "application/ttml+xml", "text/vtt", "image/jpeg", "image/png", "image/webp":
		return t
	}
	return ""
}

func cmcd(r *http.Request) dash.CMCD { return dash.ParseCMCD(r.URL.Query(), r.Header) }
