package proxy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"htlcdash"
	"htlcdash/agent"
	"htlcdash/buyer"
	"htlcdash/internal/dash"
	"htlcdash/internal/title"
	"htlcdash/lightning"
)

// loadLimit ends the work for one segment that nobody finishes. It is longer
// than any player waits, because money may be on its way.
const loadLimit = 2 * time.Minute

// idle is how long after its last request a player counts as gone.
const idle = 30 * time.Second

// A film is one title as this proxy plays it: where its pieces come from, what
// players asked for last, what was bought, and what of it reached a player.
type film struct {
	proxy    *Proxy
	id       htlcdash.TitleID
	name     string
	manifest *dash.Manifest
	stock    stock
	paid     bool                   // not an open title
	video    []*dash.Representation // of the first Period, ascending bandwidth
	audio    []*dash.Representation // of the first Period, ascending bandwidth
	reps     map[string]*dash.Representation
	once     sync.Once
	read     chan struct{} // closed by once when the price lists were read for the first time, or could not be

	mu        sync.Mutex
	weight    float64       // bytes that a msat of its keys stands for, at most
	ladder    *title.Ladder // what the agent may buy; of open titles nothing
	title     *agent.Title  // of the ladder, with what keys still cost
	starts    [][]time.Duration
	known     bool         // the ladder has all prices
	policy    *agent.Agent // nil until then
	wish      Wish
	language  string                        // of the sound that the ladder was made anew for
	adviser   *adviser                      // nil: to be made anew
	advice    advice                        // that was given last
	thoughts  atomic.Bool                   // the agent is to look at the film anew
	thinking  sync.Mutex                    // it does
	paying    map[piece]lightning.Msat      // keys that are being bought
	levels    map[string]level              // by content type: what a player has in hand
	ours      bool                          // the player is that of our page
	top       int64                         // bit/s of the best rung of the ladder on the last menu; 0: no limit
	menuGiven agent.Menu                    // that the player was shown; at first, all
	warm      bool                          // what is free was asked for
	seals     map[string][]htlcdash.Segment // by Representation, once known
	lanes     map[laneKey]*lane
	ahead     map[piece]lightning.Msat // started before a player asked, and not asked for since
	started   map[string]int           // by Representation: the segment that was laid out for the start
	opening   []*item                  // that were laid out last
	offered   map[string]int           // by Representation: up to here offers were asked for
	owned     map[string][]bool        // by Representation: whose key was bought, ever
	from      time.Duration            // where the player that loaded the MPD last begins
	tally     tally
	now       map[string]piece // by content type: what was asked for last
	said      dash.CMCD        // what a player said last
	heard     time.Time        // when a player last asked for media
	given     int64            // bytes that reached players
	trouble   Trouble
	logged    time.Time // when trouble was logged last
}

func newFilm(p *Proxy, name string, id htlcdash.TitleID, m *dash.Manifest, s stock, paid bool) (*film, error) {
	f := &film{
		read:   make(chan struct{}),
		paying: map[piece]lightning.Msat{},
		levels: map[string]level{},
		wish:   p.wish,
		proxy:  p, id: id, name: name, manifest: m, stock: s, paid: paid,
		reps:    map[string]*dash.Representation{},
		seals:   map[string][]htlcdash.Segment{},
		lanes:   map[laneKey]*lane{},
		ahead:   map[piece]lightning.Msat{},
		started: map[string]int{},
		offered: map[string]int{},
		owned:   map[string][]bool{},
		tally:   newTally(),
		now:     map[string]piece{},
	}
	for _, rep := range m.Representations() {
		f.reps[rep.ID] = rep
		if rep.Period > 0 {
			continue // the page shows the rungs of the first
		}
		switch rep.ContentType {
		case "video":
			f.video = append(f.video, rep)
		case "audio":
			f.audio = append(f.audio, rep)
		}
	}
	byBandwidth := func(a, b *dash.Representation) int { return cmp.Compare(a.Bandwidth, b.Bandwidth) }
	slices.SortStableFunc(f.video, byBandwidth)
	slices.SortStableFunc(f.audio, byBandwidth)
	if len(f.video)+len(f.audio) == 0 {
		return nil, fmt.Errorf("title %s has neither picture nor sound: %w", f.name, htlcdash.ErrFormat)
	}
	if paid {
		ladder, err := title.OpenLadder(m, "")
		if err != nil {
			return nil, fmt.Errorf("title %s: %w", f.name, err)
		}
		f.setLadder(ladder)
	}
	return f, nil
}

