package main

import (
	"net"
	"strings"
	"testing"
	"time"
)

// Ctrl-C does not wait for connections on which nobody asks anything.
func TestStopsAtOnce(t *testing.T) {
	s := newStreet(t)
	closeShop := s.sell(t)
	closeProxy := s.play(t)
	s.get(t, "/api/titles") // both are there
	for _, url := range []string{s.shop, s.player} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	began := time.Now()
	if err := errorsOf(closeProxy(), closeShop()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*time.Second { // net/http by itself: 5 s
		t.Errorf("stopped after %v", took)
	}
}
