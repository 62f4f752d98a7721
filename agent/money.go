package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"htlcdash/lightning"
)

// ErrTitle means that a title makes no sense.
var ErrTitle = errors.New("agent: not a title")

// Bounds of a title.
const (
	MaxTracks   = 8
	MaxSegments = 1 << 17              // of a track
	MaxRungs    = 64                   // of a segment
	MaxSize     = 1 << 40              // bytes of a segment
	MaxLength   = 366 * 24 * time.Hour // of a track; with it no sum of times overflows
	maxQuality  = 1000                 // decibel
	MaxJSON     = 1 << 28              // bytes
)

// ParseTitle reads a title from JSON. The error matches [ErrTitle].
func ParseTitle(b []byte) (*Title, error) {
	if len(b) > MaxJSON {
		return nil, fmt.Errorf("%w: %d bytes, want %d at most", ErrTitle, len(b), MaxJSON)
	}
	t := new(Title)
	if err := json.Unmarshal(b, t); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTitle, err)
	}
	if err := t.Check(); err != nil {
		return nil, err
	}
	return t, nil
}

// Check reports what is wrong with a title; the error matches [ErrTitle].
func (t *Title) Check() error {
	if len(t.Tracks) == 0 || len(t.Tracks) > MaxTracks {
		return fmt.Errorf("%w: %d tracks, want 1 to %d", ErrTitle, len(t.Tracks), MaxTracks)
	}
	for k, track := range t.Tracks {
		if n := len(track.Segments); n == 0 || n > MaxSegments {
			return fmt.Errorf("%w: track %d has %d segments, want 1 to %d", ErrTitle, k, n, MaxSegments)
		}
		length := time.Duration(0)
		for i := range track.Segments {
			if err := track.check(i); err != nil {
				return fmt.Errorf("%w: track %d, segment %d: %w", ErrTitle, k, i, err)
			}
			if length += track.Segments[i].Duration; length > MaxLength {
				return fmt.Errorf("%w: track %d is longer than %v", ErrTitle, k, MaxLength)
			}
		}
	}
	return nil
}

func (t *Track) check(index int) error {
	s := t.Segments[index]
	if s.Duration <= 0 || s.Duration > MaxLength {
		return fmt.Errorf("it takes %v", s.Duration)
	}
	if n := len(s.Rungs); n == 0 || n > MaxRungs {
		return fmt.Errorf("%d rungs, want 1 to %d", n, MaxRungs)
	}
	for r, g := range s.Rungs {
		switch {
		case g.Size < 0 || g.Size > MaxSize || g.Price < 0 || g.Price > lightning.Msat(math.MaxInt64/(MaxTracks*MaxSegments)):
			return fmt.Errorf("rung %d: size or price out of range", r)
		case !(math.Abs(g.Quality) <= maxQuality): // nor is it NaN
			return fmt.Errorf("rung %d: a quality of %v dB", r, g.Quality)
		case g.First != index && !t.opened(index, r):
			return fmt.Errorf("rung %d: its key opens from %d, which is neither here nor where that of the segment before does", r, g.First)
		}
	}
	return nil
}

// opened tells whether the key of a rung opens the segment before, too.
func (t *Track) opened(index, rung int) bool {
	if index == 0 || rung >= len(t.Segments[index-1].Rungs) {
		return false
	}
	return t.Segments[index-1].Rungs[rung].First == t.Segments[index].Rungs[rung].First
}

// Cost is what a rung of a segment costs a player that played rung last of the
// segment before, or -1: nothing, if the key is the same.
func (t *Track) Cost(index, rung, last int) lightning.Msat {
	r := t.Segments[index].Rungs[rung]
	if rung == last && r.First < index {
		return 0
	}
	return r.Price
}

