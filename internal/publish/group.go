package publish

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
)

// ErrGrouping means that segments cannot be grouped so.
var ErrGrouping = errors.New("grouping")

// A Grouping says how many consecutive segments of a Representation one key
// opens. The zero value: one.
//
// Each key may come with a proof of [ProofSize], so segments should not be much
// smaller than that. But a key is paid for as a whole: who switches to another
// quality, jumps, or leaves within a group has paid for what is left of it.
type Grouping struct {
	Auto   bool          // as many as make a proof a tenth of the bytes, see autoLimit
	Length time.Duration // as many as fit in it; whatever Auto says
}

// ProofSize is about what the proof for one key takes, in bytes, at 80 bits
// (internal/proof).
const ProofSize = 30_500

// autoShare is how many times larger than a proof a group should be.
const autoShare = 10

// autoLimit bounds what is grouped by itself. Sound is rarely switched, and
// costs little. Pictures are switched all the time by a player that adapts to
// the network, each time in the middle of two groups, so their groups stay
// within what a player has in its buffer anyway; low rungs then have a larger
// share of proofs.
func autoLimit(contentType string) time.Duration {
	if contentType == "video" {
		return 10 * time.Second
	}
	return 45 * time.Second
}

// UnmarshalText reads "none", "auto", or a length such as "20s".
func (g *Grouping) UnmarshalText(b []byte) error {
	*g = Grouping{}
	switch s := strings.TrimSpace(string(b)); s {
	case "none":
		return nil
	case "auto":
		g.Auto = true
		return nil
	default:
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return fmt.Errorf("%w: %q: want \"auto\", \"none\" or a length such as \"20s\"", ErrGrouping, s)
		}
		g.Length = d
		return g.check()
	}
}

func (g Grouping) check() error {
	if g.Length < 0 || g.Length > htlcdash.MaxGroupTime {
		return fmt.Errorf("%w: %v under one key: want at most %v", ErrGrouping, g.Length, htlcdash.MaxGroupTime)
	}
	return nil
}

// split cuts the segments of rep into groups. As far as bounds allow, all have
// as many segments: then few price runs are enough for the MPD.
func (g Grouping) split(rep *dash.Representation, lengths []int64) (groups []htlcdash.Group) {
	count, limit := g.most(rep, lengths)
	var length time.Duration
	for i, s := range rep.Segments {
		d := s.Duration.Round(time.Millisecond)
		if n := len(groups); n > 0 && groups[n-1].Count < count && length+d <= limit {
			groups[n-1].Count++
			length += d
			continue
		}
		groups = append(groups, htlcdash.Group{First: i, Count: 1})
		length = d
	}
	return groups
}

// most returns the most segments of rep for one key, and how long they may be.
func (g Grouping) most(rep *dash.Representation, lengths []int64) (count int, limit time.Duration) {
	n := len(rep.Segments)
	var bytes int64
	var length time.Duration
	for i, s := range rep.Segments {
		bytes += lengths[i]
		length += s.Duration
	}
	enough := n // segments for one key, of which a proof is a small part
	switch {
	case g.Length > 0:
		limit = g.Length
	case g.Auto:
		limit = autoLimit(rep.ContentType)
		want := autoShare * ProofSize * int64(n)
		enough = int(min(int64(n), (want+bytes-1)/max(bytes, 1)))
	default:
		return 1, 0
	}
	most := htlcdash.MaxGroup
	if length > 0 {
		most = max(1, min(most, int(limit*time.Duration(n)/length)))
	}
	// All groups are as large as each other, and large enough if they may be.
	groups := max(1, n/max(enough, 1))
	if count = (n + groups - 1) / groups; count > most {
		groups = (n + most - 1) / most
		count = (n + groups - 1) / groups
	}
	return count, limit
}
