package seller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"htlcdash/internal/credential"
	"htlcdash/internal/ledger"
)

// Rations say what the holder of one credential gets before it pays, so that
// one credential is worth little to who never does. Zero fields mean the
// default.
type Rations struct {
	// Life is how long a credential serves, from when it is first shown; 0: an
	// hour. Then another one is needed, so that nobody is known for longer.
	Life       time.Duration
	OpenOffers int   // that can be paid, and so payments in flight; 0: 512
	Proofs     int   // made since the last payment; 0: 64
	Bytes      int64 // sealed bytes that were not paid for; 0: 256 MiB
}

func (r Rations) orDefault() Rations {
	return Rations{
		Life:       cmp.Or(r.Life, time.Hour),
		OpenOffers: cmp.Or(r.OpenOffers, 512),
		Proofs:     cmp.Or(r.Proofs, 64),
		Bytes:      cmp.Or(r.Bytes, 256<<20),
	}
}

// Bounds on work for who has shown no good credential yet. To compute what a
// token is worth costs some 70 us.
const (
	maxGuests         = 1 << 15 // credentials whose rations are remembered
	introductionRate  = 5       // new credentials a second for one address
	introductionBurst = 40
	introductionsAll  = 1000 // new credentials a second for all addresses
)

// Errors of the guard. What they mean for a client is in spec/04.
var (
	errStranger = errors.New("a credential is needed: get some at /v1/credentials")
	errSpent    = errors.New("this credential has served its time: show another one")
	errRation   = errors.New("pay for what you have first")
)

// A guard knows who shows a credential, and what each has had. It lets nobody
// in without one, and its answer to strangers costs a hash.
type guard struct {
	keys    *credential.Keyring
	books   *ledger.Ledger
	rations Rations
	meet    *clients // new credentials by address
	meetAll *rate.Limiter

	mu     sync.Mutex
	guests lru[[32]byte, *guest] // by the token's nonce
}

func newGuard(keys *credential.Keyring, books *ledger.Ledger, r Rations) *guard {
	return &guard{
		keys: keys, books: books, rations: r.orDefault(),
		meet:    newClients(introductionRate, introductionBurst),
		meetAll: rate.NewLimiter(introductionsAll, introductionsAll),
		guests:  newLRU[[32]byte, *guest](maxGuests),
	}
}

// A guest is the holder of a credential, and what it has had and not paid for.
type guest struct {
	token   credential.Token
	shared  credential.Shared
	until   time.Time // when the credential has served its time
	lane    lane      // of its proofs
	rations *Rations

	mu     sync.Mutex
	offers int   // that can be paid
	proofs int   // since the last payment
	bytes  int64 // sealed, not paid for
}

// An admission lets in who sent r with body from an address.
type admission func(r *http.Request, body []byte, from netip.Addr) (*guest, error)

// admit returns the guest who sent r with body. The error matches errStranger, errSpent, errLimited
// or one of the credential's.
func (g *guard) admit(r *http.Request, body []byte, from netip.Addr) (*guest, error) {
	v, err := g.known(r, body, from)
	if err != nil {
		return nil, err
	}
	if !time.Now().Before(v.until) {
		return nil, errSpent
	}
	return v, nil
}

// known is admit for credentials that have served their time, too: what was
// bought with one can be asked for until its key expires.
func (g *guard) known(r *http.Request, body []byte, from netip.Addr) (*guest, error) {
	p, err := presented(r)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	v, ok := g.guests.get(p.Nonce)
	g.mu.Unlock()
	if !ok || v.token != p.Token {
		return g.introduce(r, body, p, from)
	}
	return v, p.Verify(v.shared, r.Method, r.URL.Path, body, time.Now())
}

func presented(r *http.Request) (credential.Presented, error) {
	for _, value := range r.Header.Values("Authorization") {
		if scheme, _, _ := strings.Cut(value, " "); strings.EqualFold(scheme, credential.Scheme) {
			return credential.ParseAuthorization(value)
		}
	}
	return credential.Presented{}, errStranger
}

// introduce takes in a credential that was not shown in this run. That it was
// shown is in the books before it is worth anything.
func (g *guard) introduce(r *http.Request, body []byte, p credential.Presented, from netip.Addr) (*guest, error) {
	if wait, ok := g.meet.allow(from, 1); !ok {
		return nil, errLimited{wait}
	}
	if !g.meetAll.Allow() {
		return nil, errLimited{time.Second}
	}
	now := time.Now()
	shared, err := g.keys.Admit(p, r.Method, r.URL.Path, body, now)
	if err != nil {
		return nil, err
	}
	first, _, err := g.books.Redeem(r.Context(), p.KeyID, p.Nonce, now)
	if err != nil {
		return nil, fmt.Errorf("book a credential: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if v, ok := g.guests.get(p.Nonce); ok && v.token == p.Token {
		return v, nil
	}
	v := &guest{token: p.Token, shared: shared, until: first.Add(g.rations.Life), rations: &g.rations}
	g.guests.put(p.Nonce, v)
	return v, nil
}

// forget drops, now and then, what the books know of credentials whose key has
// expired: they are refused without.
func (g *guard) forget(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if id, err := g.keys.Expired(time.Now()); err == nil {
				_ = g.books.ForgetTokens(ctx, id) // again in an hour
			}
		case <-ctx.Done():
			return
		}
	}
}

// offered counts an offer that can be paid, unless v has too many.
func (v *guest) offered() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.offers >= v.rations.OpenOffers {
		return false
	}
	v.offers++
	return true
}

// full reports whether v has as many open offers as it may have.
func (v *guest) full() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.offers >= v.rations.OpenOffers
}

// closed counts that an offer was paid or has expired.
func (v *guest) closed() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.offers--
}

// proved counts n proofs that are about to be made.
func (v *guest) proved(n int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.proofs+n > v.rations.Proofs {
		return fmt.Errorf("%d proofs: %w", v.proofs, errRation)
	}
	v.proofs += n
	return nil
}

// served counts sealed bytes that are about to be sent. Those that are not
// sent come back as less than nothing.
func (v *guest) served(n int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n > 0 && v.bytes+n > v.rations.Bytes {
		return fmt.Errorf("%d sealed bytes: %w", v.bytes, errRation)
	}
	v.bytes += n
	return nil
}

// paid gives back what a payment for n sealed bytes earns.
func (v *guest) paid(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.proofs = 0
	v.bytes = max(0, v.bytes-n)
}
