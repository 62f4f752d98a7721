package porter_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"htlcdash/internal/porter"
)

// long is more than any of this takes, and less than what is to be shown.
const long = 4 * time.Second

// open serves h until stop is called, which gives the error of Serve.
func open(t *testing.T, h http.HandlerFunc, grace time.Duration) (address string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- porter.Serve(ctx, l, &http.Server{Handler: h}, grace) }()
	return l.Addr().String(), func() error {
		cancel()
		return <-ended
	}
}

func TestStandersDoNotHoldUp(t *testing.T) {
	address, stop := open(t, func(http.ResponseWriter, *http.Request) {}, time.Hour)
	for range 3 { // as a browser opens ahead of need
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	resp, err := http.Get("http://" + address) // kept alive
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	began := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > long {
		t.Errorf("stopped after %v", took)
	}
}

func TestRequestsEnd(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	address, stop := open(t, func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		_, _ = io.WriteString(w, "whole")
	}, time.Hour)
	got := make(chan string)
	go func() {
		resp, err := http.Get("http://" + address)
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()
	<-asked
	ended := make(chan error)
	go func() { ended <- stop() }()
	close(answer)
	if s := <-got; s != "whole" {
		t.Errorf("got %q", s)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestGraceEnds(t *testing.T) {
	asked := make(chan struct{})
	address, stop := open(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}, 10*time.Millisecond)
	go http.Get("http://" + address) //nolint:errcheck // it is cut off
	<-asked
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestABrokenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := porter.Serve(t.Context(), l, &http.Server{}, time.Second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
