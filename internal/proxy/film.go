package proxy

import (
	"cmp"
	"context"
	"net/url"
	"path"
	"slices"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/dash"
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
	video    []*dash.Representation // ascending bandwidth
	audio    []*dash.Representation // ascending bandwidth
	reps     map[string]*dash.Representation

	mu      sync.Mutex
	warm    bool                        // the price lists were asked for
	prices  map[string][]lightning.Msat // by Representation, once known
	lanes   map[laneKey]*lane
	ahead   map[piece]lightning.Msat // started before a player asked, and not asked for since
	started map[string]bool          // Representations whose first segment was laid out
	tally   tally
	now     map[string]piece // by content type: what was asked for last
	said    dash.CMCD        // what a player said last
	heard   time.Time        // when a player last asked for media
	cap     int64            // bit/s of video that the budget carries; 0: no limit
	given   int64            // bytes that reached players
	trouble Trouble
}

func newFilm(p *Proxy, name string, id htlcdash.TitleID, m *dash.Manifest, s stock, paid bool) *film {
	f := &film{
		proxy: p, id: id, name: name, manifest: m, stock: s, paid: paid,
		reps:    map[string]*dash.Representation{},
		prices:  map[string][]lightning.Msat{},
		lanes:   map[laneKey]*lane{},
		ahead:   map[piece]lightning.Msat{},
		started: map[string]bool{},
		tally:   newTally(),
		now:     map[string]piece{},
	}
	for _, rep := range m.Representations() {
		f.reps[rep.ID] = rep
		if rep.Period > 0 {
			continue // rungs of later Periods are taken to cost alike
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
	return f
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
		return f.stock.segment(ctx, p.rep, p.index)
	})
}

// ask returns a piece to a player, and starts on what it will want next.
func (f *film) ask(ctx context.Context, p piece, said dash.CMCD) ([]byte, error) {
	if p.index < 0 {
		return f.fetch(p).wait(ctx)
	}
	next := f.next(p, said)
	f.mu.Lock()
	f.now[p.rep.ContentType], f.heard = p, time.Now()
	if said.Present {
		f.said = said
	}
	plan := f.asked(p, said.SessionID, next)
	f.mu.Unlock()

	item := f.fetch(p)
	for _, a := range plan {
		f.fetch(a)
	}
	data, err := item.wait(ctx)
	if err == nil {
		f.settle()
	}
	f.proxy.changed()
	return data, err
}

// next finds the object that a player says it will ask for next. It is named
// relative to the one it asks for now.
func (f *film) next(p piece, said dash.CMCD) *piece {
	if said.NextObject == "" {
		return nil
	}
	u, err := url.Parse(said.NextObject)
	if err != nil || u.IsAbs() || u.Host != "" {
		return nil
	}
	at := path.Join(path.Dir(p.rep.Segments[p.index].Path), u.Path)
	rep, index, ok := f.manifest.Find(at, 0)
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
	}
	f.mu.Unlock()
	f.proxy.changed()
}

// price is the most that a piece may cost. f.mu is held.
func (f *film) price(p piece) lightning.Msat {
	if p.rep.Pay == nil {
		return 0
	}
	if _, ours := f.tally.paid[p]; ours {
		return 0
	}
	if prices := f.prices[p.rep.ID]; prices != nil {
		return prices[p.index]
	}
	return p.rep.Pay.Max
}

// warmUp fetches what is free and will be needed: the price lists. Where a
// player lets us choose how it starts, the first segments of its first rungs
// are bought, so that the start waits for one payment and not for several.
func (f *film) warmUp(buy bool) {
	start := f.start()
	f.mu.Lock()
	again := f.warm
	f.warm = true
	f.mu.Unlock()
	for _, rep := range start {
		if len(rep.Segments) == 0 {
			continue
		}
		if buy && !f.proxy.cautious {
			f.mu.Lock()
			f.started[rep.ID] = true
			p := piece{rep, 0}
			if !f.proxy.shelf.has(f.place(p)) {
				f.ahead[p] = f.price(p)
			}
			f.mu.Unlock()
			f.fetch(p)
		}
		if !again {
			f.proxy.run(func() { f.stock.prepare(f.proxy.ctx, rep, 0, 1+f.proxy.ahead.Segments) })
		}
	}
	if !again && f.paid {
		f.proxy.run(f.readPrices)
	}
}

func (f *film) readPrices() {
	for _, rep := range f.manifest.Representations() {
		prices, err := f.stock.prices(f.proxy.ctx, rep)
		f.mu.Lock()
		if err != nil {
			f.warm = false // the next load of the MPD tries again
		} else {
			f.prices[rep.ID] = prices
		}
		f.mu.Unlock()
	}
	f.proxy.changed()
}

// Rungs that stock players start with, having measured nothing yet: dash.js
// and Shaka take the highest below these.
const (
	startVideo = 1_000_000 // bit/s
	startAudio = 128_000
)

// start returns the Representations that a player should start with.
func (f *film) start() (reps []*dash.Representation) {
	limit := int64(startVideo)
	if c, _ := f.bound(); c > 0 {
		limit = min(limit, c)
	}
	if rep := below(f.video, limit); rep != nil {
		reps = append(reps, rep)
	}
	if rep := below(f.audio, startAudio); rep != nil {
		reps = append(reps, rep)
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
	return 0
}

// ladder is the track whose quality the budget decides: the picture, or the
// sound where there is no picture.
func (f *film) ladder() []*dash.Representation {
	if len(f.video) > 0 {
		return f.video
	}
	return f.audio
}

// bound returns the highest bandwidth of the ladder that the budget carries
// from here to the end, 0 if there is no budget to mind, and whether the budget
// carries at least the cheapest.
func (f *film) bound() (bandwidth int64, enough bool) {
	if !f.paid {
		return 0, true
	}
	left, limited := f.proxy.buyer.Account(f.id).Left()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !limited {
		f.cap = 0
		return 0, true
	}
	at := f.position()
	var sound lightning.Msat
	if len(f.video) > 0 {
		sound = f.remaining(f.sound(), at)
	}
	var rungs []rung
	for _, rep := range f.ladder() {
		rungs = append(rungs, rung{rep, f.remaining(rep, at)})
	}
	f.cap, enough = affordable(left, rungs, sound, f.cap)
	return f.cap, enough
}

// sound is the Representation of the sound that plays or will; nil if there is
// none. f.mu is held.
func (f *film) sound() *dash.Representation {
	if p, ok := f.now["audio"]; ok {
		return p.rep
	}
	return below(f.audio, startAudio)
}
