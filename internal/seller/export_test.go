package seller

import (
	"context"
	"errors"
	"time"

	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
)

// A Guest is who has shown a credential.
type Guest struct{ g *guest }

// Guest lets in the holder of c without asking.
func (s *Seller) Guest(c credential.Credential) Guest {
	return Guest{&guest{token: c.Token, shared: c.Shared, until: time.Now().Add(time.Hour), rations: &s.guard.rations}}
}

// OfferTo answers the request of a guest.
func (s *Seller) OfferTo(ctx context.Context, g Guest, req exchange.OfferRequest) (exchange.OfferResponse, error) {
	return s.offer(ctx, g.g, req)
}

// OpenInvoices counts the invoices that strangers can pay.
func (s *Seller) OpenInvoices() int {
	s.strangers.mu.Lock()
	defer s.strangers.mu.Unlock()
	return s.strangers.offers
}

// Lanes are few workers for many guests.
type Lanes struct{ q *lanes }

// Lane is where one guest waits.
type Lane struct{ l lane }

// NewLanes returns lanes with n workers.
func NewLanes(n int) Lanes { return Lanes{&lanes{free: n}} }

// Enter waits for a worker.
func (q Lanes) Enter(ctx context.Context, l *Lane) (leave func(), err error) {
	return q.q.enter(ctx, &l.l)
}

// Waiting counts who waits in l.
func (q Lanes) Waiting(l *Lane) int {
	q.q.mu.Lock()
	defer q.q.mu.Unlock()
	return len(l.l.waiting)
}

// PatientLanes returns lanes with n workers for who waits for no longer.
func PatientLanes(n int, patience time.Duration) Lanes {
	return Lanes{&lanes{free: n, patience: patience}}
}

// OverloadOf says until when there is too much work, if that is what err says.
func OverloadOf(err error) (wait time.Duration, ok bool) {
	e, ok := errors.AsType[errOverload](err)
	return e.wait, ok
}
