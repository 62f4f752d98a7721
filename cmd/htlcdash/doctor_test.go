package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// findings runs do and returns what it reported, by check.
func findings(do func(*report)) map[string]finding {
	r := &report{out: &bytes.Buffer{}}
	do(r)
	all := map[string]finding{}
	for _, f := range r.all {
		all[f.Check] = f
	}
	return all
}

func TestDoctorWithoutNode(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	out, _, err := call(t, "doctor", "serve", "--json")
	if exitCode(err) != exitError {
		t.Errorf("error is %v", err)
	}
	var list []finding
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, f := range list {
		if f.Grade == fail {
			failed++
			if f.Next == "" {
				t.Errorf("%s fails, and nothing says what to do", f.Check)
			}
		}
	}
	if failed == 0 {
		t.Error("nothing failed without a node")
	}
}

func TestDoctorChecksTitles(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	check := func() (int, error) { return inspectTitle(t.Context(), made.Dir) }
	if n, err := check(); err != nil || n != 15 {
		t.Fatalf("a whole title: %d segments, %v", n, err)
	}
	seg := made.Segments(t, "v1")[2]
	sealed := filepath.Join(made.Dir, "sealed", seg.Sealed.String()[:2], seg.Sealed.String())
	if err := os.Truncate(sealed, 5); err != nil {
		t.Fatal(err)
	}
	if _, err := check(); err == nil || !strings.Contains(err.Error(), seg.Sealed.String()) {
		t.Errorf("a short file: %v", err)
	}
	if err := os.Remove(sealed); err != nil {
		t.Fatal(err)
	}
	if _, err := check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.Chmod(made.KeysFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := check(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("keys for everybody: %v", err)
	}
}

func TestDoctorChecksPorts(t *testing.T) {
	l := door(t)
	defer l.Close()
	taken := l.Addr().String()
	for _, tt := range []struct {
		name, address string
		want          grade
	}{
		{"free", "127.0.0.1:0", ok},
		{"taken", taken, fail},
		{"not an address", "films.example", fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "taken" {
				go serveNothing(l)
			}
			got := findings(func(r *report) { checkPort(t.Context(), r, "port", tt.address, "/v1/provider", "serve.listen") })
			if got["port"].Grade != tt.want {
				t.Errorf("%+v", got["port"])
			}
		})
	}
}

// serveNothing takes connections and hangs up.
func serveNothing(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

func TestDoctorChecksClock(t *testing.T) {
	for skew, want := range map[time.Duration]grade{
		0: ok, -3 * time.Second: ok, 30 * time.Second: warn, -time.Hour: fail, time.Hour: fail,
	} {
		got := findings(func(r *report) { checkClock(r, "clock", time.Now().Add(skew)) })
		if got["clock"].Grade != want {
			t.Errorf("%v gives %+v", skew, got["clock"])
		}
	}
}

func TestDoctorChecksLoopback(t *testing.T) {
	for address, warned := range map[string]bool{
		"127.0.0.1:8404": false, "localhost:8404": false, "[::1]:8404": false,
		":8404": true, "0.0.0.0:8404": true, "films.example:8404": true,
	} {
		if got := findings(func(r *report) { checkLoopback(r, "page", address) }); (len(got) > 0) != warned {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestDoctorChecksChannels(t *testing.T) {
	network := sim.New(sim.Config{})
	us, them := network.Node("us"), network.Node("them")
	c := doctorCommand{Role: "proxy", Outbound: 100 * lightning.Sat}
	look := func() map[string]finding {
		return findings(func(r *report) { c.checkChannels(t.Context(), r, us) })
	}
	if got := look(); got["channels"].Grade != fail || !strings.Contains(got["channels"].Next, "wallet open") {
		t.Errorf("without channels: %v", got)
	}
	network.Connect(us, them, 50*lightning.Sat, 0)
	if got := look(); got["channels"].Grade != ok || got["outbound liquidity"].Grade != fail {
		t.Errorf("with a small channel: %v", got)
	}
	network.Connect(us, them, 500*lightning.Sat, 0)
	if got := look(); got["outbound liquidity"].Grade != ok {
		t.Errorf("with a large channel: %v", got)
	}
	them.Down()
	if got := look(); got["channels"].Grade != fail {
		t.Errorf("with the peer down: %v", got)
	}
}

func TestFindingPrints(t *testing.T) {
	f := finding{"disk", warn, "little", "make room"}
	if got := fmt.Sprint(f); got != "warn  disk: little\n      -> make room" {
		t.Errorf("%q", got)
	}
}

// A provider that resells needs a margin, budgets, an upstream that sells what is
// carried, and money to pay it.
func TestDoctorChecksUpstream(t *testing.T) {
	origin := newStreet(t)
	origin.sell(t)
	for name, c := range map[string]struct {
		args  []string
		check string
		want  grade
	}{
		"all well":        {nil, "upstream " + origin.shop, ok},
		"the margin":      {nil, "margin", ok},
		"nobody there":    {[]string{"--serve-upstream", "http://127.0.0.1:1"}, "upstream http://127.0.0.1:1", fail},
		"nothing carried": {[]string{"--serve-upstream-carry", strings.Repeat("0", 64)}, "upstream " + origin.shop, warn},
		"a word":          {[]string{"--serve-upstream-carry", "films"}, "upstream_carry", fail},
		"no margin":       {[]string{"--serve-upstream-factor", "0.5"}, "margin", fail},
		"no budget":       {[]string{"--serve-upstream-budget-day", "0"}, "upstream budget", fail},
		"no risk":         {[]string{"--serve-upstream-mode", "shelf", "--serve-upstream-risk", "0"}, "upstream risk", fail},
	} {
		t.Run(name, func(t *testing.T) {
			doctor := origin.parse(t, append([]string{"doctor", "serve", "--serve-upstream", origin.shop}, c.args...)...).Doctor
			got := findings(func(r *report) { doctor.checkUpstream(t.Context(), r) })
			if f := got[c.check]; f.Grade != c.want || f.Grade == fail && f.Next == "" {
				t.Errorf("%+v", got)
			}
		})
	}
	network := sim.New(sim.Config{})
	us, them := network.Node("us"), network.Node("them")
	network.Connect(us, them, 50*lightning.Sat, 50*lightning.Sat)
	doctor := doctorCommand{Role: "serve", Outbound: 100 * lightning.Sat, Inbound: lightning.Sat}
	look := func() grade {
		return findings(func(r *report) { doctor.checkChannels(t.Context(), r, us) })["outbound liquidity"].Grade
	}
	if g := look(); g != "" {
		t.Errorf("who sells only what is its own is asked for money: %s", g)
	}
	doctor.Serve.Upstream = []string{origin.shop}
	if g := look(); g != fail {
		t.Errorf("who cannot pay upstream: %q", g)
	}
	if side := doctor.sellingSide(true, ""); side.role != "serve" || len(side.need) <= len(sellingRights(true)) || !strings.HasSuffix(side.bake, "--till") {
		t.Errorf("%+v", side)
	}
}
