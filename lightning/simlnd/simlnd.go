// Package simlnd gives a node of a simulated network the face of lnd: as much of
// its REST interface as package lnd asks of a node that pays and is paid. So crowds
// of real programs, each a process of its own, can pay each other on one machine,
// which as many real nodes would be too heavy for.
//
// It leaves out what a running market does not ask: opening and closing channels,
// macaroons (everybody may do everything), and TLS. It stands on loopback
// addresses only and is for tests and measurements, never for money.
package simlnd

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"htlcdash/lightning"
	"htlcdash/lightning/sim"
)

// gRPC's status codes, as far as lnd's answers are told apart by them.
const (
	codeUnknown     = 2
	codeNotFound    = 5
	codeUnavailable = 14
)

const (
	height  = 1000 // of the chain, always: nothing is mined here
	maxBody = 64 << 10
	poll    = 10 * time.Millisecond // between two looks at a payment that is followed
)

// A Face is one node. It is an http.Handler; its methods may be called at once.
type Face struct {
	node *sim.Node
	mux  *http.ServeMux
	stop context.CancelFunc
	work sync.WaitGroup
	life context.Context

	mu       sync.Mutex
	invoices map[lightning.Hash]made
	flying   map[lightning.Hash]int // payments of ours whose calls have not ended
	receipts []lightning.Receipt
	news     chan struct{} // closed when receipts grow, and replaced
}

// made is an invoice that was made through this face.
type made struct {
	lightning.Invoice
	preimage lightning.Preimage // zero if it is held
}

// New returns the face of a node. The caller closes it.
func New(node *sim.Node) *Face {
	f := &Face{
		node: node, mux: http.NewServeMux(), news: make(chan struct{}),
		invoices: map[lightning.Hash]made{}, flying: map[lightning.Hash]int{},
	}
	f.life, f.stop = context.WithCancel(context.Background())
	for route, answer := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/getinfo":                    f.info,
		"GET /v1/balance/channels":           f.balance,
		"GET /v1/balance/blockchain":         f.chain,
		"GET /v1/channels":                   f.channels,
		"POST /v1/macaroon/checkpermissions": f.allowed,
		"POST /v1/invoices":                  f.addInvoice,
		"GET /v1/invoices":                   f.listInvoices,
		"GET /v1/invoices/subscribe":         f.subscribe,
		"GET /v1/invoice/{hash}":             f.invoice,
		"POST /v2/invoices/hodl":             f.holdInvoice,
		"GET /v2/invoices/subscribe/{hash}":  f.awaitHeld,
		"POST /v2/invoices/settle":           f.settle,
		"POST /v2/invoices/cancel":           f.cancel,
		"POST /v2/router/send":               f.send,
		"GET /v2/router/track/{hash}":        f.track,
	} {
		f.mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			if err := answer(w, r); err != nil {
				refuse(w, err)
			}
		})
	}
	f.work.Go(f.collect)
	return f
}

// Close ends what the face does for itself. Payments go on.
func (f *Face) Close() {
	f.stop()
	f.work.Wait()
}

// ServeHTTP implements http.Handler.
func (f *Face) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.mux.ServeHTTP(w, r) }

// A fault is an error as lnd writes it.
type fault struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func faultOf(err error) fault {
	switch {
	case errors.Is(err, lightning.ErrUnavailable):
		return fault{codeUnavailable, "transport is closing"}
	case errors.Is(err, lightning.ErrHashUsed):
		return fault{codeUnknown, "invoice with payment hash already exists"}
	case errors.Is(err, lightning.ErrNoInvoice):
		return fault{codeNotFound, "unable to locate invoice"}
	case errors.Is(err, lightning.ErrNoPayment):
		return fault{codeNotFound, "payment isn't initiated"}
	case errors.Is(err, lightning.ErrSettled):
		return fault{codeUnknown, "invoice already settled"}
	case errors.Is(err, lightning.ErrCancelled):
		return fault{codeUnknown, "invoice already canceled"}
	}
	return fault{codeUnknown, err.Error()}
}

