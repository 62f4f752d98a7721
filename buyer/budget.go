package buyer

import (
	"fmt"
	"math"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// NoLimit is a limit that never binds.
const NoLimit lightning.Msat = math.MaxInt64

// Limits bound what is spent, routing fees included. What is reserved for
// payments whose outcome is not known counts as spent. A zero limit allows
// nothing: what is not to bind is [NoLimit].
type Limits struct {
	Segment lightning.Msat // one payment for a segment
	Title   lightning.Msat // one title, ever; SetTitleBudget changes it for a title
	Day     lightning.Msat // all titles, in any 24 hours; a begun hour counts whole
}

// An Account is how the money of one title stands.
type Account struct {
	Budget   lightning.Msat // [NoLimit] if there is none
	Spent    lightning.Msat // ever, fees and losses included
	Fees     lightning.Msat // of Spent: for routes
	Lost     lightning.Msat // of Spent: paid to providers who gave no key
	Reserved lightning.Msat // for payments whose outcome is not known
	DayLeft  lightning.Msat // of the limit for a day, which all titles share; [NoLimit] if there is none
	InFlight int            // payments whose outcome is not known
	Stopped  bool
	Risk     lightning.Msat // the most that is unproved with one provider at a time
}

// Left is what may still be spent, if there is a limit.
func (a Account) Left() (left lightning.Msat, limited bool) {
	left = a.DayLeft
	if a.Budget != NoLimit {
		left = min(left, max(a.Budget-a.Spent-a.Reserved, 0))
	}
	return left, left != NoLimit
}

// A till knows all the money that may be spent. A [hold] is the only way to
// take some out.
type till struct {
	limits Limits

	mu       sync.Mutex
	titles   map[htlcdash.TitleID]*Account
	reserved lightning.Msat           // for all titles
	hours    map[int64]lightning.Msat // spent for all titles, by hourOf
}

func newTill(l Limits, spent map[time.Time]lightning.Msat) *till {
	t := &till{limits: l, titles: make(map[htlcdash.TitleID]*Account), hours: make(map[int64]lightning.Msat)}
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
	}
	return ok
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

// admits says early whether amount could be reserved, so that nobody's line is
// used for what will not be paid.
func (t *till) admits(id htlcdash.TitleID, amount lightning.Msat) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.find(id, amount)
	return err
}

// find needs t.mu.
func (t *till) find(id htlcdash.TitleID, amount lightning.Msat) (*Account, error) {
	a, ok := t.titles[id]
	switch {
	case !ok:
		return nil, fmt.Errorf("title %s is not open: %w", id, htlcdash.ErrNotFound)
	case a.Stopped:
		return nil, ErrStopped
	case amount > t.limits.Segment:
		return nil, fmt.Errorf("%w: %v for a segment, limit %v", ErrBudget, amount, t.limits.Segment)
	case a.Budget != NoLimit && amount > a.Budget-a.Spent-a.Reserved:
		return nil, fmt.Errorf("%w: want %v, left for this title %v", ErrBudget, amount, max(a.Budget-a.Spent-a.Reserved, 0))
	}
	if left := t.dayLeft(); amount > left {
		return nil, fmt.Errorf("%w: want %v, left for this day %v", ErrBudget, amount, left)
	}
	return a, nil
}

// reserve sets amount aside for a title, or fails with [ErrBudget] or
// [ErrStopped].
func (t *till) reserve(id htlcdash.TitleID, amount lightning.Msat) (*hold, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, err := t.find(id, amount)
	if err != nil {
		return nil, err
	}
	return t.hold(a, amount), nil
}

// restore sets aside what an earlier run had, whatever the limits are now.
func (t *till) restore(id htlcdash.TitleID, amount lightning.Msat) *hold {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hold(t.titles[id], amount)
}

// hold needs t.mu.
func (t *till) hold(a *Account, amount lightning.Msat) *hold {
	a.Reserved += amount
	a.InFlight++
	t.reserved += amount
	return &hold{till: t, account: a, amount: amount}
}

// A hold is money set aside for one payment. It ends once, by its outcome.
type hold struct {
	till    *till
	account *Account
	amount  lightning.Msat
	ended   bool // guarded by till.mu
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
	h.account.InFlight--
	h.account.Reserved -= h.amount
	h.till.reserved -= h.amount
	if p.State != lightning.Paid {
		return
	}
	h.account.Spent += p.Spent()
	h.account.Fees += p.Fee
	if lost {
		h.account.Lost += p.Spent()
	}
	h.till.hours[hourOf(time.Now())] += p.Spent()
}
