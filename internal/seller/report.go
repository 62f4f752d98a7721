package seller

import (
	"time"

	"htlcdash"
	"htlcdash/lightning"
)

// A Report is what the operator's page shows: GET /api/provider, and the data
// of each "state" event of GET /api/events. Amounts are in msat, times are
// RFC 3339 in UTC.
type Report struct {
	Node    NodeReport `json:"node"`
	Started time.Time  `json:"started"`
	Now     time.Time  `json:"now"`

	Earned      lightning.Msat `json:"earned_msat"`       // ever
	EarnedToday lightning.Msat `json:"earned_today_msat"` // since midnight, local time
	Sales       int64          `json:"sales"`             // settled, ever
	SalesToday  int64          `json:"sales_today"`
	OpenOffers  int            `json:"open_offers"`  // can still be paid
	BytesServed int64          `json:"bytes_served"` // bodies to viewers, since Started
	Requests    int64          `json:"requests"`     // of viewers, since Started

	Titles []TitleReport `json:"titles"`
	Recent []SaleReport  `json:"recent"` // newest first, at most 50
	Peers  []PeerReport  `json:"peers"`  // by capacity, largest first
}

// A NodeReport tells of the provider's Lightning node. Error is empty while it
// answers.
type NodeReport struct {
	ID    string `json:"id"`
	Alias string `json:"alias"`
	Error string `json:"error,omitempty"`
}

// A TitleReport tells of one title.
type TitleReport struct {
	Name            string                 `json:"name"`
	ID              htlcdash.TitleID       `json:"id"`
	Publisher       htlcdash.PublisherID   `json:"publisher"`
	MPD             string                 `json:"mpd"` // path on the public listener
	Duration        int64                  `json:"duration_ms"`
	Prepaid         bool                   `json:"prepaid"` // sold to foreign clients too
	Missing         int                    `json:"missing"` // segments without key or sealed bytes here
	Earned          lightning.Msat         `json:"earned_msat"`
	EarnedToday     lightning.Msat         `json:"earned_today_msat"`
	Sales           int64                  `json:"sales"`
	Representations []RepresentationReport `json:"representations"`
}

// A RepresentationReport tells of one rung.
type RepresentationReport struct {
	ID          string         `json:"id"`
	ContentType string         `json:"content_type"` // "video", "audio", "text", "image"
	Bandwidth   int64          `json:"bandwidth"`    // bit/s
	Width       int            `json:"width,omitempty"`
	Height      int            `json:"height,omitempty"`
	Price       lightning.Msat `json:"price_msat"` // of all its segments here
	Earned      lightning.Msat `json:"earned_msat"`
	Sales       int64          `json:"sales"`
	Sold        []uint32       `json:"sold"` // sales of each segment, by index
}

// A SaleReport tells of one settled sale.
type SaleReport struct {
	At             time.Time      `json:"at"`
	Title          string         `json:"title"` // its name; its id if it is no longer here
	Representation string         `json:"representation"`
	Segment        int            `json:"segment"`
	Scheme         string         `json:"scheme"` // "salted" or "prepaid"
	Amount         lightning.Msat `json:"amount_msat"`
}

// A PeerReport tells of one channel of the provider's node.
type PeerReport struct {
	Node     lightning.NodeID       `json:"node"`
	Channel  lightning.ChannelPoint `json:"channel"`
	Capacity lightning.Msat         `json:"capacity_msat"`
	Local    lightning.Msat         `json:"local_msat"`  // ours
	Remote   lightning.Msat         `json:"remote_msat"` // can still be received
	InFlight int                    `json:"in_flight"`   // HTLCs
	Active   bool                   `json:"active"`
}
