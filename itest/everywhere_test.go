//go:build itest

package itest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/devnet"
	"htlcdash/internal/ledger"
	"htlcdash/internal/title"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

const (
	farLength = 30 // segments of 2 s, two of which share a key
	farHalf   = farLength / 2
	// farStocked is the first segment whose key the relays have sold before.
	farStocked = farHalf - 1
	// farStall is the longest that the picture may stand still.
	farStall = time.Second
	// farAttempts is how often the film may be played until it does not: browser,
	// nodes and all share one machine, which may be busy with something else.
	farAttempts = 3
)

// TestFilmFromEverywhere plays a minute of film in a real browser. When the player
// asks for the middle of it, the film's origin is killed, which sells to all and has
// sold to two relays, and the rest comes from elsewhere:
//
//	keys    from relay A, which passes on and keeps what it passed on, and from relay B,
//	        which buys for its shelf whatever it is asked the price of. Nobody can sell a
//	        key that is in no relay when the origin dies, so each has sold a half of what
//	        is left, every other key, to a viewer who was there before. Until then B buys
//	        more of them, as the viewer looks ahead, so A need not sell much.
//	bytes   from a bucket, where every third segment lies; from relay A, which kept those
//	        that it has sold; and from libtorrent. Relay B has none of what is left.
//
// Each of them must have served, both relays when the origin was dead, every segment must be right, and all books, nodes
// and balances must agree to the msat, in each attempt. That the picture never stands
// still for longer than farStall must be so in one attempt of farAttempts.
func TestFilmFromEverywhere(t *testing.T) {
	s := newFarStage(t)
	for n := 1; ; n++ {
		stall := s.attempt(t, n)
		s.openOrigin(t) // so that its books hear of what its node got when it was dead
		s.account(t)
		switch {
		case t.Failed() || stall <= farStall:
			return
		case n == farAttempts:
			t.Fatalf("the picture stood still for %v", stall)
		}
		t.Logf("attempt %d: the picture stood still for %v", n, stall)
	}
}

// A farStage is a film in many places:
//
//	viewer ---- A ---- provider        channels
//	   |------- B ----/   |
//	   \------------------/
type farStage struct {
	*stage
	clear  string // folder of what was published, in clear
	title  *title.Title
	swarm  *swarm
	bucket *meter
	origin *process
	relays map[string]*meter // by name

	opening map[string]lightning.Balance // of each node, before anything was sold
	viewers []string                     // whose books count
}

