//go:build itest

package itest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/devnet"
	"htlcdash/internal/ledger"
	"htlcdash/internal/seller"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// TestDemo does what a newcomer does: one command, a browser, Ctrl-C, and the
// command once more.
func TestDemo(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "demo")
	first := startDemo(t, folder)
	w := watch(t, first.page, "--seconds", "120")
	w.whole(t)
	bought := purchases(t, filepath.Join(folder, "viewer.db"))
	opens := groups(t, folder)
	if gaps := missing(bought, opens, false); gaps != nil {
		t.Errorf("segments %v were shown and not paid for", gaps)
	}
	if gaps := missing(bought, opens, true); gaps != nil {
		t.Errorf("sound segments %v were played and not paid for", gaps)
	}
	cost := spent(t, bought)
	if got := first.provider(t); got != cost {
		t.Errorf("the viewer's books say %v, the provider's node received %v", cost, got)
	}
	if got := sold(t, filepath.Join(folder, "provider.db")); got != cost {
		t.Errorf("the viewer's books say %v, the provider's %v", cost, got)
	}
	if state := first.state(t); state.Title.Spent != cost {
		t.Errorf("the page says %v, the books %v", state.Title.Spent, cost)
	}
	first.stop(t)

	began := time.Now()
	second := startDemo(t, folder)
	t.Logf("the second start took %v", time.Since(began).Round(time.Millisecond))
	watch(t, second.page, "--seconds", "60", "--until", "6").advanced(t, 6)
	if again := purchases(t, filepath.Join(folder, "viewer.db")); spent(t, again) < cost {
		t.Error("the books forgot what was spent")
	}
	second.stop(t)
	second.leaksNothing(t)
}

// TestBudgetBinds sets a budget that the film does not fit in while it plays. Keys and
// sealed bytes cost money: all books and both pages split it in the same way.
func TestBudgetBinds(t *testing.T) {
	s := newStage(t, publishedFilm(t))
	operator := freeAddress(t)
	provider := s.serve(t, freeAddress(t), "--page", operator, "--byte-price", "4 sat", "--byte-step", "1 MiB")
	const budget = 15 * lightning.Sat
	viewer := s.proxy(t, "frugal", provider, nil, "--budget-title", budget.String(), "--byte-price-max", "4 sat")
	seen := watch(t, viewer.url+"/", "--seconds", "25", "--stop", "--read", "keys,carriage,spent")
	seen.advanced(t, 2)
	s.splits(t, seen, "http://"+operator)
	cost := spent(t, purchases(t, s.books("frugal")))
	if cost > budget {
		t.Errorf("spent %v of %v", cost, budget)
	}
	if cost < budget/2 {
		t.Errorf("spent only %v of %v", cost, budget)
	}
	if got := received(t, admin(t, s.network, "provider")); got != cost {
		t.Errorf("the books say %v, the provider's node received %v", cost, got)
	}
}

// splits holds what was paid for keys and for bytes by the viewer's books against the
// provider's, and both pages against these.
func (s *stage) splits(t *testing.T, viewer watched, operator string) {
	t.Helper()
	var keys, carriage lightning.Msat
	for _, p := range purchases(t, s.books("frugal")) {
		switch {
		case p.State != lightning.Paid:
		case p.IsCarriage():
			carriage += p.Amount
		default:
			keys += p.Amount
		}
	}
	if keys == 0 || carriage == 0 {
		t.Errorf("keys cost %v, and bytes %v", keys, carriage)
	}
	var report seller.Report
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(operator + "/api/provider")
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(resp.Body).Decode(&report)
		if resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if report.Earned == keys+carriage {
			break
		}
	}
	if report.Earned != keys+carriage || report.Carriage != carriage || report.Titles[0].Earned != keys || report.Titles[0].Carriage != carriage {
		t.Errorf("the viewer paid %v for keys and %v for bytes; the provider says %+v", keys, carriage, report)
	}
	if got := sold(t, s.books("provider")); got != keys+carriage {
		t.Errorf("the provider's books say %v, want %v", got, keys+carriage)
	}
	provider := watch(t, operator+"/", "--seconds", "0", "--read", "keys,carriage,earned")
	for _, c := range []struct{ what, says, want string }{
		{"viewer's page, keys", viewer.Texts["keys"], shown(keys) + " sat"},
		{"viewer's page, bytes", viewer.Texts["carriage"], shown(carriage) + " sat"},
		{"viewer's page, in all", viewer.Texts["spent"], shown(keys + carriage)},
		{"provider's page, keys", provider.Texts["keys"], shown(keys) + " sat"},
		{"provider's page, bytes", provider.Texts["carriage"], shown(carriage) + " sat"},
		{"provider's page, in all", provider.Texts["earned"], shown(keys + carriage)},
	} {
		if c.says != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.says, c.want)
		}
	}
}

// shown is less than 1000 sat as the pages show it: with the digits that matter.
func shown(m lightning.Msat) string {
	if m >= 10*lightning.Sat && m%lightning.Sat != 0 {
		tenths := (m + 50) / 100
		return fmt.Sprintf("%d.%d", tenths/10, tenths%10)
	}
	return strconv.FormatFloat(float64(m)/float64(lightning.Sat), 'f', -1, 64)
}

