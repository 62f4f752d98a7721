package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/source"
)

// patience is how long the suite lets a hostile source be silent that is to be given
// up for it, and slow all others: a slow machine is silent, too.
const (
	patience = 300 * time.Millisecond
	slow     = time.Minute
)

// mostAsked is how often one fetch may ask one source.
const mostAsked = 8

// overrun is how many bytes beyond a blob may leave a server that does not stop:
// what lies in buffers on the way.
const overrun = 32 << 20

// RunHostile holds a source that is reached by HTTP to what a library relies
// on: whatever its server does, costs a fetch elsewhere, never a wrong byte,
// and only so many requests and bytes. serve returns the source of an honest
// server of blobs, which answers through the handler that spoil makes of its
// own.
func RunHostile(t *testing.T, serve func(t *testing.T, blobs map[htlcdash.Blob][]byte, spoil func(http.Handler) http.Handler) source.Source) {
	b, data := Blob(7, 1<<20)
	blobs := map[htlcdash.Blob][]byte{b: data}
	inside, knocked := private(t, data)
	for _, h := range hostilities(t, inside) {
		t.Run(h.name, func(t *testing.T) {
			s := &spoiler{do: h.do}
			hostile := serve(t, blobs, s.over)
			honest := NewMemory(blobs)
			l, err := source.NewLibrary(source.Options{Stall: patience}, hostile, honest)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := l.Get(t.Context(), b); err != nil || !bytes.Equal(got, data) {
				t.Errorf("with an honest source beside it: %d bytes, %v", len(got), err)
			}
			if n := s.asked.Load(); n == 0 || n > mostAsked {
				t.Errorf("it was asked %d times, want one to %d", n, mostAsked)
			}
			stall := patience
			if h.want != nil && !errors.Is(h.want, source.ErrStalled) {
				stall = slow
			}
			alone, err := source.NewLibrary(source.Options{Stall: stall}, serve(t, blobs, s.over))
			if err != nil {
				t.Fatal(err)
			}
			got, err := alone.Get(t.Context(), b)
			if err == nil || h.want != nil && !errors.Is(err, h.want) {
				t.Errorf("alone: %d bytes, %v, want %v", len(got), err, h.want)
			}
			if n := s.sent.Load(); n > 2*(b.Length+overrun) {
				t.Errorf("%d bytes were taken of a server that sends for ever", n)
			}
		})
	}
	if n := knocked.Load(); n > 0 {
		t.Errorf("%d requests were led to a server that only this machine can reach", n)
	}
}

// private is a server at which no source may make us knock.
func private(t *testing.T, data []byte) (url string, knocked *atomic.Int64) {
	knocked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		knocked.Add(1)
		_, _ = w.Write(data)
	}))
	t.Cleanup(s.Close)
	return s.URL, knocked
}

// A spoiler stands before an honest server and spoils its answers to who asks
// for sealed bytes.
type spoiler struct {
	do    func(w http.ResponseWriter, r *http.Request, honest *httptest.ResponseRecorder)
	asked atomic.Int64 // GETs of sealed bytes
	sent  atomic.Int64 // bytes of answers to these
}

func (s *spoiler) over(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/"+htlcdash.SealedFolder+"/") {
			h.ServeHTTP(w, r)
			return
		}
		s.asked.Add(1)
		honest := httptest.NewRecorder()
		h.ServeHTTP(honest, r)
		s.do(counting{w, &s.sent}, r, honest)
	})
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

