package market

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"htlcdash/lightning"
)

// ErrRecord means that a record makes no sense.
var ErrRecord = errors.New("market: not a record")

// A Record is what is known of one provider. Its JSON form is kept in the
// buyer's ledger; [Market.Restore] checks it.
type Record struct {
	ID     string    `json:"id"`
	Group  string    `json:"group,omitempty"`
	Seen   time.Time `json:"seen"`   // when it was last observed
	Recent Evidence  `json:"recent"` // halves within minutes
	Past   Evidence  `json:"past"`   // halves within weeks

	Price   lightning.Msat `json:"price,omitempty"`   // that it last asked,
	Ceiling lightning.Msat `json:"ceiling,omitempty"` // of this
	Priced  time.Time      `json:"priced,omitzero"`   // then
	Usual   float64        `json:"usual,omitempty"`   // price it is known for, as a share of the ceiling (of 1 msat, if none was known)

	Failures int       `json:"failures,omitempty"` // in a row
	Benched  time.Time `json:"benched,omitzero"`   // for the last of them: until then it is asked last
	Offences float64   `json:"offences,omitempty"` // bans, the old of less weight
	Banned   time.Time `json:"banned,omitzero"`    // until then it is not asked
	Cheat    bool      `json:"cheat,omitempty"`    // the ban is for money that it took
	Reason   string    `json:"reason,omitempty"`   // of the last ban
}

// Bounds of a record.
const (
	MaxID     = 256
	MaxReason = 256
	maxWeight = 1e4
)

// Check reports what is wrong with a record; the error matches [ErrRecord].
func (r Record) Check() error {
	switch {
	case r.ID == "" || len(r.ID) > MaxID || len(r.Group) > MaxID || len(r.Reason) > MaxReason:
		return fmt.Errorf("%w: name or reason out of bounds", ErrRecord)
	case !r.Recent.sound() || !r.Past.sound():
		return fmt.Errorf("%w: %q: evidence out of range", ErrRecord, r.ID)
	case r.Price < 0 || r.Ceiling < 0 || !(r.Usual >= 0 && r.Usual <= math.MaxInt64):
		return fmt.Errorf("%w: %q: price out of range", ErrRecord, r.ID)
	case r.Failures < 0 || !(r.Offences >= 0 && r.Offences <= maxWeight):
		return fmt.Errorf("%w: %q: offences out of range", ErrRecord, r.ID)
	}
	return nil
}

func (e Evidence) sound() bool {
	in := func(x, most float64) bool { return x >= 0 && x <= most }
	return in(e.Yes, maxWeight) && in(e.No, maxWeight) && in(e.N, maxWeight) && in(e.Square, maxWeight*100) &&
		math.Abs(e.Mean) <= 20
}

// entry is a Record in use.
type entry struct {
	Record
	worse, better suspicion

	x, y  float64 // logarithms of size and seconds of the last delivery
	sized bool
}

// Record returns what is known of a provider, to be kept over a restart.
func (m *Market) Record(id string) (Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.known[id]; e != nil {
		return e.Record, true
	}
	return Record{}, false
}

// Records returns all that is known, ordered by ID.
func (m *Market) Records() []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Record, 0, len(m.known))
	for _, e := range m.known {
		out = append(out, e.Record)
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Restore takes up what another Market knew. What makes no sense is left out;
// the error matches [ErrRecord] and names the first. Of more than
// [Config.Keep] records it keeps those that matter.
func (m *Market) Restore(now time.Time, records []Record) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		if bad := r.Check(); bad != nil {
			if err == nil {
				err = bad
			}
			continue
		}
		if r.Seen.After(now) { // the clock was set back: what is to come must not stay new for ever
			r.Seen = now
		}
		m.known[r.ID] = &entry{Record: r}
		m.forget(now)
	}
	return err
}

// forget makes room. What costs least to learn anew goes first: a newcomer that
// failed before one that delivered, and a ban for a cheat last of all.
func (m *Market) forget(now time.Time) {
	if len(m.known) <= m.c.Keep {
		return
	}
	var worst *entry
	for _, e := range m.known {
		if worst == nil || m.before(now, e, worst) {
			worst = e
		}
	}
	delete(m.known, worst.ID)
}

// before reports whether e is forgotten before o.
func (m *Market) before(now time.Time, e, o *entry) bool {
	if a, b := m.matters(now, e), m.matters(now, o); a != b {
		return a < b
	}
	if !e.Seen.Equal(o.Seen) {
		return e.Seen.Before(o.Seen)
	}
	return e.ID < o.ID
}

func (m *Market) matters(now time.Time, e *entry) int {
	switch {
	case e.Banned.After(now) && e.Cheat:
		return 3
	case m.belief(now, e, 0.5, 1).trusted():
		return 2
	case e.Banned.After(now):
		return 1
	default:
		return 0
	}
}

// A Standing is what a provider may be used for.
type Standing string

// Standings.
const (
	Unknown   Standing = "unknown" // nothing was observed
	Probation Standing = "on probation"
	Trusted   Standing = "trusted"
	Banned    Standing = "banned"
)

// A View is how a provider stands, for people.
type View struct {
	Standing Standing
	Until    time.Time      // end of a ban
	Reason   string         // of the last ban
	Success  float64        // share of needs that it is believed to serve
	Latency  time.Duration  // median that is believed
	Price    lightning.Msat // that it last asked, 0 if none is known
}

// Look says how a provider stands.
func (m *Market) Look(now time.Time, id string) View {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.known[id]
	if e == nil {
		return View{Standing: Unknown}
	}
	b := m.of(now, id, e.Group, 0)
	v := View{Standing: Probation, Reason: e.Reason, Success: b.p(), Latency: seconds(math.Exp(b.mean)), Price: e.Price}
	switch {
	case now.Before(e.Banned):
		v.Standing, v.Until = Banned, e.Banned
	case b.trusted():
		v.Standing = Trusted
	}
	return v
}
