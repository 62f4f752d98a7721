package buyer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
	"htlcdash/lightning/sim"
	"htlcdash/source"
)

const leaf = htlcdash.LeafSize

// A cart carries the world's sealed bytes for a shop, which is paid for it: a
// satoshi a leaf, and so many leaves on credit. By default it is honest.
type cart struct {
	shop    *shop
	terms   exchange.Carriage
	schemes []string
	spoil   func(b []byte)               // tampers with the bytes of each answer
	cut     func(request int) bool       // sends half of such answers; nil: of none
	deaf    bool                         // hears of no payment
	lie     func(*exchange.CarriageBill) // tampers with each bill

	mu       sync.Mutex
	requests int   // for bytes
	refused  int   // of them
	sent     int64 // bytes
	accounts map[credential.Token]*tab
	most     int64 // that any account owed
}

// A tab is an account.
type tab struct {
	id    byte
	owed  int64
	bills map[uint32]exchange.CarriageBill
}

// load gives a shop a cart.
func load(s *shop, leaves int64) *cart {
	s.cart = &cart{
		shop: s, schemes: []string{exchange.SchemeSalted}, accounts: map[credential.Token]*tab{},
		terms: exchange.Carriage{Price: 64 * lightning.Sat, Step: leaves * leaf},
	}
	return s.cart
}

// tab is the account of who sent r, under the lock; nil: nobody's.
func (c *cart) tab(r *http.Request, body []byte) *tab {
	if c.shop.guest(r, body) == nil {
		return nil
	}
	p, _ := credential.ParseAuthorization(r.Header.Get("Authorization"))
	if c.accounts[p.Token] == nil {
		c.accounts[p.Token] = &tab{id: byte(len(c.accounts)), bills: map[uint32]exchange.CarriageBill{}}
	}
	return c.accounts[p.Token]
}

