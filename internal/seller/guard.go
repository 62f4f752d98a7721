package seller

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
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
	Answers    int   // offers and sold keys asked for at once, also the same ones again; 0: 4096
	Proofs     int   // made since the last payment; 0: 64
	Bytes      int64 // sealed bytes that were not paid for; 0: 256 MiB
	Orders     int   // keys bought upstream for offers since the last payment; 0: 64
}

func (r Rations) orDefault() Rations {
	return Rations{
		Life:       cmp.Or(r.Life, time.Hour),
		OpenOffers: cmp.Or(r.OpenOffers, 512),
		Answers:    cmp.Or(r.Answers, 4096),
		Proofs:     cmp.Or(r.Proofs, 64),
		Bytes:      cmp.Or(r.Bytes, 256<<20),
		Orders:     cmp.Or(r.Orders, 64),
	}
}

// Bounds on work for who has shown no good credential yet. To compute what a
// token is worth costs some 70 us.
const (
	maxGuests         = 1 << 15 // credentials whose rations are remembered
	introductionRate  = 5       // new credentials a second for one address
	introductionBurst = 40
	introductionsAll  = 1000 // new credentials a second for all addresses
	forgery           = 3    // new credentials that a forged one counts for besides
)

// What rations of answers come back: in a second, and with each payment.
const (
	answersEach = 32
	answersPaid = 64
)

// maxNonces is how many proof requests of a guest are remembered, so that who
// overhears one cannot use up what its sender has left.
const maxNonces = 256

// Errors of the guard. What they mean for a client is in spec/04.
var (
	errStranger  = errors.New("a credential is needed: get some at /v1/credentials")
	errMalformed = errors.New("malformed credential")
	errSpent     = errors.New("this credential has served its time: show another one")
	errRation    = errors.New("pay for what you have first")
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
	guests lru[credential.Token, *guest] // not by nonce alone: that is the client's choice, for each key
}

func newGuard(keys *credential.Keyring, books *ledger.Ledger, r Rations) *guard {
	return &guard{
		keys: keys, books: books, rations: r.orDefault(),
		meet:    newClients(introductionRate, introductionBurst),
		meetAll: rate.NewLimiter(introductionsAll, introductionsAll),
		guests:  newLRU[credential.Token, *guest](maxGuests),
	}
}

// A guest is the holder of a credential, and what it has had and not paid for.
type guest struct {
	token   credential.Token
	shared  credential.Shared
	until   time.Time // when the credential has served its time
	lane    lane      // of its proofs
	desk    lane      // of its invoices
	rations *Rations

	mu     sync.Mutex
	offers int   // that can be paid
	proofs int   // since the last payment
	bytes  int64 // sealed, not paid for
	orders int   // of keys upstream, since the last payment
	payer  bool  // has paid for something

	answers  float64   // asked for, less what came back since
	answered time.Time // when answers was counted
	nonces   []uint64  // of proof requests, the newest last: a part of each
	account  account   // for carriage
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
	p, err := g.presented(r)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	v, ok := g.guests.get(p.Token)
	g.mu.Unlock()
	if !ok {
		return g.introduce(r, body, p, from)
	}
	if err := p.Verify(v.shared, r.Method, r.URL.Path, body, time.Now()); err != nil {
		return nil, err
	}
	return v, nil
}

// presented reads what r shows, and refuses what cannot be good, before
// anything is read or counted for it.
func (g *guard) presented(r *http.Request) (credential.Presented, error) {
	p, err := presented(r)
	if err != nil {
		return p, err
	}
	now := time.Now()
	if now.Sub(p.Time).Abs() > credential.MaxSkew {
		return p, credential.ErrStale
	}
	_, err = g.keys.Find(p.KeyID, now)
	return p, err
}

func presented(r *http.Request) (credential.Presented, error) {
	for _, value := range r.Header.Values("Authorization") {
		if scheme, _, _ := strings.Cut(value, " "); strings.EqualFold(scheme, credential.Scheme) {
			p, err := credential.ParseAuthorization(value)
			if err != nil {
				err = fmt.Errorf("%w: %w", errMalformed, err)
			}
			return p, err
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
		g.meet.fine(from, forgery)
		return nil, err
	}
	first, _, err := g.books.Redeem(r.Context(), p.KeyID, p.Nonce, now)
	if err != nil {
		return nil, fmt.Errorf("book a credential: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if v, ok := g.guests.get(p.Token); ok {
		return v, nil
	}
	v := &guest{token: p.Token, shared: shared, until: first.Add(g.rations.Life), rations: &g.rations}
	g.guests.put(p.Token, v)
	return v, nil
}

// forget drops, now and every hour, what the books know of credentials whose key has
// expired: they are refused without.
func (g *guard) forget(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if id, err := g.keys.Expired(time.Now()); err == nil {
			_ = g.books.ForgetTokens(ctx, id) // again in an hour
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// offered counts n more offers that can be paid. What was paid or has expired
// counts less than nothing.
func (v *guest) offered(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.offers += n
}

// full reports whether v has as many open offers as it may have while a part
// of the room for all together is free.
//
// Who has not paid yet may have half as many at most, and fewer by the square
// of that part: n who take all they can, up to r each, leave 1/(1+nr/2R) of the
// room R, so that who comes later can begin to play, and who has paid can go
// on. A share in proportion to what is free (a dynamic threshold: Choudhury and
// Hahne, IEEE/ACM Trans. Networking 6, 1998) would leave only 0.8^n or the
// like, since offers are held for minutes.
func (v *guest) full(free float64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	most := float64(v.rations.OpenOffers)
	if !v.payer {
		most *= free * free / 2
	}
	return float64(v.offers)+1 > most
}

// proved counts n proofs that are about to be made. Those that are not made
// come back as less than nothing.
func (v *guest) proved(n int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n > 0 && v.proofs+n > v.rations.Proofs {
		return fmt.Errorf("%d proofs: %w", v.proofs, errRation)
	}
	v.proofs = max(0, v.proofs+n) // a payment may have come in between
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

// asked counts n answers that are about to be looked up or signed.
func (v *guest) asked(n int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	v.answers = max(0, v.answers-answersEach*now.Sub(v.answered).Seconds())
	v.answered = now
	if v.answers+float64(n) > float64(v.rations.Answers) {
		return fmt.Errorf("%.0f answers: %w", v.answers, errRation)
	}
	v.answers += float64(n)
	return nil
}

// ordered counts n more keys that are bought upstream because v asks for offers.
// Those that are not bought come back as less than nothing.
func (v *guest) ordered(n int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n > 0 && v.orders+n > v.rations.Orders {
		return fmt.Errorf("%d keys from upstream: %w", v.orders, errRation)
	}
	v.orders = max(0, v.orders+n) // a payment may have come in between
	return nil
}

// fresh reports whether no proof request of v had this nonce.
func (v *guest) fresh(n exchange.Nonce) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	part := binary.BigEndian.Uint64(n[:])
	if slices.Contains(v.nonces, part) {
		return false
	}
	if len(v.nonces) == maxNonces {
		v.nonces = slices.Delete(v.nonces, 0, 1)
	}
	v.nonces = append(v.nonces, part)
	return true
}

// paid gives back what a payment for n sealed bytes earns.
func (v *guest) paid(n int64) {
	v.prefer()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answers = max(0, v.answers-answersPaid)
	v.proofs, v.orders = 0, 0
	v.bytes = max(0, v.bytes-n)
}

// prefer gives v its turns before those who have paid for nothing.
func (v *guest) prefer() {
	v.lane.paid.Store(true)
	v.desk.paid.Store(true)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.payer = true
}
