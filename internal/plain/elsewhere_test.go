package plain_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"htlcdash"
	"htlcdash/internal/dash"
	"htlcdash/internal/plain"
	"htlcdash/internal/reach"
)

// An MPD may say that its files lie elsewhere, but not in the viewer's network.
func TestFilesElsewhere(t *testing.T) {
	serve := func(says string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, says, " ", r.URL.Path) }))
		t.Cleanup(s.Close)
		return s
	}
	other := serve("the other server")
	told := ""
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".mpd") {
			fmt.Fprint(w, told)
			return
		}
		fmt.Fprint(w, "home ", r.URL.Path)
	}))
	defer home.Close()
	// all names of the DNS lead to the other server
	abroad := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, other.Listener.Addr().String())
	}}}
	base := func(urls ...string) (s string) {
		for _, u := range urls {
			s += "<BaseURL>" + u + "</BaseURL>"
		}
		return s
	}
	part := func(m, urls string) string {
		return strings.Replace(m, "<AdaptationSet ", urls+"<AdaptationSet ", 1)
	}
	whole := func(m, urls string) string { return strings.Replace(m, "<Period>", urls+"<Period>", 1) }
	for _, tt := range []struct {
		name, mpd, want string
		err             error
	}{
		{"beside the MPD", mpd, "home /film/1", nil},
		{"on another host", whole(mpd, base("http://cdn.example/x/")), "the other server /x/1", nil},
		{"and a part below that", part(whole(mpd, base("http://cdn.example/x/")), base("low/")), "the other server /x/low/1", nil},
		{"a relative one beside it", whole(mpd, base("http://cdn.example/x/", "y/")), "home /film/y/1", nil},
		{"elsewhere on the same host", whole(mpd, base("/z/")), "home /z/1", nil},
		{"the same host by name", whole(mpd, base(home.URL+"/z/")), "home /z/1", nil},
		{"a part that says where it is anyway", part(mpd, base(home.URL+"/film/")), "home /film/1", nil},
		{"a part on another host", part(mpd, base("http://cdn.example/x/")), "", htlcdash.ErrFormat},
		{"a part in another folder", part(mpd, base("/z/")), "", htlcdash.ErrFormat},
		{"in the local network", whole(mpd, base(other.URL+"/")), "", reach.ErrLocal},
		{"this machine by name", whole(mpd, base("http://localhost:1/")), "", reach.ErrLocal},
		{"another scheme", whole(mpd, base("ftp://cdn.example/x/")), "", htlcdash.ErrFormat},
		{"a file", whole(mpd, base("file:///etc/")), "", htlcdash.ErrFormat},
		{"nowhere", whole(mpd, base("http://%zz/")), "", htlcdash.ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told = tt.mpd
			film, err := plain.OpenAbroad(t.Context(), home.URL+"/film/x.mpd", abroad)
			if tt.err != nil {
				if !errors.Is(err, tt.err) {
					t.Errorf("error %v, want %v", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := film.Fetch(t.Context(), dash.Resource{Path: film.Manifest.Representations()[0].Segments[0].Path}, nil)
			if string(b) != tt.want || err != nil {
				t.Errorf("%q, %v, want %q", b, err, tt.want)
			}
		})
	}
}

// Whatever a name leads to: it is not connected to in the viewer's network.
func TestFilesElsewhereByName(t *testing.T) {
	secure := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Replace(mpd, "<Period>", "<BaseURL>http://192.0.2.1.example/</BaseURL><Period>", 1))
	}))
	defer secure.Close()
	private := reach.Client(false, 0)
	private.Transport.(*http.Transport).DialContext = redirected(private.Transport.(*http.Transport).DialContext, secure.Listener.Addr().String())
	film, err := plain.OpenAbroad(t.Context(), secure.URL+"/x.mpd", private)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := film.Fetch(t.Context(), dash.Resource{Path: "1"}, nil); !errors.Is(err, reach.ErrLocal) {
		t.Errorf("error %v, want %v", err, reach.ErrLocal)
	}
}

// redirected dials as if all names led to one address.
func redirected(dial func(context.Context, string, string) (net.Conn, error), to string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, to) }
}
