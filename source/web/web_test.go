package web_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/sourcetest"
	"htlcdash/source/web"
)

func serve(t *testing.T, h http.HandlerFunc) *web.Web {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	w, err := web.New(server.URL+"/base/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func files(blobs map[htlcdash.Blob][]byte) http.HandlerFunc {
	files := make(map[string][]byte)
	for b, data := range blobs {
		files["/base/"+htlcdash.SealedPath(b.Root)] = data
	}
	return func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

func TestSuite(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source { return serve(t, files(blobs)) })
}

func TestHostileServers(t *testing.T) {
	sourcetest.RunHostile(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte, spoil func(http.Handler) http.Handler) source.Source {
		return serve(t, spoil(files(blobs)).ServeHTTP)
	})
}

// A store may send in chunks, without a length.
func TestLengthUnsaid(t *testing.T) {
	b, data := sourcetest.Blob(1, htlcdash.LeafSize)
	w := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = w.Write(data)
	})
	l, err := source.NewLibrary(source.Options{}, w)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := l.Get(t.Context(), b); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// What a stranger names must not make us knock at doors of our own network, not
// even by the first request.
func TestPublicReachesNothingPrivate(t *testing.T) {
	b, data := sourcetest.Blob(1, htlcdash.LeafSize)
	var knocked atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		knocked.Add(1)
		_, _ = w.Write(data)
	}))
	t.Cleanup(inside.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(inside.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "169.254.169.254"} {
		w, err := web.NewPublic("http://" + host + ":" + port)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Has(t.Context(), b); !errors.Is(err, web.ErrPrivate) {
			t.Errorf("%s: has: %v, want %v", host, err, web.ErrPrivate)
		}
		if _, err := w.Open(t.Context(), b); !errors.Is(err, web.ErrPrivate) {
			t.Errorf("%s: open: %v, want %v", host, err, web.ErrPrivate)
		}
	}
	if n := knocked.Load(); n > 0 {
		t.Errorf("%d requests reached a server that only this machine can reach", n)
	}
}

// sized answers with data and its length.
func sized(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
	}
}

func TestBadServers(t *testing.T) {
	b, data := sourcetest.Blob(1, htlcdash.LeafSize)
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		want error // nil: any
	}{
		{"gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, htlcdash.ErrNotFound},
		{"server error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, nil},
		{"longer", sized(append(bytes.Clone(data), 0)), htlcdash.ErrCorrupt},
		{"shorter", sized(data[1:]), htlcdash.ErrCorrupt},
		{"compressed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(data)
		}, htlcdash.ErrCorrupt},
		{"turns in circles", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, nil},
		{"part of it", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			rc, err := serve(t, c.h).Open(t.Context(), b)
			if err == nil {
				rc.Close()
			}
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// A source is a stranger. It must not make us send requests into our own
// network, where the next door may be our own proxy, which spends money.
func TestRedirectsStayOutOfPrivateNetworks(t *testing.T) {
	b, data := sourcetest.Blob(1, htlcdash.LeafSize)
	var knocked atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		knocked.Add(1)
		_, _ = w.Write(data)
	}))
	t.Cleanup(inside.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(inside.URL, "http://"), ":")
	for _, c := range []struct{ name, to string }{
		{"another port of this machine", inside.URL},
		{"the same by its name", "http://localhost:" + port},
		{"the same, IPv4 in IPv6", "http://[::ffff:127.0.0.1]:" + port},
		{"the same, any address", "http://0.0.0.0:" + port},
		{"IPv6 loopback", "http://[::1]:" + port},
		{"a neighbour", "http://192.168.1.1/"},
		{"link local", "http://169.254.169.254/latest/"},
		{"a carrier's network", "http://100.64.0.1/"},
		{"unique local", "http://[fd00::1]/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, c.to, http.StatusFound) })
			if _, err := w.Open(t.Context(), b); !errors.Is(err, web.ErrPrivate) {
				t.Errorf("got %v, want %v", err, web.ErrPrivate)
			}
		})
	}
	if n := knocked.Load(); n > 0 {
		t.Errorf("%d requests reached a server that only this machine can reach", n)
	}
}

// A source may move things about in its own house.
func TestRedirectsAtHome(t *testing.T) {
	b, data := sourcetest.Blob(1, htlcdash.LeafSize)
	w := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/base/") {
			http.Redirect(w, r, "/moved", http.StatusFound)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
	rc, err := w.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	rc.Close()
}

// Through a library a server that cuts or stalls is found out, and named.
func TestLibraryNamesTheServer(t *testing.T) {
	b, data := sourcetest.Blob(1, 1<<20)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		want error
	}{
		{"stalls", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1048576")
			_, _ = w.Write(data[:1000])
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-end:
			}
		}, source.ErrStalled},
		{"cuts", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1048576")
			_, _ = w.Write(data[:1000])
			panic(http.ErrAbortHandler)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := serve(t, c.h)
			l, err := source.NewLibrary(source.Options{Stall: 100 * time.Millisecond}, w)
			if err != nil {
				t.Fatal(err)
			}
			_, err = l.Get(t.Context(), b)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(err.Error(), w.String()) {
				t.Errorf("got %v, want %v that names %s", err, c.want, w)
			}
		})
	}
}

func TestNew(t *testing.T) {
	for _, base := range []string{"", "/folder", "provider.example", "ftp://provider.example"} {
		if _, err := web.New(base, nil); err == nil {
			t.Errorf("%q was accepted", base)
		}
	}
}
