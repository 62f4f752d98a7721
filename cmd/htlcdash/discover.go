package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/config"
	"htlcdash/internal/directory"
	"htlcdash/internal/reach"
	"htlcdash/source"
	"htlcdash/source/web"
)

// Bounds on providers that nobody configured.
const (
	maxLearnt    = 256 // in one run
	maxAnnounced = 8   // sources of one title, and as many seeds
	lookedFor    = 8   // titles, besides those that were asked for, in one refresh
	maxWanted    = 16  // titles that are asked for by their ids
	learntTime   = 30 * time.Second
	learntQueued = 64
)

// A discovery finds providers of titles that nobody configured. Only refresh
// uses it, one call at a time, but for hints.
type discovery struct {
	directory *directory.Directory
	local     bool                      // what is announced may be in local networks
	closed    bool                      // nobody is bought from but who is configured
	kept      func() []htlcdash.TitleID // titles that are here in any case; nil: none are
	wanted    []htlcdash.TitleID        // titles that were asked for by their ids
	mine      []string                  // where this provider is reached
	strangers map[*buyer.Provider]bool  // of market.providers, those that nobody configured
	looked    map[htlcdash.TitleID]time.Time
	sources   map[htlcdash.TitleID][]string // that are announced
	seeds     map[htlcdash.TitleID][]string // that are announced
	client    *http.Client                  // for strangers
	over      func(source.Source) source.Source
	hints     chan string                // addresses of providers
	errs      map[htlcdash.TitleID]error // why wanted titles were not found
	table     *table                     // nil: none is asked
	late      chan htlcdash.TitleID      // titles that are asked for while it runs
}

// keyAt asks a provider for its key.
func keyAt(client *http.Client) func(context.Context, string) (htlcdash.ProviderID, error) {
	return func(ctx context.Context, address string) (htlcdash.ProviderID, error) {
		p, err := buyer.NewProvider(address, client)
		if err != nil {
			return htlcdash.ProviderID{}, err
		}
		info, err := p.Info(ctx)
		return info.Key, err
	}
}

// anyLocal reports whether one of addresses lies in a local network: who has
// business there believes others there, too.
func anyLocal(addresses ...string) bool {
	return slices.ContainsFunc(addresses, func(a string) bool {
		u, err := url.Parse(a)
		return err == nil && u.Hostname() != "" && reach.IsLocal(u.Hostname())
	})
}

// newDiscovery asks relays, providers as relays, and a distributed hash table.
func newDiscovery(from config.ProxyProviders, m *market) (d discovery, err error) {
	local := anyLocal(slices.Concat(from.Providers, from.Relays, asURLs(from.DHTBootstrap))...)
	d = discovery{
		strangers: map[*buyer.Provider]bool{}, looked: map[htlcdash.TitleID]time.Time{}, errs: map[htlcdash.TitleID]error{},
		local: local, sources: map[htlcdash.TitleID][]string{}, seeds: map[htlcdash.TitleID][]string{},
		client: reach.Client(local, learntTime), hints: make(chan string, learntQueued),
		late: make(chan htlcdash.TitleID, maxWanted),
	}
	c := directory.Config{Relays: from.Relays, KeyAt: keyAt(d.client), Local: local, Log: m.log}
	if len(from.DHTBootstrap) > 0 {
		if d.table, err = openTable(from.DHTBootstrap, local, d.client, m.log); err != nil {
			return d, err
		}
		c.More = func(ctx context.Context, id htlcdash.TitleID) ([]string, error) {
			found, err := d.table.sellers(ctx, id)
			for _, address := range found { // it may sell, and announce nothing
				m.hint(address)
			}
			return found, err
		}
	}
	if d.directory, err = directory.New(c); err != nil {
		d.close()
		return d, err
	}
	d.directory.AddRelays(from.Providers...)
	return d, nil
}

// close lets go of what a discovery holds open.
func (d discovery) close() {
	if d.directory != nil {
		d.directory.Close()
	}
	if d.table != nil {
		d.table.node.Close()
	}
	d.client.CloseIdleConnections()
}

// missing says why titles that were asked for by their ids are not here.
func (m *market) missing() error {
	var errs []error
	for _, id := range m.found.wanted {
		if m.titles[id] == nil {
			errs = append(errs, m.found.errs[id])
		}
	}
	return errors.Join(errs...)
}

// noStrangers leaves it at the providers that are configured: one that bought from
// all that it hears of could buy from itself. What others announce of where sealed
// bytes lie is heard all the same, also of kept titles, which no provider need list
// at the moment; but nobody leads it to the addresses at which it is reached itself.
func (m *market) noStrangers(kept func() []htlcdash.TitleID, mine []string) {
	m.found.closed, m.found.kept, m.found.mine = true, kept, mine
}

// isMine reports whether an address leads to this provider, as far as it says.
func (d *discovery) isMine(address string) bool {
	u, err := url.Parse(address)
	return err == nil && slices.ContainsFunc(d.mine, func(s string) bool {
		own, err := url.Parse(s)
		return err == nil && strings.EqualFold(own.Host, u.Host)
	})
}

// want asks for titles by their ids.
func (m *market) want(ids ...string) error {
	for _, s := range ids {
		id, err := htlcdash.ParseTitleID(s)
		if err != nil {
			return err
		}
		if len(m.found.wanted) >= maxWanted {
			return fmt.Errorf("at most %d titles can be asked for", maxWanted)
		}
		m.found.wanted = append(m.found.wanted, id)
	}
	return nil
}