func (f *film) setLadder(l *title.Ladder) {
	f.ladder, f.starts, f.adviser, f.weight = l, startsOf(l.Title), nil, l.Title.Weight()
	f.title = f.priced()
	if len(f.menuGiven.Rungs) != len(l.Title.Tracks) {
		f.menuGiven = agent.Everything(l.Title)
	}
}

func (f *film) place(p piece) place { return place{f.id, p.rep.ID, p.index} }

// fetch starts the work for a piece, or joins it.
func (f *film) fetch(p piece) *item {
	return f.proxy.shelf.fetch(f.place(p), func() ([]byte, error) {
		ctx, cancel := context.WithTimeout(f.proxy.ctx, loadLimit)
		defer cancel()
		if p.index < 0 {
			return f.stock.head(ctx, p.rep)
		}
		began := time.Now()
		paid := f.pay(p)
		data, err := f.stock.segment(f.needed(ctx, p), p.rep, p.index)
		paid(err == nil)
		if err == nil && !f.paid && f.measures(p) {
			f.proxy.gauge.add(int64(len(data)), time.Since(began), f.proxy.clock()) // of bought ones the buyer tells
		}
		return data, err
	})
}

// needed says in a context when a player has to have p: when what it has in hand
// is played, as far as that is known, but no later than it waits for an answer.
// It says as well what waiting is worth by the agent, if the budget is limited.
// f.mu is not held.
func (f *film) needed(ctx context.Context, p piece) context.Context {
	money := f.budget()
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	in := f.levels[p.rep.ContentType].now(now)
	if in == 0 {
		return ctx
	}
	if asked, ok := f.now[p.rep.ContentType]; ok { // what is bought ahead comes after what was asked for
		in += max(p.rep.Segments[p.index].Start-asked.rep.Segments[asked.index].Start, 0)
	}
	if f.policy != nil && money.limited {
		ctx = buyer.WaitingCosts(ctx, f.policy.Haste(f.stateOf(f.advised(), money.left)))
	}
	return buyer.NeededBy(ctx, now.Add(min(in, f.proxy.hold)))
}

// ask returns a piece to a player, and starts on what it will want next.
func (f *film) ask(ctx context.Context, p piece, said dash.CMCD) ([]byte, error) {
	if p.index < 0 {
		return f.fetch(p).wait(ctx)
	}
	next, money := f.next(p, said), f.budget()
	f.mu.Lock()
	f.now[p.rep.ContentType], f.heard = p, time.Now()
	if said.Present {
		f.said = said
		f.hears(p, said)
	}
	plan, offers := f.asked(p, said, next, money)
	f.mu.Unlock()
	f.follow(p)

	item := f.fetch(p)
	f.afterStart(func() {
		f.prepare(offers)
		for _, a := range plan {
			f.fetch(a)
		}
	})
	data, err := item.wait(ctx)
	if err == nil {
		f.settle()
	}
	f.proxy.changed()
	return data, err
}

// next finds the object that a player says it will ask for next.
func (f *film) next(p piece, said dash.CMCD) *piece {
	at, offset, ok := said.Next(p.rep.Segments[p.index].Path)
	if !ok {
		return nil
	}
	rep, index, ok := f.manifest.Find(at, offset)
	if !ok || index < 0 {
		return nil
	}
	return &piece{rep, index}
}

// delivered books that a player has read a piece to its end.
func (f *film) delivered(p piece, n int) {
	f.mu.Lock()
	f.given += int64(n)
	if p.index >= 0 {
		f.tally.play(p)
		f.gives(p)
	}
	f.mu.Unlock()
	f.proxy.changed()
}

// warmUp fetches what is free and will be needed when somebody looks at a
// title: the price lists, and offers for the first segments.
func (f *film) warmUp() {
	f.mu.Lock()
	again := f.warm
	f.warm = true
	f.mu.Unlock()
	if again || !f.paid {
		return
	}
	f.proxy.run(f.readPrices)
	f.readyStart(0)
}

