package lnd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"htlcdash/lightning"
)

// terms is what lnrpc.Invoice and invoicesrpc.AddHoldInvoiceRequest share.
type terms struct {
	Preimage []byte `json:"r_preimage,omitempty"`
	Hash     []byte `json:"hash,omitempty"`
	Amount   int64  `json:"value_msat,string"`
	Expiry   int64  `json:"expiry,string"`
	Memo     string `json:"memo"`
	Private  bool   `json:"private"`
	Delta    int64  `json:"cltv_expiry,string,omitempty"`
}

func (n *Node) terms(t lightning.Terms) (terms, error) {
	if t.Amount <= 0 {
		return terms{}, errors.New("an invoice needs an amount")
	}
	if t.Expiry == 0 {
		t.Expiry = time.Hour
	}
	return terms{
		Amount: int64(t.Amount), Expiry: int64(max(t.Expiry/time.Second, 1)), Memo: t.Memo, Private: n.cfg.RouteHints,
		Delta: int64(t.FinalDelta),
	}, nil
}

// Invoice makes an invoice that p settles, as [lightning.Payee] says.
func (n *Node) Invoice(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	h := p.Hash()
	req, err := n.terms(t)
	if err != nil {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, err)
	}
	reveal := p.Reveal()
	req.Preimage = reveal[:]
	inv, err := n.add(ctx, "/v1/invoices", req, h)
	if errors.Is(err, lightning.ErrHashUsed) {
		return n.again(ctx, p, t)
	}
	return inv, err
}

// HoldInvoice makes an invoice for h, as [lightning.Holder] says.
func (n *Node) HoldInvoice(ctx context.Context, h lightning.Hash, t lightning.Terms) (lightning.Invoice, error) {
	req, err := n.terms(t)
	if err != nil {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, err)
	}
	req.Hash = h[:]
	return n.add(ctx, "/v2/invoices/hodl", req, h)
}

func (n *Node) add(ctx context.Context, path string, req terms, h lightning.Hash) (lightning.Invoice, error) {
	var r struct {
		Bolt11 string `json:"payment_request"`
	}
	err := n.rest.post(ctx, path, req, &r)
	var said *answer
	if errors.As(err, &said) && said.says("invoice with payment hash already exists") {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, lightning.ErrHashUsed)
	}
	if err != nil {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, err)
	}
	inv, err := lightning.DecodeInvoice(r.Bolt11)
	if err == nil && (inv.Hash != h || inv.Amount != lightning.Msat(req.Amount)) {
		err = errors.New("lnd made an invoice for something else")
	}
	return inv, err
}

// again returns the invoice that was made before with the same preimage and
// amount.
func (n *Node) again(ctx context.Context, p lightning.Preimage, t lightning.Terms) (lightning.Invoice, error) {
	h := p.Hash()
	var r invoice
	if err := n.rest.get(ctx, "/v1/invoice/"+h.String(), &r); err != nil {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, err)
	}
	if lightning.Msat(r.Asked) != t.Amount || len(r.Preimage) != 32 || !lightning.NewPreimage([32]byte(r.Preimage)).Opens(h) {
		return lightning.Invoice{}, fmt.Errorf("invoice %v: %w", h, lightning.ErrHashUsed)
	}
	return lightning.DecodeInvoice(r.Bolt11)
}

// invoice is lnrpc.Invoice, as far as it is read.
type invoice struct {
	Bolt11      string `json:"payment_request"`
	Preimage    []byte `json:"r_preimage"`
	Hash        []byte `json:"r_hash"`
	Asked       int64  `json:"value_msat,string"`
	Paid        int64  `json:"amt_paid_msat,string"`
	State       string `json:"state"`
	SettleIndex uint64 `json:"settle_index,string"`
	SettleDate  int64  `json:"settle_date,string"`
	HTLCs       []struct {
		State   string `json:"state"`
		Timeout int64  `json:"expiry_height"`
	} `json:"htlcs"`
}

func (i invoice) receipt() (r lightning.Receipt, ok bool) {
	if i.State != "SETTLED" || len(i.Hash) != len(r.Hash) {
		return r, false
	}
	return lightning.Receipt{Index: i.SettleIndex, Hash: lightning.Hash(i.Hash), Amount: lightning.Msat(i.Paid), At: time.Unix(i.SettleDate, 0).UTC()}, true
}

// Receipts reports settled invoices, as [lightning.Payee] says.
func (n *Node) Receipts(ctx context.Context, after uint64, got func(lightning.Receipt) error) error {
	if after == 0 {
		var err error
		if after, err = n.first(ctx, got); err != nil {
			return fmt.Errorf("receipts from the first on: %w", err)
		}
	}
	if err := n.receiptsAfter(ctx, after, got); err != nil {
		return fmt.Errorf("receipts after %d: %w", after, err)
	}
	return nil
}

func (n *Node) receiptsAfter(ctx context.Context, after uint64, got func(lightning.Receipt) error) error {
	return n.settled(ctx, after, func(r lightning.Receipt) error {
		if r.Index <= after {
			return nil // sent again
		}
		after = r.Index
		return got(r)
	})
}

