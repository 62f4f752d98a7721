package seller

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"htlcdash"
	"htlcdash/internal/exchange"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// Bounds of accounts for carriage. Who takes a step and goes is to need many
// addresses for many steps: a step in five minutes is slower than a film. An account
// that has paid for a step counts no more, so that those who pay are as many at one
// address as they like.
const (
	accountRate  = 1.0 / 300 // new accounts a second for one address
	accountBurst = 16
	maxBills     = 8 // of one account, that can be paid
)

// An account is what the holder of a credential owes for sealed bytes. It is kept
// in memory only: after a restart it begins anew at nothing, so that a restart
// costs the provider a step for each at most. Its secret is new then, too, so that
// no payment counts twice.
type account struct {
	id     [32]byte // random; zero until something was carried
	title  htlcdash.TitleID
	owed   int64  // sent, or being sent, and not paid for; below 0: paid ahead
	number uint32 // of the newest bill
	bills  []bill // that can be paid

	unproven int64  // bytes that are still to be paid for until it counts no more
	proven   func() // is called then
}

// A bill is an invoice for bytes that were carried.
type bill struct {
	number  uint32
	bytes   int64
	hash    lightning.Hash
	expires time.Time // after which nobody pays it
}

// An errOwed says that a credential has to pay before it gets more bytes.
type errOwed struct {
	Owed int64 `json:"owed_bytes"`
	exchange.Carriage
	URL string `json:"url"`
}

func (e errOwed) Error() string {
	return fmt.Sprintf("%d bytes are to be paid for, at %v a MiB, before more than %d are owed", e.Owed, e.Price, e.Step)
}

// carriage is what sealed bytes cost here now. A step never gets shorter while this
// program runs: viewers ask for it rarely.
func (s *Seller) carriage() exchange.Carriage {
	c := exchange.Carriage{Price: s.config.BytePrice, Step: s.config.ByteStep}
	if c.Price > 0 && c.Step == 0 {
		c.Step = s.step.Load()
	}
	return c
}

// stretch makes a step long enough for the longest blob of a shelf.
func (s *Seller) stretch(shelf *shelf) {
	longest := int64(0)
	for _, t := range shelf.byName {
		for _, seg := range t.segments {
			longest = max(longest, htlcdash.SealedLength(seg.Length))
		}
	}
	s.step.Store(max(s.step.Load(), exchange.NewCarriage(s.config.BytePrice, longest).Step))
}

// newAccounts rations the accounts of an address.
func newAccounts() *clients { return newClients(rate.Limit(accountRate), accountBurst) }

// allowCarriage takes what r asks for, of size bytes of a title, on the account of
// the credential that it shows. The caller calls served when it has answered.
func (s *Seller) allowCarriage(r *http.Request, title htlcdash.TitleID, size int64, etag string) (served func(http.ResponseWriter), err error) {
	v, err := s.guard.admit(r, nil, s.from(r))
	if err != nil {
		return nil, err
	}
	terms := s.carriage()
	if !v.hasAccount() {
		from := s.from(r)
		if wait, ok := s.accounts.allow(from, 1); !ok {
			return nil, errLimited{wait}
		}
		back := func() { s.accounts.refund(from, 1) }
		if !v.openAccount(terms.Step, back) {
			back()
		}
	}
	first, last, _ := requestedRange(r, rangedFile{length: size, etag: etag})
	n := max(0, last-first+1)
	if err := v.carry(title, n, terms); err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter) {
		rec, ok := w.(*recorder)
		switch {
		case !ok:
		case rec.status == http.StatusOK || rec.status == http.StatusPartialContent:
			v.uncarry(max(0, n-rec.bytes))
		default: // what was sent was an error
			v.uncarry(n)
		}
	}, nil
}

func (v *guest) hasAccount() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.account.id != [32]byte{}
}

// openAccount begins v's account, and reports whether it had none. Once it has paid
// for a step, it calls proven.
func (v *guest) openAccount(step int64, proven func()) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := &v.account
	if a.id != [32]byte{} {
		return false
	}
	rand.Read(a.id[:]) // never fails, see crypto/rand
	a.unproven, a.proven = step, proven
	return true
}

