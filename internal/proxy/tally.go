package proxy

import (
	"htlcdash/internal/dash"
	"htlcdash/lightning"
)

// A tally knows what this run bought of a film and what of it reached a player
// last. Where a key opens several segments, each has its share of the price. Of
// two qualities of one segment that both reached a player it can have
// played only one: the later replaced the earlier. Across viewings both were.
type tally struct {
	paid   map[piece]lightning.Msat // fees included
	played map[slot]piece           // in this viewing
	before map[piece]bool           // what an earlier viewing played

	spent, used   lightning.Msat
	count, usedBy int // segments
}

// A slot is a stretch of a track that one segment fills.
type slot struct {
	track track
	index int
}

func newTally() tally {
	return tally{paid: map[piece]lightning.Msat{}, played: map[slot]piece{}, before: map[piece]bool{}}
}

func (p piece) slot() slot { return slot{trackOf(p.rep), p.index} }

// buy books that the segments [from, to) of rep were bought for m together,
// fees included.
func (t *tally) buy(rep *dash.Representation, from, to int, m lightning.Msat) {
	for left := to - from; left > 0; left-- {
		p, share := piece{rep, to - left}, m/lightning.Msat(left)
		m -= share
		t.paid[p] += share
		t.spent += share
		t.count++
		if t.played[p.slot()] == p || t.before[p] {
			t.used += share
			t.usedBy++
		}
	}
}

// play books that p reached a player.
func (t *tally) play(p piece) {
	old := t.played[p.slot()]
	if old == p {
		return
	}
	t.played[p.slot()] = p
	t.use(old, -1)
	t.use(p, +1)
}

func (t *tally) use(p piece, n int) {
	if m, ok := t.paid[p]; ok && !t.before[p] {
		t.used += m * lightning.Msat(n)
		t.usedBy += n
	}
}

// begin starts another viewing.
func (t *tally) begin() {
	for _, p := range t.played {
		t.before[p] = true
	}
	clear(t.played)
}

// idle is what was paid for p if it did not reach a player.
func (t *tally) idle(p piece) lightning.Msat {
	if t.played[p.slot()] == p || t.before[p] {
		return 0
	}
	return t.paid[p]
}

// unplayed is what was bought and did not reach a player, or was replaced.
func (t *tally) unplayed() (m lightning.Msat, segments int) {
	return t.spent - t.used, t.count - t.usedBy
}
