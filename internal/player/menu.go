package player

import (
	"fmt"
	"math"
	"slices"
	"time"

	"htlcdash/agent"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// A Menu is what is played: a title, and what stands behind its rungs. It is not
// changed; its methods return others.
type Menu struct {
	*agent.Title
	Start  time.Duration // where in the presentation it begins
	pieces [][][]piece   // by track, segment and rung
}

// A piece is a segment of a Representation; the zero piece is a gap, for which
// nothing is fetched.
type piece struct {
	rep   *dash.Representation
	index int
}

// NewMenu returns the menu of what a ladder has.
func NewMenu(l *title.Ladder) Menu { return menuOf(l.Title, l.At) }

func menuOf(t *agent.Title, at func(track, segment, rung int) (*dash.Representation, int)) Menu {
	m := Menu{Title: t}
	for k, track := range t.Tracks {
		pieces := make([][]piece, len(track.Segments))
		for i, seg := range track.Segments {
			for r := range seg.Rungs {
				rep, index := at(k, i, r)
				pieces[i] = append(pieces[i], piece{rep, index})
			}
		}
		m.pieces = append(m.pieces, pieces)
	}
	return m
}

// Only returns the menu of the tracks of one kind. It fails if there are none.
func (m Menu) Only(kind agent.Kind) (Menu, error) {
	out := Menu{Title: &agent.Title{Name: m.Name}, Start: m.Start}
	for k, track := range m.Tracks {
		if track.Kind == kind {
			out.Tracks, out.pieces = append(out.Tracks, track), append(out.pieces, m.pieces[k])
		}
	}
	if len(out.Tracks) == 0 {
		return m, fmt.Errorf("this title has no %s", kind)
	}
	return out, nil
}

// Cut returns the menu of the segments that play between two times; to is the end
// of the title if it is 0. It fails if there are none.
func (m Menu) Cut(from, to time.Duration) (Menu, error) {
	out := Menu{Title: &agent.Title{Name: m.Name}, Start: -1}
	for k, track := range m.Tracks {
		first, last, at := -1, 0, m.Start
		for i, s := range track.Segments {
			if end := at + s.Duration; end > from && (to == 0 || at < to) {
				if last = i + 1; first < 0 {
					first = i
					if out.Start < 0 {
						out.Start = at
					}
				}
			}
			at += s.Duration
		}
		if first < 0 {
			return m, fmt.Errorf("nothing of its %s plays from %v to %v", track.Kind, from, to)
		}
		cut := agent.Track{Kind: track.Kind}
		for _, s := range track.Segments[first:last] {
			s.Rungs = slices.Clone(s.Rungs)
			for r := range s.Rungs {
				s.Rungs[r].First = max(s.Rungs[r].First-first, 0)
			}
			cut.Segments = append(cut.Segments, s)
		}
		out.Tracks, out.pieces = append(out.Tracks, cut), append(out.pieces, m.pieces[k][first:last])
	}
	return out, nil
}

// Owned returns the menu in which nothing is asked for keys that are owned.
func (m Menu) Owned(owned func(rep *dash.Representation, index int) bool) Menu {
	return m.each(func(p piece, g *agent.Rung) bool {
		if p.rep != nil && g.Price > 0 && owned(p.rep, p.index) {
			g.Price = 0
		}
		return true
	})
}

// Below returns the menu of the rungs whose key costs no more than limit. It fails
// if a segment has none.
func (m Menu) Below(limit lightning.Msat) (Menu, error) {
	out := m.each(func(_ piece, g *agent.Rung) bool { return g.Price <= limit })
	for _, track := range out.Tracks {
		for i, s := range track.Segments {
			if len(s.Rungs) == 0 {
				return m, fmt.Errorf("%w: each key for segment %d of the %s costs more than %v, which is the most for one key", ErrMoney, i, track.Kind, limit)
			}
		}
	}
	return out, nil
}

// Carried returns the menu in which the price of a key has that of carrying what it
// opens on top, where a MiB of sealed bytes costs so much.
func (m Menu) Carried(perMiB lightning.Msat) Menu {
	if perMiB == 0 {
		return m
	}
	type group struct {
		rep   *dash.Representation
		first int
	}
	opens := map[group]int64{} // bytes
	m.each(func(p piece, g *agent.Rung) bool {
		opens[group{p.rep, g.First}] += g.Size
		return true
	})
	return m.each(func(p piece, g *agent.Rung) bool {
		if p.rep != nil {
			g.Price += carriageOf(perMiB, opens[group{p.rep, g.First}])
		}
		return true
	})
}

// carriageOf is what so many bytes cost, rounded up.
func carriageOf(perMiB lightning.Msat, bytes int64) lightning.Msat {
	return lightning.Msat(math.Ceil(float64(perMiB) * float64(bytes) / (1 << 20)))
}

// each returns the menu of the rungs that keep keeps, as it changes them.
func (m Menu) each(keep func(p piece, g *agent.Rung) bool) Menu {
	out := Menu{Title: &agent.Title{Name: m.Name}, Start: m.Start}
	for k, track := range m.Tracks {
		changed, pieces := agent.Track{Kind: track.Kind}, make([][]piece, len(track.Segments))
		for i, s := range track.Segments {
			var rungs []agent.Rung
			for r, g := range s.Rungs {
				if p := m.pieces[k][i][r]; keep(p, &g) {
					rungs, pieces[i] = append(rungs, g), append(pieces[i], p)
				}
			}
			changed.Segments = append(changed.Segments, agent.Segment{Duration: s.Duration, Rungs: rungs})
		}
		out.Tracks, out.pieces = append(out.Tracks, changed), append(out.pieces, pieces)
	}
	return out
}

// representations are those of a track, each once.
func (m Menu) representations(track int) (reps []*dash.Representation) {
	seen := map[*dash.Representation]bool{nil: true}
	for _, rungs := range m.pieces[track] {
		for _, p := range rungs {
			if !seen[p.rep] {
				seen[p.rep] = true
				reps = append(reps, p.rep)
			}
		}
	}
	return reps
}
