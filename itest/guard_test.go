//go:build itest

package itest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"htlcdash/internal/devnet"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// TestMacaroonsAndGuard bakes what a viewer and a provider get, and sees what a
// thief could do with it.
func TestMacaroonsAndGuard(t *testing.T) {
	network := startNetwork(t, devnet.Config{
		Nodes: []devnet.NodeSpec{{Name: "viewer", SQLite: true, Fund: 20 * million}, {Name: "provider", SQLite: true}},
		Channels: []devnet.ChannelSpec{
			{From: "viewer", To: "provider", Capacity: 10 * million, Push: million},
		},
	})
	owner, provider := admin(t, network, "viewer"), admin(t, network, "provider")
	bake := func(t *testing.T, rights []lnd.Right) lnd.Macaroon {
		t.Helper()
		m, err := owner.Bake(t.Context(), rights, 9)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	with := func(t *testing.T, m lnd.Macaroon, log *slog.Logger) *lnd.Node {
		t.Helper()
		file := filepath.Join(t.TempDir(), "macaroon")
		if err := m.Write(file); err != nil {
			t.Fatal(err)
		}
		node := network.Node("viewer")
		n, err := lnd.New(lnd.Config{Addr: node.REST, TLSCertFile: node.CertFile, MacaroonFile: file, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n
	}
	budgeted := func(t *testing.T, m lnd.Macaroon, budget lightning.Msat) lnd.Macaroon {
		t.Helper()
		m, err := m.WithBudget(budget)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	invoice := func(t *testing.T, amount lightning.Msat) lightning.Invoice {
		t.Helper()
		inv, err := provider.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: amount})
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	pay := func(t *testing.T, n *lnd.Node, amount, maxFee lightning.Msat) error {
		t.Helper()
		p, err := n.Pay(t.Context(), invoice(t, amount), maxFee)
		if err == nil && p.State != lightning.Paid {
			t.Fatalf("got %+v", p)
		}
		return err
	}
	// guard runs until the returned function is called.
	guard := func(t *testing.T, tally lnd.Tally) (stop func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		ready, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- owner.Guard(ctx, tally, func() { close(ready) }) }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatal(err)
		}
		return func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("the guard ended with %v", err)
			}
		}
	}
	overBudget := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, lightning.ErrFailed) || !strings.Contains(fmt.Sprint(err), "over budget") {
			t.Fatalf("got %v, want a payment that failed over budget", err)
		}
	}

	t.Run("what is baked is audited", func(t *testing.T) {
		for _, test := range []struct {
			name             string
			baked, need      []lnd.Right
			missing, tooMuch []lnd.Right
		}{
			{"buying", lnd.BuyingRights, lnd.BuyingRights, nil, nil},
			{"selling", lnd.SellingRights, lnd.SellingRights, nil, nil},
			{"one missing", lnd.BuyingRights[1:], lnd.BuyingRights, lnd.BuyingRights[:1], nil},
			{"too strong", lnd.BuyingRights, lnd.SellingRights, without(lnd.SellingRights, lnd.BuyingRights), []lnd.Right{"/routerrpc.Router/SendPaymentV2"}},
		} {
			missing, tooMuch, err := owner.Audit(t.Context(), bake(t, test.baked), test.need)
			if err != nil || !slices.Equal(missing, test.missing) || !slices.Equal(tooMuch, test.tooMuch) {
				t.Errorf("%s: got missing %v, too much %v, %v", test.name, missing, tooMuch, err)
			}
		}
		m, err := lnd.ReadMacaroon(network.Node("viewer").MacaroonFile)
		if err != nil {
			t.Fatal(err)
		}
		missing, tooMuch, err := owner.Audit(t.Context(), m, lnd.BuyingRights)
		if err != nil || len(missing) != 0 || len(tooMuch) < 10 {
			t.Errorf("admin: got missing %v, too much %v, %v", missing, tooMuch, err)
		}
	})

	t.Run("rights end where they should", func(t *testing.T) {
		buyer, seller := with(t, bake(t, lnd.BuyingRights), nil), with(t, bake(t, lnd.SellingRights), nil)
		if _, err := buyer.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: 1}); !errors.Is(err, lightning.ErrDenied) {
			t.Errorf("a buyer sells: %v", err)
		}
		if _, err := seller.Pay(t.Context(), invoice(t, 1000), 0); !errors.Is(err, lightning.ErrDenied) {
			t.Errorf("a seller buys: %v", err)
		}
		for _, n := range []*lnd.Node{buyer, seller} {
			if _, err := n.OpenChannel(t.Context(), lightning.OpenRequest{Capacity: million}); !errors.Is(err, lightning.ErrDenied) {
				t.Errorf("opens a channel: %v", err)
			}
			if _, err := n.Bake(t.Context(), lnd.BuyingRights, 0); !errors.Is(err, lightning.ErrDenied) {
				t.Errorf("bakes: %v", err)
			}
		}
	})

	t.Run("nothing without a guard", func(t *testing.T) {
		n := with(t, budgeted(t, bake(t, lnd.BuyingRights), million), nil)
		if _, err := n.Info(t.Context()); !errors.Is(err, lightning.ErrDenied) {
			t.Errorf("got %v", err)
		}
		if err := pay(t, n, 1000, 0); err == nil {
			t.Error("paid")
		}
	})

	t.Run("a budget is spent to the msat", func(t *testing.T) {
		stop := guard(t, openTally(t, filepath.Join(t.TempDir(), "tally")))
		defer stop()
		n := with(t, budgeted(t, bake(t, lnd.BuyingRights), 10_000), nil)
		if _, err := n.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := pay(t, n, 6000, 3000); err != nil { // 9000 reserved, 6000 spent
			t.Fatal(err)
		}
		inv := invoice(t, 3999)
		if _, err := n.Pay(t.Context(), inv, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Pay(t.Context(), inv, 0); err != nil {
			t.Errorf("the same again: %v", err)
		}
		overBudget(t, pay(t, n, 2, 0))
		overBudget(t, pay(t, n, 1, 1))
		if err := pay(t, n, 1, 0); err != nil {
			t.Error(err)
		}
		overBudget(t, pay(t, n, 1, 0))
	})

	t.Run("what fails is given back", func(t *testing.T) {
		stop := guard(t, openTally(t, filepath.Join(t.TempDir(), "tally")))
		defer stop()
		n := with(t, budgeted(t, bake(t, lnd.BuyingRights), 1000), nil)
		p := lightning.RandomPreimage()
		inv, err := provider.HoldInvoice(t.Context(), p.Hash(), lightning.Terms{Amount: 1000})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := n.Pay(t.Context(), inv, 0)
			done <- err
		}()
		if _, err := provider.AwaitHeld(t.Context(), inv.Hash); err != nil {
			t.Fatal(err)
		}
		overBudget(t, pay(t, n, 1, 0))
		if err := provider.Cancel(t.Context(), inv.Hash); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, lightning.ErrFailed) {
			t.Fatal(err)
		}
		if err := eventually(t, func() error { return pay(t, n, 1000, 0) }); err != nil {
			t.Error(err)
		}
		overBudget(t, pay(t, n, 1, 0))
	})

	t.Run("a stolen credential is bounded", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "tally")
		tally := openTally(t, file)
		stop := guard(t, tally)
		base := budgeted(t, bake(t, lnd.BuyingRights), 20_000)
		n := with(t, base, nil)
		if err := pay(t, n, 15_000, 0); err != nil {
			t.Fatal(err)
		}
		// caveats that the thief adds give no fresh budget
		thief := with(t, budgeted(t, budgeted(t, base, 1_000_000), 900_000), nil)
		overBudget(t, pay(t, thief, 5001, 0))
		if err := pay(t, thief, 1000, 0); err != nil {
			t.Fatal(err)
		}
		stop()
		if err := tally.Close(); err != nil {
			t.Fatal(err)
		}

		stop = guard(t, openTally(t, file)) // nothing is forgotten
		defer stop()
		overBudget(t, pay(t, n, 4001, 0))
		if err := pay(t, n, 4000, 0); err != nil {
			t.Error(err)
		}
		overBudget(t, pay(t, thief, 1, 0))
	})

	t.Run("under a budget even an admin only buys and sells", func(t *testing.T) {
		stop := guard(t, openTally(t, filepath.Join(t.TempDir(), "tally")))
		defer stop()
		m, err := lnd.ReadMacaroon(network.Node("viewer").MacaroonFile)
		if err != nil {
			t.Fatal(err)
		}
		n := with(t, budgeted(t, m, million), nil)
		if err := pay(t, n, 1000, 0); err != nil {
			t.Fatal(err)
		}
		peer, err := lightning.ParseNodeID(network.Node("provider").ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.OpenChannel(t.Context(), lightning.OpenRequest{Peer: peer, Capacity: million}); err == nil || !strings.Contains(err.Error(), "does not allow this call") {
			t.Errorf("opens a channel: %v", err)
		}
		if _, err := n.Bake(t.Context(), lnd.BuyingRights, 0); err == nil || !strings.Contains(err.Error(), "does not allow this call") {
			t.Errorf("bakes: %v", err)
		}
		if err := n.SetAutopilot(t.Context(), true); err == nil || !strings.Contains(err.Error(), "does not allow this call") {
			t.Errorf("switches the autopilot on: %v", err)
		}
	})

	t.Run("nothing secret is said", func(t *testing.T) {
		var logged bytes.Buffer
		log := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		m := budgeted(t, bake(t, lnd.BuyingRights), million)
		n := with(t, m, log)
		_, err := n.Info(t.Context()) // no guard
		said := fmt.Sprintf("%v %+v %#v %s", err, m, m, logged.String())
		log.Info("macaroon", "macaroon", m)
		if said += logged.String(); strings.Contains(said, hex.EncodeToString(m.Reveal())[:40]) {
			t.Errorf("the macaroon is in %q", said)
		}
	})
}

func openTally(t *testing.T, file string) *lnd.FileTally {
	t.Helper()
	tally, err := lnd.OpenTally(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tally.Close() })
	return tally
}

// eventually tries what is true a moment after another call has returned.
func eventually(t *testing.T, try func() error) (err error) {
	t.Helper()
	for range 100 {
		if err = try(); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

func without(all, some []lnd.Right) (rest []lnd.Right) {
	for _, r := range all {
		if !slices.Contains(some, r) {
			rest = append(rest, r)
		}
	}
	return rest
}
