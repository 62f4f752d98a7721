package sim_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"htlcdash/lightning"
	"htlcdash/lightning/nodetest"
	"htlcdash/lightning/sim"
)

const million = 1_000_000 * lightning.Sat

func TestSuite(t *testing.T) {
	nodetest.Run(t, func(t *testing.T) nodetest.Pair {
		network := sim.New(sim.Config{Latency: time.Millisecond})
		payer, payee, router, far := network.Node("payer"), network.Node("payee"), network.Node("router"), network.Node("far")
		network.Connect(payer, payee, 2*million, million)
		network.Connect(payer, router, million, million)
		network.Connect(router, far, million, million)
		router.SetFees(sim.Fees{Base: 1000, PPM: 100})
		t.Cleanup(func() {
			network.Wait()
			if err := network.Check(); err != nil {
				t.Error(err)
			}
		})
		return nodetest.Pair{
			Payer: payer, Payee: payee, Far: far,
			Stop:  func(*testing.T) { payer.Down() },
			Start: func(*testing.T) { payer.Up() },
		}
	})
}

// line is a - b - c, with fees at b.
func line(c sim.Config) (w *sim.Network, left, middle, right *sim.Node) {
	w = sim.New(c)
	left, middle, right = w.Node("left"), w.Node("middle"), w.Node("right")
	w.Connect(left, middle, million, 0)
	w.Connect(middle, right, million, 0)
	return w, left, middle, right
}

func invoice(t *testing.T, n *sim.Node, amount lightning.Msat) lightning.Invoice {
	t.Helper()
	inv, err := n.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: amount})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func outbound(t *testing.T, n *sim.Node) lightning.Msat {
	t.Helper()
	b, err := n.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b.Outbound
}

func check(t *testing.T, w *sim.Network) {
	t.Helper()
	if err := w.Check(); err != nil {
		t.Error(err)
	}
}

func TestFeesAreExact(t *testing.T) {
	w, left, middle, right := line(sim.Config{})
	middle.SetFees(sim.Fees{Base: 1, PPM: 2500})
	inv := invoice(t, right, 1_000_001)
	p, err := left.Pay(t.Context(), inv, 2501)
	if err != nil {
		t.Fatal(err)
	}
	if p.Fee != 2501 { // 1 + 1,000,001 * 2500 / 1,000,000, rounded down
		t.Errorf("got a fee of %v", p.Fee)
	}
	if got := outbound(t, left); got != million-1_002_502 {
		t.Errorf("the payer has %v", got)
	}
	if got := outbound(t, middle); got != million+2501 {
		t.Errorf("the router has %v", got)
	}
	check(t, w)
}

func TestRouteIsCheapest(t *testing.T) {
	w := sim.New(sim.Config{})
	from, dear, cheap, cheap2, to := w.Node("from"), w.Node("dear"), w.Node("cheap"), w.Node("cheap2"), w.Node("to")
	w.Connect(from, dear, million, 0)
	w.Connect(dear, to, million, 0)
	w.Connect(from, cheap, million, 0)
	w.Connect(cheap, cheap2, million, 0)
	w.Connect(cheap2, to, 10*lightning.Sat, 0) // carries little
	dear.SetFees(sim.Fees{Base: 5000})
	cheap.SetFees(sim.Fees{Base: 1000})
	cheap2.SetFees(sim.Fees{Base: 1000})
	for _, test := range []struct{ amount, fee lightning.Msat }{{5 * lightning.Sat, 2000}, {50 * lightning.Sat, 5000}} {
		p, err := from.Pay(t.Context(), invoice(t, to, test.amount), 5000)
		if err != nil || p.Fee != test.fee {
			t.Errorf("%v: got a fee of %v, %v, want %v", test.amount, p.Fee, err, test.fee)
		}
	}
	check(t, w)
}

func TestLatencyIsThereAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, left, _, right := line(sim.Config{Latency: 10 * time.Millisecond})
		inv := invoice(t, right, 1000)
		started := time.Now()
		if _, err := left.Pay(t.Context(), inv, 0); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(started); got != 40*time.Millisecond {
			t.Errorf("two hops took %v, want 40ms", got)
		}
		check(t, w)
	})
}

