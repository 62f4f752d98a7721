package buyer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// A latePayer keeps orders to itself until it sends them, as a line does that
// hangs.
type latePayer struct {
	lightning.Payer
	mu      sync.Mutex
	orders  []lightning.Invoice
	prompt  bool
	lookups int
}

func (p *latePayer) Pay(ctx context.Context, inv lightning.Invoice, maxFee lightning.Msat) (lightning.Payment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.prompt {
		return p.Payer.Pay(ctx, inv, maxFee)
	}
	p.orders = append(p.orders, inv)
	return lightning.Payment{}, fmt.Errorf("no answer: %w: %w", lightning.ErrInFlight, lightning.ErrUnavailable)
}

func (p *latePayer) Lookup(ctx context.Context, h lightning.Hash) (lightning.Payment, error) {
	p.mu.Lock()
	p.lookups++
	p.mu.Unlock()
	return p.Payer.Lookup(ctx, h)
}

// send lets all orders reach the node.
func (p *latePayer) send(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prompt = true
	for _, inv := range p.orders {
		_, err := p.Payer.Pay(t.Context(), inv, lightning.Sat)
		must(t, err)
	}
}

// A payment that the node did not know, and that counts as failed, may go out
// after all: then its segment is not paid twice, and the key is not lost.
func TestLateOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(t *testing.T, w *world, conf *buyer.Config, b *buyer.Buyer, p *latePayer) *buyer.Buyer
	}{
		{"before the segment is asked for again", func(t *testing.T, w *world, _ *buyer.Config, b *buyer.Buyer, p *latePayer) *buyer.Buyer {
			p.send(t)
			return b
		}},
		{"before the next run", func(t *testing.T, w *world, conf *buyer.Config, b *buyer.Buyer, p *latePayer) *buyer.Buyer {
			b.Close()
			p.send(t)
			must(t, conf.Ledger.Close())
			next := w.config(t)
			next.Payer = p
			*conf = next
			b = w.open(t, next) // no shop is needed
			must(t, b.Recover(t.Context()))
			quiet(t, b, w.title)
			_, err := next.Ledger.Key(t.Context(), w.segs[0].Seal)
			must(t, err)
			return b
		}},
		{"not at all", func(t *testing.T, w *world, _ *buyer.Config, b *buyer.Buyer, p *latePayer) *buyer.Buyer {
			p.prompt = true
			return b
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			s, conf := w.shop(t, "shop"), w.config(t)
			p := &latePayer{Payer: w.viewer}
			conf.Payer = p
			b := w.open(t, conf, s)
			_, err := b.Segment(t.Context(), w.segs[0])
			wantErr(t, err, lightning.ErrFailed)
			w.wantBooks(t, conf, b, 0)

			b = c.then(t, w, &conf, b, p)
			w.buy(t, b, 0)
			w.wantBooks(t, conf, b, price)
			must(t, conf.Ledger.Check(t.Context()))
		})
	}
}

// While it is on its way after all, its segment is not bought anew.
func TestLateOrderInFlight(t *testing.T) {
	w := newWorld(t, 2)
	s, conf := w.shop(t, "shop"), w.config(t)
	p := &latePayer{Payer: w.viewer}
	conf.Payer, conf.Patience = p, 2*time.Second
	b := w.open(t, conf, s)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, lightning.ErrFailed)

	w.viewer.Order(sim.Stall)
	go w.viewer.Pay(context.WithoutCancel(t.Context()), p.orders[0], 0)
	waitStalled(t, w, p.orders[0].Hash)
	_, err = b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, lightning.ErrInFlight)
	if a := b.Account(w.title); a.InFlight != 1 || a.Reserved < price {
		t.Errorf("account %+v", a)
	}
	p.prompt = true
	_, err = b.Segment(t.Context(), w.segs[1]) // and it counts as under way to who holds it
	wantErr(t, err, buyer.ErrExposure)
	w.net.Release(p.orders[0].Hash, true)
	quiet(t, b, w.title)
	w.buy(t, b, 0)
	w.wantBooks(t, conf, b, price)
}

// A node that does not answer leaves the doubt, and nothing is bought.
func TestDoubtWithoutTheNode(t *testing.T) {
	w := newWorld(t, 1)
	s, conf := w.shop(t, "shop"), w.config(t)
	p := &latePayer{Payer: w.viewer}
	conf.Payer = p
	b := w.open(t, conf, s)
	_, err := b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, lightning.ErrFailed)
	w.viewer.Down()
	_, err = b.Segment(t.Context(), w.segs[0])
	wantErr(t, err, lightning.ErrInFlight, lightning.ErrUnavailable)
	w.viewer.Up()
	p.prompt = true
	w.buy(t, b, 0)
	w.wantBooks(t, conf, b, price)
}

// Nobody can be paid by an invoice that has expired.
func TestDoubtEndsWithTheInvoice(t *testing.T) {
	w := newWorld(t, 1)
	s, conf := w.shop(t, "shop"), w.config(t)
	key, err := btcec.NewPrivateKey()
	must(t, err)
	for _, c := range []struct {
		life    time.Duration
		doubted bool
	}{{-time.Hour, false}, {time.Hour, true}} {
		inv, err := s.node.Invoice(t.Context(), lightning.RandomPreimage(), lightning.Terms{Amount: price, Expiry: 2 * time.Hour})
		must(t, err)
		inv.Created = time.Now().Add(c.life - 2*time.Hour)
		inv, err = lightning.EncodeInvoice(inv, [32]byte{1}, key)
		must(t, err)
		must(t, conf.Ledger.Intend(t.Context(), ledger.Purchase{
			Hash: inv.Hash, Title: w.title, KeyHash: [32]byte{byte(c.life)}, Provider: s.URL, Amount: price, Bolt11: inv.Bolt11, Created: time.Now(),
		}))
		must(t, conf.Ledger.Conclude(t.Context(), inv.Hash, lightning.Payment{State: lightning.Failed, Reason: "never reached the node"}, htlcdash.Key{}))
		p := &latePayer{Payer: w.viewer}
		conf.Payer = p
		b, err := buyer.New(conf)
		must(t, err)
		must(t, b.Recover(t.Context()))
		b.Close()
		if asked := p.lookups > 0; asked != c.doubted {
			t.Errorf("invoice with %v to live: asked %v, want %v", c.life, asked, c.doubted)
		}
	}
}
