// Package agent decides what to buy next, so that a viewer never thinks of
// prices: which rung of a film's coming segment, and when.
//
// A [Policy] is made for one title and answers one question, again and again:
//
//	what is known                    what is decided
//	State: buffers, money left,  ->  Decision: rung of the segment that is due,
//	downloads so far                 and how long to wait before it is fetched
//
// It is pure: no clock, no network, no files. The same state gives the same
// decision, so the headless player, the proxy and the simulator (package
// replay) run the very same code.
//
// What is maximised is what a viewer sees, in decibels, under a budget:
//
//	sum(quality) - sum|change of quality| - waiting, by [Weights]
//
// which is Puffer's form (Yan et al., NSDI 2020) of the objective of MPC (Yin et
// al., SIGCOMM 2015). No policy is trusted with the money: [Affordable] lowers
// what it asks for until the rest of the film can be paid.
package agent

import (
	"time"

	"htlcdash/lightning"
)

// NoLimit is a budget that never binds.
const NoLimit = lightning.Msat(1<<63 - 1)

// A Kind is what a track carries.
type Kind string

// Kinds of tracks.
const (
	Video Kind = "video"
	Audio Kind = "audio"
)

// A Title is what may be bought of a film.
type Title struct {
	Name   string  `json:"name"`
	Tracks []Track `json:"tracks"` // that play together; the video first, if there is one
}

// A Track is segments that play one after another, over all Periods.
type Track struct {
	Kind     Kind      `json:"kind"`
	Segments []Segment `json:"segments"`
}

// A Segment is a stretch of time, and what may be bought to fill it.
type Segment struct {
	Duration time.Duration `json:"duration"` // nanoseconds
	Rungs    []Rung        `json:"rungs"`    // at least one, ascending by bandwidth
}

// A Rung is one Representation of a segment.
type Rung struct {
	ID      string         `json:"id"`               // of the Representation
	Size    int64          `json:"size"`             // bytes that are fetched
	Price   lightning.Msat `json:"price"`            // of the key
	First   int            `json:"first"`            // index of the first segment that the key opens: this one's, unless the key opens a group
	Quality float64        `json:"quality"`          // decibel against the source, or what stands for it
	Height  int            `json:"height,omitempty"` // lines of a picture, 0 if not known
	Rate    int64          `json:"rate,omitempty"`   // bit/s of sound as declared, 0 if not known
}

// Weights say what a viewer minds.
type Weights struct {
	Quality map[Kind]float64 `json:"quality"` // of a decibel; a kind that is not here counts 1
	Switch  float64          `json:"switch"`  // of a decibel of change between segments
	Stall   float64          `json:"stall"`   // decibel for a second of waiting, the wait for the start included
}

// Standard are the weights of Puffer's software.
var Standard = Weights{Switch: 1, Stall: 20}

// Of is the weight of a decibel of a kind.
func (w Weights) Of(k Kind) float64 {
	if f, ok := w.Quality[k]; ok {
		return f
	}
	return 1
}

// A Download is one that ended.
type Download struct {
	At   time.Duration // when it was asked for, since the player began
	Took time.Duration // until the last byte was here
	Size int64         // bytes that came
}

// Rate is its throughput in bit/s, the wait for the first byte included.
func (d Download) Rate() float64 { return float64(d.Size) * 8 / max(d.Took.Seconds(), 1e-3) }

// A State is what is known when a segment is due.
type State struct {
	Now     time.Duration   // since the player began
	Track   int             // whose segment is due
	Next    []int           // by track: index of the segment that is due
	Last    []int           // by track: rung of the segment before; -1 at the beginning
	Buffer  []time.Duration // by track: media in hand and not yet played
	Coming  []time.Duration // by track: media whose bytes are here and whose keys are not; nil: none
	Most    time.Duration   // that a buffer may hold
	Playing bool            // false until it has started
	Left    lightning.Msat  // that may still be spent on the title
	Past    []Download      // oldest first; the last few hundred are enough
	Prior   float64         // bit/s: what an earlier session measured, 0 if nothing is known
}

// A Decision is what to do about the segment that is due.
type Decision struct {
	Rung int
	Wait time.Duration // before it is fetched; a full buffer makes a player wait in any case
}

// A Policy decides for one title. Its methods may be called by many goroutines
// at once; what it returns depends on the State alone.
type Policy interface {
	Decide(State) Decision
}

// A Progress is a download under way.
type Progress struct {
	Rung  int
	Since time.Duration // it was asked for
	Got   int64         // bytes
}

// An Abandoner may give up a download that is too slow for another rung. Bytes
// are lost by that, money is not: a key is paid for when its bytes are here.
type Abandoner interface {
	Policy
	// Abandon is asked now and then while a segment is on its way. With ok the
	// download is given up and rung is fetched instead.
	Abandon(State, Progress) (rung int, ok bool)
}
