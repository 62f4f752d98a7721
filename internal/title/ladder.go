package title

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"htlcdash"
	"htlcdash/agent"
	"htlcdash/internal/dash"
)

// A Ladder is what an agent may buy of a title, and the way back from what it
// decides to what is fetched. It is not changed; many goroutines may ask it at
// once.
//
// It has the video, if there is one, and the sound in one language. Of each
// Period it takes one AdaptationSet of a kind, and of that the Representations
// that are cut where its first one is, since a player changes rungs at a cut.
// A Period that lacks a kind is a gap: segments with a single rung that has no
// ID, no bytes and no price.
type Ladder struct {
	Title *agent.Title

	parts  [][]part        // by track, in presentation order
	places map[string]spot // by Representation
}

// A part is a track within one Period.
type part struct {
	first int                    // index in the track
	reps  []*dash.Representation // ascending by bandwidth; none in a gap
}

type spot struct{ track, first, rung int }

// At returns what rung of a track's segment is: a Representation and the index
// of its segment. In a gap rep is nil.
func (l *Ladder) At(track, segment, rung int) (rep *dash.Representation, index int) {
	parts := l.parts[track]
	i, found := slices.BinarySearchFunc(parts, segment, func(p part, s int) int { return cmp.Compare(p.first, s) })
	if !found {
		i--
	}
	if parts[i].reps == nil {
		return nil, 0
	}
	return parts[i].reps[rung], segment - parts[i].first
}

// Find is the way back of [Ladder.At]. Without ok the Representation is not
// part of the ladder.
func (l *Ladder) Find(rep string, index int) (track, segment, rung int, ok bool) {
	s, ok := l.places[rep]
	return s.track, s.first + index, s.rung, ok
}

// Ladder loads the seal lists that it needs and returns the ladder with the
// sound in a language, a BCP 47 tag or the begin of one; the first sound that
// the MPD has if there is none, or if language is empty. Sizes are those of the
// sealed bytes. Errors are those of [Title.Segments], or match
// [htlcdash.ErrFormat] if the title has neither video nor sound.
func (t *Title) Ladder(ctx context.Context, language string) (*Ladder, error) {
	return newLadder(t.Manifest, language, func(rep string) ([]htlcdash.Segment, error) {
		return t.Segments(ctx, rep)
	})
}

// OpenLadder is [Title.Ladder] of a resolved MPD that asks no money. Sizes are
// estimated by bandwidth where no index tells them.
func OpenLadder(m *dash.Manifest, language string) (*Ladder, error) {
	return newLadder(m, language, nil)
}

type sealsOf func(rep string) ([]htlcdash.Segment, error)

func newLadder(m *dash.Manifest, language string, seals sealsOf) (*Ladder, error) {
	l := &Ladder{Title: &agent.Title{Name: m.Title()}, places: map[string]spot{}}
	for _, kind := range []agent.Kind{agent.Video, agent.Audio} {
		sets := choose(m, kind, language)
		if slices.ContainsFunc(sets, func(s []*dash.Representation) bool { return s != nil }) {
			if err := l.add(m, kind, sets, seals); err != nil {
				return nil, err
			}
		}
	}
	if err := l.Title.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", htlcdash.ErrFormat, err)
	}
	return l, nil
}

// choose returns, by Period, the Representations of a kind to choose from,
// ascending by bandwidth; nil where there are none.
func choose(m *dash.Manifest, kind agent.Kind, language string) (sets [][]*dash.Representation) {
	for _, r := range m.Representations() {
		for len(sets) <= r.Period {
			sets = append(sets, nil)
		}
		if r.ContentType != string(kind) || len(r.Segments) == 0 {
			continue
		}
		if kind == agent.Audio && language == "" {
			language = r.Lang
		}
		set := sets[r.Period]
		switch {
		case set == nil, kind == agent.Audio && !speaks(set[0].Lang, language) && speaks(r.Lang, language):
			sets[r.Period] = []*dash.Representation{r}
		case set[0].Set == r.Set && alike(set[0], r):
			sets[r.Period] = append(set, r)
		}
	}
	for _, set := range sets {
		slices.SortStableFunc(set, func(a, b *dash.Representation) int { return cmp.Compare(a.Bandwidth, b.Bandwidth) })
	}
	return sets
}

// speaks reports whether a tag is the wanted language or a kind of it.
func speaks(tag, wanted string) bool {
	tag, wanted = strings.ToLower(tag), strings.ToLower(wanted)
	return tag == wanted || wanted != "" && strings.HasPrefix(tag, wanted+"-")
}

