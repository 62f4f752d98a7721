package ledger_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
)

var noon = time.UnixMilli(1_800_000_000_123)

const cinema = "https://cinema.example"

func TestRedeem(t *testing.T) {
	l, path := fresh(t)
	ctx := t.Context()
	key, other, nonce := random(), random(), random()
	redeem := func(name string, key, nonce [32]byte, at time.Time, first time.Time, fresh bool) {
		t.Helper()
		f, ok, err := l.Redeem(ctx, key, nonce, at)
		must(t, err)
		if !f.Equal(first) || ok != fresh {
			t.Errorf("%s: first at %v, fresh %v; want %v, %v", name, f, ok, first, fresh)
		}
	}
	later := noon.Add(time.Minute)
	redeem("first", key, nonce, noon, noon, true)
	redeem("again", key, nonce, later, noon, false)
	redeem("the same nonce of another key", other, nonce, later, later, true)
	redeem("another nonce", key, random(), later, later, true)
	must(t, l.Close())
	l = open(t, path)
	redeem("after a start", key, nonce, later, noon, false)

	must(t, l.ForgetTokens(ctx, key))
	redeem("of a key that was forgotten", key, nonce, later, later, true)
	redeem("of a key that was not", other, nonce, noon, later, false)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	gone := random()
	if _, ok, err := l.Redeem(cancelled, key, gone, noon); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: fresh %v, %v", ok, err)
	}
	redeem("after a cancelled call", key, gone, later, later, true)
}

// Of many who show one token at once, one is the first.
func TestRedeemAtOnce(t *testing.T) {
	l, _ := fresh(t)
	key := random()
	for range 20 {
		nonce := random()
		var wg sync.WaitGroup
		var mu sync.Mutex
		fresh, firsts := 0, map[time.Time]bool{}
		for i := range 16 {
			wg.Go(func() {
				first, ok, err := l.Redeem(context.Background(), key, nonce, noon.Add(time.Duration(i)*time.Second))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				firsts[first] = true
				if ok {
					fresh++
				}
			})
		}
		wg.Wait()
		if fresh != 1 || len(firsts) != 1 {
			t.Fatalf("%d were fresh, with %d first times", fresh, len(firsts))
		}
	}
}

func TestCredentials(t *testing.T) {
	l, path := fresh(t)
	ctx := t.Context()
	old, young := random(), random()
	take := func(provider, want string) {
		t.Helper()
		b, err := l.TakeCredential(ctx, provider)
		if want == "" {
			if !errors.Is(err, htlcdash.ErrNotFound) || b != nil {
				t.Errorf("took %q, %v; want %v", b, err, htlcdash.ErrNotFound)
			}
			return
		}
		must(t, err)
		if string(b) != want {
			t.Errorf("took %q, want %q", b, want)
		}
	}
	count := func(provider string, want int) {
		t.Helper()
		n, err := l.CountCredentials(ctx, provider)
		must(t, err)
		if n != want {
			t.Errorf("%d credentials for %s, want %d", n, provider, want)
		}
	}
	take(cinema, "")
	must(t, l.AddCredentials(ctx, cinema, old, [][]byte{[]byte("a"), []byte("b")}))
	must(t, l.AddCredentials(ctx, cinema, young, [][]byte{[]byte("c"), []byte("d")}))
	count(cinema, 4)
	count("https://other.example", 0)
	take("https://other.example", "")
	take(cinema, "a")
	must(t, l.AddCredentials(ctx, cinema, old, [][]byte{[]byte("a"), []byte("b")})) // the answer was lost
	count(cinema, 3)
	must(t, l.ForgetTokens(ctx, old))
	take(cinema, "c")
	must(t, l.Close())
	l = open(t, path)
	count(cinema, 1)
	take(cinema, "d")
	take(cinema, "")
	must(t, l.Check(ctx))
}

