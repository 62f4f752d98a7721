package open_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/open"
	"htlcdash/source/sourcetest"
	"htlcdash/source/web"
)

const owner = "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH"

func TestParse(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]open.Address{
		"https://films.example/one":                            {Kind: open.Web, URL: "https://films.example/one"},
		"http://127.0.0.1:8402":                                {Kind: open.Web, URL: "http://127.0.0.1:8402"},
		"s3://films/season/one/":                               {Kind: open.S3, Bucket: "films", Path: "season/one"},
		"s3://films?endpoint=http://127.0.0.1:9000&region=eu":  {Kind: open.S3, Bucket: "films", URL: "http://127.0.0.1:9000", Region: "eu"},
		"gaia://hub.example/films/one":                         {Kind: open.Gaia, URL: "https://hub.example", Path: "films/one"},
		"gaia://hub.example/" + owner + "/films/one":           {Kind: open.Gaia, URL: "https://hub.example", Owner: owner, Path: "films/one"},
		"gaia+http://127.0.0.1:3000/the/hub/" + owner + "/one": {Kind: open.Gaia, URL: "http://127.0.0.1:3000/the/hub", Owner: owner, Path: "one"},
		"/srv/films":        {Kind: open.Dir, Path: "/srv/films"},
		"dir:films":         {Kind: open.Dir, Path: "films"},
		"file:///srv/films": {Kind: open.Dir, Path: "/srv/films"},
		"~/films":           {Kind: open.Dir, Path: filepath.Join(home, "films")},
		"films":             {Kind: open.Dir, Path: "films"},
		"gaia://hub.example/" + owner[:len(owner)-1] + "x/the/path": {Kind: open.Gaia, URL: "https://hub.example", Path: owner[:len(owner)-1] + "x/the/path"},
	} {
		if got, err := open.Parse(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "dir:", "ftp://films.example", "s3://", "s3:///path", "https://", "gaia://", "s3://films?key=x", "s3://films?endpoint=%zz",
		"https://user:secret@films.example", "s3://user:secret@films", "gaia://user:secret@hub.example/x", "gaia://hub.example/?x=secret",
		"https://films.example/#secret", "a\nb", strings.Repeat("a", 3000), "magnet://x",
	} {
		got, err := open.Parse(s)
		if !errors.Is(err, htlcdash.ErrFormat) {
			t.Errorf("%.50q: %+v, %v", s, got, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error quotes a secret: %v", s, err)
		}
	}
}

func TestKinds(t *testing.T) {
	folder := t.TempDir()
	c := open.Config{GaiaKey: func() ([32]byte, error) { return [32]byte{31: 1}, nil }}
	for address, want := range map[string]string{
		"https://films.example/one/":                           "https://films.example/one",
		"s3://films/one?endpoint=https://s3.example&region=eu": "https://s3.example/films/one/",
		"s3://films":                           "https://s3.amazonaws.com/films/",
		"gaia://hub.example/" + owner + "/one": "https://hub.example/" + owner + "/one",
		"dir:" + folder:                        folder,
	} {
		if s, err := open.Source(address, c); err != nil || fmt.Sprint(s) != want {
			t.Errorf("source %s: %v, %v, want %s", address, s, err, want)
		}
	}
	for address, want := range map[string]string{
		"s3://films/one?endpoint=https://s3.example": "https://s3.example/films/one/",
		"gaia://hub.example/one":                     "https://hub.example/" + owner + "/one",
		"gaia://hub.example/" + owner + "/one":       "https://hub.example/" + owner + "/one",
		filepath.Join(folder, "new"):                 filepath.Join(folder, "new"),
	} {
		if s, err := open.Store(address, c); err != nil || fmt.Sprint(s) != want {
			t.Errorf("store %s: %v, %v, want %s", address, s, err, want)
		}
	}
	for address, want := range map[string]string{
		"https://films.example": "read and not written",
		"gaia://hub.example/1JwSSubhmg6iPtRjtyqhUYYH7bZg3Lfy1T/one": "not that of your key",
		"gaia+http://hub.example":                                   "https",
	} {
		if _, err := open.Store(address, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("store %s: %v, want %q", address, err, want)
		}
	}
	if _, err := open.Source("gaia://hub.example/one", c); err == nil || !strings.Contains(err.Error(), "whose bucket") {
		t.Errorf("a hub without an address: %v", err)
	}
	if _, err := open.Sources([]string{folder, filepath.Join(folder, "none")}, c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// Secrets are read when they are needed, not before, and what fails says why.
func TestSecretsAreReadWhenNeeded(t *testing.T) {
	broken := errors.New("cannot be read")
	c := open.Config{
		S3Credentials: func() (*credentials.Credentials, error) { return nil, broken },
		GaiaKey:       func() ([32]byte, error) { return [32]byte{}, broken },
	}
	if _, err := open.Source("https://films.example", c); err != nil {
		t.Error(err)
	}
	if _, err := open.Source("gaia://hub.example/"+owner, c); err != nil {
		t.Error(err)
	}
	if _, err := open.Source("s3://films", c); !errors.Is(err, broken) {
		t.Errorf("bucket: %v", err)
	}
	if _, err := open.Store("gaia://hub.example", c); !errors.Is(err, broken) {
		t.Errorf("hub: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"https://films.example/one", "s3://films/one?endpoint=https://s3.example&region=eu", "gaia://hub.example/" + owner + "/one", "dir:/srv", "~/films", "s3://a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := open.Parse(s)
		if err != nil {
			return
		}
		switch a.Kind {
		case open.Web:
			if a.URL != s {
				t.Errorf("%q became %q", s, a.URL)
			}
		case open.S3:
			if a.Bucket == "" {
				t.Errorf("%q names no bucket", s)
			}
		case open.Gaia:
			if a.URL == "" || strings.Contains(a.URL, "@") {
				t.Errorf("%q is a hub at %q", s, a.URL)
			}
		case open.Dir:
			if a.Path == "" {
				t.Errorf("%q is a folder without name", s)
			}
		default:
			t.Errorf("%q is of kind %v", s, a.Kind)
		}
	})
}

// What a title names is asked for bytes of this title, by who names it, and
// reaches no private network unless that is allowed.
func TestNamed(t *testing.T) {
	mine, data := sourcetest.Blob(1, htlcdash.LeafSize)
	other, _ := sourcetest.Blob(2, htlcdash.LeafSize)
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	holds := func(b htlcdash.Blob) bool { return b == mine }
	id := htlcdash.TitleID{1}

	var public []source.Source
	n := open.Named{Add: func(s source.Source) { public = append(public, s) }}
	if err := n.Title(id, []string{server.URL}, holds); err != nil || len(public) != 1 {
		t.Fatalf("%d sources, %v", len(public), err)
	}
	if _, err := public[0].Open(t.Context(), mine); !errors.Is(err, web.ErrPrivate) || asked.Load() > 0 {
		t.Errorf("%v after %d requests, want %v", err, asked.Load(), web.ErrPrivate)
	}

	var sources []source.Source
	n = open.Named{Private: true, Add: func(s source.Source) { sources = append(sources, s) }}
	for range 3 { // once for all
		if err := n.Title(id, []string{server.URL}, holds); err != nil || len(sources) != 1 {
			t.Fatalf("%d sources, %v", len(sources), err)
		}
	}
	if _, err := sources[0].Open(t.Context(), other); !errors.Is(err, htlcdash.ErrNotFound) || asked.Load() > 0 {
		t.Errorf("another title's bytes: %v after %d requests", err, asked.Load())
	}
	rc, err := sources[0].Open(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	rc.Close()
	if err := n.Title(id, nil, holds); err != nil { // published again, without
		t.Fatal(err)
	}
	if _, err := sources[0].Open(t.Context(), mine); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("a source that no title names any more: %v", err)
	}
}

func TestNamedIsBounded(t *testing.T) {
	sources := 0
	n := open.Named{Add: func(source.Source) { sources++ }}
	var err error
	for i := range open.MaxNamed + 10 {
		err = n.Title(htlcdash.TitleID{byte(i)}, []string{fmt.Sprintf("https://films%d.example", i)}, func(htlcdash.Blob) bool { return false })
	}
	if !errors.Is(err, open.ErrMany) || sources != open.MaxNamed {
		t.Errorf("%d sources, %v", sources, err)
	}
}
