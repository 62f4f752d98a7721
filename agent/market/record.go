package market

import (
	"errors"
	"time"

	"htlcdash/lightning"
)

// ErrRecord means that a record makes no sense.
var ErrRecord = errors.New("market: not a record")

// A Record is what is known of one provider. Its JSON form is kept in the
// buyer's ledger; [Market.Restore] checks it.
type Record struct {
	ID    string    `json:"id"`
	Group string    `json:"group,omitempty"`
	Seen  time.Time `json:"seen"` // when it was last observed

	Banned   time.Time `json:"banned,omitzero"`    // until then it is not asked
	Reason   string    `json:"reason,omitempty"`   // of the last ban
	Offences int       `json:"offences,omitempty"` // bans so far
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