// carry books n bytes that are about to be sent.
func (v *guest) carry(title htlcdash.TitleID, n int64, terms exchange.Carriage) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := &v.account
	if a.owed+n > terms.Step {
		return errOwed{a.owed, terms, "/v1/carriage"}
	}
	a.title = title
	a.owed += n
	return nil
}

// uncarry gives back n bytes that were not sent.
func (v *guest) uncarry(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.account.owed -= n
}

// credit books, once, that the payment over h came, if it is for one of v's bills.
func (v *guest) credit(h lightning.Hash) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := &v.account
	if i := slices.IndexFunc(a.bills, func(b bill) bool { return b.hash == h }); i >= 0 {
		was := a.unproven
		a.owed -= a.bills[i].bytes
		a.unproven -= a.bills[i].bytes
		a.bills = slices.Delete(a.bills, i, i+1)
		if was > 0 && a.unproven <= 0 {
			a.proven()
		}
	}
}

func (v *guest) owes() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.account.owed
}

// bill returns the bill with the number of req, or a new one for what is owed, if
// that is something. A number that was paid, or
// is older than the newest, gets none.
func (v *guest) bill(req exchange.CarriageRequest, secret exchange.Secret, life time.Duration, now time.Time) (b bill, owed int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := &v.account
	for _, b := range a.bills {
		if b.number == req.Number {
			return b, a.owed, nil
		}
	}
	n := min(req.Bytes, a.owed)
	if n <= 0 || req.Number <= a.number {
		return bill{}, a.owed, nil
	}
	a.bills = slices.DeleteFunc(a.bills, func(b bill) bool { return !now.Before(b.expires) })
	if len(a.bills) >= maxBills {
		return bill{}, a.owed, fmt.Errorf("%d bills: %w", len(a.bills), errRation)
	}
	b = bill{req.Number, n, secret.CarriagePreimage(a.id, req.Number, n).Hash(), now.Add(life + exchange.Grace)}
	a.number, a.bills = req.Number, append(a.bills, b)
	return b, a.owed, nil
}

// serveCarriage answers POST /v1/carriage, also for credentials that have served
// their time: debts stay.
func (s *Seller) serveCarriage(w http.ResponseWriter, r *http.Request) error {
	terms := s.carriage()
	if terms.Free() {
		return fmt.Errorf("sealed bytes are free here: %w", htlcdash.ErrNotFound)
	}
	v, body, err := s.guestOf(w, r, exchange.MaxCarriageBytes, s.guard.known)
	if err != nil {
		return err
	}
	req, err := exchange.ParseCarriageRequest(body)
	if err != nil {
		return err
	}
	if err := v.asked(1); err != nil {
		return err
	}
	answer, err := s.settleCarriage(r.Context(), v, req, terms)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, r, http.StatusOK, answer)
	return nil
}

func (s *Seller) settleCarriage(ctx context.Context, v *guest, req exchange.CarriageRequest, terms exchange.Carriage) (exchange.CarriageBill, error) {
	if !req.Preimage.IsZero() {
		v.credit(req.Preimage.Hash())
		return exchange.CarriageBill{Owed: v.owes()}, nil
	}
	b, owed, err := v.bill(req, s.config.Secret, s.till.Life, time.Now())
	if err != nil || b.bytes == 0 {
		return exchange.CarriageBill{Owed: owed}, err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	till := s.till
	till.Payee = s.register.counter(v)
	id, title := v.carries()
	out, err := till.SellCarriage(ctx, id, b.number, b.bytes, terms.Cost(b.bytes))
	if err != nil {
		if !errors.Is(err, errBusy) {
			s.nodeFailed(err)
		}
		return exchange.CarriageBill{}, err
	}
	out.Owed = owed
	return out, s.book(ctx, []ledger.Sale{{
		Hash: out.Hash, Title: title, Representation: ledger.Carriage, Index: -1,
		Scheme: exchange.SchemeCarriage, Amount: out.Price, Created: time.Now(),
	}})
}

func (v *guest) carries() (id [32]byte, title htlcdash.TitleID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.account.id, v.account.title
}