func (c *cart) carry(w http.ResponseWriter, r *http.Request) {
	root, err := htlcdash.ParseRoot(r.PathValue("root"))
	must2(err)
	data, from := bytes.Clone(c.shop.w.sealed.blobs[root]), 0
	if data == nil {
		http.NotFound(w, r)
		return
	}
	total, status := len(data), http.StatusOK
	if h := r.Header.Get("Range"); h != "" {
		var to int
		_, err := fmt.Sscanf(h, "bytes=%d-%d", &from, &to)
		must2(err)
		data, status = data[from:to+1], http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, total))
	}
	c.mu.Lock()
	c.requests++
	cut := c.cut != nil && c.cut(c.requests)
	a := c.tab(r, nil)
	refuse := a == nil || a.owed+int64(len(data)) > c.terms.Step
	if refuse {
		c.refused++
	} else {
		a.owed += int64(len(data))
		c.most, c.sent = max(c.most, a.owed), c.sent+int64(len(data))
	}
	c.mu.Unlock()
	if refuse {
		w.WriteHeader(map[bool]int{true: http.StatusUnauthorized, false: http.StatusPaymentRequired}[a == nil])
		return
	}
	if c.spoil != nil {
		c.spoil(data)
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	w.WriteHeader(status)
	if cut {
		_, _ = w.Write(data[:len(data)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(data)
}

func (c *cart) bill(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	req, err := exchange.ParseCarriageRequest(body)
	must2(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.tab(r, body)
	if a == nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	bill := exchange.CarriageBill{Owed: a.owed}
	if !req.Preimage.IsZero() {
		if old, ok := a.bills[req.Number]; ok && req.Preimage.Opens(old.Hash) && !c.deaf {
			a.owed -= old.Bytes
			delete(a.bills, req.Number)
		}
		bill.Owed = a.owed
	} else if n := min(req.Bytes, a.owed); n > 0 {
		till := c.shop.till
		bill, err = till.SellCarriage(r.Context(), [32]byte{a.id}, req.Number, n, c.terms.Cost(n))
		must2(err)
		a.bills[req.Number] = bill
		if c.lie != nil {
			c.lie(&bill)
		}
	}
	_ = json.NewEncoder(w).Encode(bill)
}

func must2(err error) {
	if err != nil {
		panic(err)
	}
}

// A lane is a shop as a source of sealed bytes.
type lane struct {
	b *buyer.Buyer
	p *buyer.Provider
}

func (l *lane) Open(ctx context.Context, b htlcdash.Blob) (io.ReadCloser, error) {
	r, charges, err := l.b.Carried(ctx, l.p, b)
	if !charges {
		return nil, htlcdash.ErrNotFound
	}
	return r, err
}

func (l *lane) Cost(b htlcdash.Blob) lightning.Msat { return l.b.CarriageCost(l.p, b) }

// add appends a segment of so many leaves.
func (w *world) add(leaves int) {
	i := len(w.segs)
	plain := bytes.Repeat([]byte{byte(i)}, leaves*leaf)
	sealed, seal, key := htlcdash.SealSegment([]byte("secret"), plain)
	seal.Price, seal.Duration = price, 4*time.Second
	w.plain, w.keys[seal.Sealed], w.sealed.blobs[seal.Sealed] = append(w.plain, plain), key, sealed
	w.segs = append(w.segs, htlcdash.Segment{Title: w.title, Representation: "v1", Index: i, Seal: seal})
}

// carried opens a buyer whose sealed bytes come from a shop's cart, which is paid.
func (w *world) carried(t testing.TB, c buyer.Config, from *shop, shops ...*shop) *buyer.Buyer {
	t.Helper()
	road := &lane{p: from.provider(t)}
	library, err := source.NewLibrary(source.Options{Stall: time.Minute}, road)
	must(t, err)
	c.Sealed = library
	if c.BytePrice == 0 {
		c.BytePrice = 64 * lightning.Sat
	}
	road.b = w.open(t, c, append(shops, from)...)
	return road.b
}

// carriage is what was paid for bytes, when no payment is under way and the books say
// the same: one goes on when its bytes are here.
func (w *world) carriage(t testing.TB, c buyer.Config, b *buyer.Buyer) lightning.Msat {
	t.Helper()
	var a buyer.Account
	eventually(t, "the books say something else than the account", func() bool {
		booked, err := c.Ledger.Unsigned(t.Context(), w.title, ledger.Carriage)
		must(t, err)
		a = b.Account(w.title)
		return a.InFlight == 0 && a.Carriage == booked
	})
	if a.Lost != 0 {
		t.Errorf("%v is lost", a.Lost)
	}
	return a.Carriage
}

// wantCarriage holds what was paid for bytes against the books.
func (w *world) wantCarriage(t testing.TB, c buyer.Config, b *buyer.Buyer, want lightning.Msat) {
	t.Helper()
	if paid := w.carriage(t, c, b); paid != want {
		t.Errorf("for carriage %v, want %v", paid, want)
	}
}

// Keys come from one, bytes from another, and each is paid for what it gives.
func TestKeysFromOneBytesFromAnother(t *testing.T) {
	w := newWorld(t, 0)
	for range 12 {
		w.add(3)
	}
	origin, carrier := w.shop(t, "origin"), w.shop(t, "carrier")
	cart := load(carrier, 8)
	cart.schemes = []string{}
	w.router.SetFees(sim.Fees{Base: 7})
	c := w.config(t)
	b := w.carried(t, c, carrier, origin)
	var work sync.WaitGroup
	for i := range w.segs {
		work.Go(func() { w.buy(t, b, i) })
	}
	work.Wait()
	var paid lightning.Msat
	eventually(t, "half a step and more stays unpaid", func() bool {
		a := b.Account(w.title)
		cart.mu.Lock()
		defer cart.mu.Unlock()
		owed := int64(0)
		for _, tab := range cart.accounts {
			owed += tab.owed
		}
		paid = lightning.Msat(cart.sent-owed) / leaf * lightning.Sat
		return 2*owed < cart.terms.Step && a.InFlight == 0 && a.Carriage == paid
	})
	cart.mu.Lock()
	if len(cart.accounts) != 1 || cart.sent != 36*leaf || cart.most > 8*leaf || cart.refused > 0 {
		t.Errorf("%d accounts got %d bytes, up to %d on credit; %d requests were refused", len(cart.accounts), cart.sent, cart.most, cart.refused)
	}
	cart.mu.Unlock()
	a := b.Account(w.title)
	w.wantCarriage(t, c, b, paid)
	if paid < 28*lightning.Sat || a.Spent != 12*price+paid+a.Fees || a.Fees == 0 || carrier.requests.Load() > 0 {
		t.Errorf("paid %v for bytes, account %+v, %d offers asked of the carrier", paid, a, carrier.requests.Load())
	}
	w.wantBooks(t, c, b, a.Spent)
	b.Close()
	must(t, c.Ledger.Close())
	c = w.config(t)
	b = w.carried(t, c, carrier, origin)
	w.wantCarriage(t, c, b, paid)
	w.buy(t, b, 3) // on a new account: what an earlier run owed is over
	w.wantBooks(t, c, b, a.Spent)
}

// Blobs longer than a step come in two, of which the first is paid for unseen.
func TestBlobsOfTwoSteps(t *testing.T) {
	w := newWorld(t, 0)
	for range 4 {
		w.add(7)
	}
	w.add(9)
	s := w.shop(t, "shop")
	cart := load(s, 4)
	c := w.config(t)
	b := w.carried(t, c, s)
	var work sync.WaitGroup
	for _, seg := range w.segs[:4] {
		work.Go(func() {
			if err := b.Download(t.Context(), seg); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	wantErr(t, b.Download(t.Context(), w.segs[4]), htlcdash.ErrNotFound) // longer than two steps
	if cart.sent != 28*leaf || cart.most != 4*leaf || cart.refused > 0 {
		t.Errorf("%d bytes sent, up to %d on credit, %d refused", cart.sent, cart.most, cart.refused)
	}
	a := b.Account(w.title)
	if a.Carriage < 24*lightning.Sat || a.Carriage > 28*lightning.Sat || a.BytePrice != 64*lightning.Sat {
		t.Errorf("paid %v for 28 leaves", a.Carriage)
	}
	w.carriage(t, c, b)
}

// What a carrier can take that cheats: a step at most, once.
func TestCarriersThatCheat(t *testing.T) {
	garbage := func(b []byte) { b[len(b)/2] ^= 1 }
	for _, tt := range []struct {
		name   string
		leaves int // of a segment; a step has 4
		cheat  func(*cart)
		most   lightning.Msat
		asks   int // for bytes, at most; 0: no matter
		banned bool
	}{
		{"garbage", 2, func(c *cart) { c.spoil = garbage }, 0, 1, false},
		{"garbage, after a step", 7, func(c *cart) { c.spoil = garbage }, 4 * lightning.Sat, 2, true},
		{"half of it", 2, func(c *cart) { c.cut = func(int) bool { return true } }, 4 * lightning.Sat, 0, false},
		{"half of it, after a step", 8, func(c *cart) { c.cut = func(int) bool { return true } }, 4 * lightning.Sat, 0, false},
		{"hears of no payment", 2, func(c *cart) { c.deaf = true }, 4 * lightning.Sat, 20, false},
		{"asks more than it said", 2, func(c *cart) {
			c.lie = func(b *exchange.CarriageBill) { b.Price++ }
		}, 0, 0, false},
		{"asks for more bytes", 2, func(c *cart) {
			c.lie = func(b *exchange.CarriageBill) { b.Bytes += leaf }
		}, 0, 0, false},
		{"gives another hash", 2, func(c *cart) {
			c.lie = func(b *exchange.CarriageBill) { b.Hash[0]++ }
		}, 0, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 0)
			for range 8 {
				w.add(tt.leaves)
			}
			s, c := w.shop(t, "shop"), w.config(t)
			cart := load(s, 4)
			tt.cheat(cart)
			b := w.carried(t, c, s)
			failed := 0
			for _, seg := range w.segs {
				if b.Download(t.Context(), seg) != nil {
					failed++
				}
			}
			if failed == 0 {
				t.Error("the cheat was not seen")
			}
			w.carriage(t, c, b)
			if a := b.Account(w.title); a.Carriage > tt.most || w.left(t) != a.Spent {
				t.Errorf("it took %v, want %v at most", a.Carriage, tt.most)
			}
			if tt.asks > 0 && cart.requests > tt.asks {
				t.Errorf("it was asked %d times", cart.requests)
			}
			bans, err := c.Ledger.Bans(t.Context())
			if must(t, err); len(bans) > 0 != tt.banned {
				t.Errorf("bans %+v", bans)
			}
		})
	}
}

// Who sends some blobs whole and others not gains no more by these than a step, and a
// sixteenth of the sound ones.
func TestCarrierThatIsHonestByTurns(t *testing.T) {
	const blobs, leaves, step = 48, 2, 4
	w := newWorld(t, 0)
	for range blobs {
		w.add(leaves)
	}
	s, c := w.shop(t, "shop"), w.config(t)
	cart := load(s, step)
	cart.cut = func(request int) bool { return request%2 == 0 }
	b := w.carried(t, c, s)
	sound := lightning.Msat(0)
	for _, seg := range w.segs {
		if b.Download(t.Context(), seg) == nil {
			sound += leaves * lightning.Sat
		}
	}
	w.carriage(t, c, b)
	if a := b.Account(w.title); sound == 0 || a.Carriage > sound+step*lightning.Sat+sound/16 {
		t.Errorf("it took %v for bytes worth %v", a.Carriage, sound)
	}
}

// A provider cannot make what it may take greater by saying that its step is long.
func TestLongStepsAreNotBelieved(t *testing.T) {
	w := newWorld(t, 0)
	for range 60 {
		w.add(8)
	}
	s, c := w.shop(t, "shop"), w.config(t)
	cart := load(s, 256)
	cart.cut = func(int) bool { return true }
	b := w.carried(t, c, s)
	for _, seg := range w.segs {
		if b.Download(t.Context(), seg) == nil {
			t.Error("half of a blob was taken for all of it")
		}
	}
	needs := exchange.NewCarriage(cart.terms.Price, 8*leaf)
	if paid := w.carriage(t, c, b); paid == 0 || paid > needs.Cost(needs.Step) {
		t.Errorf("it took %v, want no more than %v", paid, needs.Cost(needs.Step))
	}
}

// No payment is for more than the viewer allows one to be: what is owed is paid in parts.
func TestCarriageInPartsWithinTheLimit(t *testing.T) {
	for _, tt := range []struct {
		limit, fee lightning.Msat
		want       error
	}{
		{3 * lightning.Sat, 0, nil},
		{3 * lightning.Sat, lightning.Sat, nil},
		{0, 0, buyer.ErrBudget},
	} {
		t.Run(fmt.Sprint(tt.limit, tt.fee), func(t *testing.T) {
			w := newWorld(t, 0)
			for range 4 {
				w.add(8)
			}
			s, c := w.shop(t, "shop"), w.config(t)
			load(s, 8)
			w.router.SetFees(sim.Fees{Base: tt.fee})
			c.Limits.Segment, c.Fee = tt.limit, buyer.Fee{Floor: tt.fee}
			b := w.carried(t, c, s)
			var err error
			for _, seg := range w.segs {
				if err = b.Download(t.Context(), seg); err != nil {
					break
				}
			}
			if wantErr(t, err, tt.want); tt.want != nil {
				w.wantCarriage(t, c, b, 0)
				return
			}
			w.carriage(t, c, b)
			for p, err := range c.Ledger.Purchases(t.Context(), ledger.Filter{}) {
				if must(t, err); p.Amount+p.Fee > tt.limit {
					t.Errorf("a payment of %v, and %v for its route", p.Amount, p.Fee)
				}
			}
			if a := b.Account(w.title); a.Carriage < 24*lightning.Sat {
				t.Errorf("paid %v for 32 leaves, of which a step is on credit", a.Carriage)
			}
		})
	}
}

// Budgets count what bytes cost at the cheapest that is asked for them: not at one that
// sent garbage, nor at one whose terms nobody takes.
func TestBytePriceIsOfWhoIsAsked(t *testing.T) {
	w := newWorld(t, 0)
	w.add(2)
	cheap, honest, odd := w.shop(t, "cheap"), w.shop(t, "honest"), w.shop(t, "odd")
	load(honest, 4)
	load(odd, 4).terms = exchange.Carriage{Price: 1, Step: 1 << 40}
	cart := load(cheap, 4)
	cart.terms.Price = 32 * lightning.Sat
	cart.spoil = func(b []byte) { b[0] ^= 1 }
	b := w.carried(t, w.config(t), cheap, honest, odd)
	if p := b.BytePrice(t.Context(), w.title); p != 32*lightning.Sat {
		t.Errorf("a MiB costs %v, want what the cheapest says", p)
	}
	if b.Download(t.Context(), w.segs[0]) == nil {
		t.Error("garbage was taken")
	}
	if p := b.BytePrice(t.Context(), w.title); p != 64*lightning.Sat {
		t.Errorf("a MiB costs %v, want what the other says", p)
	}
}

// A provider may take more than before, as long as it says so: what came for less is
// not paid at the new price, and what comes then is.
func TestCarrierTakesMoreThanBefore(t *testing.T) {
	w := newWorld(t, 0)
	for range 8 {
		w.add(4)
	}
	s, c := w.shop(t, "shop"), w.config(t)
	cart := load(s, 4)
	c.BytePrice = 128 * lightning.Sat
	b := w.carried(t, c, s)
	paid := func(want lightning.Msat) {
		t.Helper()
		eventually(t, "it is not paid", func() bool { return b.Account(w.title).Carriage == want })
	}
	must(t, b.Download(t.Context(), w.segs[0]))
	paid(4 * lightning.Sat)
	cart.mu.Lock()
	cart.terms.Price = 128 * lightning.Sat
	cart.mu.Unlock()
	must(t, b.Download(t.Context(), w.segs[1])) // on the old terms, as it thinks
	eventually(t, "it was not asked again what it takes", func() bool { return b.Account(w.title).BytePrice == 128*lightning.Sat })
	w.wantCarriage(t, c, b, 4*lightning.Sat)
	for i, seg := range w.segs[2:] {
		must(t, b.Download(t.Context(), seg))
		paid(lightning.Msat(4+8*(i+1)) * lightning.Sat)
	}
	if look := b.Standing(w.title)[0]; look.State != "unknown" {
		t.Errorf("it stands as %+v", look)
	}
}

// Nothing is paid where the viewer does not allow the price.
func TestCarriageLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*buyer.Config, *cart)
		want   error
		most   lightning.Msat
	}{
		{"too dear", func(c *buyer.Config, _ *cart) { c.BytePrice = 64*lightning.Sat - 1 }, htlcdash.ErrNotFound, 0},
		{"only free bytes", func(c *buyer.Config, _ *cart) { c.BytePrice = -1 }, htlcdash.ErrNotFound, 0},
		{"terms without sense", func(_ *buyer.Config, c *cart) { c.terms.Step = 1 << 40 }, htlcdash.ErrNotFound, 0},
		{"a budget", func(c *buyer.Config, _ *cart) { c.Limits.Title, c.Fee = 5*lightning.Sat, buyer.Fee{} }, buyer.ErrBudget, 5 * lightning.Sat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, 0)
			for range 8 {
				w.add(2)
			}
			s, c := w.shop(t, "shop"), w.config(t)
			tt.change(&c, load(s, 4))
			b := w.carried(t, c, s)
			var err error
			for _, seg := range w.segs {
				if err = b.Download(t.Context(), seg); err != nil {
					break
				}
			}
			wantErr(t, err, tt.want)
			w.carriage(t, c, b)
			if a := b.Account(w.title); a.Spent > tt.most || a.Spent != a.Carriage {
				t.Errorf("account %+v", a)
			}
		})
	}
}

