package buyer

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/ledger"
	"htlcdash/lightning"
)

// NoLimit is a limit that never binds.
const NoLimit lightning.Msat = math.MaxInt64

// Limits bound what is spent, routing fees included. What is reserved for
// payments whose outcome is not known counts as spent. A zero limit allows
// nothing: what is not to bind is [NoLimit].
type Limits struct {
	Segment lightning.Msat // one payment: for a key, of a segment or a group, or for sealed bytes
	Title   lightning.Msat // one title, ever; SetTitleBudget changes it for a title
	Day     lightning.Msat // all titles, in any 24 hours; a begun hour counts whole
}

// An Account is how the money of one title stands.
type Account struct {
	Budget      lightning.Msat // [NoLimit] if there is none
	Spent       lightning.Msat // ever, fees and losses included
	Fees        lightning.Msat // of Spent: for routes
	Lost        lightning.Msat // of Spent: paid to providers who gave no key
	Carriage    lightning.Msat // of Spent: for sealed bytes, without routes
	Credentials lightning.Msat // of Spent: for anonymous credentials, without routes
	BytePrice   lightning.Msat // what a MiB of sealed bytes costs now at the cheapest, as far as is known
	Reserved    lightning.Msat // for payments whose outcome is not known
	DayLeft     lightning.Msat // of the limit for a day, which all titles share; [NoLimit] if there is none
	InFlight    int            // payments whose outcome is not known
	Stopped     bool
	Risk        lightning.Msat // the most that is unproved with one provider at a time

	spare lightning.Msat // of Reserved: for fees
}

// FeeShare is what routes cost so far, as a part of the prices paid.
func (a Account) FeeShare() float64 {
	return float64(a.Fees) / float64(max(a.Spent-a.Fees, 1))
}

// CarriageShare is what sealed bytes are to cost as a part of the prices of keys, where
// a msat of these stands for so many bytes: as they did so far, or as they do at the
// cheapest, whichever is more.
func (a Account) CarriageShare(bytesPerMsat float64) float64 {
	share := float64(a.BytePrice) * bytesPerMsat / (1 << 20)
	if keys := a.Spent - a.Fees - a.Carriage - a.Credentials; keys > 0 {
		share = max(share, float64(a.Carriage)/float64(keys))
	}
	return share
}

// Spare is the part of Reserved that is for routes. What they do not take comes
// back.
func (a Account) Spare() lightning.Msat { return a.spare }

// Left is what may still be spent, if there is a limit.
func (a Account) Left() (left lightning.Msat, limited bool) {
	left = min(a.DayLeft, a.left())
	return left, left != NoLimit
}

func (a Account) left() lightning.Msat {
	if a.Budget == NoLimit {
		return NoLimit
	}
	return max(a.Budget-a.Spent-a.Reserved, 0)
}

// A till knows all the money that may be spent. A [hold] is the only way to
// take some out.
type till struct {
	limits Limits

	mu       sync.Mutex
	titles   map[htlcdash.TitleID]*Account
	reserved lightning.Msat           // for all titles
	spare    lightning.Msat           // of it: for fees
	freed    chan struct{}            // closed when there may be more to spend, and replaced
	hours    map[int64]lightning.Msat // spent for all titles, by hourOf
}

func newTill(l Limits, spent map[time.Time]lightning.Msat) *till {
	t := &till{limits: l, freed: make(chan struct{}), titles: make(map[htlcdash.TitleID]*Account), hours: make(map[int64]lightning.Msat)}
	for at, m := range spent {
		t.hours[hourOf(at)] += m
	}
	return t
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// open adds a title, unless it is there.
func (t *till) open(id htlcdash.TitleID, a Account) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.titles[id]; !ok {
		t.titles[id] = &a
	}
}

func (t *till) knows(id htlcdash.TitleID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.titles[id] != nil
}

// change alters an account under the lock.
func (t *till) change(id htlcdash.TitleID, alter func(*Account)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.titles[id]
	if ok {
		alter(a)
		t.free()
	}
	return ok
}

// free wakes those who wait for money. It needs t.mu.
func (t *till) free() {
	close(t.freed)
	t.freed = make(chan struct{})
}

func (t *till) account(id htlcdash.TitleID) Account {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.titles[id]
	if !ok {
		return Account{}
	}
	view := *a
	view.DayLeft = t.dayLeft()
	return view
}

// window is the day over which the limit is held: the begun hour and the 24
// before it, so that any 24 hours lie within one.
const window = 24 * time.Hour