func (c counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

type hostility struct {
	name string
	do   func(w http.ResponseWriter, r *http.Request, honest *httptest.ResponseRecorder)
	want error // of a library without another source; nil: any
}

func hostilities(t *testing.T, inside string) []hostility {
	end, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	stall := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-end.Done():
		}
	}
	// as repeats the honest answer's header, with another length.
	as := func(w http.ResponseWriter, honest *httptest.ResponseRecorder, length int) {
		maps.Copy(w.Header(), honest.Header())
		w.Header().Set("Content-Length", strconv.Itoa(length))
		w.WriteHeader(honest.Code)
	}
	moved := func(to func(*http.Request) string) func(http.ResponseWriter, *http.Request, *httptest.ResponseRecorder) {
		return func(w http.ResponseWriter, r *http.Request, _ *httptest.ResponseRecorder) {
			w.Header().Set("Location", to(r))
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
	return []hostility{
		{"lies", func(w http.ResponseWriter, _ *http.Request, h *httptest.ResponseRecorder) {
			b := bytes.Clone(h.Body.Bytes())
			b[len(b)/2] ^= 1
			as(w, h, len(b))
			_, _ = w.Write(b)
		}, htlcdash.ErrCorrupt},
		{"truncates", func(w http.ResponseWriter, _ *http.Request, h *httptest.ResponseRecorder) {
			b := h.Body.Bytes()[:h.Body.Len()-htlcdash.LeafSize]
			as(w, h, len(b))
			_, _ = w.Write(b)
		}, htlcdash.ErrCorrupt},
		{"gives nothing", func(w http.ResponseWriter, _ *http.Request, h *httptest.ResponseRecorder) { as(w, h, 0) }, htlcdash.ErrCorrupt},
		{"says more than there is", func(w http.ResponseWriter, _ *http.Request, h *httptest.ResponseRecorder) {
			b := h.Body.Bytes()
			as(w, h, len(b)+1)
			_, _ = w.Write(append(bytes.Clone(b), 0))
		}, htlcdash.ErrCorrupt},
		{"gives without end", func(w http.ResponseWriter, r *http.Request, h *httptest.ResponseRecorder) {
			as(w, h, 1<<40)
			for junk := make([]byte, 64<<10); r.Context().Err() == nil && end.Err() == nil; {
				if _, err := w.Write(junk); err != nil {
					return
				}
			}
		}, htlcdash.ErrCorrupt},
		{"gives without end, of a length not told", func(w http.ResponseWriter, r *http.Request, h *httptest.ResponseRecorder) {
			w.WriteHeader(http.StatusOK)
			for junk := make([]byte, 64<<10); r.Context().Err() == nil && end.Err() == nil; {
				if _, err := w.Write(junk); err != nil {
					return
				}
			}
		}, nil},
		{"dies at once", func(http.ResponseWriter, *http.Request, *httptest.ResponseRecorder) { panic(http.ErrAbortHandler) }, nil},
		{"dies half way", func(w http.ResponseWriter, _ *http.Request, h *httptest.ResponseRecorder) {
			as(w, h, h.Body.Len())
			_, _ = w.Write(h.Body.Bytes()[:h.Body.Len()/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, nil},
		{"stalls at once", func(w http.ResponseWriter, r *http.Request, _ *httptest.ResponseRecorder) {
			select { // without a header
			case <-r.Context().Done():
			case <-end.Done():
			}
		}, source.ErrStalled},
		{"stalls after the header", func(w http.ResponseWriter, r *http.Request, h *httptest.ResponseRecorder) {
			as(w, h, h.Body.Len())
			stall(w, r)
		}, source.ErrStalled},
		{"stalls half way", func(w http.ResponseWriter, r *http.Request, h *httptest.ResponseRecorder) {
			as(w, h, h.Body.Len())
			_, _ = w.Write(h.Body.Bytes()[:h.Body.Len()/2])
			stall(w, r)
		}, source.ErrStalled},
		{"is out of order", func(w http.ResponseWriter, _ *http.Request, _ *httptest.ResponseRecorder) {
			http.Error(w, "sorry", http.StatusServiceUnavailable)
		}, nil},
		{"shows another page", func(w http.ResponseWriter, _ *http.Request, _ *httptest.ResponseRecorder) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>please log in</html>")
		}, nil},
		{"has lost it", func(w http.ResponseWriter, r *http.Request, _ *httptest.ResponseRecorder) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>`)
		}, htlcdash.ErrNotFound},
		{"turns in circles", moved(func(r *http.Request) string { return r.URL.RequestURI() }), nil},
		{"redirects into a private network", moved(func(*http.Request) string { return inside }), nil},
		{"redirects to nowhere", moved(func(*http.Request) string { return "http://[::]:1/" }), nil},
		{"speaks another language", func(w http.ResponseWriter, _ *http.Request, h *httptest.ResponseRecorder) {
			h.Header().Set("Content-Encoding", "gzip")
			as(w, h, h.Body.Len())
			_, _ = w.Write(h.Body.Bytes())
		}, htlcdash.ErrCorrupt},
	}
}