// Weight is how many bytes stand, at most, for a msat of the prices of a track's rung,
// each key counted once: what bytes cost besides is no more than that for each msat
// that is spent on keys. Rungs without a price do not count.
func (t *Title) Weight() (most float64) {
	for _, track := range t.Tracks {
		var bytes, price [MaxRungs]float64
		for i, s := range track.Segments {
			for r, g := range s.Rungs {
				bytes[r] += float64(g.Size)
				if g.First == i {
					price[r] += float64(g.Price)
				}
			}
		}
		for r := range bytes {
			if price[r] > 0 {
				most = max(most, bytes[r]/price[r])
			}
		}
	}
	return most
}

// Bytes is how many bytes the whole title has on its lowest rungs and on its best.
func (t *Title) Bytes() (lowest, best int64) {
	for _, track := range t.Tracks {
		for _, s := range track.Segments {
			lowest += s.Rungs[0].Size
			best += s.Rungs[len(s.Rungs)-1].Size
		}
	}
	return lowest, best
}

// rungs counts those of all segments.
func (t *Track) rungs() (n int) {
	for _, s := range t.Segments {
		n += len(s.Rungs)
	}
	return n
}

// A Floor knows what the cheapest way to the end of a title costs, from every
// segment on. It is not changed; many goroutines may ask it at once.
type Floor struct {
	title *Title
	rest  [][]lightning.Msat // by track and segment, without a key in hand
	end   [][][]int          // by track, segment and rung: the first segment that the key does not open
}

// NewFloor returns the Floor of a title that is not changed afterwards.
func NewFloor(t *Title) *Floor {
	f := &Floor{title: t}
	for _, track := range t.Tracks {
		n := len(track.Segments)
		rest, end, room := make([]lightning.Msat, n+1), make([][]int, n), make([]int, track.rungs())
		for i := n - 1; i >= 0; i-- {
			rungs := track.Segments[i].Rungs
			end[i], room = room[:len(rungs):len(rungs)], room[len(rungs):]
			rest[i] = math.MaxInt64
			for r, g := range rungs {
				end[i][r] = i + 1
				if i+1 < n && r < len(track.Segments[i+1].Rungs) && track.opened(i+1, r) {
					end[i][r] = end[i+1][r]
				}
				rest[i] = min(rest[i], g.Price+rest[end[i][r]])
			}
		}
		f.rest, f.end = append(f.rest, rest), append(f.end, end)
	}
	return f
}

// Rest is what the cheapest way from a state to the end of all tracks costs.
func (f *Floor) Rest(s State) (sum lightning.Msat) {
	for k := range f.title.Tracks {
		sum += f.track(k, s.Next[k], s.Last[k])
	}
	return sum
}

// track is the cheapest way of one track from a segment on, with the key of
// rung last of the segment before in hand.
func (f *Floor) track(k, next, last int) lightning.Msat {
	rest := f.rest[k][next]
	if next == len(f.end[k]) || last < 0 || last >= len(f.end[k][next]) {
		return rest
	}
	if f.title.Tracks[k].Segments[next].Rungs[last].First < next {
		rest = min(rest, f.rest[k][f.end[k][next][last]])
	}
	return rest
}

// Affordable returns the best rung, no better than the wanted one, after which
// the rest of the title can still be paid. If there is none, ok is false and
// rung is the one that leads to the end for the least money.
func (f *Floor) Affordable(s State, wanted int) (rung int, ok bool) {
	track, next := &f.title.Tracks[s.Track], s.Next[s.Track]
	others := lightning.Msat(0)
	for k := range f.title.Tracks {
		if k != s.Track {
			others += f.track(k, s.Next[k], s.Last[k])
		}
	}
	least := lightning.Msat(math.MaxInt64)
	for r := len(track.Segments[next].Rungs) - 1; r >= 0; r-- {
		total := track.Cost(next, r, s.Last[s.Track]) + f.track(s.Track, next+1, r) + others
		if r <= wanted && total <= s.Left {
			return r, true
		}
		if total < least {
			rung, least = r, total
		}
	}
	return rung, least <= s.Left
}