func refuse(w http.ResponseWriter, err error) {
	m := faultOf(err)
	status := http.StatusInternalServerError
	switch m.Code {
	case codeNotFound:
		status = http.StatusNotFound
	case codeUnavailable:
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(m)
}

func write(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
	return nil
}

// A stream is an endless answer, one message a line.
type stream struct {
	w http.ResponseWriter
}

func (s stream) send(v any) error { return s.line(map[string]any{"result": v}) }

// end says why there are no more messages.
func (s stream) end(err error) error {
	_ = s.line(map[string]any{"error": faultOf(err)})
	return nil
}

func (s stream) line(v any) error {
	s.w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(s.w).Encode(v); err != nil {
		return err
	}
	return http.NewResponseController(s.w).Flush()
}

func read(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	return err
}

func hashOf(b []byte) (h lightning.Hash, err error) {
	if len(b) != len(h) {
		return h, fmt.Errorf("%w: hash of %d bytes", lightning.ErrNoInvoice, len(b))
	}
	return lightning.Hash(b), nil
}

func (f *Face) info(w http.ResponseWriter, r *http.Request) error {
	if _, err := f.node.Balance(r.Context()); err != nil { // whether it is up
		return err
	}
	return write(w, map[string]any{
		"identity_pubkey": f.node.ID(), "alias": f.node.String(), "version": "simulated",
		"synced_to_chain": true, "synced_to_graph": true, "block_height": height,
		"chains": []any{map[string]any{"chain": "bitcoin", "network": lightning.Simnet}},
	})
}

func (f *Face) allowed(w http.ResponseWriter, _ *http.Request) error {
	return write(w, map[string]any{"valid": true})
}

func number[T ~int64 | ~uint64 | ~int](n T) string { return fmt.Sprint(int64(n)) }

func (f *Face) balance(w http.ResponseWriter, r *http.Request) error {
	b, err := f.node.Balance(r.Context())
	if err != nil {
		return err
	}
	amount := func(m lightning.Msat) any { return map[string]any{"msat": number(m)} }
	return write(w, map[string]any{"local_balance": amount(b.Outbound), "remote_balance": amount(b.Inbound)})
}

func (f *Face) chain(w http.ResponseWriter, r *http.Request) error {
	b, err := f.node.Balance(r.Context())
	if err != nil {
		return err
	}
	return write(w, map[string]any{"confirmed_balance": number(b.Chain / lightning.Sat)})
}

// channels lists payments in flight with the first channel: who looks whether a
// payment is lost looks at all of them.
func (f *Face) channels(w http.ResponseWriter, r *http.Request) error {
	list, err := f.node.Channels(r.Context())
	if err != nil {
		return err
	}
	out := make([]map[string]any, 0, len(list))
	for i, c := range list {
		pending := make([]any, 0, c.InFlight)
		if i == 0 {
			for _, h := range f.unsettled(r.Context()) {
				pending = append(pending, map[string]any{"hash_lock": h[:]})
			}
		}
		for len(pending) < c.InFlight {
			pending = append(pending, map[string]any{"hash_lock": []byte{}})
		}
		out = append(out, map[string]any{
			"active": c.Active, "private": c.Private, "remote_pubkey": c.Peer, "channel_point": c.Point, "chan_id": strconv.Itoa(i + 1),
			"capacity": number(c.Capacity / lightning.Sat), "local_balance": number(c.Local / lightning.Sat),
			"remote_balance": number(c.Remote / lightning.Sat), "pending_htlcs": pending,
		})
	}
	return write(w, map[string]any{"channels": out})
}

// unsettled are the payments that were asked for here and have not ended.
func (f *Face) unsettled(ctx context.Context) (out []lightning.Hash) {
	f.mu.Lock()
	all := make([]lightning.Hash, 0, len(f.flying))
	for h := range f.flying {
		all = append(all, h)
	}
	f.mu.Unlock()
	for _, h := range all {
		p, err := f.node.Lookup(ctx, h)
		if err == nil && p.State == lightning.Unknown || errors.Is(err, lightning.ErrUnavailable) {
			out = append(out, h)
			continue
		}
		f.mu.Lock()
		if f.flying[h] == 0 {
			delete(f.flying, h)
		}
		f.mu.Unlock()
	}
	return out
}

// An order is what lnd reads of an invoice that is to be made.
type order struct {
	Preimage []byte `json:"r_preimage"`
	Hash     []byte `json:"hash"`
	Amount   int64  `json:"value_msat,string"`
	Expiry   int64  `json:"expiry,string"`
	Memo     string `json:"memo"`
	Delta    int64  `json:"cltv_expiry,string"`
}

func (o order) terms() lightning.Terms {
	return lightning.Terms{
		Amount: lightning.Msat(o.Amount), Expiry: time.Duration(o.Expiry) * time.Second, Memo: o.Memo, FinalDelta: int(o.Delta),
	}
}

func (f *Face) addInvoice(w http.ResponseWriter, r *http.Request) error {
	var o order
	if err := read(w, r, &o); err != nil {
		return err
	}
	if len(o.Preimage) != 32 {
		return errors.New("preimage must be 32 bytes")
	}
	p := lightning.NewPreimage([32]byte(o.Preimage))
	f.mu.Lock()
	_, ok := f.invoices[p.Hash()]
	f.mu.Unlock()
	if ok {
		return lightning.ErrHashUsed
	}
	inv, err := f.node.Invoice(r.Context(), p, o.terms())
	if err != nil {
		return err
	}
	return f.put(w, made{inv, p})
}

func (f *Face) holdInvoice(w http.ResponseWriter, r *http.Request) error {
	var o order
	if err := read(w, r, &o); err != nil {
		return err
	}
	h, err := hashOf(o.Hash)
	if err != nil {
		return err
	}
	inv, err := f.node.HoldInvoice(r.Context(), h, o.terms())
	if err != nil {
		return err
	}
	return f.put(w, made{Invoice: inv})
}

func (f *Face) put(w http.ResponseWriter, m made) error {
	f.mu.Lock()
	f.invoices[m.Hash] = m
	f.mu.Unlock()
	return write(w, map[string]any{"payment_request": m.Bolt11, "r_hash": m.Hash[:]})
}

func (f *Face) invoice(w http.ResponseWriter, r *http.Request) error {
	if _, err := f.node.Balance(r.Context()); err != nil {
		return err
	}
	b, err := hex.DecodeString(r.PathValue("hash"))
	if err != nil {
		return err
	}
	h, err := hashOf(b)
	if err != nil {
		return err
	}
	f.mu.Lock()
	m, ok := f.invoices[h]
	f.mu.Unlock()
	if !ok {
		return lightning.ErrNoInvoice
	}
	out := map[string]any{"payment_request": m.Bolt11, "r_hash": h[:], "value_msat": number(m.Amount), "state": "OPEN"}
	if !m.preimage.IsZero() {
		reveal := m.preimage.Reveal()
		out["r_preimage"] = reveal[:]
	}
	return write(w, out)
}

func (f *Face) awaitHeld(w http.ResponseWriter, r *http.Request) error {
	b, err := base64.URLEncoding.DecodeString(r.PathValue("hash"))
	if err != nil {
		return err
	}
	h, err := hashOf(b)
	if err != nil {
		return err
	}
	s := stream{w}
	if err := s.send(map[string]any{"r_hash": h[:], "state": "OPEN"}); err != nil {
		return nil
	}
	held, err := f.node.AwaitHeld(r.Context(), h)
	switch {
	case errors.Is(err, lightning.ErrCancelled):
		return s.send(map[string]any{"r_hash": h[:], "state": "CANCELED"})
	case err != nil:
		return s.end(err)
	case held.Blocks == 0:
		return s.send(map[string]any{"r_hash": h[:], "state": "SETTLED"})
	}
	return s.send(map[string]any{
		"r_hash": h[:], "state": "ACCEPTED",
		"htlcs": []any{map[string]any{"state": "ACCEPTED", "expiry_height": height + held.Blocks}},
	})
}

func (f *Face) settle(w http.ResponseWriter, r *http.Request) error {
	var m struct {
		Preimage []byte `json:"preimage"`
	}
	if err := read(w, r, &m); err != nil {
		return err
	}
	if len(m.Preimage) != 32 {
		return errors.New("preimage must be 32 bytes")
	}
	if err := f.node.Settle(r.Context(), lightning.NewPreimage([32]byte(m.Preimage))); err != nil {
		return err
	}
	return write(w, struct{}{})
}

func (f *Face) cancel(w http.ResponseWriter, r *http.Request) error {
	var m struct {
		Hash []byte `json:"payment_hash"`
	}
	if err := read(w, r, &m); err != nil {
		return err
	}
	h, err := hashOf(m.Hash)
	if err != nil {
		return err
	}
	if err := f.node.Cancel(r.Context(), h); err != nil {
		return err
	}
	return write(w, struct{}{})
}

// collect keeps all receipts of the node.
func (f *Face) collect() {
	for after := uint64(0); f.life.Err() == nil; {
		_ = f.node.Receipts(f.life, after, func(r lightning.Receipt) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			after = r.Index
			f.receipts = append(f.receipts, r)
			close(f.news)
			f.news = make(chan struct{})
			return nil
		})
		select { // the node is down
		case <-time.After(poll):
		case <-f.life.Done():
		}
	}
}