func newFarStage(t *testing.T) *farStage {
	t.Helper()
	s := &farStage{stage: &stage{dir: t.TempDir()}, relays: map[string]*meter{}, opening: map[string]lightning.Balance{}}
	filmed := make(chan error, 1)
	go func() { filmed <- s.film(t) }()
	s.network = startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{
			{Name: "viewer", SQLite: true, Fund: 40 * million},
			{Name: "provider", SQLite: true},
			{Name: "a", SQLite: true, Fund: 20 * million},
			{Name: "b", SQLite: true, Fund: 20 * million},
		},
		Channels: []devnet.ChannelSpec{
			{From: "viewer", To: "provider", Capacity: 10 * million, Push: million},
			{From: "viewer", To: "a", Capacity: 10 * million, Push: million},
			{From: "viewer", To: "b", Capacity: 10 * million, Push: million},
			{From: "a", To: "provider", Capacity: 10 * million, Push: million},
			{From: "b", To: "provider", Capacity: 10 * million, Push: million},
		},
	})
	if err := <-filmed; err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"viewer", "provider", "a", "b"} {
		s.opening[name] = s.balance(t, name)
	}
	s.buying = s.bake(t, "viewer", lnd.BuyingRights)
	s.selling = s.bake(t, "provider", lnd.SellingRights)

	g := startGateway(t)
	publishTo(t, []string{"AWS_ACCESS_KEY_ID=" + bucketKey, "AWS_SECRET_ACCESS_KEY=" + bucketSecret}, s.titles, "s3://films/bunny?region=us-east-1&endpoint="+g.url)
	g.public(t)
	s.bucket = newMeter(t, g.url, nil)
	s.swarm = startSwarm(t)
	for _, rep := range s.title.Manifest.Representations() {
		s.swarm.ask(t, "seed", filepath.Join(s.folder(), title.TorrentFile(rep.Pay)), s.folder())
		for _, seg := range s.segments(t, rep.ID) {
			if seg.Index%3 == 0 {
				continue
			}
			if err := g.client.RemoveObject(t.Context(), "films", "bunny/"+htlcdash.SealedPath(seg.Sealed), minio.RemoveObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.openOrigin(t)
	s.openRelay(t, "a", "--upstream-mode", "pass", "--upstream-ahead", "0", "--cache", filepath.Join(s.dir, "a.cache"))
	s.openRelay(t, "b", "--upstream-mode", "shelf", "--cache", "")
	s.stock(t, "a")
	s.stock(t, "b", "--sources", s.folder()) // of whose bytes the relay sees nothing
	return s
}

func (s *farStage) folder() string { return filepath.Join(s.titles, filmName) }

// film makes a minute of the film, which is the clear text that all is held
// against, and publishes it.
func (s *farStage) film(t *testing.T) error {
	s.clear, s.titles = filepath.Join(s.dir, "clear"), filepath.Join(s.dir, "titles")
	if err := os.Mkdir(s.clear, 0o755); err != nil {
		return err
	}
	const four = ",loop=loop=3:size=360,setpts=N/24/TB" // 15 s, four times
	for _, cmd := range []*exec.Cmd{
		exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-t", "15", "-i", filmFile,
			"-vf", "scale=426:240"+four, "-af", "aloop=loop=-1:size=720000,asetpts=N/SR/TB", "-t", "60", "-ac", "2",
			"-c:v", "libx264", "-preset", "ultrafast", "-g", "48", "-keyint_min", "48", "-sc_threshold", "0", "-b:v", "600k",
			"-c:a", "aac", "-b:a", "96k", "-f", "dash", "-seg_duration", "2", "-use_timeline", "0",
			"-adaptation_sets", "id=0,streams=v id=1,streams=a", filepath.Join(s.clear, "manifest.mpd")),
		exec.CommandContext(t.Context(), programFile, "publish", s.clear, "--skip-quality", "--titles-folder", s.titles, "--name", filmName,
			"--key", filepath.Join(s.dir, "publisher.key"), "--group", "4s", "--per-megabyte", "20 sat", "--floor", "1 sat"),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd.Args[0], err, out)
		}
	}
	var err error
	s.title, err = title.OpenDir(s.folder())
	return err
}

func (s *farStage) segments(t *testing.T, rep string) []htlcdash.Segment {
	t.Helper()
	segs, err := s.title.Segments(t.Context(), rep)
	if err != nil || len(segs) != farLength {
		t.Fatalf("%d segments of %s, %v", len(segs), rep, err)
	}
	return segs
}

// openOrigin starts the origin, for the first time or again.
func (s *farStage) openOrigin(t *testing.T) {
	t.Helper()
	address := freeAddress(t)
	if s.origin != nil {
		address = strings.TrimPrefix(s.origin.url, "http://")
	}
	s.origin = s.serve(t, address, "--price-factor", "0.5")
}

