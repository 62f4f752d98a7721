package seller

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/proof"
)

// errSystem means that proofs are not made in the way that was asked for.
var errSystem = errors.New("proofs of this kind are not made here")

func (s *Seller) system(name string) (proof.System, error) {
	for _, sys := range s.config.Proofs {
		if sys.Name() == name {
			return sys, nil
		}
	}
	return nil, fmt.Errorf("%.32q: %w", name, errSystem)
}

// serveProofs answers POST /v1/proofs. Each proof is sent when it is made.
func (s *Seller) serveProofs(w http.ResponseWriter, r *http.Request) error {
	v, body, err := s.guestOf(w, r, exchange.MaxRequestBytes, s.guard.admit)
	if err != nil {
		return err
	}
	req, err := exchange.ParseProofRequest(body)
	if err != nil {
		return err
	}
	sys, err := s.system(req.System)
	if err != nil {
		return err
	}
	t := s.shelf.Load().byID[req.Title]
	if t == nil {
		return fmt.Errorf("title %s: %w", req.Title, htlcdash.ErrNotFound)
	}
	if !v.fresh(req.Nonce) {
		return fmt.Errorf("nonce was used before: %w", htlcdash.ErrFormat)
	}
	if err := v.proved(len(req.Sales)); err != nil {
		return err
	}
	made := 0
	defer func() { _ = v.proved(made - len(req.Sales)) }()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	if n := len(req.Sales); n == 1 {
		h.Set("Content-Length", strconv.Itoa(4+sys.Length(proof.Link)))
	}
	for i, id := range req.Sales {
		pf, err := s.prove(r.Context(), v, t, sys, req.Nonce, id)
		if err != nil && i == 0 {
			h.Del("Content-Length")
			return err
		}
		made++ // or it failed, once in a request
		if err == nil {
			err = exchange.WriteProofs(w, [][]byte{pf})
		}
		if err != nil {
			return nil // the answer is cut short, and the client sees it
		}
	}
	return nil
}

// An ahead makes, ahead of need, what of its proofs hangs on no statement, see
// vole.Stock.
type ahead interface {
	Add(rand io.Reader) (more bool, err error)
}

// aheadPause is how often idle processors are looked for.
const aheadPause = 100 * time.Millisecond

// stock makes parts of proofs ahead while no guest wants anything.
func (s *Seller) stock(ctx context.Context) {
	tick := time.NewTicker(aheadPause)
	defer tick.Stop()
	for {
		for _, sys := range s.config.Proofs {
			if a, ok := sys.(ahead); ok {
				s.fill(ctx, a)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Seller) fill(ctx context.Context, a ahead) {
	for s.provers.idle(s.workers) {
		leave, err := s.provers.enter(ctx, &s.own)
		if err != nil {
			return
		}
		more, err := a.Add(rand.Reader)
		leave()
		if err != nil || !more {
			return
		}
	}
}

// prove makes one proof, in turn with those of other guests.
func (s *Seller) prove(ctx context.Context, v *guest, t *sealedTitle, sys proof.System, nonce exchange.Nonce, id exchange.SaleID) ([]byte, error) {
	seg, ok := t.segments[id.Sealed]
	if !ok {
		return nil, fmt.Errorf("segment %s: %w", id.Sealed, htlcdash.ErrNotFound)
	}
	if isResold(id) {
		return s.proofResold(ctx, v, sys, nonce, id)
	}
	key, err := s.key(ctx, t, *seg)
	if err != nil {
		return nil, err
	}
	o, _ := exchange.Salted{}.Resold(v.shared, id, key)
	leave, err := s.provers.enter(ctx, &v.lane)
	if err != nil {
		return nil, err
	}
	defer leave()
	return exchange.Salted{}.Prove(sys, s.till.Key.ID(), *seg, o, key, nonce)
}

// serveKeys answers POST /v1/keys: what was sold is told again to its buyer.
func (s *Seller) serveKeys(w http.ResponseWriter, r *http.Request) error {
	v, body, err := s.guestOf(w, r, 2*exchange.MaxRequestBytes, s.guard.known)
	if err != nil {
		return err
	}
	req, err := exchange.ParseKeyRequest(body)
	if err != nil {
		return err
	}
	if err := v.asked(len(req.Sales)); err != nil {
		return err
	}
	t := s.shelf.Load().byID[req.Title]
	if t == nil {
		return fmt.Errorf("title %s: %w", req.Title, htlcdash.ErrNotFound)
	}
	resp := exchange.KeyResponse{Preimages: make([]string, len(req.Sales))}
	for i, id := range req.Sales {
		if resp.Preimages[i], err = s.soldKey(r.Context(), v, t, id); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, r, http.StatusOK, resp)
	return nil
}

// soldKey is the only place where a preimage is told by other means than a
// payment: to the one whose credential made the sale, once the books say that
// it was paid. Else it is empty.
func (s *Seller) soldKey(ctx context.Context, v *guest, t *sealedTitle, id exchange.SaleID) (string, error) {
	seg, ok := t.segments[id.Sealed]
	if !ok {
		return "", nil
	}
	if isResold(id) {
		return s.soldResold(ctx, v, id)
	}
	key, err := s.key(ctx, t, *seg)
	if errors.Is(err, htlcdash.ErrNotFound) {
		return "", nil // it was not sold from here
	}
	if err != nil {
		return "", err
	}
	o, p := exchange.Salted{}.Resold(v.shared, id, key)
	sale, err := s.config.Books.Sale(ctx, o.Hash)
	switch {
	case errors.Is(err, htlcdash.ErrNotFound), err == nil && (sale.Settled.IsZero() || sale.Scheme != exchange.SchemeSalted):
		return "", nil
	case err != nil:
		return "", err
	}
	b := p.Reveal()
	return hex.EncodeToString(b[:]), nil
}

// guestOf reads the body of r and lets in who sent it.
func (s *Seller) guestOf(w http.ResponseWriter, r *http.Request, limit int64, admit admission) (*guest, []byte, error) {
	if _, err := s.guard.presented(r); err != nil {
		return nil, nil, err // before a byte of the body is read
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, nil, fmt.Errorf("request: %w", err)
	}
	v, err := admit(r, body, s.from(r))
	return v, body, err
}

// late books a sale to a foreign client whose invoice was paid while nobody
// remembered what it sold.
func (s *Seller) late(ctx context.Context, seg htlcdash.Segment, g exchange.Grant) {
	if !s.paywall.first(g.Hash) {
		return
	}
	if _, err := s.config.Books.Sale(ctx, g.Hash); !errors.Is(err, htlcdash.ErrNotFound) {
		return
	}
	if sale, _, ok := s.register.sale(g.Hash); ok && sale.Hash == g.Hash {
		return // its receipt is on the way
	}
	sale := saleOf(seg, g.Hash, exchange.SchemePrepaid, s.paywall.Price(s.plainPrice(seg)))
	sale.Received, sale.Settled = sale.Amount, time.Now()
	if err := s.books.late(ctx, sale); err != nil {
		s.log.Error("sale not booked", "hash", g.Hash, "err", err)
	}
}