func TestSlots(t *testing.T) {
	w, left, _, right := line(sim.Config{Slots: 2})
	hold := func() (lightning.Preimage, lightning.Invoice) {
		p := lightning.RandomPreimage()
		inv, err := right.HoldInvoice(t.Context(), p.Hash(), lightning.Terms{Amount: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return p, inv
	}
	var paying sync.WaitGroup
	var held []lightning.Preimage
	for range 2 {
		p, inv := hold()
		held = append(held, p)
		paying.Go(func() {
			if _, err := left.Pay(t.Context(), inv, 0); err != nil {
				t.Error(err)
			}
		})
		if _, err := right.AwaitHeld(t.Context(), inv.Hash); err != nil {
			t.Fatal(err)
		}
	}
	_, third := hold()
	if _, err := left.Pay(t.Context(), third, 0); !errors.Is(err, lightning.ErrFailed) {
		t.Errorf("third payment over two slots: %v", err)
	}
	for _, p := range held {
		if err := right.Settle(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
	paying.Wait()
	if _, err := left.Pay(t.Context(), invoice(t, right, 1000), 0); err != nil {
		t.Errorf("with free slots: %v", err)
	}
	check(t, w)
}

func TestFaultsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, left, _, right := line(sim.Config{Latency: time.Millisecond})
		left.Order(sim.Refuse, sim.LoseAnswer, sim.Stall, sim.Stall, sim.Delay(time.Hour), sim.None)
		pay := func(inv lightning.Invoice) (lightning.Payment, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return left.Pay(ctx, inv, 0)
		}
		state := func(inv lightning.Invoice) lightning.State {
			p, err := left.Lookup(t.Context(), inv.Hash)
			if err != nil {
				t.Fatal(err)
			}
			return p.State
		}

		refused := invoice(t, right, 1000)
		if _, err := pay(refused); !errors.Is(err, lightning.ErrFailed) || state(refused) != lightning.Failed {
			t.Errorf("refuse: %v, then %v", err, state(refused))
		}

		lost := invoice(t, right, 1000)
		if _, err := pay(lost); !errors.Is(err, lightning.ErrInFlight) || !errors.Is(err, lightning.ErrUnavailable) {
			t.Errorf("lose answer: %v", err)
		}
		w.Wait()
		if state(lost) != lightning.Paid {
			t.Errorf("lose answer: later %v, want paid", state(lost))
		}

		stuck, broken := invoice(t, right, 1000), invoice(t, right, 1000)
		for _, inv := range []lightning.Invoice{stuck, broken} {
			if _, err := pay(inv); !errors.Is(err, lightning.ErrInFlight) || !errors.Is(err, context.DeadlineExceeded) || state(inv) != lightning.Unknown {
				t.Errorf("stall: %v, then %v", err, state(inv))
			}
		}
		check(t, w) // money in HTLCs is counted
		if !w.Release(stuck.Hash, true) || !w.Release(broken.Hash, false) || w.Release(broken.Hash, false) {
			t.Error("release does not find what is stalled")
		}
		w.Wait()
		if state(stuck) != lightning.Paid || state(broken) != lightning.Failed {
			t.Errorf("released: %v and %v", state(stuck), state(broken))
		}

		late := invoice(t, right, 1000)
		if _, err := pay(late); !errors.Is(err, lightning.ErrInFlight) {
			t.Errorf("delay: %v", err)
		}
		if _, err := pay(invoice(t, right, 1000)); err != nil {
			t.Errorf("none: %v", err)
		}
		w.Wait()
		check(t, w)
	})
}

func TestPreimageWaitsForANodeOnTheWay(t *testing.T) {
	w, left, middle, right := line(sim.Config{})
	p := lightning.RandomPreimage()
	inv, err := right.HoldInvoice(t.Context(), p.Hash(), lightning.Terms{Amount: 1000})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := left.Pay(t.Context(), inv, 0)
		done <- err
	}()
	if _, err := right.AwaitHeld(t.Context(), inv.Hash); err != nil {
		t.Fatal(err)
	}
	middle.Down()
	if err := right.Settle(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.Wait()
	if got, err := left.Lookup(t.Context(), inv.Hash); err != nil || got.State != lightning.Unknown {
		t.Errorf("while the router is down: %v, %v", got.State, err)
	}
	middle.Up()
	if err := <-done; err != nil {
		t.Error(err)
	}
	check(t, w)
}

func TestOfflinePayee(t *testing.T) {
	w, left, _, right := line(sim.Config{})
	inv := invoice(t, right, 1000)
	right.Down()
	if _, err := left.Pay(t.Context(), inv, 0); !errors.Is(err, lightning.ErrFailed) {
		t.Errorf("got %v", err)
	}
	if _, err := right.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: 1}); !errors.Is(err, lightning.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	right.Up()
	if _, err := left.Pay(t.Context(), inv, 0); err != nil {
		t.Error(err)
	}
	check(t, w)
}

