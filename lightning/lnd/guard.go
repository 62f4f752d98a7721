package lnd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"htlcdash/lightning"
)

// A Tally keeps what was spent under budgets. Its methods are called by one
// Guard at a time, but perhaps at once.
type Tally interface {
	// Load returns all charges.
	Load(ctx context.Context) ([]Charge, error)
	// Save writes charges, all or none, durably before it returns. A charge
	// takes the place of an earlier one with the same Account and Hash. One
	// whose Amount is 0 is none: it may be forgotten.
	Save(ctx context.Context, charges []Charge) error
}

// Charge is what one payment takes from one budget.
type Charge struct {
	Account string // names the budget, without saying the macaroon
	Hash    lightning.Hash
	Amount  lightning.Msat // with fees: what was spent, or at most will be
	Paid    bool           // Amount is final
}

const (
	guardName = "htlcdash-guard"

	// certainAfter is when lnd must have begun a payment that it was let do,
	// so that what it says of the hash holds for it.
	certainAfter = time.Minute
)

// Guard enforces the budgets of macaroons made by [Macaroon.WithBudget], as a
// middleware of lnd (which needs rpcmiddleware.enable): lnd asks it before
// each call under such a macaroon. It calls ready once it is in place, and
// returns when ctx is done or the node goes away; the caller starts it again.
// While no Guard runs, lnd refuses those macaroons.
//
// A payment is charged in full, fee limit included, before lnd may begin it,
// and the charge is lowered to what was spent, or dropped, only when the
// outcome is known. In doubt it counts as spent. Calls that neither pay an
// invoice nor belong to buying and selling are refused, whatever the macaroon
// allows. n's own macaroon must allow /lnrpc.Lightning/RegisterRPCMiddleware
// and /routerrpc.Router/TrackPaymentV2.
func (n *Node) Guard(ctx context.Context, tally Tally, ready func()) error {
	g := &guard{node: n, tally: tally, accounts: make(map[string]*account), asked: make(map[uint64]request)}
	if err := g.load(ctx); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	if err := g.run(ctx, ready); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	return nil
}

type guard struct {
	node  *Node
	tally Tally

	mu       sync.Mutex // guards all below; never held while lnd is asked
	accounts map[string]*account
	asked    map[uint64]request // by lnd's request id: payments that lnd was let do
}

// account is one budget.
type account struct {
	spent   lightning.Msat // the sum of charges
	charges map[lightning.Hash]*charge
}

type charge struct {
	amount lightning.Msat
	paid   bool
	asks   int       // requests under way, as far as known
	since  time.Time // of the last request
}

// request is a payment that lnd was let do.
type request struct {
	accounts []string
	hash     lightning.Hash
}

func (g *guard) load(ctx context.Context) error {
	charges, err := g.tally.Load(ctx)
	if err != nil {
		return fmt.Errorf("load the tally: %w", err)
	}
	now := time.Now()
	for _, c := range charges {
		if c.Amount > 0 {
			g.put(c, now)
		}
	}
	return nil
}

// put sets a charge; the caller holds mu or is alone.
func (g *guard) put(c Charge, now time.Time) *charge {
	a := g.accounts[c.Account]
	if a == nil {
		a = &account{charges: make(map[lightning.Hash]*charge)}
		g.accounts[c.Account] = a
	}
	have := a.charges[c.Hash]
	if have == nil {
		have = &charge{}
		a.charges[c.Hash] = have
	}
	a.spent += c.Amount - have.amount
	have.amount, have.paid, have.since = c.Amount, c.Paid, now
	if c.Amount == 0 {
		delete(a.charges, c.Hash)
	}
	return have
}

// intercepted is lnrpc.RPCMiddlewareRequest.
type intercepted struct {
	RequestID uint64 `json:"request_id,string"`
	MessageID uint64 `json:"msg_id,string"`
	Macaroon  []byte `json:"raw_macaroon"`
	Complete  bool   `json:"reg_complete"`
	Stream    *struct {
		Method string `json:"method_full_uri"`
	} `json:"stream_auth"`
	Request  *message `json:"request"`
	Response *message `json:"response"`
}