// While the outcome of a payment is not known, no other is made for what it was
// for, and no bytes come on credit for it.
func TestHangingPaymentForCarriage(t *testing.T) {
	w := newWorld(t, 0)
	for range 3 {
		w.add(4)
	}
	s, c := w.shop(t, "shop"), w.config(t)
	cart := load(s, 4)
	b := w.carried(t, c, s)
	events := b.Watch(t.Context())
	w.viewer.Order(sim.Stall)
	must(t, b.Download(t.Context(), w.segs[0]))
	came := make(chan error, 2)
	for _, seg := range w.segs[1:] {
		go func() { came <- b.Download(t.Context(), seg) }()
	}
	hash := await(t, events, 0, "paying").Hash
	waitStalled(t, w, hash)
	if a := b.Account(w.title); a.InFlight != 1 || a.Reserved != 5*lightning.Sat || a.Spent != 0 {
		t.Errorf("account %+v", a)
	}
	if !w.net.Release(hash, true) {
		t.Fatal("nothing to release")
	}
	for range 2 {
		must(t, <-came)
	}
	w.carriage(t, c, b)
	if a := b.Account(w.title); a.Carriage < 8*lightning.Sat || a.Carriage > 12*lightning.Sat || cart.refused > 0 || cart.most > 4*leaf {
		t.Errorf("paid %v, %d refused, up to %d on credit", a.Carriage, cart.refused, cart.most)
	}
}

