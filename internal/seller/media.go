package seller

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
)

// Caching. What stands under a title's name changes when it is published
// again, so it is asked for again each time, and 304 is cheap. Sealed bytes
// never change. What was paid for belongs to who paid.
const (
	cacheFree    = "no-cache"
	cacheSealed  = "public, max-age=31536000, immutable"
	cachePaid    = "private, max-age=3600"
	cacheCarried = "private, max-age=31536000, immutable"
)

// serveSealed answers GET /sealed/{root}. Where the bytes lie in the title's
// folder they do not pass through this program: ServeContent hands the file to
// the kernel.
func (s *Seller) serveSealed(w http.ResponseWriter, r *http.Request) error {
	q, err := htlcdash.ParseRoot(r.PathValue("root"))
	if err != nil {
		return err
	}
	t := s.shelf.Load().sealed[q]
	if t == nil {
		return fmt.Errorf("sealed bytes %s: %w", q, htlcdash.ErrNotFound)
	}
	blob := t.segments[q].SealedBlob()
	size := blob.Length
	etag := `"` + q.String() + `"`
	served, err := s.allowSealed(r, t.ID, size, etag)
	if err != nil {
		return err
	}
	defer served(w)
	f, err := t.local(r.Context(), blob)
	if err != nil && !t.elsewhere(err) {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", cacheSealed)
	if s.config.BytePrice > 0 {
		h.Set("Cache-Control", cacheCarried)
	}
	h.Set("ETag", etag)
	if err != nil {
		return s.serveCarried(w, r, blob)
	}
	defer f.Close()
	patience(w, size)
	defer cork(r)()
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// allowSealed takes what r asks for, of size bytes, out of the ration of who
// sent it: of its credential, or of its address; or on the account of its
// credential, where bytes have a price. The caller calls served when
// it has answered, which gives back to a credential what was not sent.
func (s *Seller) allowSealed(r *http.Request, title htlcdash.TitleID, size int64, etag string) (served func(http.ResponseWriter), err error) {
	if r.Method == http.MethodHead {
		return func(http.ResponseWriter) {}, nil
	}
	if s.config.BytePrice > 0 {
		return s.allowCarriage(r, title, size, etag)
	}
	v, err := s.guard.admit(r, nil, s.from(r))
	if errors.Is(err, errStranger) {
		if s.strangerBytes == nil {
			return func(http.ResponseWriter) {}, nil
		}
		first, last, _ := requestedRange(r, rangedFile{length: size, etag: etag})
		if wait, ok := s.strangerBytes.allow(s.from(r), int((max(1, last-first+1)+1023)>>10)); !ok {
			return nil, errLimited{wait}
		}
		return func(http.ResponseWriter) {}, nil
	}
	if err == nil {
		err = v.served(size)
	}
	return func(w http.ResponseWriter) {
		if rec, ok := w.(*recorder); ok {
			_ = v.served(min(0, rec.bytes-size))
		}
	}, err
}

// worth is the sealed bytes that a sale pays for: those of all segments that
// its key opens.
func (s *Seller) worth(sale ledger.Sale) (bytes int64) {
	if sale.Scheme == exchange.SchemeKeyed {
		return s.chunkWorth(sale)
	}
	t := s.shelf.Load().byID[sale.Title]
	if t == nil || t.segments[sale.Sealed] == nil {
		return 0
	}
	seg := t.segments[sale.Sealed]
	from, to := seg.Opens()
	for _, other := range t.lists[seg.Representation][from:to] {
		bytes += htlcdash.SealedLength(other.Length)
	}
	return bytes
}

// serveTitle answers GET /t/{name}/{path}.
func (s *Seller) serveTitle(w http.ResponseWriter, r *http.Request) error {
	t := s.shelf.Load().byName[r.PathValue("name")]
	if t == nil {
		return fmt.Errorf("title %q: %w", r.PathValue("name"), htlcdash.ErrNotFound)
	}
	path := r.PathValue("path")
	if f, ok := t.free[path]; ok {
		return serveFree(w, r, f)
	}
	if f, ok := t.ranged[path]; ok {
		return s.serveRanged(w, r, t, path, f)
	}
	rep, index, ok := t.Manifest.Find(path, 0)
	if !ok || index < 0 {
		return fmt.Errorf("%q in title %s: %w", path, t.name, htlcdash.ErrNotFound)
	}
	seg, err := t.segment(rep.ID, index)
	if err != nil {
		return err
	}
	return s.serveSegment(w, r, t, media{segment: seg, mime: rep.MimeType, total: seg.Length, named: true})
}

func serveFree(w http.ResponseWriter, r *http.Request, f freeFile) error {
	b, err := f.content(r.Context())
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", contentType(f.mime))
	h.Set("Cache-Control", cacheFree)
	h.Set("ETag", f.etag)
	patience(w, int64(len(b)))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	return nil
}

// A media is a segment as a request for plain bytes names it.
type media struct {
	segment htlcdash.Segment
	mime    string
	offset  int64 // where the segment begins in its file
	total   int64 // bytes of that file
	named   bool  // the request names this segment and no other
	etag    string
}

// serveRanged answers for a file whose ranges are the free head and segments.
// A request that begins in one part gets that part at most, as RFC 9110, 14.2
// allows. A request without a range names no segment: it gets a 402 that asks
// for no money, because no single payment would open it.
func (s *Seller) serveRanged(w http.ResponseWriter, r *http.Request, t *sealedTitle, path string, f rangedFile) error {
	w.Header().Set("Accept-Ranges", "bytes")
	first, last, ok := requestedRange(r, f)
	if ok && first >= f.length {
		w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(f.length, 10))
		return errRange
	}
	rep, index, found := t.Manifest.Find(path, first)
	if !found {
		return fmt.Errorf("byte %d of %q in title %s: %w", first, path, t.name, htlcdash.ErrNotFound)
	}
	if !ok {
		index = max(index, 0)
	}
	if index < 0 {
		head, err := t.Init(r.Context(), rep.ID)
		if err != nil {
			return err
		}
		h := w.Header()
		h.Set("Content-Type", contentType(f.mime))
		h.Set("Cache-Control", cacheFree)
		h.Set("ETag", f.etag)
		servePart(w, r, part{bytes: head, offset: rep.Init.Offset, total: f.length}, first, last)
		return nil
	}
	seg, err := t.segment(rep.ID, index)
	if err != nil {
		return err
	}
	m := media{segment: seg, mime: f.mime, offset: rep.Segments[index].Offset, total: f.length, named: ok, etag: f.etag}
	return s.serveSegment(w, r, t, m)
}

// serveSegment gives the plain bytes of a segment to who has paid, and to the
// others says what it costs.
func (s *Seller) serveSegment(w http.ResponseWriter, r *http.Request, t *sealedTitle, m media) error {
	h := w.Header()
	h.Set("Vary", "Authorization")
	if s.price(m.segment) > 0 {
		grant, err := s.admit(r, t, m)
		if err != nil {
			s.askMoney(w, r, t, m, err)
			return nil
		}
		if grant.Receipt != "" {
			h.Set("Payment-Receipt", grant.Receipt)
		}
	}
	plain, done, err := s.open(r.Context(), t, m.segment)
	if err != nil {
		h.Del("Payment-Receipt")
		return err
	}
	defer done()
	h.Set("Content-Type", contentType(m.mime))
	h.Set("Cache-Control", cachePaid)
	if m.etag == "" { // the segment is a file of its own
		h.Set("ETag", `"`+m.segment.Plain.String()+`"`)
		patience(w, m.segment.Length)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(plain))
		return nil
	}
	h.Set("ETag", m.etag)
	first, last, _ := requestedRange(r, rangedFile{length: m.total, etag: m.etag})
	servePart(w, r, part{bytes: plain, offset: m.offset, total: m.total}, first, last)
	return nil
}