func TestWallet(t *testing.T) {
	ctx := t.Context()
	w := sim.New(sim.Config{})
	a, b := w.Node("a"), w.Node("b")
	a.Fund(million)
	if _, err := a.OpenChannel(ctx, lightning.OpenRequest{Peer: b.ID(), Capacity: million + lightning.Sat}); err == nil {
		t.Error("opened a channel with more than there is")
	}
	point, err := a.OpenChannel(ctx, lightning.OpenRequest{Peer: b.ID(), Capacity: million/2 + 999, Push: 1000, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	channels, err := b.Channels(ctx)
	if err != nil || len(channels) != 1 || channels[0].Local != 1000 || channels[0].Capacity != million/2 || !channels[0].Active || channels[0].Peer != a.ID() {
		t.Fatalf("got %+v, %v", channels, err)
	}
	if _, err := a.Pay(ctx, invoice(t, b, 5000), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := a.CloseChannel(ctx, "0:0", false); err == nil {
		t.Error("closed a channel that is not there")
	}
	b.Down()
	if _, err := a.CloseChannel(ctx, point, false); err == nil {
		t.Error("closed with a peer that is not there")
	}
	if _, err := a.CloseChannel(ctx, point, true); err != nil {
		t.Fatal(err)
	}
	b.Up()
	for n, want := range map[*sim.Node]lightning.Msat{a: million - 6000, b: 6000} {
		if got, err := n.Balance(ctx); err != nil || got != (lightning.Balance{Chain: want}) {
			t.Errorf("%v: got %+v, %v", n, got, err)
		}
	}
	check(t, w)
}

// TestMoneyIsKept lets many payments and faults run into one another.
func TestMoneyIsKept(t *testing.T) {
	w := sim.New(sim.Config{Slots: 8})
	nodes := []*sim.Node{w.Node("a"), w.Node("b"), w.Node("c"), w.Node("d")}
	for i, n := range nodes {
		w.Connect(n, nodes[(i+1)%len(nodes)], 50*lightning.Sat, 50*lightning.Sat)
		n.SetFees(sim.Fees{Base: 3, PPM: 777})
		n.Order(sim.None, sim.LoseAnswer, sim.Refuse, sim.Delay(time.Millisecond))
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			from, to := nodes[i%4], nodes[(i+1+i%3)%4]
			inv, err := to.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: lightning.Msat(1 + 97*i)})
			if err != nil {
				return // down
			}
			_, err = from.Pay(t.Context(), inv, 1000)
			if err != nil && !errors.Is(err, lightning.ErrFailed) && !errors.Is(err, lightning.ErrInFlight) {
				t.Error(err)
			}
			if i == 100 {
				nodes[2].Down()
				time.Sleep(time.Millisecond)
				nodes[2].Up()
			}
		})
	}
	wg.Wait()
	w.Wait()
	check(t, w)
	for _, n := range nodes {
		channels, err := n.Channels(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range channels {
			if c.InFlight != 0 {
				t.Errorf("%v: %d HTLCs are left", n, c.InFlight)
			}
		}
	}
}

// What is held is given back before it times out, and what hangs fails when it
// does.
func TestHoldsTimeOut(t *testing.T) {
	net := sim.New(sim.Config{})
	left, right := net.Node("left"), net.Node("right")
	net.Connect(left, right, million, 0)
	p := lightning.RandomPreimage()
	inv, err := right.HoldInvoice(t.Context(), p.Hash(), lightning.Terms{Amount: 1000, FinalDelta: 100})
	if err != nil {
		t.Fatal(err)
	}
	paid := make(chan error, 1)
	go func() {
		_, err := left.Pay(t.Context(), inv, 0)
		paid <- err
	}()
	held, err := right.AwaitHeld(t.Context(), inv.Hash)
	if err != nil || held.Blocks != 100+lightning.Padding {
		t.Fatalf("held for %d blocks, %v", held.Blocks, err)
	}
	net.Mine(held.Blocks - lightning.Release - 1)
	if held, err = right.AwaitHeld(t.Context(), inv.Hash); err != nil || held.Blocks != lightning.Release+1 {
		t.Fatalf("held for %d blocks, %v", held.Blocks, err)
	}
	net.Mine(1)
	if err := <-paid; !errors.Is(err, lightning.ErrFailed) {
		t.Errorf("got %v", err)
	}
	if err := right.Settle(t.Context(), p); !errors.Is(err, lightning.ErrCancelled) {
		t.Errorf("settled what was given back: %v", err)
	}

	left.Order(sim.Stall)
	hang, err := right.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: 1000})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := left.Pay(t.Context(), hang, 0)
		paid <- err
	}()
	for { // until it hangs
		if p, err := left.Lookup(t.Context(), hang.Hash); err == nil && p.State == lightning.Unknown {
			net.Wait()
			break
		}
		time.Sleep(time.Millisecond)
	}
	net.Mine(hang.FinalDelta + lightning.Padding)
	if err := <-paid; !errors.Is(err, lightning.ErrFailed) {
		t.Errorf("got %v", err)
	}
	if err := net.Check(); err != nil {
		t.Error(err)
	}
}
