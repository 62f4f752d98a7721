package plain_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
