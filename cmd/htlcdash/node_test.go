package main

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"htlcdash/internal/config"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
	"htlcdash/lightning/simlnd"
)

// A node that is not there yet, or whose wallet is locked, is waited for.
func TestNodeIsWaitedFor(t *testing.T) {
	face := simlnd.New(sim.New(sim.Config{}).Node("node"))
	defer face.Close()
	for name, silent := range map[string]http.HandlerFunc{
		"it is not there": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"locked": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"code":2,"message":"wallet locked, unlock it to enable full RPC access"}`)
		},
		"a web proxy before it": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var up atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if up.Load() {
					face.ServeHTTP(w, r)
				} else {
					silent(w, r)
				}
			}))
			defer server.Close()
			logged := &syncBuffer{}
			begun := 0
			node, info, err := awaitNode(t.Context(), config.Node{Address: server.URL}, "", slog.New(slog.NewTextHandler(logged, nil)), func() {
				begun++
				up.Store(true)
			})
			if err != nil {
				t.Fatal(err)
			}
			defer node.Close()
			if info.ID == (lightning.NodeID{}) || begun != 1 || !strings.Contains(logged.String(), "asked again") {
				t.Errorf("node %v; the wait began %d times; the log:\n%s", info.ID, begun, logged)
			}
		})
	}
}

// Who is told to stop does not wait any more.
func TestWaitForNodeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = awaitNode(ctx, config.Node{Address: "http://" + l.Addr().String()}, "", slog.New(slog.DiscardHandler), cancel)
	if !errors.Is(err, lightning.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// What no waiting mends ends the program at once.
func TestNodeThatRefuses(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"code":2,"message":"verification failed: signature mismatch after caveat verification"}`)
	})
	open, closed := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer open.Close()
	defer closed.Close()
	folder := t.TempDir()
	file := func(name string, b []byte) config.Path {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Path(path)
	}
	good := file("good.cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: closed.Certificate().Raw}))
	for name, c := range map[string]struct {
		node     config.Node
		macaroon config.Path
	}{
		"macaroon":            {config.Node{Address: open.URL}, ""},
		"no macaroon":         {config.Node{Address: open.URL}, config.Path(filepath.Join(folder, "none"))},
		"another certificate": {config.Node{Address: closed.URL}, ""},
		"no certificate":      {config.Node{Address: closed.URL, TLSCert: file("empty", nil)}, ""},
		"plain HTTP":          {config.Node{Address: strings.Replace(open.URL, "http:", "https:", 1), TLSCert: good}, ""},
		"address":             {config.Node{Address: "films.example"}, ""},
	} {
		_, _, err := awaitNode(t.Context(), c.node, c.macaroon, slog.New(slog.DiscardHandler), func() { t.Errorf("%s: it is waited for", name) })
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A provider closes its doors while it waits for its node, so that nobody hangs there,
// and opens them when it sells.
func TestServeWaitsForItsNode(t *testing.T) {
	s := newStreet(t)
	face := simlnd.New(s.provider)
	defer face.Close()
	var up atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		face.ServeHTTP(w, r)
	}))
	defer server.Close()
	free := door(t)
	address := free.Addr().String()
	free.Close()
	c := s.parse(t, "serve", "--listen", address, "--page", "", "--node-address", server.URL, "--node-tls-cert", "", "--macaroon", "")
	stop := s.open(t, func(ctx context.Context) error { return c.Serve.Run(ctx, terminal{}, s.log) })
	s.shop = "http://" + address
	s.await(t, func() bool { return strings.Contains(s.logged.String(), "asked again until it is") })
	if conn, err := net.DialTimeout("tcp", address, 10*time.Second); err == nil {
		conn.Close()
		t.Error("the door is open while nothing is sold")
	}
	up.Store(true)
	s.awaitTitles(t, 1)
	if err := stop(); err != nil {
		t.Error(err)
	}
}