// settled subscribes. From index 0 lnd sends nothing of the past.
func (n *Node) settled(ctx context.Context, after uint64, got func(lightning.Receipt) error) error {
	s, err := n.rest.stream(ctx, http.MethodGet, fmt.Sprintf("/v1/invoices/subscribe?settle_index=%d", after), nil)
	if err != nil {
		return err
	}
	defer s.body.Close()
	for {
		var i invoice
		if err := s.next(&i); err != nil {
			if errors.Is(err, io.EOF) {
				err = unavailable(err)
			}
			return err
		}
		if r, ok := i.receipt(); ok {
			if err := got(r); err != nil {
				return err
			}
		}
	}
}

// first waits until the node has settled an invoice at all, hands out what
// there is, and returns the last index. A subscription from index 0 tells only
// of the future, so that the past is read from the list; and since lnd does
// not say when a subscription has begun, the list is read again now and then.
func (n *Node) first(ctx context.Context, got func(lightning.Receipt) error) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan error, 1)
	go func() {
		wake <- n.settled(ctx, 0, func(lightning.Receipt) error { return errWake })
	}()
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		past, err := n.past(ctx)
		if err != nil {
			return 0, err
		}
		for _, r := range past {
			if err := got(r); err != nil {
				return 0, err
			}
		}
		if len(past) > 0 {
			return past[len(past)-1].Index, nil
		}
		select {
		case err := <-wake:
			if !errors.Is(err, errWake) {
				return 0, err
			}
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

var errWake = errors.New("an invoice was settled")

const pageOfInvoices = 1000

// past lists all settled invoices, oldest first.
func (n *Node) past(ctx context.Context) ([]lightning.Receipt, error) {
	var all []lightning.Receipt
	for offset := uint64(0); ; {
		var page struct {
			Invoices []invoice `json:"invoices"`
			Last     uint64    `json:"last_index_offset,string"`
		}
		if err := n.rest.get(ctx, fmt.Sprintf("/v1/invoices?index_offset=%d&num_max_invoices=%d", offset, pageOfInvoices), &page); err != nil {
			return nil, err
		}
		for _, i := range page.Invoices {
			if r, ok := i.receipt(); ok {
				all = append(all, r)
			}
		}
		if len(page.Invoices) < pageOfInvoices || page.Last <= offset {
			break
		}
		offset = page.Last
	}
	slices.SortFunc(all, func(a, b lightning.Receipt) int { return int(int64(a.Index) - int64(b.Index)) })
	return all, nil
}

// AwaitHeld waits for a payment, as [lightning.Holder] says. lnd lets one wait
// for an invoice that does not exist, so that it is asked first.
func (n *Node) AwaitHeld(ctx context.Context, h lightning.Hash) (lightning.Held, error) {
	if err := n.rest.get(ctx, "/v1/invoice/"+h.String(), nil); err != nil {
		return lightning.Held{}, invoiceError(h, err)
	}
	s, err := n.rest.stream(ctx, http.MethodGet, "/v2/invoices/subscribe/"+pathBytes(h), nil)
	if err != nil {
		return lightning.Held{}, invoiceError(h, err)
	}
	defer s.body.Close()
	for {
		var i invoice
		if err := s.next(&i); err != nil {
			if ctx.Err() != nil { // lnd may say so before our own client does
				err = context.Cause(ctx)
			}
			return lightning.Held{}, invoiceError(h, err)
		}
		switch i.State {
		case "ACCEPTED":
			held, err := n.held(ctx, i)
			return held, invoiceError(h, err)
		case "SETTLED":
			return lightning.Held{}, nil
		case "CANCELED":
			return lightning.Held{}, fmt.Errorf("invoice %v: %w", h, lightning.ErrCancelled)
		}
	}
}

// held says when the payment of i times out. lnd gives heights.
func (n *Node) held(ctx context.Context, i invoice) (lightning.Held, error) {
	var first int64
	for _, h := range i.HTLCs {
		if h.State == "ACCEPTED" && (first == 0 || h.Timeout < first) {
			first = h.Timeout
		}
	}
	if first == 0 {
		return lightning.Held{}, errors.New("lnd holds a payment and names no HTLC")
	}
	info, err := n.Info(ctx)
	if err != nil {
		return lightning.Held{}, err
	}
	return lightning.Held{Blocks: max(int(first-int64(info.BlockHeight)), 1)}, nil
}

// Settle takes a held payment, as [lightning.Holder] says.
func (n *Node) Settle(ctx context.Context, p lightning.Preimage) error {
	reveal := p.Reveal()
	return invoiceError(p.Hash(), n.rest.post(ctx, "/v2/invoices/settle", struct {
		Preimage []byte `json:"preimage"`
	}{reveal[:]}, nil))
}

// Cancel gives a held payment back, as [lightning.Holder] says.
func (n *Node) Cancel(ctx context.Context, h lightning.Hash) error {
	return invoiceError(h, n.rest.post(ctx, "/v2/invoices/cancel", struct {
		Hash []byte `json:"payment_hash"`
	}{h[:]}, nil))
}

// invoiceError maps what lnd says about an invoice. nil stays nil.
func invoiceError(h lightning.Hash, err error) error {
	if err == nil {
		return nil
	}
	var said *answer
	if errors.As(err, &said) {
		switch {
		case said.says("unable to locate invoice", "there are no existing invoices"):
			err = lightning.ErrNoInvoice
		case said.says("invoice already canceled"):
			err = lightning.ErrCancelled
		case said.says("invoice already settled"):
			err = lightning.ErrSettled
		}
	}
	if errors.Is(err, io.EOF) {
		err = unavailable(err)
	}
	return fmt.Errorf("invoice %v: %w", h, err)
}