// openRelay starts a relay as people are told to, and waits until it sells the film.
func (s *farStage) openRelay(t *testing.T, name string, flags ...string) {
	t.Helper()
	address, node, macaroon := freeAddress(t), s.network.Node(name), filepath.Join(s.dir, name+".macaroon")
	owner := []string{"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--node-macaroon", node.MacaroonFile}
	s.command(t, append([]string{"wallet", "bake", "relay", "--budget", "2000 sat", "--serve-upstream-macaroon", macaroon}, owner...)...)
	guard := s.launch(t, name+"-guard", nil, append([]string{"wallet", "guard", "--guard-tally", filepath.Join(s.dir, name+".tally")}, owner...)...)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(string(readFile(t, guard.log)), "guarding budgets"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the guard of relay %s is not ready", name)
		}
	}
	p := s.launch(t, name, nil, append([]string{
		"serve", "--credentials", "free", "--listen", address, "--page", "", "--titles-folder", filepath.Join(s.dir, "none"),
		"--upstream", s.origin.url, "--upstream-factor", "1", "--upstream-margin", "200 msat", "--upstream-max-fee", "0", "--upstream-max-fee-percent", "0",
		"--upstream-mirror", filepath.Join(s.dir, name+".mirror"), "--upstream-complaints", "",
		"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--upstream-macaroon", macaroon,
		"--ledger", s.books(name), "--secret", filepath.Join(s.dir, name+".secret"),
	}, flags...)...)
	p.url = "http://" + address
	p.await(t, "/v1/provider")
	relay, err := buyer.NewProvider(p.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if titles, err := relay.Titles(t.Context()); err == nil && len(titles) == 1 && titles[0].ID == s.title.ID {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("relay %s never sold the film", name)
		}
	}
	s.relays[name] = newMeter(t, p.url, nil)
}

// stock has somebody watch the second half of the film through a relay: every
// other key of it.
func (s *farStage) stock(t *testing.T, name string, flags ...string) {
	t.Helper()
	friend := "friend-of-" + name
	s.viewers = append(s.viewers, friend)
	viewer := s.proxy(t, friend, &process{url: s.relays[name].url}, nil, append(flags, "--ahead", "0s", "--ahead-money", "1 msat", "--max-fee", "0", "--max-fee-percent", "0")...)
	for _, rep := range s.title.Manifest.Representations() {
		for _, seg := range s.segments(t, rep.ID)[farStocked:] {
			from, _ := seg.Opens()
			if (from/2%2 == 0) != (name == "a") {
				continue
			}
			s.obtain(t, viewer, rep.Segments[seg.Index].Path)
		}
	}
	viewer.stop()
}

// obtain fetches a file through a viewer's proxy, and holds it against what was
// published.
func (s *farStage) obtain(t *testing.T, viewer *process, name string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var r *http.Response
		if r, err = http.Get(viewer.url + "/t/" + s.title.ID.String() + "/" + name); err != nil {
			continue
		}
		var got []byte
		got, err = io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusOK || err != nil {
			err = errors.Join(err, errors.New(r.Status))
			continue
		}
		if !bytes.Equal(got, readFile(t, filepath.Join(s.clear, name))) {
			t.Fatalf("%s is not what was published", name)
		}
		return
	}
	t.Fatalf("%s: %v", name, err)
}