// A provider that has lost its accounts is asked on, and what it forgot is not paid.
func TestCarrierForgetsAccounts(t *testing.T) {
	w := newWorld(t, 0)
	for range 4 {
		w.add(3)
	}
	s, c := w.shop(t, "shop"), w.config(t)
	cart := load(s, 4)
	b := w.carried(t, c, s)
	for _, seg := range w.segs {
		must(t, b.Download(t.Context(), seg))
		quiet(t, b, w.title)
		cart.mu.Lock()
		clear(cart.accounts)
		cart.mu.Unlock()
	}
	if a := b.Account(w.title); a.Carriage > 12*lightning.Sat || cart.sent != 12*leaf {
		t.Errorf("paid %v for %d bytes", a.Carriage, cart.sent)
	}
}

// Who resells pays for sealed bytes no more than they earn, and what it may risk.
func TestCarriageThatIsResold(t *testing.T) {
	w := newWorld(t, 0)
	for range 12 {
		w.add(3)
	}
	s := w.shop(t, "shop")
	load(s, 6)
	const risk = 6 * lightning.Sat
	run := func() (paid lightning.Msat, refused bool) {
		c := w.config(t)
		c.Resells, c.CarriageRisk = true, risk
		b := w.carried(t, c, s)
		defer func() { must(t, c.Ledger.Close()) }()
		defer b.Close()
		for _, seg := range w.segs {
			if err := b.Download(t.Context(), seg); err != nil {
				wantErr(t, err, htlcdash.ErrNotFound)
				refused = true
				break
			}
			w.carriage(t, c, b)
		}
		return b.Account(w.title).Carriage, refused
	}
	paid, _ := run()
	if again, refused := run(); !refused || again != paid || paid < risk || paid > risk+6*lightning.Sat {
		t.Errorf("paid %v, then %v more; refused: %v", paid, again-paid, refused)
	}
	c := w.config(t)
	sale := ledger.Sale{Hash: lightning.Hash{9}, Title: w.title, Representation: ledger.Carriage, Scheme: exchange.SchemeCarriage, Amount: paid, Created: time.Now()}
	must(t, c.Ledger.Offered(t.Context(), []ledger.Sale{sale}))
	must(t, c.Ledger.Settle(t.Context(), ledger.FromNode, lightning.Receipt{Hash: sale.Hash, Amount: paid, At: time.Now()}))
	must(t, c.Ledger.Close())
	if more, _ := run(); more <= paid {
		t.Errorf("paid %v after bytes have earned as much", more)
	}
}
