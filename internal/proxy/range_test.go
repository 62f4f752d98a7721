package proxy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/internal/proxy"
	"htlcdash/internal/publish"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
)

// onDemand writes a title of the on-demand profile: one file, whose head ends
// with a sidx that names four segments. It returns the folder and the file.
func onDemand(t testing.TB) (dir string, file []byte) {
	t.Helper()
	sizes := []int{1000, 2000, 500, 40_000}
	head := bytes.Repeat([]byte("head"), 25)
	var sidx []byte
	u32 := func(v int) { sidx = binary.BigEndian.AppendUint32(sidx, uint32(v)) }
	u32(32 + 12*len(sizes))
	sidx = append(sidx, "sidx\x00\x00\x00\x00"...)
	u32(1) // reference_ID
	u32(1) // timescale
	u32(0) // earliest_presentation_time
	u32(0) // first_offset
	u32(len(sizes))
	for _, n := range sizes {
		u32(n)
		u32(2) // seconds
		u32(0x90000000)
	}
	file = append(head, sidx...)
	for i, n := range sizes {
		file = append(file, bytes.Repeat([]byte{byte('a' + i)}, n)...)
	}
	dir = t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "v.mp4"), file, 0o666))
	check(t, os.WriteFile(filepath.Join(dir, "manifest.mpd"), fmt.Appendf(nil, `<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT8S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
<Period><AdaptationSet contentType="video" mimeType="video/mp4"><Representation id="v" bandwidth="300000" width="320" height="180" codecs="avc1.640015">
<BaseURL>v.mp4</BaseURL><SegmentBase indexRange="100-%d"><Initialization range="0-99"/></SegmentBase>
</Representation></AdaptationSet></Period></MPD>
`, 100+len(sidx)-1), 0o666))
	return dir, file
}

var ranges = []struct {
	header   string // Range
	status   int
	from, to int    // of the answer; to is exclusive, 0: all
	bought   string // of the sealed title
}{
	{header: "", status: 200, bought: "[v/0 v/1 v/2 v/3]"},
	{header: "bytes=0-99", status: 206, from: 0, to: 100, bought: "[]"},
	{header: "bytes=100-179", status: 206, from: 100, to: 180, bought: "[]"},
	{header: "bytes=180-1179", status: 206, from: 180, to: 1180, bought: "[v/0]"},
	{header: "bytes=200-210", status: 206, from: 200, to: 211, bought: "[v/0]"},
	{header: "bytes=179-180", status: 206, from: 179, to: 181, bought: "[v/0]"},
	{header: "bytes=1179-1180", status: 206, from: 1179, to: 1181, bought: "[v/0 v/1]"},
	{header: "bytes=1000-3500", status: 206, from: 1000, to: 3501, bought: "[v/0 v/1 v/2]"},
	{header: "bytes=3680-", status: 206, from: 3680, to: 43680, bought: "[v/3]"},
	{header: "bytes=-1", status: 206, from: 43679, to: 43680, bought: "[v/3]"},
	{header: "bytes=-99999", status: 206, from: 0, to: 43680, bought: "[v/0 v/1 v/2 v/3]"},
	{header: "bytes=43000-99999", status: 206, from: 43000, to: 43680, bought: "[v/3]"},
	{header: "bytes=43680-", status: 416, bought: "[]"},
	{header: "bytes=99999-100000", status: 416, bought: "[]"},
	{header: "bytes=-0", status: 416, bought: "[]"},
	{header: "bytes=0-1,5-6", status: 416, bought: "[]"},
	{header: "bytes=9-5", status: 200, bought: "[v/0 v/1 v/2 v/3]"},
	{header: "bytes=x-5", status: 200, bought: "[v/0 v/1 v/2 v/3]"},
	{header: "lines=1-5", status: 200, bought: "[v/0 v/1 v/2 v/3]"},
	{header: "bytes=99999999999999999999-", status: 200, bought: "[v/0 v/1 v/2 v/3]"},
}