// Takers at once get each credential once, also where adding goes on.
func TestTakeAtOnce(t *testing.T) {
	l, _ := fresh(t)
	const batches, each = 8, 25
	var mu sync.Mutex
	taken := map[string]int{}
	var wg sync.WaitGroup
	for range batches {
		wg.Go(func() {
			blobs := make([][]byte, each)
			for i := range blobs {
				b := random()
				blobs[i] = b[:]
			}
			if err := l.AddCredentials(context.Background(), cinema, [32]byte{1}, blobs); err != nil {
				t.Error(err)
			}
			for range each {
				b, err := l.TakeCredential(context.Background(), cinema)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				taken[string(b)]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(taken) != batches*each {
		t.Errorf("%d of %d were taken once", len(taken), batches*each)
	}
}

// tokenChildEnv names the ledger that a child process of TestKillTokens writes.
const tokenChildEnv = "LEDGER_TEST_TOKEN_CHILD"

// writeTokensForever redeems tokens and takes credentials, several at once,
// and prints each once it is acknowledged.
func writeTokensForever(path string) {
	l, err := ledger.Open(path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var out sync.Mutex
	ack := func(step string, b []byte) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(step, hex.EncodeToString(b))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				nonce, blob := random(), random()
				if _, _, err := l.Redeem(context.Background(), [32]byte{7}, nonce, noon); err != nil {
					return
				}
				ack("redeemed", nonce[:])
				if l.AddCredentials(context.Background(), cinema, [32]byte{7}, [][]byte{blob[:]}) != nil {
					return
				}
				b, err := l.TakeCredential(context.Background(), cinema)
				if err != nil {
					return
				}
				ack("taken", b)
			}
		})
	}
	wg.Wait()
	os.Exit(1)
}

// After kill -9 a token that was shown is known, and a credential that was
// handed out is not handed out again.
func TestKillTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	var redeemed []string
	taken := map[string]bool{}
	for range 8 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), tokenChildEnv+"="+path)
		stdout, err := child.StdoutPipe()
		must(t, err, child.Start())
		lines := bufio.NewScanner(stdout)
		for n := 5 + rand.N(60); lines.Scan(); n-- {
			step, value, _ := strings.Cut(lines.Text(), " ")
			switch {
			case step == "redeemed":
				redeemed = append(redeemed, value)
			case step == "taken" && !taken[value]:
				taken[value] = true
			default:
				t.Error("error, or a credential handed out twice:", lines.Text())
			}
			if n == 0 {
				must(t, child.Process.Kill())
			}
		}
		_ = child.Wait() // killed
	}
	l := open(t, path)
	must(t, l.Check(t.Context()))
	for _, s := range redeemed {
		b, err := hex.DecodeString(s)
		must(t, err)
		if first, fresh, err := l.Redeem(t.Context(), [32]byte{7}, [32]byte(b), noon.Add(time.Hour)); err != nil || fresh || !first.Equal(noon) {
			t.Errorf("acknowledged token: first %v, fresh %v, %v", first, fresh, err)
		}
	}
	for {
		b, err := l.TakeCredential(t.Context(), cinema)
		if errors.Is(err, htlcdash.ErrNotFound) {
			break
		}
		must(t, err)
		if taken[hex.EncodeToString(b)] {
			t.Error("a credential was handed out again after a crash")
		}
	}
	t.Logf("%d tokens and %d credentials over 8 crashes", len(redeemed), len(taken))
	if len(redeemed) == 0 || len(taken) == 0 {
		t.Error("nothing was written")
	}
}

// A file of the first format gets the tables and keeps what it has.
func TestTokensInAnOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	must(t, ledger.CreateOld(path))
	l := open(t, path)
	banned, err := l.Bans(t.Context())
	must(t, err)
	year := 365 * 24 * time.Hour // bans had no end in it
	if len(banned) != 1 || banned[0] != (ledger.Ban{Provider: "them", Reason: "cheated", At: time.UnixMilli(1), Until: time.UnixMilli(1).Add(year), Times: 1}) {
		t.Errorf("banned: %+v", banned)
	}
	must(t, l.AddCredentials(t.Context(), cinema, random(), [][]byte{[]byte("a")}))
	b, err := l.TakeCredential(t.Context(), cinema)
	must(t, err)
	if !bytes.Equal(b, []byte("a")) {
		t.Errorf("took %q", b)
	}
}

// Credentials are secrets: no error says one.
func TestCredentialsDoNotPrint(t *testing.T) {
	l, _ := fresh(t)
	must(t, l.Close())
	secret := []byte("the secret of a token")
	_, err := l.TakeCredential(t.Context(), cinema)
	errs := []error{l.AddCredentials(t.Context(), cinema, random(), [][]byte{secret}), err}
	if slices.Contains(errs, nil) || strings.Contains(fmt.Sprint(errs), string(secret)) {
		t.Errorf("errors of a closed ledger: %v", errs)
	}
}

func BenchmarkRedeem(b *testing.B) {
	l, _ := fresh(b)
	key, known := random(), random()
	if _, _, err := l.Redeem(b.Context(), key, known, noon); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		nonce func() [32]byte
	}{{"first", random}, {"again", func() [32]byte { return known }}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := l.Redeem(b.Context(), key, c.nonce(), noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
