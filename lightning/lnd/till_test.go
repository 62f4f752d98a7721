package lnd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/bech32"
	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"htlcdash/internal/ledger"
	"htlcdash/internal/onion"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

const (
	tillHeight = 1000
	tillPrice  = 1234 * lightning.Msat(1)
)

// counter is a till at a fake node: the test offers payments and reads what the
// till does with them.
type counter struct {
	*fake
	till    *lnd.Till
	journal lnd.Journal

	offers   chan map[string]any // to the interceptor
	verdicts chan map[string]any // of the interceptor
	events   chan map[string]any // to the subscriber
	drop     chan struct{}       // ends a connection of the interceptor
	refusal  atomic.Value        // what the node says instead of serving an interceptor, if anything

	mu       sync.Mutex
	outcomes map[string]bool // what the node would say later, by path
	fault    error           // of the deriver
	derived  int
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	c := &counter{
		fake: newFake(t), offers: make(chan map[string]any), verdicts: make(chan map[string]any),
		events: make(chan map[string]any), drop: make(chan struct{}), outcomes: map[string]bool{},
	}
	c.on("GET /v1/getinfo", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"identity_pubkey":"%s","chains":[{"network":"simnet"}],"block_height":%d,"store_final_htlc_resolutions":true}`, tillNode, tillHeight)
	})
	c.on("GET /v2/router/htlcinterceptor", c.serveInterceptor)
	c.on("GET /v2/router/htlcevents", func(w http.ResponseWriter, r *http.Request) {
		line(w, map[string]any{"subscribed_event": map[string]any{}})
		for {
			select {
			case e := <-c.events:
				line(w, e)
			case <-r.Context().Done():
				return
			}
		}
	})
	c.on("GET /v1/htlc-resolution/", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		settled, ok := c.outcomes[r.URL.Path]
		if !ok {
			fault(w, http.StatusNotFound, 5, "htlc unknown")
			return
		}
		fmt.Fprintf(w, `{"settled":%t,"offchain":true}`, settled)
	})
	books, err := ledger.Open(filepath.Join(t.TempDir(), "books.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { books.Close() })
	c.journal = books
	c.reopen(t)
	return c
}

var tillNode = "02" + strings.Repeat("00", 31) + "01"

func (c *counter) serveInterceptor(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if text, _ := c.refusal.Load().(string); text != "" {
		_ = wsjson.Write(ctx, conn, map[string]any{"error": map[string]any{"code": 2, "message": text}})
		return
	}
	go func() {
		defer cancel()
		for {
			var v map[string]any
			if wsjson.Read(ctx, conn, &v) != nil {
				return
			}
			select {
			case c.verdicts <- v:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case o := <-c.offers:
			if wsjson.Write(ctx, conn, map[string]any{"result": o}) != nil {
				return
			}
		case <-c.drop:
			return
		case <-ctx.Done():
			return
		}
	}
}

// reopen makes the till anew, as after a crash of its program.
func (c *counter) reopen(t *testing.T) {
	t.Helper()
	var err error
	if c.till, err = lnd.NewTill(soon(t), c.node(t), [32]byte{7}, c.journal); err != nil {
		t.Fatal(err)
	}
}

// run runs the till until the test or the function returned ends it.
func (c *counter) run(t *testing.T) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.till.Run(ctx, c.derive) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// derive is a seller whose preimage is the hash of the note.
func (c *counter) derive(_ context.Context, note []byte, _ lightning.Hash) (lightning.Preimage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.derived++
	return preimageOf(note), c.fault
}

func (c *counter) setFault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = err
}

func preimageOf(note []byte) lightning.Preimage { return lightning.NewPreimage(sha256.Sum256(note)) }

// sell makes an invoice, once the till is open.
func (c *counter) sell(t *testing.T, note string) lightning.Invoice {
	t.Helper()
	for ctx := soon(t); ; {
		inv, err := c.till.Invoice(t.Context(), preimageOf([]byte(note)), lightning.Terms{Amount: tillPrice, Note: []byte(note), Memo: "media"})
		if err == nil {
			return inv
		}
		if !errors.Is(err, lightning.ErrUnavailable) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// read returns the bytes of a field of an invoice.
func read(t *testing.T, inv lightning.Invoice, tag byte) []byte {
	t.Helper()
	_, data, err := bech32.DecodeNoLimit(inv.Bolt11)
	if err != nil {
		t.Fatal(err)
	}
	for data = data[7 : len(data)-104]; len(data) > 3; {
		length := int(data[1])<<5 | int(data[2])
		if data[0] == tag {
			b, err := bech32.ConvertBits(data[3:3+length], 5, 8, false)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		data = data[3+length:]
	}
	t.Fatalf("no field %d", tag)
	return nil
}

const (
	tagHint     = 3
	tagSecret   = 16
	tagMetadata = 27
)

// A payment is what a payer's node makes of an invoice.
type payment struct {
	final   onion.Final
	session *btcec.PrivateKey
	payee   *btcec.PublicKey
	hash    lightning.Hash
	offer   map[string]any // but for the onion
}

func pay(t *testing.T, inv lightning.Invoice, id int) *payment {
	t.Helper()
	payee, err := btcec.ParsePubKey(inv.Payee[:])
	if err != nil {
		t.Fatal(err)
	}
	session, err := btcec.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	hint := read(t, inv, tagHint)
	return &payment{
		final: onion.Final{
			Amount: inv.Amount, Total: inv.Amount, Expiry: tillHeight + 18,
			Secret: [32]byte(read(t, inv, tagSecret)), Metadata: read(t, inv, tagMetadata),
		},
		session: session, payee: payee, hash: inv.Hash,
		offer: map[string]any{
			"incoming_circuit_key":       map[string]any{"chan_id": "17592186044416000", "htlc_id": fmt.Sprint(id)},
			"incoming_amount_msat":       fmt.Sprint(int64(inv.Amount)),
			"outgoing_amount_msat":       fmt.Sprint(int64(inv.Amount)),
			"incoming_expiry":            tillHeight + 58,
			"outgoing_expiry":            tillHeight + 18,
			"auto_fail_height":           tillHeight + 58 - 19,
			"outgoing_requested_chan_id": fmt.Sprint(binary.BigEndian.Uint64(hint[33:])),
			"payment_hash":               inv.Hash[:],
		},
	}
}

func (p *payment) offered() map[string]any {
	p.offer["onion_blob"] = onion.Wrap(p.final.Payload(), p.payee, p.session, p.hash)
	return p.offer
}

// settled asserts the verdict on an offer.
func (c *counter) settled(t *testing.T, inv lightning.Invoice, offer map[string]any) {
	t.Helper()
	v := c.offer(t, offer)
	if v["action"] != "SETTLE" {
		t.Fatalf("got %v, want SETTLE", v["action"])
	}
	var b []byte
	if err := decode(v["preimage"], &b); err != nil || sha256.Sum256(b) != inv.Hash {
		t.Errorf("a preimage that does not open the hash: %v", err)
	}
}

func decode(v any, b *[]byte) (err error) {
	text, _ := v.(string)
	*b, err = base64.StdEncoding.DecodeString(text)
	return err
}

// logbook keeps what is logged.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logbook) says(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func (c *counter) offer(t *testing.T, offer map[string]any) map[string]any {
	t.Helper()
	select {
	case c.offers <- offer:
	case <-soon(t).Done():
		t.Fatal("no interceptor")
	}
	select {
	case v := <-c.verdicts:
		if fmt.Sprint(v["incoming_circuit_key"]) != fmt.Sprint(offer["incoming_circuit_key"]) {
			t.Fatalf("a verdict on %v, want one on %v", v["incoming_circuit_key"], offer["incoming_circuit_key"])
		}
		return v
	case <-soon(t).Done():
		t.Fatal("no verdict")
		return nil
	}
}

func (c *counter) final(t *testing.T, id int, settled bool) {
	t.Helper()
	select {
	case c.events <- map[string]any{
		"incoming_channel_id": "17592186044416000", "incoming_htlc_id": fmt.Sprint(id),
		"timestamp_ns": "1800000000000000000", "final_htlc_event": map[string]any{"settled": settled},
	}:
	case <-soon(t).Done():
		t.Fatal("nobody listens to events")
	}
}

// receipts reads n receipts after one.
func (c *counter) receipts(t *testing.T, after uint64, n int) (got []lightning.Receipt) {
	t.Helper()
	enough := errors.New("enough")
	err := c.till.Receipts(soon(t), after, func(r lightning.Receipt) error {
		if got = append(got, r); len(got) == n {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("got %d receipts of %d: %v", len(got), n, err)
	}
	return got
}

// silent asserts that there is no receipt after one.
func (c *counter) silent(t *testing.T, after uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.till.Receipts(ctx, after, func(r lightning.Receipt) error { return fmt.Errorf("receipt %+v", r) })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want no receipt", err)
	}
}

func TestTillInvoice(t *testing.T) {
	c := newCounter(t)
	if _, err := c.till.Invoice(t.Context(), preimageOf(nil), lightning.Terms{Amount: 1}); !errors.Is(err, lightning.ErrUnavailable) {
		t.Errorf("a shut till: got %v", err)
	}
	c.run(t)
	one, two := c.sell(t, "one"), c.sell(t, "one")
	if one.Hash != two.Hash || one.Payee == two.Payee || bytes.Equal(read(t, one, tagSecret), read(t, two, tagSecret)) ||
		bytes.Equal(read(t, one, tagHint), read(t, two, tagHint)) || bytes.Equal(read(t, one, tagMetadata), read(t, two, tagMetadata)) {
		t.Error("two invoices share what should be fresh")
	}
	hint := read(t, one, tagHint)
	if scid := binary.BigEndian.Uint64(hint[33:]); len(hint) != 51 || scid>>40 < 16_300_000 || fmt.Sprintf("%x", hint[:33]) != tillNode {
		t.Errorf("got hint %x", hint)
	}
	if one.Network != lightning.Simnet || one.Amount != tillPrice || one.Memo != "media" || one.FinalDelta != 18 || one.Expiry != time.Hour {
		t.Errorf("got %+v", one)
	}
	if bytes.Contains(read(t, one, tagMetadata), []byte("one")) {
		t.Error("the note can be read")
	}
	for name, terms := range map[string]lightning.Terms{
		"no amount": {}, "a long note": {Amount: 1, Note: make([]byte, lightning.MaxNote+1)},
	} {
		if _, err := c.till.Invoice(t.Context(), preimageOf(nil), terms); err == nil {
			t.Errorf("%s: made an invoice", name)
		}
	}
	if s := fmt.Sprintf("%v %+v", c.till, c.till); strings.Contains(s, "[7 0 0") {
		t.Error("the till prints its secret")
	}
}

func TestTillSettles(t *testing.T) {
	c := newCounter(t)
	c.run(t)
	first, second := c.sell(t, "first"), c.sell(t, strings.Repeat("x", lightning.MaxNote))
	c.settled(t, first, pay(t, first, 1).offered())
	generous := pay(t, second, 2)
	generous.final.Amount, generous.final.Total = 2*tillPrice, 2*tillPrice
	generous.offer["incoming_amount_msat"], generous.offer["outgoing_amount_msat"] = "2469", "2468"
	c.settled(t, second, generous.offered())
	c.silent(t, 0) // nothing is final yet
	c.final(t, 9, true)
	c.final(t, 2, true)
	got := c.receipts(t, 0, 1)[0]
	if got.Index != 1 || got.Hash != second.Hash || got.Amount != 2469 || string(got.Note) != strings.Repeat("x", lightning.MaxNote) ||
		!got.At.Equal(time.Unix(1_800_000_000, 0)) {
		t.Errorf("got %+v", got)
	}
	c.final(t, 2, true)
	c.final(t, 1, true)
	if got := c.receipts(t, 1, 1)[0]; got.Index != 2 || got.Hash != first.Hash || got.Amount != tillPrice {
		t.Errorf("got %+v", got)
	}
	c.silent(t, 2)
}

// What is not ours goes its way, also if it looks like ours.
func TestTillResumes(t *testing.T) {
	c := newCounter(t)
	c.run(t)
	inv := c.sell(t, "note")
	for name, change := range map[string]func(*payment){
		"another channel": func(p *payment) { p.offer["outgoing_requested_chan_id"] = "879609302220800" },
		"a channel that could be ours": func(p *payment) {
			p.offer["outgoing_requested_chan_id"] = fmt.Sprint(uint64(16_300_000) << 40)
		},
		"a node instead of a channel": func(p *payment) { p.offer["outgoing_requested_chan_id"] = "18446744073709551615" },
		"another hash":                func(p *payment) { p.hash = lightning.Hash{1} },
	} {
		p := pay(t, inv, 1)
		change(p)
		if v := c.offer(t, p.offered()); v["action"] != "RESUME" {
			t.Errorf("%s: got %v", name, v["action"])
		}
	}
	if c.derived != 0 {
		t.Error("the seller was asked")
	}
	onChain := pay(t, inv, 2)
	onChain.offer["outgoing_requested_chan_id"], onChain.offer["auto_fail_height"] = "879609302220800", tillHeight+58
	c.offers <- onChain.offered() // and there is no verdict
	c.settled(t, inv, pay(t, inv, 3).offered())
}

func TestTillRefuses(t *testing.T) {
	c := newCounter(t)
	c.run(t)
	other := c.sell(t, "other")
	for name, change := range map[string]func(*payment){
		"too little":         func(p *payment) { p.final.Amount, p.final.Total = tillPrice-1, tillPrice-1 },
		"far too much":       func(p *payment) { p.final.Amount, p.final.Total = 2*tillPrice+2, 2*tillPrice+2 },
		"a part":             func(p *payment) { p.final.Total = 2 * tillPrice },
		"less on its way":    func(p *payment) { p.offer["outgoing_amount_msat"] = "1233" },
		"less that arrives":  func(p *payment) { p.offer["incoming_amount_msat"] = "1233" },
		"another secret":     func(p *payment) { p.final.Secret[0]++ },
		"no metadata":        func(p *payment) { p.final.Metadata = nil },
		"another's metadata": func(p *payment) { p.final.Metadata = read(t, other, tagMetadata) },
		"metadata cut off":   func(p *payment) { p.final.Metadata = p.final.Metadata[:20] },
		"expiry on its way":  func(p *payment) { p.offer["outgoing_expiry"] = tillHeight + 17 },
		"expiry that arrives": func(p *payment) {
			p.offer["incoming_expiry"], p.offer["auto_fail_height"] = tillHeight+17, tillHeight-2
		},
		"ends soon": func(p *payment) {
			p.offer["incoming_expiry"], p.offer["auto_fail_height"] = tillHeight+29, tillHeight+10
		},
	} {
		p := pay(t, c.sell(t, "note"), 1)
		change(p)
		v := c.offer(t, p.offered())
		var failure []byte
		if err := decode(v["failure_message"], &failure); v["action"] != "FAIL" || err != nil || len(failure) != onion.FailureSize {
			t.Errorf("%s: got %v with a failure of %d bytes", name, v["action"], len(failure))
		}
	}
	if c.derived != 0 {
		t.Error("the seller was asked")
	}

	short, err := c.till.Invoice(t.Context(), preimageOf([]byte("short")), lightning.Terms{Amount: tillPrice, Note: []byte("short"), Expiry: 1})
	if err != nil {
		t.Fatal(err)
	}
	if v := c.offer(t, pay(t, short, 1).offered()); v["action"] != "FAIL" {
		t.Errorf("expired: got %v", v["action"])
	}
	wrong, err := c.till.Invoice(t.Context(), preimageOf([]byte("this")), lightning.Terms{Amount: tillPrice, Note: []byte("that")})
	if err != nil {
		t.Fatal(err)
	}
	if v := c.offer(t, pay(t, wrong, 1).offered()); v["action"] != "FAIL" {
		t.Errorf("another preimage: got %v", v["action"])
	}
	c.setFault(errors.New("no such segment"))
	if v := c.offer(t, pay(t, c.sell(t, "note"), 1).offered()); v["action"] != "FAIL" {
		t.Errorf("no preimage: got %v", v["action"])
	}
	if open, err := c.journal.Claims(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("claims of what was refused: %v, %v", open, err)
	}
}

// The payer can read the failure, and sees that it is final.
func TestTillFailureIsReadable(t *testing.T) {
	c := newCounter(t)
	c.run(t)
	p := pay(t, c.sell(t, "note"), 1)
	p.final.Secret[0]++
	var failure []byte
	v := c.offer(t, p.offered())
	if err := decode(v["failure_message"], &failure); err != nil {
		t.Fatal(err)
	}
	// The payer derives the same secrets with the keys the other way round.
	packet := p.offered()["onion_blob"].([]byte)
	copy(packet[1:], p.payee.SerializeCompressed())
	payer, err := onion.Open(packet, p.session, p.hash)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(payer.Fail(onion.Incorrect(tillPrice, tillHeight)), failure) {
		t.Error("the payer cannot read the failure")
	}
}

func TestTillTakesAHashOnce(t *testing.T) {
	c := newCounter(t)
	c.run(t)
	inv, again := c.sell(t, "note"), c.sell(t, "note")
	c.settled(t, inv, pay(t, inv, 1).offered())
	for id, other := range map[int]lightning.Invoice{2: inv, 3: again} {
		if v := c.offer(t, pay(t, other, id).offered()); v["action"] != "FAIL" {
			t.Errorf("taken twice: %v", v["action"])
		}
	}
	c.final(t, 1, false) // the first did not arrive after all
	for ctx := soon(t); c.offer(t, pay(t, again, 4).offered())["action"] != "SETTLE"; {
		if ctx.Err() != nil {
			t.Fatal("what failed cannot be paid again")
		}
	}
	c.final(t, 4, true)
	if got := c.receipts(t, 0, 1)[0]; got.Hash != inv.Hash || got.Index != 1 {
		t.Errorf("got %+v", got)
	}
}

// What cannot be written down is not taken.
func TestTillNeedsItsJournal(t *testing.T) {
	c := newCounter(t)
	c.run(t)
	if err := c.journal.(*ledger.Ledger).Close(); err != nil {
		t.Fatal(err)
	}
	if v := c.offer(t, pay(t, c.sell(t, "note"), 1).offered()); v["action"] != "FAIL" {
		t.Errorf("got %v", v["action"])
	}
}

// An HTLC that was claimed is settled whenever it is offered again: after a cut
// connection, after a crash, when it would come too late for a new one.
func TestTillSettlesAgain(t *testing.T) {
	c := newCounter(t)
	stop := c.run(t)
	inv := c.sell(t, "note")
	p := pay(t, inv, 1)
	c.settled(t, inv, p.offered())
	c.drop <- struct{}{}
	c.settled(t, inv, p.offered())
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.reopen(t)
	c.run(t)
	p.offer["incoming_expiry"], p.offer["auto_fail_height"] = tillHeight+25, tillHeight+25-19
	c.settled(t, inv, p.offered())
	p.offer["auto_fail_height"] = tillHeight + 25 // it is on the chain now
	c.settled(t, inv, p.offered())
	c.setFault(errors.New("the titles are not there yet"))
	c.offers <- p.offered()
	for asked := 0; asked < 5; { // no verdict while it cannot
		c.mu.Lock()
		asked = c.derived
		c.mu.Unlock()
	}
	c.setFault(nil)
	select {
	case v := <-c.verdicts:
		if v["action"] != "SETTLE" {
			t.Errorf("got %v", v["action"])
		}
	case <-soon(t).Done():
		t.Error("no verdict")
	}
	c.final(t, 1, true)
	if got := c.receipts(t, 0, 1); got[0].Hash != inv.Hash {
		t.Errorf("got %+v", got)
	}
	c.silent(t, 1)
}

// Outcomes that nobody heard are asked for, once.
func TestTillAsksWhatItMissed(t *testing.T) {
	c := newCounter(t)
	stop := c.run(t)
	var sold []lightning.Hash
	for id := range 3 {
		inv := c.sell(t, fmt.Sprint("note ", id))
		c.settled(t, inv, pay(t, inv, id).offered())
		sold = append(sold, inv.Hash)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.outcomes["/v1/htlc-resolution/17592186044416000/0"] = true
	c.outcomes["/v1/htlc-resolution/17592186044416000/1"] = false
	c.mu.Unlock()
	for range 2 { // and again
		c.reopen(t)
		stop := c.run(t)
		if got := c.receipts(t, 0, 1)[0]; got.Index != 1 || got.Hash != sold[0] {
			t.Errorf("got %+v", got)
		}
		c.silent(t, 1)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	open, err := c.journal.Claims(t.Context())
	if err != nil || len(open) != 1 || open[0].Hash != sold[2] {
		t.Errorf("open claims %+v, %v", open, err)
	}
}

func TestTillFaults(t *testing.T) {
	c := newCounter(t)
	c.refusal.Store("permission denied")
	if err := c.till.Run(soon(t), c.derive); !errors.Is(err, lightning.ErrDenied) || !strings.Contains(err.Error(), "--till") {
		t.Errorf("got %v", err)
	}

	c.refusal.Store("interceptor already exists")
	var log logbook
	till, err := lnd.NewTill(soon(t), c.node(t, func(cfg *lnd.Config) { cfg.Log = log.logger() }), [32]byte{7}, c.journal)
	if err != nil {
		t.Fatal(err)
	}
	c.till = till
	c.run(t)
	for ctx := soon(t); !log.says(lnd.ErrIntercepted.Error()); {
		if ctx.Err() != nil {
			t.Fatal("the log does not say what to do")
		}
	}
	c.refusal.Store("") // the other has gone
	inv := c.sell(t, "note")
	c.settled(t, inv, pay(t, inv, 1).offered())

	forgetful := newFake(t)
	forgetful.on("GET /v1/getinfo", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"identity_pubkey":"%s","chains":[{"network":"simnet"}]}`, tillNode)
	})
	if _, err := lnd.NewTill(soon(t), forgetful.node(t), [32]byte{7}, c.journal); err == nil || !strings.Contains(err.Error(), "store-final-htlc-resolutions=true") {
		t.Errorf("got %v", err)
	}
}

func TestTillRights(t *testing.T) {
	for _, r := range lnd.SpendingRights {
		if slices.Contains(lnd.TillRights, r) {
			t.Errorf("a till may %s", r)
		}
	}
	if len(lnd.TillRights) != len(lnd.SellingRights)+3 {
		t.Errorf("got %v", lnd.TillRights)
	}
}

func BenchmarkTillInvoice(b *testing.B) {
	till := lnd.LooseTill([32]byte{7})
	note, p := make([]byte, 81), preimageOf(nil)
	for b.Loop() {
		if _, err := till.Invoice(b.Context(), p, lightning.Terms{Amount: tillPrice, Note: note}); err != nil {
			b.Fatal(err)
		}
	}
}