// alike reports whether a player can change from one Representation to the
// other at each segment.
func alike(a, b *dash.Representation) bool {
	const slack = 100 * time.Millisecond // of starts that were rounded
	return slices.EqualFunc(a.Segments, b.Segments, func(x, y dash.MediaSegment) bool {
		return (x.Start - y.Start).Abs() <= slack
	})
}

// add makes a track of one kind.
func (l *Ladder) add(m *dash.Manifest, kind agent.Kind, sets [][]*dash.Representation, seals sealsOf) error {
	track, k := agent.Track{Kind: kind}, len(l.Title.Tracks)
	var parts []part
	for period, reps := range sets {
		first := len(track.Segments)
		more, err := segments(kind, first, reps, seals)
		if err != nil {
			return err
		}
		if reps == nil {
			more = gap(m, period, first)
		}
		if len(more) == 0 {
			continue
		}
		track.Segments = append(track.Segments, more...)
		parts = append(parts, part{first, reps})
		for r, rep := range reps {
			l.places[rep.ID] = spot{k, first, r}
		}
	}
	l.Title.Tracks = append(l.Title.Tracks, track)
	l.parts = append(l.parts, parts)
	return nil
}

// gap fills a Period that lacks a kind by what else plays in it.
func gap(m *dash.Manifest, period, first int) (out []agent.Segment) {
	for _, r := range m.Representations() {
		if r.Period != period || r.ContentType != "video" && r.ContentType != "audio" {
			continue
		}
		for i, s := range r.Segments {
			out = append(out, agent.Segment{Duration: duration(s), Rungs: []agent.Rung{{First: first + i}}})
		}
		return out
	}
	return nil
}

// duration is that of a segment, which an agent wants to be above 0: an MPD may
// name segments behind the end.
func duration(s dash.MediaSegment) time.Duration { return max(s.Duration, time.Millisecond) }

// segments are those of one Period, the first of which has that index in the
// track.
func segments(kind agent.Kind, first int, reps []*dash.Representation, seals sealsOf) ([]agent.Segment, error) {
	if reps == nil {
		return nil, nil
	}
	out := make([]agent.Segment, len(reps[0].Segments))
	for i, s := range reps[0].Segments {
		out[i].Duration = duration(s)
	}
	measured := true
	for _, rep := range reps {
		rungs, err := rungsOf(rep, first, seals)
		if err != nil {
			return nil, err
		}
		measured = fill(rungs) && measured
		for i := range out {
			if kind == agent.Audio {
				rungs[i].Rate = rep.Bandwidth
			}
			out[i].Rungs = append(out[i].Rungs, rungs[i])
		}
	}
	if !measured { // what was measured cannot stand beside what was not
		for i := range out {
			for r, rep := range reps {
				out[i].Rungs[r].Quality = agent.Estimate(kind, rep.Bandwidth, rep.Height)
			}
		}
	}
	return out, nil
}

// rungsOf are the segments of one Representation. Quality is 0 where it was not
// measured.
func rungsOf(rep *dash.Representation, first int, seals sealsOf) ([]agent.Rung, error) {
	out := make([]agent.Rung, len(rep.Segments))
	for i, s := range rep.Segments {
		size := cmp.Or(s.Length, int64(float64(rep.Bandwidth)/8*s.Duration.Seconds()))
		out[i] = agent.Rung{ID: rep.ID, Size: size, First: first + i, Height: rep.Height}
	}
	if seals == nil {
		return out, nil
	}
	segs, err := seals(rep.ID)
	if err != nil {
		return nil, err
	}
	for i, s := range segs {
		out[i].Size = s.SealedBlob().Length
		out[i].Price = s.Price
		out[i].First = first + s.Group.First
		out[i].Quality = float64(s.Quality) / 100
	}
	return out, nil
}

// fill gives to the segments that were not measured, short ones at the end as
// a rule, the mean of the others. It reports whether there are others.
func fill(rungs []agent.Rung) bool {
	sum, n := 0.0, 0
	for _, r := range rungs {
		if r.Quality > 0 {
			sum, n = sum+r.Quality, n+1
		}
	}
	for i := range rungs {
		if n > 0 && rungs[i].Quality == 0 {
			rungs[i].Quality = sum / float64(n)
		}
	}
	return n > 0
}
