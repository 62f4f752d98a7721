package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/config"
	"htlcdash/internal/ledger"
	"htlcdash/internal/proof/systems"
	"htlcdash/internal/title"
	"htlcdash/lightning"
	"htlcdash/source"
	"htlcdash/source/open"
	"htlcdash/source/torrent"
)

// How often providers are asked what they sell: soon while one does not
// answer, else now and then.
const (
	askSoon  = 3 * time.Second
	askLater = time.Minute
)

// Bounds on what one provider can make us do.
const (
	visitTime = 20 * time.Second // for all its new titles, at one refresh
	maxKept   = 64 << 20         // bytes of its titles' MPDs
)

// A market is the configured providers and what they sell. It tells the buyer
// and who plays of titles as they appear.
type market struct {
	providers  []*buyer.Provider
	publishers []htlcdash.PublisherID // whose titles are taken; none: all
	sources    []source.Source
	swarms     *torrent.Client // nil: none
	seeds      bool            // those that are announced are asked
	named      *open.Named     // what titles name themselves
	announced  open.Named      // what those who sell them say of where their bytes lie
	// holds reports whether a blob is a title's, as far as is known at once; nil: as
	// the title says.
	holds  func(htlcdash.TitleID, htlcdash.Blob) bool
	buyer  *buyer.Buyer
	sealed *source.Library
	// show tells of a title on sale. What it fetches for that must end with ctx.
	show func(ctx context.Context, f found) error
	// wants says which titles are opened at all; nil: all. It is asked for what
	// the provider claims, too.
	wants func(htlcdash.TitleID, htlcdash.PublisherID) bool
	// refreshed is told, after each refresh, which titles are gone, see [market.gone].
	// What it calls withdrawn is shown anew when it is back. nil: nothing is withdrawn.
	refreshed func(ctx context.Context, gone func(htlcdash.TitleID) bool) (withdrawn []htlcdash.TitleID)
	log       *slog.Logger

	opened sync.Map // of *title.Title, by id

	// Only refresh uses these, one call at a time, and providers and sources.
	found  discovery
	titles map[htlcdash.TitleID]*listing
	quiet  map[string]bool                               // providers whose silence was logged
	kept   map[*buyer.Provider]int64                     // bytes of MPDs
	blamed map[*buyer.Provider]string                    // what was logged of its titles last
	lists  map[*buyer.Provider]map[htlcdash.TitleID]bool // what each listed when it answered last
}

// A listing is a title on sale.
type listing struct {
	title   *title.Title
	from    *buyer.Provider // who showed it
	sellers map[*buyer.Provider]bool
}

func newMarket(from config.ProxyProviders, publishers []string, log *slog.Logger) (*market, error) {
	m := &market{
		log: log, titles: map[htlcdash.TitleID]*listing{}, quiet: map[string]bool{},
		kept: map[*buyer.Provider]int64{}, blamed: map[*buyer.Provider]string{},
		lists: map[*buyer.Provider]map[htlcdash.TitleID]bool{},
	}
	for _, s := range publishers {
		id, err := htlcdash.ParsePublisherID(s)
		if err != nil {
			return nil, fmt.Errorf("publisher %q: %w", s, err)
		}
		m.publishers = append(m.publishers, id)
	}
	for _, a := range from.Providers {
		if _, err := m.add(a, nil); err != nil {
			return nil, err
		}
	}
	var err error
	m.found, err = newDiscovery(from, m)
	return m, err
}