func settled(r lightning.Receipt) any {
	return map[string]any{
		"r_hash": r.Hash[:], "amt_paid_msat": number(r.Amount), "value_msat": "0", "state": "SETTLED",
		"settle_index": strconv.FormatUint(r.Index, 10), "settle_date": number(r.At.Unix()),
	}
}

func (f *Face) past() (all []lightning.Receipt, more <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.receipts, f.news
}

func (f *Face) listInvoices(w http.ResponseWriter, r *http.Request) error {
	if _, err := f.node.Balance(r.Context()); err != nil {
		return err
	}
	offset, _ := strconv.Atoi(r.FormValue("index_offset"))
	most, _ := strconv.Atoi(r.FormValue("num_max_invoices"))
	all, _ := f.past()
	from := min(max(offset, 0), len(all))
	to := min(from+max(most, 0), len(all))
	out := make([]any, 0, to-from)
	for _, r := range all[from:to] {
		out = append(out, settled(r))
	}
	return write(w, map[string]any{"invoices": out, "last_index_offset": strconv.Itoa(to)})
}

// subscribe tells of invoices settled after an index; as with lnd, index 0 means
// those of the future.
func (f *Face) subscribe(w http.ResponseWriter, r *http.Request) error {
	after, _ := strconv.ParseUint(r.FormValue("settle_index"), 10, 64)
	all, more := f.past()
	if after == 0 && len(all) > 0 {
		after = all[len(all)-1].Index
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		return err
	}
	for s := (stream{w}); ; {
		for _, receipt := range all {
			if receipt.Index <= after {
				continue
			}
			if s.send(settled(receipt)) != nil {
				return nil
			}
			after = receipt.Index
		}
		select {
		case <-more:
			all, more = f.past()
		case <-r.Context().Done():
			return nil
		}
	}
}

