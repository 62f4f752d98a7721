package proxy

import (
	"context"
	"errors"
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// Trouble is why a player cannot have what it asked for.
type Trouble struct {
	Kind string    `json:"kind"` // see troubles
	Text string    `json:"text"` // for people: what is wrong
	Then string    `json:"then"` // and what to do
	At   time.Time `json:"at"`
}

// troubles are tried in order; the first whose error matches tells.
var troubles = []struct {
	err              error
	kind, text, then string
}{
	{lightning.ErrUnavailable, "node", "Your Lightning node does not answer.", "Start it, or run \"htlcdash doctor\". What is on its way is settled once it is back."},
	{lightning.ErrDenied, "node", "Your Lightning node refuses to pay with this macaroon.", "Run \"htlcdash wallet bake\" for one that may."},
	{lightning.ErrInFlight, "payment", "A payment is on its way and its outcome is not known yet.", "Wait. Nothing is paid twice."},
	{lightning.ErrFailed, "payment", "A payment did not go through. No money moved.", "It is tried again. If it stays so, the channel may lack balance: see \"htlcdash doctor\"."},
	{htlcdash.ErrCorrupt, "provider", "What came is not what the publisher signed.", "Nothing was shown. Try another provider."},
	{errHold, "slow", "The next segment is not here yet.", "It is still on its way. If this lasts, choose a lower quality or another provider."},
	{context.DeadlineExceeded, "slow", "The provider does not answer in time.", "It is tried again."},
}

// explain says in plain words what an error means to a viewer. It never quotes
// the error: that goes to the log.
func explain(err error) Trouble {
	for _, t := range troubles {
		if errors.Is(err, t.err) {
			return Trouble{Kind: t.kind, Text: t.text, Then: t.then}
		}
	}
	return Trouble{Kind: "provider", Text: "The provider cannot be reached, or has not what it should.", Then: "It is tried again. If it stays so, look at the log of the proxy."}
}

// note keeps what went wrong last, for the page.
func (f *film) note(err error) {
	if errors.Is(err, htlcdash.ErrNotFound) || errors.Is(err, context.Canceled) {
		return // a player asks past the end, or left
	}
	t := explain(err)
	t.At = time.Now()
	f.proxy.log.Warn("a player has to wait", "title", f.name, "why", t.Kind, "error", err)
	f.mu.Lock()
	f.trouble = t
	f.mu.Unlock()
	f.proxy.changed()
}

// settle forgets trouble that is over.
func (f *film) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = Trouble{}
}