// buyFor opens the buyer of a viewer, whose sealed bytes come from the sources
// that the viewer names, the providers, and those that titles name, each seen
// through over.
func (m *market) buyFor(c config.ProxyBuying, stores config.Stores, books *ledger.Ledger, node lightning.Payer, over func(source.Source) source.Source) error {
	if _, err := systems.Named(c.Proofs); err != nil {
		return usageError{err}
	}
	sources, err := open.Sources(c.Sources, openConfig(stores))
	if err != nil {
		return usageError{fmt.Errorf("proxy.sources: %w", err)}
	}
	sources = append(sources, m.sources...)
	for i, s := range sources {
		sources[i] = over(s)
	}
	if m.swarms, err = openSwarms(c, m.found.local, m.log); err != nil {
		return err
	}
	if m.swarms != nil {
		sources = append(sources, over(m.swarms))
	}
	sealed, err := source.NewLibrary(source.Options{
		Memory: sealedMemory, Folder: string(c.Cache), Disk: int64(c.CacheSize), Log: m.log,
	}, sources...)
	if err != nil {
		return err
	}
	m.sealed, m.found.over = sealed, over
	m.seeds = c.Torrents
	m.take(c.PrivateSources, func(s source.Source) { sealed.Add(over(s)) })
	m.buyer, err = buyer.New(buyer.Config{
		Ledger: books, Payer: node, Sealed: sealed,
		Limits: buyer.Limits{Segment: c.BudgetSegment, Title: c.BudgetTitle, Day: c.BudgetDay},
		Fee:    buyer.Fee{Floor: c.MaxFee, PPM: int64(c.MaxFeePercent * 10_000)},
		Proofs: c.Proofs, Unproved: c.Unproved, Exposure: c.Exposure, PayBeside: c.PayBeside, TokenPrice: c.TokenPrice, BytePrice: c.BytePriceMax,
		Complain: complaintsIn(c.Complaints), Signed: m.signed,
		Log: m.log, Step: crashStep(),
	})
	return err
}

func (m *market) heldBy(t *title.Title) func(htlcdash.Blob) bool {
	if m.holds == nil {
		return t.Holds
	}
	return func(b htlcdash.Blob) bool { return m.holds(t.ID, b) }
}

// take has add given the sources that titles name, and those that are announced.
func (m *market) take(private bool, add func(source.Source)) {
	m.named = &open.Named{Private: private, Add: add}
	m.announced.Private, m.announced.Add = private || m.found.local, add
}

// close ends purchases, leaves the swarms, and keeps what the cache has learnt.
func (m *market) close() error {
	m.found.close()
	m.buyer.Close()
	err := m.sealed.Close()
	if m.swarms != nil {
		err = errors.Join(err, m.swarms.Close())
	}
	return err
}

