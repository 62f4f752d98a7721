package ledger_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

func open(t testing.TB, path string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func fresh(t testing.TB) (*ledger.Ledger, string) {
	path := filepath.Join(t.TempDir(), "50% off?", "ledger.db")
	return open(t, path), path
}

func random() (b [32]byte) {
	rand.Read(b[:])
	return b
}

var alice, bob = htlcdash.TitleID{1}, htlcdash.TitleID{2}

func purchase(title htlcdash.TitleID) ledger.Purchase {
	return ledger.Purchase{
		Hash: random(), Title: title, Representation: "v1", Index: 3, Sealed: random(), KeyHash: random(),
		Provider: "https://provider.example", Payee: lightning.NodeID{2, 3}, Amount: 1000, MaxFee: 10,
		Salt: random(), Bolt11: "lnbc1", Counter: 7, Expires: time.Unix(1_700_000_600, 0), Signer: random(), Signature: [64]byte{9}, Proof: "vole-80", Created: time.UnixMilli(1_700_000_000_123),
	}
}

func paid(fee lightning.Msat) lightning.Payment {
	return lightning.Payment{State: lightning.Paid, Amount: 1000, Fee: fee}
}

var failed = lightning.Payment{State: lightning.Failed, Reason: "no route"}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func wantSpent(t *testing.T, l *ledger.Ledger, title *htlcdash.TitleID, since time.Time, spent, reserved lightning.Msat) {
	t.Helper()
	s, r, err := l.Spent(t.Context(), title, since)
	must(t, err)
	if s != spent || r != reserved {
		t.Errorf("spent %d and reserved %d, want %d and %d", s, r, spent, reserved)
	}
}

func purchases(t *testing.T, l *ledger.Ledger, f ledger.Filter) (all []ledger.Purchase) {
	t.Helper()
	for p, err := range l.Purchases(t.Context(), f) {
		must(t, err)
		all = append(all, p)
	}
	return all
}

func TestPurchase(t *testing.T) {
	l, path := fresh(t)
	ctx := t.Context()
	p, q := purchase(alice), purchase(bob)
	key := htlcdash.NewKey(random())
	p.KeyHash = key.Hash()
	must(t, l.Intend(ctx, p), l.Intend(ctx, q))
	wantSpent(t, l, nil, time.Time{}, 0, 2020)
	wantSpent(t, l, &alice, time.Now(), 0, 1010)

	if got := purchases(t, l, ledger.Filter{Unsettled: true}); len(got) != 2 || !same(got[0], p) {
		t.Fatalf("unsettled: %+v, want %+v first", got, p)
	}
	must(t, l.Conclude(ctx, p.Hash, paid(7), key), l.Conclude(ctx, q.Hash, failed, htlcdash.Key{}))
	wantSpent(t, l, nil, time.Now().Add(-time.Minute), 1007, 0)
	wantSpent(t, l, &bob, time.Time{}, 0, 0)
	wantSpent(t, l, nil, time.Now().Add(time.Hour), 0, 0)

	must(t, l.Close())
	l = open(t, path)
	got, err := l.Key(ctx, htlcdash.Seal{KeyHash: p.KeyHash})
	must(t, err)
	if got.Reveal() != key.Reveal() {
		t.Error("another key came back")
	}
	if _, err := l.Key(ctx, htlcdash.Seal{KeyHash: q.KeyHash}); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("key of a failed purchase: %v, want %v", err, htlcdash.ErrNotFound)
	}
	all := purchases(t, l, ledger.Filter{Newest: true})
	if len(all) != 2 || all[0].State != lightning.Failed || all[0].Reason != "no route" || all[1].Fee != 7 || all[1].Settled.IsZero() {
		t.Errorf("purchases: %+v", all)
	}
	must(t, l.Check(ctx))
}

