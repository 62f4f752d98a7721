package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"htlcdash"
	"htlcdash/internal/config"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
	"htlcdash/source/gaia"
	"htlcdash/source/gaia/gaiatest"
	"htlcdash/source/web"
)

const bucketSecret = "secret-of-the-bucket"

// A depot is a kind of place that titles are published to.
type depot struct {
	to   string          // what --to says
	from string          // what --sources says
	read func() []string // paths of what is there, by their ends
}

func folderDepot(t *testing.T, _ *street) depot {
	folder := filepath.Join(t.TempDir(), "films")
	return depot{"dir:" + folder, folder, func() (paths []string) {
		_ = filepath.WalkDir(folder, func(path string, _ os.DirEntry, _ error) error {
			paths = append(paths, path)
			return nil
		})
		return paths
	}}
}

func bucketDepot(t *testing.T, _ *street) depot {
	backend := s3mem.New()
	if err := backend.CreateBucket("films"); err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(service.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", bucketSecret)
	address := "s3://films/one?endpoint=" + service.URL + "&region=here"
	return depot{address, address, func() (paths []string) {
		list, err := backend.ListBucket("films", &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Contents {
			paths = append(paths, o.Key)
		}
		return paths
	}}
}

func hubDepot(t *testing.T, s *street) depot {
	hub := &gaiatest.Hub{Challenge: "sign this"}
	reader, writer := httptest.NewServer(hub.Reader()), httptest.NewServer(hub.Writer())
	t.Cleanup(reader.Close)
	t.Cleanup(writer.Close)
	hub.ReadURL = reader.URL + "/"
	secret, _, err := secretFile(config.Path(filepath.Join(s.folder, "gaia.key")))
	if err != nil {
		t.Fatal(err)
	}
	key, err := gaia.NewKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(writer.URL, "http://")
	return depot{"gaia+http://" + host + "/one", "gaia+http://" + host + "/" + key.Address() + "/one", func() (paths []string) {
		for path := range hub.Files() {
			paths = append(paths, path)
		}
		return paths
	}}
}

// webDepot is a folder that a web server shows.
func webDepot(t *testing.T, s *street) depot {
	d := folderDepot(t, s)
	server := httptest.NewServer(http.FileServer(http.Dir(d.from)))
	t.Cleanup(server.Close)
	d.from = server.URL
	return d
}

// whole publishes the street's title to a place, and removes its sealed bytes
// at home.
func (s *street) whole(t *testing.T, d depot) {
	t.Helper()
	s.parse(t, "version") // writes the configuration
	args := []string{"publish", s.title.Dir, "--to", d.to, "--config", filepath.Join(s.folder, "htlcdash.toml")}
	out, says, err := call(t, args...)
	if err != nil {
		t.Fatal(err, says)
	}
	if !strings.Contains(out, "copied to") || strings.Contains(out+says, bucketSecret) {
		t.Errorf("it says %q and %q", out, says)
	}
	paths := strings.Join(d.read(), "\n")
	if strings.Contains(paths, ".keys") || !strings.Contains(paths, title.MPDFile) {
		t.Errorf("it copied %s", paths)
	}
	if _, says, err = call(t, args...); err != nil || !strings.Contains(says, " 0 files sent") {
		t.Errorf("again: %q, %v", says, err)
	}
	if err := os.RemoveAll(filepath.Join(s.title.Dir, htlcdash.SealedFolder)); err != nil {
		t.Fatal(err)
	}
}

// playsWhole plays the title to its end.
func (s *street) playsWhole(t *testing.T, args ...string) {
	t.Helper()
	events, people, err := s.playTitle(t, t.Context(), s.name(), append([]string{"--policy", "highest"}, args...)...)
	if err != nil {
		t.Fatal(err, people)
	}
	if end := events[len(events)-1]; end.Event != "end" || end.Result.Played != 5000 {
		t.Errorf("the end is %+v", end)
	}
	if strings.Contains(s.logged.String(), bucketSecret) {
		t.Error("the log holds a secret")
	}
}

// A film is published to each kind of place and removed at home, and plays from
// there: by a provider that holds MPD and keys, and by a viewer who fetches for
// himself.
func TestFilmFromEverywhere(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *street) depot{
		"folder": folderDepot, "bucket": bucketDepot, "hub": hubDepot, "web": webDepot,
	} {
		t.Run(name+" by the provider", func(t *testing.T) {
			s := newStreet(t)
			d := open(t, s)
			s.whole(t, d)
			s.sell(t, "--sources", d.from)
			s.playsWhole(t)
		})
		t.Run(name+" by the viewer", func(t *testing.T) {
			s := newStreet(t)
			d := open(t, s)
			s.whole(t, d)
			s.sell(t, "--sources", t.TempDir()) // it sells keys and has no bytes
			s.playsWhole(t, "--proxy-sources", d.from)
		})
	}
}

// What the MPD names is used as what the viewer names, but not in private
// networks, unless the viewer wants that.
func TestSourcesThatTheTitleNames(t *testing.T) {
	files, asked := http.Handler(nil), new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s := streetFor(t, titletest.Make(t, titletest.Options{Sources: []string{server.URL}}))
	d := folderDepot(t, s)
	files = http.FileServer(http.Dir(d.from))
	s.whole(t, d)
	s.sell(t)
	refused, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for refused.Err() == nil && !strings.Contains(s.logged.String(), web.ErrPrivate.Error()) {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	if _, _, err := s.playTitle(t, refused, s.name(), "--policy", "highest"); err == nil || asked.Load() > 0 {
		t.Fatalf("%d requests to a private address that a stranger named, %v", asked.Load(), err)
	}
	s.playsWhole(t, "--proxy-private-sources")
	if asked.Load() == 0 {
		t.Error("nobody asked the title's source")
	}
}

// The torrents of a title are made when it is published; --to torrent says where
// they are and how they are called.
func TestPublishToTorrent(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	film := titletest.Make(t, titletest.Options{})
	out, _, err := call(t, "publish", film.Dir, "--to", "torrent")
	if err != nil {
		t.Fatal(err)
	}
	for _, rep := range film.Manifest.Representations() {
		if want := fmt.Sprintf("&xt=urn:btmh:1220%x", rep.Pay.InfoHash); !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if err := os.RemoveAll(filepath.Join(film.Dir, title.TorrentsDir)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := call(t, "publish", film.Dir, "--to", "torrent"); err == nil || !strings.Contains(err.Error(), "publish the film again") {
		t.Errorf("without the torrents: %v", err)
	}
}

func TestPublishToNowhere(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	film := titletest.Make(t, titletest.Options{}).Dir
	for _, tt := range []struct {
		name string
		args []string
		code int
		text string
	}{
		{"no place", []string{film}, exitUsage, "--to"},
		{"a web address", []string{film, "--to", "https://films.example"}, exitUsage, "not written to"},
		{"another scheme", []string{film, "--to", "ftp://films.example"}, exitUsage, "want https://, s3://, gaia:// or a folder"},
		{"nobody there", []string{film, "--to", "gaia+http://127.0.0.1:1/x"}, exitError, "goes on from it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := call(t, append([]string{"publish"}, tt.args...)...)
			if exitCode(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %q in it and code %d", err, tt.text, tt.code)
			}
		})
	}
}