// message is lnrpc.RPCMessage.
type message struct {
	Method  string `json:"method_full_uri"`
	Body    []byte `json:"serialized"`
	IsError bool   `json:"is_error"`
}

func (g *guard) run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()

	conn, err := g.register(ctx)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	ready()
	background.Go(func() { g.sweep(ctx) })
	for {
		var m intercepted
		if err := receive(ctx, conn, &m); err != nil {
			return err
		}
		if err := answerTo(ctx, conn, m.MessageID, g.judge(ctx, m)); err != nil {
			return err
		}
		if m.Response != nil { // the answer need not wait for the books
			background.Go(func() { g.responded(ctx, m.RequestID, m.Response) })
		}
	}
}

func (g *guard) register(ctx context.Context) (*websocket.Conn, error) {
	conn, err := g.node.rest.socket(ctx, "/v1/middleware")
	if err != nil {
		return nil, err
	}
	err = send(ctx, conn, map[string]any{"register": map[string]any{
		"middleware_name": guardName, "custom_macaroon_caveat_name": caveatName,
	}})
	if err != nil {
		return nil, err
	}
	var m intercepted
	if err := receive(ctx, conn, &m); err != nil {
		return nil, err
	}
	if !m.Complete {
		return nil, errors.New("lnd does not confirm the middleware")
	}
	return conn, nil
}

// answerTo lets the call with message id go on, or ends it with an error.
func answerTo(ctx context.Context, conn *websocket.Conn, id uint64, refusal error) error {
	feedback := map[string]any{"error": ""}
	if refusal != nil {
		feedback["error"] = "htlcdash guard: " + refusal.Error()
	}
	return send(ctx, conn, map[string]any{"ref_msg_id": strconv.FormatUint(id, 10), "feedback": feedback})
}

// judge returns why a message must not pass, or nil.
func (g *guard) judge(ctx context.Context, m intercepted) error {
	switch {
	case m.Response != nil:
		return nil
	case m.Stream != nil:
		_, err := g.admit(m.Macaroon, m.Stream.Method)
		return err
	case m.Request != nil:
		budgets, err := g.admit(m.Macaroon, m.Request.Method)
		if err != nil || m.Request.Method != payMethod {
			return err
		}
		return g.reserve(ctx, m.RequestID, budgets, m.Request.Body)
	}
	return errors.New("a message of an unknown kind")
}

const payMethod = "/routerrpc.Router/SendPaymentV2"

// guarded are the calls that a macaroon with a budget may make. None but
// payMethod spends.
var guarded = slices.Concat(BuyingRights, SellingRights)

// admit checks the call itself.
func (g *guard) admit(raw []byte, method string) ([]budget, error) {
	if !slices.Contains(guarded, Right(method)) {
		return nil, errors.New("a macaroon with a budget does not allow this call")
	}
	return budgets(raw)
}

// budget is one budget of a macaroon.
type budget struct {
	account string
	limit   lightning.Msat
}

// budgets reads all budgets of a macaroon, and there must be one. The account
// of a budget is the hash of the macaroon's id and of all caveats up to it, so
// that whoever adds caveats stays within the accounts there were.
func budgets(raw []byte) ([]budget, error) {
	m, err := decodeMacaroon(raw)
	if err != nil {
		return nil, err
	}
	var found []budget
	h := sha256.New()
	h.Write([]byte("htlcdash/guard/account/v1"))
	sized(h, m.Id())
	for _, c := range m.Caveats() {
		sized(h, c.Id)
		condition, ours := strings.CutPrefix(string(c.Id), caveatPrefix)
		if !ours {
			continue
		}
		text, ok := strings.CutPrefix(condition, budgetKey)
		limit, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil || limit < 0 {
			return nil, errors.New("a caveat of this macaroon is not understood")
		}
		found = append(found, budget{hex.EncodeToString(h.Sum(nil)), lightning.Msat(limit)})
	}
	if len(found) == 0 {
		return nil, errors.New("this macaroon names no budget")
	}
	return found, nil
}

