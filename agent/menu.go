package agent

import (
	"cmp"
	"slices"

	"htlcdash/lightning"
)

// A Menu is the rungs that may be shown to a player that knows nothing of
// prices. Such a player may take the best of them all the time, or another one
// for each segment, and nobody can talk it out of that later. So a menu is so
// short that none of this ends the money before the title.
type Menu struct {
	Rungs [][]int // by track, ascending; a segment with fewer rungs has its best in place of those it lacks
}

// Most is the most that a player can spend from a state to the end that takes
// each segment once; and where it has taken none yet, the first of each rung, as
// some do to look at them.
func (m Menu) Most(t *Title, s State) (sum lightning.Msat) {
	for k, rungs := range m.Rungs {
		sum += t.most(k, rungs, s)
	}
	return sum
}

// Shows reports whether a rung of a segment is on the menu.
func (m Menu) Shows(t *Title, track, segment, rung int) bool {
	s := t.Tracks[track].Segments[segment]
	return slices.ContainsFunc(m.Rungs[track], func(r int) bool { return s.clip(r) == rung })
}

// clip is the rung that stands for the r-th of a ladder.
func (s Segment) clip(r int) int { return min(r, len(s.Rungs)-1) }

// NewMenu makes the menu for what is left of a title: the best rungs that can be
// paid to the end; of those below what an [Outline] uses, then others, as far as
// the money goes. The lowest rung that the preferences allow is among them, for
// a network that carries no other, unless it is known to carry twice the best.
//
// If nothing of what is preferred can be paid, rungs count that cost less since
// they are paid for, and then the lower bounds of preferences give way. ok is false if nothing can be
// paid to the end: then the menu is the lowest rungs.
func NewMenu(t *Title, s State, p Preferences) (m Menu, ok bool) {
	m, p, ok = tops(t, s, p)
	if ok {
		m.fill(t, s, p, p.ladders(t, s))
	}
	return m, ok
}

// Tops are the best rungs that [NewMenu] puts on the menu, by track. To ask for
// these alone is much cheaper.
func Tops(t *Title, s State, p Preferences) (rungs []int) {
	m, _, _ := tops(t, s, p)
	for _, list := range m.Rungs {
		rungs = append(rungs, slices.Max(list))
	}
	return rungs
}

// tops is the menu with the best rungs, the lowest ones where they are needed,
// and the preferences that it meets.
func tops(t *Title, s State, p Preferences) (m Menu, met Preferences, ok bool) {
	for _, p := range []Preferences{p, p.loose()} {
		ladders := p.ladders(t, s)
		for _, bases := range []func() []int{
			func() []int { return lowest(ladders) },
			func() []int { return t.cheapest(ladders, s) },
		} {
			if m = menuOf(bases()); m.Most(t, s) <= s.Left {
				m.raise(t, s, p.weights(), ladders)
				return m, p, true
			}
		}
	}
	return menuOf(lowest(p.loose().ladders(t, s))), p, false
}

// ladders are, by track, the rungs that are allowed in the segment that is due.
func (p Preferences) ladders(t *Title, s State) (out [][]int) {
	for k, track := range t.Tracks {
		due := track.Segments[min(s.Next[k], len(track.Segments)-1)]
		out = append(out, p.allowed(due))
	}
	return out
}

func lowest(ladders [][]int) (rungs []int) {
	for _, ladder := range ladders {
		rungs = append(rungs, ladder[0])
	}
	return rungs
}

// cheapest are the rungs that cost least on the whole.
func (t *Title) cheapest(ladders [][]int, s State) (rungs []int) {
	for k, ladder := range ladders {
		rungs = append(rungs, slices.MinFunc(ladder, func(a, b int) int {
			return cmp.Compare(t.most(k, []int{a}, s), t.most(k, []int{b}, s))
		}))
	}
	return rungs
}

// Everything is the menu with all rungs.
func Everything(t *Title) (m Menu) {
	for _, track := range t.Tracks {
		n := 0
		for _, s := range track.Segments {
			n = max(n, len(s.Rungs))
		}
		rungs := make([]int, n)
		for r := range rungs {
			rungs[r] = r
		}
		m.Rungs = append(m.Rungs, rungs)
	}
	return m
}

// menuOf has one rung of each track.
func menuOf(rungs []int) (m Menu) {
	for _, r := range rungs {
		m.Rungs = append(m.Rungs, []int{r})
	}
	return m
}

// An offer is a rung of a track, with others or without, that may be put on a
// menu.
type offer struct {
	rungs   []int
	quality float64
	most    lightning.Msat
}

