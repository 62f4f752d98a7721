package lnd_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

func TestNewRefuses(t *testing.T) {
	f := newFake(t)
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("neither certificate nor macaroon"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*lnd.Config)
		want   string
	}{
		{"no address", func(c *lnd.Config) { c.Addr = "" }, "https://host:port"},
		{"host only", func(c *lnd.Config) { c.Addr = "localhost:8080" }, "https://host:port"},
		{"a path", func(c *lnd.Config) { c.Addr += "/v1" }, "https://host:port"},
		{"in the clear", func(c *lnd.Config) { c.Addr = "http://node.example:8080" }, "could be read"},
		{"no certificate", func(c *lnd.Config) { c.TLSCertFile = junk + "?" }, "no such file"},
		{"no certificate in it", func(c *lnd.Config) { c.TLSCertFile = junk }, "PEM"},
		{"no macaroon", func(c *lnd.Config) { c.MacaroonFile = junk + "?" }, "no such file"},
		{"no macaroon in it", func(c *lnd.Config) { c.MacaroonFile = junk }, "not a macaroon"},
	} {
		c := lnd.Config{Addr: f.server.URL, TLSCertFile: f.cert, MacaroonFile: f.macaroon}
		test.change(&c)
		if _, err := lnd.New(c); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestInfoErrors(t *testing.T) {
	f := newFake(t)
	f.on("GET /v1/getinfo", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"identity_pubkey":"`+strings.Repeat("02", 33)+`","chains":[{"chain":"bitcoin","network":"simnet"}],"synced_to_chain":true,"block_height":7,"features":{}}`)
	})
	info, err := f.node(t).Info(soon(t))
	if err != nil || info.Network != lightning.Simnet || !info.Synced || info.GraphSynced || info.BlockHeight != 7 {
		t.Errorf("got %+v, %v", info, err)
	}

	other := newFake(t) // its certificate is another's
	wrong := f.node(t, func(c *lnd.Config) { c.Addr = other.server.URL })
	if _, err := wrong.Info(soon(t)); err == nil {
		t.Error("spoke to a node with a macaroon that is not its own")
	}
	other.secret = "another"
	if _, err := other.node(t).Info(soon(t)); !errors.Is(err, lightning.ErrDenied) {
		t.Errorf("got %v", err)
	}
	other.server.Close()
	if _, err := other.node(t).Info(soon(t)); !errors.Is(err, lightning.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestMacaroonFile(t *testing.T) {
	f := newFake(t)
	m, err := lnd.ReadMacaroon(f.macaroon)
	if err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "hex")
	if err := os.WriteFile(text, []byte(f.secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if same, err := lnd.ReadMacaroon(text); err != nil || string(same.Reveal()) != string(m.Reveal()) {
		t.Errorf("in hexadecimal: %v", err)
	}
	file := filepath.Join(t.TempDir(), "new")
	if err := m.Write(file); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", st.Mode(), err)
	}
	if err := m.Write(file); err == nil {
		t.Error("overwrote a macaroon")
	}
	if _, err := m.WithBudget(-1); err == nil {
		t.Error("made a negative budget")
	}
}