func sized(w io.Writer, b []byte) {
	_ = binary.Write(w, binary.BigEndian, uint32(len(b))) // a hash does not fail
	_, _ = w.Write(b)
}

// Fields of routerrpc.SendPaymentRequest. Those that are absent here pay
// without an invoice, or carry other money, and are refused.
const (
	fieldAmount       = 2
	fieldInvoice      = 5
	fieldFeeLimit     = 7
	fieldAmountMsat   = 12
	fieldFeeLimitMsat = 13
)

// harmless fields: timeout, CLTV limit, last hop, self payment, max parts, no
// updates, outgoing channels, shard size, time preference, cancelable.
var harmless = []int{6, 9, 14, 15, 17, 18, 19, 21, 23, 24}

// price is the most that a request can cost, and the hash it pays.
func price(body []byte) (lightning.Msat, lightning.Hash, error) {
	var bolt11 string
	var amount, amountMsat, fee, feeMsat uint64
	err := wireFields(body, func(field int, number uint64, data []byte) error {
		switch field {
		case fieldInvoice:
			bolt11 = string(data)
		case fieldAmount:
			amount = number
		case fieldAmountMsat:
			amountMsat = number
		case fieldFeeLimit:
			fee = number
		case fieldFeeLimitMsat:
			feeMsat = number
		default:
			if !slices.Contains(harmless, field) {
				return fmt.Errorf("field %d of a payment is not allowed under a budget", field)
			}
		}
		return nil
	})
	if err != nil {
		return 0, lightning.Hash{}, err
	}
	const most = 21e17 // msat there can be; keeps the sum in range, also of negative numbers
	if amount > most/1000 || amountMsat > most || fee > most/1000 || feeMsat > most {
		return 0, lightning.Hash{}, errors.New("an amount is out of range")
	}
	inv, err := lightning.DecodeInvoice(bolt11)
	if err != nil {
		return 0, lightning.Hash{}, errors.New("want a payment of an invoice")
	}
	sum := max(inv.Amount, lightning.Msat(max(amount*1000, amountMsat))) + lightning.Msat(max(fee*1000, feeMsat))
	return sum, inv.Hash, nil
}

// reserve charges a payment to all budgets, or to none.
func (g *guard) reserve(ctx context.Context, id uint64, budgets []budget, body []byte) error {
	cost, hash, err := price(body)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := request{hash: hash}
	var charges []Charge
	for _, b := range budgets {
		var spent lightning.Msat
		c := Charge{Account: b.account, Hash: hash, Amount: cost}
		if a := g.accounts[b.account]; a != nil {
			spent = a.spent
			if have := a.charges[hash]; have != nil {
				// lnd pays a hash once: the larger of both is enough
				c.Amount, c.Paid = max(cost, have.amount), have.paid
				spent -= have.amount
			}
		}
		if c.Amount > b.limit-spent {
			return fmt.Errorf("over budget: %v asked, %v left", cost, max(b.limit-spent, 0))
		}
		charges = append(charges, c)
		r.accounts = append(r.accounts, b.account)
	}
	if err := g.tally.Save(ctx, charges); err != nil {
		g.node.log.Error("the guard cannot write its tally", "error", err)
		return errors.New("the tally cannot be written")
	}
	now := time.Now()
	for _, c := range charges {
		g.put(c, now).asks++
	}
	g.asked[id] = r
	return nil
}

