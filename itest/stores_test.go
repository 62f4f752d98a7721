//go:build itest

package itest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash"
	"htlcdash/internal/title"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/gaia"
	"htlcdash/source/gaia/gaiatest"
	"htlcdash/source/s3"
	"htlcdash/source/sourcetest"
	"htlcdash/source/web"
)

const (
	bucketKey    = "bucket-owner"
	bucketSecret = "bucket-secret-that-must-not-print"
)

// A gateway is versitygw over a folder, with a bucket called films.
type gateway struct {
	url    string
	folder string
	client *minio.Client
}

func startGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{folder: t.TempDir()}
	address := freeAddress(t)
	g.url = "http://" + address
	cmd := exec.Command(need(t, "../.build/bin/versitygw", "make versitygw"), "--port", address, "--quiet", "posix", g.folder)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+bucketKey, "ROOT_SECRET_KEY="+bucketSecret)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var err error
	if g.client, err = minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(bucketKey, bucketSecret, ""), Region: "us-east-1", MaxRetries: 1}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := g.client.MakeBucket(t.Context(), "films", minio.MakeBucketOptions{})
		if err == nil {
			return g
		}
		if time.Now().After(deadline) {
			t.Fatalf("the gateway does not answer: %v", err)
		}
	}
}

func (g *gateway) place(t *testing.T, prefix string) *s3.Bucket {
	t.Helper()
	b, err := s3.New("films", prefix, s3.Config{Endpoint: g.url, Region: "us-east-1", Credentials: credentials.NewStaticV4(bucketKey, bucketSecret, "")})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// public lets anybody read the bucket's objects, and not list them.
func (g *gateway) public(t *testing.T) {
	t.Helper()
	err := g.client.SetBucketPolicy(t.Context(), "films", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::films/*"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
}

var prefixes int

func newPrefix() string {
	prefixes++
	return fmt.Sprintf("place%d", prefixes)
}

// TestBucketOfAnotherMaker holds our client to its contracts at a service that
// is not made for tests.
func TestBucketOfAnotherMaker(t *testing.T) {
	g := startGateway(t)
	t.Run("source", func(t *testing.T) {
		sourcetest.Run(t, func(t *testing.T, blobs map[htlcdash.Blob][]byte) source.Source {
			b := g.place(t, newPrefix())
			for blob, data := range blobs {
				if err := b.Put(t.Context(), htlcdash.SealedPath(blob.Root), data, false); err != nil {
					t.Fatal(err)
				}
			}
			return b
		})
	})
	t.Run("store", func(t *testing.T) {
		sourcetest.RunStore(t, func(t *testing.T) source.Store { return g.place(t, newPrefix()) })
	})
	t.Run("anybody", func(t *testing.T) {
		g.public(t)
		blob, data := sourcetest.Blob(9, htlcdash.LeafSize)
		prefix := newPrefix()
		if err := g.place(t, prefix).Put(t.Context(), htlcdash.SealedPath(blob.Root), data, false); err != nil {
			t.Fatal(err)
		}
		anonymous, err := s3.New("films", prefix, s3.Config{Endpoint: g.url})
		if err != nil {
			t.Fatal(err)
		}
		plain, err := web.New(g.url+"/films/"+prefix, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]source.Source{"s3": anonymous, "plain HTTP": plain} {
			l, err := source.NewLibrary(source.Options{}, s)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := l.Get(t.Context(), blob); err != nil || !slices.Equal(got, data) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	})
	t.Run("who is wrong is told so", func(t *testing.T) {
		b, err := s3.New("films", "", s3.Config{Endpoint: g.url, Region: "us-east-1", Credentials: credentials.NewStaticV4(bucketKey, "wrong", "")})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), "x", nil, true); err == nil || !strings.Contains(err.Error(), "refuses these credentials") {
			t.Errorf("a wrong secret: %v", err)
		}
	})
}

// keysAndMPD copies titles without their sealed bytes.
func keysAndMPD(t *testing.T, titles string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(titles, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == htlcdash.SealedFolder:
			return fs.SkipDir
		}
		rel, err := filepath.Rel(titles, path)
		if err != nil || d.IsDir() {
			return err
		}
		target := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, readFile(t, path), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestFilmFromBucket publishes the film to a bucket. A provider that has nothing
// but MPD and keys sells it through real nodes; one viewer gets the bytes from
// the provider, which fetches them with its credentials, another from the bucket
// itself, as anybody may.
func TestFilmFromBucket(t *testing.T) {
	g := startGateway(t)
	titles := publishedFilm(t)
	address := "s3://films/bunny?region=us-east-1&endpoint=" + g.url
	env := []string{"AWS_ACCESS_KEY_ID=" + bucketKey, "AWS_SECRET_ACCESS_KEY=" + bucketSecret}
	said := publishTo(t, env, titles, address)
	if !strings.Contains(said, " 0 were there") {
		t.Errorf("it said %q", said)
	}
	if said = publishTo(t, env, titles, address); !strings.Contains(said, " 0 files sent") {
		t.Errorf("again it said %q", said)
	}
	err := filepath.WalkDir(g.folder, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".keys") {
			t.Errorf("%s went to the bucket", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, keysAndMPD(t, titles))
	provider := s.serveWith(t, freeAddress(t), env, "--sources", address)
	s.playsWhole(t, "through", provider)
	provider.stop()
	if strings.Contains(string(readFile(t, provider.log)), bucketSecret) {
		t.Error("the provider's log holds the secret of the bucket")
	}

	g.public(t)
	for name, from := range map[string]string{"anonymous": address, "plain": g.url + "/films/bunny"} {
		provider = s.serve(t, freeAddress(t), "--sources", t.TempDir())
		s.playsWhole(t, name, provider, "--proxy-sources", from)
		provider.stop()
	}
	var cost lightning.Msat
	for _, name := range []string{"through", "anonymous", "plain"} {
		cost += spent(t, purchases(t, s.books(name)))
	}
	if got := received(t, admin(t, s.network, "provider"), cost); got != cost {
		t.Errorf("the viewers' books say %v, the provider's node received %v", cost, got)
	}
}

// publishTo copies the film and returns what people are told.
func publishTo(t *testing.T, env []string, titles, to string, flags ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), append([]string{"publish", filmName, "--titles-folder", titles, "--to", to}, flags...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("publish: %v\n%s", err, out)
	}
	if strings.Contains(string(out), bucketSecret) {
		t.Error("it printed the secret of the bucket")
	}
	return string(out)
}

// playsWhole plays the film with our own player to the last frame, with books
// and a cache of their own.
func (s *stage) playsWhole(t *testing.T, name string, provider *process, flags ...string) {
	t.Helper()
	node, played := s.network.Node("viewer"), filepath.Join(s.dir, name+".mp4")
	s.command(t, append([]string{
		"play", filmName, "--proxy-providers", provider.url, "--quiet", "--fast", "--policy", "highest", "--write", played,
		"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--proxy-macaroon", s.buying,
		"--proxy-ledger", s.books(name), "--proxy-cache", filepath.Join(s.dir, name+".cache"),
	}, flags...)...)
	count, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", played).Output()
	if n := strings.TrimSpace(string(count)); err != nil || n != fmt.Sprint(filmFrames) {
		t.Errorf("%s: %s frames were written, want %d: %v", name, n, filmFrames, err)
	}
}

// startHub starts a Gaia hub in memory.
func startHub(t *testing.T) (hub *gaiatest.Hub, url string) {
	t.Helper()
	hub = &gaiatest.Hub{Challenge: `["gaiahub","0","test","blockstack_storage_please_sign"]`}
	reader, writer := httptest.NewServer(hub.Reader()), httptest.NewServer(hub.Writer())
	t.Cleanup(reader.Close)
	t.Cleanup(writer.Close)
	hub.ReadURL = reader.URL + "/"
	return hub, writer.URL
}

// gaiaClient runs the storage library of Stacks.
func gaiaClient(t *testing.T, what, hub, secret, folder, prefix string) (address string) {
	t.Helper()
	need(t, "gaia/node_modules/@stacks/storage", "npm ci --prefix itest/gaia")
	var files []string
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"gaia/client.mjs", what, hub, folder, prefix}, files...)...)
	cmd.Env = append(os.Environ(), "GAIA_KEY="+secret)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	var said struct {
		Address string
		Files   int
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n") // the library talks, too
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &said); err != nil || said.Files != len(files) {
		t.Fatalf("client said %q: %v", out, err)
	}
	return said.Address
}

// TestGaiaOfAnotherMaker has the storage library of Stacks write a title that our
// client reads, and the other way round, at one hub.
func TestGaiaOfAnotherMaker(t *testing.T) {
	const secret = "24004db06ef6d26cdd2b0fa30b332a1b10fa0ba2b07e63505ffc2a9ed7df22b4"
	made := titletest.Make(t, titletest.Options{})
	hub, url := startHub(t)
	address := gaiaClient(t, "write", url, secret, made.Dir, "theirs")
	place, err := gaia.New(url, address, "theirs")
	if err != nil {
		t.Fatal(err)
	}
	l, err := source.NewLibrary(source.Options{}, place)
	if err != nil {
		t.Fatal(err)
	}
	for _, rep := range made.Manifest.Representations() {
		for _, seg := range made.Segments(t, rep.ID) {
			if got, err := l.Get(t.Context(), seg.SealedBlob()); err != nil || !slices.Equal(got, made.Sealed(t, seg)) {
				t.Errorf("%s %d: %d bytes, %v", rep.ID, seg.Index, len(got), err)
			}
		}
	}
	if mpd, err := place.Get(t.Context(), title.MPDFile, 1<<20); err != nil || string(mpd) != string(made.MPD) {
		t.Errorf("MPD: %d bytes, %v", len(mpd), err)
	}

	keyFile := filepath.Join(t.TempDir(), "gaia.key")
	if err := os.WriteFile(keyFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	before := hub.Puts()
	out, err := exec.Command(program(t), "publish", made.Dir, "--stores-gaia-key", keyFile, "--to", "gaia+"+url+"/ours").CombinedOutput()
	if err != nil || strings.Contains(string(out), secret) {
		t.Fatalf("%v: %s", err, out)
	}
	if hub.Puts() == before {
		t.Error("it wrote nothing")
	}
	if got := gaiaClient(t, "read", url, secret, made.Dir, "ours"); got != address {
		t.Errorf("they call the bucket %s, we %s", got, address)
	}
}

// TestFilmFromGaia plays the film from a hub, by its read address, while the
// provider has no sealed bytes at all, and while a bucket that the viewer names
// first is dead.
func TestFilmFromGaia(t *testing.T) {
	hub, url := startHub(t)
	titles := publishedFilm(t)
	keyFile := filepath.Join(t.TempDir(), "gaia.key")
	said := publishTo(t, nil, titles, "gaia+"+url+"/bunny", "--stores-gaia-key", keyFile)
	_, read, ok := strings.Cut(said, "copied to\t")
	if read = strings.TrimSpace(read); !ok || !strings.HasPrefix(read, hub.ReadURL) {
		t.Fatalf("it said %q", said)
	}
	s := newStage(t, keysAndMPD(t, titles))
	provider := s.serve(t, freeAddress(t), "--sources", t.TempDir())
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	s.playsWhole(t, "gaia", provider, "--proxy-sources", dead.URL, "--proxy-sources", read)
	cost := spent(t, purchases(t, s.books("gaia")))
	if got := received(t, admin(t, s.network, "provider"), cost); got != cost || cost == 0 {
		t.Errorf("the viewer's books say %v, the provider's node received %v", cost, got)
	}
}
