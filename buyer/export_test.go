package buyer

import (
	"encoding/json"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// NeedOf is the market's view of a segment.
var NeedOf = needOf

// A Till is the inside of a [Buyer] that knows the money.
type Till struct{ t *till }

// NewTill returns a till with one open title.
func NewTill(l Limits, spent map[time.Time]lightning.Msat, id htlcdash.TitleID) Till {
	t := newTill(l, spent)
	t.open(id, Account{Budget: l.Title})
	return Till{t}
}

// Spend reserves and pays an amount.
func (t Till) Spend(id htlcdash.TitleID, amount lightning.Msat) error {
	h, err := t.t.reserve(id, amount, 0)
	if err == nil {
		h.commit(lightning.Payment{State: lightning.Paid, Amount: amount}, false)
	}
	return err
}

// Account is how the money of a title stands.
func (t Till) Account(id htlcdash.TitleID) Account { return t.t.account(id) }

// ParseTitles reads what a provider answers for its list of titles.
func ParseTitles(b []byte) (titles []TitleInfo, err error) {
	var l titleList
	err = json.Unmarshal(b, &l)
	return l, err
}