// follow refreshes until ctx is done or stop is called, which waits.
func (m *market) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	told := make(chan struct{}, 1)
	m.watch(ctx, &work, told)
	work.Go(func() {
		for {
			pause := askLater
			if len(m.quiet) > 0 || len(m.found.hints) > 0 || m.unlooked() {
				pause = askSoon
			}
			select {
			case <-time.After(pause):
				m.refresh(ctx)
			case <-told:
				m.refresh(ctx)
			case id := <-m.found.late:
				m.wantLate(id)
				m.refresh(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		work.Wait()
	}
}

// A visit is what one provider showed.
type visit struct {
	err    error // it does not answer
	listed map[htlcdash.TitleID]bool
	titles []found
	blame  error // why titles of it are left out
}

// A found title is open if it is new here.
type found struct {
	at   *buyer.Provider
	info buyer.TitleInfo
	open *title.Title
}

// refresh looks for providers, and asks all that are known at once what they
// sell: none can hold up another.
func (m *market) refresh(ctx context.Context) {
	m.discover(ctx)
	visits := make([]visit, len(m.providers))
	var work sync.WaitGroup
	for i, p := range m.providers {
		work.Go(func() { visits[i] = m.visit(ctx, p) })
	}
	work.Wait()
	if ctx.Err() != nil {
		return
	}
	sellers := map[htlcdash.TitleID][]found{}
	for i, p := range m.providers {
		v := visits[i]
		if m.hear(p, v.err); v.err != nil {
			continue
		}
		m.lists[p] = v.listed
		met, blame := m.meetAll(ctx, v.titles)
		for _, f := range met {
			sellers[f.info.ID] = append(sellers[f.info.ID], f)
		}
		m.complain(p, cmp.Or(blame, v.blame))
	}
	for id, by := range sellers {
		if err := m.offer(ctx, id, by); err != nil && ctx.Err() == nil {
			m.log.Warn("title left out", "title", id, "err", err)
		}
	}
	if m.refreshed == nil {
		return
	}
	for _, id := range m.refreshed(ctx, m.gone) {
		m.forget(id)
	}
}

// gone reports whether a title is sold by none of the providers, each by what it
// said when it answered last. Of one that has not answered yet in this run nothing
// is known: it may sell it.
func (m *market) gone(id htlcdash.TitleID) bool {
	return !slices.ContainsFunc(m.providers, func(p *buyer.Provider) bool { return m.lists[p] == nil || m.lists[p][id] })
}

// forget makes as if a title had never been seen.
func (m *market) forget(id htlcdash.TitleID) {
	if l := m.titles[id]; l != nil {
		m.kept[l.from] -= int64(len(l.title.MPD))
	}
	delete(m.titles, id)
	delete(m.found.looked, id)
	delete(m.found.sources, id)
	delete(m.found.seeds, id)
	m.opened.Delete(id)
	m.tellAnnounced(id, nil)
}

// hear logs the silence of a provider once.
func (m *market) hear(p *buyer.Provider, err error) {
	if err == nil {
		delete(m.quiet, p.URL())
	} else if m.found.strangers[p] {
		m.log.Debug("provider", "err", err)
	} else if !m.quiet[p.URL()] {
		m.log.Warn("provider", "err", err)
		m.quiet[p.URL()] = true
	}
}

// complain logs why titles of a provider are left out, once for each reason.
func (m *market) complain(p *buyer.Provider, blame error) {
	if why := fmt.Sprint(blame); blame != nil && m.blamed[p] != why {
		m.log.Warn("title left out", "provider", p.URL(), "err", blame)
		m.blamed[p] = why
	}
}

// visit asks a provider what it sells, and opens what is new. It changes
// nothing in m.
func (m *market) visit(ctx context.Context, p *buyer.Provider) (v visit) {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	list, err := p.Titles(ctx)
	if err != nil {
		return visit{err: err}
	}
	m.buyer.Meet(ctx, p) // what its bytes cost is known before any are asked for
	list = slices.DeleteFunc(list, func(info buyer.TitleInfo) bool {
		return !m.takes(p, info.ID) || m.wants != nil && !m.wants(info.ID, info.Publisher)
	})
	v.listed = map[htlcdash.TitleID]bool{} // all of it, however many are opened now
	for _, info := range list {
		v.listed[info.ID] = true
	}
	room := maxKept - m.kept[p]
	for _, info := range list {
		if m.titles[info.ID] != nil {
			v.titles = append(v.titles, found{at: p, info: info})
			continue
		}
		t, err := m.open(ctx, p, info)
		if err == nil && int64(len(t.MPD)) > room {
			err = fmt.Errorf("this provider shows more titles than %d bytes of MPDs", int64(maxKept))
		}
		if err != nil {
			v.blame = fmt.Errorf("%.64q: %w", info.Name, err)
			if ctx.Err() != nil || room <= 0 {
				return v
			}
			continue
		}
		room -= int64(len(t.MPD))
		v.titles = append(v.titles, found{p, info, t})
	}
	return v
}

// open fetches a title. It is known by what was signed, not by what the
// provider says of it.
func (m *market) open(ctx context.Context, p *buyer.Provider, info buyer.TitleInfo) (*title.Title, error) {
	if !m.trusts(info.Publisher) {
		return nil, fmt.Errorf("publisher %s is not one of yours: %w", info.Publisher, htlcdash.ErrSignature)
	}
	t, err := title.Open(ctx, p.Fetch(info.Name))
	switch {
	case err != nil:
		return nil, err
	case t.ID != info.ID:
		return nil, fmt.Errorf("it is title %s: %w", t.ID, htlcdash.ErrSignature)
	case !m.trusts(t.Publisher):
		return nil, fmt.Errorf("publisher %s is not one of yours: %w", t.Publisher, htlcdash.ErrSignature)
	case t.Publisher != info.Publisher:
		return nil, fmt.Errorf("it is by publisher %s: %w", t.Publisher, htlcdash.ErrSignature)
	}
	return t, nil
}

func (m *market) trusts(id htlcdash.PublisherID) bool {
	return len(m.publishers) == 0 || slices.Contains(m.publishers, id)
}

// meetAll meets the titles of one provider, as many as that gives time for: those that
// are left come at a next refresh. It says why one is left out.
func (m *market) meetAll(ctx context.Context, titles []found) (met []found, blame error) {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	for _, f := range titles {
		if m.titles[f.info.ID] == nil && ctx.Err() != nil {
			continue
		}
		if err := m.meet(ctx, f); err != nil {
			blame = fmt.Errorf("%.64q: %w", f.info.Name, err)
			continue
		}
		met = append(met, f)
	}
	return met, blame
}

// meet gives a title that is new here to the buyer and the proxy.
func (m *market) meet(ctx context.Context, f found) error {
	t, p := f.open, f.at
	if m.titles[f.info.ID] != nil {
		return nil
	}
	if err := m.buyer.AddTitle(ctx, t.ID, t.Dearest(), []*buyer.Provider{p}); err != nil {
		return err
	}
	if err := m.show(ctx, f); err != nil {
		return err
	}
	if err := m.named.Title(t.ID, t.Manifest.Sources(), m.heldBy(t)); err != nil {
		m.log.Warn("not all sources that a title names are used", "title", t.ID, "err", err)
	}
	if err := m.joinSwarms(t); err != nil {
		m.log.Warn("not all swarms of a title are joined", "title", t.ID, "err", err)
	}
	m.tellAnnounced(t.ID, m.heldBy(t))
	m.opened.Store(t.ID, t)
	m.titles[t.ID] = &listing{title: t, from: p, sellers: map[*buyer.Provider]bool{p: true}}
	m.kept[p] += int64(len(t.MPD))
	for _, address := range t.Manifest.Providers() {
		m.hint(strings.TrimRight(address, "/"))
	}
	m.log.Info("title on sale", "title", t.ID, "name", f.info.Name, "publisher", t.Publisher, "provider", p.URL())
	return nil
}

// joinSwarms makes the torrents of a title known, and who is said to have them.
func (m *market) joinSwarms(t *title.Title) error {
	if m.swarms == nil {
		return nil
	}
	var seeds []string
	if m.seeds {
		seeds = m.found.seeds[t.ID]
	}
	for _, tor := range torrentsOf(t, seeds...) {
		if err := m.swarms.Add(tor); err != nil {
			return err
		}
	}
	return nil
}

// signed gives what its publisher signed of a segment, for a complaint.
func (m *market) signed(ctx context.Context, seg htlcdash.Segment) (mpd, signature []byte, path [][32]byte, err error) {
	found, ok := m.opened.Load(seg.Title)
	if !ok {
		return nil, nil, nil, fmt.Errorf("title %s: %w", seg.Title, htlcdash.ErrNotFound)
	}
	t := found.(*title.Title)
	segs, err := t.Segments(ctx, seg.Representation)
	if err != nil {
		return nil, nil, nil, err
	}
	list := make(htlcdash.SealList, len(segs))
	for i, s := range segs {
		list[i] = s.Seal
	}
	return t.MPD, t.Signature, list.Path(seg.Index), nil
}

// offer tells the buyer who sells a title, the preferred first. Who is silent
// at the moment stays in: the buyer finds out by itself.
func (m *market) offer(ctx context.Context, id htlcdash.TitleID, by []found) error {
	l := m.titles[id]
	known := len(l.sellers)
	for _, f := range by {
		if !l.sellers[f.at] {
			l.sellers[f.at] = true
			l.title.Also(f.at.Fetch(f.info.Name))
		}
	}
	if len(l.sellers) == known {
		return nil
	}
	return m.buyer.AddTitle(ctx, id, l.title.Dearest(), m.sellersOf(l))
}

func (m *market) sellersOf(l *listing) (out []*buyer.Provider) {
	for _, p := range m.providers {
		if l.sellers[p] {
			out = append(out, p)
		}
	}
	return out
}

// cutName splits NAME=VALUE.
func cutName(s string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(s, "=")
	return name, value, ok && name != "" && value != ""
}
