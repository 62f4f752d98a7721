package proxy

import (
	"context"
	"errors"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/lightning"
)

// Trouble is why a player cannot have what it asked for.
type Trouble struct {
	Kind string    `json:"kind"` // "budget", "stopped", "price", "cheated", "node", "payment", "provider", "slow"
	Text string    `json:"text"` // for people: what is wrong
	Then string    `json:"then"` // and what to do
	At   time.Time `json:"at"`
}

// troubles are tried in order; the first whose error matches tells.
var troubles = []struct {
	err              error
	kind, text, then string
}{
	{buyer.ErrStopped, "stopped", "Stopped: nothing is paid.", "What is bought already is kept."},
	{buyer.ErrBudget, "budget", "The budget for this film is used up.", "Raise it to go on."},
	{buyer.ErrCheated, "cheated", "A provider took a payment and gave a wrong key.", "It is banned and gets nothing more. Another provider is asked, if there is one."},
	{buyer.ErrPrice, "price", "The provider asks more than the publisher allows.", "Nothing was paid. Another provider may ask less."},
	{lightning.ErrUnavailable, "node", "Your Lightning node does not answer.", "Start it, or run \"htlcdash doctor\". What is on its way is settled once it is back."},
	{lightning.ErrDenied, "node", "Your Lightning node refuses to pay with this macaroon.", "Run \"htlcdash wallet bake\" for one that may."},
	{lightning.ErrInFlight, "payment", "A payment is on its way, and its outcome is not known yet.", "Wait a moment. Nothing is paid twice."},
	{lightning.ErrFailed, "payment", "A payment did not go through. No money moved.", "It is tried again. If this lasts, the channel may lack balance: run \"htlcdash doctor\"."},
	{htlcdash.ErrCorrupt, "provider", "What came is not what the publisher signed.", "Nothing of it is shown. Try another provider."},
	{buyer.ErrTerms, "provider", "The provider's offer is not what it should be.", "Nothing was paid. Try another provider."},
	{errHold, "slow", "The next segment is not here yet.", "It is still on its way. If this lasts, the network or the provider is slow."},
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
	return Trouble{Kind: "provider", Text: "The provider does not answer, or has not what it should.", Then: "It is tried again. If this lasts, the proxy's log says why."}
}

// explain looks besides at which of the limits it is that binds.
func (f *film) explain(err error) Trouble {
	t := explain(err)
	if t.Kind != "budget" {
		return t
	}
	a := f.proxy.buyer.Account(f.id)
	switch left := a.Budget - a.Spent - a.Reserved; {
	case a.DayLeft < left:
		t.Text, t.Then = "The limit for a day is used up.", "It frees itself within 24 hours, or set another one in the proxy's configuration."
	case left > f.dearest():
		t.Text, t.Then = "A segment costs more than one segment may.", "Choose a lower quality, or set another limit for a segment in the proxy's configuration."
	}
	return t
}

// dearest is the most that a segment of the film may cost.
func (f *film) dearest() (m lightning.Msat) {
	for _, rep := range f.reps {
		if rep.Pay != nil {
			m = max(m, rep.Pay.Max)
		}
	}
	return m
}

// quiet is how long the same trouble is not logged again: a player that asks
// again and again would fill the log.
const quiet = 10 * time.Second

// note keeps what went wrong last, for the page.
func (f *film) note(err error) Trouble {
	t := f.explain(err)
	if errors.Is(err, htlcdash.ErrNotFound) || errors.Is(err, context.Canceled) {
		return t // a player asks past the end, or left
	}
	t.At = time.Now()
	f.mu.Lock()
	again := f.trouble.Kind == t.Kind && t.At.Sub(f.logged) < quiet
	f.trouble = t
	if !again {
		f.logged = t.At
	}
	f.mu.Unlock()
	if !again {
		f.proxy.log.Warn("a player has to wait", "title", f.name, "why", t.Kind, "error", err)
	}
	f.proxy.changed()
	return t
}

// settle forgets trouble that is over.
func (f *film) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = Trouble{}
}
