package ledger_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// childEnv names the ledger that a child process of TestKill writes until it
// is killed.
const childEnv = "LEDGER_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		writeForever(path)
	}
	if path := os.Getenv(tokenChildEnv); path != "" {
		writeTokensForever(path)
	}
	os.Exit(m.Run())
}

// writeForever intends and concludes purchases, several at once, and prints
// each step once it is acknowledged.
func writeForever(path string) {
	l, err := ledger.Open(path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var out sync.Mutex
	ack := func(step string, h lightning.Hash, key htlcdash.Key) {
		secret := key.Reveal()
		out.Lock()
		defer out.Unlock()
		fmt.Println(step, h, hex.EncodeToString(secret[:]))
	}
	background := context.Background()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				p, key := purchase(alice), htlcdash.NewKey(random())
				p.KeyHash = key.Hash()
				if l.Intend(background, p) != nil {
					return
				}
				ack("intended", p.Hash, key)
				if l.Conclude(background, p.Hash, paid(1), key) != nil {
					return
				}
				ack("concluded", p.Hash, key)
			}
		})
	}
	wg.Wait()
	os.Exit(1)
}

// What was acknowledged is there after kill -9, at whatever moment it comes.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	intended, concluded := map[string]string{}, map[string]string{}
	for range 12 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+path)
		stdout, err := child.StdoutPipe()
		must(t, err, child.Start())
		lines := bufio.NewScanner(stdout)
		for n := 5 + rand.N(60); lines.Scan(); n-- {
			f := strings.Fields(lines.Text())
			if len(f) != 3 {
				t.Fatal(lines.Text())
			}
			map[string]map[string]string{"intended": intended, "concluded": concluded}[f[0]][f[1]] = f[2]
			if n == 0 {
				must(t, child.Process.Kill())
			}
		}
		_ = child.Wait() // killed
	}
	l := open(t, path)
	must(t, l.Check(t.Context()))
	booked := map[string]lightning.State{}
	for _, p := range purchases(t, l, ledger.Filter{}) {
		booked[p.Hash.String()] = p.State
	}
	for h := range intended {
		if _, ok := booked[h]; !ok {
			t.Errorf("acknowledged intent %s is lost", h)
		}
	}
	for h, secret := range concluded {
		var b [32]byte
		_, err := hex.Decode(b[:], []byte(secret))
		must(t, err)
		key := htlcdash.NewKey(b)
		if booked[h] != lightning.Paid {
			t.Errorf("acknowledged outcome of %s is lost", h)
		}
		if _, err := l.Key(t.Context(), htlcdash.Seal{KeyHash: key.Hash()}); err != nil {
			t.Errorf("acknowledged key is lost: %v", err)
		}
	}
	t.Logf("%d intents and %d outcomes over 12 crashes", len(intended), len(concluded))
	if len(concluded) == 0 {
		t.Error("nothing was concluded")
	}
}

// A large ledger opens and sums up without being read whole.
func TestLarge(t *testing.T) {
	const rows = largeRows
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path)
	must(t, l.Fill(rows, purchase(alice)))
	must(t, l.Close())

	begun := time.Now()
	l = open(t, path)
	opened := time.Since(begun)
	begun = time.Now()
	wantSpent(t, l, nil, time.Time{}, rows*1001, 0)
	wantSpent(t, l, &alice, time.Now().Add(-24*time.Hour), rows*1001, 0)
	t.Logf("opened in %v, summed up in %v", opened, time.Since(begun))
	for _, query := range l.SpentPlan(t) {
		if strings.Contains(query, "SCAN purchases") && !strings.Contains(query, "purchases_open") {
			t.Errorf("Spent reads all purchases: %s", query)
		}
	}
}

func BenchmarkIntendConclude(b *testing.B) {
	for _, writers := range []int{1, 10, 50, 200} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			l, _ := fresh(b)
			background := context.Background()
			queue := make(chan struct{})
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for range queue {
						p, key := purchase(alice), htlcdash.NewKey(random())
						if err := l.Intend(background, p); err != nil {
							b.Error(err)
						}
						if err := l.Conclude(background, p.Hash, paid(1), key); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ResetTimer()
			for range b.N {
				queue <- struct{}{}
			}
			close(queue)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "purchases/s")
		})
	}
}