// raise puts the best rungs on the menu that can be paid together. Each step
// goes where a msat gains the most.
func (m *Menu) raise(t *Title, s State, w Weights, ladders [][]int) {
	left := s.Left - m.Most(t, s)
	offers, tops := make([][]offer, len(ladders)), make([]int, len(ladders))
	for k, ladder := range ladders {
		base := m.Rungs[k][0]
		tops[k] = slices.Index(ladder, base)
		for _, r := range ladder {
			o := offer{[]int{base, r}, w.Of(t.Tracks[k].Kind) * t.Tracks[k].quality(s.Next[k], r), 0}
			if r <= base || t.carried(k, r, s) {
				o.rungs = []int{r}
			}
			o.most = t.most(k, o.rungs, s)
			offers[k] = append(offers[k], o)
		}
	}
	for {
		var best float64
		var track, place int
		for k, of := range offers {
			at := of[tops[k]]
			for i := tops[k] + 1; i < len(of); i++ {
				gain, more := of[i].quality-at.quality, of[i].most-at.most
				if value := gain / max(float64(more), 1); more <= left && value > best {
					best, track, place = value, k, i
				}
			}
		}
		if best == 0 {
			return
		}
		left -= offers[track][place].most - offers[track][tops[track]].most
		m.Rungs[track], tops[track] = offers[track][place].rungs, place
	}
}

// Rates of networks that carry a rung.
const (
	carriedTwice   = 2
	carriedUnknown = 1e6 // bit/s, where nothing was measured
)

// carried reports whether the network is thought to carry a rung alone.
func (t *Title) carried(k, rung int, s State) bool {
	rate := carriedUnknown
	if seen := rounds(s, recent); len(seen) > 0 {
		rate = harmonic(seen)
	}
	var bits, seconds float64
	for _, seg := range t.Tracks[k].Segments[s.Next[k]:] {
		bits += float64(seg.Rungs[seg.clip(rung)].Size) * 8
		seconds += seg.Duration.Seconds()
	}
	return bits*carriedTwice <= rate*seconds
}

// fill adds rungs below the best of each track: the lowest first.
func (m *Menu) fill(t *Title, s State, p Preferences, ladders [][]int) {
	uses := NewOutline(t, s, p).uses()
	for k, ladder := range ladders {
		below := slices.Clone(ladder[:slices.Index(ladder, slices.Max(m.Rungs[k]))])
		if len(below) == 0 {
			continue
		}
		slices.SortStableFunc(below[1:], func(a, b int) int { return uses[k][b] - uses[k][a] })
		for _, r := range below {
			m.add(t, s, k, r)
		}
	}
}

// add puts one more rung on the menu if that can be paid.
func (m *Menu) add(t *Title, s State, k, rung int) {
	if slices.Contains(m.Rungs[k], rung) {
		return
	}
	more := Menu{slices.Clone(m.Rungs)}
	more.Rungs[k] = slices.Sorted(slices.Values(append(slices.Clone(m.Rungs[k]), rung)))
	if more.Most(t, s) <= s.Left {
		*m = more
	}
}

// Others is the most that a player which has the key of a rung can still spend
// on other rungs of the menu for the segments, from one on, that the key opens.
func (m Menu) Others(t *Title, track, segment, rung int) (sum lightning.Msat) {
	segments := t.Tracks[track].Segments
	first := segments[segment].Rungs[rung].First
	for i := segment; i < len(segments) && rung < len(segments[i].Rungs) && segments[i].Rungs[rung].First == first; i++ {
		dearest := lightning.Msat(0)
		for _, r := range m.Rungs[track] {
			if r = segments[i].clip(r); r != rung {
				dearest = max(dearest, segments[i].Rungs[r].Price)
			}
		}
		sum += dearest
	}
	return min(sum, segments[segment].Rungs[rung].Price)
}

// quality is the sum over the segments from one on.
func (t *Track) quality(from, rung int) (sum float64) {
	for _, s := range t.Segments[from:] {
		sum += s.Rungs[s.clip(rung)].Quality
	}
	return sum
}

// most bounds what a player can spend on the rest of a track that takes one of
// some rungs for each segment. A block ends where the keys of all these rungs
// end. Within it the player buys no key twice, and one for a segment, so it
// spends no more than all keys cost, nor than the dearest of each segment.
func (t *Title) most(k int, rungs []int, s State) (sum lightning.Msat) {
	track, from := &t.Tracks[k], s.Next[k]
	var block span
	for i := from; i < len(track.Segments); i++ {
		more := track.span(i, rungs, i == from)
		if i == from && s.Last[k] < 0 {
			more.dearest = more.begun // a look at each
		}
		block.begun += more.begun
		block.dearest += more.dearest
		if more.ends {
			sum += min(block.begun, block.dearest)
			block = span{}
		}
	}
	return sum + min(block.begun, block.dearest)
}

// A span is what keys of some rungs cost over some segments.
type span struct {
	begun   lightning.Msat // all that begin here
	dearest lightning.Msat // the dearest of each segment
	ends    bool           // none of them opens what comes after
}

// span is that of one segment; with all, keys that began before count as well.
func (t *Track) span(i int, rungs []int, all bool) span {
	out, last := span{ends: true}, -1
	for _, r := range rungs {
		r = t.Segments[i].clip(r)
		if r == last {
			continue
		}
		last = r
		g := t.Segments[i].Rungs[r]
		out.dearest = max(out.dearest, g.Price)
		if all || g.First == i {
			out.begun += g.Price
		}
		out.ends = out.ends && !t.goesOn(i, r)
	}
	return out
}

// goesOn reports whether the key of a rung opens the next segment, too.
func (t *Track) goesOn(i, r int) bool {
	return i+1 < len(t.Segments) && r < len(t.Segments[i+1].Rungs) && t.Segments[i+1].Rungs[r].First <= i
}