// wantLate asks for a title while the market runs. Who was asked for longest gives way.
func (m *market) wantLate(id htlcdash.TitleID) {
	d := &m.found
	d.wanted = slices.DeleteFunc(d.wanted, func(w htlcdash.TitleID) bool { return w == id || m.titles[w] != nil })
	if len(d.wanted) == maxWanted {
		delete(d.errs, d.wanted[0])
		d.wanted = d.wanted[1:]
	}
	d.wanted = append(d.wanted, id)
}

// discover looks for providers of the titles that are wanted, and of a few
// others, by turns. Nothing that it finds is believed but for being asked.
func (m *market) discover(ctx context.Context) {
	d := &m.found
	ids := slices.Clone(d.wanted)
	others := slices.DeleteFunc(m.lookable(), func(id htlcdash.TitleID) bool { return slices.Contains(ids, id) })
	slices.SortFunc(others, func(a, b htlcdash.TitleID) int { return d.looked[a].Compare(d.looked[b]) })
	ids = append(ids, others[:min(len(others), lookedFor)]...)
	sellers, errs := make([][]directory.Seller, len(ids)), make([]error, len(ids))
	var work sync.WaitGroup
	for i, id := range ids {
		d.looked[id] = time.Now()
		work.Go(func() { sellers[i], errs[i] = d.directory.Find(ctx, id) })
	}
	work.Wait()
	for i, id := range d.wanted {
		d.errs[id] = errs[i]
	}
	for i, found := range sellers {
		for _, s := range found {
			m.learn(s.Address)
			m.found.hearOf(m.found.sources, ids[i], s.Sources)
			m.found.hearOf(m.found.seeds, ids[i], s.Seeds)
		}
		switch l := m.titles[ids[i]]; {
		case len(found) == 0:
		case l != nil:
			if err := m.joinSwarms(l.title); err != nil {
				m.log.Debug("not all seeds that are announced are asked", "title", ids[i], "err", err)
			}
			m.tellAnnounced(l.title.ID, m.heldBy(l.title))
		case m.holds != nil: // a kept one
			m.tellAnnounced(ids[i], func(b htlcdash.Blob) bool { return m.holds(ids[i], b) })
		}
	}
	for {
		select {
		case address := <-d.hints:
			m.learn(address)
		default:
			return
		}
	}
}

// hearOf keeps a few of the places that are announced for a title.
func (d *discovery) hearOf(places map[htlcdash.TitleID][]string, id htlcdash.TitleID, announced []string) {
	known := places[id]
	for _, s := range announced {
		if len(known) < maxAnnounced && !slices.Contains(known, s) && !d.isMine(s) {
			known = append(known, s)
		}
	}
	if len(known) > 0 {
		places[id] = known
	}
}

// tellAnnounced has the sources of a title asked for its bytes that are announced.
// They are words of strangers, and are asked for nothing else.
func (m *market) tellAnnounced(id htlcdash.TitleID, holds func(htlcdash.Blob) bool) {
	if err := m.announced.Title(id, m.found.sources[id], holds); err != nil {
		m.log.Debug("not all sources that are announced are used", "title", id, "err", err)
	}
}

// lookable are the titles that are looked for without being asked for, in no order.
func (m *market) lookable() []htlcdash.TitleID {
	ids := slices.Collect(maps.Keys(m.titles))
	if m.found.kept != nil {
		ids = append(ids, slices.DeleteFunc(m.found.kept(), func(id htlcdash.TitleID) bool { return m.titles[id] != nil })...)
	}
	return ids
}

// unlooked reports whether there is a title that was not looked for yet.
func (m *market) unlooked() bool {
	return slices.ContainsFunc(m.lookable(), func(id htlcdash.TitleID) bool { return m.found.looked[id].IsZero() })
}

// learn adds a provider that nobody configured. Only titles that were asked for,
// or that others sell, are taken from it.
func (m *market) learn(address string) {
	d := &m.found
	if d.closed || len(d.strangers) >= maxLearnt || slices.ContainsFunc(m.providers, func(p *buyer.Provider) bool { return p.URL() == address }) {
		return
	}
	if _, err := directory.ParseAddress(address); err != nil {
		return
	}
	p, err := m.add(address, d.client)
	if err != nil {
		m.log.Debug("provider left out", "provider", address, "err", err)
		return
	}
	d.strangers[p] = true
	d.directory.AddRelays(address)
	m.sealed.Add(d.over(m.sources[len(m.sources)-1]))
	m.log.Info("provider found", "provider", address)
}

// add adds a provider.
func (m *market) add(address string, client *http.Client) (*buyer.Provider, error) {
	p, err := buyer.NewProvider(address, client)
	if err != nil {
		return nil, err
	}
	s, err := web.New(address, client)
	if err != nil {
		return nil, err
	}
	s.Authorization = func(ctx context.Context, path string) string {
		return m.buyer.Authorization(ctx, p.URL(), path)
	}
	m.providers, m.sources = append(m.providers, p), append(m.sources, carrier{s, m, p})
	return p, nil
}

// takes reports whether a title is taken from a provider.
func (m *market) takes(p *buyer.Provider, id htlcdash.TitleID) bool {
	return !m.found.strangers[p] || m.titles[id] != nil || slices.Contains(m.found.wanted, id)
}

// hint tells of a provider, to be asked at the next refresh.
func (m *market) hint(address string) {
	if m.found.closed {
		return
	}
	select {
	case m.found.hints <- address:
	default: // so many are enough
	}
}

// watch hints at providers of the wanted titles as they announce, until ctx is
// done, and tells each time.
func (m *market) watch(ctx context.Context, work *sync.WaitGroup, told chan<- struct{}) {
	for _, id := range m.found.wanted {
		work.Go(func() {
			m.found.directory.Watch(ctx, id, func(s directory.Seller) {
				m.hint(s.Address)
				select {
				case told <- struct{}{}:
				default:
				}
			})
		})
	}
}