func contentType(mime string) string {
	if mime == "" {
		return "application/octet-stream" // else net/http would guess
	}
	return mime
}

// requestedRange returns the first range that r asks for in a file, last byte
// included, and whether it asks for any.
func requestedRange(r *http.Request, f rangedFile) (first, last int64, ok bool) {
	spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	if cond := r.Header.Get("If-Range"); !ok || cond != "" && cond != f.etag {
		return 0, f.length - 1, false
	}
	spec, _, _ = strings.Cut(spec, ",")
	from, to, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return 0, f.length - 1, false
	}
	last = f.length - 1
	if from == "" { // the last bytes
		n, err := parseOffset(to)
		if err != nil || n == 0 {
			return 0, last, false
		}
		return max(0, f.length-n), last, true
	}
	first, err := parseOffset(from)
	if err != nil {
		return 0, last, false
	}
	if to != "" {
		end, err := parseOffset(to)
		if err != nil || end < first {
			return 0, last, false
		}
		last = min(last, end)
	}
	return first, last, true
}

func parseOffset(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	return int64(n), err
}

// A part is a stretch of a file of which we have no more. It reads as the
// whole file, and fails outside of the stretch.
type part struct {
	bytes  []byte
	offset int64 // of bytes in the file
	total  int64 // bytes of the file
	at     int64
}

func (p *part) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.at
	case io.SeekEnd:
		offset += p.total
	}
	p.at = offset
	return offset, nil
}

func (p *part) Read(b []byte) (int, error) {
	i := p.at - p.offset
	if i < 0 || i >= int64(len(p.bytes)) {
		return 0, errors.New("seller: read outside of the part")
	}
	n := copy(b, p.bytes[i:])
	p.at += int64(n)
	return n, nil
}

// servePart sends the bytes from first to last, as far as p has them.
func servePart(w http.ResponseWriter, r *http.Request, p part, first, last int64) {
	last = min(last, p.offset+int64(len(p.bytes))-1)
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, last))
	patience(w, last-first+1)
	http.ServeContent(w, r, "", time.Time{}, &p)
}

// patience gives a slow client time for n bytes: half a minute and as long as
// 16 KiB a second take. A stalled one goes.
func patience(w http.ResponseWriter, n int64) {
	d := 30*time.Second + time.Duration(n/(16<<10))*time.Second
	// Fails where the connection has no deadlines, in tests.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
}