func TestRangesOfAnOnDemandFile(t *testing.T) {
	dir, file := onDemand(t)
	made := sealedFolder(t, dir)
	for _, test := range ranges {
		t.Run(test.header, func(t *testing.T) {
			bubble(t, made, func(t *testing.T, h *house) {
				for _, method := range []string{http.MethodHead, http.MethodGet} {
					r := request(method, "/t/film/v.mp4")
					if test.header != "" {
						r.Header.Set("Range", test.header)
					}
					w := h.do(r)
					want(t, method, w.Code, test.status)
					if test.to == 0 {
						test.to = len(file)
					}
					body, length, contentRange := file[test.from:test.to], fmt.Sprint(test.to-test.from), ""
					switch {
					case test.status == 206:
						contentRange = fmt.Sprintf("bytes %d-%d/%d", test.from, test.to-1, len(file))
					case test.status == 416:
						contentRange, length, body = fmt.Sprintf("bytes */%d", len(file)), "", w.Body.Bytes()
					}
					want(t, "Content-Range", w.Header().Get("Content-Range"), contentRange)
					want(t, "Content-Length", w.Header().Get("Content-Length"), length)
					if method == http.MethodHead {
						want(t, "bought for HEAD", fmt.Sprint(h.take()), "[]")
					} else if !bytes.Equal(w.Body.Bytes(), body) {
						t.Errorf("got %d bytes, not those of the file", w.Body.Len())
					}
				}
				want(t, "bought", fmt.Sprint(h.take()), test.bought)
			}, func(c *proxy.Config, s *spender) { c.Ahead.Segments = -1; s.file = file })
		})
	}
}

// sealedFolder publishes the folder of onDemand.
func sealedFolder(t *testing.T, dir string) *titletest.Title {
	t.Helper()
	key, err := htlcdash.NewPublisherKey([32]byte{31: 7})
	check(t, err)
	out := filepath.Join(t.TempDir(), "title")
	_, err = publish.Run(t.Context(), publish.Options{Source: dir, Out: out, Key: key, Price: publish.Policy{Floor: 1000}}, nil)
	check(t, err)
	opened, err := title.OpenDir(out)
	check(t, err)
	return &titletest.Title{Title: opened, Dir: out}
}

// A player of an on-demand title may name only a range: it is one of the same
// file.
func TestThePlayerNamesItsNextRange(t *testing.T) {
	dir, file := onDemand(t)
	made := sealedFolder(t, dir)
	bubble(t, made, func(t *testing.T, h *house) {
		segs := made.Manifest.Representations()[0].Segments
		bytesOf := func(i int) string { return fmt.Sprintf("%d-%d", segs[i].Offset, segs[i].Offset+segs[i].Length-1) }
		w := h.get("/t/film/v.mp4"+said(fmt.Sprintf("nrr=%q,sid=\"s\"", bytesOf(1))), "Range: bytes="+bytesOf(0))
		want(t, "status", w.Code, http.StatusPartialContent)
		synctest.Wait()
		want(t, "bought", fmt.Sprint(h.take()), "[v/0 v/1]")
	}, func(c *proxy.Config, s *spender) { c.Ahead.Segments, s.file = 1, file })
}

func TestACutOffPurchaseCutsTheConnection(t *testing.T) {
	dir, file := onDemand(t)
	h := open(t, sealedFolder(t, dir), func(c *proxy.Config, s *spender) {
		c.Ahead.Segments, s.file = -1, file
		s.account.Budget = 2000 // two segments
	})
	defer h.Close()
	server := httptest.NewServer(h.Handler())
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/t/film/v.mp4")
	check(t, err)
	defer resp.Body.Close()
	want(t, "announced", resp.ContentLength, int64(len(file)))
	var got bytes.Buffer
	if _, err := got.ReadFrom(resp.Body); err == nil {
		t.Error("a part passes for the whole")
	}
	if !bytes.HasPrefix(file, got.Bytes()) {
		t.Error("wrong bytes before the cut")
	}
	want(t, "bought", fmt.Sprint(h.take()), "[v/0 v/1]")
}

func TestOpenTitles(t *testing.T) {
	dir, file := onDemand(t)
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	}))
	defer origin.Close()
	for _, test := range ranges {
		t.Run(test.header, func(t *testing.T) {
			p, err := proxy.New(proxy.Config{})
			check(t, err)
			defer p.Close()
			check(t, p.AddOpen(t.Context(), "film", origin.URL+"/manifest.mpd"))
			h := &house{Proxy: p}
			r := request(http.MethodGet, "/t/film/v.mp4")
			if test.header != "" {
				r.Header.Set("Range", test.header)
			}
			for range 2 {
				w := h.do(r)
				want(t, "status", w.Code, test.status)
				if to := max(test.to, test.from); test.status == 206 && !bytes.Equal(w.Body.Bytes(), file[test.from:to]) {
					t.Error("not the bytes of the file")
				}
				asked.Store(0)
			}
			s := h.state(t)
			want(t, "paid", s.Paid, false)
			want(t, "budget", s.Budget, (*lightning.Msat)(nil))
		})
	}
}

