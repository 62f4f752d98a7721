package spread_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash"
	"htlcdash/internal/spread"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
	"htlcdash/source"
	"htlcdash/source/dir"
	"htlcdash/source/gaia"
	"htlcdash/source/gaia/gaiatest"
	"htlcdash/source/s3"
)

var quick = spread.Options{Pause: time.Microsecond}

func folder(t *testing.T) (*dir.Store, string) {
	t.Helper()
	to := t.TempDir()
	s, err := dir.NewStore(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, to
}

func bucket(t *testing.T) source.Store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("films"); err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(service.Close)
	b, err := s3.New("films", "one", s3.Config{Endpoint: service.URL, Region: "here", Credentials: credentials.NewStaticV4("a", "b", "")})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hub(t *testing.T) source.Store {
	t.Helper()
	h := &gaiatest.Hub{}
	reader, writer := httptest.NewServer(h.Reader()), httptest.NewServer(h.Writer())
	t.Cleanup(reader.Close)
	t.Cleanup(writer.Close)
	h.ReadURL = reader.URL + "/"
	key, err := gaia.NewKey([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := gaia.NewWriter(writer.URL, "one", key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// files lists what lies in a folder, by path with slashes.
func files(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(folder, path)
		out[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A title comes whole, can be opened from there, and costs nothing again.
func TestToEachStore(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	want := files(t, made.Dir)
	for name, open := range map[string]func(*testing.T) source.Store{
		"folder": func(t *testing.T) source.Store { s, _ := folder(t); return s },
		"bucket": bucket,
		"hub":    hub,
	} {
		t.Run(name, func(t *testing.T) {
			to := open(t)
			var last spread.Progress
			o := quick
			o.Progress = func(p spread.Progress) { last = p }
			got, err := spread.Run(t.Context(), made.Dir, to, o)
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != made.ID || got.Sent != len(want) || got.Kept != 0 || got.Checked < 2 {
				t.Errorf("%+v of %d files", got, len(want))
			}
			if last.Files != last.AllFiles || last.Bytes != last.AllBytes || last.Bytes != got.Bytes {
				t.Errorf("progress ends at %+v", last)
			}
			for path, data := range want {
				if b, err := to.Get(t.Context(), path, 1<<20); err != nil || !bytes.Equal(b, data) {
					t.Errorf("%s: %d bytes, %v", path, len(b), err)
				}
			}
			if again, err := spread.Run(t.Context(), made.Dir, to, quick); err != nil || again.Sent != 0 || again.Kept != len(want) {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// The keys, and whatever else lies in the folder, stay at home.
func TestOnlyWhatTheTitleNames(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	for _, name := range []string{"title.keys", ".keys", "notes.txt", "sealed/secret"} {
		if err := os.WriteFile(filepath.Join(made.Dir, filepath.FromSlash(name)), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to, where := folder(t)
	if _, err := spread.Run(t.Context(), made.Dir, to, quick); err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(made.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range files(t, where) {
		if bytes.Equal(data, []byte("secret")) || bytes.Equal(data, keys) || strings.HasSuffix(path, ".keys") {
			t.Errorf("%s went out", path)
		}
	}
	if _, err := title.OpenDir(where); err != nil {
		t.Error(err)
	}
}

// A faulty store does what fault says before or after it writes.
type faulty struct {
	*dir.Store
	before, after func(path string, n int) error // n: how often path was put
	spoil         func(path string, data []byte) []byte

	mu   sync.Mutex
	puts map[string]int
	all  []string
}

func (f *faulty) Put(ctx context.Context, path string, data []byte, replace bool) error {
	f.mu.Lock()
	if f.puts == nil {
		f.puts = map[string]int{}
	}
	f.puts[path]++
	n := f.puts[path]
	f.all = append(f.all, path)
	f.mu.Unlock()
	if f.before != nil {
		if err := f.before(path, n); err != nil {
			return err
		}
	}
	if f.spoil != nil {
		data = f.spoil(path, data)
	}
	err := f.Store.Put(ctx, path, data, replace)
	if err == nil && f.after != nil {
		err = f.after(path, n)
	}
	return err
}

var errNetwork = errors.New("connection reset")

func TestFaultsCostARetry(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	once := func(_ string, n int) error {
		if n == 1 {
			return errNetwork
		}
		return nil
	}
	for name, f := range map[string]*faulty{
		"failed, and nothing happened": {before: once},
		"failed, but it happened":      {after: once},
	} {
		t.Run(name, func(t *testing.T) {
			s, where := folder(t)
			f.Store = s
			if _, err := spread.Run(t.Context(), made.Dir, f, quick); err != nil {
				t.Fatal(err)
			}
			if got, want := files(t, where), files(t, made.Dir); len(got) != len(want) {
				t.Errorf("%d files of %d", len(got), len(want))
			}
		})
	}
}

// What is broken off goes on where it stood, and shows nothing before it is whole.
func TestGoesOn(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	all := len(files(t, made.Dir))
	s, where := folder(t)
	var done sync.Map
	count := 0
	f := &faulty{Store: s, before: func(path string, _ int) error {
		if _, ok := done.Load(path); !ok && count >= 5 {
			return errNetwork
		}
		done.Store(path, true)
		count++
		return nil
	}}
	o := quick
	o.Workers = 1
	if _, err := spread.Run(t.Context(), made.Dir, f, o); !errors.Is(err, errNetwork) {
		t.Fatalf("got %v, want %v", err, errNetwork)
	}
	if got := files(t, where); len(got) != 5 || got[title.MPDFile] != nil || got[title.SignatureFile] != nil {
		t.Errorf("%d files before it broke off", len(got))
	}
	got, err := spread.Run(t.Context(), made.Dir, s, quick)
	if err != nil || got.Kept != 5 || got.Sent != all-5 {
		t.Errorf("%+v, %v, want 5 kept of %d", got, err, all)
	}
}

func TestTheMPDComesLast(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	s, _ := folder(t)
	f := &faulty{Store: s}
	if _, err := spread.Run(t.Context(), made.Dir, f, quick); err != nil {
		t.Fatal(err)
	}
	if n := len(f.all); !slices.Equal(f.all[n-2:], []string{title.SignatureFile, title.MPDFile}) {
		t.Errorf("the last were %q", f.all[n-2:])
	}
}

func TestAnotherTitle(t *testing.T) {
	one, other := titletest.Make(t, titletest.Options{}), titletest.Make(t, titletest.Options{Seed: 1})
	to, where := folder(t)
	if _, err := spread.Run(t.Context(), one.Dir, to, quick); err != nil {
		t.Fatal(err)
	}
	before := files(t, where)
	if _, err := spread.Run(t.Context(), other.Dir, to, quick); !errors.Is(err, spread.ErrOther) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("got %v, want %v", err, spread.ErrOther)
	}
	if after := files(t, where); len(after) != len(before) {
		t.Error("it wrote all the same")
	}
	o := quick
	o.Replace = true
	if _, err := spread.Run(t.Context(), other.Dir, to, o); err != nil {
		t.Fatal(err)
	}
	if got, err := title.OpenDir(where); err != nil || got.ID != other.ID {
		t.Errorf("%v, %v", got, err)
	}
}

// What lies there under the right name and is not the right thing is mended.
func TestMendsWhatIsThere(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	want := files(t, made.Dir)
	for name, spoil := range map[string]func(path string, data []byte) []byte{
		"cut off":        func(_ string, data []byte) []byte { return data[:len(data)-1] },
		"of other bytes": func(path string, data []byte) []byte { return append([]byte{data[0] ^ 1}, data[1:]...) },
	} {
		t.Run(name, func(t *testing.T) {
			to, where := folder(t)
			for path, data := range want {
				sealed := strings.HasPrefix(path, htlcdash.SealedFolder)
				if path == title.MPDFile || sealed && name == "of other bytes" {
					continue
				}
				if err := to.Put(t.Context(), path, spoil(path, data), false); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := spread.Run(t.Context(), made.Dir, to, quick); err != nil {
				t.Fatal(err)
			}
			for path, data := range files(t, where) {
				if !bytes.Equal(data, want[path]) {
					t.Errorf("%s is still spoilt", path)
				}
			}
		})
	}
}

// A store that takes bytes and keeps others is found out.
func TestReadsBack(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	for name, spoil := range map[string]func(path string, data []byte) []byte{
		"other sealed bytes": func(path string, data []byte) []byte {
			if strings.HasPrefix(path, htlcdash.SealedFolder) {
				return make([]byte, len(data))
			}
			return data
		},
		"another MPD": func(path string, data []byte) []byte {
			if path == title.MPDFile {
				return bytes.ReplaceAll(data, []byte("MPD"), []byte("mpd"))
			}
			return data
		},
		"less": func(_ string, data []byte) []byte { return data[:len(data)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := folder(t)
			o := quick
			o.Sample = 1000
			if _, err := spread.Run(t.Context(), made.Dir, &faulty{Store: s, spoil: spoil}, o); !errors.Is(err, htlcdash.ErrCorrupt) {
				t.Errorf("got %v, want %v", err, htlcdash.ErrCorrupt)
			}
		})
	}
}

// A damaged file at home does not get out.
func TestDamagedAtHome(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	seg := made.Segments(t, "v1")[2]
	path := htlcdash.SealedPath(seg.Sealed)
	if err := os.WriteFile(filepath.Join(made.Dir, filepath.FromSlash(path)), make([]byte, htlcdash.SealedLength(seg.Length)), 0o600); err != nil {
		t.Fatal(err)
	}
	to, where := folder(t)
	if _, err := spread.Run(t.Context(), made.Dir, to, quick); !errors.Is(err, htlcdash.ErrCorrupt) || !strings.Contains(err.Error(), "publish the film again") {
		t.Errorf("got %v, want %v", err, htlcdash.ErrCorrupt)
	}
	if got := files(t, where); got[path] != nil || got[title.MPDFile] != nil {
		t.Error("it went out")
	}
}

// Refused is refused: nobody is asked four times.
func TestRefused(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	s, _ := folder(t)
	f := &faulty{Store: s, before: func(string, int) error { return source.ErrRefused }}
	o := quick
	o.Workers = 1
	if _, err := spread.Run(t.Context(), made.Dir, f, o); !errors.Is(err, source.ErrRefused) {
		t.Errorf("got %v", err)
	}
	for path, n := range f.puts {
		if n > 1 {
			t.Errorf("%s was sent %d times", path, n)
		}
	}
}

func TestInterrupted(t *testing.T) {
	made := titletest.Make(t, titletest.Options{})
	s, _ := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := &faulty{Store: s, before: func(string, int) error { cancel(); return errNetwork }}
	o := quick
	o.Pause = time.Hour
	if _, err := spread.Run(ctx, made.Dir, f, o); err == nil {
		t.Error("it went on")
	}
}
