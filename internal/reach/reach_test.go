package reach_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/reach"
)

func TestGroup(t *testing.T) {
	for _, c := range []struct{ address, group string }{
		{"http://192.0.2.7:80/a", "192.0.2.0/24"},
		{"http://[2001:db8:1:2::3]", "2001:db8:1::/48"},
		{"http://[::ffff:192.0.2.7]", "192.0.2.0/24"},
		{"https://a.b.Example.org.", "example.org"},
		{"http://127.0.0.1:1/x/", "http://127.0.0.1:1/x"},
		{"http://10.1.2.3", "http://10.1.2.3"},
	} {
		u, err := url.Parse(c.address)
		if err != nil {
			t.Fatal(err)
		}
		if got := reach.Group(u); got != c.group {
			t.Errorf("%s: group %q, want %q", c.address, got, c.group)
		}
	}
}

func TestIsLocal(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.9": true, "10.0.0.1": true, "169.254.1.1": true, "100.64.0.1": true, "::1": true, "fe80::1": true,
		"::ffff:127.0.0.1": true, "0.0.0.0": true, "224.0.0.1": true, "router": true, "x.localhost": true, "nas.local.": true,
		"192.0.2.1": false, "films.example": false, "2001:db8::1": false,
	} {
		if got := reach.IsLocal(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestCheckHostPort(t *testing.T) {
	for address, want := range map[string]bool{
		"films.example:6881": true, "192.0.2.1:1": true, "[2001:db8::1]:65535": true, "localhost:80": true,
		"": false, "films.example": false, ":80": false, "films.example:": false, "films.example:0": false, "films.example:65536": false,
		"films.example:http": false, "films.example:+80": false, "a b:80": false, "u@films.example:80": false, "[fe80::1%eth0]:80": false,
		strings.Repeat("a", 254) + ":80": false,
	} {
		if err := reach.CheckHostPort(address); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestClientKeepsOutOfLocalNetworks(t *testing.T) {
	asked := false
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer s.Close()
	if _, err := reach.Client(false, time.Minute).Get(s.URL); !errors.Is(err, reach.ErrLocal) || asked {
		t.Errorf("got %v, asked %v", err, asked)
	}
	resp, err := reach.Client(true, time.Minute).Get(s.URL)
	if err != nil || !asked {
		t.Fatalf("got %v, asked %v", err, asked)
	}
	_ = resp.Body.Close()
}
