package web_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
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

func TestSuite(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source {
		files := make(map[string][]byte)
		for b, data := range blobs {
			files["/base/sealed/"+b.Root.String()] = data
		}
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			data, ok := files[r.URL.Path]
			if !ok {
				http.NotFound(w, r)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
		})
	})
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
		{"longer", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(data, 0)) }, htlcdash.ErrCorrupt},
		{"shorter", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data[1:]) }, htlcdash.ErrCorrupt},
		{"no length", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(data)
		}, htlcdash.ErrCorrupt},
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
