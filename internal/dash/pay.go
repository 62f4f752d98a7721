package dash

import (
	"htlcdash"
	"htlcdash/lightning"
)

// Namespace is the namespace of our extension, and its schemeIdUri.
const Namespace = "urn:htlcdash:pay:2026"

// MaxRuns is how many price runs a Representation carries in the MPD. Where
// prices change more often, they stand in the seal list only.
const MaxRuns = 256

// Pay is what the title says of one Representation.
type Pay struct {
	List       string         // path of the seal list, relative to the MPD
	ListDigest [32]byte       // SHA-256 of the seal list
	InitDigest [32]byte       // SHA-256 of Init; zero without an init segment
	Count      int            // segments
	Total      lightning.Msat // price of all segments
	Max        lightning.Msat // price of the dearest segment
	Runs       []PriceRun     // prices in order; nil if there would be more than [MaxRuns]
}

// A PriceRun is consecutive segments of one price.
type PriceRun struct {
	Count int // segments, at least 1
	Price lightning.Msat
}

// titlePay is what the MPD level of our extension says.
type titlePay struct {
	publisher *htlcdash.PublisherID
	providers []string
}

// Publisher returns the publisher that the MPD names. Nothing is proved by
// that until its signature verifies.
func (m *Manifest) Publisher() (htlcdash.PublisherID, bool) {
	if m.pay.publisher == nil {
		return htlcdash.PublisherID{}, false
	}
	return *m.pay.publisher, true
}

// Providers returns the first addresses where the title is sold.
func (m *Manifest) Providers() []string { return m.pay.providers }