// What is concluded may be concluded again, after a crash or a lost answer.
func TestConcludeAgain(t *testing.T) {
	ctx := t.Context()
	key := htlcdash.NewKey(random())
	type outcome struct {
		out lightning.Payment
		key htlcdash.Key
	}
	for _, c := range []struct {
		name  string
		outs  []outcome
		spent lightning.Msat
		lost  lightning.Msat
		key   bool
	}{
		{"paid twice", []outcome{{paid(5), key}, {paid(5), key}}, 1005, 0, true},
		{"paid, then told that it failed", []outcome{{paid(5), key}, {failed, htlcdash.Key{}}}, 1005, 0, true},
		{"failed, then told that it was paid", []outcome{{failed, htlcdash.Key{}}, {paid(5), key}}, 1005, 0, true},
		{"failed twice", []outcome{{failed, htlcdash.Key{}}, {failed, htlcdash.Key{}}}, 0, 0, false},
		{"lost", []outcome{{paid(5), htlcdash.Key{}}}, 1005, 1005, false},
		{"lost, then found", []outcome{{paid(5), htlcdash.Key{}}, {paid(5), key}}, 1005, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, _ := fresh(t)
			p := purchase(alice)
			p.KeyHash = key.Hash()
			must(t, l.Intend(ctx, p))
			for _, o := range c.outs {
				must(t, l.Conclude(ctx, p.Hash, o.out, o.key))
			}
			wantSpent(t, l, nil, time.Time{}, c.spent, 0)
			lost, err := l.Lost(ctx, &alice)
			must(t, err)
			if lost != c.lost {
				t.Errorf("lost %d, want %d", lost, c.lost)
			}
			if _, err := l.Key(ctx, htlcdash.Seal{KeyHash: p.KeyHash}); (err == nil) != c.key {
				t.Errorf("key: %v, want one: %v", err, c.key)
			}
			must(t, l.Check(ctx))
		})
	}
}

func TestRefused(t *testing.T) {
	l, _ := fresh(t)
	p := purchase(alice)
	must(t, l.Intend(t.Context(), p))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"same hash twice", l.Intend(t.Context(), p), ledger.ErrExists},
		{"unknown outcome", l.Conclude(t.Context(), p.Hash, lightning.Payment{}, htlcdash.Key{}), lightning.ErrInFlight},
		{"never intended", l.Conclude(t.Context(), lightning.Hash{9}, paid(0), htlcdash.Key{}), htlcdash.ErrNotFound},
		{"caller gone", l.Intend(gone, purchase(alice)), context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !errors.Is(c.err, c.want) {
				t.Errorf("got %v, want %v", c.err, c.want)
			}
		})
	}
	wantSpent(t, l, nil, time.Time{}, 0, p.Reserved())
}

// One bad write in a batch takes no good one with it.
func TestGroupCommit(t *testing.T) {
	l, _ := fresh(t)
	p := purchase(alice)
	must(t, l.Intend(t.Context(), p))
	const n = 200
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			q := purchase(alice)
			if i%4 == 0 {
				q.Hash = p.Hash
			}
			if i%4 == 1 {
				q.Amount = -1
			}
			errs[i] = l.Intend(t.Context(), q)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if good := i%4 > 1; good != (err == nil) {
			t.Errorf("write %d: %v", i, err)
		}
		if i%4 == 0 && !errors.Is(err, ledger.ErrExists) {
			t.Errorf("write %d: %v, want %v", i, err, ledger.ErrExists)
		}
	}
	wantSpent(t, l, nil, time.Time{}, 0, (n/2+1)*1010)
}

func TestSale(t *testing.T) {
	l, path := fresh(t)
	ctx := t.Context()
	sale := ledger.Sale{
		Hash: random(), Title: alice, Representation: "v1", Index: 1, Sealed: random(), Scheme: "salted",
		Amount: 1000, Created: time.UnixMilli(1_700_000_000_123),
	}
	unsold := sale
	unsold.Hash = random()
	must(t, l.Offered(ctx, []ledger.Sale{sale, unsold}), l.Offered(ctx, []ledger.Sale{sale}))
	receipt := lightning.Receipt{Index: 10, Hash: sale.Hash, Amount: 1000, At: time.UnixMilli(1_700_000_005_000)}
	foreign := lightning.Receipt{Index: 11, Hash: random(), Amount: 5, At: receipt.At}
	must(t, l.Settle(ctx, ledger.FromNode, receipt), l.Settle(ctx, ledger.FromNode, foreign), l.Settle(ctx, ledger.FromNode, receipt))
	must(t, l.Close())
	l = open(t, path)
	if n, err := l.LastReceipt(ctx, ledger.FromNode); n != 11 || err != nil {
		t.Errorf("last receipt %d, %v, want 11", n, err)
	}
	got, err := l.Sale(ctx, sale.Hash)
	must(t, err)
	sale.Received, sale.Settled = 1000, receipt.At
	if got != sale {
		t.Errorf("sale %+v, want %+v", got, sale)
	}
	earned, err := l.Earned(ctx, receipt.At)
	must(t, err)
	if len(earned) != 1 || earned[0] != (ledger.Earning{Title: alice, Representation: "v1", Amount: 1000, Count: 1}) {
		t.Errorf("earned %+v", earned)
	}
	again := sale
	again.Hash, again.Received, again.Settled = random(), 0, time.Time{}
	receipt.Index, receipt.Hash = 12, again.Hash
	must(t, l.Offered(ctx, []ledger.Sale{again}), l.Settle(ctx, ledger.FromNode, receipt), l.Settle(ctx, ledger.FromNode, receipt))
	var sold []ledger.SegmentCount
	for c, err := range l.Sold(ctx) {
		must(t, err)
		sold = append(sold, c)
	}
	if len(sold) != 1 || sold[0] != (ledger.SegmentCount{Title: alice, Representation: "v1", Index: 1, Count: 2}) {
		t.Errorf("sold %+v", sold)
	}
	must(t, l.Check(ctx), l.Forget(ctx, time.Now()))
	if _, err := l.Sale(ctx, unsold.Hash); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("forgotten offer: %v, want %v", err, htlcdash.ErrNotFound)
	}
	_, err = l.Sale(ctx, sale.Hash)
	must(t, err)
}