// dayLeft needs t.mu.
func (t *till) dayLeft() lightning.Msat {
	if t.limits.Day == NoLimit {
		return NoLimit
	}
	left := t.limits.Day - t.reserved
	first := hourOf(time.Now().Add(-window))
	for h, spent := range t.hours {
		if h < first {
			delete(t.hours, h)
		} else {
			left -= spent
		}
	}
	return max(left, 0)
}

// admits says early whether a payment could be made, so that nobody's line is
// used for what will not be paid.
func (t *till) admits(id htlcdash.TitleID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _, err := t.find(id, 1)
	if _, ok := errors.AsType[tiedError](err); ok {
		return nil
	}
	return err
}

// A tiedError means that fees that are reserved now, and perhaps not used, are
// what a price lacks.
type tiedError struct{ freed <-chan struct{} }

func (tiedError) Error() string { return "money is reserved for fees" }
func (tiedError) Unwrap() error { return ErrBudget }

// find returns what one payment may take, which is not less than price. It
// needs t.mu.
func (t *till) find(id htlcdash.TitleID, price lightning.Msat) (a *Account, room lightning.Msat, err error) {
	a, ok := t.titles[id]
	switch {
	case !ok:
		return nil, 0, fmt.Errorf("title %s is not open: %w", id, htlcdash.ErrNotFound)
	case a.Stopped:
		return nil, 0, ErrStopped
	}
	room = NoLimit
	for _, limit := range []struct {
		what        string
		left, spare lightning.Msat
	}{
		{"a segment", t.limits.Segment, 0},
		{"this title", a.left(), a.spare},
		{"this day", t.dayLeft(), t.spare},
	} {
		switch {
		case price <= limit.left:
			room = min(room, limit.left)
		case price-limit.left <= limit.spare:
			err = tiedError{t.freed}
		default:
			return nil, 0, fmt.Errorf("%w: want %v, left for %s %v", ErrBudget, price, limit.what, limit.left)
		}
	}
	return a, room, err
}

// reserve sets a price and at most fee aside for a title: less for fees where a
// limit allows no more, so that a budget can be used to its end. It fails with
// [ErrBudget] or [ErrStopped]; with a [tiedError] if it may be tried again when
// a payment under way has ended.
func (t *till) reserve(id htlcdash.TitleID, price, fee lightning.Msat) (*hold, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, room, err := t.find(id, price)
	if err != nil {
		return nil, err
	}
	return t.hold(a, price, min(fee, room-price)), nil
}

// restore sets aside what an earlier run had, whatever the limits are now.
func (t *till) restore(id htlcdash.TitleID, price, fee lightning.Msat) *hold {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hold(t.titles[id], price, fee)
}

// hold needs t.mu.
func (t *till) hold(a *Account, price, fee lightning.Msat) *hold {
	h := &hold{till: t, account: a, price: price, fee: fee}
	h.take(+1)
	return h
}

// A hold is money set aside for one payment. It ends once, by its outcome.
type hold struct {
	till       *till
	account    *Account
	price, fee lightning.Msat
	rung       string // what is paid for, if it is no key; see rungOf
	ended      bool   // guarded by till.mu
}

// take moves the money into the sums of what is reserved, or out of them. It
// needs till.mu.
func (h *hold) take(sign lightning.Msat) {
	h.account.InFlight += int(sign)
	h.account.Reserved += sign * (h.price + h.fee)
	h.account.spare += sign * h.fee
	h.till.reserved += sign * (h.price + h.fee)
	h.till.spare += sign * h.fee
}

// rungOf says what p was for, if it was for no key: what stands in the books where a
// purchase has its Representation. Nobody signs anything of it.
func rungOf(p ledger.Purchase) string {
	if p.IsNoKey() {
		return p.Representation
	}
	return ""
}

// release gives all back: nothing was spent, and nothing can be.
func (h *hold) release() { h.end(lightning.Payment{}, false) }

// commit keeps what p spent and gives back the rest.
func (h *hold) commit(p lightning.Payment, lost bool) { h.end(p, lost) }

func (h *hold) end(p lightning.Payment, lost bool) {
	h.till.mu.Lock()
	defer h.till.mu.Unlock()
	if h.ended {
		panic("buyer: a hold ended twice")
	}
	h.ended = true
	h.take(-1)
	h.till.free()
	if p.State != lightning.Paid {
		return
	}
	h.account.Spent += p.Spent()
	h.account.Fees += p.Fee
	switch h.rung {
	case ledger.Carriage:
		h.account.Carriage += p.Amount
	case ledger.Credentials:
		h.account.Credentials += p.Amount
	}
	if lost {
		h.account.Lost += p.Spent()
	}
	h.till.hours[hourOf(time.Now())] += p.Spent()
}