// payment is how lnd tells of one.
func payment(p lightning.Payment) any {
	out := map[string]any{"value_msat": number(p.Amount), "fee_msat": number(p.Fee), "status": "IN_FLIGHT"}
	switch p.State {
	case lightning.Paid:
		reveal := p.Preimage.Reveal()
		out["status"], out["payment_preimage"] = "SUCCEEDED", hex.EncodeToString(reveal[:])
	case lightning.Failed:
		out["status"], out["failure_reason"] = "FAILED", "FAILURE_REASON_ERROR"
	}
	return out
}

// send pays. The payment goes on when the caller is gone.
func (f *Face) send(w http.ResponseWriter, r *http.Request) error {
	var m struct {
		Bolt11 string `json:"payment_request"`
		Fee    int64  `json:"fee_limit_msat,string"`
		Lock   int    `json:"cltv_limit"`
	}
	if err := read(w, r, &m); err != nil {
		return err
	}
	inv, err := lightning.DecodeInvoice(m.Bolt11)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.flying[inv.Hash]++
	f.mu.Unlock()
	p, err := f.node.PayWithin(r.Context(), inv, lightning.Msat(m.Fee), m.Lock)
	f.mu.Lock()
	f.flying[inv.Hash]--
	f.mu.Unlock()
	if errors.Is(err, lightning.ErrFailed) && !errors.Is(err, lightning.ErrInFlight) {
		p, err = lightning.Payment{State: lightning.Failed}, nil
	}
	if err != nil {
		return err
	}
	_ = stream{w}.send(payment(p))
	return nil
}

// track follows a payment until it has ended.
func (f *Face) track(w http.ResponseWriter, r *http.Request) error {
	b, err := base64.URLEncoding.DecodeString(r.PathValue("hash"))
	if err != nil {
		return err
	}
	h, err := hashOf(b)
	if err != nil {
		return err
	}
	quiet := r.FormValue("no_inflight_updates") == "true"
	s, begun := stream{w}, false
	for {
		p, err := f.node.Lookup(r.Context(), h)
		switch {
		case err != nil && begun:
			return s.end(err)
		case err != nil:
			return err
		}
		if p.State != lightning.Unknown || !quiet && !begun {
			begun = true
			if s.send(payment(p)) != nil || p.State != lightning.Unknown {
				return nil
			}
		}
		select {
		case <-time.After(poll):
		case <-r.Context().Done():
			return nil
		}
	}
}
