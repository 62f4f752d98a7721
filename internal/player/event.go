package player

import (
	"encoding/json"
	"time"

	"htlcdash/agent"
	"htlcdash/lightning"
)

// A What says what happened.
type What string

// What may happen.
const (
	Began     What = "began"     // it begins to fetch
	Fetched   What = "fetched"   // the bytes of a segment are here; its key may be on its way
	Segment   What = "segment"   // a segment can be played
	Start     What = "start"     // the first picture
	Switch    What = "switch"    // a track is fetched in another quality than before
	Abandoned What = "abandoned" // a download was given up for another quality
	Retry     What = "retry"     // something failed, and is tried again
	Stall     What = "stall"     // the picture stands still
	Resume    What = "resume"    // it moves again
	Tick      What = "tick"      // a quarter of a second went by
	End       What = "end"
)

// An Event tells what happened, and how things stand. Times count from when the
// player began, by its clock.
type Event struct {
	What What
	At   time.Duration

	// Of what happened to a segment; Kind is empty of all else.
	Kind    agent.Kind
	Track   int
	Index   int
	Rung    int
	Rungs   int    // there are for this segment
	ID      string // of the Representation
	Height  int
	Quality float64 // decibel
	Media   time.Duration
	Bytes   int64
	Price   lightning.Msat // of the key; 0 if it was owned
	Took    time.Duration  // until its bytes were here
	Pay     time.Duration  // from then until its key was
	Why     string         // of a retry, or of the end
	// Thought is why the policy decided so, if it tells.
	Thought *agent.Thought

	// How things stand.
	Position time.Duration   // of the picture
	Length   time.Duration   // of the title
	Buffers  []time.Duration // by track
	Moving   bool            // the picture
	Stalled  time.Duration   // in all
	Stalls   int
	Left     lightning.Msat // [agent.NoLimit] if nothing bounds it
	Spent    lightning.Msat
	Fees     lightning.Msat
	All      int64   // bytes of all downloads
	Rate     float64 // bit/s of the last download

	Result *Result // at the end
}

// MarshalJSON gives a line for programs: times in milliseconds, money in msat.
func (e Event) MarshalJSON() ([]byte, error) {
	type wire struct {
		Event    What            `json:"event"`
		At       float64         `json:"at_ms"`
		Kind     agent.Kind      `json:"kind,omitempty"`
		Track    *int            `json:"track,omitempty"`
		Index    *int            `json:"index,omitempty"`
		Rung     *int            `json:"rung,omitempty"`
		ID       string          `json:"id,omitempty"`
		Height   int             `json:"height,omitempty"`
		Quality  float64         `json:"quality_db,omitempty"`
		Media    float64         `json:"media_ms,omitempty"`
		Bytes    int64           `json:"bytes,omitempty"`
		Price    lightning.Msat  `json:"price_msat"`
		Took     float64         `json:"took_ms,omitempty"`
		Pay      float64         `json:"pay_ms,omitempty"`
		Lambda   float64         `json:"lambda_db_per_sat,omitempty"`
		Forecast float64         `json:"forecast_bps,omitempty"`
		Why      string          `json:"why,omitempty"`
		Position float64         `json:"position_ms"`
		Buffers  []float64       `json:"buffer_ms"`
		Stalled  float64         `json:"stall_ms"`
		Left     *lightning.Msat `json:"left_msat,omitempty"`
		Spent    lightning.Msat  `json:"spent_msat"`
		Rate     float64         `json:"rate_bps,omitempty"`
		Result   *Result         `json:"result,omitempty"`
	}
	w := wire{
		Event: e.What, At: ms(e.At), Kind: e.Kind, ID: e.ID, Height: e.Height, Quality: e.Quality, Media: ms(e.Media), Bytes: e.Bytes,
		Price: e.Price, Took: ms(e.Took), Pay: ms(e.Pay), Why: e.Why, Position: ms(e.Position), Stalled: ms(e.Stalled),
		Spent: e.Spent, Rate: e.Rate, Result: e.Result,
	}
	for _, b := range e.Buffers {
		w.Buffers = append(w.Buffers, ms(b))
	}
	if e.Kind != "" {
		w.Track, w.Index, w.Rung = &e.Track, &e.Index, &e.Rung
	}
	if e.Thought != nil {
		w.Lambda, w.Forecast = e.Thought.Price*float64(lightning.Sat), e.Thought.Rate
	}
	if e.Left != agent.NoLimit {
		w.Left = &e.Left
	}
	return json.Marshal(w)
}

// MarshalJSON gives the account for programs: times in milliseconds, money in
// msat, quality in decibel.
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Utility  float64        `json:"utility"`
		Quality  float64        `json:"quality_db"`
		Changes  float64        `json:"changes_db"`
		Switches int            `json:"switches"`
		Start    float64        `json:"start_ms"`
		Stall    float64        `json:"stall_ms"`
		Stalls   int            `json:"stalls"`
		Played   float64        `json:"played_ms"`
		Length   float64        `json:"length_ms"`
		Spent    lightning.Msat `json:"spent_msat"`
		Fees     lightning.Msat `json:"fees_msat"`
		Bytes    int64          `json:"bytes"`
		Wasted   int64          `json:"wasted_bytes"`
		Rungs    [][]int        `json:"rungs"`
	}{
		r.Utility, r.Quality, r.Changes, r.Switches, ms(r.Start), ms(r.Stall), r.Stalls, ms(r.Played), ms(r.Length),
		r.Spent, r.Fees, r.Bytes, r.Wasted, r.Rungs,
	})
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
