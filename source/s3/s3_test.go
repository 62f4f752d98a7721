package s3_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/s3"
	"htlcdash/source/sourcetest"
)

const (
	accessKey = "AKIDEXAMPLE"
	secretKey = "a-secret-that-must-not-print"
)

// bucket returns a place in a fresh bucket, and its service.
func bucket(t *testing.T, over func(http.Handler) http.Handler, c s3.Config) *s3.Bucket {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("films"); err != nil {
		t.Fatal(err)
	}
	h := http.Handler(gofakes3.New(backend).Server())
	if over != nil {
		h = over(h)
	}
	service := httptest.NewServer(h)
	t.Cleanup(service.Close)
	c.Endpoint, c.Region = service.URL, "eu-west-1"
	b, err := s3.New("films", "season/one", c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func signed() s3.Config {
	return s3.Config{Credentials: credentials.NewStaticV4(accessKey, secretKey, "")}
}

func fill(t *testing.T, b *s3.Bucket, blobs map[htlcdash.Blob][]byte) *s3.Bucket {
	t.Helper()
	for blob, data := range blobs {
		if err := b.Put(t.Context(), htlcdash.SealedPath(blob.Root), data, false); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestSuite(t *testing.T) {
	for name, c := range map[string]s3.Config{"signed": signed(), "anonymous": {}} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source {
				return fill(t, bucket(t, nil, c), blobs)
			})
		})
	}
}

func TestHostileServers(t *testing.T) {
	sourcetest.RunHostile(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte, spoil func(http.Handler) http.Handler) source.Source {
		return fill(t, bucket(t, spoil, signed()), blobs)
	})
}

func TestStore(t *testing.T) {
	sourcetest.RunStore(t, func(t *testing.T) source.Store { return bucket(t, nil, signed()) })
}

// Who reads without credentials shows none, and lists nothing.
func TestAnonymousAsksPlainly(t *testing.T) {
	var odd atomic.Pointer[string]
	b := bucket(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" || r.URL.RawQuery != "" {
				s := fmt.Sprint(r.URL, r.Header)
				odd.Store(&s)
			}
			h.ServeHTTP(w, r)
		})
	}, s3.Config{})
	blob, data := sourcetest.Blob(1, htlcdash.LeafSize)
	fill(t, b, map[htlcdash.Blob][]byte{blob: data})
	if err := b.Has(t.Context(), blob); err != nil {
		t.Error(err)
	}
	if s := odd.Load(); s != nil {
		t.Errorf("it asked for %s", *s)
	}
}

func TestETagIsTold(t *testing.T) {
	b := bucket(t, nil, signed())
	if err := b.Put(t.Context(), "manifest.mpd", []byte("abc"), false); err != nil {
		t.Fatal(err)
	}
	if info, err := b.Stat(t.Context(), "manifest.mpd"); err != nil || info.MD5 != "900150983cd24fb0d6963f7d28e17f72" {
		t.Errorf("%+v, %v", info, err)
	}
}

// Errors tell people what to do, and no secrets.
func TestErrorsForPeople(t *testing.T) {
	refuse := func(status int, code string) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(status)
				fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, secretKey)
			})
		}
	}
	for _, c := range []struct {
		name   string
		over   func(http.Handler) http.Handler
		config s3.Config
		want   string
	}{
		{"no bucket", refuse(404, "NoSuchBucket"), signed(), "stores.s3_endpoint"},
		{"wrong secret", refuse(403, "SignatureDoesNotMatch"), signed(), "refuses these credentials"},
		{"no credentials", refuse(403, "AccessDenied"), s3.Config{}, "AWS_ACCESS_KEY_ID"},
		{"down", refuse(503, "SlowDown"), signed(), "503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := bucket(t, c.over, c.config).Put(t.Context(), "manifest.mpd", []byte("x"), true)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secretKey) {
				t.Errorf("got %v, want %q in it and no secret", err, c.want)
			}
		})
	}
	for _, s := range []string{fmt.Sprint(bucket(t, nil, signed())), fmt.Sprintf("%+v", bucket(t, nil, signed()))} {
		if strings.Contains(s, secretKey) {
			t.Errorf("the secret prints: %s", s)
		}
	}
}

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[films]\naws_access_key_id = "+accessKey+"\naws_secret_access_key = "+secretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	if c, err := s3.Credentials(filepath.Join(t.TempDir(), "none"), "default"); c != nil || err != nil {
		t.Errorf("without any: %v, %v", c, err)
	}
	if _, err := s3.Credentials(file, "other"); err == nil || strings.Contains(err.Error(), secretKey) {
		t.Errorf("no such profile: %v", err)
	}
	c, err := s3.Credentials(file, "films")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.GetWithContext(nil); err != nil || v.AccessKeyID != accessKey || v.SecretAccessKey != secretKey {
		t.Errorf("the file gave another key: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "FROMENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	if c, err = s3.Credentials(file, "films"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.GetWithContext(nil); err != nil || v.AccessKeyID != "FROMENV" {
		t.Errorf("the environment does not go first: %v", err)
	}
}

func TestNew(t *testing.T) {
	for _, endpoint := range []string{"s3.example", "ftp://s3.example", "https://", "https://user:pass@s3.example", "https://s3.example/path"} {
		_, err := s3.New("films", "", s3.Config{Endpoint: endpoint})
		if err == nil || strings.Contains(err.Error(), "pass") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	b, err := s3.New("films", "/a/", s3.Config{Endpoint: "https://s3.example"})
	if err != nil || b.String() != "https://s3.example/films/a/" {
		t.Errorf("%v, %v", b, err)
	}
}

func BenchmarkGet(b *testing.B) {
	backend := s3mem.New()
	if err := backend.CreateBucket("films"); err != nil {
		b.Fatal(err)
	}
	service := httptest.NewServer(gofakes3.New(backend).Server())
	defer service.Close()
	c := signed()
	c.Endpoint, c.Region = service.URL, "eu-west-1"
	place, err := s3.New("films", "", c)
	if err != nil {
		b.Fatal(err)
	}
	blob, data := sourcetest.Blob(1, 1<<20)
	if err := place.Put(b.Context(), htlcdash.SealedPath(blob.Root), data, false); err != nil {
		b.Fatal(err)
	}
	l, err := source.NewLibrary(source.Options{}, place)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1 << 20)
	for b.Loop() {
		if got, err := l.Get(b.Context(), blob); err != nil || !bytes.Equal(got, data) {
			b.Fatal(err)
		}
	}
}
