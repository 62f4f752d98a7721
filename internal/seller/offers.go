package seller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// serveOffers answers POST /v1/offers.
func (s *Seller) serveOffers(w http.ResponseWriter, r *http.Request) error {
	v, body, err := s.guestOf(w, r, exchange.MaxRequestBytes, s.guard.admit)
	if err != nil {
		return err
	}
	req, err := exchange.ParseOfferRequest(body)
	if err != nil {
		return err
	}
	if wait, ok := s.clients.allow(s.from(r), len(req.Sealed)); !ok {
		return errLimited{wait}
	}
	if err := v.asked(len(req.Sealed)); err != nil {
		return err
	}
	offers, err := s.offer(r.Context(), v, req)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, r, http.StatusOK, offers)
	return nil
}

// from is who sent r, as far as limits by address go.
func (s *Seller) from(r *http.Request) netip.Addr { return address(r, s.config.TrustedProxies) }

// offer answers req: with an invoice, or the reason why there is none, for each
// segment. All offers are in the books when it returns. The error matches
// [htlcdash.ErrNotFound] if the title is not sold here.
func (s *Seller) offer(ctx context.Context, v *guest, req exchange.OfferRequest) (exchange.OfferResponse, error) {
	if req.Scheme != exchange.SchemeSalted {
		return exchange.OfferResponse{}, fmt.Errorf("%.32q: %w", req.Scheme, errScheme)
	}
	t := s.shelf.Load().byID[req.Title]
	if t == nil {
		return exchange.OfferResponse{}, fmt.Errorf("title %s: %w", req.Title, htlcdash.ErrNotFound)
	}
	offers := s.offers(ctx, v, t, req)
	if err := context.Cause(ctx); err != nil {
		return exchange.OfferResponse{}, err
	}
	if err := s.book(ctx, salesOf(t, offers)); err != nil {
		return exchange.OfferResponse{}, err
	}
	return exchange.OfferResponse{Offers: offers}, nil
}

// offers asks the node for all invoices at once. Where it does not answer in
// time the offer says so.
func (s *Seller) offers(ctx context.Context, v *guest, t *sealedTitle, req exchange.OfferRequest) []exchange.Offer {
	ctx, cancel := context.WithTimeout(exchange.WithHops(ctx, req.Hops+1), nodeTimeout)
	defer cancel()
	offers := make([]exchange.Offer, len(req.Sealed))
	var wg sync.WaitGroup // the register bounds how many calls reach the node
	for i, q := range req.Sealed {
		wg.Go(func() { offers[i] = s.offerOne(ctx, v, t, req.Try, q) })
	}
	wg.Wait()
	if req.Hops < exchange.MaxHops {
		s.resell(ctx, v, t, req, offers)
	}
	return offers
}

func (s *Seller) offerOne(ctx context.Context, v *guest, t *sealedTitle, try exchange.Try, q htlcdash.Root) exchange.Offer {
	seg, ok := t.segments[q]
	if !ok {
		return exchange.Offer{Sealed: q, Error: exchange.RefusedUnknown}
	}
	price := s.price(*seg)
	if price == 0 {
		return exchange.Offer{Sealed: q, Error: exchange.RefusedFree}
	}
	key, err := s.key(ctx, t, *seg)
	if t.resold && s.config.Relay == nil && errors.Is(err, htlcdash.ErrNotFound) {
		key, err = s.order(ctx, v, *seg)
		price = s.price(*seg) // now that it is known what the key cost
	}
	if err != nil {
		return exchange.Offer{Sealed: q, Error: refusalOf(err)}
	}
	till := s.till
	till.Payee = s.register.counter(v)
	o, err := exchange.Salted{}.Sell(ctx, till, v.shared, *seg, key, price, try, time.Now())
	switch {
	case err == nil:
		return o
	case errors.Is(err, errBusy):
		return exchange.Offer{Sealed: q, Error: exchange.RefusedBusy}
	default:
		s.nodeFailed(err)
		return exchange.Offer{Sealed: q, Error: exchange.RefusedUnavailable}
	}
}

// book writes offers into the books, all at once, before they are handed out.
func (s *Seller) book(ctx context.Context, sales []ledger.Sale) error {
	if err := s.config.Books.Offered(ctx, sales); err != nil {
		return fmt.Errorf("book offers: %w", err)
	}
	s.register.booked(sales)
	return nil
}

// price is what the key of seg costs here: by the operator's policy, but never above what
// the publisher asks. What costs nothing is given away.
func (s *Seller) price(seg htlcdash.Segment) lightning.Msat { return s.config.price(seg) }

func (c Config) price(seg htlcdash.Segment) lightning.Msat {
	if c.Price == nil {
		return seg.Price
	}
	return min(max(c.Price(seg), 0), seg.Price)
}

func salesOf(t *sealedTitle, offers []exchange.Offer) []ledger.Sale {
	sales := make([]ledger.Sale, 0, len(offers))
	for _, o := range offers {
		if o.Error == "" {
			sales = append(sales, saleOf(*t.segments[o.Sealed], o.Hash, exchange.SchemeSalted, o.Price))
		}
	}
	return sales
}

func saleOf(seg htlcdash.Segment, h lightning.Hash, scheme string, amount lightning.Msat) ledger.Sale {
	return ledger.Sale{
		Hash:           h,
		Title:          seg.Title,
		Representation: seg.Representation,
		Index:          seg.Index,
		Sealed:         seg.Sealed,
		Scheme:         scheme,
		Amount:         amount,
		Created:        time.Now(),
	}
}
