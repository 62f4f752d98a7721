package proxy

import (
	"cmp"
	"context"
	"iter"
	"math"
	"slices"
	"time"

	"htlcdash/agent"
	"htlcdash/buyer"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// An adviser puts what the proxy knows of a film into the terms of package
// agent, and what the agent decides into Representations. It is made anew when
// a key was bought, since what is owned costs nothing; then its title changes,
// and nobody may go on with it.
type adviser struct {
	ladder *title.Ladder
	title  *agent.Title // of the ladder, with what keys still cost
	starts [][]time.Duration
	floor  *agent.Floor
	policy *agent.Agent // nil until the prices are known
	ready  [][]int      // by track and segment: the rung that was bought ahead; -1: none
}

// advised returns the adviser of what is known now. f.mu is held.
func (f *film) advised() *adviser {
	if f.adviser == nil {
		f.adviser = &adviser{ladder: f.ladder, title: f.title, starts: f.starts, floor: agent.NewFloor(f.title), policy: f.policy, ready: f.readyRungs()}
	}
	return f.adviser
}

// readyRungs are what was bought ahead. f.mu is held.
func (f *film) readyRungs() (ready [][]int) {
	for _, track := range f.ladder.Title.Tracks {
		ready = append(ready, slices.Repeat([]int{-1}, len(track.Segments)))
	}
	for p := range f.ahead {
		if k, i, r, ok := f.ladder.Find(p.rep.ID, p.index); ok {
			ready[k][i] = r
		}
	}
	return ready
}

// priced is the ladder's title with what keys still cost. f.mu is held.
func (f *film) priced() *agent.Title {
	out := copied(f.ladder.Title)
	for k, track := range out.Tracks {
		for i, s := range track.Segments {
			for r := range s.Rungs {
				if rep, index := f.ladder.At(k, i, r); rep != nil {
					s.Rungs[r].Price = f.due(piece{rep, index}, s.Rungs[r].Price)
				}
			}
		}
	}
	return out
}

// copied is a title with prices of its own.
func copied(t *agent.Title) *agent.Title {
	out := &agent.Title{Name: t.Name}
	for _, track := range t.Tracks {
		track.Segments = slices.Clone(track.Segments)
		for i, s := range track.Segments {
			track.Segments[i].Rungs = slices.Clone(s.Rungs)
		}
		out.Tracks = append(out.Tracks, track)
	}
	return out
}

// due is what the key of p, which has a price on the ladder, still costs:
// nothing, if it is owned or being bought; the mean, before prices are known.
// f.mu is held.
func (f *film) due(p piece, price lightning.Msat) lightning.Msat {
	switch {
	case f.owns(p) || f.pays(p):
		return 0
	case !f.known:
		return f.asking(p)
	default:
		return price
	}
}

// reprice books that the key of p was bought, or is being bought, or is not any
// more. f.mu is held.
func (f *film) reprice(p piece) {
	f.adviser = nil // what it knows of prices is over
	for from, to := f.opens(p); from < to; from++ {
		if k, i, r, ok := f.ladder.Find(p.rep.ID, from); ok {
			f.title.Tracks[k].Segments[i].Rungs[r].Price = f.due(piece{p.rep, from}, f.ladder.Title.Tracks[k].Segments[i].Rungs[r].Price)
		}
	}
}

// startsOf are the times at which segments of tracks begin.
func startsOf(t *agent.Title) (starts [][]time.Duration) {
	for _, track := range t.Tracks {
		var at time.Duration
		list := make([]time.Duration, len(track.Segments)+1)
		for i, s := range track.Segments {
			list[i] = at
			at += s.Duration
		}
		list[len(track.Segments)] = at
		starts = append(starts, list)
	}
	return starts
}

// index is the segment of a track that plays at a time.
func (a *adviser) index(track int, at time.Duration) int {
	i, found := slices.BinarySearch(a.starts[track], at)
	if !found {
		i--
	}
	return min(max(i, 0), len(a.title.Tracks[track].Segments)-1)
}

// A level is how much media a player has in hand, as far as is known: as it
// said last, or as it was given, less what has been played since.
type level struct {
	media time.Duration
	at    time.Time
}

func (l level) now(now time.Time) time.Duration { return max(0, l.media-now.Sub(l.at)) }

// hears books what a player says of its buffer.
func (f *film) hears(p piece, said dash.CMCD) {
	if said.BufferKnown {
		f.levels[p.rep.ContentType] = level{said.Buffer, time.Now()}
	}
}

// gives books that a player has one more segment. f.mu is held.
func (f *film) gives(p piece) {
	now := time.Now()
	had := f.levels[p.rep.ContentType].now(now)
	f.levels[p.rep.ContentType] = level{had + p.rep.Segments[p.index].Duration, now}
}

// A budget is what may still be spent on a film.
type budget struct {
	left    lightning.Msat // on keys: what routes and carriage will take is taken off
	limited bool
	fees    float64 // what routes and carriage take, as a part of prices
}

// budget asks the buyer how the money stands. What is being bought is spent; what
// is reserved for its fees is not, since most of it comes back.
func (f *film) budget() budget {
	if !f.paid {
		return budget{left: agent.NoLimit}
	}
	a := f.proxy.buyer.Account(f.id)
	f.mu.Lock()
	weight, under := f.weight, f.underWay()
	f.mu.Unlock()
	fees := (1+f.proxy.feeShare(a))*(1+a.CarriageShare(weight)) - 1
	if _, limited := a.Left(); !limited {
		return budget{left: agent.NoLimit, fees: fees}
	}
	taken := max(a.Reserved-a.Spare(), under)
	left := lightning.Msat(math.MaxInt64)
	if a.Budget != buyer.NoLimit {
		left = a.Budget - a.Spent
	}
	if a.DayLeft != buyer.NoLimit {
		left = min(left, a.DayLeft+a.Reserved)
	}
	return budget{left: lightning.Msat(float64(max(left-taken, 0)) / (1 + fees)), limited: true, fees: fees}
}

// feeShare is what routes took of a title, or where it has not told yet, of all
// titles of this run.
func (p *Proxy) feeShare(a buyer.Account) float64 {
	if a.Spent > a.Fees {
		return a.FeeShare()
	}
	var all buyer.Account
	for _, f := range p.titles() {
		if f.paid {
			other := p.buyer.Account(f.id)
			all.Spent += other.Spent
			all.Fees += other.Fees
		}
	}
	return all.FeeShare()
}

// withFees is what a price costs with what routes take.
func (b budget) withFees(m lightning.Msat) lightning.Msat {
	return m + lightning.Msat(math.Ceil(float64(m)*b.fees))
}

// stateOf is what the agent is told. f.mu is held.
func (f *film) stateOf(a *adviser, left lightning.Msat) agent.State {
	now := time.Now()
	s := agent.State{Now: now.Sub(f.proxy.began), Most: bufferMost, Left: left, Prior: f.proxy.gauge.prior, Past: f.proxy.gauge.past()}
	for k, track := range a.title.Tracks {
		kind := string(track.Kind)
		next, last := a.index(k, f.stands()), -1
		if p, ok := f.now[kind]; ok {
			if on, i, r, found := a.ladder.Find(p.rep.ID, p.index); found && on == k {
				next, last = i+1, r
			}
		}
		l, playing := f.levels[kind]
		s.Next, s.Last, s.Buffer = append(s.Next, next), append(s.Last, last), append(s.Buffer, l.now(now))
		s.Playing = s.Playing || playing
		if track.Kind == agent.Video && f.soundOnly() {
			s.Next[k] = len(track.Segments)
		}
	}
	return s
}

// soundOnly reports whether the picture is left out. f.mu is held.
func (f *film) soundOnly() bool {
	return f.paid && len(f.audio) > 0 && f.wish.preferences().SoundOnly
}

// main is the track that matters: the picture, unless it is left out.
func (a *adviser) main(s agent.State) int {
	for k, track := range a.title.Tracks {
		if s.Next[k] < len(track.Segments) {
			return k
		}
	}
	return 0
}

// stands is where a track is from which nothing was asked for yet: where the
// segment begins that was. f.mu is held.
func (f *film) stands() time.Duration {
	for _, kind := range []agent.Kind{agent.Video, agent.Audio} {
		if p, ok := f.now[string(kind)]; ok {
			return p.rep.Segments[p.index].Start
		}
	}
	return f.from
}

// bufferMost is what the player of our page holds; of others little is known.
const bufferMost = 12 * time.Second

// A choice is a segment that the agent would buy.
type choice struct {
	piece
	start time.Duration
	end   time.Duration
	price lightning.Msat // that it adds
}

// A walk goes on from a state as the agent would, or as a player does.
type walk struct {
	*adviser
	agent.State
}

func (a *adviser) walk(s agent.State) *walk {
	s.Next, s.Last, s.Buffer = slices.Clone(s.Next), slices.Clone(s.Last), slices.Clone(s.Buffer)
	return &walk{a, s}
}

// behind returns the track that has least media in hand and is not at its end;
// -1 if all are.
func (w *walk) behind() int {
	least := -1
	for k, track := range w.title.Tracks {
		if w.Next[k] < len(track.Segments) && (least < 0 || w.starts[k][w.Next[k]] < w.starts[least][w.Next[least]]) {
			least = k
		}
	}
	return least
}

// decide asks the agent for the next segment of a track, and sees to the money.
// What was bought ahead is taken: to think better of it would cost twice.
func (w *walk) decide(track int) (rung int) {
	w.Track = track
	if r := w.ready[track][w.Next[track]]; r >= 0 {
		return r
	}
	rung, _ = w.floor.Affordable(w.State, w.policy.Decide(w.State).Rung)
	return rung
}

// take goes one segment on.
func (w *walk) take(track, rung int) choice {
	i := w.Next[track]
	s := w.title.Tracks[track].Segments[i]
	c := choice{start: w.starts[track][i], end: w.starts[track][i+1], price: w.title.Tracks[track].Cost(i, rung, w.Last[track])}
	c.rep, c.index = w.ladder.At(track, i, rung)
	w.Left -= c.price
	w.Next[track], w.Last[track] = i+1, rung
	w.Buffer[track] += s.Duration
	w.pass(max(w.arrival(s.Rungs[rung].Size), w.Buffer[track]-w.Most))
	return c
}

// pass lets time go by.
func (w *walk) pass(d time.Duration) {
	w.Now += d
	for k := range w.Buffer {
		w.Buffer[k] = max(0, w.Buffer[k]-d)
	}
}

// arrival is how long bytes will take, by the mean of what came lately.
func (w *walk) arrival(size int64) time.Duration {
	var took, bytes float64
	for _, d := range w.Past[max(0, len(w.Past)-5):] {
		took, bytes = took+d.Took.Seconds(), bytes+float64(d.Size)
	}
	if bytes == 0 {
		return 0
	}
	return time.Duration(float64(size) * took / bytes * float64(time.Second))
}

// coming is what the agent would buy next: up to n segments of each track, in
// the order of time.
func (a *adviser) coming(s agent.State, n int) (out []choice) {
	w := a.walk(s)
	for {
		k := w.behind()
		if k < 0 || w.Next[k]-s.Next[k] >= n {
			return out
		}
		c := w.take(k, w.decide(k))
		if c.rep != nil { // no gap
			out = append(out, c)
		}
	}
}

// margin is what switches of quality add to what a player spends by its menu,
// in percent: players replace what they have for something better.
const margin = 3

// spare takes that off.
func (b budget) spare(s agent.State) agent.State {
	if b.limited {
		s.Left -= s.Left / (100 + margin) * margin
	}
	return s
}

// reach is the bandwidth of the best rung that can be on a menu; 0: no limit.
// f.mu is held.
func (f *film) reach(a *adviser, s agent.State, money budget) int64 {
	if !money.limited {
		return 0
	}
	k := a.main(s)
	i := min(s.Next[k], len(a.title.Tracks[k].Segments)-1)
	top := agent.Tops(a.title, money.spare(s), f.wish.preferences())[k]
	rep, _ := a.ladder.At(k, i, min(top, len(a.title.Tracks[k].Segments[i].Rungs)-1))
	if rep == nil {
		return 0
	}
	return rep.Bandwidth
}

// shown tells which Representations a player may be shown. Those that the agent
// does not know, such as sound in other languages, are shown up to the
// bandwidth of those that it does. f.mu is held.
func (f *film) shown(money budget) (shown func(*dash.Representation) bool, m agent.Menu) {
	if !f.paid {
		return func(*dash.Representation) bool { return true }, m
	}
	a := f.advised()
	s := f.stateOf(a, money.left)
	f.top = f.reach(a, s, money)
	m, _ = agent.NewMenu(a.title, money.spare(s), f.wish.preferences())
	on, best := map[*dash.Representation]bool{}, map[string]int64{}
	for _, rep := range f.manifest.Representations() {
		if k, i, r, ok := a.ladder.Find(rep.ID, 0); ok && m.Shows(a.title, k, i, r) {
			on[rep] = true
			best[rep.ContentType] = max(best[rep.ContentType], rep.Bandwidth)
		}
	}
	silent := f.soundOnly()
	return func(rep *dash.Representation) bool {
		if silent && rep.ContentType == string(agent.Video) {
			return false
		}
		if _, _, _, known := a.ladder.Find(rep.ID, 0); known {
			return on[rep]
		}
		limit, capped := best[rep.ContentType]
		return !capped || !money.limited || rep.Bandwidth <= limit
	}, m
}

// after is how things stand once a player has p. f.mu is held.
func (f *film) after(p piece, money budget) (*adviser, agent.State) {
	a := f.advised()
	s := f.stateOf(a, money.left)
	if !f.pays(p) && money.limited {
		s.Left -= f.price(p)
	}
	return a, s
}

// wanted are the pieces that the agent would buy for the track of p, after it.
// f.mu is held.
func (f *film) wanted(p piece, money budget) iter.Seq[piece] {
	a, s := f.after(p, money)
	coming := a.coming(s, ahead)
	return func(yield func(piece) bool) {
		for _, c := range coming {
			if c.rep.ContentType == p.rep.ContentType && !yield(c.piece) {
				return
			}
		}
	}
}

// carried tells of pieces, one after the other, whether they may be bought
// ahead of a player that has another one. Of one that follows the agent, they
// must leave what is needed to reach the end. Any other may take something else
// in their place: they must leave what it can spend on the menu that it was
// given. f.mu is held.
func (f *film) carried(had piece, money budget) func(piece) bool {
	if !f.paid || !money.limited {
		return func(piece) bool { return true }
	}
	a, s := f.after(had, money)
	w := a.walk(s)
	slack := s.Left - f.menuGiven.Most(a.title, s)
	return func(p piece) bool {
		k, i, r, ok := a.ladder.Find(p.rep.ID, p.index)
		if !ok || i < w.Next[k] {
			return false
		}
		if !f.ours {
			if a.title.Tracks[k].Segments[i].Rungs[r].Price > 0 {
				slack -= f.menuGiven.Others(a.title, k, i, r)
			}
			return slack >= 0
		}
		w.Track, w.Next[k] = k, i
		if rung, ok := w.floor.Affordable(w.State, r); !ok || rung != r {
			return false
		}
		w.take(k, r)
		return true
	}
}

// ahead is how many segments of a track our page is told of before it asks.
const ahead = 6

// pricesLimit is how long a player's MPD waits for the price lists.
const pricesLimit = time.Second

// options say what a player is told of the film.
func (f *film) options(ctx context.Context, ours bool) dash.PlayerOptions {
	f.mu.Lock()
	o := dash.PlayerOptions{CMCD: true, SoundOnly: f.soundOnly()}
	f.mu.Unlock()
	if ours || !f.paid {
		return o
	}
	select {
	case <-f.read:
	case <-ctx.Done():
	case <-time.After(pricesLimit):
	}
	money := f.budget()
	f.mu.Lock()
	defer f.mu.Unlock()
	o.Keep, f.menuGiven = f.shown(money)
	o.MaxBandwidth = f.top
	o.Order = f.order()
	return o
}

// order puts first what a player should take that takes the first and stays
// with it: the best that is shown, unless the network is known to carry less.
// f.mu is held.
func (f *film) order() func(a, b *dash.Representation) int {
	rate := f.proxy.gauge.rate()
	fits := func(rep *dash.Representation) bool { return rate == 0 || rep.Bandwidth*headroom <= rate*100 }
	return func(a, b *dash.Representation) int {
		switch {
		case fits(a) != fits(b) && fits(a):
			return -1
		case fits(a) != fits(b):
			return 1
		case fits(a):
			return cmp.Compare(b.Bandwidth, a.Bandwidth)
		default:
			return cmp.Compare(a.Bandwidth, b.Bandwidth)
		}
	}
}
