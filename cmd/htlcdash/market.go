package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/buyer"
	"htlcdash/internal/proxy"
	"htlcdash/internal/title"
	"htlcdash/source"
	"htlcdash/source/web"
)

// How often providers are asked what they sell: soon while one does not
// answer, else now and then.
const (
	askSoon  = 3 * time.Second
	askLater = time.Minute
)

// A market is the configured providers and what they sell. It tells the buyer
// and the proxy of titles as they appear.
type market struct {
	providers []*buyer.Provider
	sources   []source.Source
	buyer     *buyer.Buyer
	proxy     *proxy.Proxy
	log       *slog.Logger

	// Only refresh uses these, one call at a time.
	titles map[htlcdash.TitleID]*listing
	quiet  map[string]bool // providers whose silence was logged
}

// A listing is a title on sale.
type listing struct {
	title   *title.Title
	sellers map[*buyer.Provider]bool
}

func newMarket(addresses []string, log *slog.Logger) (*market, error) {
	m := &market{log: log, titles: map[htlcdash.TitleID]*listing{}, quiet: map[string]bool{}}
	for _, a := range addresses {
		p, err := buyer.NewProvider(a, nil)
		if err != nil {
			return nil, err
		}
		s, err := web.New(a, nil)
		if err != nil {
			return nil, err
		}
		m.providers, m.sources = append(m.providers, p), append(m.sources, s)
	}
	return m, nil
}

// follow refreshes until ctx is done or stop is called, which waits.
func (m *market) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			pause := askLater
			if len(m.quiet) > 0 {
				pause = askSoon
			}
			select {
			case <-time.After(pause):
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

// refresh asks all providers what they sell.
func (m *market) refresh(ctx context.Context) {
	sellers := map[htlcdash.TitleID][]*buyer.Provider{}
	for _, p := range m.providers {
		list, err := p.Titles(ctx)
		if err != nil {
			if !m.quiet[p.URL()] && ctx.Err() == nil {
				m.log.Warn("provider", "err", err)
				m.quiet[p.URL()] = true
			}
			continue
		}
		delete(m.quiet, p.URL())
		for _, info := range list {
			if err := m.meet(ctx, p, info); err != nil && ctx.Err() == nil {
				m.log.Warn("title left out", "provider", p, "title", info.Name, "err", err)
				continue
			}
			sellers[info.ID] = append(sellers[info.ID], p)
		}
	}
	for id, by := range sellers {
		if err := m.offer(ctx, id, by); err != nil && ctx.Err() == nil {
			m.log.Warn("title left out", "title", id, "err", err)
		}
	}
}

// meet opens a title that is new here and gives it to the proxy. It is known
// by what was signed, not by what the provider says of it.
func (m *market) meet(ctx context.Context, p *buyer.Provider, info buyer.TitleInfo) error {
	if m.titles[info.ID] != nil {
		return nil
	}
	t, err := title.Open(ctx, p.Fetch(info.Name))
	if err != nil {
		return err
	}
	if t.ID != info.ID {
		return fmt.Errorf("it is title %s: %w", t.ID, htlcdash.ErrSignature)
	}
	if err := m.buyer.AddTitle(ctx, t.ID, t.Dearest(), []*buyer.Provider{p}); err != nil {
		return err
	}
	if err := m.proxy.Add(info.Name, t); err != nil {
		return err
	}
	m.titles[t.ID] = &listing{title: t, sellers: map[*buyer.Provider]bool{p: true}}
	m.log.Info("title on sale", "title", t.ID, "name", info.Name, "publisher", t.Publisher, "provider", p)
	return nil
}

// offer tells the buyer who sells a title, the preferred first. Who is silent
// at the moment stays in: the buyer finds out by itself.
func (m *market) offer(ctx context.Context, id htlcdash.TitleID, by []*buyer.Provider) error {
	l := m.titles[id]
	known := len(l.sellers)
	for _, p := range by {
		l.sellers[p] = true
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