// load books that a player loads the MPD to play from a time on. Where the
// player starts as we say (ours does), the first segments are bought, so that
// the start waits for one payment and not for several.
func (f *film) load(at time.Duration, buy bool) {
	f.mu.Lock()
	clear(f.now)
	clear(f.levels)
	f.from, f.ours = at, buy
	f.tally.begin()
	f.mu.Unlock()
	f.warmUp()
	f.thinkSoon()
	var later []piece
	if !buy || f.proxy.cautious {
		for _, p := range f.readyStart(at) {
			later = append(later, f.comingAfter(p)...)
		}
		f.prepare(later)
		return
	}
	var opening []*item
	for _, p := range f.startPieces(at, true) {
		opening, later = append(opening, f.layOut(p)), append(later, f.comingAfter(p)...)
	}
	f.mu.Lock()
	f.opening = opening
	f.mu.Unlock()
	f.afterStart(func() { f.prepare(later) })
}

// afterStart calls do once the segments that were laid out for the start are
// here, or take too long: what comes later must not hold them up, at the node
// above all. It does not wait.
func (f *film) afterStart(do func()) {
	f.mu.Lock()
	opening := slices.DeleteFunc(slices.Clone(f.opening), (*item).isDone)
	f.opening = opening
	f.mu.Unlock()
	if len(opening) == 0 {
		do()
		return
	}
	f.proxy.run(func() {
		ctx, cancel := context.WithTimeout(f.proxy.ctx, f.proxy.hold)
		defer cancel()
		for _, i := range opening {
			_, _ = i.wait(ctx)
		}
		do()
	})
}

// startPieces are what a player that starts at a time should ask for first, or
// as one that is not ours does.
func (f *film) startPieces(at time.Duration, ours bool) (pieces []piece) {
	for _, rep := range f.start(ours) {
		if i := indexAt(rep, at); i >= 0 {
			pieces = append(pieces, piece{rep, i})
		}
	}
	return pieces
}

// readyStart does what costs nothing for what a player will ask for first: all
// but the payment.
func (f *film) readyStart(at time.Duration) []piece {
	pieces := f.startPieces(at, false)
	for _, p := range pieces {
		f.proxy.run(func() { f.download(p) })
	}
	if f.paid {
		f.proxy.run(func() { f.stock.ready(f.proxy.ctx, pieces) })
	}
	return pieces
}

// prepare has offers for pieces asked for, in as few requests as can be.
func (f *film) prepare(pieces []piece) {
	if f.paid && len(pieces) > 0 {
		f.proxy.run(func() { f.stock.prepare(f.proxy.ctx, pieces) })
	}
}

// layOut buys a segment that a player will ask for first.
func (f *film) layOut(p piece) *item {
	f.mu.Lock()
	f.started[p.rep.ID] = p.index
	if !f.proxy.shelf.has(f.place(p)) {
		f.ahead[p] = f.price(p)
	}
	f.mu.Unlock()
	return f.fetch(p)
}

// comingAfter is coming for what follows p.
func (f *film) comingAfter(p piece) []piece {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.coming(p.rep, p.index+1)
}

// indexAt returns the segment of rep that plays at a time, -1 if none does.
func indexAt(rep *dash.Representation, at time.Duration) int {
	i, found := slices.BinarySearchFunc(rep.Segments, at, func(s dash.MediaSegment, at time.Duration) int {
		return cmp.Compare(s.Start, at)
	})
	if !found {
		i--
	}
	if i < 0 || at >= rep.Segments[i].Start+rep.Segments[i].Duration {
		return -1
	}
	return i
}

func (f *film) readPrices() {
	failed := false
	for _, rep := range f.manifest.Representations() {
		failed = f.learn(rep) != nil || failed
	}
	f.mu.Lock()
	f.warm = !failed // else the next load of the MPD tries again
	f.mu.Unlock()
	if !failed {
		f.climb("")
	}
	f.once.Do(func() { close(f.read) })
	f.proxy.changed()
}

