package market

import (
	"time"

	"htlcdash/lightning"
)

// A Kind is how a provider did. The zero Kind teaches nothing.
type Kind int

// Kinds of outcomes. The later ones end in a ban.
const (
	// Delivered: the key was bought and opens. It may have come too late; Took
	// says that.
	Delivered Kind = iota + 1
	// Late: it had not come after Took, and another one's was used, or none.
	Late
	// Quoted: it said a price, and was not asked for more.
	Quoted
	// Refused: it answered that it does not sell this.
	Refused
	// Silent: no connection, or no answer.
	Silent
	// Garbled: what came was not what was asked for, or not signed as it must
	// be. Nothing was paid.
	Garbled
	// Gouged: it asked for more than the ceiling, or than it had quoted.
	// Nothing was paid.
	Gouged
	// Hung: it holds a payment and neither takes it nor gives it back.
	Hung
	// Cheated: it took money, and the key does not open.
	Cheated
)

// An Outcome is what one provider did about one need.
type Outcome struct {
	Kind Kind
	// Took is how long it was waited for: offer, proof, payment and what bytes
	// come from it, but not what was ready before.
	Took time.Duration
	// Price and Ceiling are of the offer. Zero: there was none.
	Price, Ceiling lightning.Msat
	// Size is that of the need, in bytes. Zero: not known.
	Size int64
	// Group is that of the candidate.
	Group string
	// Reason is kept with a ban, for people.
	Reason string
}
