package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/config"
	"htlcdash/lightning"
)

func TestSampleSetsEveryKey(t *testing.T) {
	f, err := config.Parse("sample", config.Sample("~/.htlcdash", nil))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(config.Keys()); f.Len() != n {
		t.Errorf("the sample sets %d keys, there are %d", f.Len(), n)
	}
	sampled, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	empty, err := config.Parse("empty", nil)
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := empty.Config()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%+v", sampled), fmt.Sprintf("%+v", defaults); got != want {
		t.Errorf("the sample says %s, the defaults are %s", got, want)
	}
	if n := len(sampled.Proxy.Providers); n != 0 {
		t.Errorf("an empty list has %d values", n)
	}
}

func TestSampleIsShipped(t *testing.T) {
	b, err := os.ReadFile("../../examples/htlcdash.toml")
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != string(config.Sample("~/.htlcdash", nil)) {
		t.Error("examples/htlcdash.toml is stale: run htlcdash init - > examples/htlcdash.toml")
	}
}

func TestSampleMovesFiles(t *testing.T) {
	b := string(config.Sample("/srv/films", nil))
	if !strings.Contains(b, `ledger = "/srv/films/provider.db"`) || strings.Contains(b, "~/.htlcdash") {
		t.Error("the sample does not put its files into the folder")
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"fine", "[serve]\nlisten = \":80\"", ""},
		{"list", "[proxy]\nproviders = [\"http://a\", \"http://b\"]", ""},
		{"misspelt key", "[serve]\nlisen = \":80\"", "unknown key serve.lisen, did you mean serve.listen?"},
		{"misspelt table", "[server]\nlisten = \":80\"", "did you mean serve.listen?"},
		{"no table", "listen = \":80\"", "unknown key listen, did you mean "},
		{"nothing like it", "[x]\nqqqqqqqqqq = 1", "unknown key x.qqqqqqqqqq"},
		{"number for text", "[serve]\nlisten = 80", "serve.listen: want text in quotes"},
		{"amount without quotes", "[proxy]\nbudget_day = 21", "proxy.budget_day: want text in quotes"},
		{"list of numbers", "[proxy]\nproviders = [1]", "want a list"},
		{"text for boolean", "[node]\nroute_hints = \"yes\"", "want true or false"},
		{"not TOML", "[serve\n", "toml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("htlcdash.toml", []byte(tt.file))
			if tt.want == "" && err != nil {
				t.Fatal(err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestConfigRefusesValues(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"amount without unit", `proxy = {budget_day = "21"}`, `write "21 sat"`},
		{"size without unit", `proxy = {cache_size = "21"}`, "with a unit"},
		{"time without unit", `proxy = {ahead = "21"}`, "duration"},
		{"not a level", `log = {level = "loud"}`, "must be one of"},
		{"half a second", `publish = {segment_seconds = 1.5}`, "int"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := config.Parse("htlcdash.toml", []byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Config(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	t.Setenv("HTLCDASH_PROXY_AHEAD", "7s")
	f, err := config.Parse("f", []byte("[proxy]\nahead = \"5s\"\nbudget_day = \"3 sat\"\nproviders = [\"a\", \"b\"]"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	if c.Proxy.Ahead != 7*time.Second {
		t.Errorf("ahead is %v: the environment goes before the file", c.Proxy.Ahead)
	}
	if c.Proxy.BudgetDay != 3*lightning.Sat {
		t.Errorf("budget is %v: the file goes before the default", c.Proxy.BudgetDay)
	}
	if len(c.Proxy.Providers) != 2 {
		t.Errorf("providers are %q", c.Proxy.Providers)
	}
}

func TestOpen(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	if f, err := config.Open(""); err != nil || f.Len() != 0 {
		t.Errorf("no file at all: %v, %v", f, err)
	}
	if _, err := config.Open(config.Path(filepath.Join(home, "none"))); err == nil {
		t.Error("a file that is named must exist")
	}
	if err := os.Mkdir(filepath.Join(home, ".htlcdash"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".htlcdash", "htlcdash.toml"), []byte("[log]\nlevel = \"debug\""), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := config.Open(""); err != nil || f.Len() != 1 {
		t.Errorf("the default file: %v, %v", f, err)
	}
}

func TestBytes(t *testing.T) {
	for _, tt := range []struct {
		text string
		want config.Bytes
		ok   bool
	}{
		{"0", 0, true},
		{"64 MiB", 64 << 20, true},
		{"2GB", 2e9, true},
		{"5 B", 5, true},
		{"5", 0, false},
		{"-1 MB", 0, false},
		{"1.5 GB", 0, false},
		{"99999999999 TiB", 0, false},
		{"", 0, false},
	} {
		var n config.Bytes
		if err := n.UnmarshalText([]byte(tt.text)); (err == nil) != tt.ok || n != tt.want {
			t.Errorf("%q gives %d, %v", tt.text, n, err)
		}
	}
	if s := config.Bytes(2 << 30).String(); s != "2 GiB" {
		t.Errorf("2 GiB prints as %s", s)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(config.Sample("~/.htlcdash", nil))
	f.Add([]byte("[serve]\nlisten = 1979-05-27"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if file, err := config.Parse("f", b); err == nil {
			_, _ = file.Config()
		}
	})
}

func TestSampleTakesValues(t *testing.T) {
	values := map[string]string{"proxy.providers": "http://a,http://b", "node.route_hints": "true", "log.level": "debug"}
	f, err := config.Parse("sample", config.Sample("/srv", values))
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Proxy.Providers) != 2 || !c.Node.RouteHints || c.Log.Level != "debug" {
		t.Errorf("got %q, %v, %q", c.Proxy.Providers, c.Node.RouteHints, c.Log.Level)
	}
}