func TestSettings(t *testing.T) {
	l, _ := fresh(t)
	ctx := t.Context()
	if _, err := l.Setting(ctx, "budget"); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("setting: %v, want %v", err, htlcdash.ErrNotFound)
	}
	must(t, l.Set(ctx, "budget", "1"), l.Set(ctx, "budget", "2"))
	if v, err := l.Setting(ctx, "budget"); v != "2" || err != nil {
		t.Errorf("setting %q, %v", v, err)
	}
	must(t, l.Unset(ctx, "budget"), l.Unset(ctx, "budget"))
	if _, err := l.Setting(ctx, "budget"); !errors.Is(err, htlcdash.ErrNotFound) {
		t.Errorf("setting: %v, want %v", err, htlcdash.ErrNotFound)
	}
}

// Bans are replaced, end by themselves or are lifted, and are remembered: that
// of an address with that of the key that it signs with.
func TestBans(t *testing.T) {
	l, path := fresh(t)
	ctx := t.Context()
	now := time.Now().Truncate(time.Millisecond)
	ban := func(name, why string, at time.Time, life time.Duration, times int) ledger.Ban {
		return ledger.Ban{Provider: name, Reason: why, At: at, Until: at.Add(life), Times: times}
	}
	old := ban("c", "cheat", now.Add(-2*time.Hour), time.Hour, 1)
	must(t, l.Ban(ctx, ban("a", "gouged", now.Add(-time.Minute), time.Hour, 1)), l.Ban(ctx, ban("a", "cheat", now, time.Hour, 2)))
	must(t, l.Ban(ctx, ban("key of a", "cheat", now, time.Hour, 1)), l.Ban(ctx, old))
	must(t, l.Ban(ctx, ban("b", "cheat", now.Add(time.Millisecond), time.Hour, 1)))
	must(t, l.Close())
	l = open(t, path)
	bans, err := l.Bans(ctx)
	must(t, err)
	want := []ledger.Ban{ban("b", "cheat", now.Add(time.Millisecond), time.Hour, 1), ban("a", "cheat", now, time.Hour, 2), ban("key of a", "cheat", now, time.Hour, 1), old}
	if !slices.Equal(bans, want) {
		t.Errorf("bans %+v, want %+v", bans, want)
	}
	for _, name := range []string{"nobody", "c"} { // whose ban is over
		if _, err := l.Lift(ctx, name); !errors.Is(err, htlcdash.ErrNotFound) {
			t.Errorf("lifting the ban of %s: %v, want %v", name, err, htlcdash.ErrNotFound)
		}
	}
	lifted, err := l.Lift(ctx, "a")
	must(t, err)
	if !slices.Equal(lifted, []string{"a", "key of a"}) {
		t.Errorf("lifted %q", lifted)
	}
	bans, err = l.Bans(ctx)
	must(t, err)
	for _, b := range bans {
		if lasts := time.Now().Before(b.Until); lasts != (b.Provider == "b") {
			t.Errorf("ban of %s lasts: %v", b.Provider, lasts)
		}
	}
}