// responded books the outcome of a request if m tells it. lnd may answer with
// an error while the payment is on its way, so that it is asked again.
func (g *guard) responded(ctx context.Context, id uint64, m *message) {
	if m.Method != payMethod {
		return
	}
	g.mu.Lock()
	r, ok := g.asked[id]
	g.mu.Unlock()
	if !ok {
		return
	}
	var p lightning.Payment
	if m.IsError {
		p, ok = g.ask(ctx, r.hash)
		p, ok = doubtful(p, ok)
	} else {
		p, ok = final(m.Body)
	}
	if !ok && !m.IsError {
		return // more will come
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.asked, id)
	for _, name := range r.accounts {
		if c := g.find(name, r.hash); c != nil {
			c.asks--
			if ok {
				g.conclude(ctx, name, r.hash, c, p, c.asks <= 0)
			}
		}
	}
}

// doubtful keeps only outcomes that lnd states.
func doubtful(p lightning.Payment, known bool) (lightning.Payment, bool) {
	return p, known && p.State != lightning.Unknown
}

func (g *guard) find(name string, h lightning.Hash) *charge {
	if a := g.accounts[name]; a != nil {
		return a.charges[h]
	}
	return nil
}

// conclude sets a charge to what was spent, or drops it if the payment failed
// and alone says that no other request for it can be under way.
func (g *guard) conclude(ctx context.Context, name string, h lightning.Hash, c *charge, p lightning.Payment, alone bool) {
	next := Charge{Account: name, Hash: h}
	switch {
	case c.paid:
		return
	case p.State == lightning.Paid:
		next.Amount, next.Paid = p.Spent(), true
	case p.State != lightning.Failed || !alone:
		return
	}
	if err := g.tally.Save(ctx, []Charge{next}); err != nil {
		g.node.log.Error("the guard cannot write its tally", "error", err)
		return // it counts in full until the next sweep
	}
	g.put(next, c.since)
}

// Fields of lnrpc.Payment, and its states.
const (
	fieldValueMsat = 8
	fieldStatus    = 10
	fieldFeeMsat   = 12

	statusSucceeded = 2
	statusFailed    = 3
)

// final reads an outcome out of a response, if it is one.
func final(body []byte) (lightning.Payment, bool) {
	var status, value, fee uint64
	err := wireFields(body, func(field int, number uint64, _ []byte) error {
		switch field {
		case fieldStatus:
			status = number
		case fieldValueMsat:
			value = number
		case fieldFeeMsat:
			fee = number
		}
		return nil
	})
	p := lightning.Payment{Amount: lightning.Msat(value), Fee: lightning.Msat(fee)}
	switch {
	case err != nil:
		return p, false
	case status == statusSucceeded:
		p.State = lightning.Paid
	case status == statusFailed:
		p.State = lightning.Failed
	}
	return p, p.State != lightning.Unknown
}

// ask looks the payment up in lnd; what it has never heard of has failed.
func (g *guard) ask(ctx context.Context, h lightning.Hash) (lightning.Payment, bool) {
	p, err := g.node.Lookup(ctx, h)
	if errors.Is(err, lightning.ErrNoPayment) {
		return lightning.Payment{State: lightning.Failed}, true
	}
	return p, err == nil
}

// sweep asks lnd now and then about charges whose outcome nobody saw: the
// client went away, or a guard did.
func (g *guard) sweep(ctx context.Context) {
	tick := time.NewTicker(g.node.sure / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, c := range g.overdue() {
				g.resolve(ctx, c)
			}
		}
	}
}

func (g *guard) overdue() (out []Charge) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, a := range g.accounts {
		for h, c := range a.charges {
			if !c.paid && time.Since(c.since) > g.node.sure {
				out = append(out, Charge{Account: name, Hash: h})
			}
		}
	}
	return out
}

func (g *guard) resolve(ctx context.Context, o Charge) {
	p, ok := g.ask(ctx, o.Hash)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.find(o.Account, o.Hash); c != nil {
		g.conclude(ctx, o.Account, o.Hash, c, p, time.Since(c.since) > g.node.sure)
	}
}
