package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repute "htlcdash/agent/market"
	"htlcdash/internal/ledger"
)

// A person sees who is banned, until when and why, and can end it. What a
// stranger wrote into a reason moves no cursor.
func TestLedgerBans(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "viewer.db")
	books, err := ledger.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	cheat := func(name string, until time.Time) {
		if err := books.Ban(t.Context(), ledger.Ban{Provider: name, Reason: "took 1 sat\x1b[2J", At: now, Until: until, Times: 2}); err != nil {
			t.Fatal(err)
		}
	}
	cheat("https://cheat.example", now.Add(time.Hour))
	cheat("aabb", now.Add(time.Hour)) // the key of that
	cheat("https://past.example", now.Add(-time.Hour))
	remember := func(name, url string, r repute.Record) {
		r.ID, r.Seen = name, now
		record, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := books.Remember(t.Context(), []ledger.Reputation{{Provider: name, URL: url, Record: record}}); err != nil {
			t.Fatal(err)
		}
	}
	remember("ccdd", "https://dear.example", repute.Record{Banned: now.Add(time.Minute), Reason: "price above the ceiling", Offences: 1})
	remember("eeff", "https://good.example", repute.Record{})
	remember("aabb", "https://cheat.example", repute.Record{Banned: now.Add(time.Hour), Reason: "took 1 sat"})
	if err := books.Close(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name, lift string
		says, not  []string
		fails      bool
	}{
		{"list", "", []string{"https://cheat.example", "took 1 sat?[2J", "aabb", "https://dear.example", "price above the ceiling"}, []string{"past", "good", "\x1b"}, false},
		{"lift nobody's", "https://good.example", []string{"begins anew"}, nil, false}, // it is known, and forgotten
		{"lift an unknown one's", "https://none.example", nil, nil, true},
		{"lift a cheat's", "https://cheat.example", []string{"begins anew"}, nil, false},
		{"list the rest", "", []string{"https://dear.example"}, []string{"cheat.example", "aabb"}, false},
		{"lift the rest by its key", "ccdd", []string{"begins anew"}, nil, false},
		{"list nobody", "", []string{"nobody is banned"}, []string{"dear"}, false},
	} {
		args := []string{"ledger", "bans", "--proxy-ledger", file}
		if step.lift != "" {
			args = append(args, "--lift", step.lift)
		}
		out, _, err := call(t, args...)
		if (err != nil) != step.fails {
			t.Errorf("%s: %v", step.name, err)
		}
		for _, s := range step.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: %q is not said:\n%s", step.name, s, out)
			}
		}
		for _, s := range step.not {
			if strings.Contains(out, s) {
				t.Errorf("%s: %q is said:\n%s", step.name, s, out)
			}
		}
	}
}