func TestAnOpenTitleOfManyFiles(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.FileServer(http.Dir(filepath.Join(filepath.Dir(made.Dir), "dash"))).ServeHTTP(w, r)
	}))
	defer origin.Close()
	p, err := proxy.New(proxy.Config{Ahead: proxy.Ahead{Segments: -1}})
	check(t, err)
	defer p.Close()
	check(t, p.AddOpen(t.Context(), "film", origin.URL+"/manifest.mpd"))
	h := &house{Proxy: p}
	asked.Store(0)
	for range 3 {
		w := h.get("/t/film/v0/2.m4s", "Range: bytes=10-19")
		want(t, "status", w.Code, 206)
		want(t, "bytes", bytes.Equal(w.Body.Bytes(), made.Plain("v0", 1)[10:20]), true)
	}
	want(t, "requests to the origin", asked.Load(), int64(1))
	want(t, "a segment past the end", h.get("/t/film/v0/6.m4s").Code, 404)
	for _, address := range []string{"ftp://example.org/x.mpd", "", "file:///etc/passwd", origin.URL + "/nothing.mpd", origin.URL + "/v0/1.m4s"} {
		if err := p.AddOpen(t.Context(), "x", address); err == nil {
			t.Errorf("%q was taken for a title", address)
		}
	}
}

// A server of an open title must not make us knock at doors that it cannot
// reach itself: the next may be this proxy, which spends money.
func TestAnOpenTitleThatLeadsElsewhere(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	var knocked atomic.Int64
	files := http.FileServer(http.Dir(filepath.Join(filepath.Dir(made.Dir), "dash")))
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		knocked.Add(1)
		files.ServeHTTP(w, r)
	}))
	defer inside.Close()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if filepath.Ext(r.URL.Path) == ".m4s" {
			http.Redirect(w, r, inside.URL+r.URL.Path, http.StatusFound)
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer origin.Close()
	p, err := proxy.New(proxy.Config{})
	check(t, err)
	defer p.Close()
	check(t, p.AddOpen(t.Context(), "film", origin.URL+"/manifest.mpd"))
	h := &house{Proxy: p}
	want(t, "status", h.get("/t/film/v0/1.m4s").Code, http.StatusServiceUnavailable)
	want(t, "requests elsewhere", knocked.Load(), int64(0))
}

// The proxy gives up on an origin that does not answer, and the player is told
// in time.
func TestAnOpenTitleWhoseServerHangs(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	release := make(chan struct{})
	files := http.FileServer(http.Dir(filepath.Join(filepath.Dir(made.Dir), "dash")))
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if filepath.Ext(r.URL.Path) == ".m4s" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		files.ServeHTTP(w, r)
	}))
	defer origin.Close()
	defer close(release)
	p, err := proxy.New(proxy.Config{Hold: 10 * time.Millisecond})
	check(t, err)
	defer p.Close()
	check(t, p.AddOpen(context.Background(), "film", origin.URL+"/manifest.mpd"))
	h := &house{Proxy: p}
	want(t, "status", h.get("/t/film/v0/1.m4s").Code, http.StatusGatewayTimeout)
}

func FuzzRange(f *testing.F) {
	for _, r := range ranges {
		f.Add(r.header, int64(43680))
	}
	f.Add("bytes=-9223372036854775808", int64(1))
	f.Add("bytes=9223372036854775807-9223372036854775807", int64(9223372036854775807))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 1 {
			return
		}
		from, to, partial, err := proxy.ParseRange(header, size)
		if err == nil && (from < 0 || from >= to || to > size) {
			t.Errorf("%q of %d: %d to %d", header, size, from, to)
		}
		if err == nil && !partial && (from != 0 || to != size) {
			t.Errorf("%q of %d: a part that is not called one", header, size)
		}
	})
}