// attempt plays the film, kills the origin in the middle, and returns how long the
// picture stood still at a time, at most.
func (s *farStage) attempt(t *testing.T, n int) (stall time.Duration) {
	t.Helper()
	name := fmt.Sprintf("viewer%d", n)
	s.viewers = append(s.viewers, name)
	viewer := s.proxy(t, name, &process{url: strings.Join([]string{s.origin.url, s.relays["a"].url, s.relays["b"].url}, ",")}, nil,
		"--sources", "s3://films/bunny?region=us-east-1&endpoint="+s.bucket.url, "--torrent-peers", "127.0.0.1:"+s.swarm.port,
		"--max-fee", "0", "--max-fee-percent", "0")
	served := func() map[string]int64 {
		return map[string]int64{
			"bucket": s.bucket.sealed.Load(), "relay A": s.relays["a"].sealed.Load(), "relay B": s.relays["b"].sealed.Load(), "swarm": s.swarm.uploaded(t),
		}
	}
	before := served()
	var (
		mu   sync.Mutex
		seen = map[string]bool{} // files that the browser got, and that are right
		half = s.title.Manifest.Representations()[0].Segments[farHalf].Path
		die  sync.Once
		rest time.Time            // since when the origin is dead
		then = map[string]int64{} // what relays had served of sealed bytes until then
	)
	page := newMeter(t, viewer.url, func(r *http.Request, status int, body []byte) {
		file := path.Base(r.URL.Path)
		want, err := os.ReadFile(filepath.Join(s.clear, file))
		if r.Method != http.MethodGet || status != http.StatusOK || path.Ext(file) != ".m4s" || err != nil {
			return
		}
		if !bytes.Equal(body, want) {
			t.Errorf("the browser got %s, which is not what was published", file)
		}
		mu.Lock()
		defer mu.Unlock()
		seen[file] = true
	})
	page.first = func(r *http.Request) {
		if path.Base(r.URL.Path) == half {
			die.Do(func() {
				s.origin.kill()
				rest = time.Now()
				for _, m := range s.relays {
					then[m.url] = m.sealed.Load()
				}
			})
		}
	}
	w := watch(t, page.url+"/", "--seconds", "120")
	if !w.Ended || w.Error != nil {
		t.Errorf("the film ended: %v, at %.1f s, error %v", w.Ended, w.Position, w.Error)
	}
	for status := range w.Statuses {
		if status != "200" && status != "206" && status != "304" {
			t.Errorf("the page got answers with status %s: %v", status, w.Statuses)
		}
	}
	for _, one := range w.Stalls {
		stall = max(stall, time.Duration(one.Ms*float64(time.Millisecond)))
	}
	mu.Lock()
	for _, rep := range s.title.Manifest.Representations() {
		for _, seg := range rep.Segments {
			if !seen[seg.Path] {
				t.Errorf("the browser never got %s", seg.Path)
			}
		}
	}
	mu.Unlock()
	if rest.IsZero() {
		t.Fatal("the player never came to the middle of the film")
	}
	bought := s.settled(t, name)
	viewer.stop()

	keys, after := boughtFrom(bought, 0), map[string]int{}
	for _, p := range bought {
		if p.State == lightning.Paid && p.Created.After(rest) {
			after[p.Provider]++
		}
	}
	for who, url := range map[string]string{"the origin": s.origin.url, "relay A": s.relays["a"].url, "relay B": s.relays["b"].url} {
		t.Logf("attempt %d: %s sold %d keys, %d of them when the origin was dead", n, who, keys[url], after[url])
	}
	sold := 0
	for name, m := range s.relays {
		sold += after[m.url]
		if after[m.url] == 0 && m.sealed.Load() == then[m.url] {
			t.Errorf("relay %s gave neither keys nor bytes when the origin was dead", name)
		}
	}
	if sold < 4 {
		t.Errorf("the relays sold %d keys when the origin was dead", sold)
	}
	for who, sum := range served() {
		sum -= before[who]
		t.Logf("attempt %d: %s served %d sealed bytes", n, who, sum)
		if sum == 0 && who != "relay B" {
			t.Errorf("%s served no sealed bytes", who)
		}
	}
	return stall
}

// settled returns what was bought, once nothing of it is open.
func (s *farStage) settled(t *testing.T, name string) []ledger.Purchase {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		bought, open := purchases(t, s.books(name)), 0
		for _, p := range bought {
			if p.State != lightning.Paid && p.State != lightning.Failed {
				open++
			}
		}
		if open == 0 {
			return bought
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d payments of %s are open", open, name)
		}
	}
}

