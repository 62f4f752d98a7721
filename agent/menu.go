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
	// Most is the most that a player can spend from here to the end that takes
	// each segment once, and at the start of the title the first of each rung,
	// as some do to look at them.
	Most lightning.Msat
}

// Shows reports whether a rung of a segment is on the menu.
func (m *Menu) Shows(t *Title, track, segment, rung int) bool {
	s := t.Tracks[track].Segments[segment]
	return slices.ContainsFunc(m.Rungs[track], func(r int) bool { return s.clip(r) == rung })
}

// clip is the rung that stands for the r-th of a ladder.
func (s Segment) clip(r int) int { return min(r, len(s.Rungs)-1) }

// NewMenu makes the menu for what is left of a title. It has the lowest rung of
// each track that the preferences allow, for a network that carries no other;
// the best rungs that can be paid to the end; and of those between what an
// [Outline] uses, then others, as far as the money goes. If the lowest rungs
// cannot be paid, preferences of height give way, and then rungs count that cost
// less, since they are paid for. ok is false if nothing can be paid to the end:
// then the menu is the lowest rungs.
func NewMenu(t *Title, s State, p Preferences) (m Menu, ok bool) {
	free := p
	free.MinHeight = 0
	for _, p := range []Preferences{p, free} {
		ladders := p.ladders(t, s)
		for _, bases := range [][]int{lowest(ladders), t.cheapest(ladders, s)} {
			if m = t.menu(bases, s); m.Most <= s.Left {
				m.raise(t, s, p.Weights, ladders)
				m.fill(t, s, p, ladders)
				return m, true
			}
		}
	}
	return t.menu(lowest(free.ladders(t, s)), s), false
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

// menu has one rung of each track.
func (t *Title) menu(rungs []int, s State) (m Menu) {
	for k, r := range rungs {
		m.Rungs = append(m.Rungs, []int{r})
		m.Most += t.most(k, m.Rungs[k], s)
	}
	return m
}

// fill adds rungs between the lowest and the best of each track.
func (m *Menu) fill(t *Title, s State, p Preferences, ladders [][]int) {
	uses := NewOutline(t, s, p).uses()
	for k, ladder := range ladders {
		low, top := m.Rungs[k][0], slices.Max(m.Rungs[k])
		slices.SortStableFunc(ladder, func(a, b int) int { return uses[k][b] - uses[k][a] })
		for _, r := range ladder {
			if low < r && r < top {
				m.add(t, s, k, r)
			}
		}
	}
}

// raise puts the best rungs on the menu that can be paid together. Each step
// goes where a msat gains the most.
func (m *Menu) raise(t *Title, s State, w Weights, ladders [][]int) {
	type choice struct {
		quality float64
		most    lightning.Msat
	}
	choices := make([][]choice, len(ladders))
	tops := make([]int, len(ladders)) // indices of ladders
	for k, ladder := range ladders {
		track := &t.Tracks[k]
		base := m.Rungs[k][0]
		tops[k] = slices.Index(ladder, base)
		for _, r := range ladder {
			choices[k] = append(choices[k], choice{w.Of(track.Kind) * track.quality(s.Next[k], r), t.most(k, []int{base, r}, s)})
		}
	}
	for {
		var best float64
		var track, place int
		for k, of := range choices {
			at := of[tops[k]]
			for i := tops[k] + 1; i < len(of); i++ {
				gain, more := of[i].quality-at.quality, of[i].most-at.most
				if value := gain / max(float64(more), 1); m.Most+more <= s.Left && value > best {
					best, track, place = value, k, i
				}
			}
		}
		if best == 0 {
			return
		}
		m.Most += choices[track][place].most - choices[track][tops[track]].most
		m.Rungs[track] = []int{m.Rungs[track][0], ladders[track][place]}
		tops[track] = place
	}
}

// add puts one more rung on the menu if that can be paid.
func (m *Menu) add(t *Title, s State, k, rung int) {
	rungs := append(slices.Clone(m.Rungs[k]), rung)
	slices.Sort(rungs)
	most := m.Most - t.most(k, m.Rungs[k], s) + t.most(k, rungs, s)
	if most <= s.Left {
		m.Rungs[k], m.Most = rungs, most
	}
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
