package proxy

import "htlcdash/lightning"

// A tally knows what this run bought of a film and what of it reached a player
// last. Of two qualities of one segment that both reached a player it can have
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

// buy books that p was bought for m, fees included.
func (t *tally) buy(p piece, m lightning.Msat) {
	t.paid[p] += m
	t.spent += m
	t.count++
	if t.played[p.slot()] == p || t.before[p] {
		t.used += m
		t.usedBy++
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

// unplayed is what was bought and did not reach a player, or was replaced.
func (t *tally) unplayed() (m lightning.Msat, segments int) {
	return t.spent - t.used, t.count - t.usedBy
}