// account holds all books against each other, against what nodes received, and
// against what they own.
func (s *farStage) account(t *testing.T) {
	t.Helper()
	paid := map[string]lightning.Msat{} // by node, to it
	from := map[string]lightning.Msat{} // by node, from it
	node := map[string]string{s.origin.url: "provider", s.relays["a"].url: "a", s.relays["b"].url: "b"}
	book := func(payer, books string) {
		bought := s.settled(t, books)
		for _, p := range bought {
			if p.State == lightning.Paid {
				paid[node[p.Provider]] += p.Amount
			}
			if p.Fee != 0 {
				t.Errorf("%s paid a fee of %v", books, p.Fee)
			}
		}
		from[payer] += spent(t, bought)
	}
	for _, name := range s.viewers {
		book("viewer", name)
	}
	book("a", "a")
	book("b", "b")
	for _, name := range []string{"provider", "a", "b"} {
		if got := received(t, admin(t, s.network, name), paid[name]); got != paid[name] {
			t.Errorf("%s's node received %v, the buyers' books say %v", name, got, paid[name])
		}
		earned := sold(t, s.books(name))
		for deadline := time.Now().Add(time.Minute); earned != paid[name] && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			earned = sold(t, s.books(name)) // it hears of the last sales from its node
		}
		if earned != paid[name] {
			t.Errorf("%s's books say that it earned %v, the buyers' %v", name, earned, paid[name])
		}
	}
	if paid["provider"] == 0 || from["a"]+from["b"] == 0 {
		t.Errorf("the origin earned %v, the relays paid %v", paid["provider"], from["a"]+from["b"])
	}
	for name, opening := range s.opening {
		want := opening.Outbound + paid[name] - from[name]
		got := s.balance(t, name).Outbound
		for deadline := time.Now().Add(time.Minute); got != want && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			got = s.balance(t, name).Outbound // the channels' last steps may be under way
		}
		if got != want {
			t.Errorf("%s's channels hold %v, it should be %v", name, got, want)
		}
	}
	t.Logf("viewers paid %v; the origin got %v of it, A kept %v and B %v", from["viewer"], paid["provider"], paid["a"]-from["a"], paid["b"]-from["b"])
}

func (s *farStage) balance(t *testing.T, name string) lightning.Balance {
	t.Helper()
	b, err := admin(t, s.network, name).Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A meter is a web proxy that counts the sealed bytes that pass.
type meter struct {
	url    string
	sealed atomic.Int64
	first  func(*http.Request) // sees each request before it is passed on; nil: nobody
}

// newMeter starts a meter. seen, if it is not nil, sees each segment that passes.
func newMeter(t *testing.T, behind string, seen func(r *http.Request, status int, body []byte)) *meter {
	t.Helper()
	target, err := url.Parse(behind)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		ErrorLog: log.New(io.Discard, "", 0),
		ModifyResponse: func(r *http.Response) error {
			sealed := strings.Contains(r.Request.URL.Path, "/"+htlcdash.SealedFolder+"/") && r.StatusCode/100 == 2
			if !sealed && (seen == nil || path.Ext(r.Request.URL.Path) != ".m4s") {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			if sealed {
				m.sealed.Add(int64(len(body)))
			}
			if seen != nil {
				seen(r.Request, r.StatusCode, body)
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.first != nil {
			m.first(r)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	m.url = server.URL
	return m
}

// A swarm is a libtorrent client: see swarm/swarm.py.
type swarm struct {
	port string
	in   io.Writer
	out  *bufio.Reader
}

func startSwarm(t *testing.T) *swarm {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "swarm/swarm.py") // Debian's, for which Debian's libtorrent is built
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	return &swarm{in: in, out: bufio.NewReader(out)}
}

// ask returns the answer to one command.
func (s *swarm) ask(t *testing.T, command ...string) string {
	t.Helper()
	if _, err := fmt.Fprintln(s.in, strings.Join(command, " ")); err != nil {
		t.Fatal(err)
	}
	answer, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatalf("libtorrent does not answer %q: %v", command, err)
	}
	answer = strings.TrimSpace(answer)
	if command[0] == "seed" {
		s.port = answer
	}
	return answer
}

// uploaded is how many bytes of files it has sent.
func (s *swarm) uploaded(t *testing.T) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s.ask(t, "uploaded"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
