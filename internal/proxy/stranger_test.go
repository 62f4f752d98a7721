package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/proxy"
	"htlcdash/internal/title/titletest"
)

// A title is a stranger's. Whatever its MPD calls its files, nothing of it runs in a
// browser that opens it as a document, where it could spend the viewer's money.
func TestNothingOfATitleRuns(t *testing.T) {
	const script = `<html xmlns="http://www.w3.org/1999/xhtml"><script>fetch("/api/budget", {method: "POST", headers: {"X-Htlcdash": "1"}})</script></html>`
	for _, tt := range []struct{ mime, want string }{
		{"text/html", "application/octet-stream"},
		{"application/xhtml+xml", "application/octet-stream"},
		{"image/svg+xml", "application/octet-stream"},
		{"text/javascript", "application/octet-stream"},
		{"video/mp4, text/html", "application/octet-stream"},
		{"video/mp4;x=text/html", "application/octet-stream"},
		{"video/mp4; profiles=cmfc", "video/mp4"},
		{"Video/MP4", "video/mp4"},
		{"audio/webm", "audio/webm"},
	} {
		t.Run(tt.mime, func(t *testing.T) {
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, ".mpd") {
					fmt.Fprint(w, script)
					return
				}
				fmt.Fprintf(w, `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S" minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>%s
<AdaptationSet contentType="video" mimeType="%s"><Representation id="v" bandwidth="1000"><SegmentTemplate duration="2" media="$Number$.html" initialization="init.html"/></Representation></AdaptationSet></Period></MPD>`, script, tt.mime)
			}))
			defer origin.Close()
			p, err := proxy.New(proxy.Config{})
			check(t, err)
			defer p.Close()
			check(t, p.AddOpen(t.Context(), "film", origin.URL+"/x.mpd"))
			h := &house{Proxy: p}
			for _, path := range []string{"manifest.mpd", "1.html", "init.html", "none.html"} {
				w := h.get("/t/film/"+path, "Sec-Fetch-Site: none")
				kind := w.Header().Get("Content-Type")
				if strings.HasSuffix(path, "1.html") || path == "init.html" {
					want(t, path, kind, tt.want)
				}
				if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s, which is %q, may run: %q", path, kind, policy)
				}
			}
		})
	}
}

// timed is an answer to somebody who may not read.
type timed struct {
	*httptest.ResponseRecorder
	until time.Time
	late  bool // something was written with no end to it
}

func (w *timed) SetWriteDeadline(t time.Time) error { w.until = t; return nil }

func (w *timed) Write(b []byte) (int, error) {
	w.late = w.late || w.until.IsZero()
	return w.ResponseRecorder.Write(b)
}

// Who does not read what was asked for keeps a slot for a while only, whatever it
// was.
func TestEachAnswerEnds(t *testing.T) {
	bubble(t, titletest.Make(t, titletest.Options{}), func(t *testing.T, h *house) {
		for _, path := range []string{"/", "/t/film/manifest.mpd", "/t/film/v0/1.m4s", "/t/film/none", "/t/none/manifest.mpd", "/api/titles", "/api/state?title=film", "/api/ledger?title=film", "/api/ledger.csv?title=film", "/api/market"} {
			w := &timed{ResponseRecorder: httptest.NewRecorder()}
			h.Handler().ServeHTTP(w, request(http.MethodGet, path))
			if w.late || w.Body.Len() == 0 {
				t.Errorf("%s: %d bytes were written without an end", path, w.Body.Len())
			}
		}
	})
}
