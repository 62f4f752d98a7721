package plain_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/plain"
)

const mpd = `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>
<AdaptationSet contentType="video" mimeType="video/mp4"><Representation id="v" bandwidth="1000"><SegmentTemplate duration="2" media="$Number$"/></Representation></AdaptationSet></Period></MPD>`

func TestFetch(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another server was asked") }))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/film/x.mpd", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, mpd) })
	mux.HandleFunc("/film/whole", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	})
	mux.HandleFunc("/film/sold", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPaymentRequired) })
	mux.HandleFunc("/film/norange", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "0123456789") })
	mux.HandleFunc("/film/short", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusPartialContent)
		fmt.Fprint(w, "01")
	})
	mux.HandleFunc("/film/long", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusPartialContent)
		fmt.Fprint(w, strings.Repeat("long", 1000))
	})
	mux.HandleFunc("/film/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	server := httptest.NewServer(mux)
	defer server.Close()
	film, err := plain.Open(t.Context(), server.URL+"/film/x.mpd", nil)
	if err != nil || len(film.Manifest.Representations()) != 1 || string(film.MPD) != mpd {
		t.Fatal(err)
	}
	any := errors.New("any")
	for _, tt := range []struct {
		of   dash.Resource
		want string
		err  error
	}{
		{dash.Resource{Path: "whole"}, "0123456789", nil},
		{dash.Resource{Path: "whole", Offset: 3, Length: 4}, "3456", nil},
		{dash.Resource{Path: "whole", Offset: 8, Length: 4}, "", htlcdash.ErrCorrupt},
		{dash.Resource{Path: "nothing"}, "", htlcdash.ErrNotFound},
		{dash.Resource{Path: "sold"}, "", plain.ErrPaid},
		{dash.Resource{Path: "norange", Offset: 3, Length: 4}, "", any},
		{dash.Resource{Path: "short", Length: 4}, "", htlcdash.ErrCorrupt},
		{dash.Resource{Path: "long", Length: 4}, "", htlcdash.ErrFormat},
		{dash.Resource{Path: "away"}, "", any},
	} {
		t.Run(fmt.Sprintf("%s %d", tt.of.Path, tt.of.Offset), func(t *testing.T) {
			came := 0
			b, err := film.Fetch(t.Context(), tt.of, func(n int) { came += n })
			if tt.err == nil && (err != nil || string(b) != tt.want || came != len(tt.want)) {
				t.Errorf("%q, told of %d bytes, %v", b, came, err)
			}
			if tt.err != nil && (err == nil || tt.err != any && !errors.Is(err, tt.err)) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
		})
	}
	for name, address := range map[string]string{"no address": "film.mpd", "another scheme": "file:///etc/passwd", "no MPD": server.URL + "/film/whole", "nothing there": server.URL + "/film/y.mpd"} {
		if _, err := plain.Open(t.Context(), address, nil); err == nil {
			t.Error(name, "was opened")
		}
	}
}

// What an MPD says of lengths is a stranger's word, and no memory is taken for it.
func TestBounds(t *testing.T) {
	const huge = 1 << 50
	sidx := []byte("\x00\x00\x00\x34sidx\x01\x00\x00\x00" + "\x00\x00\x00\x01\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x04\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x01" + "\x7f\xff\xff\xff\x00\x00\x00\x01\x90\x00\x00\x00")
	liar := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, ".mpd"):
			fmt.Fprintf(w, `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>
<AdaptationSet contentType="video" mimeType="video/mp4"><Representation id="v" bandwidth="1000"><SegmentList duration="2"><Initialization sourceURL="a" range="0-%d"/><SegmentURL media="a" mediaRange="0-%d"/></SegmentList></Representation>
<Representation id="o" bandwidth="1000"><BaseURL>o</BaseURL><SegmentBase indexRange="0-%d"/></Representation>
<Representation id="w" bandwidth="1000"><SegmentList duration="2"><Initialization sourceURL="w"/><SegmentURL media="w"/></SegmentList></Representation></AdaptationSet></Period></MPD>`, huge, huge, len(sidx)-1)
		case strings.HasSuffix(r.URL.Path, "/o") && r.Header.Get("Range") == fmt.Sprintf("bytes=0-%d", len(sidx)-1):
			w.WriteHeader(http.StatusPartialContent)
			w.Write(sidx)
		default:
			if w.Header().Set("Content-Length", fmt.Sprint(huge)); r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusPartialContent)
			}
		}
	})
	server := httptest.NewServer(liar)
	defer server.Close()
	film, err := plain.Open(t.Context(), server.URL+"/x.mpd", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, rep := range film.Manifest.Representations() {
		if _, err := film.Fetch(t.Context(), rep.Segments[0].Resource, nil); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("segment of %s: error %v", rep.ID, err)
		}
		if _, err := film.Init(t.Context(), rep); !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("head of %s: error %v", rep.ID, err)
		}
	}
}

// A quiet server sends its MPD, and then a byte now and then, until it falls silent.
type quietServer struct{}

func (quietServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, ".mpd") {
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(strings.NewReader(mpd))}, nil
	}
	return &http.Response{StatusCode: http.StatusOK, ContentLength: 9, Body: &quietBody{ctx: r.Context()}}, nil
}

type quietBody struct {
	ctx  context.Context
	sent int
}

func (b *quietBody) Read(p []byte) (int, error) {
	pause := 20 * time.Second
	if b.sent++; b.sent == 5 {
		pause = 24 * time.Hour
	}
	select {
	case <-time.After(pause):
		p[0] = 'x'
		return 1, nil
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

func (*quietBody) Close() error { return nil }

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		film, err := plain.Open(t.Context(), "http://films.example/x.mpd", &http.Client{Transport: quietServer{}})
		if err != nil {
			t.Fatal(err)
		}
		began, came := time.Now(), 0
		_, err = film.Fetch(t.Context(), dash.Resource{Path: "1"}, func(n int) { came += n })
		if !errors.Is(err, plain.ErrSilence) || came != 4 {
			t.Errorf("%d bytes came, error %v", came, err)
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("it waited for %v", took)
		}
	})
}

// A server that gives its MPD byte by byte keeps nobody for ever.
func TestOpenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := plain.Open(t.Context(), "http://films.example/x.mpd", &http.Client{Transport: dripServer{}})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

type dripServer struct{}

func (dripServer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: &quietBody{ctx: r.Context(), sent: 5}}, nil
}

// What was asked for under TLS is not asked for in the clear, also not from the
// same host.
func TestNoWayBackToTheClear(t *testing.T) {
	from, err := http.NewRequest(http.MethodGet, "https://films.example/x.mpd", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := plain.NewClient()
	for address, follows := range map[string]bool{"https://films.example/y.mpd": true, "http://films.example/y.mpd": false, "https://other.example/": false, "https://films.example:8403/": false} {
		to, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := client.CheckRedirect(to, []*http.Request{from}) == nil; got != follows {
			t.Errorf("%s is followed: %v", address, got)
		}
	}
}