// climb makes the ladder anew: with all prices, and sound in a language.
func (f *film) climb(language string) {
	ladder, err := f.stock.ladder(f.proxy.ctx, language)
	if err != nil {
		f.proxy.log.Warn("prices", "title", f.name, "error", err)
		return
	}
	f.mu.Lock()
	f.known = true
	f.setLadder(ladder)
	f.mu.Unlock()
	f.think()
}

// follow sees to it that the agent knows the sound that a player plays.
func (f *film) follow(p piece) {
	if !f.paid || p.rep.ContentType != string(agent.Audio) {
		return
	}
	f.mu.Lock()
	_, _, _, known := f.ladder.Find(p.rep.ID, p.index)
	climb := !known && f.policy != nil && f.language != p.rep.Lang
	if climb {
		f.language = p.rep.Lang
	}
	f.mu.Unlock()
	if climb {
		f.proxy.run(func() { f.climb(p.rep.Lang) })
	}
}

// thinkSoon is think, beside what a player waits for.
func (f *film) thinkSoon() {
	if f.thoughts.CompareAndSwap(false, true) {
		f.proxy.run(func() {
			f.thinking.Lock()
			defer f.thinking.Unlock()
			f.thoughts.Store(false)
			f.think()
		})
	}
}

// think has the agent look at the film anew: at what is owned by now, and at
// what the viewer wants. That takes too long to do it for each purchase.
func (f *film) think() {
	f.mu.Lock()
	if !f.known {
		f.mu.Unlock()
		return
	}
	ladder, title, wish := f.ladder, copied(f.title), f.wish
	f.mu.Unlock()
	policy := agent.New(title, wish.preferences())
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wish == wish && f.ladder == ladder {
		f.policy, f.adviser = policy, nil
	}
}

// learn reads what the segments of rep cost, and which of them share a key.
func (f *film) learn(rep *dash.Representation) error {
	segs, err := f.stock.seals(f.proxy.ctx, rep)
	if err != nil || segs == nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seals[rep.ID] = segs
	for i, owned := range f.owned[rep.ID] {
		if owned { // before it was known what the key opens
			f.own(piece{rep, i})
		}
	}
	return nil
}

// Rungs that stock players start with, having measured nothing yet: dash.js
// and Shaka take the highest below these.
const (
	startVideo = 1_000_000 // bit/s
	startAudio = 128_000
)

// start returns the Representations that our page starts with, as the agent
// wants it, or those that other players take.
func (f *film) start(ours bool) (reps []*dash.Representation) {
	money := f.budget()
	f.mu.Lock()
	defer f.mu.Unlock()
	if ours && f.policy != nil {
		a := f.advised()
		for _, c := range a.coming(f.stateOf(a, money.left), 1) {
			reps = append(reps, c.rep)
		}
		return reps
	}
	return f.stockStart(money)
}

// stockStart is start for a player that does not follow the agent. f.mu is held.
func (f *film) stockStart(money budget) (reps []*dash.Representation) {
	shown, _ := f.shown(money)
	for _, track := range []struct {
		reps  []*dash.Representation
		limit int64
	}{{f.video, startVideo}, {f.audio, startAudio}} {
		if rep := below(slices.DeleteFunc(slices.Clone(track.reps), func(r *dash.Representation) bool { return !shown(r) }), track.limit); rep != nil {
			reps = append(reps, rep)
		}
	}
	return reps
}

// below returns the highest rung of at most limit, or the lowest.
func below(reps []*dash.Representation, limit int64) *dash.Representation {
	for _, rep := range slices.Backward(reps) {
		if rep.Bandwidth <= limit {
			return rep
		}
	}
	if len(reps) > 0 {
		return reps[0]
	}
	return nil
}

// position is where the film is: the end of the video that was asked for last,
// or of the sound, if there is no picture. f.mu is held.
func (f *film) position() time.Duration {
	for _, kind := range []string{"video", "audio"} {
		if p, ok := f.now[kind]; ok {
			s := p.rep.Segments[p.index]
			return s.Start + s.Duration
		}
	}
	return f.from
}

// main is the track whose quality the budget decides: the picture, or the
// sound where there is no picture.
func (f *film) main() []*dash.Representation {
	if len(f.video) > 0 && !f.soundOnly() {
		return f.video
	}
	return f.audio
}
