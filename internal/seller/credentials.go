package seller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// Issue says how anonymous credentials are given out.
type Issue string

// Ways to give out credentials.
const (
	IssueFree    Issue = "free"    // to all who ask, as fast as the machine can
	IssueLimited Issue = "limited" // to all who ask, few to an address
	IssueSold    Issue = "sold"    // for money, by batches
)

// epochLength is how long a key issues credentials. They are good for as long
// again.
const epochLength = 7 * 24 * time.Hour

// Bounds on giving out credentials. A batch of 32 costs some 5 to 10 ms.
const (
	limitedRate  = 1.0 / 60 // batches a second for one address
	limitedBurst = 8
	issuedAtOnce = 32 // batches a second for all addresses, unless they are free: 80 million credentials a day
)

// An issuer gives out credentials.
type issuer struct {
	keys    *credential.Keyring
	way     Issue
	price   lightning.Msat // of a batch, where they are sold
	clients *clients
	all     *rate.Limiter
}

func newIssuer(keys *credential.Keyring, way Issue, price lightning.Msat) (*issuer, error) {
	switch {
	case way != IssueFree && way != IssueLimited && way != IssueSold:
		return nil, fmt.Errorf("seller: credentials are %q: want %q, %q or %q", way, IssueFree, IssueLimited, IssueSold)
	case (way == IssueSold) != (price > 0):
		return nil, fmt.Errorf("seller: a price of credentials (%v) goes with credentials that are %q", price, IssueSold)
	}
	return &issuer{
		keys: keys, way: way, price: price,
		clients: newClients(limitedRate, limitedBurst), all: rate.NewLimiter(issuedAtOnce, issuedAtOnce),
	}, nil
}

// credentialsInfo is what GET /v1/provider says of credentials.
type credentialsInfo struct {
	Issue Issue          `json:"issue"`
	Price lightning.Msat `json:"price_msat,omitempty"` // of a batch
	Batch int            `json:"max_batch"`
	Life  int64          `json:"life_s"`
	Keys  []keyInfo      `json:"keys"` // the first one issues
}

type keyInfo struct {
	Key     credential.PublicKey `json:"key"`
	Issues  int64                `json:"issues_until"`
	Expires int64                `json:"expires"`
}

func (s *Seller) credentialsInfo() (info credentialsInfo, err error) {
	info = credentialsInfo{Issue: s.issuer.way, Price: s.issuer.price, Batch: credential.MaxBatch, Life: int64(s.guard.rations.Life.Seconds())}
	keys, err := s.issuer.keys.Published(time.Now())
	for _, k := range keys {
		info.Keys = append(info.Keys, keyInfo{k.Key, k.Issues.Unix(), k.Expires.Unix()})
	}
	return info, err
}

// serveCredentials answers POST /v1/credentials.
func (s *Seller) serveCredentials(w http.ResponseWriter, r *http.Request) error {
	if err := s.rationed(r); err != nil {
		return err
	}
	request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, credential.MaxRequestBytes))
	if err != nil {
		return fmt.Errorf("token request: %w", err)
	}
	if s.issuer.way == IssueSold {
		if err := s.till.TokensPaid(request, r.Header.Get("Authorization"), time.Now()); err != nil {
			return s.sellTokens(w, r, request, err)
		}
	}
	response, err := s.issue(r.Context(), request)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", credential.ResponseType)
	h.Set("Cache-Control", "no-store")
	w.Write(response) // the client may be gone; it may ask again
	return nil
}

// issue answers a request for tokens. It shares the processors with proofs, and
// all who ask have one lane there.
func (s *Seller) issue(ctx context.Context, request []byte) ([]byte, error) {
	key, err := s.issuer.keys.Current(time.Now())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	leave, err := s.provers.enter(ctx, &s.strangers.lane)
	if err != nil {
		return nil, err
	}
	defer leave()
	return key.Issue(request)
}

// rationed refuses an address that asks too often, or anybody while too many
// do. Who must pay asks for an invoice, which is rationed elsewhere.
func (s *Seller) rationed(r *http.Request) error {
	if s.issuer.way != IssueLimited {
		return nil
	}
	if wait, ok := s.issuer.clients.allow(s.from(r), 1); !ok {
		return errLimited{wait}
	}
	if !s.issuer.all.Allow() {
		return errLimited{time.Second}
	}
	return nil
}

// sellTokens answers who has not paid with an invoice, rationed as those of
// the 402s of media are, or says that what was shown is no preimage.
func (s *Seller) sellTokens(w http.ResponseWriter, r *http.Request, request []byte, cause error) error {
	if !errors.Is(cause, exchange.ErrNoCredential) {
		return cause
	}
	if wait, ok := s.paywall.clients.allow(s.from(r), 1); !ok {
		return errLimited{wait}
	}
	till := s.till
	till.Payee = s.register.counter(s.strangers)
	offer, err := till.SellTokens(r.Context(), request, s.issuer.price, time.Now())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, r, http.StatusPaymentRequired, offer)
	return nil
}
