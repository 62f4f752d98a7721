package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/publish"
	"htlcdash/internal/title/titletest"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A street is a provider and a viewer's proxy as the commands run them, over a
// simulated Lightning network.
type street struct {
	title    *titletest.Title
	network  *sim.Network
	viewer   *sim.Node
	provider *sim.Node
	folder   string
	log      *slog.Logger
	logged   *syncBuffer
	shop     string // address of the provider
	page     string // address of the operator's page
	player   string // address of the proxy
}

// syncBuffer is written to by many goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newStreet(t *testing.T) *street {
	t.Helper()
	return streetFor(t, titletest.Make(t, titletest.Options{}))
}

func streetFor(t *testing.T, film *titletest.Title) *street {
	t.Helper()
	s := &street{title: film, network: sim.New(sim.Config{}), folder: t.TempDir(), logged: &syncBuffer{}}
	s.viewer, s.provider = s.network.Node("viewer"), s.network.Node("provider")
	s.network.Connect(s.viewer, s.provider, 1_000_000*lightning.Sat, 0)
	s.log = slog.New(slog.NewJSONHandler(s.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return s
}

// parse gives the commands as a command line makes them, with all files in the
// street's folder.
func (s *street) parse(t *testing.T, args ...string) *commands {
	t.Helper()
	file := filepath.Join(s.folder, "htlcdash.toml")
	values := map[string]string{"titles.folder": s.title.Dir, "proxy.providers": s.shop}
	if err := os.WriteFile(file, config.Sample(s.folder, values), 0o600); err != nil {
		t.Fatal(err)
	}
	var c commands
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append(args, "--config", file)); err != nil {
		t.Fatal(err)
	}
	return &c
}

func door(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// open runs a command until the returned function is called, which gives the
// command's error.
func (s *street) open(t *testing.T, run func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func (s *street) sell(t *testing.T, args ...string) (stop func() error) {
	t.Helper()
	return s.sellAt(t, "127.0.0.1:0", args...)
}

func (s *street) sellAt(t *testing.T, address string, args ...string) (stop func() error) {
	t.Helper()
	public, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	operator := door(t)
	s.shop = "http://" + public.Addr().String()
	c := s.parse(t, append([]string{"serve"}, args...)...)
	return s.open(t, func(ctx context.Context) error {
		return c.Serve.sell(ctx, public, operator, s.provider, s.provider.ID(), s.log)
	})
}

func (s *street) play(t *testing.T, args ...string) (stop func() error) {
	t.Helper()
	l := door(t)
	s.player = "http://" + l.Addr().String()
	c := s.parse(t, append([]string{"proxy"}, args...)...)
	return s.open(t, func(ctx context.Context) error { return c.Proxy.play(ctx, l, s.viewer, s.log) })
}

// get asks the proxy; the listener is open from the start, so it waits until
// the proxy is ready.
func (s *street) get(t *testing.T, path string) (int, []byte) {
	t.Helper()
	response, err := http.Get(s.player + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, b
}

// watch plays the whole of a Representation and compares each segment.
func (s *street) watch(t *testing.T, rep string) {
	t.Helper()
	for _, r := range s.title.Manifest.Representations() {
		if r.ID != rep {
			continue
		}
		for i, seg := range r.Segments {
			code, got := s.get(t, "/t/"+s.title.ID.String()+"/"+seg.Path)
			if code != http.StatusOK || !bytes.Equal(got, s.title.Plain(rep, i)) {
				t.Fatalf("segment %d of %s: status %d, %d bytes", i, rep, code, len(got))
			}
		}
		return
	}
	t.Fatalf("no Representation %s", rep)
}

// sum adds up a column of an export.
func (s *street) sum(t *testing.T, side, column string) (rows int, sum lightning.Msat) {
	t.Helper()
	out, _, err := call(t, "ledger", "export", side, "--config", filepath.Join(s.folder, "htlcdash.toml"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for i, name := range table[0] {
		if name == column {
			at = i
		}
	}
	for _, row := range table[1:] {
		n, err := strconv.ParseInt(row[at], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += lightning.Msat(n)
	}
	return len(table) - 1, sum
}

func TestWatchAndCount(t *testing.T) {
	s := newStreet(t)
	closeShop := s.sell(t)
	closeProxy := s.play(t)
	s.watch(t, "v1")
	s.watch(t, "v1") // what is owned is not bought again
	if err := closeProxy(); err != nil {
		t.Error(err)
	}
	s.network.Wait()
	if err := closeShop(); err != nil {
		t.Error(err)
	}
	balance, err := s.provider.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bought, paid := s.sum(t, "bought", "amount_msat")
	sold, received := s.sum(t, "sold", "received_msat")
	if bought < len(s.title.Segments(t, "v1")) || sold != bought || paid != received || balance.Outbound != received {
		t.Errorf("%d bought for %v, %d sold for %v, the provider's node has %v", bought, paid, sold, received, balance.Outbound)
	}
	if err := s.network.Check(); err != nil {
		t.Error(err)
	}
}

func TestBudgetEndsBuying(t *testing.T) {
	s := newStreet(t)
	s.sell(t)
	s.play(t, "--budget-title", "7 sat", "--max-fee", "0", "--max-fee-percent", "0")
	path := "/t/" + s.title.ID.String() + "/"
	refused := false
	for _, r := range s.title.Manifest.Representations() {
		for _, seg := range r.Segments {
			code, _ := s.get(t, path+seg.Path)
			refused = refused || code == http.StatusServiceUnavailable
		}
	}
	if _, paid := s.sum(t, "bought", "amount_msat"); !refused || paid > 7*lightning.Sat {
		t.Errorf("refused: %v, paid: %v", refused, paid)
	}
}

// Both faces call a title what its publisher calls it.
func TestTitlesHaveNamesForPeople(t *testing.T) {
	s := newStreet(t)
	s.sell(t)
	s.play(t)
	_, viewers := s.get(t, "/api/titles")
	s.player = s.shop
	_, sellers := s.get(t, "/v1/titles")
	for face, b := range map[string][]byte{"viewer's": viewers, "provider's": sellers} {
		for _, want := range []string{`"title":"Dash"`, fmt.Sprintf(`"publisher":%q`, s.title.Publisher)} {
			if !strings.Contains(string(b), want) {
				t.Errorf("the %s face does not say %s: %s", face, want, b)
			}
		}
	}
}

// A budget of what the film costs at its lowest quality, and not a msat more,
// plays it to its last segment.
func TestTightBudgetLastsToTheEnd(t *testing.T) {
	s := newStreet(t)
	s.sell(t)
	cheapest, _ := s.title.Manifest.PriceRange()
	s.play(t, "--budget-title", fmt.Sprintf("%d msat", cheapest))
	if code, _ := s.get(t, "/t/"+s.title.ID.String()+"/manifest.mpd?all=1"); code != http.StatusOK {
		t.Fatal("no MPD", code)
	}
	s.watch(t, "v0")
	s.watch(t, "a0")
	if _, paid := s.sum(t, "bought", "amount_msat"); paid != cheapest {
		t.Errorf("paid %v, want %v", paid, cheapest)
	}
}

// A title of several Periods plays to its end, also where they call their
// Representations alike.
func TestPeriods(t *testing.T) {
	for name, ids := range map[string]func(string, int) string{
		"ids of their own": func(id string, period int) string { return fmt.Sprintf("%s-%d", id, period) },
		"the same ids":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := streetFor(t, titletest.Make(t, titletest.Options{Segments: 3, Periods: 2, IDs: ids}))
			s.sell(t)
			cheapest, dearest := s.title.Manifest.PriceRange()
			s.play(t, "--budget-title", fmt.Sprintf("%d msat", dearest))
			if code, _ := s.get(t, "/t/"+s.title.ID.String()+"/manifest.mpd?all=1&t=4"); code != http.StatusOK {
				t.Fatal("no MPD", code)
			}
			played := map[int]bool{}
			for _, r := range s.title.Manifest.Representations() {
				if r.Height != 240 {
					s.watch(t, r.ID)
					played[r.Period] = true
				}
			}
			if bought, paid := s.sum(t, "bought", "amount_msat"); len(played) != 2 || bought != 12 || paid != dearest {
				t.Errorf("%d Periods, %d segments for %v, want 2, 12 and %v (the cheapest way costs %v)", len(played), bought, paid, dearest, cheapest)
			}
		})
	}
}

// A title whose keys open several segments each plays for one payment a key, as
// much as the MPD says and the budget allows.
func TestGroups(t *testing.T) {
	film := titletest.Make(t, titletest.Options{Segments: 8, Group: publish.Grouping{Length: 3 * time.Second}})
	s := streetFor(t, film)
	s.sell(t)
	_, dearest := s.title.Manifest.PriceRange()
	if dearest != 8*3_500 {
		t.Fatalf("the title costs up to %v", dearest)
	}
	s.play(t, "--budget-title", fmt.Sprintf("%d msat", dearest))
	s.get(t, "/t/"+s.title.ID.String()+"/manifest.mpd")
	s.watch(t, "v1")
	s.watch(t, "a0")
	if n, paid := s.sum(t, "bought", "amount_msat"); n != 6 || paid != dearest {
		t.Errorf("%d keys for %v, want 6 for %v", n, paid, dearest)
	}
}

func TestSilentProvider(t *testing.T) {
	s := newStreet(t)
	s.shop = "http://127.0.0.1:1" // nobody
	stop := s.play(t)
	if _, b := s.get(t, "/api/titles"); strings.TrimSpace(string(b)) != "[]" {
		t.Errorf("titles without a provider: %s", b)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(s.logged.String(), "127.0.0.1:1") {
		t.Error("the log does not name the silent provider")
	}
}

// Nothing that is worth money gets into logs, whatever happens.
func TestLogsHoldNoSecrets(t *testing.T) {
	s := newStreet(t)
	closeShop := s.sell(t)
	closeProxy := s.play(t)
	s.watch(t, "v0")
	s.watch(t, "a0")
	resp, err := http.Get(s.shop + "/t/" + filepath.Base(s.title.Dir) + "/" + s.title.Manifest.Representations()[1].Segments[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusPaymentRequired {
		t.Fatalf("a stranger gets %s, want 402", resp.Status)
	}
	if err := errorsOf(closeProxy(), closeShop()); err != nil {
		t.Fatal(err)
	}
	logged := s.logged.String()
	if n := strings.Count(logged, "\n"); n < 10 {
		t.Fatalf("only %d lines were logged: the test sees nothing", n)
	}
	for name, secret := range s.secrets(t) {
		for form, text := range forms(secret) {
			if strings.Contains(logged, text) {
				t.Errorf("the log holds %s as %s", name, form)
			}
		}
	}
	if strings.Contains(logged, "lnsb") {
		t.Error("the log holds an invoice")
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// secrets collects all that must not be logged in a street.
func (s *street) secrets(t *testing.T) map[string][]byte {
	t.Helper()
	secrets := map[string][]byte{}
	secret, made, err := secretFile(config.Path(filepath.Join(s.folder, "provider.secret")))
	if err != nil || made {
		t.Fatal("no provider's secret", err)
	}
	secrets["the provider's secret"] = secret[:]
	for _, rep := range s.title.Manifest.Representations() {
		for _, seg := range s.title.Segments(t, rep.ID) {
			key, err := s.title.Keys.Key(t.Context(), seg)
			if err != nil {
				t.Fatal(err)
			}
			b := key.Reveal()
			secrets[fmt.Sprintf("the key of %s/%d", rep.ID, seg.Index)] = b[:]
		}
	}
	books, err := ledger.OpenReader(filepath.Join(s.folder, "viewer.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	for p, err := range books.Purchases(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		payment, err := s.viewer.Lookup(t.Context(), p.Hash)
		if err != nil {
			t.Fatal(err)
		}
		preimage := payment.Preimage.Reveal()
		secrets["the preimage of "+p.Hash.String()] = preimage[:]
		secrets["the salt of "+p.Hash.String()] = p.Salt[:]
	}
	return secrets
}

// forms are the ways in which bytes get into a log.
func forms(b []byte) map[string]string {
	array, err := json.Marshal(numbers(b))
	if err != nil {
		panic(err)
	}
	return map[string]string{
		"hexadecimal":  hex.EncodeToString(b),
		"base64":       base64.RawStdEncoding.EncodeToString(b)[:40],
		"base64 URL":   base64.RawURLEncoding.EncodeToString(b)[:40],
		"numbers":      strings.Trim(fmt.Sprint(b), "[]"),
		"JSON numbers": strings.Trim(string(array), "[]"),
	}
}

func numbers(b []byte) (out []int) {
	for _, c := range b {
		out = append(out, int(c))
	}
	return out
}