// How providers fared is kept, for as many as were heard of last, until they
// are forgiven.
func TestReputation(t *testing.T) {
	l, path := fresh(t)
	ctx := t.Context()
	one := func(name, url, record string) ledger.Reputation {
		return ledger.Reputation{Provider: name, URL: url, Record: []byte(record)}
	}
	must(t, l.Remember(ctx, []ledger.Reputation{one("first", "https://first", "1")}))
	time.Sleep(2 * time.Millisecond) // times in the books are whole milliseconds
	var crowd []ledger.Reputation
	for i := range 1023 {
		crowd = append(crowd, one(fmt.Sprint(i), "https://crowd", "x"))
	}
	must(t, l.Remember(ctx, crowd), l.Remember(ctx, []ledger.Reputation{one("0", "", "y")}), l.Close())
	l = open(t, path)
	look := func(name string) (record, url string, rows int) {
		all, err := l.Reputation(ctx)
		must(t, err)
		for _, r := range all {
			if r.Provider == name {
				record, url = string(r.Record), r.URL
			}
		}
		return record, url, len(all)
	}
	for _, c := range []struct{ name, record, url string }{{"first", "1", "https://first"}, {"0", "y", "https://crowd"}, {"1", "x", "https://crowd"}} {
		if record, url, n := look(c.name); record != c.record || url != c.url || n != 1024 {
			t.Errorf("%s: %q at %q, %d rows, want %q at %q, 1024 rows", c.name, record, url, n, c.record, c.url)
		}
	}
	must(t, l.Remember(ctx, []ledger.Reputation{one("last", "https://last", "z")}))
	if record, _, n := look("first"); record != "" || n != 1024 {
		t.Errorf("%d rows, the oldest is %q", n, record)
	}
	names, err := l.Forgive(ctx, "https://last")
	must(t, err)
	if record, _, n := look("last"); !slices.Equal(names, []string{"last"}) || record != "" || n != 1023 {
		t.Errorf("forgave %q, %d rows, %q", names, n, record)
	}
}

func TestOpenRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  error
		fix   string
	}{
		{"owned by another", func(t *testing.T, path string) { open(t, path) }, ledger.ErrLocked, "stop the other program"},
		{"newer", func(t *testing.T, path string) { poke(t, path, 60, []byte{0, 0, 3, 0}) }, ledger.ErrNewer, "use the newer program"},
		{"another program's", func(t *testing.T, path string) { poke(t, path, 68, []byte("what")) }, ledger.ErrDamaged, "start a new one"},
		{"no database", func(t *testing.T, path string) { poke(t, path, 0, []byte("hello")) }, ledger.ErrDamaged, ".recover"},
		{"damaged page", func(t *testing.T, path string) { poke(t, path, 5*4096, bytes.Repeat([]byte{0xaa}, 4096)) }, ledger.ErrDamaged, "backup"},
		{"cut off", func(t *testing.T, path string) { must(t, os.Truncate(path, 5*4096)) }, ledger.ErrDamaged, "backup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, path := fresh(t)
			must(t, l.Intend(t.Context(), purchase(alice)), l.Close())
			c.spoil(t, path)
			l, err := ledger.Open(path)
			if err == nil {
				l.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.fix) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %v with the path and %q", err, c.want, c.fix)
			}
		})
	}
}

func poke(t *testing.T, path string, offset int64, b []byte) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(b, offset)
	must(t, err, f.Close())
}

func TestReader(t *testing.T) {
	if _, err := ledger.OpenReader(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v, want %v", err, os.ErrNotExist)
	}
	l, path := fresh(t)
	p := purchase(alice)
	must(t, l.Intend(t.Context(), p))
	r, err := ledger.OpenReader(path)
	must(t, err)
	defer r.Close()
	if got := purchases(t, r, ledger.Filter{Title: &alice}); len(got) != 1 || !same(got[0], p) {
		t.Errorf("reader sees %+v", got)
	}
	if err := r.Set(t.Context(), "a", "b"); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("reader writes: %v, want %v", err, ledger.ErrClosed)
	}
	must(t, l.Close())
	if err := l.Set(t.Context(), "a", "b"); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("closed ledger writes: %v, want %v", err, ledger.ErrClosed)
	}
}

func TestMode(t *testing.T) {
	l, path := fresh(t)
	must(t, l.Set(t.Context(), "a", "b"))
	for _, name := range []string{path, path + "-wal", path + "-shm", path + ".lock"} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

// Of keys for credentials those are kept that were shown last.
func TestIssuers(t *testing.T) {
	l, _ := fresh(t)
	ctx := t.Context()
	kept := func(url, want string) {
		t.Helper()
		got, err := l.Issuer(ctx, url)
		if string(got) != want || (want == "") != errors.Is(err, htlcdash.ErrNotFound) {
			t.Errorf("%s: %q, %v, want %q", url, got, err, want)
		}
	}
	must(t, l.KeepIssuer(ctx, "https://first", []byte("1")), l.KeepIssuer(ctx, "https://first", []byte("2")))
	kept("https://first", "2")
	kept("https://nobody", "")
	time.Sleep(2 * time.Millisecond) // times in the books are whole milliseconds
	var work sync.WaitGroup          // they share commits
	for i := range ledger.MaxIssuers {
		work.Go(func() {
			if err := l.KeepIssuer(ctx, fmt.Sprint("https://", i), []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	kept("https://first", "")
	kept(fmt.Sprint("https://", ledger.MaxIssuers-1), "x")
}