func (w watched) advanced(t *testing.T, seconds float64) {
	t.Helper()
	if w.Position < seconds {
		t.Errorf("the film stands at %.1f s, want %.1f s", w.Position, seconds)
	}
	if w.Statuses["402"] > 0 {
		t.Error("a player was shown a 402")
	}
}

// A demo is `htlcdash demo` as a person sees it.
type demo struct {
	folder string
	page   string
	output *bytes.Buffer
	cmd    *exec.Cmd
	done   chan error
}

var watchLine = regexp.MustCompile(`Watch the film:\s+(http://\S+)`)

func startDemo(t *testing.T, folder string) *demo {
	t.Helper()
	d := &demo{folder: folder, output: new(bytes.Buffer), done: make(chan error, 1)}
	d.cmd = exec.Command(program(t), "demo", "--no-open", "--folder", folder, "--media", need(t, filmFile, "make film"))
	d.cmd.Env = append(os.Environ(), "HTLCDASH_LOG_LEVEL=debug")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	read, write := io.Pipe()
	d.cmd.Stdout, d.cmd.Stderr = write, write
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := d.cmd.Wait()
		write.Close()
		d.done <- err
	}()
	page := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(io.TeeReader(read, d.output))
		for lines.Scan() {
			if m := watchLine.FindStringSubmatch(lines.Text()); m != nil {
				page <- m[1]
			}
		}
	}()
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	select {
	case d.page = <-page:
	case err := <-d.done:
		t.Fatalf("the demo ended: %v\n%s", err, d.output)
	case <-time.After(5 * time.Minute):
		t.Fatalf("the demo is not ready\n%s", d.output)
	}
	return d
}

// stop is Ctrl-C. Nothing that the demo started may outlive it.
func (d *demo) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-d.done:
		if err != nil {
			t.Errorf("the demo ended with %v\n%s", err, d.output)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the demo goes on after Ctrl-C\n%s", d.output)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && bytes.Contains(line, []byte(d.folder)) {
			t.Errorf("still there: %s", bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
}

// provider is what the provider's node received by its own account.
func (d *demo) provider(t *testing.T) lightning.Msat {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(d.folder, "provider.toml"))
	if err != nil {
		t.Fatal(err)
	}
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + ` = "(.*)"$`).FindSubmatch(config)
		if m == nil {
			t.Fatalf("provider.toml has no %s", key)
		}
		return string(m[1])
	}
	node := devnet.Node{REST: value("address"), CertFile: value("tls_cert")}
	return received(t, connect(t, node, value("macaroon")))
}

type pageState struct {
	Title struct {
		Spent lightning.Msat `json:"spent_msat"`
	} `json:"title"`
}

func (d *demo) state(t *testing.T) (s pageState) {
	t.Helper()
	r, err := http.Get(strings.TrimSuffix(d.page, "/") + "/api/state?title=big-buck-bunny-1080p-30sec")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &s); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return s
}

// sold is the sum of the provider's settled sales.
func sold(t *testing.T, file string) (sum lightning.Msat) {
	t.Helper()
	books, err := ledger.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	for s, err := range books.Sales(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if !s.Settled.IsZero() {
			sum += s.Amount
		}
	}
	return sum
}

// leaksNothing looks for every secret of the run, in the forms in which
// programs print secrets, in everything that the run printed.
func (d *demo) leaksNothing(t *testing.T) {
	t.Helper()
	secrets := map[string][]byte{}
	for _, name := range []string{"buy.macaroon", "sell.macaroon"} {
		m, err := lnd.ReadMacaroon(filepath.Join(d.folder, name))
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = m.Reveal()
	}
	for _, name := range []string{"publisher.key", "provider.secret"} {
		text, err := os.ReadFile(filepath.Join(d.folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if secrets[name], err = hex.DecodeString(strings.TrimSpace(string(text))); err != nil {
			t.Fatal(err)
		}
	}
	books, err := ledger.OpenReader(filepath.Join(d.folder, "viewer.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer books.Close()
	keys := 0
	for p, err := range books.Purchases(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		key, err := books.Key(t.Context(), htlcdash.Seal{Sealed: p.Sealed, KeyHash: p.KeyHash})
		if err != nil {
			continue
		}
		a, preimage := key.Reveal(), p.Salt.Preimage(key).Reveal()
		secrets["content key of "+p.Hash.String()], secrets["preimage of "+p.Hash.String()] = a[:], preimage[:]
		keys++
	}
	if keys < minKeys {
		t.Fatalf("only %d keys to look for", keys)
	}
	said := map[string][]byte{"the demo's output": d.output.Bytes()}
	logs, err := filepath.Glob(filepath.Join(d.folder, "*.log"))
	if err != nil || len(logs) < 3 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	for _, file := range logs {
		if said[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	for where, text := range said {
		for what, secret := range secrets {
			for _, form := range []string{
				string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
				base64.StdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
			} {
				if bytes.Contains(text, []byte(form)) {
					t.Errorf("%s holds the %s", where, what)
				}
			}
		}
	}
}
