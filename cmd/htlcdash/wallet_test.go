package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

func twoNodes(t *testing.T) (network *sim.Network, payer, payee *sim.Node) {
	t.Helper()
	network = sim.New(sim.Config{})
	payer, payee = network.Node("payer"), network.Node("payee")
	network.Connect(payer, payee, 1000*lightning.Sat, 0)
	return network, payer, payee
}

func TestRequestAndPay(t *testing.T) {
	_, payer, payee := twoNodes(t)
	var out bytes.Buffer
	if err := requestPayment(t.Context(), &out, payee, lightning.Terms{Amount: 21 * lightning.Sat, Memo: "popcorn"}); err != nil {
		t.Fatal(err)
	}
	invoice, err := lightning.DecodeInvoice(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	if invoice.Amount != 21*lightning.Sat || invoice.Memo != "popcorn" {
		t.Errorf("the invoice asks %v for %q", invoice.Amount, invoice.Memo)
	}
	for range 2 { // the second time nothing more is paid
		out.Reset()
		if err := payInvoice(t.Context(), &out, payer, invoice, 0); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "paid 21 sat") {
			t.Errorf("it says %q", out.String())
		}
	}
	out.Reset()
	if err := showBalance(t.Context(), &out, payer); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "979 sat") || !strings.Contains(out.String(), payee.ID().String()) {
		t.Errorf("the balance is\n%s", out.String())
	}
}

func TestPayTellsTheOutcome(t *testing.T) {
	t.Run("failed", func(t *testing.T) {
		_, payer, payee := twoNodes(t)
		invoice, err := payee.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: 5000 * lightning.Sat})
		if err != nil {
			t.Fatal(err)
		}
		err = payInvoice(t.Context(), &bytes.Buffer{}, payer, invoice, 0)
		if !errors.Is(err, lightning.ErrFailed) || strings.Contains(err.Error(), "not known") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("not known", func(t *testing.T) {
		_, payer, payee := twoNodes(t)
		invoice, err := payee.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: lightning.Sat})
		if err != nil {
			t.Fatal(err)
		}
		payer.Down()
		err = payInvoice(t.Context(), &bytes.Buffer{}, payer, invoice, 0)
		if !errors.Is(err, lightning.ErrInFlight) || !strings.Contains(err.Error(), "not known yet") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestOpenAndClose(t *testing.T) {
	network := sim.New(sim.Config{})
	us, them := network.Node("us"), network.Node("them")
	us.Fund(1000 * lightning.Sat)
	c := walletOpen{Peer: them.ID().String() + "@127.0.0.1:9735", Capacity: 500 * lightning.Sat, Push: 5 * lightning.Sat}
	request, err := c.request()
	if err != nil {
		t.Fatal(err)
	}
	if request.Peer != them.ID() || request.Addr != "127.0.0.1:9735" {
		t.Errorf("the request is %+v", request)
	}
	var out bytes.Buffer
	if err := openChannel(t.Context(), &out, us, request); err != nil {
		t.Fatal(err)
	}
	channels, err := us.Channels(t.Context())
	if err != nil || len(channels) != 1 || !strings.Contains(out.String(), string(channels[0].Point)) {
		t.Fatalf("channels %v, %v; it says %q", channels, err, out.String())
	}
	if err := closeChannel(t.Context(), &out, us, channels[0].Point, false); err != nil {
		t.Fatal(err)
	}
	if channels, err = us.Channels(t.Context()); err != nil || len(channels) != 0 {
		t.Errorf("after closing there are %v, %v", channels, err)
	}
}

func TestWalletUsage(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"amount without unit", []string{"wallet", "request", "21"}, exitUsage, `"21 sat"`},
		{"no invoice", []string{"wallet", "pay", "lnbc1qqq"}, exitUsage, "invoice"},
		{"no node's key", []string{"wallet", "open", "bob", "1 sat"}, exitUsage, "node id"},
		{"no certificate", []string{"wallet", "balance"}, exitError, "tls.cert"},
		{"nobody there", []string{"wallet", "balance", "--node-address=http://127.0.0.1:1", "--node-tls-cert=", "--node-macaroon="}, exitError, "htlcdash doctor"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := call(t, tt.args...)
			if exitCode(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("code %d, error %v, want %d and %q", exitCode(err), err, tt.code, tt.want)
			}
		})
	}
}

func TestScoreNodes(t *testing.T) {
	a, b, c := lightning.NodeID{2, 1}, lightning.NodeID{2, 2}, lightning.NodeID{2, 3}
	got := scoreNodes([]lightning.NodeID{a, b}, map[lightning.NodeID]lightning.Msat{b: 100, c: 50})
	want := map[lightning.NodeID]float64{a: 0.5, b: 1, c: 0.25}
	for id, score := range want {
		if got[id] != score {
			t.Errorf("node %v has %v, want %v", id, got[id], score)
		}
	}
	if len(scoreNodes(nil, nil)) != 0 {
		t.Error("nobody has a score")
	}
}
